"""Optimizers and the learning-rate curve: warm up, stay, fall linearly to zero."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trilemma.config import Optimizer
from trilemma.errors import InputError, unknown
from trilemma.networks.layers import LogScale

COMPILER = "torch._dynamo"
KINDS = ("adam", "adamw", "sgd", "rmsprop")
SWIFT = 10.0  # the rate of learned deviations, in that of weights: see `LogScale`
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def make(config: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The torch optimizer that the settings ask for."""
    if not all(0 <= beta < 1 for beta in config.betas):
        raise InputError(f"setting optimizer.betas={config.betas}: each must be at least 0 and less than 1")
    fused = all(p.dtype in (torch.float32, torch.float64) for p in parameters)
    scales = [p for p in parameters if isinstance(p, LogScale)]
    weights = [p for p in parameters if not isinstance(p, LogScale)]
    parts = [(weights, config.weight_decay)]
    if config.kind == "adamw":
        # Decay pulls on matrices only: biases and scales have no reason to be small.
        matrices, others = [p for p in weights if p.dim() > 1], [p for p in weights if p.dim() <= 1]
        parts = [(matrices, config.weight_decay), (others, 0.0)]
    groups: list[dict[str, Any]] = [{"params": own, "weight_decay": decay} for own, decay in parts]
    groups = [g for g in (*groups, {"params": scales, "weight_decay": 0.0, "lr": SWIFT * config.rate}) if g["params"]]
    if config.kind == "adam":
        return torch.optim.Adam(groups, lr=config.rate, betas=config.betas, fused=fused)
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.rate, betas=config.betas, fused=fused)
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=config.rate, momentum=config.momentum)
    if config.kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr=config.rate)
    raise unknown("setting optimizer.kind", config.kind, KINDS)


def light() -> None:
    """Let optimizers be built without torch's compiler, whose import takes longer than many a step.

    Some of their methods import it when they are first called, to say that it must not look into them; where nothing is
    compiled nobody looks.
    """
    if COMPILER not in sys.modules:
        for method in vars(torch.optim.Optimizer).values():
            inner = getattr(method, "__wrapped__", None)
            if inner is not None and not hasattr(inner, "__dynamo_disable"):
                inner.__dynamo_disable = inner


def step(optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.step()`; of torch's own optimizers without what it does for compilers, as long as there is none."""
    hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks or "step" in vars(optimizer)
    if COMPILER in sys.modules or hooked or not type(optimizer).__module__.startswith("torch.optim."):
        optimizer.step()
    else:
        with torch.no_grad():
            inspect.unwrap(type(optimizer).step)(optimizer)


def rate_factor(config: Optimizer, seen: int, total: int, *, shortest: int = 0) -> float:
    """Factor on the learning rate for the step that begins after `seen` of `total` examples.

    shortest: the budget by which it warms up, where shorter trainings branch off this one.
    """
    warm_up = min(config.warm_up, 0.05 * (shortest or total))
    rising = min(1.0, (seen + config.batch) / warm_up) if warm_up else 1.0
    progress = seen / max(total, 1)
    falling = 1.0 if progress <= config.stay else max(0.0, (1 - progress) / (1 - config.stay))
    return rising * falling
