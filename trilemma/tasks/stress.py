"""Scenarios: paths of a series that meet conditions (see `modalities/scenario.py`), as probable as the model has them.

Levels that are demanded exactly are given to a model that fills in the rest. All else is met by leaving out the paths
that do not, which is exact for any model; where too few do, by leading paths there level by level (`splitting.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from trilemma.batches import Arrays, Options
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.metrics.protocol import share_interval, student
from trilemma.metrics.risk import expected_shortfall, value_at_risk
from trilemma.modalities.contract import Modality
from trilemma.modalities.scenario import Demand, parse
from trilemma.modalities.series import Series
from trilemma.models.contract import Fills, Samples
from trilemma.spaces import Continuous
from trilemma.tasks.risk import check_level, weights_of
from trilemma.tasks.series import series_of
from trilemma.tasks.splitting import SETS, Unreached, cost, rare
from trilemma.training.progress import Bar
from trilemma.training.sampling import BATCH, Prompt, Sampler

FIRST = 2000  # paths that are looked at before it is said how rare those that are wanted are
WORTH = 2.0  # times as many paths may be drawn independently of each other


@dataclass
class Loss:
    """What a portfolio loses over paths, with a standard error of each figure."""

    mean: tuple[float, float]
    value_at_risk: tuple[float, float]
    shortfall: tuple[float, float]


@dataclass
class Scenarios:
    """Paths that meet conditions, equally probable, and how probable they are together."""

    x: np.ndarray  # (n, channels, horizon) raw
    where: str
    probability: float  # of a path of the model (of those with the attributes that were asked for)
    interval: tuple[float, float]  # 95 %, of sampling alone
    drawn: int  # paths altogether
    levels: int  # by which they were led there; 0: drawn independently of each other
    seconds: float
    level: float = 0.99
    weights: str = ""
    given: Loss | None = None  # what the portfolio loses given the scenario,
    all: Loss | None = None  # and over all paths
    attributes: str = ""  # that all paths have
    exact: str = ""  # how many conditions demand one value: '', 'some' or 'all'; the probability is given these

    def said(self) -> str:
        """The probability, and what a portfolio loses, in words."""
        low, high = self.interval
        steps = f"{self.x.shape[2]} steps"
        how = f"{self.drawn:,} paths"
        if self.levels:
            alone = len(self.x) / self.probability
            how += f", led there in {self.levels} levels; drawn at random it would take {alone:,.0f}"
        of = f" of series with {self.attributes!r}" if self.attributes else ""
        if self.exact == "all":  # nothing is left that could be counted
            said = f"{len(self.x):,} paths of {steps}{of}, given {self.where!r}: how probable that is, is not told"
            return "\n".join([f"{said} ({self.seconds:.0f} s)", *self._losses()])
        lines = [
            f"by the model the probability of {self.where!r} over {steps}{of}"
            + (", given what is demanded with =," if self.exact else "")
            + f" is {share(self.probability)} (95 %: "
            f"{share(low)} to {share(high)}): {len(self.x):,} of {how} ({self.seconds:.0f} s)"
        ]
        return "\n".join([*lines, *self._losses()])

    def _losses(self) -> list[str]:
        lines = []
        for words, loss in (("given it", self.given), ("of all paths", self.all)):
            if loss is not None:
                mean, var, shortfall = (f"{x:.4g} ± {1.96 * error:.2g}" for x, error in vars(loss).values())
                lines.append(
                    f"  loss of {self.weights} {words}: {mean} on average, value at risk ({self.level:.4g}) {var}, "
                    f"expected shortfall {shortfall}"
                )
        return lines


def share(value: float) -> str:
    """'12 %', '0.21 %', '3.4e-05 %': two digits; three of what is nearly all."""
    return f"{100 * value:.{2 if value < 0.995 else 3}g} %"


def scenarios(
    sampler: Sampler,
    modality: Modality,
    n: int,
    where: str,
    *,
    horizon: int | None,
    label: int | None,
    seed: int,
    options: Options,
    weights: str | None = None,
    level: float = 0.99,
    prompt: Prompt | None = None,
    given: str = "",
) -> Scenarios:
    """n raw windows cut to `horizon` steps (None: whole ones) that meet `where`, and how probable they are.

    weights: of a portfolio, as `risk` takes them, whose loss over a path is told. prompt: the attributes that all paths
    have, in words `given`.

    Raises:
        InputError: conditions that cannot be read, that no path of the model comes to, or exact values for a model that
            does not fill in.
    """
    series = series_of(modality, "stress")
    length = series.window if horizon is None else horizon
    if not 1 <= length <= series.window:
        raise InputError(f"--horizon {horizon}: paths of this run have 1 to {series.window} steps")
    if n < 1:
        raise InputError(f"-n {n}: ask for at least one path")
    check_level(level, f"{level:g}")
    portfolio = None if weights is None else weights_of(weights, series)
    demands = parse(where, series.channels[: series.told], length)
    exact = [each for each in demands if each.given(length) is not None]
    if exact and not (isinstance(sampler.model, Fills) and sampler.model.can_fill()):
        raise InputError(
            f"--where {where!r}: this model fills in nothing, so that no exact value can be given; use < or >"
        )
    others = [each for each in demands if each not in exact]
    draw = partial(_drawn, sampler, series, exact, length, label, seed, options, prompt)
    start, bar = time.monotonic(), Bar("stress", n)
    kept: list[np.ndarray] = []
    gains: list[np.ndarray] = []
    gaps: list[np.ndarray] = []
    found = looked = 0
    device = str(sampler.engine.device)
    while found < n:
        x = draw(Noise(seed, np.arange(looked, looked + BATCH), device))
        gaps.append(_gaps(series, x, others))
        kept.append(x[(gaps[-1] == 0).all(1)])
        if portfolio is not None and looked < FIRST:
            gains.append(_gains(series, x, portfolio))
        found, looked = found + len(kept[-1]), looked + BATCH
        bar.update(min(found, n), {"probability": found / looked})
        likely = max(found, 1) / looked
        if looked >= FIRST and (n - found) / likely > WORTH * cost(n, likely):
            break
    likely = found / looked
    made = Scenarios(
        np.concatenate(kept)[:n], where, likely, share_interval(likely, looked), looked, 0, 0.0, level, weights or "",
        attributes=given, exact="" if not exact else "some" if others else "all",
    )  # fmt: skip
    part = np.arange(len(made.x)) * SETS // max(len(made.x), 1)
    if found < n:
        every = np.concatenate(gaps)
        scale = np.where(np.isfinite(every), every, 0).std(0) + 1e-12  # of conditions, so that none hides another

        def far(x: np.ndarray) -> np.ndarray:
            return (_gaps(series, x, others) / scale).max(1)

        def watch(drawn: int, probability: float) -> None:
            bar.update(drawn, {"probability": probability}, total=max(int(cost(n, max(likely, 1e-4))), drawn + 1))

        try:
            event = rare(draw, far, n, seed=seed + 1, device=device, watch=watch)
        except Unreached as none:
            nearest = _values(series, none.nearest[None], others)
            values = ", ".join(f"{each.statistic} {value:.4g}" for each, value in zip(others, nearest[0], strict=True))
            raise InputError(
                f"--where {where!r}: no path of the model comes there ({none.drawn + looked:,} were drawn in "
                f"{time.monotonic() - start:.0f} s, the last ones led there): its probability is below "
                f"{share(none.probability)}; the nearest one has {values}. Ask for less, or a longer --horizon"
            ) from None
        part = event.part
        made = replace(
            made, x=event.x, probability=event.probability, interval=event.interval, drawn=looked + event.drawn,
            levels=event.levels,
        )  # fmt: skip
    bar.close()
    if portfolio is not None:
        made.given = _loss(_gains(series, made.x, portfolio), part, level)
        apart = np.concatenate(gains)
        made.all = _loss(apart, np.arange(len(apart)) * SETS // len(apart), level)
    made.seconds = time.monotonic() - start
    return made


@torch.no_grad()
def _drawn(
    sampler: Sampler,
    series: Series,
    exact: list[Demand],
    length: int,
    label: int | None,
    seed: int,
    options: Options,
    prompt: Prompt | None,
    noise: Noise,
) -> np.ndarray:
    """Raw paths (n, channels, length) of the noise, in which levels that are demanded exactly are given."""
    model, index = sampler.model, noise.index.astype(np.int64)
    model.eval()
    labels = None if label is None else np.full((len(index), 1), label)
    request = replace(sampler.request(seed, index, label=labels, options=options, prompt=prompt), noise=noise)
    if not exact:
        assert isinstance(model, Samples)
        with sampler.engine.autocast():
            return sampler.array(model.sample(request))[:, :, :length]
    x = np.zeros((len(index), len(series.channels) + len(series.calendar), series.window), dtype=np.float32)
    observed = np.zeros(x.shape, dtype=bool)
    for each in exact:
        step, column = each.given(length), series.channels[each.place].column
        x[:, each.place, step] = column.scores(np.array([each.value]), np.array([0.5]))
        observed[:, each.place, step] = True
    places = np.arange(len(index))
    batch = Arrays(x, observed=observed).gather(places, seed=seed, index=index, device=str(sampler.engine.device))
    assert isinstance(model, Fills) and batch.observed is not None
    space = getattr(model, "space", None)
    if isinstance(space, Continuous) and (scene := space.scene(noise)) is not None:
        told = space.deduced(torch.where(scene[1], scene[0], batch.x), batch.observed | scene[1])
        batch = replace(batch, x=told[0], observed=told[1])
    with sampler.engine.autocast():
        return sampler.array(model.fill(batch, request, complete=True))[:, :, :length]


def _before(series: Series, levels: np.ndarray, place: int) -> np.ndarray:
    """(n,) the level before each path (n, T, C): of what is not learned by its changes that of the first step."""
    channel = series.channels[place]
    return np.full(len(levels), channel.start) if channel.wanders else levels[:, 0, place]


def _values(series: Series, x: np.ndarray, demands: list[Demand]) -> np.ndarray:
    """(n, demands) the statistics of raw paths."""
    levels = series.decode(x)
    each = [one.of(levels[:, :, one.place], _before(series, levels, one.place)) for one in demands]
    return np.stack(each, 1) if each else np.zeros((len(x), 0))


def _gaps(series: Series, x: np.ndarray, demands: list[Demand]) -> np.ndarray:
    """(n, demands) by how much raw paths miss each, 0 where it is met; a column of zeros where nothing is demanded."""
    values = _values(series, x, demands)
    each = [one.gap(own) for one, own in zip(demands, values.T, strict=True)]
    return np.stack(each, 1) if each else np.zeros((len(x), 1))


def _gains(series: Series, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n,) of a portfolio over raw paths: simple returns of what is learned by returns, changes of all else."""
    levels, made = series.decode(x), np.zeros(len(x))
    for place in np.flatnonzero(weights).tolist():
        before, last = _before(series, levels, place), levels[:, -1, place]
        made += weights[place] * (last / before - 1 if series.channels[place].kind == "return" else last - before)
    return made


def _loss(gains: np.ndarray, part: np.ndarray, level: float) -> Loss:
    """Of gains (n,); standard errors by leaving out one part (n,) after the other (the jackknife of blocks)."""

    def figures(own: np.ndarray) -> np.ndarray:
        return np.array([-own.mean(), value_at_risk(own, level), expected_shortfall(own, level)])

    parts = np.unique(part)
    whole, error = figures(gains), np.full(3, np.nan)
    if len(parts) > 1:
        without = np.stack([figures(gains[part != one]) for one in parts])
        error = np.sqrt((len(parts) - 1) * np.square(without - without.mean(0)).mean(0))
        error = error * student(len(parts) - 1) / 1.959964  # few parts know their own spread badly
    mean, var, shortfall = zip(whole.tolist(), error.tolist(), strict=True)
    return Loss(mean, var, shortfall)
