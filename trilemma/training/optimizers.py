"""Optimizers and the learning-rate curve: warm up, stay, fall linearly to zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from trilemma.config import Optimizer
from trilemma.errors import InputError, unknown

KINDS = ("adam", "adamw", "sgd", "rmsprop")
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def make(config: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The torch optimizer that the settings ask for."""
    if not all(0 <= beta < 1 for beta in config.betas):
        raise InputError(f"setting optimizer.betas={config.betas}: each must be at least 0 and less than 1")
    fused = all(p.dtype in (torch.float32, torch.float64) for p in parameters)
    if config.kind == "adam":
        return torch.optim.Adam(
            parameters, lr=config.rate, betas=config.betas, weight_decay=config.weight_decay, fused=fused
        )
    if config.kind == "adamw":
        # Decay pulls on matrices only: biases, scales and learned scalars have no reason to be small.
        matrices, others = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.rate, betas=config.betas, fused=fused)
    if config.kind == "sgd":
        return torch.optim.SGD(parameters, lr=config.rate, momentum=config.momentum, weight_decay=config.weight_decay)
    if config.kind == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=config.rate, weight_decay=config.weight_decay)
    raise unknown("setting optimizer.kind", config.kind, KINDS)


def rate_factor(config: Optimizer, seen: int, total: int, *, shortest: int = 0) -> float:
    """Factor on the learning rate for the step that begins after `seen` of `total` examples.

    shortest: the budget by which it warms up, where shorter trainings branch off this one.
    """
    warm_up = min(config.warm_up, 0.05 * (shortest or total))
    rising = min(1.0, (seen + config.batch) / warm_up) if warm_up else 1.0
    progress = seen / max(total, 1)
    falling = 1.0 if progress <= config.stay else max(0.0, (1 - progress) / (1 - config.stay))
    return rising * falling
