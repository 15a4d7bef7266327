"""What the answer must be able to do: tasks, limits on what was measured, and what is promised of every model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from trilemma.config import names_of
from trilemma.errors import InputError, unknown
from trilemma.report.columns import amount
from trilemma.report.summary import Summary

# What a task asks of a model, by the names of its capabilities: all of these, of "A|B" one.
TASKS = {
    "generate": ("Samples",),
    "sample": ("Samples",),
    "encode": ("Encodes",),
    "embed": ("Encodes",),
    "decode": ("Decodes",),
    "interpolate": ("Decodes|Inverts",),
    "reconstruct": ("Encodes|Inverts", "Decodes|Inverts"),
    "traverse": ("Encodes", "Decodes"),
    "mix": ("Styles",),
    "edit": ("Styles",),
    "project": ("Styles",),
    "directions": ("Styles",),
    "vary": ("Redraws",),
    "denoise": ("Denoises",),
    "impute": ("Fills",),
    "forecast": ("Fills",),
    "score": ("Scores",),
    "likelihood": ("Scores",),
    "detect": ("Surprises",),
    "criticize": ("Criticizes",),
    "translate": ("Translates",),
}
# What a model does that can a task, by the first name of each group of tasks that ask for the same.
WORK = {
    "generate": "make new examples",
    "encode": "turn an example into a few numbers: to search, to group, to find the odd one",
    "decode": "turn a few numbers into an example",
    "interpolate": "go gradually from one example to another",
    "reconstruct": "rebuild an example from what codes it, and say how near that comes",
    "traverse": "squeeze an example into a few numbers, and see what each of them does",
    "mix": "steer what is made: mix samples, move along a direction, find a given example among what can be made",
    "vary": "make others like a given example, or turn it into what a prompt says",
    "denoise": "take noise off an example",
    "impute": "fill in the gaps of a table, go on with a series",
    "detect": "find the pictures or rows that do not fit, and where in them",
    "score": "say how likely an example is: another way to find the odd one",
    "criticize": "say how real an example looks",
    "translate": "make an example out of another one: a photograph of a drawing, sharp of blurred",
}
# What is so of models here, and of which: the answer says it where it was asked for.
PROMISES = {
    "determinism": ("equal seeds give equal samples, sample i a function of (seed, i) alone", "every model"),
    "licence": (
        "weights trained here follow the licence of your data: no weights of others are inside",
        "every model that takes nothing trained elsewhere, such as `model.text=minilm` or `hub:OWNER/NAME`",
    ),
}
# What a limit such as latency<0.1 reads in the row's speeds, its form as `amount` knows it, and how it is said.
LIMITS = {
    "latency": ("first_sample_seconds", "seconds", "to the first sample"),
    "rate": ("samples_per_second", "", "samples a second"),
    "calls": ("calls", "", "network calls a sample"),
    "parameters": ("parameters", "", "parameters"),
    "size": ("model_bytes", "bytes", "of weights"),
    "memory": ("sample_memory_bytes", "bytes", "of memory that sampling adds"),
    "training": ("train_seconds", "seconds", "of training"),
}
UNITS = {"": 1, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "k": 1e3, "M": 1e6, "G": 1e9, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def check_needs(need: Iterable[str] | str) -> list[str]:
    """The needs one by one; InputError for one that nobody knows, so that it is found before anything is trained."""
    wanted = names_of(need)
    for part in wanted:
        unmet(None, part)
    return wanted


def promised(needs: Iterable[str]) -> list[str]:
    """Of these needs, what is promised of a model that meets them, in words."""
    return [PROMISES[need.lower()][0] for need in needs if need.lower() in PROMISES]


def capabilities(need: str) -> tuple[str, ...]:
    """What a task asks of a model, by the names of its capabilities; none where it is no task."""
    known = {names[0].lower(): names for names in TASKS.values() if len(names) == 1 and "|" not in names[0]}
    return TASKS.get(need.lower()) or known.get(need.lower()) or ()


def meets(can: Iterable[str], wanted: Iterable[str]) -> bool:
    """Are these capabilities all that is wanted, of "A|B" one?"""
    return all(set(name.split("|")) & set(can) for name in wanted)


def unmet(one: Summary | None, need: str) -> str | None:
    """Why a model does not meet a need, or None; without a model it only reads the need."""
    limit = re.fullmatch(r"(\w+)\s*(<=|>=|<|>)\s*([\d.]+(?:e-?\d+)?)\s*([a-zA-Z]*)", need)
    if limit:
        name, sign, digits, unit = limit.groups()
        if name not in LIMITS:
            raise unknown("need", name, [*TASKS, *LIMITS])
        if unit not in UNITS or not re.fullmatch(r"(\d+(\.\d*)?|\.\d+)(e-?\d+)?", digits):
            raise InputError(f"need {need!r}: {digits + unit!r} is no amount; give one such as 0.1, 50ms, 10M or 2GB")
        key, form, words = LIMITS[name]
        bound = float(digits) * UNITS[unit]
        if one is None:
            return None
        value = one.speed.get(key)
        if value is None:
            return f"its {f'{form} {words}'.strip()} were not measured"
        met = value < bound or (value == bound and "=" in sign) if "<" in sign else value > bound
        met = met or (value == bound and "=" in sign)
        return None if met else f"{amount(value, form)} {words}, and {need} was asked for"
    if need.lower() in PROMISES:
        borrowed = next(filter(None, map(_borrowed, one.done)), None) if one and need.lower() == "licence" else None
        return f"{borrowed}, and {need} was asked for" if borrowed else None
    wanted = capabilities(need)
    if not wanted:
        raise unknown("need", need, [*TASKS, *PROMISES, *(f"{name}<..." for name in LIMITS)])
    if one is None:
        return None
    if one.can is None:
        return "what it can do was not recorded"
    if meets(one.can, wanted):
        return None
    work = next(words for name, words in WORK.items() if TASKS[name] == wanted)
    return f"it cannot {re.split('[:;]', work)[0]}, and {need} was asked for"


def _borrowed(row: dict[str, Any]) -> str | None:
    """Which weights of others a trained row needs, by its config; None where all were trained here."""
    from trilemma.models.contract import known_models  # here, for the page needs no torch

    config = row.get("config") or {}
    if config.get("text") not in (None, "", "words"):
        return f"it reads captions by weights of others ({config['text']})"
    for part in ("autoencoder", "clip"):
        name = str(config.get(part) or "")
        if name and name not in known_models() and not name.partition(":")[0].endswith(".py"):
            return f"its {part} ({name}) was not trained here"
    return None
