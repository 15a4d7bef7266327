"""The only training loop. It knows nothing of losses: a model yields turns, the loop steps between them."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trilemma.batches import Arrays, Batch, endless
from trilemma.conditions import hide, tell
from trilemma.config import Optimizer, Training
from trilemma.errors import InputError, of_another_version
from trilemma.models.contract import Model, Now, Samples, Turn
from trilemma.training import optimizers
from trilemma.training.average import Averages
from trilemma.training.engine import Engine, agreed, agreed_state
from trilemma.training.health import Health
from trilemma.training.optimizers import MakeOptimizer
from trilemma.training.preview import Shows
from trilemma.training.progress import Bar
from trilemma.training.run import Run, branch_state
from trilemma.training.shards import Shards, check

MOST_ROLLBACKS = 3
SPIKE = 10.0  # usual lengths: a longer gradient is cut to this, so that one odd example cannot undo a training
MEMORY = 0.02  # weight of the newest gradient in what is usual
Correct = Callable[["Loop", float, int], None]  # (loop, seconds of stepping, steps in them): may set the count right


class NonFinite(Exception):
    """A loss or a gradient was not finite; the step was not taken."""


class Stopped(Exception):
    """The user pressed Ctrl-C; the state is saved."""


class Loop:
    """One model in training: everything that a state must hold for an exact resume."""

    def __init__(
        self,
        model: Model,
        data: Arrays,
        optimizer: Optimizer,
        training: Training,
        engine: Engine,
        *,
        seed: int,
        make: MakeOptimizer | None = None,
    ):
        self.shards = None
        if training.shard and engine.world > 1:
            check(model, optimizer, training, None, engine.world)
            self.shards = Shards(model, engine)
            model = self.shards.model
        self.model, self.data, self.config, self.training, self.engine = model, data, optimizer, training, engine
        if model.couples_batch and optimizer.micro:
            raise InputError(
                "this model's loss needs the whole batch at once: leave out optimizer.micro; a smaller "
                "optimizer.batch needs less memory"
            )
        if engine.world > optimizer.batch:
            raise InputError(
                f"setting optimizer.batch={optimizer.batch}: {engine.world} processes share a batch, and each needs an "
                "example of it; start fewer or set a larger batch"
            )
        self.seed, self.step, self.seen, self.rollbacks = seed, 0, 0, 0
        self.seconds = 0.0  # of stepping, those before a kill included
        parts: Any = self.shards.part_of if self.shards else {}
        self.groups = {name: [parts.get(p, p) for p in own if p.requires_grad] for name, own in model.groups().items()}
        optimizers.light()
        self.optimizers = {
            name: make(weights) if make else optimizers.make(optimizer, weights)
            for name, weights in self.groups.items()
        }
        if training.compile:  # gradients of several micro-batches add up, and CUDA graphs write over theirs
            engine.compile(model.compilable(), graphs=not optimizer.micro)
        self.base_rates = {name: [g["lr"] for g in o.param_groups] for name, o in self.optimizers.items()}
        self.usual: dict[str, float] = {}  # lengths of the groups' gradients
        self.averages = Averages(model, training.averages)
        self.health = Health()
        self.stop = False  # set from a signal handler: the loop ends after the step under way
        self.others_stop = False  # as another process was asked to

    # --- one step ---

    def batch(self) -> Batch:
        """This process's share of the next batch of the endless order; noise is keyed by the place in that order."""
        start, stop = self.engine.share(self.config.batch)
        index = torch.arange(self.seen + start, self.seen + stop).numpy()
        places = endless(len(self.data), self.seed, self.seen + start, self.seen + stop)
        batch = self.data.gather(places, seed=self.seed, index=index, device=str(self.engine.device))
        batch.place, batch.gather = start, partial(self.engine.gather, size=self.config.batch)
        if self.training.flip:
            self._mirror(batch, index)
        batch = tell(self.model.spaces, batch)
        return hide(self.model.spaces, batch) if isinstance(self.model, Samples) else batch

    def _mirror(self, batch: Batch, index: Any) -> None:
        """Turn examples over along the last axis of their grid: by one coin each, its source with it."""
        if batch.x.dim() < 3:
            raise InputError("setting training.flip: only data on a grid (images, series) can be mirrored")
        coins = _coins(self.seed, index, batch.x)

        def turned(x: Tensor | None) -> Tensor | None:
            return None if x is None else torch.where(coins, torch.flip(x, (-1,)), x)

        batch.x, batch.observed, batch.valid = turned(batch.x), turned(batch.observed), turned(batch.valid)  # type: ignore[assignment]
        batch.other = turned(batch.other)  # of another example: any coin will do
        batch.raw |= {name: turned(x) for name, x in batch.raw.items() if x.dim() == batch.x.dim()}  # type: ignore[misc]

    def take_step(self) -> dict[str, float]:
        """One batch: every turn of the model, each followed by a step of its group. Returns logs per unit."""
        batch, size = self.batch(), self.config.micro or self.config.batch
        micro = [batch.part(i, min(i + size, len(batch))) for i in range(0, len(batch), size)]
        total = self.training.examples
        now = Now(self.step, self.seen, total, shortest := int(min((1.0, *self.training.branches)) * total))
        factor = optimizers.rate_factor(self.config, self.seen, total, shortest=shortest) * 0.5**self.rollbacks
        for name, optimizer in self.optimizers.items():
            for group, base in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = base * factor
        # Layers' own randomness (dropout) follows the step and the rank, not what was drawn before.
        self.engine.seed(zlib.crc32(f"{self.seed} {self.step} {self.engine.rank}".encode()))
        self.model.train()
        if self.training.compile:
            torch.compiler.cudagraph_mark_step_begin()
        logs: dict[str, float] = {}
        runs = [self.model.losses(part, now) for part in micro]
        while True:
            turns = [self._turn(run) for run in runs]
            if all(turn is None for turn in turns):
                break
            taken = [turn for turn in turns if turn is not None]
            assert len(taken) == len(turns) and len({turn.group for turn in taken}) == 1, "micro-batches disagree"
            self._move(taken, logs, now)
        self.step += 1
        self.seen += self.config.batch
        if self.step % self.training.average_every == 0:
            self.averages.update(self.model, self.step, self.training.average_every)
        return logs

    def _turn(self, run: Any) -> Turn | None:
        """Run a model up to its next yield and backpropagate at once: losses' graphs live one at a time."""
        with self.engine.autocast():
            turn: Turn | None = next(run, None)
        if turn is not None:
            turn.loss.backward()
            turn.loss = turn.loss.detach()
        return turn

    def _move(self, turns: list[Turn], logs: dict[str, float], now: Now) -> None:
        """Average the gradients over all units of all micro-batches and processes, check, clip and step."""
        name = turns[0].group
        weights = self.groups[name]
        own = [sum(turn.weight for turn in turns), sum(turn.loss for turn in turns), float(self.stop)]
        parts = [torch.stack([turn.shared[key] for turn in turns]).sum(0) for key in turns[0].shared]
        if self.shards:
            self.shards.collect()
        whole = [p for p in weights if not (self.shards and p in self.shards.names)]
        summed = self.engine.add_gradients(whole, [*own, *parts])
        shared = torch.stack(summed[: len(own)]).tolist() if summed else []
        total = shared[0] if shared else own[0]
        self.others_stop = bool(shared and shared[2])
        moved = [p for p in weights if p.grad is not None]
        gradients = [p.grad for p in moved if p.grad is not None]
        torch._foreach_div_(gradients, total)
        norms = list(torch._foreach_norm(gradients))
        length = torch.linalg.vector_norm(torch.stack(self.shards.lengths(moved, norms) if self.shards else norms))
        # All numbers that Python needs to know, in one go: on a GPU it waits once for a turn.
        names = [key for turn in turns for key in turn.logs]
        told = [length, *(turn.loss for turn in turns), *(value for turn in turns for value in turn.logs.values())]
        norm, *numbers = torch.stack(
            [torch.as_tensor(one, dtype=torch.float64, device=length.device).detach() for one in told]
        ).tolist()
        loss = (shared[1] if shared else sum(numbers[: len(turns)])) / total
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise NonFinite(f"{name} at {self.seen:,} examples (loss {loss}, gradient norm {norm})")
        longest = min(self.config.clip or math.inf, self._longest(name, norm))
        if norm > longest:
            torch._foreach_mul_(gradients, longest / norm)
        optimizers.step(self.optimizers[name])
        # A turn may have left gradients in the other groups' weights: all start clean.
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for key, value in zip(names, numbers[len(turns) :], strict=True):
            logs[key] = logs.get(key, 0.0) + value / total
        if turns[0].shared:
            parts = summed[len(own) :] or parts
            self.model.adjust({k: v / total for k, v in zip(turns[0].shared, parts, strict=True)}, now)

    def _longest(self, name: str, norm: float) -> float:
        """The length to which a group's gradient is cut: some usual ones, by a running geometric mean of lengths."""
        usual = self.usual.get(name, norm)
        longest = SPIKE * usual if usual > 0 else math.inf
        counted = min(max(norm, usual / SPIKE), longest)  # one odd length says little of what is usual
        self.usual[name] = usual * (counted / usual) ** max(MEMORY, 1 / (self.step + 1)) if usual > 0 else norm
        return longest

    # --- state ---

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within this block, entered by all processes, the first one has the model and its averages as a whole."""
        if self.shards is None:
            yield
            return
        own = self.model, self.averages
        self.model, self.averages = self.shards.assemble(self.averages)
        try:
            yield
        finally:
            self.shards.disassemble()
            self.model, self.averages = own

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, in the first process; called by all of them, in `whole`."""
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state |= {f"average.{name}": tensor for name, tensor in self.averages.state().items()}
        for group, optimizer in self.optimizers.items():
            names = self._names(optimizer)
            for number, entries in optimizer.state_dict()["state"].items():
                for key, v in entries.items():
                    value = None if v is None else torch.as_tensor(v)
                    if value is not None and self.shards:
                        value = self.shards.gathered(names[number], value)
                    if value is not None:
                        state[f"optimizer.{group}.{number}.{key}"] = value
        return state

    def _names(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """Of an optimizer's weights, in the order of its state, those in parts; '' for others."""
        weights = [weight for part in optimizer.param_groups for weight in part["params"]]
        return [self.shards.names.get(weight, "") if self.shards else "" for weight in weights]

    def facts(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seen": self.seen,
            "seconds": self.seconds,
            "rollbacks": self.rollbacks,
            "usual": self.usual,
            "health": self.health.state(),
        }

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """InputError for a state of other weights than this model has."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        def part(name: str, tensor: Tensor) -> Tensor:
            return self.shards.part(name, tensor) if self.shards else tensor

        try:
            (self.shards or self.model).load_state_dict(under("model."))
        except RuntimeError as problem:
            raise of_another_version("this state of the training", type(self.model).__name__, problem) from None
        self.averages.load(under("average."), part)
        for group, optimizer in self.optimizers.items():
            entries: dict[int, dict[str, Tensor]] = {}
            weights, names = [w for own in optimizer.param_groups for w in own["params"]], self._names(optimizer)
            for name, tensor in under(f"optimizer.{group}.").items():
                number, _, key = name.partition(".")
                weight, tensor = weights[int(number)], part(names[int(number)], tensor)
                if (
                    tensor.dim()
                    and tensor.shape != weight.shape
                    and key in ("exp_avg", "exp_avg_sq", "momentum_buffer")
                ):
                    said = f"moments of {tuple(tensor.shape)} for weights of {tuple(weight.shape)}"
                    raise of_another_version("this state of the training", type(self.model).__name__, said)
                if tensor.dim() and tensor.shape == weight.shape:
                    # Fused optimizers walk through memory: moments must lie there as the weights do (channels last).
                    tensor = torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)
                entries.setdefault(int(number), {})[key] = tensor
            optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
        self.step, self.seen, self.rollbacks = facts["step"], facts["seen"], facts["rollbacks"]
        self.seconds, self.usual = facts.get("seconds", 0.0), dict(facts.get("usual", {}))
        self.health.load(facts["health"])

    def gather(self) -> None:
        """What each process holds for its own places in a batch, in all of them: before a state is saved."""
        rows = self.model.of_places(*self.engine.share(self.config.batch))
        self.engine.gather_rows(dict(self.model.named_buffers()), rows)

    def save(self, run: Run) -> None:
        """A safe state; the last two are kept, so that a torn write costs little."""
        self.gather()
        with self.whole():
            tensors, weights = self.tensors(), [p.detach() for p in self.model.parameters()]
            # Infinite weights show in the loss one step later: such a state is no safe one.
            if self.engine.main and all(bool(norm.isfinite()) for norm in torch._foreach_norm(weights)):
                run.save_state(f"step-{self.step:09d}", tensors, self.facts())
                run.drop_states(keep=2)
        self.engine.barrier()

    # --- the whole training ---

    def go(
        self,
        run: Run | None = None,
        *,
        preview: Shows | None = None,
        bar: Bar | None = None,
        correct: Correct | None = None,
    ) -> None:
        """Train to the end of the budget, from wherever the state is."""
        training = self.training
        log_every = max(training.examples // self.config.batch // 200, 1)
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}  # of the steps that logged a name: a penalty may come every second one only
        began, before, first, paused = time.monotonic(), self.seconds, self.step, 0.0
        # Agreed: what depends on them is done by all processes together, or waits for ever.
        kept = set() if run is None else set(agreed(run.states))
        stay = self.config.stay  # a rate that falls from the start has no fork
        forks = {"before-decay": stay, **{branch_state(share): stay * share for share in training.branches if stay > 0}}
        while self.seen < training.examples:
            recorded = dict(training.corrections)
            if self.step in recorded:
                training.examples = recorded[self.step]
            elif correct:
                correct(self, time.monotonic() - began - paused, self.step - first)
            total = training.examples
            for name, part in forks.items():
                # The count may have been set right past this moment: then the state is kept a little late. Or back
                # before it: then the moment comes again.
                late = self.seen - part * total
                if run and late >= 0 and (name not in kept or late < self.config.batch):
                    self.gather()  # in all processes alike: what they hold comes first
                    with self.whole():
                        tensors = self.tensors()
                        if self.engine.main:
                            run.save_state(name, tensors, self.facts())
                    kept.add(name)
            try:
                logs = self.take_step()
            except NonFinite as problem:
                self.roll_back(run, str(problem))
                continue
            self.seconds = before + time.monotonic() - began - paused
            for key, value in logs.items():
                sums[key], counts[key] = sums.get(key, 0.0) + value, counts.get(key, 0) + 1
            if self.step % log_every == 0 or self.seen >= total:
                means = {key: self.engine.total(value) / counts[key] for key, value in sums.items()}
                events = self.health.of_logs(means, self.seen / total)
                if run and self.engine.main:
                    run.log({"seen": self.seen, "step": self.step, "seconds": round(self.seconds, 3), **means})
                    self.tell(run, events)
                if bar:
                    bar.update(self.seen, means, total=total)
                sums, counts = {}, {}
            if preview and preview.due(self.seen, self.config.batch, total):
                start = time.monotonic()
                with self.whole():
                    events = preview.show(self) if self.engine.main else []
                paused += time.monotonic() - start
                if run and self.engine.main:
                    self.tell(run, events)
            stop = self.stop if self.engine.world == 1 else self.others_stop  # all processes at the same step
            if stop or (run and training.save_every and self.step % training.save_every == 0 and self.seen < total):
                if run:
                    self.save(run)
                if stop:
                    raise Stopped

    def tell(self, run: Run, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            run.log({**event, "seen": self.seen})

    def roll_back(self, run: Run | None, detail: str) -> None:
        """Back to the last good state; the clock goes on past the bad examples and the learning rate halves."""
        seen, step = self.seen, self.step
        event = self.health.non_finite(detail)
        rollbacks, health, seconds = self.rollbacks + 1, self.health.state(), self.seconds
        if rollbacks > MOST_ROLLBACKS:
            if run and self.engine.main:
                self.tell(run, [{**event, "action": "stopped"}])
            raise InputError(
                f"training became non-finite {rollbacks} times ({detail}). Try a smaller --set optimizer.rate="
                f"{self.config.rate / 10:g}, or --set training.dtype=float32"
            )
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        state = agreed_state(run.latest_state) if run else None
        if state is not None:
            self.load(*state)
        self.seen, self.step, self.rollbacks, self.seconds = seen + self.config.batch, step + 1, rollbacks, seconds
        self.health.load(health)
        if run:
            if self.engine.main:
                self.tell(run, [{**event, "action": "rolled back to the last good state, learning rate halved"}])
            self.save(run)


def _coins(seed: int, index: Any, x: Tensor) -> Tensor:
    """One fair coin an example, (B, 1, ...), a function of (seed, index) alone."""
    from trilemma.maths.noise import Noise

    return (Noise(seed, index, x.device, draw=2**32 - 1).uniform() < 0.5).reshape(-1, *[1] * (x.dim() - 1))
