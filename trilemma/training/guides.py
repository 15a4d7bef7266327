"""A CLIP that a model looks at: trained first, in a folder of the run, or a run that is there already.

It becomes the Space `guide` of the model (`impressions.py`), so that the run's weights hold it: a run goes on, and is
used, without the folder. It is trained on the run's own data, from another seed than any that measures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trilemma.batches import Arrays
from trilemma.errors import InputError, unknown
from trilemma.impressions import GUIDE, Impression
from trilemma.modalities.contract import Data
from trilemma.models.contract import Matches, Model, configure, find, known_models
from trilemma.spaces import fit_continuous
from trilemma.training.captions import CAPTION
from trilemma.training.engine import Engine
from trilemma.training.restore import build, described, restore, stored
from trilemma.training.run import Run
from trilemma.training.stages import spent_on
from trilemma.training.tuning import tuning_of
from trilemma.words import Words

CLIP = "clip"  # the setting's name, and that of the folder within a run
SHARE = 0.2  # of the budget
FIT = 10_000  # training examples whose impressions, and those of their captions, give mean and deviation
BATCH = 250


@dataclass
class Guide:
    """What gives the Space `guide`: a run, a model that is still to be trained, or what a run holds already."""

    name: str = ""  # of a model that is to be trained
    run: Run | None = None
    held: dict[str, Any] | None = None  # the description of the Space: its weights come with those of the run
    spent: float = 0.0  # of the budget, in its own unit

    def coded(self, data: Data, *, few: int | None = None, quiet: bool = True) -> Data:
        if self.held is not None:
            return replace(data, spaces={**data.spaces, GUIDE: described(self.held)})
        return guided_untrained(data, self.name) if self.run is None else guided(data, self.run)


def guide_of(run: Run, unit: str) -> Guide | None:
    """Of a run that exists: from its state or weights, or before its first state from what it began with."""
    config = run.config()
    about, first = config["spaces"].get(GUIDE), Run(run.folder / CLIP)
    if about is None:
        return None
    if run.finished or run.latest_state() is not None:
        return Guide(held=about, spent=spent_on(first, unit))
    asked = config["asked"]
    if tuning_of(asked["settings"], asked["from"]).asked:
        return Guide(held=about)
    theirs = inherited(asked)
    if theirs is not None:
        return theirs
    chosen = clip_of(asked["model"], asked["settings"])
    outside = first if chosen in known_models() else Run(chosen)
    if not outside.exists:
        raise InputError(
            f"the CLIP of {run.folder}, {outside.folder}, is not there any more, and the run was stopped before its "
            "first safe state: remove the folder and train it again"
        )
    return Guide(run=outside, spent=spent_on(first, unit))


def inherited(asked: dict[str, Any]) -> Guide | None:
    """The CLIP within the run whose weights a training begins with, where there is such a run and one in it.

    Weights that have learned from its impressions know no others. Where it only leads samples, the settings may name
    another one.

    Raises:
        InputError: weights that know impressions, and no CLIP in that run, or another one in the settings.
    """
    if not asked["from"]:
        return None
    start, fixed = Run.at(asked["from"]), find(asked["model"])[0].learns_impressions
    within = GUIDE in start.config()["spaces"]
    named = next((key for key in (CLIP, f"model.{CLIP}") if key in asked["settings"]), None)
    if fixed and not within:
        raise InputError(
            f"--from {start.folder}: there is no {CLIP} in that run, so that its weights do not fit; begin with one "
            "of the same model, or without --from"
        )
    if fixed and named:
        raise InputError(
            f"setting {named}: the weights of --from {start.folder} know its own {CLIP}, no other; leave it out"
        )
    return Guide(run=start) if within and not named else None


def clip_of(name: str, settings: dict[str, Any]) -> str:
    """What guides this model: a model's name, a run's folder, or '' for nothing.

    Raises:
        InputError: neither a model that matches captions nor a run of one.
    """
    model, preset = find(name)
    if not hasattr(model.Config(), CLIP):
        return ""
    given = {**model.presets.get(preset, {}), **{key.removeprefix("model."): value for key, value in settings.items()}}
    chosen = str(given.get(CLIP, model.Config().clip) or "")
    if not chosen:
        return ""
    able = [one for one in known_models() if issubclass(find(one)[0], Matches)]
    if chosen in able:
        return chosen
    if not Path(chosen).is_dir():
        raise unknown(f"setting {CLIP}: a run's folder or a model,", chosen, able)
    config = Run.at(chosen).config()
    if not issubclass(find(config["model"])[0], Matches):
        known = f"{chosen} is a run of {config['model']}, which knows no captions"
        raise InputError(f"setting {CLIP}: {known}; take one of {' or '.join(able)}")
    return chosen


def guided(data: Data, run: Run) -> Data:
    """The data with the Space `guide` of this run of a CLIP, or of a run that has one within it.

    Raises:
        InputError: a CLIP of examples of another shape, codes instead of examples, or no weights yet.
    """
    about = run.config()["spaces"].get(GUIDE)
    if about is None:
        return _with(data, restore(run, Engine(device="cpu")), made_by(run.config()))
    tensors, within = stored(run), f"spaces.{GUIDE}."
    if tensors is None:
        raise InputError(f"{run.folder} has no weights yet: training has not reached its first safe state")
    space = described(about)
    space.load_state_dict({k.removeprefix(within): v for k, v in tensors.items() if k.startswith(within)})
    assert isinstance(space, Impression)
    return _with(data, space.matcher, about["made_by"], told=about.get("told", False))


def made_by(config: dict[str, Any]) -> dict[str, Any]:
    """The JSON from which a run's model is built again, its weights apart."""
    return {"model": config["model"], "config": config["config"], "spaces": config["spaces"]}


def guided_untrained(data: Data, name: str) -> Data:
    """The same, by a CLIP that has learned nothing: for plans."""
    settings = configure(name, data.spaces, count=len(data.splits["train"]))
    matcher = build(name, settings, {key: data.spaces[key] for key in data.spaces if key != GUIDE}, 0)
    return _with(data, matcher, {}, few=8)


def _with(data: Data, matcher: Model, about: dict[str, Any], *, few: int = FIT, told: bool = True) -> Data:
    """told: with what it reads in captions, where it reads those of the data."""
    if data.codes is not None:
        raise InputError(f"setting {CLIP}: a CLIP sees examples, not codes; leave it or the autoencoder out")
    if matcher.space.shape != data.spaces["x"].shape:
        theirs, mine = (" x ".join(map(str, shape)) for shape in (matcher.space.shape, data.spaces["x"].shape))
        raise InputError(f"setting {CLIP}: that run sees examples of {theirs}, these are {mine}; give --resolution")
    assert isinstance(matcher, Matches)
    matcher.eval()
    rows = np.sort(data.splits["train"][:few])
    batches = Arrays(data.x, rows=rows).batches(BATCH)
    with torch.no_grad():
        seen = torch.cat([matcher.images(matcher.space.embed(batch.x)).float() for batch in batches])
    space, words = Impression(matcher, seen.shape[1], made_by=about, told=told), data.spaces.get(CAPTION)
    space.codes.load_state_dict(fit_continuous(seen).state_dict())
    if space.told is not None and isinstance(words, Words) and space.reads(words, more=True):
        here = data.present[CAPTION][rows] if CAPTION in data.present else slice(None)
        captions = torch.from_numpy(np.asarray(data.conditions[CAPTION])[rows][here])
        if len(captions):
            read = torch.cat([space.read(part)[0] for part in captions.split(BATCH)])
            space.told.load_state_dict(fit_continuous(read).state_dict())
    return replace(data, spaces={**data.spaces, GUIDE: space})
