"""What a run must be, and must not tell, where others are to use it."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.errors import InputError
from trilemma.modalities.attributes import NAME as ATTRIBUTES
from trilemma.models.contract import ALIASES, known_models
from trilemma.training.outside import NAME as OUTSIDE
from trilemma.training.run import Run
from trilemma.words import Words


def check_travels(run: Run) -> None:
    """InputError for a run of which others could make nothing."""
    if not run.finished:
        raise InputError(f"{run.folder} is not finished: repeat its `train` command first; then it has final weights")
    check_code(run.config(), str(run.folder))


def check_code(config: dict[str, Any], shown: str) -> None:
    """InputError for a run that needs Python of somebody's own: it does not travel, and is never run from there."""
    own = (config.get("own") or {}).get("networks") or []
    if own:
        raise InputError(
            f"{shown}: was trained with own networks in Python ({', '.join(own)}), which are not part of a run; hand "
            "the folder on together with their code"
        )
    inner = [space.get("made_by") or {} for space in config["spaces"].values()]  # an autoencoder, a CLIP
    for model in (config["model"], *(made["model"] for made in inner if "model" in made)):
        if ".py" in model:  # however it is written: `find` would run it
            raise InputError(f"{shown}: its model is a Python file ({Path(model).name}), which is not part of a run")
        if ALIASES.get(model, model) not in (*known_models(), OUTSIDE):
            raise InputError(f"{shown}: its model {model!r} is not known here; update Trilemma")


def taken_along(run: Any) -> list[str]:
    """What the weights of a run (as `load` gives it) hold of training examples, because samples are asked for by it."""
    told = []
    if run.attributes:
        names = ", ".join(one.name for one in run.attributes)
        count = len(run.model.spaces[ATTRIBUTES].pool()[0])
        told.append(f"the weights hold {count:,} rows of attributes ({names}) of training examples")
    for words in (space for space in run.model.spaces.values() if isinstance(space, Words)):
        kept = np.unique(words.kept.cpu().numpy(), axis=0)
        told.append(f"the weights hold {len(kept):,} captions of training examples")
    return [f"{one}: `generate` asks for such" for one in told]


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """config.json without paths of this machine: each becomes its last name, in settings also where it is gone."""

    def named(value: Any, asked: bool) -> Any:
        if isinstance(value, dict):
            return {key: named(one, asked or key in ("asked", "config", "opening")) for key, one in value.items()}
        if isinstance(value, list):
            return [named(one, asked) for one in value]
        if isinstance(value, str) and 1 < len(value) < 4096 and os.path.isabs(value):
            return Path(value).name if asked or os.path.exists(value) else value
        return value

    return named(copy.deepcopy(config), False)
