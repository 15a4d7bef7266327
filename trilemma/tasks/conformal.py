"""What is strange, held against what is normal: conformal prediction (Vovk et al. 2005) for rows, steps and pictures.

It holds for any model as long as normal examples come as they came before.
"""

from __future__ import annotations

import math

import numpy as np

from trilemma.errors import InputError
from trilemma.modalities.contract import Data

MOST = 10_000  # normal examples; of fewer than
FEW = 1000  # those of the test split stand beside them


def share(text: str) -> float:
    """'1%' or '0.01' -> 0.01"""
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise InputError(f"--false-alarms {text}: give a share of what is normal, as 1% or 0.01")
    return value


def apart_from(data: Data, most: int = MOST) -> np.ndarray:
    """Which of a run's data it has not learned from, as places in them."""
    places = data.splits["choose"][:most]
    if len(places) < FEW:  # nothing of the model is chosen by what follows
        places = np.concatenate([places, data.splits["test"][: min(FEW, most)]])
    return places


def strangeness(found: np.ndarray, ruler: np.ndarray, *, itself: bool, known: np.ndarray) -> np.ndarray:
    """-log of the share of the ruler's rows (m, C) that surprise as much as each of `found` (n, C), column by column.

    Between two rows of the ruler it goes from the one's share to the other's, and beyond the largest on with the
    logarithm of how much larger. itself: `found` is the ruler, of which each row is then held against the others. So
    what is new and what is known are treated alike: by steps, or without a way beyond the largest for what is known,
    whoever is ahead in one column would be ahead of all that is known. known (m, C): which cells of it there are.
    """
    made = np.zeros_like(found)
    for place in range(found.shape[1]):
        ordered = np.sort(ruler[known[:, place], place])
        if len(ordered) > itself:
            made[:, place] = _strangeness(found[:, place], ordered, int(itself))
    return made


def _strangeness(values: np.ndarray, ordered: np.ndarray, itself: int) -> np.ndarray:
    """Of values (n,) against the ruler's (m,) in order, without themselves where they are among them."""
    count = len(ordered)
    first, last = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    above, equal = count - last, np.maximum(last - first - itself, 0)
    up, down = ordered[np.minimum(last, count - 1)], ordered[np.maximum(first - 1, 0)]
    between = (equal == 0) & (above > 0) & (first > 0)
    part = np.where(between, (up - values) / np.maximum(up - down, 1e-300), 0.0)
    share = np.maximum(above + equal + part, 1) / (count - itself + 1)
    # By what the upper half spans, since likelihoods have no zero of their own.
    high = ordered[-1 - itself]
    span = max(high - ordered[count // 2], 1e-9)
    return -np.log(share) + np.log1p(np.maximum(values - high, 0) / span)


def check_share(false_alarms: float, what: str) -> None:
    """InputError for what is no share."""
    if not 0 < false_alarms < 1:
        raise InputError(f"--false-alarms {false_alarms:g}: give a share of normal {what}, as 0.01")


def check_enough(count: int, false_alarms: float, what: str, fix: str = "give more of them with --normal") -> None:
    """InputError where `count` normal examples cannot tell whether one is as strange as that share of them."""
    if (count + 1) * false_alarms < 1:
        least = math.ceil(1e5 / (count + 1)) / 1e5
        raise InputError(
            f"--false-alarms {false_alarms:g}: {count} normal {what} cannot tell; ask for {least:g} or more, or {fix}"
        )


def p_values(scores: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Share of the normal examples (m,), and of itself, that are at least as strange as each of `scores` (n,)."""
    above = len(normal) - np.searchsorted(np.sort(normal), scores, "left")
    return (above + 1) / (len(normal) + 1)
