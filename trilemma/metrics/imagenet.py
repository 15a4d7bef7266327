"""Features of a packaged ImageNet network (EfficientNet-Lite0, Apache-2.0) for photographs; the extra `photographs`."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from trilemma.borrowed import has_photographs, photographs

SIDE = 96  # pixels: small pictures gain nothing from the network's own 224
BATCH = 64


def available() -> bool:
    """Are both packages of the extra installed?"""
    return has_photographs()


class ImageNetFeatures:
    """`ImageNetFeatures()(x)`: x (N, 3, H, W) of 0 ... 255 -> pooled features (N, 1280) in float64.

    Pictures are resized to 96 x 96 by bicubic interpolation with antialiasing, values scaled as the network was
    trained, (x - 127) / 128. Known biases: knows ImageNet's objects, so that small drawings or scans look alike to it.
    """

    name = f"efficientnet-lite0-{SIDE}"

    def __init__(self) -> None:
        self.network = photographs()

    @torch.no_grad()
    def __call__(self, x: np.ndarray) -> np.ndarray:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"ImageNet features need colour pictures (N, 3, H, W), got {x.shape}")
        parts = []
        for start in range(0, len(x), BATCH):
            pixels = torch.from_numpy(np.ascontiguousarray(x[start : start + BATCH])).float()
            pixels = functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)
            parts.append(self.network.extract_features((pixels - 127) / 128).mean((2, 3)).double().numpy())
        return np.concatenate(parts)
