"""`load`: a run folder as an object with one method per task that its model can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from trilemma.batches import Options, Request
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.maths.signals import estimated_noise, spherical
from trilemma.models.contract import (
    Denoises,
    Scores,
)
from trilemma.tasks.jobs import Jobs
from trilemma.tasks.opened import samples_named
from trilemma.training.choose import fewest_steps
from trilemma.training.run import Run, write_json
from trilemma.training.sampling import BATCH, Prompt, merged

PARTS = (4, 16, 64, BATCH)  # of a stream: the first samples soon, then as many as are fast


class Loaded(Jobs):
    """A trained model at work. Arrays go in and out as people have them: (n, H, W[, C]) uint8 images, (n, D) points."""

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
        pictures or series were learned with are chosen, as 'hair = black and smiling = yes', 'region = north'.
        guidance, interval: strength, and the noise levels s (of data of unit variance) between which it acts. eta:
        noise that ddim adds, 0 to 1. Of models with styles, truncation: styles go this share of their way from the
        mean one (less: less varied, more usual); noise_seed: other noise in the layers, the same styles. Of tables,
        balance: a category whose values come equally often. Of series, length: steps of each, as many as you like, by
        models that fill in. raw: (n, channels, *grid) instead of arrays as people have
        them, a data frame for tables.
        """
        asked = Options(steps, sampler, guidance, interval, eta, prior, truncation, noise_seed)
        picked = where if self.attributes else None
        told, where = self.asked(prompt, negative, picked, label), None if picked else where
        if where is not None or balance is not None or length is not None:
            self.require("generate")
            self.check_options(asked)
            if n < 1:
                raise InputError(f"-n {n}: ask for at least one sample")
        if length is not None:
            from trilemma.tasks.series import lengthened, series_of

            if where is not None or balance is not None:
                raise InputError("--length goes without --balance, and with --where of attributes only; leave one out")
            own = series_of(self.modality, "--length")
            self._fills("--length", "forecast")
            number, options = self.label(label), merged(self.lawful, asked)
            x = lengthened(
                self.sampler, own, n, length, label=number, seed=seed, start=start, options=options, prompt=told
            )
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
        told = self.asked(prompt, negative, where, label)
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
        self.check_options(asked, prompt)
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

    def reconstruct(
        self, source: Any, *, random: bool = False, seed: int = 0, steps: int | None = None, raw: bool = False
    ) -> np.ndarray:
        """decode(encode(x)) of files or arrays; with `random`, from a draw of the posterior instead of its mean.

        steps: of diffusion, as many to the noise as from it; the more of them, the nearer it comes.
        """
        self.require("reconstruct")
        asked = Options(steps=steps)
        self.check_options(asked)
        pairs = self._codes(source, random=random, seed=seed, options=merged(self.lawful, asked))
        x = np.concatenate([self._decoded(codes, request) for codes, request in pairs])
        return x if raw else self.modality.export(x)

    def embed(self, source: Any) -> np.ndarray:
        """Codes (n, D) of files or arrays."""
        self.require("embed")
        return np.concatenate([codes.float().cpu().numpy() for codes, _ in self._codes(source)])

    def score(self, source: Any, *, seed: int = 0) -> np.ndarray:
        """Log-likelihood (or its lower bound) in nats per example (n,), as a density of the data's own units."""
        self.require("score")
        assert isinstance(self.model, Scores)
        scores = []
        for batch in self.prepared(source, seed):
            score = self.model.score(batch).detach().float()
            for name, shares in self.shares().items():
                if bool(batch.present[name].all()):
                    # log p(x) >= log p(x, label): of a score under a label only this is a bound.
                    score = score + shares[batch.raw[name][:, 0]].log()
            scores.append(score.cpu().numpy())
        return np.concatenate(scores)

    def denoise(self, source: Any, *, sigma: float | None = None, raw: bool = False) -> np.ndarray:
        """Inputs without their noise. sigma: its deviation in units of the data's own; None: estimated per example."""
        self.require("denoise")
        assert isinstance(self.model, Denoises)
        if sigma is not None and not 0 < sigma < np.inf:
            raise InputError(f"--sigma {sigma:g}: give the noise's deviation, larger than 0 (the data's own is 1)")
        cleaned = []
        for batch in self.prepared(source, 0):
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
        self, first: Any = 0, second: Any = 1, *, steps: int = 9, seed: int = 0, space: str = "z", raw: bool = False,
        quiet: bool = True, sampler_steps: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """`steps` examples on the way from one to another: two files (models that encode or have styles) or two sample
        numbers.

        sampler_steps: of diffusion, from noise to each of them, and from files to their noise.

        space: 'z', through codes, or 'w', straight through the styles that they become (models with styles), of files
        those that `project` finds.
        """
        self.require("interpolate")
        if steps < 2:
            raise InputError(f"--steps {steps}: a way has at least two ends")
        if space not in ("z", "w"):
            raise InputError(f"--space {space}: give z (codes) or w (styles)")
        if space == "w":
            self.require("mix")
            if not samples_named(first, second):
                from trilemma.tasks.styles import way_between

                x = np.concatenate([self.read(end).x[:1] for end in (first, second)])
                x = way_between(self.sampler, x, steps=steps, seed=seed, quiet=quiet)
                return x if raw else self.modality.export(x)
        asked = Options(steps=sampler_steps)
        self.check_options(asked)
        codes, request = self._ends(first, second, seed, asked)
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
        noise = Noise(seed, np.zeros(steps), self.engine.device)
        x = self._decoded(way, Request(noise, between, present, request.options))
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
        for batch in self.prepared(source, seed):
            x = self.space.embed(batch.x)
            noise = batch.noise.normal(*x.shape[1:])
            for part, s in zip(parts, levels, strict=True):
                part.append(self.sampler.array(self.space.decode((x + s * noise) / (1 + s**2) ** 0.5)))
        return np.stack([np.concatenate(part) for part in parts])


def load(folder: str | Path | Run, *, networks: dict[str, nn.Module] | None = None) -> Loaded:
    """A trained (or unfinished) run, its folder or what `train` gave, ready for every task its model can do."""
    return Loaded(folder, networks=networks)
