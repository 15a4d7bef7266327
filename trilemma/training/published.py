"""Feature networks from elsewhere, as `--features` names them: the user's files, and three with published weights."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trilemma.errors import InputError, unknown
from trilemma.metrics.given_features import Network, PictureFeatures, Preparation, given_features, read_weights
from trilemma.modalities import cache
from trilemma.modalities.contract import Data
from trilemma.modalities.download import checksum_of, fetch
from trilemma.networks.inception import inception
from trilemma.networks.vision_transformer import CLIP, DINOV2, vision_transformer

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TAKEN = ("random", "imagenet")  # judges of our own


@dataclass(frozen=True)
class Published:
    """Weights that others publish: where, their SHA-256, how the network is built, and what it wants pictures to be."""

    addresses: tuple[str, ...]
    checksum: str
    build: Callable[[Mapping[str, torch.Tensor]], torch.nn.Module]
    preparation: Preparation

    @property
    def file(self) -> str:
        return self.addresses[0].rpartition("/")[2]


# Where the checksums are from: docs/decisions.md.
PUBLISHED = {
    "inception": Published(
        (
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
        ),
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        inception,
        # The network of 2015 saw (value - 128) / 128.
        Preparation((299, 299), 3, (128 / 255,) * 3, (128 / 255,) * 3),
    ),
    "dinov2": Published(
        ("https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",),
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        lambda weights: vision_transformer(weights, DINOV2),
        Preparation((224, 224), 3, IMAGENET_MEAN, IMAGENET_DEVIATION),
    ),
    "clip": Published(
        (
            "https://openaipublic.azureedge.net/clip/models/"
            "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
        ),
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        lambda weights: vision_transformer(weights, CLIP),
        Preparation((224, 224), 3, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ),
}


@dataclass(frozen=True)
class Wanted:
    """One `--features`: its name behind the @, a file (None: published weights), and the size it gets."""

    name: str
    path: Path | None = None
    size: tuple[int, int] | None = None


@dataclass
class Given:
    """The networks that could be had, and why others could not, by name."""

    networks: list[PictureFeatures] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def read_wanted(given: Iterable[str | Path] | str | Path) -> list[Wanted]:
    """`inception`, `FILE`, `FILE:SIZE`, `NAME=FILE` and `NAME=FILE:SIZE`, one by one.

    Raises InputError for a name that nobody knows, for one that is taken, and for a size with published weights.
    """
    found: list[Wanted] = []
    for each in [given] if isinstance(given, (str, Path)) else given:
        text = str(each)
        before, equals, rest = text.partition("=")
        named = bool(equals) and re.fullmatch(r"[\w.-]+", before) is not None and not Path(text).exists()
        name, place = (before, rest) if named else ("", text)
        size = None
        if not Path(place).exists() and (ending := re.fullmatch(r"(.+):(\d+)(?:x(\d+))?", place)):
            place, size = ending[1], (int(ending[2]), int(ending[3] or ending[2]))
        if not named and place in PUBLISHED:
            name = place
        wanted = Wanted(name, None if not named and place in PUBLISHED else Path(place), size)
        if wanted.path is not None and not wanted.path.is_file():
            if not named and size is None and not re.search(r"[./\\]", place):
                raise InputError(f"{unknown('feature network', place, PUBLISHED)}, or a TorchScript or ONNX file")
            raise InputError(f"--features {text}: {wanted.path} is no file")
        if size is not None and (name in PUBLISHED or min(size) < 1):
            raise InputError(f"--features {text}: leave out the size; {name or place} is given what it was made for")
        if wanted.path is not None and not name:
            wanted = Wanted(re.sub(r"[^\w.-]+", "-", wanted.path.stem), wanted.path, size)
        if wanted.name in TAKEN or wanted.name in [one.name for one in found]:
            raise InputError(f"--features {text}: there is a judge {wanted.name!r} already; call it NAME={place}")
        found.append(wanted)
    return found


def open_given(wanted: list[Wanted], data: Data) -> Given:
    """The feature networks for these data, each tried on a few pictures; downloads what it must.

    Weights that cannot be downloaded are no error: `left_out` says so, and where to put them. Raises InputError for
    files that cannot be read or do not fit, and for data that are no pictures.
    """
    found = Given()
    if not wanted:
        return found
    x, space = data.rows("test", 4), data.spaces["x"]
    if data.modality.kind != "image" or x.ndim != 4 or x.shape[1] not in (1, 3):
        raise InputError(
            f"--features: such networks see pictures, and these are {data.modality.kind} data; leave it out"
        )
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    limits = {"low": 0.0 if low is None else float(low), "high": 255.0 if high is None else float(high)}
    for one in wanted:
        known = PUBLISHED.get(one.name)
        if known is None:
            assert one.path is not None
            found.networks.append(given_features(one.path, x, name=one.name, size=one.size, **limits))
            continue
        try:
            path = one.path or download(one.name)
        except InputError as problem:
            found.left_out[one.name] = str(problem)
            continue
        network = Network(build(one.name, path), "published weights")
        features = PictureFeatures(one.name, network, path, preparation=known.preparation, **limits)
        features.check(x)
        found.networks.append(features)
    return found


def download(name: str) -> Path:
    """The file of published weights: from the cache, or downloaded now. InputError where it cannot be had."""
    known = PUBLISHED[name]
    target = cache.root() / "downloads" / "features" / known.file
    addresses = known.addresses
    if os.environ.get("TRILEMMA_MIRROR"):
        addresses = (os.environ["TRILEMMA_MIRROR"].rstrip("/") + f"/features/{known.file}",)
    elsewhere = f"put {known.file} into {target.parent}, or name it: --features {name}=FILE"
    if target.is_file() and checksum_of(target, "sha256") != known.checksum:
        raise InputError(f"{target} has a wrong checksum; delete it, or {elsewhere}")
    try:
        return fetch(addresses, target, known.checksum)
    except InputError as problem:
        raise InputError(f"its weights could not be downloaded ({problem}); {elsewhere}") from problem


def build(name: str, path: Path) -> Any:
    """The network of this name with the weights of a file, which may be of another size of it (DINOv2's, CLIP's)."""
    weights = read_weights(path)
    try:
        return PUBLISHED[name].build(weights)
    except (RuntimeError, ValueError, KeyError, IndexError) as problem:
        line = next(iter(str(problem).splitlines()), "")[:200]
        raise InputError(f"{path}: holds no weights of {name} ({line})") from problem
