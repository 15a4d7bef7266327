"""Masked tokens: a network that fills in hidden tokens from those it sees, and samples by doing so in a few steps
(MaskGIT, Chang et al. 2022).

Of pictures the tokens are the codes of an autoencoder that rounds them (`codec:fsq`, `codec:vq`), which is trained
first: the rival of latent diffusion. Data that are tokens already need none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Conditioner, drop
from trilemma.config import Optimizer
from trilemma.errors import InputError
from trilemma.latent import Latent
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand, mean_per_example
from trilemma.models.contract import Model, Now, Samples, Turn, default_clusters
from trilemma.networks.denoisers import denoiser
from trilemma.networks.layers import Network, initialise, sinusoids
from trilemma.networks.transformer import transformer_settings
from trilemma.spaces import Categorical, Space, masked


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(kind="transformer"))
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(kind="adamw", rate=1e-3, betas=(0.9, 0.98), stay=0.4, weight_decay=1e-2)
    )
    autoencoder: str = "codec:fsq"  # that makes the tokens: a model, or the folder of a run; '': the data are tokens
    embedding: int = 128  # width of the share that is hidden and of conditions
    clusters: int = 0  # of data without labels: which one an example is in is a condition
    drop: float = 0.1  # probability of training without a condition
    steps: int = 12
    temperature: float = 1.0  # of the tokens that are drawn
    eta: float = 1.0  # share of chance in the choice of those that stay, falling on the way; 0: the surest ones, 1: any
    guidance: float = 1.5  # at the last step, rising from 1, where there are conditions


class Masked(Model, Samples):
    Config = Config
    presets = {}
    accepts = (Categorical, Latent)
    needs_grid = True
    kinds = ("mlp", "conv", "transformer")
    finds_clusters = True
    hunger = 8.0

    def __init__(
        self,
        config: Config,
        spaces: dict[str, Space],
        start: Model | None = None,
        *,
        networks: dict[str, nn.Module] | None = None,
    ):
        super().__init__()
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        if not 0 <= config.eta <= 1:
            raise InputError(f"setting eta={config.eta:g}: from 0 (the surest tokens stay) to 1 (any)")
        space, width = spaces["x"], config.embedding
        self.count = _tokens(space)
        self.conditioner = Conditioner(spaces, width)
        self.share = nn.Sequential(initialise(nn.Linear(64, width)), nn.SiLU(), initialise(nn.Linear(width, width)))
        inputs = space.width + 1  # beside each token, whether it is seen
        self.network = (networks or {}).get("network") or denoiser(space, inputs, self.count, config.network, width)

    def compilable(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        _tokens(spaces["x"])
        return {
            **transformer_settings(spaces["x"].grid, size),
            "network.dropout": 0.0 if count >= 5000 else 0.1,
            "clusters": default_clusters(spaces, count, most=30),
            "optimizer.batch": 128 if count >= 5000 else 64,
        }

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    def logits(self, tokens: Tensor, seen: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """(B, *grid, count) of every place, from tokens (B, 1, *grid) of which those `seen` (the same shape) count."""
        dtype = next(self.share.parameters()).dtype
        embedded = self.space.embed(self.space.from_tokens(tokens)).to(dtype) * seen
        embedding = self.share(sinusoids(mean_per_example((~seen).to(dtype)), 64).to(dtype))
        cond = self.conditioner(raw, present, len(tokens))
        embedding = embedding if cond.vector is None else embedding + cond.vector
        found = self.network(torch.cat([embedded, seen.to(dtype)], 1), functional.silu(embedding))
        return wide(found.movedim(1, -1))  # the layout in which a transformer has made them, and sums are fast

    # --- training ---

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        noise, tokens = batch.noise, self.space.tokens(batch.x)
        mask = masked(self.space, batch.observed, batch.valid)
        there = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask > 0
        share = (noise.spread() * math.pi / 2).cos()
        hidden = noise.uniform(*tokens.shape[1:]) < expand(share, tokens)
        uniform = {name: noise.uniform() for name in sorted(batch.present)}
        present = drop(batch.present, uniform, self.config.drop)
        logits = self.logits(torch.where(there, tokens, 0), there & ~hidden, batch.raw, present)
        # All examples count by their hidden tokens, and those of any micro-batch are divided by the same number.
        error = functional.cross_entropy(logits.flatten(0, -2), tokens.flatten(), reduction="none")
        loss = (error * (hidden & there).flatten()).sum() / math.prod(tokens.shape[1:])
        yield Turn("model", loss, len(batch), {"error": loss.detach()})

    # --- sampling ---

    def choices(self) -> list[list[Options]]:
        config, questions = self.config, []
        if self.conditioner.names:
            others = (strength for strength in (1.0, 2.0, 3.0) if strength != config.guidance)
            questions.append([Options(guidance=strength) for strength in (config.guidance, *others)])
        questions.append([Options(eta=share) for share in dict.fromkeys([config.eta, 1.0, 0.8, 0.5])])
        counts = dict.fromkeys([config.steps, *(max(config.steps * k // 3, 1) for k in (2, 4))])
        questions.append([Options(steps=count) for count in counts])
        return questions

    def calls(self, options: Options) -> int:
        steps = options.steps or self.config.steps
        guidance = self.config.guidance if options.guidance is None else options.guidance
        return steps if guidance == 1 or not self.conditioner.names else 2 * steps - 1

    def sample(self, request: Request) -> Tensor:
        nothing = torch.zeros(len(request), 1, *self.space.grid, dtype=torch.int64, device=request.noise.device)
        return self.space.decode(self.space.embed(self.space.from_tokens(self.drawn(request, nothing, nothing > 0))))

    def drawn(self, request: Request, tokens: Tensor, seen: Tensor) -> Tensor:
        """Tokens (B, 1, *grid) where those not `seen` are drawn: all at each step, of which the surest ones stay."""
        options, config, noise = request.options, self.config, request.noise
        steps = config.steps if options.steps is None else options.steps
        eta = config.eta if options.eta is None else options.eta
        guidance = config.guidance if options.guidance is None else options.guidance
        if steps < 1:
            raise InputError(f"steps={steps}: there must be at least one")
        if options.prior not in (None, "normal"):
            raise InputError(f"prior {options.prior!r}: this model starts from hidden tokens only")
        begin = (~seen).flatten(1).sum(1, keepdim=True)  # (B, 1) tokens to draw
        for step in range(steps):
            logits = self.logits(tokens, seen, request.raw, request.present)
            if guidance != 1 and self.conditioner.names and step:
                # As Chang et al. 2023 (Muse): the first tokens are drawn freely, for variety.
                free, weight = self.logits(tokens, seen, {}, {}), 1 + (guidance - 1) * step / max(steps - 1, 1)
                logits = free + weight * (logits - free)
            found, sure = drawn_tokens(logits / config.temperature, noise.uniform(*self.space.grid, 1))
            found, sure = found.movedim(-1, 1), sure.movedim(-1, 1)
            tokens = torch.where(seen, tokens, found)
            if request.watch is not None:
                request.watch(step, self.space.embed(self.space.from_tokens(tokens)))
            left = begin * (math.cos((step + 1) / steps * math.pi / 2) if step < steps - 1 else 0)
            gumbel = -(-noise.uniform(*sure.shape[1:]).log()).log()
            sure = torch.where(seen, math.inf, torch.lerp(sure, gumbel, eta ** (steps / (steps - step)))).flatten(1)
            rank = sure.argsort(dim=1, stable=True).argsort(dim=1, stable=True)  # 0: the least sure one
            seen = seen | (rank >= left.floor()).reshape(seen.shape)
        return tokens


def _tokens(space: Space) -> int:
    """How many tokens there are. InputError where there are none."""
    if not space.token_count:
        raise InputError("setting autoencoder: its codes are no tokens; take codec:fsq or codec:vq")
    return space.token_count


def drawn_tokens(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """A token of each place by its logits (..., count), drawn by one number in (0, 1) each (..., 1), and the log of its
    probability, both (..., 1)."""
    shares = logits.softmax(-1)
    below = shares.cumsum(-1)
    # The sum may end a little under 1: no number is beyond the last token.
    tokens = (below < uniform * below[..., -1:]).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return tokens, shares.gather(-1, tokens).clamp(min=1e-20).log()
