"""Whole-number codes: what a quantised autoencoder makes of its encoder's outputs, place by place.

`Levels` rounds a few bounded channels (Mentzer et al. 2024): a codebook that nothing has to learn, and no part of which
dies. `Codebook` takes the nearest of learned entries (van den Oord et al. 2017). Gradients pass as if nothing had been
rounded. A code's number is its token; `codes` makes the code of it again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trilemma.maths.noise import Noise

ROWS = 16_384  # places whose distances to all entries are in memory together
DEAD = 0.05  # of an even share of the places: an entry that is the nearest less often moves


class Levels(nn.Module):
    """Fixed levels in -1 ... 1 for each channel: (B, width, *coarse) outputs -> codes of the same shape."""

    def __init__(self, levels: tuple[int, ...]):
        super().__init__()
        self.levels, self.width, self.count = levels, len(levels), math.prod(levels)

    def _column(self, numbers: list[float], like: Tensor) -> Tensor:
        return torch.tensor(numbers, device=like.device, dtype=like.dtype).reshape(1, -1, *[1] * (like.dim() - 2))

    def reach(self, like: Tensor) -> Tensor:
        """Half of the way from each channel's lowest level to its highest, in steps: a column to fit `like`."""
        return self._column([(count - 1) / 2 for count in self.levels], like)

    def forward(self, out: Tensor) -> Tensor:
        """The nearest levels of bounded outputs (Mentzer et al. 2024, eq. 1)."""
        half = self.reach(out)
        shift = (half * 2 % 2) / 2  # an even number of levels has none in the middle
        bounded = torch.tanh(out) * (half + shift * 0.999) - shift
        return (bounded + (bounded.round() - bounded).detach() + shift) / half

    def nearest(self, codes: Tensor) -> Tensor:
        """Of codes that another model made those that are nearest."""
        half = self.reach(codes)
        return torch.minimum(((codes + 1) * half).round().clamp(min=0), 2 * half) / half - 1

    def tokens(self, codes: Tensor) -> Tensor:
        """(B, width, *coarse) codes -> (B, 1, *coarse) int64 below `count`; the first channel is the lowest digit."""
        digits = ((codes + 1) * self.reach(codes)).round().long()
        strides = [math.prod(self.levels[:place]) for place in range(self.width)]
        return sum(digits[:, place] * stride for place, stride in enumerate(strides)).unsqueeze(1)  # type: ignore[union-attr]

    def codes(self, tokens: Tensor) -> Tensor:
        """(B, 1, *coarse) -> (B, width, *coarse) codes, float32."""
        strides = [math.prod(self.levels[:place]) for place in range(self.width)]
        digits = [tokens // stride % count for stride, count in zip(strides, self.levels, strict=True)]
        found = torch.cat(digits, 1).float()
        return found / self.reach(found) - 1


class Codebook(nn.Module):
    """The nearest of `count` entries: (B, width, *coarse) outputs -> codes of the same shape.

    Entries are running means of the outputs that they are nearest to (van den Oord et al. 2017, appendix A.1): k-means,
    a step at a time. One that is the nearest of hardly any starts anew at an output that is far from all entries, as
    k-means++ chooses its own (Arthur & Vassilvitskii 2007); at the start that is most of them.
    """

    entries: Tensor
    shares: Tensor
    sums: Tensor
    steps: Tensor

    def __init__(self, count: int, width: int, *, decay: float):
        super().__init__()
        self.count, self.width, self.decay = count, width, decay
        self.register_buffer("entries", torch.randn(count, width))
        self.register_buffer("shares", torch.zeros(count))  # running mean of how many places of an example are nearest
        self.register_buffer("sums", torch.zeros(count, width))  # and of the sum of their outputs
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, out: Tensor) -> Tensor:
        return out + (self.nearest(out) - out).detach()

    def nearest(self, codes: Tensor) -> Tensor:
        """The entries nearest to codes (B, width, *coarse)."""
        return self.codes(self.tokens(codes)).to(codes.dtype)

    @torch.no_grad()
    def tokens(self, codes: Tensor) -> Tensor:
        """(B, width, *coarse) codes -> (B, 1, *coarse) int64 below `count`."""
        rows, entries = codes.movedim(1, -1).reshape(-1, self.width), self.entries.to(codes.dtype)
        found = []
        # Products in bf16 would take the wrong one of two near entries.
        with torch.autocast(codes.device.type, enabled=False):
            half = entries.square().sum(1) / 2
            for some in rows.split(ROWS):
                found.append(torch.addmm(half, some, entries.T, alpha=-1).argmin(1))
        return torch.cat(found).reshape(len(codes), 1, *codes.shape[2:])

    def codes(self, tokens: Tensor) -> Tensor:
        """(B, 1, *coarse) -> (B, width, *coarse) codes."""
        return self.entries[tokens[:, 0]].movedim(-1, 1)

    @torch.no_grad()
    def seen(self, out: Tensor, noise: Noise, place: Tensor, batch: int) -> dict[str, Tensor]:
        """Sums over examples, for `follow`: places and outputs of each entry, and where it would start anew.

        place: of each example in a whole batch of `batch`, (B,). Each offers a few of its outputs, those far from
        their entries the likeliest, to entries that are its own: parts of a batch add up to the whole.
        """
        tokens = self.tokens(out)
        rows, chosen = out.movedim(1, -1).reshape(-1, self.width), tokens.flatten()
        shares = torch.zeros_like(self.shares, dtype=out.dtype).index_add_(0, chosen, torch.ones_like(rows[:, 0]))
        sums = torch.zeros_like(self.sums, dtype=out.dtype).index_add_(0, chosen, rows)
        # The largest of log weight + Gumbel noise: draws without replacement, by weight.
        far = (out - self.codes(tokens).to(out.dtype)).square().sum(1).flatten(1)
        scores = (far + 1e-12).log() - (-noise.uniform(far.shape[1]).to(out.dtype).log()).log()
        offers = min(-(-self.count // batch), far.shape[1])
        picked = scores.topk(offers, 1).indices
        offered = out.flatten(2).gather(2, picked.unsqueeze(1).expand(-1, self.width, -1)).movedim(1, -1)
        # Fewer offers than entries: others have their turn at the next step.
        number = place.unsqueeze(1) * offers + torch.arange(offers, device=out.device)
        fits = (number < self.count).flatten()
        entry = ((number + self.steps.long() * batch * offers) % self.count).flatten()[fits]
        given = offered.reshape(-1, self.width)[fits]
        fresh = torch.zeros_like(sums).index_add_(0, entry, given)
        offered_to = torch.zeros_like(shares).index_add_(0, entry, torch.ones_like(given[:, 0]))
        return {"shares": shares, "sums": sums, "fresh": fresh, "offered": offered_to}

    @torch.no_grad()
    def follow(self, means: dict[str, Tensor], *, revive: bool) -> None:
        """Move the entries by the means of what all parts of a batch have `seen`; `revive` those that hardly serve."""
        means = {name: value.to(self.entries.dtype) for name, value in means.items()}
        # Of the first steps a plain mean: what entries were at the start counts no more.
        new = (1 / (self.steps + 1)).clamp(min=1 - self.decay)
        self.shares.lerp_(means["shares"], new)
        self.sums.lerp_(means["sums"], new)
        found = self.sums / self.shares.clamp(min=1e-12).unsqueeze(1)
        self.entries.copy_(torch.where((self.shares > 1e-9).unsqueeze(1), found, self.entries))
        self.steps.add_(1)
        if not revive:
            return
        even = means["shares"].sum() / self.count
        anew = (self.shares < DEAD * even) & (means["offered"] > 0)
        fresh = means["fresh"] / means["offered"].clamp(min=1e-12).unsqueeze(1)
        self.entries.copy_(torch.where(anew.unsqueeze(1), fresh, self.entries))
        self.shares.copy_(torch.where(anew, even, self.shares))
        self.sums.copy_(self.entries * self.shares.unsqueeze(1))
