"""A model at step 0, and a trained one from its run folder: the final weights, or the averages of an unfinished run."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from trilemma.config import Training, Tuning, from_json
from trilemma.errors import InputError, of_another_version
from trilemma.impressions import Impression
from trilemma.latent import Latent
from trilemma.mixed import space_from
from trilemma.modalities.contract import Data
from trilemma.models.contract import Model, find
from trilemma.networks.low_rank import merged
from trilemma.spaces import Continuous, Space
from trilemma.training import outside
from trilemma.training.average import usual
from trilemma.training.engine import Engine
from trilemma.training.run import Run
from trilemma.training.tuning import begun, frozen_but


def build(
    name: str, config: Any, data_spaces: dict, seed: int, *, networks: dict | None = None, start: Model | None = None,
    tuning: Tuning | None = None,
) -> Model:  # fmt: skip
    """A fresh model on its own copies of the Spaces; its initial weights are a function of config and seed.

    start: the model whose weights to take. tuning: what of them is to learn on.
    """
    tuning = tuning or Tuning()
    torch.manual_seed(seed)
    model_class, _ = find(name)
    spaces = copy.deepcopy(data_spaces)
    extra = {"networks": networks} if networks else {}
    model = model_class(config, spaces, start, **extra)  # type: ignore[call-arg]
    if start is not None:
        model.load_state_dict(begun(model, start, tuning))
    frozen_but(model, tuning)
    return model


def described(description: dict[str, Any]) -> Space:
    """The Space that `describe()` described, one of codes or impressions with the model that makes them."""
    if description["kind"] not in ("latent", "impression"):
        return space_from(description)
    made_by = description["made_by"]
    if description["kind"] == "impression":
        model_class, _ = find(made_by["model"])
        spaces = {name: space_from(one) for name, one in made_by["spaces"].items()}
        matcher = model_class(from_json(model_class.Config, made_by["config"]), spaces)  # type: ignore[call-arg]
        return Impression(matcher, description["size"], made_by=made_by, told=description.get("told", False))
    theirs = space_from(made_by["x"])
    autoencoder: nn.Module
    if made_by["model"] == outside.NAME:
        autoencoder = outside.Outside(made_by["config"], theirs)
    else:
        model_class, _ = find(made_by["model"])
        autoencoder = model_class(from_json(model_class.Config, made_by["config"]), {"x": theirs})  # type: ignore[call-arg]
    return Latent(autoencoder, space_from(description["base"]), tuple(description["shape"]), made_by=made_by)


def in_units_of(run: Run, data: Data) -> Data:
    """The data with the Space of x of this run, in whose units its weights have learned.

    Raises:
        InputError: examples of another shape or kind.
    """
    about, tensors, mine = run.config()["spaces"]["x"], stored(run), data.spaces["x"]
    space, within = described(about), "spaces.x."
    space.load_state_dict({k.removeprefix(within): v for k, v in (tensors or {}).items() if k.startswith(within)})
    theirs = space.outer
    if type(mine) is not type(theirs) or mine.shape != theirs.shape:
        shown, known = (" x ".join(map(str, one.shape)) for one in (mine, theirs))
        raise InputError(f"--from {run.folder}: that run has learned from examples of {known}; these are {shown}")
    here, there = ({**one, "delimiter": ""} for one in (data.modality.describe(), run.config()["data"]["modality"]))
    if not isinstance(mine, Continuous) and here != there:
        raise InputError(f"--from {run.folder}: that run has learned from data with other columns or categories")
    return replace(data, spaces={**data.spaces, "x": theirs})


def check_attributes(data: Data, run: Run) -> None:
    """InputError where a run that another one begins with has learned from other attributes than these data have.

    Numbers may be others; categories must have the same values, for weights know them by their place.
    """

    def said(columns: list[dict[str, Any]]) -> dict[str, Any]:
        return {one["name"]: one["values"] if one["kind"] == "category" else one["kind"] for one in columns}

    there = said(run.config()["data"].get("attributes") or [])
    here = said([vars(column) for column in data.attributes])
    odd = next((name for name in [*there, *here] if there.get(name) != here.get(name)), None)
    if odd is not None:
        words = [f"{odd!r} is {side[odd]}" if odd in side else f"there is no {odd!r}" for side in (there, here)]
        raise InputError(
            f"--from {run.folder}: that run has learned from other attributes: {words[0]} there, {words[1]} here; "
            f"give the new pictures the same ones, or leave it out of both: --set data.columns.{odd}=text"
        )


def stored(run: Run) -> dict[str, Tensor] | None:
    """The weights by name: the final ones, or the averages of an unfinished run; None before its first state."""
    if run.finished:
        try:
            return load_file(run.weights_file)
        except Exception as problem:
            raise InputError(f"{run.weights_file} is damaged ({problem}); train the run again") from None
    state = run.latest_state()
    if state is None:
        return None
    tensors = {name.removeprefix("model."): t for name, t in state[0].items() if name.startswith("model.")}
    training = from_json(Training, run.config()["training"])
    average = usual(training.averages, find(run.config()["model"])[0].average)
    if average:
        prefix = f"average.{average}."
        tensors |= {name.removeprefix(prefix): t for name, t in state[0].items() if name.startswith(prefix)}
    return tensors


def restore(run: Run, engine: Engine, *, networks: dict[str, nn.Module] | None = None) -> Model:
    """The run's model on this engine, in evaluation mode."""
    config = run.config()
    model_class, _ = find(config["model"])
    spaces = {name: described(description) for name, description in config["spaces"].items()}
    missing = set(config["own"]["networks"]) - set(networks or {})
    if missing:
        raise InputError(
            f"{run.folder} was trained with your own networks ({', '.join(sorted(missing))}): hand them in"
        )
    extra = {"networks": copy.deepcopy(networks)} if networks else {}
    model = model_class(from_json(model_class.Config, config["config"]), spaces, **extra)  # type: ignore[call-arg]
    tensors = stored(run)
    if tensors is None:
        raise InputError(
            f"{run.folder} has no weights yet: training has not reached its first safe state; try again soon"
        )
    tuning = from_json(Tuning, config.get("tuning", {}))
    if tuning.asked and not run.finished:  # what is added is merged at the end
        tuned = copy.deepcopy(model)
        frozen_but(tuned, tuning)
        tuned.load_state_dict(tensors)
        tensors = merged(tuned)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as problem:
        raise of_another_version(str(run.folder), config["model"], problem) from None
    model.to(engine.device)
    return model.eval()
