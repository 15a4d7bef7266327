"""What a run with styles is asked for: mixtures, edits, sheets of directions; the work is done in `styles.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trilemma.batches import Options
from trilemma.errors import InputError
from trilemma.tasks import styles

LABELS = 4  # rows of labels and attributes in a sheet of directions
Loaded = Any  # a run as `load` gives it; imports point downward


def mix(
    run: Loaded,
    seeds: Sequence[int],
    *,
    columns: Sequence[int] | None,
    layers: str | None,
    label: str | int | None,
    truncation: float | None,
    raw: bool,
) -> np.ndarray:
    """(1 + seeds, 1 + columns, ...) examples: sample 0 of each seed with the styles of each of `columns` in `layers`.

    The first row and column are the samples themselves, the corner that of the mean style. columns: None for the
    seeds again. layers: from coarse to fine, as '3-4'; None: the finer half.
    """
    run.require("mix")
    if len(seeds) < 1 or (columns is not None and len(columns) < 1):
        raise InputError("--seeds: give numbers of samples, such as 3,7")
    run.check_options(Options(truncation=truncation))
    count, across, number = styles.layers_count(run.sampler), list(columns or seeds), run.label(label)
    chosen = styles.layers_of(layers, count) if layers else list(range(count // 2, count))
    x: np.ndarray = styles.mixed(run.sampler, seeds, across, chosen, label=number, psi=truncation)
    x = x if raw else run.modality.export(x)
    return x.reshape(len(seeds) + 1, len(across) + 1, *x.shape[1:])


def edit(
    run: Loaded,
    source: Any,
    *,
    direction: str,
    amount: float | Sequence[float],
    number: int,
    layers: str | None,
    seed: int,
    steps: int,
    tune: int,
    raw: bool,
    quiet: bool,
) -> np.ndarray:
    """One example (a file or an array; without, sample `number` of `seed`) moved along a direction of styles.

    direction: a label, an attribute, pca-K, sefa-K. amount: how far, in deviations (of a label: 1 is the whole way to
    it from the mean of all); of several, an example for each. steps, tune: of the projection of what is given.
    """
    run.require("edit")
    amounts = [float(a) for a in (amount if isinstance(amount, Sequence) else [amount])]
    if not amounts or not np.isfinite(amounts).all():
        raise InputError(f"--amount {amount}: give finite numbers, such as 2 or -2,0,2")
    places = styles.layers_of(layers, styles.layers_count(run.sampler))
    way = styles.direction(run.sampler, direction, run.label_names, run.attributes, layers=places)
    if source is None:
        found = styles.sample_of(run.sampler, seed, number)
    else:
        given = run.read(source)
        if len(given.x) != 1:
            raise InputError(f"edit: give one example, not {len(given.x)}; `project` takes several")
        found = run.project(given, steps=steps, tune=tune, seed=seed, quiet=quiet)
    x: np.ndarray = run.sampler.array(run.space.decode(styles.moved(found, way.step, amounts, places)))
    return x if raw else run.modality.export(x)


def first_told(run: Loaded) -> list[str]:
    """Names of the directions that a sheet begins with: of LABELS labels, or of values of attributes after them."""
    labels = run.label_names[:LABELS] if run.sampler.frequencies else []
    told = [name for name in run.direction_names() if run.attributes and "=" in name]
    return [*labels, *told][:LABELS]


def directions(
    run: Loaded, names: Sequence[str] | None, *, steps: int, reach: float, seed: int, raw: bool
) -> np.ndarray:
    """(names, steps, ...) examples: sample 0 of the seed moved along each direction, from -reach to reach.

    names: None for the first labels and attributes, and the first four of `pca` and of `sefa`.
    """
    run.require("directions")
    if steps < 2 or not 0 < reach < np.inf:
        raise InputError(f"--steps {steps} --reach {reach:g}: at least two examples, and a way of some length")
    names = list(names or [*first_told(run), *(f"{kind}-{i}" for kind in ("pca", "sefa") for i in range(1, 5))])
    amounts = np.linspace(-reach, reach, steps).tolist()
    return np.stack([run.edit(direction=name, amount=amounts, seed=seed, raw=raw) for name in names])
