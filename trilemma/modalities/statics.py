"""What never changes within one of several series (the size of a shop, its region): attributes of its windows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trilemma.errors import InputError, unknown
from trilemma.mixed import Attributes
from trilemma.modalities import attributes
from trilemma.modalities.attributes import Found
from trilemma.modalities.channels import KINDS
from trilemma.modalities.entities import Reading

CHANGES = "\0"  # in place of a value


def constants(given: Reading, wanted: Mapping[str, str], shown: str) -> dict[str, list[float | str | None]]:
    """The columns that never change within a series, but do from one to the next: by name the value of each series,
    None where it has none. wanted: kinds of columns that the user names; one of a series' values is no attribute.

    Raises:
        InputError: a kind of no column; one of attributes for a column that is none.
    """
    names = [column.name for column in given.columns]
    for name, kind in wanted.items():
        if name not in names and name not in given.left:
            raise unknown(f"setting data.columns.{name}: column of {shown}", name, [*names, *given.left])
        if name in given.left and kind in KINDS and kind != "left-out":
            raise InputError(f"setting data.columns.{name}={kind}: not all of its cells are numbers")
    found: dict[str, list[float | str | None]] = {}
    if not given.apart and len(given.found) > 1:
        words = {column.name for column in given.columns if column.values}
        for place, column in enumerate(given.columns):
            if not column.values:
                found[column.name] = [_number(rows.values[:, place], column.decimals) for rows in given.found]
        for texts in given.texts:
            if texts.name in given.left or texts.name in words:
                found[texts.name] = _texts(texts.codes, texts.texts, given.owner, len(given.found))
    found = {name: own for name, own in found.items() if CHANGES not in own and len({*own} - {None}) > 1}
    for name, kind in wanted.items():
        of_attributes = kind.partition(":")[0] in attributes.KINDS
        if kind not in KINDS and not (of_attributes and name in found):
            if of_attributes and given.entity is not None:
                raise InputError(
                    f"setting data.columns.{name}={kind}: is for a column that never changes within a {given.entity}, "
                    f"but does from one to the next; of this one say {', '.join(KINDS)}"
                )
            also = attributes.KINDS if name in found else ()
            raise unknown(f"setting data.columns.{name}: kind", kind, [*KINDS, *also])
    return {name: own for name, own in found.items() if wanted.get(name) not in KINDS}


def _number(values: np.ndarray, decimals: int | None) -> float | str | None:
    own = np.unique(values[~np.isnan(values)] if decimals is None else values[~np.isnan(values)].round(decimals))
    return CHANGES if len(own) > 1 else float(own[0]) if len(own) else None


def _texts(codes: np.ndarray, texts: list[str], owner: np.ndarray, count: int) -> list[float | str | None]:
    here = codes >= 0
    low, high = np.full(count, len(texts)), np.full(count, -1)
    np.minimum.at(low, owner[here], codes[here])
    np.maximum.at(high, owner[here], codes[here])
    return [
        None if last < 0 else texts[last] if first == last else CHANGES for first, last in zip(low, high, strict=True)
    ]


def told(
    found: Mapping[str, list[float | str | None]],
    owner: np.ndarray,
    train: np.ndarray,
    shown: str,
    wanted: Mapping[str, str],
    digest: np.ndarray,
) -> Found:
    """Attributes of windows, by whose they are (N,); `digest` (N, 2) of the windows."""
    if not found:
        return Found()
    if len(next(iter(found.values()))) > Attributes.KEPT:
        return Found(notes=[f"columns not used: {', '.join(found)} (more than {Attributes.KEPT:,} series)"])
    cells = {name: np.array(own, dtype=object)[owner] for name, own in found.items()}
    kinds = [(name, wanted[name]) for name in found if name in wanted]
    return attributes.found_in(cells, train, shown, kinds, digest)
