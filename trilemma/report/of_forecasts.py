"""What a model's forecasts of unseen time are worth, beside forecasts that need no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trilemma.errors import InputError
from trilemma.metrics.protocol import Measure, over_examples, records
from trilemma.metrics.series import crps, pinball
from trilemma.modalities.contract import Data
from trilemma.modalities.series import Series
from trilemma.modalities.windows import stretches
from trilemma.tasks.load import Loaded
from trilemma.tasks.plain_forecasts import LAST, exponential_smoothing, period_of, seasonal_ensemble, seasonal_naive
from trilemma.tasks.series import fill
from trilemma.training.progress import Bar

ORIGINS = 20  # moments to forecast from, evenly over the test split
DRAWS = 50  # futures at each
VARIABLES = 24  # that are looked at, the first ones
SEED = 0x666F7265


@dataclass
class Origin:
    """One moment of the test split: a window whose end is to be told, and the past and the future of its levels."""

    x: np.ndarray  # (channels, T) raw
    known: np.ndarray  # (channels, T): what a model is told
    label: int | None
    past: np.ndarray  # (n, C) levels without gaps, from the beginning of the stretch on
    future: np.ndarray  # (horizon, C) levels, NaN where nobody knows


class ForecastRuler:
    """Unseen moments from which a quarter of a window is told; errors in units of the seasonal ensemble's."""

    def __init__(self, data: Data):
        assert isinstance(data.modality, Series)
        self.series, self.size = data.modality, data.x.shape[2]
        self.horizon = max(self.size // 4, 1)
        self.variables = min(self.series.told, VARIABLES)
        self.period = 1 if self.series.clock.counted else period_of(self.series.clock)
        if self.period * (self.horizon // self.period + 1) >= self.size - self.horizon:  # none in the shortest past
            self.period = 1
        self.origins = self._origins(data)
        self.ensemble: list[np.ndarray | None] = [
            self._ensemble(origin, c) for origin in self.origins for c in range(self.variables)
        ]
        found = self._errors(self.ensemble)[:, :, :2]
        sums, counts = np.nansum(found, 0), np.isfinite(found).sum(0)
        self.scales = np.where(sums > 0, sums / np.maximum(counts, 1), np.nan)  # (variables, 2)

    def _origins(self, data: Data) -> list[Origin]:
        rows, size, series = np.sort(data.splits["test"]), self.size, self.series
        labels = data.conditions["label"][rows, 0] if "label" in data.conditions else np.full(len(rows), -1)
        places: list[tuple[int, np.ndarray, int]] = []
        for label in np.unique(labels):
            x = np.asarray(data.x[rows[labels == label]])
            seen = np.ones_like(x) if data.observed is None else data.observed[rows[labels == label]].astype(x.dtype)
            for whole in stretches(np.concatenate([x, seen], 1)):
                room = whole.shape[1] - size
                enough = max(LAST * self.period + self.horizon - size, 0)  # all of the ensemble's past
                places += [(int(label), whole, begin) for begin in range(min(enough, room // 2), room + 1)]
        if not places:
            return []
        made: list[Origin] = []
        levels: dict[int, np.ndarray] = {}
        for place in np.unique(np.linspace(0, len(places) - 1, ORIGINS).round().astype(int)):
            label, whole, begin = places[place]
            x, seen = whole[: data.x.shape[1]], whole[data.x.shape[1] :] > 0.5
            if id(whole) not in levels:
                levels[id(whole)] = self._levels(x, seen)
            own, now = levels[id(whole)], begin + size - self.horizon
            window, known = x[:, begin : begin + size], seen[:, begin : begin + size].copy()
            known[: series.told, size - self.horizon :] = False
            here = seen[: self.variables, now : now + self.horizon].T
            future = np.where(here, own[now : now + self.horizon], np.nan)
            made.append(Origin(window, known, None if label < 0 else label, own[:now], future))
        return made

    def _levels(self, x: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Raw x (channels, n) -> levels (n, variables) from the usual start on; nothing changes in a gap."""
        learned, made = self.series.learned(x[None])[0], []
        for c, channel in enumerate(self.series.channels[: self.variables]):
            own = np.where(seen[c], learned[c], 0.0) if channel.wanders else learned[c]
            made.append(channel.levels(own[None])[0])
        return np.stack(made, 1)

    def _ensemble(self, origin: Origin, c: int) -> np.ndarray:
        wanders = self.series.channels[c].wanders
        return seasonal_ensemble(origin.past[:, c], self.horizon, self.period, changes=wanders)

    def _errors(self, draws: list[np.ndarray | None]) -> np.ndarray:
        """(origins, variables, 3): CRPS, pinball loss of the 5th and 95th hundredth, how often those hold the truth.

        draws: (D, horizon) of each variable of each origin; None, and NaN here, where there are none.
        """
        made = np.full((len(self.origins), self.variables, 3), np.nan)
        for place, own in enumerate(draws):
            number, c = divmod(place, self.variables)
            truth = self.origins[number].future[:, c]
            there = ~np.isnan(truth)
            if own is None or not there.any():
                continue
            made[number, c, 0] = crps(own[:, there], truth[there]).mean()
            if len(own) < 2:  # one draw has no tails
                continue
            # Of few draws, too, one truth in ten is expected beyond these.
            low, high = np.quantile(own[:, there], [0.05, 0.95], axis=0, method="weibull")
            made[number, c, 1] = (pinball(low, truth[there], 0.05) + pinball(high, truth[there], 0.95)).mean()
            made[number, c, 2] = ((truth[there] >= low) & (truth[there] <= high)).mean()
        return made

    def measured(self, draws: list[np.ndarray | None]) -> dict[str, Measure]:
        """`forecast`, `forecast_tails` and `forecast_coverage` of such draws; intervals over the origins."""
        errors = self._errors(draws)
        errors[:, :, :2] /= self.scales
        found = {}
        for place, (name, better) in enumerate(
            (("forecast", "lower"), ("forecast_tails", "lower"), ("forecast_coverage", "neither"))
        ):
            known = np.isfinite(errors[:, :, place])
            whole = np.where(known, errors[:, :, place], 0).sum(1)[known.any(1)] / known.sum(1)[known.any(1)]
            if len(whole):
                most = 1.0 if name == "forecast_coverage" else np.inf
                found[name] = over_examples(whole, name, better, least=0.0, most=most)  # type: ignore[arg-type]
        return found

    def of_model(self, loaded: Loaded) -> dict[str, Measure]:
        """Of a run that fills in, as `trilemma forecast` draws."""
        if not self.origins:
            return {}
        labelled = "label" in loaded.model.spaces
        made: list[np.ndarray | None] = []
        for number, origin in enumerate(self.origins):
            windows, known = (np.repeat(each[None], DRAWS, 0) for each in (origin.x, origin.known))
            whole = fill(
                loaded.sampler, np.where(known, windows, 0), known, seed=SEED, options=loaded.lawful,
                index=(number << 32) + np.arange(DRAWS),
                label=np.full((DRAWS, 1), origin.label) if labelled and origin.label is not None else None,
            )  # fmt: skip
            learned = self.series.learned(whole[:, :, -self.horizon :])
            for c, channel in enumerate(self.series.channels[: self.variables]):
                made.append(channel.levels(learned[:, c], origin.past[-1, c]))
        return self.measured(made)

    def plain(self, *, quiet: bool = False) -> dict[str, Any]:
        """The same of forecasts that need no model, by name, as records; {} where there is nothing to forecast."""
        if not self.origins:
            return {}
        pairs = [(origin, c) for origin in self.origins for c in range(self.variables)]
        periods = [1 if self.series.channels[c].wanders else self.period for _, c in pairs]
        naive: list[np.ndarray | None] = [
            seasonal_naive(origin.past[:, c], self.horizon, period)
            for (origin, c), period in zip(pairs, periods, strict=True)
        ]
        made = {
            "seasonal naive": records(self.measured(naive)),
            "seasonal ensemble": records(self.measured(list(self.ensemble))),
        }
        smooth: list[np.ndarray | None] = []
        bar = Bar("exponential smoothing", len(pairs), quiet=quiet)
        for number, ((origin, c), period) in enumerate(zip(pairs, periods, strict=True)):
            try:
                smooth.append(exponential_smoothing(origin.past[:, c], self.horizon, period, draws=DRAWS))
            except InputError:  # the extra that it needs is not there
                return made
            except (ValueError, np.linalg.LinAlgError):  # too short a past, or none that varies
                smooth.append(None)
            bar.update(number + 1, {})
        bar.close()
        return {**made, "exponential smoothing": records(self.measured(smooth))}
