"""What is measured of outputs that are made from sources: beside their hidden partners, beside the sources."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from trilemma.batches import Options
from trilemma.errors import InputError
from trilemma.metrics.protocol import Measure, records
from trilemma.metrics.translation import (
    cycle_error,
    map_agreement,
    map_distances,
    psnr,
    relative,
    self_similarity,
    ssim,
    structure_kept,
    unrelated_distances,
)
from trilemma.modalities.contract import Data
from trilemma.models.contract import Translates
from trilemma.spaces import Categorical
from trilemma.tasks.load import Loaded
from trilemma.training.features import FeatureNetwork
from trilemma.training.reading import source_reader
from trilemma.training.sampling import told_labels

CHUNK = 250  # pictures whose feature maps are held at once
PLACES = 64  # of the level of maps whose layout is compared: about 8 x 8
DRAWS, DRAWN = 4, 64  # outputs of each of the first sources that tell how varied a model's outputs are
SEED = 0x64726177  # of the further ones
SHOWN = 8  # sources that the page shows


def given_sources(loaded: Loaded, data: Data) -> Loaded:
    """The run with the test sources, and the labels of their targets, for its samples to be made from."""
    held = data.without_pairs() if "other" in loaded.model.spaces else data
    loaded.sampler.sources = held.sources("test")
    loaded.sampler.told = told_labels(data.split("test"))
    return loaded


class TranslationRuler:
    """The sources of the test split with what belongs to them; outputs are measured in their order."""

    def __init__(self, data: Data, network: FeatureNetwork, count: int, *, quiet: bool = False):
        sources = data.sources("test")
        assert sources is not None
        self.data, self.network = data, network
        held, given = sources[np.arange(min(len(sources), count))], data.spaces.get("source")
        self.sources = data.pictured(held)
        self.classes = given.count if isinstance(given, Categorical) else 0
        self.maps = held if self.classes else None  # of classes: what is read off outputs is held against them
        self.reader = source_reader(data, quiet=quiet) if self.classes else None
        targets = data.rows("test", max(len(self.sources), CHUNK))
        self.partners = targets[: len(self.sources)] if "source" in data.conditions else None
        space: Any = data.spaces["x"]
        self.span = float(space.high - space.low) if space.high is not None else float(np.ptp(targets)) or 1.0
        self.layout = np.concatenate([self._layout(network.maps(part)) for part in _parts(self.sources)])
        self.unrelated = unrelated_distances(network.maps(targets[:CHUNK]))

    def _layout(self, maps: list[np.ndarray]) -> np.ndarray:
        level = min(maps, key=lambda each: abs(math.log(math.prod(each.shape[2:]) / PLACES)))
        return self_similarity(level)

    def measure(self, x: np.ndarray) -> dict[str, Measure]:
        """Measures by name, of raw outputs (n, channels, *grid): number i made from test source i."""
        x = x[: len(self.sources)]
        distances, layouts = [], []
        for start in range(0, len(x), CHUNK):
            maps = self.network.maps(x[start : start + CHUNK])
            layouts.append(self._layout(maps))
            if self.partners is not None:
                distances.append(map_distances(self.network.maps(self.partners[start : start + len(maps[0])]), maps))
        found = {"structure": structure_kept(self.layout[: len(x)], np.concatenate(layouts))}
        if self.partners is not None:
            partners = self.partners[: len(x)]
            found["perceptual"] = relative(np.concatenate(distances), self.unrelated, "perceptual", "lower")
            found["psnr"] = psnr(partners, x, span=self.span)
            found["ssim"] = ssim(partners, x, span=self.span)
        return found | self._agreement(x)

    def _agreement(self, x: np.ndarray) -> dict[str, Measure]:
        """Of sources that are maps of classes: whether these can still be read off the outputs."""
        if self.reader is None or self.maps is None:
            return {}
        return {"agreement": map_agreement(self.maps[: len(x)], self.reader(x), self.classes)}

    def floor(self) -> dict[str, Measure]:
        """What the hidden partners keep of their sources: as much as a perfect translator would."""
        if self.partners is None:
            return {}
        maps = [self._layout(self.network.maps(part)) for part in _parts(self.partners)]
        kept = structure_kept(self.layout, np.concatenate(maps))
        return {"structure": kept} | self._agreement(self.partners)

    def of_model(self, loaded: Loaded, samples: np.ndarray) -> tuple[dict[str, Any], np.ndarray | None]:
        """Figures that need the model: how varied its draws are, the way there and back; and some draws to be shown.

        The draws: (DRAWS, n, channels, *grid), of the first sources; None where all are equal.
        """
        count, model = min(DRAWN, len(self.sources), len(samples)), loaded.model
        assert isinstance(model, Translates)
        draws: list[np.ndarray] = []
        for number in range(DRAWS):  # all in batches of one size: rounding differs between sizes
            draws.append(loaded.sampler.samples(count, seed=SEED + number, options=loaded.options))
            if number == 1 and np.array_equal(draws[0], draws[1]):
                break  # a function of the source alone
        found: dict[str, Measure] = {}
        maps = [self.network.maps(each) for each in draws]
        pairs = [(one, two) for i, one in enumerate(maps) for two in maps[i + 1 :]]
        apart = np.mean([map_distances(*pair) for pair in pairs], 0)
        found["draws"] = relative(apart, self.unrelated, "draws", "neither")
        back = self._back(loaded, samples[:count])
        if back is not None:
            found["cycle"] = cycle_error(self.sources[:count], back)
        shown = np.stack([each[:SHOWN] for each in draws]) if len(draws) > 2 else None
        return records(found), shown

    def _back(self, loaded: Loaded, x: np.ndarray) -> np.ndarray | None:
        """Outputs on their way back to where they came from; None of a model that knows one direction only."""
        model, parts = loaded.model, []
        assert isinstance(model, Translates)
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK]
            request = loaded.sampler.request(SEED, np.arange(len(part)), options=loaded.options or Options())
            request.raw["source"] = torch.from_numpy(np.ascontiguousarray(part)).to(loaded.engine.device)
            try:
                with torch.no_grad(), loaded.engine.autocast():
                    parts.append(loaded.sampler.array(model.translate(request, back=True)))
            except InputError:
                return None
        return np.concatenate(parts)


def _parts(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + CHUNK] for start in range(0, len(x), CHUNK)]
