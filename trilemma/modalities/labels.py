"""Labels and numbers beside the examples, as conditions: arrays, present bits and Spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trilemma.errors import InputError
from trilemma.modalities import attributes
from trilemma.spaces import Categorical, Space

if TYPE_CHECKING:
    from trilemma.modalities.columns import Column

MOST_LABELS = 10_000
TAKEN = ("attributes", "caption", "cluster", "other", "source", "x")  # names of conditions that are no column's


@dataclass
class Columns:
    """Conditions by name, as `Data` holds them."""

    values: dict[str, np.ndarray] = field(default_factory=dict)
    present: dict[str, np.ndarray] = field(default_factory=dict)
    spaces: dict[str, Space] = field(default_factory=dict)
    label_names: list[str] = field(default_factory=list)
    attributes: list[Column] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def hashable(self, digest: np.ndarray) -> list[Any]:
        """Their contents in the order of the examples' hashes, for `content_hash`."""
        order = np.lexsort((np.arange(len(digest)), digest[:, 1], digest[:, 0]))
        told = [(name, self.values[name][order].tolist()) for name in sorted(self.values)]
        return [*told, *self.label_names, *(vars(column) for column in self.attributes)]


def columns_of(
    given: Mapping[str, Any],
    count: int,
    train: np.ndarray,
    source: str,
    *,
    label_names: Sequence[str] | None = None,
    kinds: Sequence[tuple[str, str]] = (),
    digest: np.ndarray | None = None,
) -> Columns:
    """'label' -> (N, 1) int64 codes of a Categorical; all others together -> 'attributes', a row of a table each.

    Numbers are conditions of their own as well, (N, 1) float32 without a Space, by which data can be put in order.
    None, '' and NaN mean that the value is missing; a column needs a value among the rows `train`. `kinds`: of columns
    whose kind the user names. `digest` (N, 2): of the examples, so that nothing follows from the order of the files.
    """
    result = Columns()
    for name, values in given.items():
        if len(values) != count:
            raise InputError(f"{source}: {len(values)} values of {name!r} for {count} examples; give one for each")
    found = attributes.found_in(
        {name: values for name, values in given.items() if name != "label"}, train, source, kinds, digest
    )
    if found.columns:
        result.values[attributes.NAME], result.spaces[attributes.NAME] = found.x, found.space
        result.attributes, here = found.columns, ~np.isnan(found.x).all(1)
        if not here.all():
            result.present[attributes.NAME] = here
    for name, values in given.items():
        if name == "label":
            _label(result, values, source, label_names)
        else:
            _number(result, name, values, train)
    result.notes += found.notes
    return result


def _label(result: Columns, values: Any, source: str, label_names: Sequence[str] | None) -> None:
    listed = np.asarray(values, dtype=object).tolist()
    listed = [value.item() if isinstance(value, np.generic) else value for value in listed]
    here = np.array([value is not None and value != "" and value == value for value in listed], dtype=bool)
    if not here.any():
        return
    distinct = sorted({value for value, known in zip(listed, here, strict=True) if known}, key=_natural)
    codes = {value: code for code, value in enumerate(distinct)}
    if label_names is not None and all(isinstance(value, int) for value in distinct):
        if min(distinct) < 0 or max(distinct) >= len(label_names):
            raise InputError(
                f"{source}: label {max(distinct)} with only {len(label_names)} label names; make their numbers match"
            )
        codes = {value: value for value in range(len(label_names))}
        names = list(label_names)
    else:
        names = [str(value) for value in distinct]
    if len(names) > MOST_LABELS or (len(names) > 50 and len(names) > here.sum() / 2):
        result.notes.append(f"{len(names):,} different labels for {here.sum():,} examples: not used as labels")
        return
    if len(distinct) == 1:
        result.notes.append(f"one label only ({names[codes[distinct[0]]]}): not used as a condition")
        return
    result.values["label"] = np.array([[codes.get(value, 0)] for value in listed], dtype=np.int64)
    if not here.all():
        result.present["label"] = here
        result.notes.append(f"{(~here).sum():,} examples have no label")
    result.spaces["label"] = Categorical((1,), len(names))
    result.label_names = names


def _natural(value: Any) -> tuple[int, float, str]:
    """Numbers by size and before names; '10' after '9'."""
    text = str(value)
    return (0, float(text), text) if text.lstrip("-").isdecimal() else (1, 0.0, text)


def _number(result: Columns, name: str, values: Any, train: np.ndarray) -> None:
    try:
        numbers = np.array([np.nan if v in (None, "") else v for v in np.asarray(values).tolist()], dtype=float)
    except ValueError:
        return
    here = np.isfinite(numbers)
    if not here[train].any() or name in TAKEN:
        return
    column = np.where(here, numbers, numbers[here].mean()).astype(np.float32)[:, None]
    result.values[name] = column
    if not here.all():
        result.present[name] = here
