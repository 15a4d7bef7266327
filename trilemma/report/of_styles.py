"""What control by styles is worth: changes along directions, read off what they make, and a sheet of directions."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trilemma.metrics.control import changed_as_asked, kept, perceptual_path_length, separability
from trilemma.metrics.protocol import Measure, records
from trilemma.models.contract import Styles
from trilemma.report.measure import SEED, Ruler
from trilemma.spaces import Continuous
from trilemma.tasks import styles
from trilemma.tasks.load import Loaded

SECONDS = 20.0  # that all of it may take, about
MOST, FEWEST = 250, 40  # examples that are changed, and ways between codes
EACH = 12  # examples made for one that is changed
AMOUNT = 2.0  # deviations by which brightness is changed
STEP = 1e-2  # of a way: in single precision of features a smaller one is lost
COMMON = 10  # samples of a class, at least, among those that planes are fitted to
LABELS, STEPS = 4, 7  # rows of labels, and examples in a row, of the sheet
REACH = {"label": 2.0, "other": 3.0}


def has_control(loaded: Loaded) -> bool:
    """Are there styles, and examples on a grid of numbers that they steer?"""
    return isinstance(loaded.model, Styles) and isinstance(loaded.space, Continuous) and bool(loaded.space.grid)


@torch.no_grad()
def of_styles(loaded: Loaded, ruler: Ruler) -> dict[str, Any]:
    """Metrics by name, as records; as many examples as the seconds allow, none where they are too few."""
    sampler, model = loaded.sampler, styles.capable(loaded.sampler)
    begin = time.perf_counter()
    ruler.network(_raw(loaded, styles.synthesised(sampler, *styles.many_styles(sampler, 32, seed=SEED))))
    count = int(min(SECONDS / max(time.perf_counter() - begin, 1e-9) * 32 / EACH, MOST))
    if count < FEWEST:
        return {}
    w, request = styles.many_styles(sampler, 4 * count, seed=SEED)
    x = styles.synthesised(sampler, w, request)
    features = ruler.network(_raw(loaded, x))
    attributes = {name: read(x) for name, read in styles.ATTRIBUTES.items()}
    halves = {name: (values > values.median()).long().cpu().numpy() for name, values in attributes.items()}
    classes = None if ruler.reader is None else np.asarray(ruler.reader.predict(features))
    found: dict[str, Measure] = {}

    # Brighter ones are made darker, darker ones brighter.
    step = styles.regressed(w, attributes["brightness"])
    wanted = 1 - halves["brightness"][:count]
    way = torch.from_numpy(np.where(wanted, AMOUNT, -AMOUNT)).to(w).unsqueeze(1) * step
    after = styles.synthesised(sampler, w[:count] + way, request)
    bright = styles.ATTRIBUTES["brightness"](after) > attributes["brightness"].median()
    found["changed"] = changed_as_asked(wanted, bright.long().cpu().numpy())
    if classes is not None:
        found["kept"] = kept(classes[:count], np.asarray(ruler.reader.predict(ruler.network(_raw(loaded, after)))))
    else:
        contrast = styles.ATTRIBUTES["contrast"](after) > attributes["contrast"].median()
        found["kept"] = kept(halves["contrast"][:count], contrast.long().cpu().numpy())

    if classes is not None and sampler.frequencies and "label" in request.raw:
        known = np.flatnonzero(np.array(sampler.frequencies) > 0)
        own = request.raw["label"][:count, 0].cpu().numpy()
        other = known[(np.searchsorted(known, own) + 1) % len(known)]
        asked = sampler.request(SEED, np.arange(len(sampler.frequencies)))
        asked.raw["label"] = torch.arange(len(sampler.frequencies), device=w.device).unsqueeze(1)
        styles.untold(asked)
        means = model.mean_style(asked)[:, 0]
        after = styles.synthesised(sampler, w[:count] + means[other] - means[own], request)
        found["changed@label"] = changed_as_asked(other, ruler.reader.predict(ruler.network(_raw(loaded, after))))

    for space in ("z", "w"):
        near = styles.nearby(sampler, count, step=STEP, space=space, seed=SEED)
        here, there = (ruler.network(_raw(loaded, torch.from_numpy(part))) for part in near)
        found[f"path_length@{space}"] = perceptual_path_length(here, there, step=STEP, space=space)  # type: ignore[arg-type]

    rows, columns = np.arange(len(w)), [halves[name] for name in styles.ATTRIBUTES]
    if classes is not None:
        names, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
        rows = np.flatnonzero(counts[places] >= COMMON)
        columns = [*columns, places] if len(names) > 1 else columns
    if all(min(np.bincount(c[rows])[np.unique(c[rows])], default=0) >= COMMON for c in columns):
        found["separability"] = separability(w[rows].cpu().numpy(), np.stack(columns, 1)[rows])
    return records(found)


def _raw(loaded: Loaded, x: Tensor) -> np.ndarray:
    """Embedded x -> raw, between the data's levels too: a small step would be lost in them."""
    space = loaded.space
    assert isinstance(space, Continuous)
    shape = (1, -1, *[1] * len(space.grid))
    raw = x.cpu() * space.deviation.cpu().reshape(shape) + space.mean.cpu().reshape(shape)
    return np.asarray(raw.clamp(space.low, space.high) if space.low is not None else raw, dtype=np.float32)


def sheet(loaded: Loaded) -> tuple[list[str], np.ndarray]:
    """Names of directions, and raw (names, STEPS, channels, *grid): the first sample moved along each."""
    labels = loaded.label_names[:LABELS] if loaded.sampler.frequencies else []
    told = [name for name in loaded.direction_names() if loaded.attributes and "=" in name]
    labels = [*labels, *told][:LABELS]
    names = [name for name in (*labels, "brightness", "pca-1", "pca-2", "pca-3") if name in loaded.direction_names()]
    rows = []
    for name in names:
        reach = REACH["label" if name in labels else "other"]
        amounts = np.linspace(-reach, reach, STEPS).tolist()
        rows.append(loaded.edit(direction=name, amount=amounts, seed=SEED, raw=True))
    return names, np.stack(rows)
