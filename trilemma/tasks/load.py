"""`load`: a run folder as an object with one method per task that its model can do."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from trilemma.batches import Arrays, Batch, Options, Request
from trilemma.conditions import tell
from trilemma.errors import InputError
from trilemma.latent import Coder, Latent
from trilemma.maths.noise import Noise
from trilemma.maths.signals import estimated_noise, spherical
from trilemma.modalities.attributes import NAME as ATTRIBUTES
from trilemma.modalities.contract import Data, Gaps, Modality, Opening
from trilemma.modalities.door import modality, open_data
from trilemma.models.contract import (
    CAPABILITIES,
    Decodes,
    Denoises,
    Encodes,
    Fills,
    Model,
    Scores,
    Styles,
    Translates,
)
from trilemma.spaces import Categorical, Clusters
from trilemma.tasks.abilities import ONLY, TASKS, TRANSLATORS, models_that, needs, works
from trilemma.training.choose import fewest_steps
from trilemma.training.engine import Engine, bf16_possible
from trilemma.training.restore import restore
from trilemma.training.run import Run, write_json
from trilemma.training.sampling import BATCH, Prompt, Sampler, merged
from trilemma.words import Words

if TYPE_CHECKING:
    from trilemma.tasks.alarms import Alarms  # pandas is for tables and series only
    from trilemma.tasks.detect import Anomalies
    from trilemma.tasks.forecast import Forecast
    from trilemma.tasks.risk import Risk
    from trilemma.tasks.search import Classes, Hits
    from trilemma.tasks.styles import Projection

PARTS = (4, 16, 64, BATCH)  # of a stream: the first samples soon, then as many as are fast


@dataclass
class Inputs:
    """Files or arrays as a model takes them, read once."""

    x: np.ndarray  # (n, channels, *grid) raw
    names: list[str]


# What a model of codes cannot do, and why.
OF_DATA = {
    "score": "this model knows codes, and codes have no likelihood of the data themselves",
    "denoise": "this model takes noise off codes; it knows nothing of noise on the data themselves",
}


class Loaded:
    """A trained model at work. Arrays go in and out as people have them: (n, H, W[, C]) uint8 images, (n, D) points."""

    def __init__(self, folder: str | Path, *, networks: dict[str, nn.Module] | None = None, device: str | None = None):
        self.run = Run.at(folder)
        self.config = self.run.config()
        training = self.config["training"]
        # A state trained in bf16 was chosen in bf16; a machine that would have to emulate it computes in float32.
        possible = training["dtype"] != "bfloat16" or bf16_possible(device)
        dtype = training["dtype"] if possible else "float32"
        self.engine = Engine(dtype=dtype, threads=training["threads"], device=device)
        self._said: set[str] = set()
        self.model: Model = restore(self.run, self.engine, networks=networks)
        data = self.config["data"]
        self.modality = modality(data["kind"]).from_description(data["modality"])
        self.space = self.model.space  # with the statistics that were fitted: they are saved with the weights
        self.label_names: list[str] = data["label_names"]
        self.attributes: list[Any] = columns_from(data.get("attributes") or [])
        self.options = Options(**{k: _tuple(v) for k, v in (self.run.choices().get("options") or {}).items()})
        self.sampler = Sampler(self.model, self.engine, frequencies=data["frequencies"], dtype=np.dtype(data["dtype"]))

    # --- what it can do ---

    def can(self) -> list[str]:
        """Names of the tasks that this run can do."""
        tasks = [task for task in TASKS if works(type(self.model), self.modality.kind, task)]
        tasks = [task for task in tasks if not (task in OF_DATA and self.space is not self.space.outer)]
        return [task for task in tasks if (task in TRANSLATORS if self.translates else task != "translate")]

    @property
    def translates(self) -> bool:
        """Has this run learned from sources?"""
        return isinstance(self.model, Translates) and self.model.can_translate()

    def _fills(self, task: str, needed: str | None = None) -> None:
        self.require(needed or task)
        if not (isinstance(self.model, Fills) and self.model.can_fill()):
            raise InputError(f"{task}: this run has not learned to fill in; train it with --set model.given=0.25")

    def require(self, task: str) -> None:
        """InputError where this run's model or kind of data cannot do the task."""
        if self.translates and task not in TRANSLATORS:
            raise InputError(f"{task}: this run has learned to translate; it can {' and '.join(TRANSLATORS)}")
        if not needs(type(self.model), task):
            able = ", ".join(models_that(task))
            raise InputError(f"{self.config['model']} cannot {task}; models that can: {able}")
        if not works(type(self.model), self.modality.kind, task):
            raise InputError(f"{task}: is for data of kind {' or '.join(ONLY[task])}, not {self.modality.kind}")
        if task in OF_DATA and self.space is not self.space.outer:
            raise InputError(f"{task}: {OF_DATA[task]}; take a run that was trained without an autoencoder")
        if task == "translate" and not self.translates:
            raise InputError("translate: this run was trained on one set; train one on two: trilemma train DATA DATA2")

    def info(self) -> dict[str, Any]:
        """What this run is: data, model, budget, choices, what it can do."""
        seen = [row["seen"] for row in self.run.stats() if "seen" in row and "event" not in row]
        if not seen and self.run.finished:  # one that was pulled has no history with it
            seen = [self.config["training"]["examples"]]
        return {
            "model": self.config["model"],
            "size": self.config["size"],
            "data": self.config["data"]["name"],
            "shape": list(self.space.outer.shape),
            "labels": self.label_names,
            "finished": self.run.finished,
            "examples": f"{max(seen, default=0):,} of {self.config['training']['examples']:,}",
            "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            "dtype": self.config["training"]["dtype"],
            "seed": self.config["seed"],
            **self._coding(),
            "capabilities": [kind.__name__ for kind in CAPABILITIES if isinstance(self.model, kind)],
            "tasks": self.can(),
            "choices": self.run.choices(),
        }

    def _coding(self) -> dict[str, Any]:
        """Of an autoencoder with codes on a grid, or of one within this model: their shape, and how many there are."""
        coder = self.space.autoencoder if isinstance(self.space, Latent) else self.model
        if not isinstance(coder, Coder):
            return {}
        codes: dict[str, Any] = {"shape": list(coder.code_shape)}
        if coder.token_count:
            places = math.prod(coder.code_shape[1:])
            codes |= {"entries": coder.token_count, "bits an example": round(places * math.log2(coder.token_count), 1)}
        return {"codes": codes}

    # --- tasks ---

    def read(self, source: Any) -> Inputs:
        """Files, arrays or images as inputs of the tasks below, with a name for each: rows keep this order."""
        return source if isinstance(source, Inputs) else Inputs(*self.modality.read(source, self.space.outer))

    def generate(
        self,
        n: int = 64,
        *,
        seed: int = 0,
        label: str | int | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        eta: float | None = None,
        interval: tuple[float, float] | None = None,
        prior: str | None = None,
        truncation: float | None = None,
        noise_seed: int | None = None,
        start: int = 0,
        where: str | None = None,
        balance: str | None = None,
        length: int | None = None,
        prompt: str | None = None,
        negative: str | None = None,
        raw: bool = False,
    ) -> np.ndarray:
        """n samples; number i depends on (seed, start + i) alone. Without `label`, labels follow the training data.

        prompt: what to make, in words, of models that have learned from captions; negative: what guidance leads away
        from. Without a prompt captions are those of training examples.

        where: conditions that all rows of a table meet, as 'sex = Female and age > 60', or by which attributes that
        pictures were learned with are chosen, as 'hair = black and smiling = yes'.
        guidance, interval: strength, and the noise levels s (of data of unit variance) between which it acts. eta:
        noise that ddim adds, 0 to 1. Of models with styles, truncation: styles go this share of their way from the
        mean one (less: less varied, more usual); noise_seed: other noise in the layers, the same styles. Of tables,
        balance: a category whose values come equally often. Of series, length: steps of each, as many as you like, by
        models that fill in. raw: (n, channels, *grid) instead of arrays as people have
        them, a data frame for tables.
        """
        asked = Options(steps, sampler, guidance, interval, eta, prior, truncation, noise_seed)
        told = self.prompted(prompt, negative)
        if where is not None and self.attributes:
            told, where = self.pooled(where, label), None
        if where is not None or balance is not None or length is not None:
            self.require("generate")
            self.check_options(asked)
            if n < 1:
                raise InputError(f"-n {n}: ask for at least one sample")
        if length is not None:
            from trilemma.tasks.series import lengthened, series_of

            if where is not None or balance is not None:
                raise InputError("--length goes without --where and --balance; leave it or them out")
            own = series_of(self.modality, "--length")
            self._fills("--length", "forecast")
            number, options = self.label(label), merged(self.options, asked)
            x = lengthened(self.sampler, own, n, length, label=number, seed=seed, start=start, options=options)
            return x if raw else self.shown(label).export(x)
        if where is not None or balance is not None:
            from trilemma.tasks import tables  # pandas is for tables only

            options = merged(self.options, asked)
            self.label(label)
            x = tables.asked(
                self.sampler, self.modality, n, where=where, balance=balance, seed=seed, start=start, options=options
            )
            return x if raw else self.modality.export(x)
        parts = self._parts(n, [BATCH], seed=seed, label=label, asked=asked, start=start, prompt=told)
        x = np.concatenate(list(parts))
        return x if raw else self.shown(label).export(x)

    def fewest_steps(self, *, quiet: bool = False) -> int:
        """The fewest sampler steps that are as good as any, on the held-out choose split of the run's own data.

        A training that had the time has chosen them; otherwise they are found now, and kept for the next time.

        Raises:
            InputError: a model without steps; data that are not where they were, or changed.
        """
        self.require("generate")
        if "steps" not in self.config["config"]:
            raise InputError(f"--steps auto: {self.config['model']} samples in one call; leave it out")
        choices, default = self.run.choices(), int(self.config["config"]["steps"])
        tried = [row.get("steps") for row in (choices.get("chosen_by") or {}).get("tried", [])]
        if "fewest_steps" in choices or len(set(tried)) > 1:
            return self.options.steps or default
        data = self.data("--steps auto", "give a number of steps")
        found = fewest_steps(data, self.sampler, self.options, default=default, quiet=quiet)
        self.options = replace(self.options, steps=found["steps"])
        if self.run.finished:
            kept = {**choices, "options": asdict(self.options), "fewest_steps": found}
            write_json(self.run.choices_file, kept)
        return int(found["steps"])

    def data(self, what: str, instead: str) -> Data:
        """What the run was trained on, opened anew. InputError, in words for `what`, where it is not there any more."""
        source, data2 = (self.config["asked"].get(key) for key in ("source", "data2"))
        if "array" in (source, data2):
            raise InputError(f"{what}: this run was trained on an array, which is not here; {instead}")
        opening = Opening(**{key: _tuple(value) for key, value in self.config["data"]["opening"].items()})
        data = open_data(source, opening=opening, data2=data2)
        if data.hash != self.config["data"]["hash"]:
            raise InputError(f"{what}: {source} is not what the run was trained on; {instead}")
        return data

    def stream(
        self,
        n: int,
        *,
        seed: int = 0,
        label: str | int | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        eta: float | None = None,
        interval: tuple[float, float] | None = None,
        prior: str | None = None,
        truncation: float | None = None,
        noise_seed: int | None = None,
        start: int = 0,
        where: str | None = None,
        prompt: str | None = None,
        negative: str | None = None,
        raw: bool = False,
    ) -> Iterator[np.ndarray]:
        """The samples of `generate` in parts, the first ones at once: 4 of them, then 16, 64 and 250 at a time."""
        asked = Options(steps, sampler, guidance, interval, eta, prior, truncation, noise_seed)
        told = self.prompted(prompt, negative) if where is None else self.pooled(where, label)
        parts = self._parts(n, PARTS, seed=seed, label=label, asked=asked, start=start, prompt=told)
        return parts if raw else map(self.shown(label).export, parts)

    def _parts(
        self, n: int, sizes: Sequence[int], *, seed: int, label: str | int | None, asked: Options, start: int,
        prompt: Prompt | None = None,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """n samples in parts of these sizes, the last size repeated. What is asked is checked before the first part."""
        self.require("generate")
        if n < 1:
            raise InputError(f"-n {n}: ask for at least one sample")
        self.check_options(asked)
        options, number = merged(self.options, asked), self.label(label)

        def made() -> Iterator[np.ndarray]:
            done, left = 0, [*sizes]
            while done < n:
                count = min(left.pop(0) if len(left) > 1 else left[0], n - done)
                yield self.sampler.samples(
                    count, seed=seed, start=start + done, label=number, options=options, prompt=prompt
                )
                done += count

        return made()

    def reconstruct(self, source: Any, *, random: bool = False, seed: int = 0, raw: bool = False) -> np.ndarray:
        """decode(encode(x)) of files or arrays; with `random`, from a draw of the posterior instead of its mean."""
        self.require("reconstruct")
        x = np.concatenate([self._decode(codes, b) for codes, b in self._codes(source, random, seed)])
        return x if raw else self.modality.export(x)

    def embed(self, source: Any) -> np.ndarray:
        """Codes (n, D) of files or arrays."""
        self.require("embed")
        return np.concatenate([codes.float().cpu().numpy() for codes, _ in self._codes(source, False, 0)])

    def score(self, source: Any, *, seed: int = 0) -> np.ndarray:
        """Log-likelihood (or its lower bound) in nats per example (n,), as a density of the data's own units."""
        self.require("score")
        assert isinstance(self.model, Scores)
        scores = []
        for batch in self._batches(source, seed):
            score = self.model.score(batch).detach().float()
            for name, shares in self.shares().items():
                if bool(batch.present[name].all()):
                    # log p(x) >= log p(x, label): of a score under a label only this is a bound.
                    score = score + shares[batch.raw[name][:, 0]].log()
            scores.append(score.cpu().numpy())
        return np.concatenate(scores)

    def impute(self, source: Any, *, draws: int = 5, seed: int = 0) -> Any:
        """A table or a series (a file or a data frame) with its gaps filled in, as a data frame: numbers by the mean of
        the draws, categories by their most frequent value."""
        return self.imputations(source, draws=draws, seed=seed)[0]

    def imputations(self, source: Any, *, draws: int = 5, seed: int = 0) -> list[Any]:
        """What `impute` gives, and after it the draws themselves: each a whole table, as plausible as the others."""
        gaps, middle, made = self.drawn(source, draws=draws, seed=seed)
        return [self.modality.filled(gaps, rows) for rows in [middle, *made]]

    def drawn(self, source: Any, *, draws: int, seed: int) -> tuple[Gaps, np.ndarray, list[np.ndarray]]:
        """`imputations` as raw rows, and what was read."""
        self._fills("impute")
        if self.modality.kind == "series":
            from trilemma.tasks.series import impute
        else:
            from trilemma.tasks.tables import impute
        return impute(self.sampler, self.modality, source, draws=draws, seed=seed, options=self.options)

    def forecast(
        self, source: Any, *, horizon: int, draws: int = 200, seed: int = 0, most: int | None = None
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
            options=self.options,
            most=most,
        )

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
        from trilemma.tasks.stress import scenarios

        self.require("stress")
        shown, number = self.shown(label), self.label(label)
        x, _ = scenarios(self.sampler, shown, n, where, horizon=horizon, label=number, seed=seed, options=self.options)
        return x if raw else shown.export(x)

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
        asked = Options(steps=steps)
        self.check_options(asked)
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
            options=merged(self.options, asked),
        )

    def translate(
        self, source: Any, *, n: int = 1, to: str | None = None, seed: int = 0, steps: int | None = None,
        raw: bool = False,
    ) -> Any:  # fmt: skip
        """Pictures of any size, translated: (N, H, W[, C]), with n > 1 (N, n, H, W[, C]); a list where sizes differ.

        n: draws of each, of models that draw. to: 'b', or 'a' for the way back, of models that learn both. raw:
        channels first.
        """
        made = list(self.translations(source, n=n, to=to, seed=seed, steps=steps)[1])
        made = made if raw else [self.modality.export(x) for x in made]
        made = [x if n > 1 else x[0] for x in made]
        return np.stack(made) if len({x.shape for x in made}) == 1 else made

    def sides(self) -> tuple[str, str]:
        """The names of the two sides, sources first."""
        asked = self.config["asked"]
        one, two = (Path(asked.get(key) or "").name or key for key in ("source", "data2"))
        return one, two

    def translations(
        self, source: Any, *, n: int = 1, to: str | None = None, seed: int = 0, steps: int | None = None
    ) -> tuple[list[str], Iterator[np.ndarray]]:
        """`translate`, picture by picture: the names of all, and raw (n, channels, H, W) of each in turn."""
        from trilemma.tasks.translate import Plan, direction, translated

        self.require("translate")
        asked, data = Options(steps=steps), self.config["data"]
        self.check_options(asked)
        if n < 1:
            raise InputError(f"-n {n}: ask for at least one draw")
        back = direction(to, self.sides())
        scale = data.get("scale_back" if back else "scale")
        maps = "source" in self.model.spaces and isinstance(self.model.spaces["source"], Categorical)
        plan = Plan(self.space.grid, scale, data["opening"].get("degradation"), maps)  # type: ignore[arg-type]
        return translated(
            self.sampler, self.modality, source, plan, back=back, draws=n, seed=seed,
            options=merged(self.options, asked),
        )  # fmt: skip

    def detect(self, source: Any, *, false_alarms: float = 0.01, normal: Any = None, seed: int = 0) -> Any:
        """The rows of a table or a series as a data frame, with `anomaly`, `p_value`, `alarm`, `because`: see
        `tasks/detect.py` and, of series, `tasks/alarms.py`.

        false_alarms: share of rows like the run's own that may raise an alarm. normal: rows to hold the new ones
        against; None: those of the run's data that it did not learn from.
        """
        return self.anomalies(source, false_alarms=false_alarms, normal=normal, seed=seed).frame()

    def anomalies(self, source: Any, *, false_alarms: float, normal: Any, seed: int) -> Anomalies | Alarms:
        """What `detect` finds, with the part that each column has in it."""
        self.require("detect")
        data = None if normal is not None else self.data("detect", "give what is normal: --normal FILE")
        if self.modality.kind == "series":
            from trilemma.tasks import alarms, series

            own = series.series_of(self.modality, "detect")
            normal = alarms.unseen(own, self.config["asked"]["source"]) if data else normal
            return alarms.detect(self.sampler, own, source, false_alarms=false_alarms, normal=normal, seed=seed)
        from trilemma.tasks.detect import detect, unseen

        normal = unseen(data) if data else normal
        return detect(self.sampler, self.modality, source, false_alarms=false_alarms, normal=normal, seed=seed)

    def denoise(self, source: Any, *, sigma: float | None = None, raw: bool = False) -> np.ndarray:
        """Inputs without their noise. sigma: its deviation in units of the data's own; None: estimated per example."""
        self.require("denoise")
        assert isinstance(self.model, Denoises)
        if sigma is not None and not 0 < sigma < np.inf:
            raise InputError(f"--sigma {sigma:g}: give the noise's deviation, larger than 0 (the data's own is 1)")
        cleaned = []
        for batch in self._batches(source, 0):
            x = self.space.embed(batch.x)
            level = estimated_noise(x) if sigma is None else torch.full((len(x),), sigma, device=x.device)
            with torch.no_grad(), self.engine.autocast():
                # Noise would choose among the clusters: none is told.
                present = {name: here for name, here in batch.present.items() if name != "cluster"}
                request = Request(batch.noise, {name: batch.raw[name] for name in present}, present)
                clean = self.model.denoise(x, level, request)
            cleaned.append(self.sampler.array(self.space.decode(clean.float())))
        result = np.concatenate(cleaned)
        return result if raw else self.modality.export(result)

    def interpolate(
        self, first: Any = 0, second: Any = 1, *, steps: int = 9, seed: int = 0, space: str = "z", raw: bool = False
    ) -> np.ndarray:
        """`steps` examples on the way from one to another: two files (models that encode) or two sample numbers.

        space: 'z', through codes, or 'w', straight through the styles that they become (models with styles).
        """
        self.require("interpolate")
        if steps < 2:
            raise InputError(f"--steps {steps}: a way has at least two ends")
        if space not in ("z", "w"):
            raise InputError(f"--space {space}: give z (codes) or w (styles)")
        if space == "w":
            self.require("mix")
        codes, request = self._ends(first, second, seed)
        if space == "w":
            from trilemma.tasks.styles import way_in_styles

            x = way_in_styles(self.sampler, codes, request, steps=steps, seed=seed)
            return x if raw else self.modality.export(x)
        t = torch.linspace(0, 1, steps, device=codes.device).unsqueeze(1)
        way = spherical(codes[:1], codes[1:], t)
        # Conditions go the way too, as shares of the two ends' values; others are those of the nearer end.
        end = (torch.arange(steps, device=codes.device) * 2 >= steps).long()
        between, present = ({name: value[end] for name, value in one.items()} for one in (request.raw, request.present))
        for name, shares in self.shares().items():
            ends = one_hot(request.raw[name][:, 0], len(shares)).float()
            between[name] = torch.lerp(ends[:1], ends[1:], t)
        request = Request(Noise(seed, np.zeros(steps)), between, present)
        x = self._decoded(way, request)
        return x if raw else self.modality.export(x)

    def traverse(
        self, source: Any = None, *, dimensions: int = 8, steps: int = 9, reach: float = 2.5, seed: int = 0,
        raw: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """(dimensions, steps, ...) examples: each of the most used code dimensions varied alone, +-reach deviations."""
        self.require("traverse")
        if dimensions < 1 or steps < 2:
            raise InputError(f"--dimensions {dimensions} --steps {steps}: at least one dimension and two values of it")
        sample = self.generate(256, seed=seed, raw=True)
        codes = self.embed(self.modality.export(sample)) if source is None else self.embed(source)
        deviation = codes.std(0) if len(codes) > 1 else np.ones(codes.shape[1])
        order = np.argsort(-deviation)[:dimensions]
        rows = []
        for dimension in order:
            way = np.repeat(codes[:1], steps, 0)
            way[:, dimension] = codes[:, dimension].mean() + np.linspace(-reach, reach, steps) * deviation[dimension]
            request = self.sampler.request(seed, np.zeros(steps, dtype=np.int64))
            x = self._decoded(torch.from_numpy(way).float(), request)
            rows.append(x if raw else self.modality.export(x))
        return np.stack(rows)

    # Of captions: see tasks/search.py.

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

    # Of styles: see tasks/control.py.

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
        label: str | int | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        raw: bool = False,
    ) -> np.ndarray:
        """n others of each file or array, one after the other: noise takes part of it away, and that is drawn anew.

        strength: 0 leaves it as it is, 1 leaves nothing of it. prompt, negative, label: what to turn it into.
        """
        from trilemma.tasks.vary import varied

        self.require("vary")
        x = varied(
            self, source, draws=n, strength=strength, prompt=self.prompted(prompt, negative), label=self.label(label),
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

    def film(self, n: int = 8, *, seed: int = 0, frames: int = 10) -> np.ndarray:
        """(frames, n, channels, *grid) raw: the model's estimate at moments of the way from noise to data."""
        seen: list[np.ndarray] = []

        def watch(step: int, clean: Tensor) -> None:
            seen.append(self.sampler.array(self.space.decode(clean.float())))

        final = next(self.sampler.stream(n, seed=seed, options=self.options, watch=watch))
        if not seen:
            return final[None]
        chosen = np.linspace(0, len(seen) - 1, frames - 1).round().astype(int)
        return np.stack([*(seen[i] for i in chosen), final])

    def noised(self, source: Any, *, seed: int = 0, frames: int = 10) -> np.ndarray:
        """(frames, n, channels, *grid) raw: inputs on their way to noise, x + s noise, scaled by 1 / sqrt(1 + s^2)."""
        self.require("denoise")
        levels = [0.0, *np.geomspace(0.05, 20.0, frames - 1)]  # of s; the data have unit variance
        parts: list[list[np.ndarray]] = [[] for _ in levels]
        for batch in self._batches(source, seed):
            x = self.space.embed(batch.x)
            noise = batch.noise.normal(*x.shape[1:])
            for part, s in zip(parts, levels, strict=True):
                part.append(self.sampler.array(self.space.decode((x + s * noise) / (1 + s**2) ** 0.5)))
        return np.stack([np.concatenate(part) for part in parts])

    def export(self, out: str | Path, *, to: str = "onnx") -> list[Path]:
        """Write what this run is used for as ONNX files and an export.json into a folder; see tasks/export.py."""
        from trilemma.tasks.export import export

        return export(self, out, to=to)

    # --- how ---

    def label(self, given: str | int | None) -> int | None:
        """A label's number from its name or number."""
        if given is None:
            return None
        space = self.config["spaces"].get("label")
        if space is None:
            raise InputError("--label: this model was trained on data without labels")
        if str(given) in self.label_names:
            return self.label_names.index(str(given))
        if str(given).lstrip("-").isdigit() and 0 <= int(given) < space["count"]:
            return int(given)
        known = ", ".join(self.label_names[:20]) or f"0 ... {space['count'] - 1}"
        raise InputError(f"--label {given!r}: unknown. Known: {known}")

    def say(self, words: str) -> None:
        """Once, on stderr."""
        if words not in self._said:
            self._said.add(words)
            print(words, file=sys.stderr)

    def prompted(self, prompt: str | None, negative: str | None = None) -> Prompt | None:
        """Words as the model reads them; what it does not know or cuts off is said on stderr."""
        from trilemma.tasks.prompts import prompted

        return prompted(self, prompt, negative)

    def pooled(self, where: str, label: str | int | None = None) -> Prompt:
        """Attributes to ask for, of pictures that were learned with some: rows that meet the conditions."""
        from trilemma.tasks.prompts import pooled

        if not self.attributes:
            raise InputError("--where is for tables, and for pictures with attributes (columns of a metadata.csv)")
        return pooled(self, where, self.label(label))

    def shown(self, label: str | int | None) -> Modality:
        """The modality as it writes what was made for a label: of a series, from that entity's levels on."""
        if self.modality.kind != "series" or label is None:
            return self.modality
        from trilemma.tasks.series import series_of

        return series_of(self.modality, "generate").of(self.label(label))

    def check_options(self, asked: Options) -> None:
        """A setting that this model does not have is an error, not a wish that is passed over."""
        steps, guidance, eta, interval = asked.steps, asked.guidance, asked.eta, asked.interval
        for name, told in (("truncation", asked.truncation), ("noise-seed", asked.noise_seed)):
            if told is not None and not isinstance(self.model, Styles):
                raise InputError(f"--{name} {told:g}: {self.config['model']} has no styles; leave it out")
        if asked.truncation is not None and not np.isfinite(asked.truncation):
            raise InputError(f"--truncation {asked.truncation}: give a number, such as 0.7")
        for name in ("guidance", "steps", "sampler", "eta", "interval"):
            value = getattr(asked, name)
            if value is not None and name not in self.config["config"]:
                raise InputError(f"--{name} {value}: {self.config['model']} has no such setting; leave it out")
        if steps is not None and steps < 1:
            raise InputError(f"--steps {steps}: a sampler needs at least one step")
        worded = any(isinstance(space, Words) for space in self.model.spaces.values())
        if guidance is not None and not (self.shares() or worded or self.attributes):
            raise InputError(f"--guidance {guidance:g}: this model was trained without any condition; leave it out")
        if guidance is not None and not np.isfinite(guidance):
            raise InputError(f"--guidance {guidance}: give a number, such as 1.5")
        if eta is not None and not 0 <= eta <= 1:
            raise InputError(f"--eta {eta:g}: give a number from 0 (no fresh noise) to 1 (as much as ddpm)")
        if interval is not None and not 0 <= interval[0] < interval[1]:
            raise InputError(f"--interval {interval[0]:g},{interval[1]:g}: give two noise levels, the lower one first")

    def _batches(self, source: Any, seed: int) -> list[Batch]:
        arrays = Arrays(self.read(source).x)
        batches = list(arrays.batches(BATCH, seed=seed, device=str(self.engine.device)))
        for batch in batches:
            tell(self.model.spaces, batch)
            if self.attributes:
                batch.raw[ATTRIBUTES] = torch.full((len(batch), len(self.attributes)), torch.nan).to(batch.x.device)
                batch.present[ATTRIBUTES] = torch.zeros(len(batch), dtype=torch.bool, device=batch.x.device)
            if "label" in self.config["spaces"]:
                self._fill_label(batch)
        return batches

    def shares(self) -> dict[str, Tensor]:
        """Of each condition that has values: their shares in the training data."""
        found = {}
        if self.sampler.frequencies:
            found["label"] = torch.tensor(self.sampler.frequencies, device=self.engine.device)
        return found | {n: space.shares for n, space in self.model.spaces.items() if isinstance(space, Clusters)}

    def _fill_label(self, batch: Batch) -> None:
        """Inputs of a task come without labels. A model with codes learned under labels only, so that the one under
        which it repeats the input best stands in; the others have learned without labels too, and get none."""
        model, frequencies, device = self.model, self.sampler.frequencies or [], batch.x.device
        batch.raw["label"] = torch.zeros(len(batch), 1, dtype=torch.long, device=device)
        batch.present["label"] = torch.zeros(len(batch), dtype=torch.bool, device=device)
        if not (isinstance(model, Encodes) and isinstance(model, Decodes)):
            return
        batch.present["label"] = ~batch.present["label"]
        x, errors = self.space.embed(batch.x).flatten(1), []
        with torch.no_grad(), self.engine.autocast():
            for label, share in enumerate(frequencies):
                batch.raw["label"] = torch.full_like(batch.raw["label"], label)
                again = model.decode(model.encode(batch), Request(batch.noise, batch.raw, batch.present))
                error = (self.space.embed(again).flatten(1) - x).float().square().mean(1)
                errors.append(error if share > 0 else torch.full_like(error, np.inf))
        batch.raw["label"] = torch.stack(errors).argmin(0).unsqueeze(1)

    def _codes(self, source: Any, random: bool, seed: int) -> list[tuple[Tensor, Batch]]:
        assert isinstance(self.model, Encodes)
        pairs = []
        for batch in self._batches(source, seed):
            with torch.no_grad(), self.engine.autocast():
                pairs.append((self.model.encode(batch, random=random), batch))
        return pairs

    def _decode(self, codes: Tensor, batch: Batch) -> np.ndarray:
        return self._decoded(codes, Request(batch.noise, batch.raw, batch.present))

    def _decoded(self, codes: Tensor, request: Request) -> np.ndarray:
        assert isinstance(self.model, Decodes)
        with torch.no_grad(), self.engine.autocast():
            return self.sampler.array(self.model.decode(codes.to(self.engine.device), request))

    def _ends(self, first: Any, second: Any, seed: int) -> tuple[Tensor, Request]:
        """Codes (2, D) of the two ends: of files where the model encodes, of sample numbers otherwise."""
        numbers = all(isinstance(end, int) or str(end).isdigit() for end in (first, second))
        if not numbers:
            if not isinstance(self.model, Encodes):
                able = ", ".join(models_that("embed"))
                raise InputError(
                    f"interpolate: {self.config['model']} has no codes of files; give samples' numbers, or take {able}"
                )
            ends = [next(iter(self._codes(end, False, seed))) for end in (first, second)]
            batches = [batch for _, batch in ends]
            raw = {name: torch.cat([batch.raw[name][:1] for batch in batches]) for name in batches[0].raw}
            present = {name: torch.cat([batch.present[name][:1] for batch in batches]) for name in batches[0].present}
            return torch.cat([codes[:1] for codes, _ in ends]), Request(batches[0].noise, raw, present)
        assert isinstance(self.model, Decodes)
        request = self.sampler.request(seed, np.array([int(first), int(second)]), options=self.options)
        with torch.no_grad():
            return self.model.draw(request), request


def load(folder: str | Path, *, networks: dict[str, nn.Module] | None = None) -> Loaded:
    """A trained (or unfinished) run, ready for every task its model can do."""
    return Loaded(folder, networks=networks)


def columns_from(described: list[dict[str, Any]]) -> list[Any]:
    """Attributes as a run's config.json has them."""
    if not described:
        return []
    from trilemma.modalities.columns import Column  # pandas is for data with attributes only

    return [Column.from_json(each) for each in described]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
