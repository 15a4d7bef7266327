"""The data as the model that is to be trained sees them: which model where none is named, labels, pairs, captions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trilemma.mixed import space_from
from trilemma.modalities.contract import Data, Opening
from trilemma.modalities.door import open_data
from trilemma.models.contract import find, known_models, sets_of
from trilemma.spaces import Continuous
from trilemma.training.captions import CAPTION, text_of, worded
from trilemma.training.guides import clip_of
from trilemma.training.restore import check_attributes, in_units_of
from trilemma.training.run import Run
from trilemma.training.tuning import tuning_of


def opened(sources: tuple[Any, Any], opening: Opening, asked: dict[str, Any], run: Run | None = None) -> Data:
    """The data, as this model learns from them: pairs are two sets to one that knows no pairs, captions are tokens.

    run: one that goes on with its own vocabulary, whatever has become of the runs that it began with.
    """
    theirs = None
    given, tuning = asked["settings"], tuning_of(asked["settings"], asked["from"])
    if tuning.asked:  # which reads as its run does
        given = {**given, "text": Run.at(asked["from"]).config()["config"].get("text", "")}
    if run is not None and not tuning.asked:
        about = run.config()["spaces"].get(CAPTION)
        theirs = space_from(about) if about else None
    elif asked["from"] and text_of(asked["model"], given):
        about = Run.at(asked["from"]).config()["spaces"].get(CAPTION)
        theirs = space_from(about) if about else Continuous(())  # a Space that is none of words
    elif (chosen := clip_of(asked["model"], asked["settings"])) and chosen not in known_models():
        theirs = space_from(Run.at(chosen).config()["spaces"][CAPTION])  # the words that this CLIP knows
    seen = seen_by(asked["model"], whole(sources, opening))
    seen = worded(seen, asked["model"], given, theirs, word=tuning.word)
    if asked["from"] and run is None:
        check_attributes(seen, Run.at(asked["from"]))
    return in_units_of(Run.at(asked["from"]), seen) if tuning.asked else seen


def whole(sources: tuple[Any, Any], opening: Opening) -> Data:
    """The data with all that is known of them."""
    source, data2 = sources
    return open_data(source, opening=opening, data2=data2)


def seen_by(model: str, data: Data) -> Data:
    """The data as a model of this name learns from them: a translator has the source alone, and no labels.

    Whoever translates gives a picture, whose label nobody knows: a condition that training always has would be a
    random vector there.
    """
    known = find(model)[0].sets
    data = data.without_pairs() if "unpaired" in known and "paired" not in known else data
    if "alone" in known or sets_of(data.spaces) == "alone":  # the latter will be an error of its own
        return data

    def kept(held: dict[str, Any]) -> dict[str, Any]:
        return {name: one for name, one in held.items() if name in ("x", "source", "other")}

    return replace(
        data,
        conditions=kept(data.conditions),
        present=kept(data.present),
        spaces=kept(data.spaces),
        label_names=[],
        attributes=[],
    )


def scale_of(data: Data, side: str = "source") -> float | None:
    """By how much sources (or targets) were shrunk before they were learned from; None where they were of several
    sizes."""
    sizes = data.facts.get("source_sizes" if side == "source" else "sizes") or data.facts.get("sizes") or []
    if len(sizes) != 1 or data.x.ndim != 4:
        return None
    ratios = [made / given for made, given in zip(data.x.shape[2:], sizes[0][:2], strict=True)]
    return max(ratios) if data.opening.fit == "crop" else min(ratios)


def usual_model(sources: tuple[Any, Any], opening: Opening, held: list[Data]) -> str:
    """The model that is taken when nobody names one, by the data: `held` gets them, so that it happens once."""
    data = whole(sources, opening)
    held.append(data)
    return {"paired": "bridge", "unpaired": "cut", "alone": "diffusion"}[sets_of(data.spaces)]
