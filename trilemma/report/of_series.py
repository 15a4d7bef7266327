"""What is measured of series alone, and what the page shows of their windows."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from trilemma.metrics.protocol import Measure
from trilemma.metrics.series import (
    FEWEST,
    alike,
    autocorrelation,
    autocorrelation_distance,
    correlation,
    cross_correlation_distance,
    lags_of,
    marginals,
    spectral_distance,
)
from trilemma.metrics.signatures import signature_distance
from trilemma.metrics.stylised import FACTS, shown, stylised_facts
from trilemma.metrics.windows import discriminative_score, predictive_score
from trilemma.modalities.contract import Data
from trilemma.modalities.series import Series
from trilemma.modalities.windows import sharing, shifts
from trilemma.report.of_forecasts import ForecastRuler

STRETCHES = 3  # windows long are the blocks by which real facts are drawn anew: calm and storm outlast a window
DRAWN = 4  # variables that the page draws,
CURVES = 3  # and windows of each
PAIRED = 24  # variables of a matrix of correlations
BINS = 30
SEED = 0x73686F77  # of the training windows that are shown to a classifier
LAGS = 60  # of a drawn autocorrelation


class SeriesRuler:
    """The real side of what is measured of series: unseen windows in order of time, in the units that are learned."""

    def __init__(self, data: Data):
        assert isinstance(data.modality, Series)
        self.data, self.modality = data, data.modality
        rows = np.sort(data.splits["test"])  # by which windows were put in order of time, before they were shuffled
        self.x = np.asarray(data.x[rows])
        self.walks = np.array([each.wanders for each in self.modality.channels])
        self.together = sharing(self.x)
        self.real = self._learned(self.x, None if data.observed is None else np.asarray(data.observed[rows]))
        # What the models learned from, a window from each of as many parts of its time (at random: a regular step would
        # be told by the hour at which windows begin). Later ones, unseen, would be told by what has changed since.
        rows, generator = np.sort(data.splits["train"]), np.random.default_rng(SEED)
        rows = np.array([generator.choice(part) for part in np.array_split(rows, min(len(self.x), len(rows)))])
        learned = np.asarray(data.x[rows])
        self.sharing_then = sharing(learned)
        self.then = self._learned(learned, None if data.observed is None else np.asarray(data.observed[rows]))
        self.facts = self._facts(self.real, STRETCHES * self.together)
        self.known: dict[bytes, int] | None = None  # training windows with gaps, by their content
        self.edges = [_edges(self.real[:, :, c]) for c in range(self.real.shape[2])]

    @cached_property
    def forecasts(self) -> ForecastRuler:
        """By which forecasts of the unseen time are measured."""
        return ForecastRuler(self.data)

    def set_aside(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Places among the first `most` training examples, and windows (n, channels, T) that share no step with them.

        Later windows are far from what was learned because times change, and those that share steps are near to each
        other: neither says how near windows come that were not copied. So a window of every third is set aside from the
        training's own time, and copies are looked for among those that share nothing with it.
        """
        rows, size = np.sort(self.data.splits["train"]), self.data.x.shape[2]
        steps = shifts(np.asarray(self.data.x[rows]))
        begin = np.concatenate([[0], np.cumsum(np.where(steps > 0, steps, size))])
        aside = np.unique(np.searchsorted(begin, np.arange(size, begin[-1] + 1, 3 * size)).clip(0, len(begin) - 1))
        nearest = np.abs(begin[:, None] - begin[aside][None]).min(1) if len(aside) else np.full(len(begin), size)
        free = rows[nearest >= size]
        places = np.flatnonzero(np.isin(self.data.splits["train"][:most], free))
        if len(places) < 2 or len(aside) < 2:  # a series of a few windows: nothing can be told
            return np.arange(min(most, len(rows))), self.x[:2]
        return places, np.asarray(self.data.x[rows[aside]])

    def _learned(self, x: np.ndarray, observed: np.ndarray | None) -> np.ndarray:
        """(n, T, C), NaN where it is not known; without the first step, whose changes no window of levels tells."""
        values = self.modality.learned(x).transpose(0, 2, 1)
        if observed is not None:
            values[~observed[:, : values.shape[2]].transpose(0, 2, 1)] = np.nan
        return values[:, int(self.walks.any()) :]

    def _gaps(self, x: np.ndarray) -> np.ndarray | None:
        """What of the samples is known, where they are the training windows themselves: lines bridge their gaps."""
        if self.data.observed is None:
            return None
        if self.known is None:
            self.known = {self.data.x[row].tobytes(): row for row in self.data.splits["train"]}
        rows = [self.known.get(window.tobytes()) for window in x]
        full = np.ones(x.shape[1:], dtype=bool)
        return np.stack([full if row is None else self.data.observed[row] for row in rows])

    def _facts(self, values: np.ndarray, together: int) -> dict[str, Measure]:
        if not self.walks.any() or len(values) < FEWEST or values.shape[1] < 7:
            return {}
        return stylised_facts(values[:, :, self.walks], together=together)

    def measure(self, x: np.ndarray) -> tuple[dict[str, Measure], dict[str, str]]:
        """Measures by name and verdicts on stylised facts, of raw samples (n, channels, T)."""
        made = self._learned(x, self._gaps(x))
        real, full = alike(self.real, made)
        found: dict[str, Measure | None] = {
            "marginals": marginals(self.real, made),
            "autocorrelation": autocorrelation_distance(self.real, made),
            "cross_correlation": cross_correlation_distance(self.real, made),
            "spectra": spectral_distance(real, full),
        }
        if min(len(self.real), len(made)) >= FEWEST:
            found |= discriminative_score(*alike(self.then, made), together=self.sharing_then)
            found["predictive"] = predictive_score(real, full)
            paths = (np.where(self.walks, np.cumsum(each, 1), each) for each in (real, full))
            found["signature"] = signature_distance(*paths, together=self.together)
        facts = self._facts(made, 1)
        verdicts = shown(self.facts, facts)
        if verdicts:
            inside = sum(word == "inside" for word in verdicts.values())
            found["facts"] = Measure(float(inside), None, None, "facts", "higher", f"of {len(verdicts)}")
        kept = {name: measure for name, measure in {**found, **facts}.items() if measure is not None}
        return kept, verdicts

    def drawn(self, x: np.ndarray | None = None) -> dict[str, Any]:
        """What the page draws, as plain values: of raw samples (n, channels, T), or of unseen real windows."""
        values = self.real if x is None else self._learned(x, self._gaps(x))
        lags = np.arange(1, min(LAGS, len(lags_of(values.shape[1]))) + 1)
        found = autocorrelation(values[:, :, :DRAWN], lags)
        known = ~np.isnan(values)
        means = np.where(known, values, 0).sum((0, 1)) / np.maximum(known.sum((0, 1)), 1)
        sizes = np.abs(values - means)[:, :, :DRAWN]
        # Real windows in order of time are alike: some from all over.
        rows = np.linspace(0, len(values) - 1, CURVES + 2).round().astype(int)[1:-1]
        levels = self.modality.export((self.x if x is None else x)[rows])[:, :, :DRAWN]
        return {
            "columns": [each.column.name for each in self.modality.channels][:PAIRED],
            "kinds": [each.kind for each in self.modality.channels][:PAIRED],
            "curves": plain_numbers(levels.transpose(2, 0, 1)),
            "lags": lags.tolist(),
            "autocorrelation": plain_numbers(found.T),
            "of_sizes": plain_numbers(autocorrelation(sizes, lags).T),
            "edges": [plain_numbers(edges) for edges in self.edges[:DRAWN]],
            "histograms": [
                plain_numbers(_shares(values[:, :, c], edges)) for c, edges in enumerate(self.edges[:DRAWN])
            ],
            "correlation": plain_numbers(correlation(values[:, :, :PAIRED])) if values.shape[2] > 1 else [],
            "facts": {key: measure.record() for key, measure in (self.facts if x is None else {}).items()},
        }  # fmt: skip


def _edges(values: np.ndarray) -> np.ndarray:
    """Of the bins of a histogram; a variable that no test window has is drawn from 0 to 1."""
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, [0.002, 0.998]) if len(known) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the values in each bin; those beyond the ends are in the last ones."""
    known = values[~np.isnan(values)]
    return np.histogram(known.clip(edges[0], edges[-1]), edges)[0] / max(len(known), 1)


def plain_numbers(values: np.ndarray) -> Any:
    """Nested lists, four digits each."""
    if values.ndim:
        return [plain_numbers(each) for each in values]
    return float(f"{float(values):.4g}") if np.isfinite(values) else None


def told(verdicts: dict[str, str]) -> str:
    """What became of the stylised facts, in words; '' where there are no returns."""
    missed = [fact.title.lower() for fact in FACTS if verdicts.get(fact.key) == "missed"]
    if not any(fact.key in verdicts for fact in FACTS):
        return ""
    return f"missed: {', '.join(missed)}" if missed else "all inside the real data's interval"
