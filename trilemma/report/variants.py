"""Studies beside the comparison itself: the same models trained otherwise, to see what that changes.

Each variant is one training with something else than the base: a setting, the share of the data, their order. Its row
has the kind 'variant' and never is an answer; what is said about it always compares it with its base.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trilemma.config import names_of, parse_value
from trilemma.errors import InputError, unknown
from trilemma.modalities import attributes
from trilemma.modalities.contract import Data

CURVE = (0.125, 0.25, 0.5)  # shares of the budget at which trainings branch off
LITTLE = 0.1  # of the data, where claims ask what little data does
FEWEST = 20  # training examples that a subsample must leave
FACTORS = {
    "rate": ("optimizer.rate", {"× 1/3": 1 / 3, "× 3": 3.0}),
    "batch": ("optimizer.batch", {"× 1/2": 0.5, "× 2": 2.0}),
}
HALVES = ("earlier", "random")  # of the training data, of equal size, where they change with time


@dataclass(frozen=True)
class Studies:
    """What was asked for beside the comparison."""

    curve: bool = False  # quality after 1/8, 1/4 and 1/2 of the budget
    claims: bool = False  # the ablations that the textbooks' statements need
    sensitivity: bool = False  # other learning rates and batches
    subsample: tuple[float, ...] = ()  # shares of the training data below 1
    drift: str | None = None  # the order in which data came: 'order', or the name of a condition

    @property
    def branches(self) -> bool:
        return self.curve or self.claims


@dataclass(frozen=True)
class Variant:
    """One training that differs from its base."""

    of: str  # the base's model
    what: str  # 'rate × 3', '10 % of the data'
    study: str
    model: str  # that is trained: the base's, or another preset
    settings: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0  # of the training examples
    factor: tuple[str, float] | None = None  # a setting of the base's own times a number
    half: str | None = None  # of drift: 'earlier' or 'random'
    drift: str | None = None  # by which the halves are told apart
    branches: tuple[float, ...] = ()  # shares of the budget at which it is measured as well
    every_seed: bool = False

    @property
    def name(self) -> str:
        return f"{self.of}, {self.what}"


# What the textbooks' statements need beyond the comparison: (base, what, model that is trained, settings, branches).
# The original game had no gradient penalty, which is what keeps the presets of that name from going astray.
ABLATIONS: tuple[tuple[str, str, str, dict[str, Any], tuple[float, ...]], ...] = (
    ("vae", "without KL", "vae", {"model.beta": 0.0}, ()),
    ("vae", "pixels only", "vae", {"model.texture": 0.0}, ()),
    ("vae", "with a critic", "vae:gan", {}, ()),
    ("autoencoder", "trained on noisy input", "autoencoder:denoising", {}, ()),
    ("gan", "minimax", "gan:minimax", {"model.penalty": "none"}, CURVE[:1]),
    ("gan", "non-saturating", "gan:non-saturating", {"model.penalty": "none"}, CURVE[:1]),
)


def parse_shares(given: str | Sequence[str | float] | None) -> tuple[float, ...]:
    """'10%,30%,100%' or [0.1, 0.3] as shares below 1 in rising order: the whole is trained anyway."""
    shares = []
    for text in names_of(given):
        number = parse_value(text.rstrip("%"))
        value = number / 100 if text.endswith("%") and isinstance(number, (int, float)) else number
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise InputError(f"--subsample {text!r}: give shares of the training data, such as 10%,30%,100%")
        shares.append(float(value))
    return tuple(sorted({share for share in shares if share < 1}))


def check(studies: Studies, data: Data) -> None:
    """InputError for a study that these data do not allow, before anything is trained."""
    for share in studies.subsample:
        if share * len(data.splits["train"]) < FEWEST:
            raise InputError(
                f"--subsample {share:.0%}: of {len(data.splits['train']):,} training examples that leaves fewer than "
                f"{FEWEST}; give a larger share"
            )
    if studies.drift is not None:
        moments(data, studies.drift)


def variants(
    studies: Studies, bases: list[str], *, settings: dict[str, Any], examples: int, grid: bool
) -> list[Variant]:
    """All variants of these bases. examples: of the train split; grid: has an example places that lie side by side?"""
    found: list[Variant] = []
    families = list(dict.fromkeys(name.partition(":")[0] for name in bases))
    firsts = [next(name for name in bases if name.partition(":")[0] == family) for family in families]
    if studies.claims:
        for of, what, model, changes, branches in ABLATIONS:
            # A setting that the user fixed for all is not varied against his word; without a grid is no texture.
            idle = "model.texture" in changes and not grid
            if of in bases and not idle and not set(changes) & set(settings):
                found.append(Variant(of, what, "ablation", model, changes, branches=branches, every_seed=True))
    little = (LITTLE,) if studies.claims and LITTLE * examples >= FEWEST else ()
    for share in sorted({*studies.subsample, *little}):
        what, repeated = f"{share * 100:g}% of the data", share in little
        found += [Variant(name, what, "subsample", name, share=share, every_seed=repeated) for name in firsts]
    if studies.sensitivity:
        for name in firsts:
            for word, (setting, factors) in FACTORS.items():
                found += [
                    Variant(name, f"{word} {sign}", "sensitivity", name, factor=(setting, factor))
                    for sign, factor in factors.items()
                ]
    if studies.drift is not None:
        for name in firsts:
            for half in HALVES:
                what = f"{half} half by {studies.drift}"
                found.append(Variant(name, what, "drift", name, half=half, drift=studies.drift))
    return found


def planned(
    studies: Studies, ends: dict[tuple[str, int], str], past: dict[tuple[str, int], Variant], *,
    settings: dict[str, Any], examples: int, grid: bool,
) -> dict[tuple[str, int], Variant]:  # fmt: skip
    """Every variant with its seed, beside trainings that went well or are still to come; `past` ones are kept.

    ends: (model, seed) -> 'ok', 'failed' or 'pending', in the order of the comparison.
    """
    bases = [key for key, status in ends.items() if status != "failed"]
    names, seeds = list(dict.fromkeys(name for name, _ in bases)), list(dict.fromkeys(seed for _, seed in ends))
    found = dict(past)
    for variant in variants(studies, names, settings=settings, examples=examples, grid=grid):
        own = [seed for seed in seeds if (variant.of, seed) in bases]
        found |= {(variant.name, seed): variant for seed in (own if variant.every_seed else own[:1])}
    return {key: one for key, one in found.items() if (one.of, key[1]) in bases}


def remembered(record: dict[str, Any]) -> Variant:
    """A variant from the record in its row."""
    factor = record["factor"]
    entries = {**record, "branches": tuple(record["branches"]), "factor": None if factor is None else tuple(factor)}
    return Variant(**entries)


def settings_of(variant: Variant, settings: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The settings of a variant's training, given the whole config.json of its base as it was trained.

    What the probe chose for the base stays: two things that differ would be no study of one.
    """
    probed = {"optimizer.batch": base["config"]["optimizer"]["batch"], "training.dtype": base["training"]["dtype"]}
    changed = {**settings, **probed, **variant.settings}
    if variant.branches:
        changed["training.branches"] = variant.branches
    if variant.factor is not None:
        path, factor = variant.factor
        value: Any = base["config"]
        for key in path.split("."):
            value = value[key]
        changed[path] = max(round(value * factor), 1) if isinstance(value, int) else value * factor
    return changed


def data_of(variant: Variant, data: Data) -> Data:
    """What a variant is trained on: the first part of the (shuffled) training examples, or one half in time."""
    rows = data.splits["train"]
    if variant.half is not None:
        when, middle = moments(data, variant.drift or "order")
        early = rows[when[rows] < middle]
        kept = early if variant.half == "earlier" else rows[: len(early)]
    elif variant.share < 1:
        kept = rows[: max(round(variant.share * len(rows)), 1)]
    else:
        return data
    word = f"{variant.half} {variant.drift}" if variant.half else f"{variant.share:g}"
    part = replace(data, splits={**data.splits, "train": kept}, hash=f"{data.hash[:-8]}{_digits(word, len(kept))}")
    if attributes.NAME in part.spaces:  # samples are asked for what this part has
        part.spaces = {**part.spaces, attributes.NAME: copy.deepcopy(part.spaces[attributes.NAME])}
        attributes.remember(part)
    return part


def _digits(word: str, count: int) -> str:
    """Eight hexadecimal digits that stand for a part of the data in its hash."""
    return f"{zlib.crc32(f'{word} {count}'.encode()):08x}"


def later(data: Data, drift: str) -> Data:
    """The same data with only the later half of its test examples."""
    when, middle = moments(data, drift)
    rows = data.splits["test"]
    return replace(data, splits={**data.splits, "test": rows[when[rows] >= middle]})


def moments(data: Data, drift: str) -> tuple[np.ndarray, float]:
    """When each example came (N,), not a number where that is unknown, and the moment that halves the training set."""
    if drift == "order":
        when = np.arange(len(data.x), dtype=np.float64)
    elif drift in data.conditions and drift != attributes.NAME and data.conditions[drift].shape[1] == 1:
        when = np.array(data.conditions[drift][:, 0], dtype=np.float64)
        if drift in data.present:
            when[~np.asarray(data.present[drift])] = np.nan  # in neither half
    else:
        raise unknown("--drift", drift, ["order", *(name for name in data.conditions if name != attributes.NAME)])
    middle = float(np.nanmedian(when[data.splits["train"]]))
    parts = {s: when[data.splits[s]] for s in ("train", "test")}
    if not (parts["train"] < middle).any() or (parts["test"] >= middle).sum() < FEWEST:
        raise InputError(
            f"--drift {drift}: no two halves in time with at least {FEWEST} later test examples; are all values alike?"
        )
    return when, middle
