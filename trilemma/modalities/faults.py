"""Why a table is no series, in words: what stands in the way of its column of times, and the fix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trilemma.modalities import dates, times
from trilemma.modalities.columns import MOSTLY, Column
from trilemma.modalities.texts import Texts


def broken(texts: Sequence[Texts]) -> str:
    """What is wrong with a cell of a column of times; '' where nothing is."""
    for each in texts:
        if not each.texts:
            continue
        odd = dates.odd_one(each.texts, MOSTLY)
        if odd:
            row = int(np.argmax(each.codes == each.texts.index(odd))) + 1
            return f"column {each.name!r} holds times, but {odd[:40]!r} in row {row:,}; mend it"
        if (each.codes < 0).any() and len(each.texts) > 2 and dates.forms_of(each.texts):
            row = int(np.argmax(each.codes < 0)) + 1
            return f"column {each.name!r} of times is empty in row {row:,}; give each row its time or leave it out"
    return ""


def why_not(texts: Sequence[Texts]) -> str:
    """What to say of a table in which no regular times were found."""
    if fault := broken(texts):
        return fault
    for each in texts:
        forms = dates.forms_of(each.texts) if len(each.texts) > 2 else []
        if forms:
            seconds = dates.seconds_of(each.texts, forms)
            assert seconds is not None
            return _irregular(each.name, seconds[each.codes], texts)
    return (
        "no column of regular times in it (one that only rises, with equal steps); --kind series takes counted or "
        "irregular ones, --kind table takes it as rows"
    )


def _irregular(name: str, seconds: np.ndarray, texts: Sequence[Texts]) -> str:
    """Of a column of times that are no series."""
    whose = times.entity_of(texts, [name], seconds)
    if whose:
        own = next(each for each in texts if each.name == whose)
        steps = {}
        for code, value in enumerate(own.texts):
            between = np.diff(np.sort(seconds[own.codes == code]))
            if len(between):
                steps[value] = float(np.median(between))
        if len(set(steps.values())) > 1:
            few = ", ".join(f"{value}: {step:g} s" for value, step in list(steps.items())[:3])
            return f"series by column {whose!r} have steps of their own ({few}); give those of one step in one file"
    order = np.sort(seconds)
    if len(np.unique(order)) < 0.9 * len(order):
        return (
            f"times of column {name!r} come several times, and no column says whose they are; add one, or leave rows "
            "out (--kind table takes it as rows)"
        )
    if not times.ordered(seconds):
        return f"times of column {name!r} neither rise nor fall from row to row; sort the rows, or --kind table"
    return f"times of column {name!r} have no regular step of a second or more; --kind table takes it as rows"


def in_order(own: Sequence[Column], values: Sequence[np.ndarray]) -> list[str]:
    """What to say of rows in the order of their times that are no series for all that."""
    for column, seconds in zip(own, values, strict=True):
        if column.kind == "date" and not np.isnan(seconds).any() and np.ptp(seconds) > 0 and times.ordered(seconds):
            return [
                f"rows are in order of {column.name!r}, but its steps are not regular: they are taken one by one "
                "(--kind series takes them as a series, --kind table as they are here)"
            ]
    return []
