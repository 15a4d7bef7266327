"""What can be asked of a trained model, by its capabilities."""

from __future__ import annotations

from types import UnionType

from trilemma.models.contract import (
    TRAINED,
    Decodes,
    Denoises,
    Draws,
    Encodes,
    Fills,
    Inverts,
    Matches,
    Model,
    Redraws,
    Samples,
    Scores,
    Styles,
    Surprises,
    Translates,
    find,
    model_files,
)

# What a task asks of a model: all of these, of `A | B` one.
TASKS: dict[str, tuple[type | UnionType, ...]] = {
    "generate": (Samples,),
    "reconstruct": (Encodes | Inverts, Draws),
    "interpolate": (Draws,),
    "embed": (Encodes,),
    "denoise": (Denoises,),
    "impute": (Fills,),
    "forecast": (Fills,),
    "stress": (Samples,),
    "risk": (Fills,),
    "traverse": (Encodes, Decodes),
    "mix": (Styles,),
    "project": (Styles,),
    "edit": (Styles,),
    "vary": (Redraws,),
    "directions": (Styles,),
    "score": (Scores,),
    "detect": (Surprises,),
    "translate": (Translates,),
    "search": (Matches,),
    "classify": (Matches,),
    "info": (),
}


# Tasks that only some kinds of data have; all others are for every kind.
ONLY = {
    "impute": ("series", "table"),
    "detect": ("image", "series", "table"),
    "forecast": ("series",),
    "stress": ("series",),
    "risk": ("series",),
    "translate": ("image",),
    "search": ("image",),
    "classify": ("image",),
}
# What is given of a series, its calendar, is no part of the noise that it is made of: such codes do not tell of it.
UNTOLD = {"series": {"reconstruct", "interpolate"}}
ON_GRIDS = ("image", "series")  # kinds of data whose values have places
TRANSLATORS = ("translate", "info")  # all that a run which has learned from sources does


def works(model_class: type, kind: str, task: str) -> bool:
    """Can a model of this class do the task with data of this kind?"""
    untold = issubclass(model_class, Inverts) and task in UNTOLD.get(kind, ())
    return needs(model_class, task) and learns(model_class, kind) and kind in ONLY.get(task, (kind,)) and not untold


def learns(model_class: type, kind: str) -> bool:
    """Can a model of this class learn from data of this kind?"""
    if not issubclass(model_class, Model):
        return True
    if getattr(model_class.Config(), "autoencoder", ""):  # steps of series may be missing; codes cannot say so
        return kind == "image"
    return kind in ON_GRIDS or not model_class.needs_grid


def needs(model_class: type, task: str) -> bool:
    """Has this model class all capabilities that the task asks for? Those that need sources do nothing without."""
    only = issubclass(model_class, Model) and "alone" not in model_class.sets
    return not (only and task not in TRANSLATORS) and all(issubclass(model_class, kind) for kind in TASKS[task])


def models_that(task: str) -> list[str]:
    """Names of the models that can do a task."""
    able = []
    for stem in model_files():
        model_class, _ = find(stem)
        if issubclass(model_class, TRAINED) and needs(model_class, task):
            able.append(stem)
    return able
