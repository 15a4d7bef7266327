"""Columns of a series in words (open and closed; clear, cloudy, rain): numbers with nothing between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from trilemma.modalities import numerals
from trilemma.modalities.columns import FEW, REPEATED, Column, Texts
from trilemma.modalities.times import DAY, YEAR, Times

ALPHABET = 0.1  # of a mean number of steps between two words, between those that follow each other in the alphabet
HERE = 0.5  # share of the rows that have a word, of a column that is no mere remark


def numbered(column: Column, codes: np.ndarray, order: np.ndarray) -> tuple[Column, np.ndarray] | None:
    """A category of few words as a column of their places (N,); None where it is none.

    Two words keep the order of the alphabet: no and yes, off and on. More of them stand in one in which those that
    follow each other are neighbours. order (N,): the rows in order of time.
    """
    count, here = len(column.values), ~np.isnan(codes)
    if column.kind != "category" or not 2 <= count <= FEW:
        return None
    if here.sum() < max(REPEATED * count, HERE * len(codes)):
        return None
    places = _side_by_side(codes[order][here[order]].astype(int), count) if count > 2 else np.arange(count)
    values = [column.values[code] for code in np.argsort(places)]
    made = replace(column, kind="number", values=values, decimals=0, ordered=False, levels=[])
    return made, np.where(here, places[np.nan_to_num(codes).astype(int)], np.nan)


def _side_by_side(codes: np.ndarray, count: int) -> np.ndarray:
    """(count,) the place of each code on a line that is short along the steps from one to the next (Fiedler 1973)."""
    steps = np.zeros((count, count))
    np.add.at(steps, (codes[:-1], codes[1:]), 1.0)
    near = steps + steps.T + 1e-3
    # Words that go round (early, late, night) fit a line in several ways alike: the alphabet decides.
    along = np.arange(count - 1)
    near[along, along + 1] += ALPHABET * near.mean()
    near[along + 1, along] += ALPHABET * near.mean()
    np.fill_diagonal(near, 0.0)
    line = np.linalg.eigh(np.diag(near.sum(1)) - near)[1][:, 1].round(9)
    line = -line if line[0] > 0 else line  # the first of the alphabet stands in the lower half
    return np.argsort(np.argsort(line, kind="stable"), kind="stable")


def of_calendar(texts: Sequence[Texts], when: Times) -> list[str]:
    """Names of the columns of few words that the day of the week, the month or the hour says: 'Monday', 'winter'.

    Of weeks, years or days that the times go round twice: what changes once, with a month, is none.
    """
    moments, found = pd.DatetimeIndex(when.seconds.astype("datetime64[s]")), []
    parts = ((moments.day_of_week, 7 * DAY), (moments.month, YEAR), (moments.hour, DAY))
    spoken = [part.to_numpy() for part, period in parts if np.ptp(when.seconds) >= 2 * period]
    for each in texts:
        if 1 < len(each.texts) <= FEW and (each.codes >= 0).all() and numerals.parse(each.texts) is None:
            for part in spoken:
                kinds = len(np.unique(part))
                pairs = np.unique(np.stack([part, each.codes], 1), axis=0)
                if len(pairs) == kinds and len(part) >= REPEATED * kinds:
                    found.append(each.name)
                    break
    return found
