"""Autoencoders of `diffusers` (`AutoencoderKL`) as the first of two stages: frozen, and then part of the run.

Nothing is downloaded: a folder, a pipeline's folder with its part `vae`, or hub:OWNER/NAME from the cache; safetensors
only. A run with such codes needs the library to be loaded again, and no file beside itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trilemma.errors import InputError, first_line
from trilemma.latent import Coder
from trilemma.maths.precision import wide
from trilemma.spaces import Continuous, Space

NAME = "diffusers"  # as a run's description calls the maker of such codes
KIND = "AutoencoderKL"
HUB = "hub:"


class Outside(nn.Module, Coder):
    """An `AutoencoderKL` between raw examples of a Space and its codes, the means of their Gaussians.

    It sees values from -1 to 1 (the Space's `low` and `high`); one channel is shown to it as often as it has inputs.
    """

    token_count = 0

    def __init__(self, config: dict[str, Any], space: Space):
        super().__init__()
        if len(space.grid) != 2 or not isinstance(space, Continuous) or space.low is None or space.high is None:
            raise InputError(f"setting autoencoder: {KIND} codes pictures, and these are other data; take codec")
        channels, factor = int(config["in_channels"]), 2 ** (len(config["block_out_channels"]) - 1)
        if space.shape[0] not in (1, channels) or int(config["out_channels"]) != channels:
            raise InputError(f"setting autoencoder: it has {channels} channels, and the data {space.shape[0]}")
        if any(side % factor for side in space.grid):
            fit = "x".join(str(max(round(side / factor), 1) * factor) for side in space.grid)
            raise InputError(f"setting autoencoder: it needs sides in steps of {factor}: give --resolution {fit}")
        self.network: Any = library().AutoencoderKL.from_config(config)
        # Limits and levels only: what was fitted on the data is no part of this autoencoder.
        self.space = Continuous(space.shape, low=space.low, high=space.high, levels=space.levels)
        self.config, self.channels = config, channels
        self.low, self.high = float(space.low), float(space.high)
        self.code_shape = (int(config["latent_channels"]), *(side // factor for side in space.grid))

    def codes(self, x: Tensor) -> Tensor:
        seen = (wide(x) - self.low) / (self.high - self.low) * 2 - 1
        seen = seen.expand(-1, self.channels, -1, -1) if self.space.shape[0] == 1 else seen
        return self.network.encode(seen).latent_dist.mode()

    def tokens(self, x: Tensor) -> Tensor:
        raise InputError(f"setting autoencoder: the codes of {KIND} are no tokens; take codec:vq or codec:fsq")

    def tokens_of(self, codes: Tensor) -> Tensor:
        return self.tokens(codes)

    def from_tokens(self, tokens: Tensor) -> Tensor:
        return self.tokens(tokens)

    def restored(self, codes: Tensor) -> Tensor:
        made = wide(self.network.decode(wide(codes)).sample)
        made = made.mean(1, keepdim=True) if self.space.shape[0] == 1 else made
        return self.space.decode((made + 1) / 2 * (self.high - self.low) + self.low)  # to the nearest levels


def place_of(chosen: str) -> Path | None:
    """The folder of an `AutoencoderKL` that the setting means; None where it means something else.

    InputError for one of the Hub that is not in the cache of this machine, or is none.
    """
    folder = Path(chosen).expanduser()
    if chosen.startswith(HUB):
        folder = cached(chosen.removeprefix(HUB), "setting autoencoder")
    for place in (folder, folder / "vae"):
        try:
            if json.loads((place / "config.json").read_text(encoding="utf-8")).get("_class_name") == KIND:
                return place
        except (OSError, ValueError, AttributeError):
            continue
    if chosen.startswith(HUB):
        raise InputError(f"setting autoencoder={chosen}: there is no {KIND} in it")
    return None


def opened(place: Path, space: Space) -> Outside:
    """The autoencoder in a folder with its weights, for examples of this Space."""
    kind = library().AutoencoderKL
    try:
        given = kind.from_pretrained(str(place), use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as problem:
        raise InputError(
            f"setting autoencoder: {place} cannot be loaded from safetensors ({first_line(problem)})"
        ) from problem
    # What JSON keeps, so that the run builds it again.
    config = json.loads(json.dumps({k: v for k, v in given.config.items() if not k.startswith("_")}))
    made = Outside(config, space)
    made.network = given.float()
    return made.requires_grad_(False).eval()


def cached(name: str, asked: str) -> Path:
    """The folder where the Hub's library keeps OWNER/NAME; nothing is downloaded. asked: the option, for an error."""
    library(asked)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{asked}=hub:{name}: it is not in the cache of this machine; get it first: hf download {name}"
        ) from problem


def library(what: str = KIND) -> Any:
    """The module `diffusers`. InputError where it is not installed."""
    try:
        import diffusers
    except ImportError:
        raise InputError(
            f"{what} needs diffusers: pip install 'trilemma[diffusers]' (or pip install diffusers)"
        ) from None
    return diffusers
