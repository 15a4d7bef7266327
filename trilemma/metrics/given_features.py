"""Features of pictures by a network from elsewhere: a TorchScript or ONNX file, or one with published weights."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from trilemma.errors import InputError, first_line

CHUNK_VALUES = 4_000_000  # of prepared pictures, so that a chunk and what a network keeps of it stay below about 1 GB
CHUNK = 256  # pictures, at most
WIDEST = 16_384  # features a picture: with more, a thousand pictures would not fit beside the rest
EXPORT = "torch.jit.script(network.eval()).save('network.pt')"


@dataclass(frozen=True)
class Preparation:
    """How pictures become a network's input: (B, 1 or 3, H, W), float32 of 0 ... 1, less `mean`, over `deviation`.

    size: (H, W), reached by bicubic interpolation with antialiasing; None keeps that of the data. channels: 3 repeats
    grey pictures; None keeps the data's.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            # Antialiased like Pillow's; other resizing moves a Frechet distance by whole points (Parmar et al. 2022).
            x = functional.interpolate(x, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        if self.channels is not None and x.shape[1] == 1:
            x = x.expand(-1, self.channels, -1, -1)
        if self.mean:
            mean, deviation = (torch.tensor(each).view(1, -1, 1, 1) for each in (self.mean, self.deviation))
            x = (x - mean) / deviation
        return x.contiguous()

    def __str__(self) -> str:
        size = "own size" if self.size is None else f"{self.size[0]}x{self.size[1]} bicubic antialiased"
        channels = "own channels" if self.channels is None else f"{self.channels} channels"
        scale = f", mean {self.mean}, deviation {self.deviation}" if self.mean else ""
        return f"{size}, {channels}, 0 to 1{scale}"


@dataclass(frozen=True)
class Network:
    """A function of prepared pictures (B, C, H, W), and what its file says about them."""

    call: Callable[[torch.Tensor], Any]
    kind: str
    channels: int | None = None
    size: tuple[int, int] | None = None
    batch: int | None = None  # where it takes no other number of pictures


class PictureFeatures:
    """`PictureFeatures(...)(x)`: x (N, C, H, W) with C 1 or 3, values low ... high -> features (N, D) in float64.

    A network's output (B, D) is taken as it is, one of (B, D, h, w) averaged over its places; anything else is refused.
    `name` is what stands behind @ in a metric, `hash` the SHA-256 of the file; `record` says all that its figures
    depend on. Known biases: those of the data that the network was trained on.
    """

    published: bool  # its figures have a convention for the features as they are

    def __init__(
        self, name: str, network: Network, path: Path, *,
        preparation: Preparation | None = None, low: float = 0.0, high: float = 255.0,
    ) -> None:  # fmt: skip
        self.name, self.network, self.path = name, network, path
        self.preparation = preparation or Preparation(network.size, network.channels)
        self.low, self.high, self.published = low, high, preparation is not None
        self.hash = sha256(path)

    @property
    def record(self) -> str:
        """Kind, hash and preparation in one line."""
        return f"{self.network.kind}, sha256 {self.hash}, {self.preparation}"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if x.ndim != 4 or x.shape[1] not in (1, 3) or len(x) == 0:
            raise InputError(f"{self.path}: features need grey or colour pictures (N, 1 or 3, H, W), got {x.shape}")
        height, width = self.preparation.size or x.shape[2:]
        step = self.network.batch or min(max(CHUNK_VALUES // (3 * height * width), 1), CHUNK)
        return np.concatenate([self._chunk(x[start : start + step]) for start in range(0, len(x), step)])

    def _chunk(self, x: np.ndarray) -> np.ndarray:
        pixels = (torch.from_numpy(np.ascontiguousarray(x)).float() - self.low) / (self.high - self.low)
        pixels = self.preparation(pixels)
        if self.network.batch is not None and len(x) < self.network.batch:
            pixels = torch.cat([pixels, pixels[-1:].expand(self.network.batch - len(x), -1, -1, -1)])
        try:
            with torch.inference_mode():
                given = self.network.call(pixels)
        except Exception as problem:  # whatever the user's network raises
            lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
            shape = " x ".join(map(str, pixels.shape[1:]))
            raise InputError(
                f"{self.path}: does not take pictures of {shape} ({lines[-1] if lines else type(problem).__name__}); "
                f"say the size that it was made for, as in {self.path.name}:64"
            ) from problem
        return self._rows(given, len(pixels))[: len(x)]

    def _rows(self, given: Any, count: int) -> np.ndarray:
        if isinstance(given, (tuple, list)) and len(given) == 1:
            given = given[0]
        if not isinstance(given, torch.Tensor):
            many = f"{len(given)} outputs" if hasattr(given, "__len__") else f"a {type(given).__name__}"
            raise InputError(f"{self.path}: returns {many}; export a network whose only output is the features")
        if given.ndim not in (2, 4) or len(given) != count or given.numel() == 0:
            raise InputError(
                f"{self.path}: returns {tuple(given.shape)} for {count} pictures; its output must be (B, D), or "
                "(B, D, h, w), which is averaged over h and w"
            )
        rows = (given if given.ndim == 2 else given.flatten(2).float().mean(2)).double().numpy()
        if rows.shape[1] > WIDEST:
            raise InputError(f"{self.path}: {rows.shape[1]:,} features a picture are too many; pool them to {WIDEST:,}")
        if not np.isfinite(rows).all():
            broken = int((~np.isfinite(rows)).any(1).sum())
            raise InputError(
                f"{self.path}: the features of {broken} of {count} pictures are not finite; "
                "it gets float32 pictures of 0 ... 1: put its own scaling into the network"
            )
        return rows

    def check(self, x: np.ndarray) -> None:
        """Features of a few pictures; InputError also where they change from call to call or with their neighbours."""
        rows = self(x)
        alone = np.concatenate([self(x[place : place + 1]) for place in range(len(x))])
        if not np.allclose(rows, alone, rtol=1e-3, atol=1e-3 * float(np.abs(rows).max() + 1e-12)):
            raise InputError(
                f"{self.path}: the features of a picture change from call to call or with the pictures beside it; "
                f"export it in evaluation mode: {EXPORT}"
            )


def given_features(
    path: Path, x: np.ndarray, *, name: str, size: tuple[int, int] | None = None, low: float = 0.0, high: float = 255.0
) -> PictureFeatures:
    """The features of a TorchScript or ONNX file, tried on the first of these pictures x (N, C, H, W).

    size: (H, W) that the network gets; otherwise what its file says, otherwise the data's own. A network that refuses
    one channel gets three. Raises InputError for files that cannot be read or do not fit, with the fix.
    """
    network = open_network(path)
    if size is not None and network.size is not None and size != network.size:
        height, width = network.size
        raise InputError(f"{path}: takes pictures of {height} x {width} only; leave out :{size[0]}x{size[1]}")
    network = replace(network, size=size or network.size)
    if x.ndim == 4 and network.channels == 1 and x.shape[1] == 3:
        raise InputError(f"{path}: takes grey pictures only, and these have colours")
    features = PictureFeatures(name, network, path, low=low, high=high)
    try:
        features.check(x[:4])
    except InputError:
        if network.channels is not None or x.ndim != 4 or x.shape[1] != 1:
            raise
        coloured = PictureFeatures(name, replace(network, channels=3), path, low=low, high=high)
        with contextlib.suppress(InputError):
            coloured.check(x[:4])
            return coloured
        raise  # what it said of the pictures as they are
    return features


# --- files ------------------------------------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def open_network(path: Path) -> Network:
    """The network in a TorchScript or ONNX file; a pickle is refused, because loading it may run code."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a TorchScript (.pt) or ONNX (.onnx) file")
    if is_torchscript(path):
        return _torchscript(path)
    with open(path, "rb") as file:
        first = file.read(2)
    if zipfile.is_zipfile(path) or first[:1] == b"\x80":
        raise InputError(
            f"{path}: is a pickle (torch.save), which could run code when it is loaded and holds no network; "
            f"write it by {EXPORT}"
        )
    if path.suffix == ".safetensors":
        raise InputError(f"{path}: holds weights, not a network; write it by {EXPORT}")
    return _onnx(path)


def is_torchscript(path: Path) -> bool:
    """Is it an archive of torch.jit.save? A pickled checkpoint is an archive too, but has no code in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is old is the file's affair, not our user's
        yield


def _torchscript(path: Path) -> Network:
    try:
        with _quiet():
            network = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as problem:
        raise InputError(f"{path}: is no TorchScript that this PyTorch reads ({first_line(problem)})") from problem
    weights = next(network.parameters(), None)
    if weights is not None and weights.is_floating_point():
        network = network.float()  # half precision is for the GPU that it came from
    return Network(network, "TorchScript")


def _onnx(path: Path) -> Network:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{path}: reading ONNX needs the extra: pip install 'trilemma[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # its errors have no common class
        raise InputError(
            f"{path}: is neither TorchScript nor ONNX that can be read ({first_line(problem)})"
        ) from problem
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if inputs else []
    if (
        len(inputs) != 1
        or inputs[0].type != "tensor(float)"
        or len(shape) != 4
        or shape[1] not in (1, 3, *_names(shape))
    ):
        told = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
        raise InputError(f"{path}: takes {told}; it must take one float32 array of pictures (B, 1 or 3, H, W)")
    batch, channels, height, width = (side if isinstance(side, int) else None for side in shape)

    def call(x: torch.Tensor) -> list[torch.Tensor]:
        found = session.run([each.name for each in outputs], {inputs[0].name: x.numpy()})
        return [torch.from_numpy(np.asarray(each)) for each in found]

    size = None if height is None or width is None else (height, width)
    return Network(call, "ONNX", channels, size, batch)


def _names(shape: list[Any]) -> list[Any]:
    """Sides that are open: ONNX names them, or leaves them out."""
    return [side for side in shape if not isinstance(side, int)]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name from safetensors, TorchScript or a PyTorch checkpoint, of which nothing but tensors is read.

    Raises InputError for anything else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if is_torchscript(path):
            with _quiet():
                return torch.jit.load(str(path), map_location="cpu").state_dict()
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # pickle's, zip's and PyTorch's own
        raise InputError(f"{path}: no weights can be read from it ({first_line(problem)})") from problem
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(each, torch.Tensor) for each in weights.values()):
        raise InputError(f"{path}: holds no weights by name (a state_dict)")
    return weights
