"""What a portfolio may lose: value at risk and expected shortfall of drawn futures, and how they would have fared.

The backtest forecasts from each of many moments in the part of the series that the run has not seen, all in one batch,
and holds the losses that came against the forecasts; historical simulation and a Gaussian, both of the last `PAST`
returns, stand beside the model. `adjusted` is the model's forecast by how its forecasts fared up to then, from the
choose split on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trilemma.batches import Options
from trilemma.errors import InputError, unknown
from trilemma.metrics.risk import (
    adjusted,
    christoffersen,
    expected_shortfall,
    filtered,
    gaussian,
    kupiec,
    value_at_risk,
)
from trilemma.modalities.contract import Modality
from trilemma.modalities.entities import Rows
from trilemma.modalities.frames import write
from trilemma.modalities.series import Series
from trilemma.modalities.writing import writing_to
from trilemma.tasks.forecast import companions
from trilemma.tasks.series import go_on, label_of, series_of
from trilemma.training.progress import Bar
from trilemma.training.sampling import BATCH, Sampler

PAST = 500  # returns that historical simulation and the Gaussian look back on
WARM = 250  # forecasts before the backtest, by which the model's are adjusted
WAYS = ("model", "adjusted", "history", "gaussian")


@dataclass
class Risk:
    """Forecasts of losses (n) and what came; the last row is what comes next."""

    times: list[str]
    loss: np.ndarray  # (n,), NaN for the last one
    value_at_risk: dict[str, np.ndarray]  # (n,) by way
    shortfall: dict[str, np.ndarray]
    level: float
    horizon: int
    note: str = ""
    delimiter: str = ","  # between cells of a text file, as the user's has it,
    comma: bool = False  # and whether there are decimal commas in it

    def frame(self) -> pd.DataFrame:
        """`time, loss`, then for each way its value at risk, expected shortfall and whether the loss was larger."""
        made: dict[str, Any] = {"time": self.times, "loss": self.loss}
        for way in WAYS:
            made |= {
                f"var_{way}": self.value_at_risk[way],
                f"es_{way}": self.shortfall[way],
                # Empty where nobody can tell.
                f"violation_{way}": pd.array(self.loss > self.value_at_risk[way], dtype="boolean"),
            }
            made[f"violation_{way}"][~self.known(way)] = pd.NA
        return pd.DataFrame(made)

    def known(self, way: str) -> np.ndarray:
        """Of which moments (n,) both the forecast and what came are known."""
        return np.isfinite(self.loss) & np.isfinite(self.value_at_risk[way])

    def tests(self) -> pd.DataFrame:
        """One row a way: violations and how many were to be expected, p-values, losses beyond against the shortfall."""
        rows = []
        for way in WAYS:
            known = self.known(way)
            loss, shortfall = self.loss[known], self.shortfall[way][known]
            bad = loss > self.value_at_risk[way][known]
            beyond = loss[bad].mean() / shortfall[bad].mean() if bad.any() else np.nan
            rows.append({
                "way": way,
                "forecasts": len(bad),
                "violations": int(bad.sum()),
                "expected": round(len(bad) * (1 - self.level), 1),
                "kupiec_p": round(kupiec(bad, self.level)[1], 4),
                "independence_p": round(christoffersen(bad)[1], 4),
                "loss_beyond_to_shortfall": round(float(beyond), 3),
                "var_next": float(self.value_at_risk[way][-1]),
                "es_next": float(self.shortfall[way][-1]),
            })  # fmt: skip
        return pd.DataFrame(rows)

    def said(self) -> str:
        """The tests in words."""
        lines = [self.note] if self.note else []
        lines += [f"{self.level:.4g} of losses over {self.horizon} step(s) should be within the value at risk:"]
        for row in self.tests().to_dict("records"):
            verdict = "REJECTED" if row["kupiec_p"] < 0.05 else "not rejected" if row["forecasts"] else "cannot tell"
            ahead = f"{row['var_next']:.4g}, expected shortfall {row['es_next']:.4g}"
            lines.append(
                f"  {row['way']:9} {row['violations']} of {row['forecasts']} losses beyond it, {row['expected']:g} "
                f"expected: {verdict} (Kupiec p = {row['kupiec_p']:.3f}, independence {row['independence_p']:.3f}); "
                f"next: {ahead if np.isfinite(row['var_next']) else 'unknown'}"
            )
        return "\n".join(lines)

    def save(self, out: Path) -> list[Path]:
        """The forecasts, and beside them `.tests` and a picture."""
        beside, picture = companions(out, "tests")
        for table, path in ((self.frame(), out), (self.tests(), beside)):
            write(table, path, self.delimiter, comma=self.comma)
        with writing_to(picture) as temporary:
            self.figure().savefig(temporary, format="png")
        return [out, beside, picture]

    def figure(self) -> Any:
        """Losses, the value at risk before them, and where it was exceeded."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
        axes, place = figure.add_subplot(), np.arange(len(self.loss) - 1)
        axes.bar(place, self.loss[:-1], 1.0, color="0.8")
        for way, color in zip(WAYS, ("#c9b3e0", "#5b1fa0", "#c96f00", "#2a7f62"), strict=True):
            axes.plot(place, self.value_at_risk[way][:-1], color=color, linewidth=1.0, label=way)
        bad = self.loss[:-1] > self.value_at_risk["adjusted"][:-1]
        axes.plot(place[bad], self.loss[:-1][bad], "x", color="#b00020", markersize=5, label="beyond the adjusted one")
        ticks = np.linspace(0, max(len(place) - 1, 0), 6).astype(int)
        axes.set_xticks(ticks, [self.times[tick] for tick in ticks], fontsize=7)
        axes.set_ylabel(f"loss over {self.horizon} step(s)", fontsize=8)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def weights_of(text: str | None, series: Series) -> np.ndarray:
    """(told,) 'A=0.5,B=0.5' -> a weight for each column; None: equal ones of all columns learned by returns."""
    columns = series.channels[: series.told]
    names = [each.column.name for each in columns]
    if text is None:
        own = np.array([each.kind == "return" for each in columns], dtype=float)
        if not own.any():
            raise InputError(f"--weights: no column is a price; name some of {', '.join(names[:8])}, as --weights A=1")
        return own / own.sum()
    made = np.zeros(len(names))
    for part in text.split(","):
        name, _, share = part.rpartition("=")
        if name.strip() not in names:
            raise unknown(f"--weights {text}: column", name.strip(), names)
        try:
            made[names.index(name.strip())] = float(share.rstrip("%")) / (100 if share.endswith("%") else 1)
        except ValueError:
            raise InputError(f"--weights {text}: {share!r} is no number; write A=0.5,B=0.5") from None
    return made


def level_of(text: str) -> float:
    """'99%' or '0.99' -> 0.99"""
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    check_level(value, text)
    return value


def check_level(level: float, text: str) -> None:
    """InputError for what is no level."""
    if not 0.5 < level < 1:
        raise InputError(f"--level {text}: give a probability above one half, as 99% or 0.99")


def risk(
    sampler: Sampler,
    modality: Modality,
    source: Any,
    *,
    weights: str | None,
    level: float,
    horizon: int,
    draws: int,
    most: int | None,
    seed: int,
    options: Options,
) -> Risk:
    """Value at risk and expected shortfall of a portfolio, now and at moments `horizon` steps apart in the last 15 %,
    and after all that the run has learned from or chosen by (a shorter file's last 15 % may be before).

    The gain of a portfolio is the sum of weight times simple return of columns that are prices, learned by returns,
    and of weight times change of all others. most: the last so many moments; None: all.

    Raises:
        InputError: other data than series; several series; a horizon that no window holds; too few moments or draws; a
            level that is none; a price of 0 or below.
    """
    series = series_of(modality, "risk")
    if not 1 <= horizon <= series.window // 2:
        raise InputError(f"--horizon {horizon}: from 1 to {series.window // 2} steps, half of the run's window")
    if draws < 8:
        raise InputError(f"--draws {draws}: at least 8")
    if most is not None and most < 2:
        raise InputError(f"--most {most}: at least 2 moments, or leave it out for all")
    check_level(level, f"{level:g}")
    reading = series.reading(source)
    found = reading.found
    if len(found) != 1:
        raise InputError(f"{source}: holds {len(found)} series; a portfolio is of columns beside each other in one")
    if series.told < len(series.channels):
        raise InputError("risk: this run has columns that are known ahead; train one without")
    rows, own = found[0], weights_of(weights, series)
    end = len(rows.times) - 1
    (least, begin), note = series.unseen(rows)
    least, begin = max(least, series.window), max(begin, series.window)
    origins = np.arange(end, begin - 1, -horizon)[::-1]
    origins = origins[-(most + 1) :] if most is not None else origins
    # Before them, in what the run has not learned from: forecasts by which the others are adjusted.
    before = np.arange(origins[0] - horizon, least - 1, -horizon)[:WARM][::-1] if len(origins) else origins
    warm, origins = len(before), np.concatenate([before, origins])
    if len(origins) < warm + 3:
        raise InputError(
            f"{source}: too short for a backtest: {len(rows.times)} steps; give at least {series.window * 8}"
            + (f" ({note})" if note else "")
        )
    _check_prices(series, rows, own, int(origins[0]) - horizon - max(PAST, series.window), source)
    levels = pd.DataFrame(rows.values).ffill().to_numpy()
    gains = _gains(series, levels, own, horizon)  # (n,) over the steps before each
    made = _drawn(sampler, series, rows, levels, origins, own, horizon, draws, seed, options)
    var: dict[str, np.ndarray] = {}
    shortfall: dict[str, np.ndarray] = {}
    came = np.append(gains[origins[1:]], 0.0)  # what nobody knows is not looked at
    var["model"], shortfall["model"] = filtered(made, level)
    var["adjusted"], shortfall["adjusted"] = adjusted(came, made, level, first=max(warm, 1))
    past = [gains[max(origin - PAST + 1, horizon) : origin + 1] for origin in origins]
    past = [each if len(each) > 1 else np.full(2, np.nan) for each in (own[np.isfinite(own)] for own in past)]
    # Sums over several steps overlap; so do those of most banks.
    var["history"] = np.array([value_at_risk(each, level) for each in past])
    shortfall["history"] = np.array([expected_shortfall(each, level) for each in past])
    mean, deviation = (np.array([act(each) for each in past]) for act in (np.mean, np.std))
    var["gaussian"], shortfall["gaussian"] = gaussian(mean, deviation, level)
    loss = np.append(-gains[origins[1:]], np.nan)[warm:]
    var, shortfall = ({way: each[warm:] for way, each in own.items()} for own in (var, shortfall))
    times = series.clock.written(rows.times[origins[warm:]])
    return Risk(times, loss, var, shortfall, level, horizon, note, reading.delimiter, reading.comma)


def _check_prices(series: Series, rows: Rows, weights: np.ndarray, begin: int, source: Any) -> None:
    """InputError for a level from the step `begin` on of which nobody can lose a share."""
    for c, channel in enumerate(series.channels):
        if weights[c] and channel.kind == "return":
            bad = np.flatnonzero(rows.values[:, c] <= 0)
            bad = bad[bad >= begin]
            if len(bad):
                when = series.clock.written(rows.times[bad[:1]])[0]
                raise InputError(
                    f"{source}: column {channel.column.name!r} is {rows.values[bad[0], c]:g} at {when}; it is learned "
                    "by its returns, and of such a price there is none: mend it, or leave the cell empty"
                )


def _gains(series: Series, levels: np.ndarray, weights: np.ndarray, horizon: int) -> np.ndarray:
    """(n,) of the portfolio over the `horizon` steps up to each; NaN before there are so many."""
    made = np.full(len(levels), np.nan)
    now, before = levels[horizon:], levels[:-horizon]
    with np.errstate(divide="ignore", invalid="ignore"):
        each = [
            now[:, c] / before[:, c] - 1 if channel.kind == "return" else now[:, c] - before[:, c]
            for c, channel in enumerate(series.channels)
        ]
    made[horizon:] = np.stack(each, 1)[:, weights != 0] @ weights[weights != 0]
    return made


def _drawn(
    sampler: Sampler,
    series: Series,
    rows: Rows,
    levels: np.ndarray,
    origins: np.ndarray,
    weights: np.ndarray,
    horizon: int,
    draws: int,
    seed: int,
    options: Options,
) -> np.ndarray:
    """(origins, draws) gains of the portfolio over the steps after each origin; `levels` are the rows' without gaps."""
    x, known = series.encode(rows.values, rows.times)
    future = series.clock.after(int(rows.times[-1]), horizon)
    calendar = series.clock.calendar(np.concatenate([rows.times, future]), series.length)[0].astype(np.float32)
    label, back = label_of(series, rows.name), series.window - horizon
    bar, at_once = Bar("risk", len(origins)), max(8 * BATCH // draws, 1)
    made = []
    for first in range(0, len(origins), at_once):
        some = origins[first : first + at_once]
        past = [np.stack([each[:, o + 1 - back : o + 1] for o in some]) for each in (x, known)]
        ahead = np.stack([calendar[:, o + 1 : o + 1 + horizon] for o in some])
        index = (some[:, None] + (np.arange(draws)[None] << 32)).ravel()
        repeated = [np.repeat(each, draws, 0) for each in (*past, ahead)]
        own = go_on(
            sampler, series, *repeated, seed=seed, index=index, options=options,
            label=None if label is None else np.full((len(index), 1), label),
        )  # fmt: skip
        learned = series.learned(own)
        gains = np.zeros(len(own))
        for c, channel in enumerate(series.channels):
            if weights[c] == 0:
                continue
            total = learned[:, c].sum(1) if channel.wanders else learned[:, c, -1]
            if channel.kind == "return":
                total = np.exp(total) - 1
            elif not channel.wanders:
                total = total - np.repeat(levels[some, c], draws)
            gains += weights[c] * total
        made.append(gains.reshape(len(some), draws))
        bar.update(first + len(some), {})
    bar.close()
    return np.concatenate(made)
