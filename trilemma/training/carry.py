"""A training whose plan stands in config.json, carried out: from its newest state or step 0 to the finished run."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from trilemma.config import Training, Tuning, from_json, to_json
from trilemma.mixed import space_from
from trilemma.modalities.contract import Data
from trilemma.models.contract import (
    Matches,
    Model,
    Samples,
    find,
)
from trilemma.networks.low_rank import merged
from trilemma.spaces import Continuous
from trilemma.training.average import usual
from trilemma.training.card import card
from trilemma.training.choose import choose
from trilemma.training.clusters import clustered
from trilemma.training.engine import Engine, agreed, agreed_state, energy, peak_memory, when_killed
from trilemma.training.guides import CLIP
from trilemma.training.loop import Correct, Loop, Stopped
from trilemma.training.matching import Found, best_average
from trilemma.training.plan import Clock
from trilemma.training.preview import Preview, Shows, film
from trilemma.training.progress import Bar
from trilemma.training.restore import build, restore
from trilemma.training.run import Run, write_json, write_tensors, write_text
from trilemma.training.sampling import Sampler, told_labels
from trilemma.training.stages import FIRST, spent_on


class Say:
    """Words for the person at the terminal, on stderr."""

    def __init__(self, quiet: bool):
        self.quiet = quiet

    def __call__(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def interruptible(loop: Loop) -> contextlib.AbstractContextManager[None]:
    """Ctrl-C and a polite kill end the loop after the step under way; a second Ctrl-C ends at once."""

    def ask() -> None:
        if loop.stop:
            raise KeyboardInterrupt
        loop.stop = True

    return when_killed(ask)


def begun_with(asked: dict[str, Any], networks: dict[str, nn.Module] | None) -> Model | None:
    """The model whose weights to begin with, where `--from` names one; with the user's own networks if it has some."""
    if not asked["from"]:
        return None
    run = Run.at(asked["from"])
    theirs = {name: own for name, own in (networks or {}).items() if name in run.config()["own"]["networks"]}
    return restore(run, Engine(), networks=theirs)


def fresh_model(
    config: dict[str, Any], data: Data, networks: dict[str, nn.Module] | None, start: Model | None
) -> Model:
    """The model at step 0: fresh weights, or those of `start`."""
    settings = from_json(find(config["model"])[0].Config, config["config"])
    tuning = from_json(Tuning, config.get("tuning", {}))
    return build(config["model"], settings, data.spaces, config["seed"], networks=networks, start=start, tuning=tuning)


def carry_out(
    run: Run, data: Data, config: dict[str, Any], *, networks: Any, make: Any, said: Say, begun: float,
    limit: float | None,
) -> None:  # fmt: skip
    """From the newest state, or from step 0, to the finished run. `limit`: seconds that the clock is to keep."""
    name, seed = config["model"], config["seed"]
    model_class, _ = find(name)
    model_config = from_json(model_class.Config, config["config"])
    training = from_json(Training, config["training"])
    engine = Engine(dtype=training.dtype, threads=training.threads, shared=True)
    if training.shard and engine.world == 1:
        said(
            "training.shard: one process holds all; `torchrun --nproc-per-node 2 -m trilemma train ...` starts several"
        )
    state = agreed_state(run.latest_state)
    start = begun_with(config["asked"], networks) if state is None else None  # a state replaces all weights
    if (state is not None or not engine.main) and "cluster" in config["spaces"]:  # and the centres
        data = replace(data, spaces={**data.spaces, "cluster": space_from(config["spaces"]["cluster"])})
    else:
        data = clustered(data, model_class, model_config, start)
    told = data.spaces["x"]
    older = space_from(config["spaces"]["x"]) if isinstance(told, Continuous) else told
    if told.describe() != older.describe():  # a run from before it knew so much
        older.load_state_dict({key: value for key, value in told.state_dict().items() if key in older.state_dict()})
        data = replace(data, spaces={**data.spaces, "x": older})
    model = engine.place(fresh_model(config, data, networks, start))
    loop = Loop(model, data.split("train"), model_config.optimizer, training, engine, seed=seed, make=make)  # type: ignore[arg-type]
    if engine.main:
        run.weights_file.unlink(missing_ok=True)  # an extension that was killed at its start left the old ones
    if state is not None:
        loop.load(*state)
    # What the count was at this moment: it may have been set right at a later one.
    passed = [examples for step, examples in training.corrections if step < loop.step]
    training.examples = passed[-1] if passed else config["plan"]["examples"]
    if engine.main and run.stats_file.is_file():
        run.forget_after(loop.seen)
    if state is not None:
        said(f"resumed {run.folder} at {loop.seen:,} of {training.examples:,} examples")
    sampler = Sampler(
        model,  # type: ignore[arg-type]
        engine,
        frequencies=config["data"]["frequencies"],
        dtype=data.x.dtype,
        sources=data.sources("choose"),
        told=told_labels(data.split("choose")),
    )
    shown = usual(training.averages, model_class.average)
    preview: Shows
    if isinstance(model, Samples):
        preview = Preview(run, data, sampler, moments=training.previews, count=training.preview_samples, average=shown)
    else:
        preview = Found(run, data, moments=training.previews, average=shown)
    correct = _clock(run, config, loop, preview, begun, limit) if limit else None
    bar = Bar(f"{name} on {data.name}", training.examples, begun=loop.seen, quiet=said.quiet)
    if loop.step == 0 and engine.main:
        run.log({"event": "start", "words": f"{name} ({config['size']}) on {data.name}", "seen": 0})
    before, joules = loop.seconds, energy(engine.device)
    try:
        with interruptible(loop):
            loop.go(run, preview=preview if engine.main or loop.shards else None, bar=bar, correct=correct)
    except Stopped:
        bar.close()
        said(f"stopped at {loop.seen:,} examples; the same command goes on, `trilemma generate {run.folder}` works now")
        raise KeyboardInterrupt from None
    bar.close()
    loop.save(run)
    with loop.whole():
        if engine.main:
            timed = bool(limit)
            _finish(run, data, config, loop, sampler, said, begun=begun, before=before, joules=joules, timed=timed)
    engine.barrier()


def _clock(run: Run, config: dict[str, Any], loop: Loop, preview: Shows, begun: float, seconds: float) -> Correct:
    """What keeps a time budget in the face of a machine that changes its pace."""
    training, batch = loop.training, loop.config.batch
    clock = Clock(seconds, begun, config["plan"]["aside_seconds"] or 0.0, start=loop.seen / training.examples)

    def correct(loop: Loop, spent: float, steps: int) -> None:
        if not clock.due(loop.step, batch, training.examples, steps):
            return
        shown = max(sum(moment * training.examples <= loop.seen for moment in preview.moments), 1)
        previews = preview.seconds / shown * (len(preview.moments) - shown)
        new = agreed(lambda: clock.corrected(loop.step, batch, training.examples, spent, steps, previews))
        new = None if new is None else max(new, config["plan"].get("least", 0))
        if new is not None and new != training.examples:
            training.examples = new
            training.corrections = (*training.corrections, (loop.step, new))
            config["training"] |= {"examples": new, "corrections": to_json(training.corrections)}
            if loop.engine.main:
                write_json(run.config_file, config)

    return correct


def _finish(
    run: Run, data: Data, config: dict[str, Any], loop: Loop, sampler: Sampler, said: Say, *, begun: float,
    before: float, joules: float | None, timed: bool,
) -> None:  # fmt: skip
    """Choices, final weights, film and card; the weights come last, they mark the run as finished.

    `begun` is the time.monotonic() of this call, `before` the seconds of stepping in calls that were killed; `joules`:
    the energy counter at the start of this call; `timed`: is the budget one of time?
    """
    if isinstance(loop.model, Matches):
        average, options, tried = best_average(loop, data)
    else:
        average, options, tried = choose(loop, data, sampler, quiet=said.quiet)
    seed, training = config["seed"], loop.training
    with loop.averages.applied(loop.model, average):
        sampler.fit(data.split("train"), seed=seed, limit=training.fit_examples)
        loop.model.forget()  # a run that goes on begins with a state, which has all
        weights = merged(loop.model)
    film(run.samples_folder)
    total = time.monotonic() - begun + before
    for stage in (Run(run.folder / FIRST), Run(run.folder / CLIP)):  # all stages cost
        total += spent_on(stage, "seconds") if stage.exists and not config["extended"] else 0.0
    seconds = {"total": total, "loop": loop.seconds, "step": loop.seconds / max(loop.step, 1)}
    choices = {
        "average": average,
        "options": asdict(options),
        "chosen_by": tried,
        "seconds": seconds,
        "memory_bytes": peak_memory(),
        "energy_joules": _spent(joules, loop.engine.device) if before == 0 else None,
        "events": dict(loop.health.counts),
        "extended": len(config["extended"]),
    }
    write_json(run.choices_file, choices)
    write_text(run.folder / "card.md", card(config, choices))
    run.log({"event": "end", "words": f"finished in {total:.1f} s", "seen": loop.seen, "seconds": total})
    write_tensors(run.weights_file, weights)
    run.drop_states(keep=0)
    for rest in (*run.state_folder.glob(".*.part"), *run.folder.glob(".*.part")):  # what kills left
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
    little = timed and loop.seconds < total / 4  # of an own budget: that of examples is spent on training alone
    words = f", of which {loop.seconds:.1f} s were training: a larger budget pays" if little else ""
    said(f"finished {run.folder}: {loop.seen:,} examples in {total:.1f} s{words}")


def _spent(joules: float | None, device: torch.device) -> float | None:
    """Joules since the counter stood at this; None where it cannot be read or has wrapped round."""
    now = energy(device)
    return None if now is None or joules is None or now <= joules else now - joules
