"""Noise as a code: up the probability-flow equation from data to noise, and down again (Song et al. 2021, section 5.4).

Exact is the equation dy/ds = (y - D(y, s)) / s: one noise for each x, one x for each noise. Not exact are its solver,
of second order in the steps, that x counts as y at the lowest positive level, and what is left of x at the largest.
"""

from __future__ import annotations

from torch import Tensor

from trilemma.maths.samplers import Denoise, dpm_solver_plus_plus


def to_noise(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """The noise (B, C, *grid) that `from_noise` makes x of on the same grid of levels, which falls and ends with 0.

    Of unit variance where x is like the data, which have unit variance too. One call of `denoise` a step, but for the
    last step to 0, before which x is put; so that a grid needs two steps.
    """
    levels = sigmas[sigmas > 0]
    return dpm_solver_plus_plus(denoise, x, levels.flip(0)) / _largest(levels)


def from_noise(denoise: Denoise, noise: Tensor, sigmas: Tensor) -> Tensor:
    """x of such noise, as DPM-Solver++ 2M samples it on this grid."""
    return dpm_solver_plus_plus(denoise, noise * _largest(sigmas), sigmas)


def _largest(levels: Tensor) -> float:
    """Deviation of y at the first or last level, whichever is largest: noise, and data of unit variance."""
    return float((levels.max() ** 2 + 1).sqrt())
