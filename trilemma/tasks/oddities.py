"""Strange pictures, and where in them: how badly each part goes with what a model has learned, against normal ones.

The model's surprise at each pixel, summed over channels, is gathered over spots, over parts and over the whole picture,
and measured in deviations of the same place over normal pictures (of these each against the others). The strangest
place of each size becomes the share of normal pictures that have one as strange; the strangest of the three sizes
counts, and raises an alarm where no more than `false_alarms` of the normal pictures are as strange (`conformal.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from trilemma.batches import Batch
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.modalities.contract import Data, Modality
from trilemma.modalities.pixels import grid
from trilemma.modalities.writing import own_folder, writing_to
from trilemma.models.contract import Surprises
from trilemma.tasks.conformal import MOST, apart_from, check_enough, check_share, p_values, strangeness
from trilemma.tasks.opened import Inputs, Opened
from trilemma.training.progress import Bar
from trilemma.training.sampling import BATCH

REACHES = {"a spot": 1 / 8, "a part": 1 / 3, "all of it": 1.0}  # of the shorter side, over which surprise is gathered
PIXELS, FEW = 2**25, 200  # of all normal pictures together; but so many pictures always
DEAD = 0.1  # of the usual deviation: what a place without one is measured in
SHOWN = 10  # pictures of the sheet
HALF = 6e4  # what a number of 16 bits can hold
RED = np.array([255.0, 40.0, 0.0])


@dataclass
class Oddities:
    """What was found in pictures (n): how strange each is, and where."""

    modality: Modality
    given: Inputs
    scores: np.ndarray  # (n,)
    p_values: np.ndarray  # (n,) share of normal pictures at least as strange
    sizes: np.ndarray  # (n, REACHES) -log of the share of normal ones, by reach
    places: np.ndarray  # (n, REACHES, 2) row and column of the strangest place, as shares of height and width
    maps: np.ndarray  # (n, H, W) deviations from normal at each place, gathered over spots
    limit: float  # of them, which as many normal pictures exceed somewhere as may raise an alarm
    false_alarms: float
    normal: int  # pictures that they were held against
    own: bool  # and are they the run's, which it has not learned from?

    @property
    def alarms(self) -> np.ndarray:
        return self.p_values <= self.false_alarms

    def columns(self) -> dict[str, np.ndarray]:
        """As columns of a table; x and y from the left and the top, as shares of what the model sees of a picture."""
        size = self.sizes.argmax(1)
        y, x = np.take_along_axis(self.places, size[:, None, None], 1)[:, 0].T.round(3)
        reaches = list(REACHES)
        because = [
            "" if not alarm else reaches[one] if one == len(reaches) - 1
            else f"{reaches[one]}, {across:.0%} from the left and {down:.0%} from the top"
            for alarm, one, across, down in zip(self.alarms, size, x, y, strict=True)
        ]  # fmt: skip
        return {
            "name": np.array(self.given.names, dtype=object),
            "anomaly": self.scores.round(3),
            "p_value": self.p_values.round(5),
            "alarm": self.alarms,
            "because": np.array(because, dtype=object),
            "x": x,
            "y": y,
        }

    def frame(self, out: Path | None = None) -> Any:
        """A row for each picture: a data frame; or written to a file, with the strangest ones in a sheet beside it."""
        import pandas as pd

        from trilemma.modalities.frames import write

        table = pd.DataFrame(self.columns())
        if out is None:
            return table
        write(table, out)
        picture = out.with_name(f"{out.stem}.strange.png")
        with writing_to(picture) as temporary:
            self.sheet().save(temporary, format="PNG")
        return [out, picture]

    def said(self) -> str:
        count = int(self.alarms.sum())
        return (
            f"{count:,} of {len(self.scores):,} pictures raise an alarm ({count / max(len(self.scores), 1):.1%}); of "
            f"normal ones {self.false_alarms:.2%} would, by {self.normal:,} "
            + (
                "that the model had not learned from"
                if self.own
                else "given ones, if the model has not learned from them"
            )
        )

    def overlays(self, which: np.ndarray) -> np.ndarray:
        """(k, H, W, 3) uint8: pictures in grey, red where they are strange; half-way at `limit`."""
        grey = self._shown(which).mean(3, keepdims=True)
        strength = np.clip(self.maps[which].astype(np.float64) / self.limit - 0.5, 0, 1)[..., None] * 0.9
        return np.rint(grey * (1 - strength) + RED * strength).astype(np.uint8)

    def sheet(self) -> Image.Image:
        """The strangest pictures, and below each where it is so."""
        which = np.argsort(-self.scores)[:SHOWN]
        return grid(np.concatenate([self._shown(which), self.overlays(which)]), columns=len(which))

    def save_maps(self, folder: Path) -> None:
        """`overlays` of all pictures as files in a folder."""
        written = [folder / f"{name}.png" for name in self.given.names]
        with own_folder(folder, written):
            for index, path in enumerate(written):
                with writing_to(path) as temporary:
                    Image.fromarray(self.overlays(np.array([index]))[0]).save(temporary, format="PNG")

    def _shown(self, which: np.ndarray) -> np.ndarray:
        """(k, H, W, 3) uint8."""
        made = [np.asarray(self.modality.picture(self.given.x[[index]]).convert("RGB")) for index in which]
        step = made[0].shape[0] // self.given.x.shape[2]  # small pictures are shown larger
        return np.stack(made)[:, ::step, ::step]


def detect(loaded: Opened, source: Any, *, false_alarms: float, normal: Any, seed: int) -> Oddities:
    """How strange pictures are, held against normal ones: files, arrays, or the data of the run.

    Raises:
        InputError: too few normal pictures for so few false alarms.
    """
    check_share(false_alarms, "pictures")
    notes: list[str] = []
    given = Inputs(*loaded.modality.read(source, loaded.space.outer, notes))
    for note in notes:
        loaded.say(note)
    height, width = given.x.shape[2:]
    most = max(min(MOST, PIXELS // (height * width)), FEW)
    own = isinstance(normal, Data)
    usual = np.asarray(normal.x[apart_from(normal, most)]) if own else loaded.read(normal).x
    known = Inputs(usual[np.linspace(0, len(usual) - 1, min(len(usual), most)).astype(int)], [])
    count = len(known.x)
    fix = f"train with fewer pixels: of {height}x{width} it looks at {most:,} at most"
    check_enough(count, false_alarms, "pictures", *([fix] if count == most else []))
    bar, done = Bar("detect", count + len(given.x)), 0

    def shown() -> Iterator[Tensor]:
        nonlocal done
        for maps in surprises(loaded, known if done < count else given, seed):
            done += len(maps)
            bar.update(done, {})
            yield maps

    each_of = [gathered(part) for part in shown()]
    reaches = [Normal.of(torch.cat([part[i] for part in each_of])) for i in range(len(REACHES))]
    parts = (slice(first, first + BATCH) for first in range(0, count, BATCH))
    ruler = np.concatenate([worst([each.apart(part) for each in reaches])[0] for part in parts])
    found, places, maps = [], [], []
    for part in shown():
        z = [each.of_others(one) for each, one in zip(reaches, gathered(part), strict=True)]
        most_of, where = worst(z)
        found.append(most_of)
        places.append(where)
        fine = interpolate(z[0].unsqueeze(1), tuple(given.x.shape[2:]))[:, 0]  # of codes there are fewer than pixels
        maps.append(fine.clamp(max=HALF).half().numpy())
    bar.close()
    everywhere = np.ones((count, len(REACHES)), dtype=bool)
    inner = strangeness(ruler, ruler, itself=True, known=everywhere)
    outer = strangeness(np.concatenate(found), ruler, itself=False, known=everywhere)
    scores = outer.max(1)
    limit = max(float(np.quantile(ruler[:, 0], 1 - false_alarms)), 1e-6)
    return Oddities(
        loaded.modality, given, scores, p_values(scores, inner.max(1)), outer, np.concatenate(places),
        np.concatenate(maps), limit, false_alarms, count, own,
    )  # fmt: skip


@torch.no_grad()
def surprises(loaded: Opened, given: Inputs, seed: int) -> Iterator[Tensor]:
    """(b, H, W) of one batch after the other; all pictures under the same noise, so that each stands for itself."""
    model = loaded.model
    assert isinstance(model, Surprises)
    model.eval()
    batch: Batch
    for batch in loaded.prepared(given, seed):
        batch = replace(batch, noise=Noise(seed, np.zeros(len(batch)), batch.noise.device))
        with loaded.engine.autocast():
            found = model.surprise(batch)
        if not bool(torch.isfinite(found).all()):
            raise InputError(
                "detect: this model gives numbers that are none; it has not been trained well (see `info`)"
            )
        yield found.float().cpu().sum(1)


def gathered(maps: Tensor) -> list[Tensor]:
    """Means of (b, H, W) over neighbourhoods of each reach, as wide apart as they are: the last one is (b, 1, 1)."""
    sides, found = maps.shape[1:], []
    for share in REACHES.values():
        if share == 1:
            found.append(maps.mean((1, 2), keepdim=True))
            continue
        side = max(round(share * min(sides)), 1) // 2 * 2 + 1  # odd: centred
        rows = avg_pool2d(maps.unsqueeze(1), (side, 1), 1, (side // 2, 0), count_include_pad=False)
        found.append(avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)[:, 0])
    return found


@dataclass
class Normal:
    """What is usual at each place: maps of normal pictures (n, H, W), their sums and the sums of their squares."""

    maps: Tensor
    total: Tensor
    squares: Tensor
    least: Tensor  # deviation that every place has at least

    @classmethod
    def of(cls, maps: Tensor) -> Normal:
        total, squares = maps.sum(0, dtype=torch.float64), torch.zeros(maps.shape[1:], dtype=torch.float64)
        for part in maps.split(BATCH):
            squares += part.double().square().sum(0)
        spread = (squares / len(maps) - (total / len(maps)).square()).clamp(min=0).sqrt()
        return cls(maps, total, squares, DEAD * spread.mean() + 1e-12)

    def of_others(self, maps: Tensor) -> Tensor:
        """Deviations of other pictures' maps (b, H, W)."""
        return self._deviations(maps.double(), self.total, self.squares, len(self.maps))

    def apart(self, part: slice = slice(None)) -> Tensor:
        """Deviations of each of the normal maps from all others: as those of pictures that are not among them."""
        wide = self.maps[part].double()
        count = max(len(self.maps) - 1, 1)
        return self._deviations(wide, self.total - wide, self.squares - wide.square(), count)

    def _deviations(self, maps: Tensor, total: Tensor, squares: Tensor, count: int) -> Tensor:
        mean = total / count
        spread = (squares / count - mean.square()).clamp(min=0).sqrt()
        return ((maps - mean) / torch.maximum(spread, self.least)).float()


def worst(deviations: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Of maps by reach the largest value of each picture (b, R), and where (b, R, 2), as shares of height and width."""
    values, places = [], []
    for one in deviations:
        value, place = one.flatten(1).max(1)
        down, across = place // one.shape[2], place % one.shape[2]
        values.append(value.double().numpy())
        places.append(np.stack([(down.numpy() + 0.5) / one.shape[1], (across.numpy() + 0.5) / one.shape[2]], 1))
    return np.stack(values, 1), np.stack(places, 1)
