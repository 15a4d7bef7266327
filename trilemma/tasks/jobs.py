"""Tasks that have a file of their own, as methods of a run: one for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trilemma.batches import Options
from trilemma.errors import InputError
from trilemma.modalities.contract import Gaps
from trilemma.spaces import Categorical
from trilemma.tasks.opened import Opened
from trilemma.training.sampling import merged

if TYPE_CHECKING:
    from trilemma.tasks.alarms import Alarms  # pandas is for tables and series only
    from trilemma.tasks.detect import Anomalies
    from trilemma.tasks.forecast import Forecast
    from trilemma.tasks.oddities import Oddities
    from trilemma.tasks.risk import Risk
    from trilemma.tasks.search import Classes, Hits
    from trilemma.tasks.stress import Scenarios
    from trilemma.tasks.styles import Projection


class Jobs(Opened):
    """What `load` gives, without what it does itself."""

    def impute(self, source: Any, *, draws: int = 5, seed: int = 0, steps: int | None = None) -> Any:
        """A table or a series (a file or a data frame) with its gaps filled in, as a data frame: numbers by the mean of
        the draws, categories by their most frequent value."""
        return self.imputations(source, draws=draws, seed=seed, steps=steps)[0]

    def imputations(self, source: Any, *, draws: int = 5, seed: int = 0, steps: int | None = None) -> list[Any]:
        """What `impute` gives, and after it the draws themselves: each a whole table, as plausible as the others."""
        gaps, middle, made = self.drawn(source, draws=draws, seed=seed, steps=steps)
        return [self.modality.filled(gaps, rows) for rows in [middle, *made]]

    def drawn(
        self, source: Any, *, draws: int, seed: int, steps: int | None = None
    ) -> tuple[Gaps, np.ndarray, list[np.ndarray]]:
        """`imputations` as raw rows, and what was read."""
        self._fills("impute")
        options = self._lawful(steps)
        if self.modality.kind == "series":
            from trilemma.tasks.series import impute
        else:
            from trilemma.tasks.tables import impute
        return impute(self.sampler, self.modality, source, draws=draws, seed=seed, options=options)

    def _lawful(self, steps: int | None) -> Options:
        asked = Options(steps=steps)
        self.check_options(asked)
        return merged(self.lawful, asked)

    def forecast(
        self,
        source: Any,
        *,
        horizon: int,
        draws: int = 200,
        seed: int = 0,
        most: int | None = None,
        steps: int | None = None,
    ) -> Forecast:
        """`draws` futures of `horizon` steps after the end of each series in a file or a data frame.

        `.frame()` holds all draws, `.quantiles()` their quantiles, `.save(out)` writes both and a picture. most: how
        many of the last steps are looked at; None: all.
        """
        from trilemma.tasks.forecast import forecast

        self._fills("forecast")
        return forecast(
            self.sampler,
            self.modality,
            source,
            horizon=horizon,
            draws=draws,
            seed=seed,
            options=self._lawful(steps),
            most=most,
        )

    def factors(self, source: Any, factors: Any, *, codes: int = 8, seed: int = 0) -> Any:
        """How the most used codes of a series' windows go with a table of dates and known factors, and what each moves.

        A data frame, a row for each code and factor (see tasks/factors.py).
        """
        from trilemma.tasks.factors import known_factors

        self.require("traverse")
        if codes < 1:
            raise InputError(f"codes={codes}: at least one")
        return known_factors(self.sampler, self.modality, source, factors, codes=codes, seed=seed)

    def stress(
        self,
        where: str,
        n: int = 1000,
        *,
        horizon: int | None = None,
        label: str | int | None = None,
        seed: int = 0,
        raw: bool = False,
    ) -> np.ndarray:
        """n paths (n, T, columns) of a series that meet conditions, as 'AAPL return < -5%' (see tasks/stress.py).

        horizon: their steps; None: those of a window.
        """
        x = self.scenarios(where, n, horizon=horizon, label=label, seed=seed).x
        return x if raw else self.shown(label).export(x)

    def scenarios(
        self,
        where: str,
        n: int = 1000,
        *,
        horizon: int | None = None,
        label: str | int | None = None,
        weights: str | None = None,
        level: float = 0.99,
        seed: int = 0,
    ) -> Scenarios:
        """`stress` with how probable the conditions are: `.probability`, `.interval`, `.said()`, raw paths `.x`.

        where: also by attributes of several series, as 'region = north and sales return < -5%'; the probability is then
        that of the rest among paths that have them. weights: a portfolio 'A=0.5,B=0.5', whose loss given the conditions
        is `.given`.
        """
        from trilemma.modalities.scenario import parted
        from trilemma.tasks.stress import scenarios

        self.require("stress")
        paths, told = parted(where, [each.name for each in self.attributes])
        if not paths and told:
            raise InputError(f"--where {where!r}: says nothing of the path; `generate --where` makes such series")
        return scenarios(
            self.sampler, self.shown(label), n, paths, horizon=horizon, label=self.label(label), seed=seed,
            options=self.lawful, weights=weights, level=level, prompt=self.pooled(told, label) if told else None,
            given=told,
        )  # fmt: skip

    def risk(
        self,
        source: Any,
        *,
        weights: str | None = None,
        level: float = 0.99,
        horizon: int = 1,
        draws: int = 64,
        most: int | None = None,
        seed: int = 0,
        steps: int | None = None,
    ) -> Risk:
        """Value at risk and expected shortfall of a portfolio 'A=0.5,B=0.5' of a series' columns, and a backtest.

        `.frame()` holds the forecasts, `.tests()` Kupiec's and Christoffersen's tests of them (see tasks/risk.py).
        most: the last so many moments of the backtest; None: all of the last 15 % of the series.
        """
        from trilemma.tasks.risk import risk

        self._fills("risk")
        return risk(
            self.sampler,
            self.modality,
            source,
            weights=weights,
            level=level,
            horizon=horizon,
            draws=draws,
            most=most,
            seed=seed,
            options=self._lawful(steps),
        )

    def translate(
        self, source: Any, *, n: int = 1, to: str | None = None, seed: int = 0, steps: int | None = None,
        sampler: str | None = None, eta: float | None = None, raw: bool = False,
    ) -> Any:  # fmt: skip
        """Pictures of any size, translated: (N, H, W[, C]), with n > 1 (N, n, H, W[, C]); a list where sizes differ.

        n: draws of each, of models that draw. to: 'b', or 'a' for the way back, of models that learn both. eta: how
        much draws of a bridge differ, from 0 (not at all) to 1; the noise of ddim. raw: channels first.
        """
        made = list(self.translations(source, n=n, to=to, seed=seed, steps=steps, sampler=sampler, eta=eta)[1])
        made = made if raw else [self.modality.export(x) for x in made]
        made = [x if n > 1 else x[0] for x in made]
        return np.stack(made) if len({x.shape for x in made}) == 1 else made

    def sides(self) -> tuple[str, str]:
        """The names of the two sides, sources first: those of their folders, where there are two."""
        asked = self.config["asked"]
        if not asked.get("data2"):
            return "sources", "targets"
        return Path(asked["source"]).name, Path(asked["data2"]).name

    def translations(
        self, source: Any, *, n: int = 1, to: str | None = None, seed: int = 0, steps: int | None = None,
        sampler: str | None = None, eta: float | None = None,
    ) -> tuple[list[str], Iterator[np.ndarray]]:  # fmt: skip
        """`translate`, picture by picture: the names of all, and raw (n, channels, H, W) of each in turn."""
        from trilemma.tasks.translate import Plan, direction, translated

        self.require("translate")
        asked, data = Options(steps=steps, sampler=sampler, eta=eta), self.config["data"]
        self.check_options(asked)
        if n < 1:
            raise InputError(f"-n {n}: ask for at least one draw")
        back = direction(to, self.sides())
        scale = data.get("scale_back" if back else "scale")
        maps = "source" in self.model.spaces and isinstance(self.model.spaces["source"], Categorical)
        degradation = None if back else data["opening"].get("degradation")
        plan = Plan(self.space.grid, scale, degradation, maps)  # type: ignore[arg-type]
        return translated(
            self.sampler, self.modality, source, plan, back=back, draws=n, seed=seed,
            options=merged(self.options, asked),
        )  # fmt: skip

    def detect(self, source: Any, *, false_alarms: float = 0.01, normal: Any = None, seed: int = 0) -> Any:
        """The rows of a table or a series as a data frame, with `anomaly`, `p_value`, `alarm`, `because`: see
        `tasks/detect.py` and, of series, `tasks/alarms.py`; of pictures a row for each: `tasks/oddities.py`.

        false_alarms: share of rows (or pictures) like the run's own that may raise an alarm. normal: what to hold the
        new ones against; None: those of the run's data that it did not learn from.
        """
        return self.anomalies(source, false_alarms=false_alarms, normal=normal, seed=seed).frame()

    def anomalies(
        self, source: Any, *, false_alarms: float = 0.01, normal: Any = None, seed: int = 0
    ) -> Anomalies | Alarms | Oddities:
        """What `detect` finds, with the part that each column has in it; of pictures `.maps` of what is strange."""
        self.require("detect")
        data = None if normal is not None else self.data("detect", "give what is normal: --normal FILE or FOLDER")
        if self.modality.kind == "series":
            from trilemma.tasks import alarms, series

            own = series.series_of(self.modality, "detect")
            normal = alarms.unseen(own, self.config["asked"]["source"]) if data else normal
            return alarms.detect(self.sampler, own, source, false_alarms=false_alarms, normal=normal, seed=seed)
        if self.modality.kind == "image":
            from trilemma.tasks import oddities

            return oddities.detect(self, source, false_alarms=false_alarms, normal=data or normal, seed=seed)
        from trilemma.tasks.detect import detect, unseen

        normal = unseen(self.modality, data) if data else normal
        return detect(self.sampler, self.modality, source, false_alarms=false_alarms, normal=normal, seed=seed)

    def search(self, query: Any, source: Any = None, *, n: int = 8) -> Hits:
        """The n pictures of `source` (default: the run's own data) that go best with these words; of a picture the n
        captions of the run's data that go best with it: `.names`, `.scores` (cosines), of pictures `.x`."""
        from trilemma.tasks.search import search

        return search(self, query, source, n=n)

    def classify(self, source: Any, labels: Sequence[str] | None = None) -> Classes:
        """Which label goes with each picture, without training for it: `.found`, `.probabilities` (n, labels).

        labels: any words; default: the labels of the run's data, or its different captions.
        """
        from trilemma.tasks.search import classify

        return classify(self, source, labels)

    def mix(
        self,
        seeds: Sequence[int],
        *,
        columns: Sequence[int] | None = None,
        layers: str | None = None,
        label: str | int | None = None,
        truncation: float | None = None,
        raw: bool = False,
    ) -> np.ndarray:
        """(1 + seeds, 1 + columns, ...): sample 0 of each seed with each column's styles in `layers`, such as '3-4'."""
        from trilemma.tasks.control import mix

        return mix(self, seeds, columns=columns, layers=layers, label=label, truncation=truncation, raw=raw)

    def project(self, source: Any, *, steps: int = 300, tune: int = 0, seed: int = 0, quiet: bool = True) -> Projection:
        """Styles and noise under which the model makes these examples: `.styles`, `.psnr` (dB), `.decoded()`."""
        from trilemma.tasks.styles import project

        self.require("project")
        return project(self.sampler, self.read(source).x, steps=steps, tune=tune, seed=seed, quiet=quiet)

    def edit(
        self,
        source: Any = None,
        *,
        direction: str = "pca-1",
        amount: float | Sequence[float] = 2.0,
        number: int = 0,
        layers: str | None = None,
        seed: int = 0,
        steps: int = 300,
        tune: int = 0,
        raw: bool = False,
        quiet: bool = True,
    ) -> np.ndarray:
        """One example, or sample `number` of `seed`, moved along one of `direction_names()` by each amount."""
        from trilemma.tasks.control import edit

        return edit(
            self, source, direction=direction, amount=amount, number=number, layers=layers, seed=seed, steps=steps,
            tune=tune, raw=raw, quiet=quiet,
        )  # fmt: skip

    def vary(
        self,
        source: Any,
        *,
        n: int = 1,
        strength: float = 0.6,
        prompt: str | None = None,
        negative: str | None = None,
        where: str | None = None,
        label: str | int | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        raw: bool = False,
    ) -> np.ndarray:
        """n others of each file or array, one after the other: noise takes part of it away, and that is drawn anew.

        strength: 0 leaves it as it is, 1 leaves nothing of it. prompt, negative, where, label: what to turn it
        into; where: attributes, as 'smiling = yes', the others being free.
        """
        from trilemma.tasks.vary import varied

        self.require("vary")
        told = self.asked(prompt, negative, where, label, alone=True)
        x = varied(
            self, source, draws=n, strength=strength, prompt=told, label=self.label(label),
            asked=Options(steps=steps, guidance=guidance), seed=seed,
        )  # fmt: skip
        return x if raw else self.modality.export(x)

    def direction_names(self) -> list[str]:
        """Names of the directions of styles that `edit` takes."""
        from trilemma.tasks.styles import names_of

        self.require("edit")
        return names_of(self.sampler, self.label_names, self.attributes)

    def directions(
        self,
        names: Sequence[str] | None = None,
        *,
        steps: int = 7,
        reach: float = 3.0,
        seed: int = 0,
        raw: bool = False,
    ) -> np.ndarray:
        """(names, steps, ...): sample 0 of the seed moved along each direction, from -reach to reach."""
        from trilemma.tasks.control import directions

        return directions(self, names, steps=steps, reach=reach, seed=seed, raw=raw)

    def export(self, out: str | Path, *, to: str = "onnx") -> list[Path]:
        """Write what this run is used for as ONNX files and an export.json into a folder; see tasks/export.py."""
        from trilemma.tasks.export import export

        return export(self, out, to=to)
