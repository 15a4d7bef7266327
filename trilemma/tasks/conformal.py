"""What is strange, held against what is normal: conformal prediction (Vovk et al. 2005) for rows, steps and pictures.

It holds for any model as long as normal examples come as they came before.
"""

from __future__ import annotations

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
        raise InputError(f"--false-alarms {text}: give a share of normal rows, as 1% or 0.01")
    return value


def apart_from(data: Data, most: int = MOST) -> np.ndarray:
    """Raw examples of a run's data that it has not learned from."""
    rows = data.rows("choose", most)
    if len(rows) < FEW:  # nothing of the model is chosen by what follows
        rows = np.concatenate([rows, data.rows("test", min(FEW, most))])
    return rows


def strangeness(found: np.ndarray, ruler: np.ndarray, *, itself: bool, known: np.ndarray) -> np.ndarray:
    """-log of the share of the ruler's rows (m, C) that surprise as much as each of `found` (n, C), column by column.

    Beyond the ruler's largest it goes on with the logarithm of how much larger. itself: `found` is the ruler. known
    (m, C): which cells of the ruler there are.
    """
    made = np.zeros_like(found)
    for place in range(found.shape[1]):
        ordered = np.sort(ruler[known[:, place], place])
        if len(ordered) == 0:
            continue
        above = len(ordered) - np.searchsorted(ordered, found[:, place], "left")
        made[:, place] = -np.log(np.maximum(above + (not itself), 1) / (len(ordered) + (not itself)))
        # By what the upper half spans, since likelihoods have no zero of their own.
        low, high = ordered[len(ordered) // 2], ordered[-1]
        made[:, place] += np.log1p(np.maximum(found[:, place] - high, 0) / max(high - low, 1e-9))
    return made


def check_enough(count: int, false_alarms: float, what: str) -> None:
    """InputError where `count` normal examples cannot tell whether one is as strange as that share of them."""
    if not 0 < false_alarms < 1:
        raise InputError(f"--false-alarms {false_alarms:g}: give a share of normal {what}, as 0.01")
    if (count + 1) * false_alarms < 1:
        raise InputError(
            f"--false-alarms {false_alarms:g}: {count} normal {what} cannot tell; ask for {1 / (count + 1):.2g} or "
            "more, or give more of them with --normal"
        )


def p_values(scores: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Share of the normal examples (m,), and of itself, that are at least as strange as each of `scores` (n,)."""
    above = len(normal) - np.searchsorted(np.sort(normal), scores, "left")
    return (above + 1) / (len(normal) + 1)
