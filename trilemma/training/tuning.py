"""What of a run learns on where `--from` comes with `lora` or `word`: groups of parameters; the loop is the same.

`lora=RANK` (Hu et al. 2022): the run's weights are frozen, and matrices of low rank are added to its layers.
`word=NAME` (Gal et al. 2023, "An image is worth one word"): a new token of its vocabulary, whose embedding alone
learns. With both, both learn. The Spaces, the settings and the size are those of the run; what is added is merged into
its weights at the end, so that the new run is used like any other.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trilemma.config import Tuning, assign, from_json
from trilemma.errors import InputError
from trilemma.impressions import GUIDE
from trilemma.models.contract import Model, find
from trilemma.networks import low_rank
from trilemma.networks.text import TextTower
from trilemma.training.run import Run
from trilemma.words import Words, is_word, normal, words_of

KEYS = tuple(one.name for one in fields(Tuning))
WORD_RATE = 2e-2  # of the optimizer, where one row learns and nobody says how fast
LORA_RATE = 0.25  # of the run's own rate: additions at its whole one soon make all words mean the new thing
FEWEST = 4  # examples
OWN = {"attributes", "caption", "cluster"}  # Spaces that know the new data: examples of captions, shares of clusters


def tuning_of(settings: dict[str, Any], start: Any) -> Tuning:
    """What the settings ask for.

    Raises:
        InputError: no run to begin with; a word that is none; a setting that says nothing.
    """
    tuning = Tuning()
    for key in KEYS:
        if key in settings:
            assign(tuning, key, settings[key])
    for key, needed in (("lora_alpha", "lora"), ("word_like", "word")):
        if getattr(tuning, key) and not getattr(tuning, needed):
            raise InputError(f"setting {key}: says nothing without {needed}; give --set {needed}=... or leave it out")
    if tuning.asked and start is None:
        which = "lora" if tuning.lora else "word"
        raise InputError(f"setting {which}: goes on with a run that is there; name it with --from RUN")
    if tuning.word and (words_of(tuning.word) != [normal(tuning.word)] or not is_word(tuning.word)):
        raise InputError(f"setting word={tuning.word!r}: give one word of letters and digits, such as zork")
    return tuning


def read_as(start: str | Path, resolution: Any) -> Any:
    """The size at which pictures are read: the run's, unless the user gives one."""
    config = Run.at(start).config()
    space = config["spaces"]["x"]
    shape = space.get("base", space).get("shape") or ()
    usual = config["data"]["kind"] == "image" and len(shape) == 3 and resolution is None
    return tuple(shape[1:]) if usual else resolution


def continued(name: str, size: str | None, start: str | Path, tuning: Tuning, changes: dict[str, Any]) -> Any:
    """The model's config: the run's own, and the user's changes over it.

    Raises:
        InputError: another model or size than the run's; a word for a run whose samples a CLIP leads, which reads it.
    """
    run = Run.at(start).config()
    model_class, _ = find(name)
    if model_class is not find(run["model"])[0]:
        raise InputError(f"--model {name}: {start} is a run of {run['model']}, which goes on; leave --model out")
    if size not in (None, run["size"]):
        raise InputError(f"--size {size}: {start} is a run of size {run['size']}, which goes on; leave --size out")
    if tuning.word and GUIDE in run["spaces"] and not model_class.learns_impressions:
        raise InputError(
            f"setting word={tuning.word!r}: the CLIP within {start} knows no new words; take lora=8, and captions in "
            "words that it knows"
        )
    config = from_json(model_class.Config, run["config"])
    config.optimizer.rate = LORA_RATE * config.optimizer.rate if tuning.lora else WORD_RATE
    for path, value in changes.items():
        assign(config, path, value, setting=path if "." in path else f"model.{path}")
    return config


def frozen_but(model: Model, tuning: Tuning) -> None:
    """Let only that learn which the settings ask for, if they ask for anything."""
    if tuning.asked:
        alpha = tuning.lora_alpha or float(tuning.lora)
        low_rank.adapt(model, rank=tuning.lora, alpha=alpha, word=bool(tuning.word))


def begun(model: Model, start: Model, tuning: Tuning) -> dict[str, Tensor]:
    """The state of `model` at step 0: `start`'s weights in Spaces of its own, or in `start`'s where that is tuned.

    Raises:
        InputError: weights that do not fit.
    """
    mine, theirs = model.state_dict(), start.state_dict()
    if tuning.word:
        _with_word(start, tuning, theirs)
    # A CLIP that only leads samples is no part of what was learned: with it, without it, or with another one; nor are
    # the calendars that a Space keeps.
    learned, known = (
        {key for key in state if not key.startswith(f"spaces.{GUIDE}.") and not key.endswith(".scenes")}
        for state in (mine, theirs)
    )
    if learned != known or any(mine[key].shape != theirs[key].shape for key in learned):
        raise InputError(
            "--from: that run has another model, size or kind of data; its weights do not fit here"
            + ("" if not tuning.asked or learned != known else f" ({_first_difference(mine, theirs)})")
        )
    # `space` and `spaces` name the same tensors: both stay this data's own.
    fitted = {key for key in mine if {"space", "spaces"} & set(key.split("."))}
    if tuning.asked:  # frozen weights know no other units than those that they learned in
        fitted = {key for key in fitted if _is_own(key.split("."))}
    return {key: mine[key] if key in fitted else theirs.get(key, mine[key]) for key in mine}


def _is_own(parts: list[str]) -> bool:
    """Of a key in parts: is it that of a Space which knows the new data?"""
    pairs = pairwise(parts)
    return GUIDE not in parts and any(one in ("space", "spaces") and other in OWN for one, other in pairs)


def _words(model: Model) -> Words | None:
    return next((space for space in model.spaces.values() if isinstance(space, Words)), None)


def _with_word(start: Model, tuning: Tuning, state: dict[str, Tensor]) -> None:
    """A row for the new word in the tables of `start`'s state: the mean of those of its pieces, or of `word_like`'s.

    Raises:
        InputError: a model that does not read; a `word_like` that it does not know.
    """
    known = _words(start)
    if known is None:
        raise InputError(f"setting word={tuning.word!r}: the run of --from does not read captions; take one that does")
    if tuning.word_like and not known.knows(tuning.word_like):
        raise InputError(f"setting word_like={tuning.word_like!r}: no caption of the run of --from has that word")
    pieces = known.tokenizer.encode(tuning.word_like or tuning.word)
    for name, module in start.named_modules():
        if isinstance(module, TextTower) and GUIDE not in name.split("."):  # nothing of a CLIP learns
            table = module.embedding.weight.detach()
            state[f"{name}.embedding.weight"] = torch.cat([table, table[pieces].mean(0, keepdim=True)])


def _first_difference(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> str:
    key = next(key for key in mine if key in theirs and mine[key].shape != theirs[key].shape)
    here, there = (" x ".join(map(str, one[key].shape)) for one in (mine, theirs))
    return f"{key} is {here} here, {there} there"
