"""What a series needs no generative model for: its own blocks in another order, an autoregression with volatility."""

from __future__ import annotations

import numpy as np

from trilemma.modalities.contract import Data
from trilemma.modalities.series import Series
from trilemma.modalities.windows import stretches

BLOCK = 4  # parts of a window: the mean length of a block
ORDERS = (1, 2, 4, 8, 24)  # of the autoregression, the best one by its information criterion
TERMS = 200  # most coefficients a variable
FITTED = 20_000  # steps that it is fitted on
PERSISTENCE = 0.999  # largest modulus of the autoregression's roots
FARTHEST = 6.0  # deviations, of a simulated score
SHOCKS = (0.02, 0.05, 0.08, 0.12, 0.2)  # how much of a squared shock stays in the variance,
STAYS = (0.6, 0.75, 0.85, 0.9, 0.93)  # and how much of the variance itself


def _training(data: Data) -> list[np.ndarray]:
    """The stretches of time (channels, steps) of the training split."""
    found = stretches(np.asarray(data.x[np.sort(data.splits["train"])]))
    return [each for each in found if each.shape[1] >= data.x.shape[2]]


def stationary_bootstrap(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Blocks of random length (geometric, a quarter of a window on average) from random places of the training series.

    Politis and Romano 1994, round in a circle; a window stays in one series where there are several. All short memory
    and all variables together are right, joints and what is longer are not; nothing is new but the order.
    """
    generator, size = np.random.default_rng(seed % 2**64), data.x.shape[2]
    series = _training(data)
    lengths = np.array([each.shape[1] for each in series])
    whose = generator.choice(len(series), count, p=lengths / lengths.sum())
    fresh = generator.uniform(size=(count, size)) < BLOCK / size
    fresh[:, 0] = True
    begun = np.arange(size)
    starts = (generator.uniform(size=(count, size)) * lengths[whose][:, None]).astype(np.int64)
    last = np.maximum.accumulate(np.where(fresh, begun, 0), 1)
    places = (np.take_along_axis(starts, last, 1) + begun - last) % lengths[whose][:, None]
    made = [series[which][:, row] for which, row in zip(whose, places, strict=True)]
    return np.stack(made).astype(data.x.dtype)


def autoregression(data: Data, count: int, *, seed: int) -> np.ndarray:
    """A vector autoregression of the training scores with the calendar beside it; shocks with GARCH(1, 1) volatility.

    Fitted by least squares with a little ridge, its order by Akaike's criterion; each variable's variance by quasi
    maximum likelihood over a grid, standardised shocks drawn whole from those of the past (filtered historical
    simulation, Barone-Adesi et al. 1999). A window begins at a random real time, a window's length before it is shown.
    """
    assert isinstance(data.modality, Series)
    generator, size, own = np.random.default_rng(seed % 2**64), data.x.shape[2], len(data.modality.channels)
    series = [each.astype(np.float64) for each in _training(data)]
    orders = [order for order in ORDERS if (order == 1 or order * own <= TERMS) and order < size]
    fitted = [_fit(series, own, order) for order in orders]
    # All on as many steps: those after the longest past.
    best = min(range(len(orders)), key=lambda place: fitted[place][1])
    order, coefficients = orders[best], _steady(fitted[best][0], own, orders[best])
    shocks = [_told(each, own, order, coefficients) for each in series]
    model = [_volatility(np.concatenate([each[c] for each in shocks])) for c in range(own)]
    spread = [np.sqrt(_variances(each, model)) for each in shocks]
    standard = np.concatenate([each / s for each, s in zip(shocks, spread, strict=True)], 1)
    lengths = np.array([each.shape[1] for each in series])
    longer = 2 * size + order
    rooms = np.maximum(lengths - longer, 0)
    if not rooms.any():  # shorter than two windows: begin where the series begins
        longer, rooms = size + order, np.maximum(lengths - size - order, 1)
        longer = min(longer, int(lengths.max()))
    whose = generator.choice(len(series), count, p=rooms / rooms.sum())
    begin = (generator.uniform(size=count) * np.maximum(rooms[whose], 1)).astype(np.int64)
    made = np.stack([series[which][:, at : at + longer] for which, at in zip(whose, begin, strict=True)])
    drawn = standard[:, generator.integers(standard.shape[1], size=(count, longer))]  # (own, count, longer)
    base, shock, stay = (np.array(each)[:, None] for each in zip(*model, strict=True))
    variance = base / np.maximum(1 - shock - stay, 1e-3) * np.ones((own, count))
    for step in range(order, longer):
        past = made[:, :own, step - order : step][:, :, ::-1].transpose(2, 1, 0).reshape(order * own, count)
        terms = np.concatenate([np.ones((1, count)), made[:, own:, step].T, past])
        new = np.sqrt(variance) * drawn[:, :, step]
        made[:, :own, step] = (coefficients.T @ terms + new).T.clip(-FARTHEST, FARTHEST)
        variance = base + shock * new**2 + stay * variance
    return made[:, :, -size:].astype(data.x.dtype)


def _terms(x: np.ndarray, own: int, order: int) -> np.ndarray:
    """What explains each step of (channels, n) from `order` on, (terms, n - order): 1, calendar, nearest past first."""
    count = x.shape[1] - order
    past = [x[:own, order - lag : order - lag + count] for lag in range(1, order + 1)]
    return np.concatenate([np.ones((1, count)), x[own:, order:], *past])


def _fit(series: list[np.ndarray], own: int, order: int) -> tuple[np.ndarray, float]:
    """Coefficients (terms, own), and Akaike's criterion for a step."""
    share = max(1, sum(each.shape[1] for each in series) // FITTED)
    terms = np.concatenate([_terms(each, own, order)[:, ::share] for each in series], 1)
    wanted = np.concatenate([each[:own, order:][:, ::share] for each in series], 1)
    count = terms.shape[1]
    product = terms @ terms.T + 1e-3 * count * np.diag([0.0] + [1e-2] * (len(terms) - 1))
    found = np.linalg.solve(product, terms @ wanted.T)
    rest = np.square(wanted - found.T @ terms).mean(1)
    return found, float(np.log(np.maximum(rest, 1e-12)).sum() + 2 * found.size / count)


def _steady(coefficients: np.ndarray, own: int, order: int) -> np.ndarray:
    """The same, its past shrunk until no path runs away."""
    made = coefficients.copy()
    first = len(made) - order * own
    for _ in range(20):
        companion = np.zeros((order * own, order * own))
        companion[:own] = made[first:].T
        companion[own:, :-own] = np.eye((order - 1) * own)
        largest = float(np.abs(np.linalg.eigvals(companion)).max())
        if largest <= PERSISTENCE:
            break
        shrink = PERSISTENCE / largest
        made[first:] *= np.repeat(shrink ** np.arange(1, order + 1), own)[:, None]
    return made


def _told(x: np.ndarray, own: int, order: int, coefficients: np.ndarray) -> np.ndarray:
    """Shocks (own, n - order): what the past does not explain."""
    return x[:own, order:] - coefficients.T @ _terms(x, own, order)


def _volatility(shocks: np.ndarray) -> tuple[float, float, float]:
    """(base, shock, stay) of a GARCH(1, 1) with the shocks' (n,) variance, by quasi maximum likelihood on a grid."""
    shocks = shocks[-FITTED:]
    squares = shocks**2
    total = max(float(squares.mean()), 1e-12)
    pairs = np.array([(a, b) for a in SHOCKS for b in STAYS if a + b < 0.995])
    variance, score = np.full(len(pairs), total), np.zeros(len(pairs))
    base = total * (1 - pairs.sum(1))
    for square in squares:
        score += np.log(variance) + square / variance
        variance = base + pairs[:, 0] * square + pairs[:, 1] * variance
    plain = len(squares) * np.log(total) + squares.sum() / total
    best = int(score.argmin())
    if score[best] >= plain:
        return total, 0.0, 0.0  # calm and storm do not last
    return float(base[best]), float(pairs[best, 0]), float(pairs[best, 1])


def _variances(shocks: np.ndarray, model: list[tuple[float, float, float]]) -> np.ndarray:
    """The variance (own, n) that each of the shocks (own, n) had."""
    base, shock, stay = (np.array(each) for each in zip(*model, strict=True))
    made, now = np.empty(shocks.shape), base / np.maximum(1 - shock - stay, 1e-3)
    for step in range(shocks.shape[1]):
        made[:, step] = now
        now = base + shock * shocks[:, step] ** 2 + stay * now
    return made
