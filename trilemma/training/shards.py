"""Weights, gradients, averages and the optimizer's state in parts, one for each process: FSDP2, for large networks.

`Model.compilable()` names the networks: their weights are used inside `forward` alone and differentiated once, as
`fully_shard` needs it. A block's weights are gathered when it is reached, forward and backward, and freed after it; its
gradients are summed into the parts. All else of a model stays whole in every process, as without shards. Loop,
optimizers and averages see the parts as plain tensors: rows of the weights.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trilemma.config import Optimizer, Training, Tuning
from trilemma.errors import InputError
from trilemma.models.contract import Model
from trilemma.training.average import Averages
from trilemma.training.engine import Engine

SETTING = "setting training.shard"


def check(model: Model, optimizer: Optimizer, training: Training, tuning: Tuning | None, processes: int) -> None:
    """InputError for what cannot be trained in shards."""
    if not model.compilable():
        raise InputError(
            f"{SETTING}: this model's networks must be whole in each process (those under gradient penalties are "
            "differentiated twice); leave it out"
        )
    if tuning is not None and tuning.asked:
        raise InputError(f"{SETTING}: of what lora or word learn there is little; leave it out")
    if training.compile:
        raise InputError(f"{SETTING}: networks in parts are not compiled; leave out training.compile")
    if optimizer.micro and optimizer.batch % processes:
        raise InputError(
            f"{SETTING}: each process needs as many micro-batches as the others: set optimizer.batch to a multiple of "
            f"{processes}, or leave out optimizer.micro"
        )


class Shards:
    """A model whose large networks lie in parts on the processes; the first process also keeps a whole one."""

    def __init__(self, model: Model, engine: Engine):
        """model: equal in all processes; in the first one it stays as it is, for samples and states."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        # What a network returns may be a view: nothing here changes it in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
        if engine.device.type == "cuda":
            torch.cuda.set_device(engine.device)
        self.engine, self.of_tensor = engine, DTensor
        self.whole = model if engine.main else None
        self.model = copy.deepcopy(model) if engine.main else model
        mesh = init_device_mesh(engine.device.type, (engine.world,))
        for network in self.model.compilable():
            for weight in network.parameters():
                weight.data = weight.data.contiguous()  # rows must lie together: not channels last
            for module in _blocks(network):
                sharded: Any = fully_shard(module, mesh=mesh, reshard_after_forward=True)
                sharded.set_gradient_divide_factor(1.0)  # losses are sums
                sharded.set_force_sum_reduction_for_comms(True)
        self.weights: dict[str, Any] = {n: p for n, p in self.model.named_parameters() if isinstance(p, DTensor)}
        with torch.no_grad():
            self.parts = {n: nn.Parameter(p.to_local(), p.requires_grad) for n, p in self.weights.items()}
        self.names = {part: name for name, part in self.parts.items()}
        self.part_of = {weight: self.parts[name] for name, weight in self.weights.items()}

    @torch.no_grad()
    def collect(self) -> None:
        """After all backward passes of a turn: the parts' gradients, summed over the processes already."""
        for name, weight in self.weights.items():
            part = self.parts[name]
            part.data = weight.to_local()
            if weight.grad is not None:
                part.grad, weight.grad = weight.grad.to_local(), None

    def lengths(self, weights: list[nn.Parameter], norms: list[Tensor]) -> list[Tensor]:
        """Of the norms of these weights' gradients those of whole weights, and one of all that lies in parts."""
        in_parts = [norm for weight, norm in zip(weights, norms, strict=True) if weight in self.names]
        if not in_parts:
            return norms
        square = torch.stack(in_parts).square().sum()
        dist.all_reduce(square)
        whole = [norm for weight, norm in zip(weights, norms, strict=True) if weight not in self.names]
        return [*whole, square.sqrt()]

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """This process's rows of what belongs to a weight as a whole; all of it where that weight is in no parts."""
        if name not in self.weights or not tensor.dim():
            return tensor
        rows = -(-len(tensor) // self.engine.world)
        return tensor[rows * self.engine.rank : rows * (self.engine.rank + 1)].to(self.engine.device)

    def gathered(self, name: str, part: Tensor) -> Tensor | None:
        """What `part` took rows of, in the memory of the first process; None in the others. Called by all of them."""
        if name in self.weights and part.dim():
            weight = self.weights[name]
            if part.shape != self.parts[name].shape:
                raise InputError(f"{SETTING}: your own optimizer must keep its state in the shapes of the weights")
            part = self.of_tensor.from_local(
                part.detach(), weight.device_mesh, weight.placements, run_check=False, shape=weight.shape,
                stride=weight.stride(),
            ).full_tensor()  # fmt: skip
        return part.detach().cpu() if self.engine.main else None

    @torch.no_grad()
    def assemble(self, averages: Averages) -> tuple[Model, Averages]:
        """The whole model and the whole averages (in memory, not on a GPU) of the first process; the others' parts."""
        for name, weight in self.model.named_parameters():
            tensor = self.gathered(name, self.parts.get(name, weight))
            if self.whole is not None and tensor is not None:
                self.whole.get_parameter(name).copy_(tensor)
        found = copy.copy(averages)
        found.values = {
            key: [self.gathered(*pair) for pair in zip(averages.names, values, strict=True)]  # type: ignore[misc]
            for key, values in averages.values.items()
        }
        if self.whole is None:
            return self.model, averages
        _copy_buffers(self.model, self.whole)
        return self.whole, found

    @torch.no_grad()
    def disassemble(self) -> None:
        """What the first process has fitted, such as a density on codes, stays with the model."""
        if self.whole is not None:
            _copy_buffers(self.whole, self.model)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The state of a whole model into the parts."""
        own = {}
        for name, tensor in state.items():
            own[name] = tensor
            if name in self.weights:
                weight = self.weights[name]
                own[name] = self.of_tensor.from_local(
                    self.part(name, tensor), weight.device_mesh, weight.placements, run_check=False,
                    shape=tensor.shape, stride=tensor.stride(),
                )  # fmt: skip
        self.model.load_state_dict(own)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """What is gathered at once: each layer of the network's lists, inner ones first, and at last all that is left."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    layers = {layer for one in lists for layer in one if not isinstance(layer, nn.ModuleList)}
    found = [one for one in network.modules() if one in layers and any(True for _ in one.parameters())]
    return [*reversed(found), network]


def _copy_buffers(source: nn.Module, target: nn.Module) -> None:
    for one, two in zip(source.buffers(), target.buffers(), strict=True):
        two.copy_(one)
