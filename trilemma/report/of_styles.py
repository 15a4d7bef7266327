"""What control by styles is worth: changes along directions, read off what they make, and a sheet of directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trilemma.metrics.classes import mean_control
from trilemma.metrics.control import changed_as_asked, kept, perceptual_path_length, replaced, separability
from trilemma.metrics.protocol import Measure, records
from trilemma.mixed import Attributes
from trilemma.modalities.attributes import NAME
from trilemma.models.contract import Styles
from trilemma.report.measure import SEED, Ruler
from trilemma.report.of_attributes import AttributeRuler
from trilemma.spaces import Continuous
from trilemma.tasks import control, styles
from trilemma.tasks.load import Loaded

TOLD = 8  # attributes whose directions are measured, the first ones
FEWEST = 20  # samples that know what they were told of one
AMOUNT = 2.0  # deviations by which brightness is changed
STEP = 1e-2  # of a way: in single precision of features a smaller one is lost
COMMON = 10  # samples of a class, at least, among those that planes are fitted to
STEPS = 7  # examples in a row of the sheet
REACH = {"label": 2.0, "other": 3.0}


def has_control(loaded: Loaded) -> bool:
    """Are there styles, and examples on a grid of numbers that they steer?"""
    return isinstance(loaded.model, Styles) and isinstance(loaded.space, Continuous) and bool(loaded.space.grid)


@torch.no_grad()
def of_styles(loaded: Loaded, ruler: Ruler) -> dict[str, Any]:
    """Metrics by name, as records, of as many samples as the protocol says."""
    sampler, count = loaded.sampler, ruler.protocol.moved_count
    w, request = styles.many_styles(sampler, 4 * count, seed=SEED)
    x = styles.synthesised(sampler, w, request)
    features = ruler.network(_raw(loaded, x))
    middle = {name: read(x).median() for name, read in styles.ATTRIBUTES.items()}
    told = None if ruler.attributes is None or NAME not in request.raw else ruler.attributes
    readers = {} if told is None else dict(list(told.readers.items())[:TOLD])

    def read(x: Tensor, features: np.ndarray) -> dict[str | int, np.ndarray]:
        """What each example is, as read off it: which half, which label, and of attributes, by place, which value."""
        values: dict[str | int, np.ndarray] = {
            name: (own(x) > middle[name]).long().cpu().numpy() for name, own in styles.ATTRIBUTES.items()
        }
        if ruler.reader is not None:
            values["label"] = np.asarray(ruler.reader.predict(features))
        return values | {place: reader.predict(features) for place, reader in readers.items()}

    def moved(way: Tensor) -> tuple[np.ndarray, dict[str | int, np.ndarray]]:
        """The first samples with their styles moved by (count, style): features, and what is read off them."""
        after = styles.synthesised(sampler, w[:count] + way, request)
        own = ruler.network(_raw(loaded, after))
        return own, read(after, own)

    before = read(x, features)
    found: dict[str, Measure] = {}

    # Brighter ones are made darker, darker ones brighter.
    step = styles.regressed(w, styles.ATTRIBUTES["brightness"](x))
    wanted = 1 - before["brightness"][:count]
    _, after = moved(torch.from_numpy(np.where(wanted, AMOUNT, -AMOUNT)).to(w).unsqueeze(1) * step)
    found["changed"] = changed_as_asked(wanted, after["brightness"])
    rest = "contrast" if ruler.reader is None else "label"
    found["kept"] = kept(before[rest][:count], after[rest])

    def changed(name: str, key: str | int, own: np.ndarray, asked: np.ndarray, way: Tensor) -> np.ndarray:
        """Measures of a change of `key` from `own` to `asked` (count,), -1 where nothing is; (count, 2) of each sample:
        is it as asked, and what share of all else that can be read is as before."""
        there, after = moved(way)
        hits = np.stack([before[other][:count] == after[other] for other in before if other != key], 1).astype(float)
        here = asked >= 0
        found[f"changed@{name}"] = changed_as_asked(asked[here], after[key][here])
        found[f"kept@{name}"] = replace(mean_control(hits[here]), name="kept")
        found[f"replaced@{name}"] = replaced(features[:count][here], there[here], own[here])
        return np.where(here[:, None], np.stack([asked == after[key], hits.mean(1)], 1), np.nan)

    if ruler.reader is not None and sampler.frequencies and "label" in request.raw:
        known = np.flatnonzero(np.array(sampler.frequencies) > 0)
        own = request.raw["label"][:count, 0].cpu().numpy()
        other = known[(np.searchsorted(known, own) + 1) % len(known)]
        means = styles.means_of_labels(sampler)
        changed("label", "label", own, other, means[other] - means[own])

    each = []
    for place in readers:
        assert told is not None
        own, other, way = _to_another(loaded, told, place, request.raw[NAME][:count].cpu().numpy())
        if (other >= 0).sum() >= FEWEST:
            each.append(changed(told.columns[place].name, place, own, other, way))
    if each:
        for name, hits in zip(("changed", "kept"), np.stack(each, 1).transpose(2, 0, 1), strict=True):
            found[f"attributes_{name}"] = replace(mean_control(hits), name=name)

    for space in ("z", "w"):
        near = styles.nearby(sampler, count, step=STEP, space=space, seed=SEED)
        here, there = (ruler.network(_raw(loaded, torch.from_numpy(part))) for part in near)
        found[f"path_length@{space}"] = perceptual_path_length(here, there, step=STEP, space=space)  # type: ignore[arg-type]

    rows, columns = np.arange(len(w)), [before[name] for name in styles.ATTRIBUTES]
    if ruler.reader is not None:
        names, places, counts = np.unique(before["label"], return_inverse=True, return_counts=True)
        rows = np.flatnonzero(counts[places] >= COMMON)
        columns = [*columns, places] if len(names) > 1 else columns
    if all(min(np.bincount(c[rows])[np.unique(c[rows])], default=0) >= COMMON for c in columns):
        found["separability"] = separability(w[rows].cpu().numpy(), np.stack(columns, 1)[rows])
    return records(found)


def _to_another(
    loaded: Loaded, told: AttributeRuler, place: int, cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Of samples that were told these attributes (n, columns), for one column: the value of each (n,), another one of
    those that can be read, -1 where its own cannot, and the way (n, style) from the one to the other."""
    sampler, space = loaded.sampler, loaded.model.spaces[NAME]
    assert isinstance(space, Attributes)
    pool, there = (part[:, place] for part in told.values(space.pool()[0]))
    values = [value for value in told.readers[place].classes_ if (there & (pool == value)).any()]
    steps = torch.stack([styles.step_to(sampler, place, there & (pool == value)) for value in values])
    own, known = (part[:, place] for part in told.values(cells))
    known = known & np.isin(own, values)
    here = np.searchsorted(values, own).clip(0, len(values) - 1)
    after = (here + 1) % len(values)
    way = torch.where(torch.from_numpy(known).to(steps.device).unsqueeze(1), steps[after] - steps[here], 0.0)
    return own, np.where(known & (after != here), np.array(values)[after], -1), way


def _raw(loaded: Loaded, x: Tensor) -> np.ndarray:
    """Embedded x -> raw, between the data's levels too: a small step would be lost in them."""
    space = loaded.space
    assert isinstance(space, Continuous)
    shape = (1, -1, *[1] * len(space.grid))
    raw = x.cpu() * space.deviation.cpu().reshape(shape) + space.mean.cpu().reshape(shape)
    return np.asarray(raw.clamp(space.low, space.high) if space.low is not None else raw, dtype=np.float32)


def sheet(loaded: Loaded) -> tuple[list[str], np.ndarray]:
    """Names of directions, and raw (names, STEPS, channels, *grid): the first sample moved along each."""
    labels = control.first_told(loaded)
    names = [name for name in (*labels, "brightness", "pca-1", "pca-2", "pca-3") if name in loaded.direction_names()]
    rows = []
    for name in names:
        reach = REACH["label" if name in labels else "other"]
        amounts = np.linspace(-reach, reach, STEPS).tolist()
        rows.append(loaded.edit(direction=name, amount=amounts, seed=SEED, raw=True))
    return names, np.stack(rows)
