"""The precision in which numbers are added up."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """x in float32, or in float64 where it already is: every output of a network that may run in bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
