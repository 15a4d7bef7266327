"""A vision transformer built from published weights: those of DINOv2 and of CLIP's half that sees pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

HEAD = 64  # channels of one attention head, in every published size of both transformers

# Their names of the weights -> ours: (pattern, replacement), the first that fits.
DINOV2 = (
    (r"^patch_embed\.proj\.", "patches."),
    (r"^cls_token$", "first"),
    (r"^pos_embed$", "places"),
    (r"^norm\.", "after."),
    (r"^blocks\.(\d+)\.norm([12])\.", r"blocks.\1.norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"blocks.\1.attend."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"blocks.\1.gather."),
    (r"^blocks\.(\d+)\.ls([12])\.gamma$", r"blocks.\1.scale\2"),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"blocks.\1.widen."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"blocks.\1.narrow."),
)
CLIP = (
    (r"^visual\.conv1\.", "patches."),
    (r"^visual\.class_embedding$", "first"),
    (r"^visual\.positional_embedding$", "places"),
    (r"^visual\.ln_pre\.", "before."),
    (r"^visual\.ln_post\.", "after."),
    (r"^visual\.proj$", "project"),
    (r"^visual\.transformer\.resblocks\.(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"blocks.\1.attend."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"blocks.\1.gather."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"blocks.\1.widen."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"blocks.\1.narrow."),
)


class Block(nn.Module):
    """Attention and a two-layer network, each added to its normalised input; (B, tokens, width) -> the same."""

    def __init__(self, width: int, inner: int, *, scaled: bool, quick: bool, small: float) -> None:
        super().__init__()
        self.quick = quick
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=small), nn.LayerNorm(width, eps=small)
        self.attend, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.scale1 = nn.Parameter(torch.ones(width), requires_grad=scaled)
        self.scale2 = nn.Parameter(torch.ones(width), requires_grad=scaled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        parts = self.attend(self.norm1(x)).view(batch, tokens, 3, width // HEAD, HEAD).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.scale1 * self.gather(mixed)
        inner = self.widen(self.norm2(x))
        # CLIP was trained with the sigmoid's approximation of the GELU.
        inner = inner * torch.sigmoid(1.702 * inner) if self.quick else functional.gelu(inner)
        return x + self.scale2 * self.narrow(inner)


class VisionTransformer(nn.Module):
    """Pictures (B, 3, H, W), sides multiples of the patch -> features (B, D) of the class token.

    Width, depth and patch are read from the weights. Source: Dosovitskiy et al. 2021; DINOv2: Oquab et al. 2023
    (learned scales, GELU, places interpolated to other sizes); CLIP: Radford et al. 2021 (a norm before, a projection
    after).
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        width, _, patch, _ = weights["patches.weight"].shape
        depth = 1 + max((int(name.split(".")[1]) for name in weights if name.startswith("blocks.")), default=-1)
        inner = len(weights["blocks.0.widen.weight"])
        clip = "project" in weights
        small = 1e-5 if clip else 1e-6
        self.patch = patch
        self.patches = nn.Conv2d(3, width, patch, stride=patch, bias="patches.bias" in weights)
        self.first = nn.Parameter(torch.zeros(width))
        self.places = nn.Parameter(torch.zeros(weights["places"].shape[-2:]))
        self.before = nn.LayerNorm(width, eps=small) if clip else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width, inner, scaled="blocks.0.scale1" in weights, quick=clip, small=small) for _ in range(depth)
        )
        self.after = nn.LayerNorm(width, eps=small)
        self.project = nn.Parameter(torch.eye(width, weights["project"].shape[1])) if clip else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x)  # (B, width, rows, columns)
        rows, columns = tokens.shape[2:]
        tokens = tokens.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), 1, -1), tokens], 1) + self._places(rows, columns)
        tokens = self.before(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        features = self.after(tokens[:, 0])
        return features if self.project is None else features @ self.project

    def _places(self, rows: int, columns: int) -> torch.Tensor:
        """The learned places (1 + rows * columns, width), interpolated where they were learned on another grid."""
        side = round((len(self.places) - 1) ** 0.5)
        if (rows, columns) == (side, side):
            return self.places
        grid = self.places[1:].T.reshape(1, -1, side, side)
        # The tenth is in DINOv2's own code: without it the features are others.
        factors = ((rows + 0.1) / side, (columns + 0.1) / side)
        grid = functional.interpolate(grid, scale_factor=factors, mode="bicubic")
        return torch.cat([self.places[:1], grid[0].flatten(1).T])


def vision_transformer(weights: Mapping[str, torch.Tensor], names: tuple[tuple[str, str], ...]) -> VisionTransformer:
    """The transformer of published weights, by the table of their names (`DINOV2` or `CLIP`), in float32.

    Weights of other parts (a text encoder, a mask token) are left out. Raises ValueError where some are missing.
    """
    ours: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        for pattern, replacement in names:
            if re.search(pattern, name):
                ours[re.sub(pattern, replacement, name)] = tensor.float()
                break
    if "patches.weight" not in ours or "places" not in ours or "blocks.0.widen.weight" not in ours:
        raise ValueError("these are not the weights of a vision transformer of this kind")
    ours["first"], ours["places"] = ours["first"].flatten(), ours["places"].flatten(0, -2)
    network = VisionTransformer(ours)
    if "blocks.0.scale1" not in ours:
        scales = {name: tensor for name, tensor in network.state_dict().items() if ".scale" in name}
        ours = {**scales, **ours}
    network.load_state_dict(ours)
    return network.eval().requires_grad_(False)
