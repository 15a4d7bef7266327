"""What is added to weights that learn no more: matrices of low rank, or one row of an embedding.

Both are parametrizations of a layer's `weight`, so that every network computes, and is differentiated, as it always
was. `merged` gives the weights as a network without them has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trilemma.networks.layers import CONVOLUTIONS
from trilemma.networks.stylegan import Equal
from trilemma.networks.text import TextTower

LAYERS = (nn.Linear, Equal, *CONVOLUTIONS.values())


class LowRank(nn.Module):
    """W -> W + alpha / rank * B A (Hu et al. 2022, "LoRA", eq. 3); B is zero at the start, and A as large as W is."""

    def __init__(self, weight: Tensor, rank: int, alpha: float):
        """weight: (outputs, inputs, *size). rank: cut to that which W itself can have."""
        super().__init__()
        outputs, inputs = len(weight), weight[0].numel()
        least, self.scale = min(rank, outputs, inputs), alpha / rank
        size = max(float(weight.detach().square().mean().sqrt()), 1 / math.sqrt(inputs))
        self.down = nn.Parameter(torch.randn(least, inputs, dtype=weight.dtype) * size)
        self.up = nn.Parameter(torch.zeros(outputs, least, dtype=weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # what is merged at the end is this very sum
            return weight + (self.scale * self.up @ self.down).reshape(weight.shape)


class LastRow(nn.Module):
    """An embedding's table whose last row alone learns: that of a new word."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.row = nn.Parameter(weight.detach()[-1:].clone())

    def forward(self, weight: Tensor) -> Tensor:
        return torch.cat([weight[:-1], self.row])


def adapt(model: nn.Module, *, rank: int, alpha: float, word: bool) -> None:
    """Freeze a model but for additions of this rank to its layers (0: none), and for the last word of its towers.

    Layers that learned nothing before, such as those of a frozen autoencoder, get none.
    """
    layers = [one for one in model.modules() if isinstance(one, LAYERS) and not parametrize.is_parametrized(one)]
    layers = [one for one in layers if one.weight.requires_grad] if rank else []
    towers = [one.embedding for one in model.modules() if isinstance(one, TextTower)] if word else []
    towers = [one for one in towers if one.weight.requires_grad]
    model.requires_grad_(False)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank, alpha))  # type: ignore[arg-type]
    for embedding in towers:
        parametrize.register_parametrization(embedding, "weight", LastRow(embedding.weight))


def adapted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules whose weights have additions."""
    for name, module in model.named_modules(remove_duplicate=False):
        if parametrize.is_parametrized(module, "weight") and isinstance(
            module.parametrizations["weight"][0],  # type: ignore[index]
            (LowRank, LastRow),
        ):
            yield name, module


def merged(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state of the same model without additions, with their sums as its weights."""
    found = list(adapted(model))
    inner = tuple(f"{name}.parametrizations.weight." for name, _ in found)
    state = {key: value.clone() for key, value in model.state_dict().items() if not (inner and key.startswith(inner))}
    return state | {f"{name}.weight": module.weight.detach().clone() for name, module in found}  # type: ignore[operator]
