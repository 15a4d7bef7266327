"""Before step 1: the size for the budget, what is fast on this machine, and a time budget turned into examples once."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trilemma.config import Training, Tuning
from trilemma.modalities.contract import Data
from trilemma.models.contract import Model, Samples
from trilemma.spaces import Categorical
from trilemma.training.choose import FIT, attempts, default_samples
from trilemma.training.engine import all_threads, peak_memory, processes
from trilemma.training.features import seconds_for
from trilemma.training.optimizers import MakeOptimizer
from trilemma.training.probe import Probe, compile_verdict, dtype_verdict, pace, threads_verdict
from trilemma.training.sampling import Sampler, label_frequencies, recodes, told_labels
from trilemma.training.shards import check

LEAST_BATCH = 16  # smaller ones lose more by their noise than they gain by more steps
WORTH_HALVING = 0.7  # of a step's seconds: a half batch that takes longer costs too many examples for its steps
COMMON_PLACES = 784  # of the grid on which the dial was tuned, with two threads
FEW_PLACES = 100  # no convolutions to speak of: other work decides how long a step takes
MOST_FOR_FEATURES = 0.2  # of a budget may go into the network behind the choices,
MOST_FOR_AVERAGES = 0.07  # or this share where averages are all that there is to choose
A_PREVIEW = 5000  # examples of a budget for each preview
FEW, FIT_OF_FEW = 20_000, 2000  # a budget of fewer examples chooses nothing, and fits a density on so many codes
LEAST_TO_CHOOSE = 150  # samples; fewer choose by chance: then the defaults are as good
FITTING = 1.2  # power of the number of codes with which the time of fitting a density grows, where it is not timed
SAFE_SECONDS = 20.0  # at most this much work is lost by a kill,
SAFE_SHARE = 0.04  # or this share of the budget


@dataclass
class Plan:
    """What will happen, in numbers; printed by `--dry-run`."""

    parameters: int
    examples: int
    steps: int
    dtype: str
    step_seconds: float | None
    train_seconds: float | None  # the loop alone
    total_seconds: float | None  # with probe, previews and choices
    aside_seconds: float | None  # of that, for what comes after the last step
    memory_bytes: int | None  # the most that the probe took; None where nothing was probed
    samples_per_second: float | None

    def text(self) -> str:
        lines = [
            f"parameters        {self.parameters:,}",
            f"training examples {self.examples:,} in {self.steps:,} steps",
        ]
        lines.append(f"precision         {self.dtype}")
        if self.memory_bytes is not None:
            lines.append(f"memory            about {self.memory_bytes / 2**20:,.0f} MiB")
        if self.total_seconds is not None:
            lines.append(f"finishes in       about {self.total_seconds:,.0f} s")
        return "\n".join(lines)


def _cores() -> int:
    """Threads that a training gains from: small networks gain little from more than four, a GPU needs none."""
    return 2 if torch.cuda.is_available() else min(all_threads(), 4)


def choose_size(data: Data, kind: str, amount: float, model_class: type[Model] = Model) -> str:
    """The dial's default: the budget's compute for the data's size. Small networks see more examples, and win early."""
    shape = (data.x if data.codes is None else data.codes).shape
    places = int(np.prod(shape[2:])) if len(shape) > 2 else 1
    if kind == "seconds":
        # Examples of many places take long, on a slow processor too: what counts is how many the budget holds.
        seconds = amount * min(1.0, COMMON_PLACES / places)
        if torch.cuda.is_available() or places <= FEW_PLACES:
            seconds *= _cores() / 2
        else:
            seconds *= pace(_cores())
        seconds *= processes()
    else:
        seconds = amount * max(places, FEW_PLACES) / 400_000
    if places <= FEW_PLACES:
        seconds /= 4  # few places: a large network has nothing to be large for
    speed = 20 if torch.cuda.is_available() else 1
    for size, limit in (("xs", 45), ("s", 1500), ("m", 3 * 3600), ("l", 12 * 3600)):
        if seconds * speed < limit * model_class.hunger:
            return size
    return "xl"


def frequencies_of(data: Data) -> list[float] | None:
    label = data.spaces.get("label")
    return label_frequencies(data.split("train"), label.count) if isinstance(label, Categorical) else None


def plan(
    name: str,
    config: Any,
    data: Data,
    training: Training,
    *,
    kind: str,
    amount: float,
    seed: int,
    begun: float,
    networks: dict | None = None,
    make: MakeOptimizer | None = None,
    measure: bool = False,
    asked: Collection[str] = (),
    tuning: Tuning | None = None,
) -> Plan:
    """Fill in `training` (dtype, threads, examples, counts) and say what will happen.

    begun: time.monotonic(). asked: names of the settings that the user gives, which stay.
    """
    optimizer = config.optimizer
    optimizer.batch = min(optimizer.batch, max(16, len(data.splits["train"])))
    probe = Probe(name, config, data, seed, networks=networks, make=make, tuning=tuning)
    most = max(0.1, min(3.0, 0.008 * amount)) if kind == "seconds" else 0.5
    training.dtype = training.dtype or dtype_verdict(probe, training, most)
    training.threads = training.threads or threads_verdict(probe, training, most)
    if training.compile is None:
        budget = amount if kind == "seconds" and not training.shard else 0.0
        training.compile = compile_verdict(probe, training, most, budget)
    loop = probe.loop(training, training.dtype)
    model = loop.model
    if training.shard:
        check(model, optimizer, training, tuning, processes())
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    step = rate = train_seconds = total = after = memory = None
    if kind == "examples":
        training.examples = -(-int(amount) // optimizer.batch) * optimizer.batch
        _not_much_beside(training, asked)
    if kind == "seconds" or measure:
        step = probe.seconds(loop, most)
        if kind == "seconds" and "optimizer.batch" not in asked:
            # Each process takes its share of a batch, so that steps are as much shorter.
            step = _smaller_batches(probe, training, step, most, (amount - (time.monotonic() - begun)) * processes())
        step /= processes()  # timed in this one alone; the clock sets it right
        fit = 0.0
        if isinstance(model, Samples):
            sources = data.sources("choose")
            told = told_labels(data.split("choose"))
            sampler = Sampler(
                model, loop.engine, frequencies=frequencies_of(data), dtype=data.x.dtype, sources=sources, told=told
            )
            rate, fit = _rates(sampler, data, training, most)
        left = amount - (time.monotonic() - begun) if kind == "seconds" else training.examples / optimizer.batch * step
        left = max(left, step)  # a busy machine may have spent a short budget on the probe
        during, after = 0.3, 0.5  # of what makes no samples
        if rate is not None:
            during, after = _set_aside(model, data, training, rate, fit, left if kind == "seconds" else 1e9)
        aside = during + after
        if kind == "seconds":
            training.examples = max(int((left - aside) / step), 1) * optimizer.batch
        train_seconds = training.examples / optimizer.batch * step
        total = time.monotonic() - begun + train_seconds + aside
        memory = peak_memory()  # steps, averages and samples have been made
    steps = training.examples // optimizer.batch
    if not training.save_every:
        safe = int(min(SAFE_SECONDS / step, SAFE_SHARE * steps)) if step else int(SAFE_SHARE * steps)
        training.save_every = max(safe, 1)
    if training.choose_samples is None:
        training.choose_samples = default_samples(model) if isinstance(model, Samples) else 0
    return Plan(
        parameters, training.examples, steps, training.dtype, step, train_seconds, total, after, memory, rate,
    )  # fmt: skip


def _not_much_beside(training: Training, asked: Collection[str]) -> None:
    """Of a few examples few previews, no choices and a density on few codes: what comes beside the steps must not
    outlast them.

    By numbers alone: what is trained by examples is the same on every machine.
    """
    if "training.previews" not in asked:
        training.previews = min(training.previews, max(training.examples // A_PREVIEW, 1))
    if training.examples < FEW:
        if training.choose_samples is None:
            training.choose_samples = 0  # the network to choose with learns from as many examples
        if "training.fit_examples" not in asked:
            training.fit_examples = min(training.fit_examples, FIT_OF_FEW)


def _smaller_batches(probe: Probe, training: Training, step: float, most: float, left: float) -> float:
    """Halve the batch while the budget holds few steps and a smaller batch gives clearly more; seconds of a step."""
    optimizer = probe.config.optimizer

    def timed(batch: int) -> float:
        optimizer.batch = batch
        return probe.seconds(probe.loop(training, str(training.dtype)), most / 2)

    least = max(LEAST_BATCH, processes())
    while left / step < optimizer.least_steps and optimizer.batch >= 2 * least:
        batch = optimizer.batch
        halved = timed(batch // 2)
        if halved > WORTH_HALVING * step:
            # Other work on the machine at one moment must not leave a training with a tenth of its steps.
            step, halved = min(step, timed(batch)), min(halved, timed(batch // 2))
        if halved > WORTH_HALVING * step:
            optimizer.batch = batch
            break
        step = halved
    return step


def _rates(sampler: Sampler, data: Data, training: Training, most: float) -> tuple[float, float]:
    """Samples a second, and the seconds of fitting a density on all the codes that will be used."""
    limit, train = min(training.fit_examples, len(data.splits["train"])), data.split("train")
    few, more = min(2000, limit), min(5000, limit)

    def fitted(count: int) -> float:
        start = time.perf_counter()
        sampler.fit(train, seed=0, limit=count)
        return max(time.perf_counter() - start, 1e-4)

    # The first time warms up: not to be taken for the codes'.
    spent, power = min(fitted(few), fitted(few)), FITTING
    if more > few and spent < most:  # more codes get more components as well: the time grows faster than their number
        longer = fitted(more)
        power = float(np.clip(np.log(longer / spent) / np.log(more / few), 1.0, 1.5))
        few, spent = more, longer
    fit = spent * (limit / few) ** power
    held = data.split("choose")
    sampler.judged(held, 8, seed=0)
    count, begin = 16, time.perf_counter()
    while True:  # few samples at once are slow samples
        start = time.perf_counter()
        made = len(sampler.judged(held, count, seed=0))
        seconds = time.perf_counter() - start
        if time.perf_counter() - begin > most or count >= 250:
            return made / max(seconds, 1e-6), fit
        count = min(250, count * 4)


def _set_aside(
    model: Model, data: Data, training: Training, rate: float, fit: float, budget: float
) -> tuple[float, float]:
    """Seconds beside the steps, before and after the last one; cuts counts of previews and choices that cost much."""
    assert isinstance(model, Samples)
    fit = fit if fit > 0.05 else 0.0
    if fit > 0.02 * budget:
        # The mixture is fitted a few times: on fewer codes where it would eat the budget.
        training.fit_examples = max(int(training.fit_examples * 0.02 * budget / fit), 500)
        fit = 0.02 * budget
    training.preview_samples = int(np.clip(0.005 * budget * rate, 16, training.preview_samples))
    shown = training.preview_samples / rate + min(fit * 0.15, 2.0) + 0.15
    training.previews = int(min(training.previews, max(1, 0.06 * budget / shown)))
    tried = attempts(model, len(training.averages), few=training.choose_few)
    asks = any(len(question) > 1 for question in model.choices())
    if training.choose_samples is None:
        allowed = 0.08 * budget * rate / tried
        if allowed < LEAST_TO_CHOOSE and asks:
            # Of all that is chosen, the second way to sample (diffusion: without guidance) differs most.
            training.choose_few, tried = True, attempts(model, 1, few=True)
            allowed = 0.08 * budget * rate / tried
        training.choose_samples = int(min(allowed, default_samples(model))) if allowed >= LEAST_TO_CHOOSE else 0
    features = 0.0
    if training.choose_samples:
        features = seconds_for(data, "choose")
        if features > (MOST_FOR_FEATURES if asks else MOST_FOR_AVERAGES) * budget:
            # A network to choose with that eats the budget leaves nothing to choose from.
            training.choose_samples, features = 0, 0.0
    tried_averages = 1 if training.choose_few else len(training.averages) + 1
    compared, count = fit * min(FIT / max(training.fit_examples, 1), 1.0) * tried_averages, training.choose_samples
    if recodes(model):  # no density to compare, and no more than there are
        compared, count = 0.0, min(count, len(data.splits["choose"]))
    choosing = tried * count / rate + compared + fit
    if not training.choose_samples:
        choosing = fit
    return (training.previews + 1) * shown, choosing + features + 0.3


class Clock:
    """Keeps a time budget: at a few moments the count of examples is set right.

    The machine may be faster or slower than it was during the probe. A correction is written to config.json before it
    acts, and read from there afterwards: a resumed or repeated run does what this one did.
    """

    def __init__(self, seconds: float, begun: float, after: float, *, start: float = 0.0):
        """seconds: the budget; begun: its start; after: what comes after the last step; start: share already done."""
        self.seconds, self.begun, self.after = seconds, begun, after
        moments = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
        self.shares = [start + (1 - start) * moment for moment in moments]  # of the count as it then is
        self.last = (0.0, 0)  # seconds of stepping and steps at the last moment

    def due(self, step: int, batch: int, examples: int, steps_timed: int) -> bool:
        """Is this step one of the moments? The answer is the same in all processes that train together."""
        if not self.shares or step * batch < self.shares[0] * examples or steps_timed < 2:
            return False
        self.shares = [share for share in self.shares if step * batch < share * examples]
        return True

    def corrected(
        self, step: int, batch: int, examples: int, spent: float, steps_timed: int, previews: float
    ) -> int | None:
        """The new count of examples at a moment that is due, or None where there is nothing to set right."""
        # The pace since the last moment: a machine that has become slow is slow from now on.
        pace = (spent - self.last[0]) / max(steps_timed - self.last[1], 1)
        self.last = (spent, steps_timed)
        left = self.seconds - (time.monotonic() - self.begun) - self.after - previews
        new = (step + max(int(left / pace), step // 50, 1)) * batch  # some steps at least: the rate must fall
        return new if abs(new - examples) > 0.02 * examples else None
