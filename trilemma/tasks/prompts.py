"""What people ask for in words or as attributes, as a model reads it: what it does not know is said."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np

from trilemma.borrowed import Borrowed
from trilemma.errors import InputError
from trilemma.modalities.attributes import NAME
from trilemma.training.sampling import Prompt
from trilemma.words import Words, says_something

Loaded = Any  # a run as `load` gives it; imports point downward
SHOWN = 8  # unknown words that are named


def prompted(run: Loaded, prompt: str | None, negative: str | None = None) -> Prompt | None:
    """The two as raw captions; None where nothing is asked for.

    Raises:
        InputError: a model that does not read; a text without a word; what not to make without what to make.
    """
    if prompt is None and negative is None:
        return None
    space = next((space for space in run.model.spaces.values() if isinstance(space, Words)), None)
    if space is None:
        raise InputError(
            "--prompt: this model has not learned from captions; train one with --model diffusion:text on pictures "
            "with captions (metadata.csv with file_name and text, or a .txt beside each)"
        )
    if prompt is None:
        raise InputError("--negative says what not to make: say with --prompt what to make")
    check_text(run, space, prompt, "--prompt")
    if negative is not None:
        if "guidance" not in run.config["config"]:
            raise InputError(f"--negative: {run.config['model']} has no guidance that could lead away; leave it out")
        check_text(run, space, negative, "--negative")
    return Prompt(space.write([prompt]), None if negative is None else space.write([negative]))


def pooled(run: Loaded, where: str, label: int | None, *, alone: bool = False) -> Prompt:
    """Attributes of training examples that meet the conditions; else of any, with the values that are demanded.

    alone: nothing is said of attributes that the conditions do not name.

    Of series, whose attributes are those of a label, a combination that none of them has goes without one.

    Raises:
        InputError: conditions that cannot be read, or that no training example meets and no value says; of series one
            that the label does not meet, or no label, for a model that is always told one.
    """
    from trilemma.modalities.where import parse  # pandas is for data with attributes only

    wanted = parse(where, run.attributes)
    rows, labels = run.model.spaces[NAME].pool()
    some = [rows, *([rows[labels == label]] if label is not None and (labels == label).any() else [])]
    theirs = [labels, labels[labels == label]]
    named = {clause.place for clause in wanted.clauses}
    silent = [place not in named for place in range(rows.shape[1])] if alone else [False] * rows.shape[1]
    for pool, own in reversed(list(zip(some, theirs, strict=False))):
        good = wanted.holds(pool)
        if good.any():
            return Prompt(pool=(np.where(silent, np.nan, pool[good]), own[good]))
        if run.modality.kind == "series" and label is not None and len(own) and (own == label).all():
            name = run.label_names[label]
            raise InputError(f"--where {where!r}: {wanted.unmet(pool)} of {name!r}; leave --label out")
    x, observed = wanted.given(len(some[-1]), np.random.default_rng(0))
    made = np.where(observed, x, some[-1])
    good = wanted.holds(made)
    if not good.any():
        raise InputError(f"--where {where!r}: no training example meets it{_near(wanted)}")
    strange = run.modality.kind == "series"
    if strange and not run.config["config"].get("drop"):
        raise InputError(
            f"--where {where!r}: no {run.modality.entity} of the run has all of this, and {run.config['model']} knows "
            f"no others; ask for less, or take diffusion, which also learns without knowing the {run.modality.entity}"
        )
    run.say(f"--where {where!r}: no training example has all of this; it is a new combination for the model")
    return Prompt(pool=(np.where(silent, np.nan, made[good]), np.full(int(good.sum()), -1)), strange=strange)


def _near(wanted: Any) -> str:
    """What could be asked for instead, in words."""
    for clause in wanted.clauses:
        column = wanted.columns[clause.place]
        if clause.sign[0] in "<>":
            values = column.values
            if column.scored:
                values = column.written(np.array([column.knots[0], column.knots[-1]]), np.random.default_rng(0))
            return f"; {column.name!r} reaches from {values[0]} to {values[-1]}, and other conditions must leave some"
        if clause.sign == "=" and column.scored:
            near = column.written(column.nearest(np.array([clause.values[0]])), np.random.default_rng(0))[0]
            return f"; the nearest value of {column.name!r} is {near}, or ask for a range, as {column.name} > {near}"
    return "; ask for single values, as NAME = VALUE, or for a wider range"


def check_text(run: Loaded, space: Words, text: str, what: str) -> None:
    """InputError for a text without a word; words that no training caption has, and a cut, are said on stderr."""
    if not says_something(text):
        raise InputError(f"{what} {text!r}: there is no word in it")
    unseen = space.unseen(text)
    if unseen:
        known = [match for word in unseen for match in get_close_matches(word, space.known, 1)]
        near = f"; near ones: {', '.join(dict.fromkeys(known))}" if known else ""
        read = f"; read as {space.tokenizer.name} knows it" if isinstance(space.tokenizer, Borrowed) else near
        run.say(f"{what}: no training caption has {', '.join(map(repr, unseen[:SHOWN]))}{read}")
    if space.cut(text):
        run.say(f"{what} {text[:20]!r}...: longer than {space.shape[1]} tokens, the rest is not read")
