"""Windows of a series that share steps, and the stretches of time that they were cut from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def shifts(x: np.ndarray) -> np.ndarray:
    """By how many steps each of the windows (n, channels, T), in order of time, lies after the one before it (n - 1,).

    0 where they share no step: after a gap between them, or in another series.
    """
    steps, found, usual = x.shape[2], [], 1
    for one, two in pairwise(x):
        order = [usual, *(step for step in range(1, steps) if step != usual)]
        usual = next((step for step in order if np.array_equal(one[:, step:], two[:, : steps - step])), 0) or usual
        found.append(usual if np.array_equal(one[:, usual:], two[:, : steps - usual]) else 0)
    return np.array(found, dtype=np.int64)


def stretches(x: np.ndarray) -> list[np.ndarray]:
    """The stretches of time (channels, steps) that windows (n, channels, T), in order of time, were cut from."""
    made: list[list[np.ndarray]] = []
    for window, shift in zip(x, [0, *shifts(x)], strict=True):
        if shift:
            made[-1].append(window[:, -int(shift) :])
        else:
            made.append([window])
    return [np.concatenate(parts, 1) for parts in made]


def sharing(x: np.ndarray) -> int:
    """How many neighbouring windows (n, channels, T), in order of time, share steps with one of them; 1: none."""
    found = shifts(x)
    found = found[found > 0]
    return 1 if len(found) == 0 else int(-(-x.shape[2] // int(np.median(found))))
