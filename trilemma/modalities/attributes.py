"""What is known of each example beside its label: columns of a metadata file as a condition that can be asked for.

They are read as a table's columns are, and are a row of a table to a model: see columns.py and `mixed.Attributes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trilemma.errors import InputError, unknown
from trilemma.mixed import Attributes

if TYPE_CHECKING:
    from trilemma.modalities.columns import Column
    from trilemma.modalities.contract import Data

NAME = "attributes"  # of the condition
KINDS = ("number", "integer", "category", "ordered", "text")  # that a user may name; text: left out
MOST = 64  # columns


@dataclass
class Found:
    """The columns that models are told, and each example's cells."""

    columns: list[Column] = field(default_factory=list)
    x: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (N, columns), NaN: not known
    notes: list[str] = field(default_factory=list)

    @property
    def space(self) -> Attributes:
        return Attributes([0 if column.scored else len(column.values) for column in self.columns])

    def hashable(self) -> list[Any]:
        """The contents, for `content_hash`; nothing where there are none."""
        return [self.x, [vars(column) for column in self.columns]] if self.columns else []


def found_in(
    given: Mapping[str, Any],
    train: np.ndarray,
    source: str,
    kinds: Sequence[tuple[str, str]] = (),
    digest: np.ndarray | None = None,
) -> Found:
    """The columns of `given` (N values each, None, '' and NaN: missing) that have a few values, or are numbers.

    kinds: of columns whose kind the user names; 'text' leaves one out. digest (N, 2): of the examples; equal numbers
    are spread over their share of the ranks in its order, whatever the files are called.
    """
    wanted = dict(kinds)
    for name, kind in wanted.items():
        if name not in given:
            raise unknown(f"setting data.columns.{name}: column of {source}", name, list(given))
        if kind.partition(":")[0] not in KINDS:
            raise InputError(f"setting data.columns.{name}={kind}: an attribute is one of {', '.join(KINDS)}")
    if not given:
        return Found()
    from trilemma.modalities import columns  # pandas is for data with attributes only
    from trilemma.modalities.texts import Gathering

    found, values = Found(), []
    left: dict[str, str] = {}
    for name, cells in given.items():
        gathering = Gathering(name)
        gathering.add(np.array([_text(cell) for cell in cells], dtype=object))
        column, own, _ = columns.infer(gathering.texts(), wanted.get(name))
        why = _unfit(column, own, train)
        if why:
            left[name] = why
            continue
        if column.scored:
            column.fit(own[train])
        found.columns.append(column)
        values.append(own)
    for column in found.columns[MOST:]:
        left[column.name] = f"more than {MOST}"
    found.columns = found.columns[:MOST]
    if left:
        found.notes.append("columns not used: " + ", ".join(f"{name} ({why})" for name, why in left.items()))
    if found.columns:
        order = np.arange(len(values[0])) if digest is None else np.lexsort((digest[:, 1], digest[:, 0]))
        found.x = np.empty((len(order), len(found.columns)), np.float32)
        found.x[order] = columns.encoded(found.columns, [own[order] for own in values[:MOST]])
        told = ", ".join(f"{column.name} ({column.said()})" for column in found.columns[:6])
        more = f" and {len(found.columns) - 6:,} more" if len(found.columns) > 6 else ""
        found.notes.append(f'attributes that can be asked for (--where "NAME = VALUE"): {told}{more}')
    return found


def _text(cell: Any) -> str:
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, (bool, np.bool_)):
        return "yes" if cell else "no"
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def _unfit(column: Column, values: np.ndarray, train: np.ndarray) -> str:
    """Why a column is no attribute; '' where it is one."""
    if not column.learned or column.kind == "date":
        return {"text": "free text"}.get(column.kind, column.kind)
    known = values[train][~np.isnan(values[train])]
    if len(np.unique(known)) < 2:
        return "the same in all training examples"
    return "too many different values" if column.kind == "category" and column.scored and not column.ordered else ""


def remember(data: Data) -> None:
    """Let the Space keep the attributes of training examples, with their labels: what samples are asked for.

    Of a label that none of these has an example of any split: a series has its attributes, however short it is.
    """
    space = data.spaces.get(NAME)
    if isinstance(space, Attributes):
        space.forget()
        train = data.splits["train"]
        rows = train[np.linspace(0, len(train) - 1, min(len(train), len(space.labels))).astype(int)]
        labels = np.full(len(data.x), -1)
        if "label" in data.conditions:
            here = np.asarray(data.present["label"]) if "label" in data.present else np.ones(len(data.x), bool)
            labels = np.where(here, np.asarray(data.conditions["label"])[:, 0], -1)
        if data.modality.kind == "series":
            values, first = np.unique(labels, return_index=True)
            rows = np.concatenate([first[~np.isin(values, labels[rows])], rows])[: len(space.labels)]
        space.keep(np.asarray(data.conditions[NAME])[rows], labels[rows])
