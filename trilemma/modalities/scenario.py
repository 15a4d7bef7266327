"""Conditions on the path of a series, as people write them: `AAPL return < -5% and min(volume) > 1e6`.

Clauses joined by `and`: STATISTIC(COLUMN) SIGN VALUE, or COLUMN STATISTIC SIGN VALUE, or COLUMN at STEP SIGN VALUE with
signs < <= > >= =. A value may end in %, and is a word where the column holds words. Names with signs beside letters,
digits, dots and _ stand in quotes. Conditions on what never changes within a series go beside them: `region = north`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trilemma.errors import InputError, unknown
from trilemma.modalities.channels import Channel
from trilemma.modalities.where import SIGNS

JOINED = re.compile(r"\s+and\s+(?=(?:[^\"']*[\"'][^\"']*[\"'])*[^\"']*$)", re.I)  # not within quotes
EXAMPLE = 'write it like --where "AAPL return < -5%" or --where "min(count) < 10 and count at 24 > 50"'
NAME = r"""("[^"]+"|'[^']+'|[\w.\-]+(?: [\w.\-]+)*?)"""
CLAUSE = re.compile(
    rf"\s*(?:(?P<act>\w+)\s*\(\s*{NAME.replace('(', '(?P<inside>', 1)}\s*\)|"
    rf"{NAME.replace('(', '(?P<name>', 1)}\s+(?:at\s+(?P<step>\d+)|(?P<after>\w+)))\s*"
    r"""(?P<sign><=|>=|<|>|==|=)\s*(?P<value>"[^"]+"|'[^']+'|[^\s%]+)\s*(?P<percent>%?)\s*"""
)


def _drawdown(levels: np.ndarray, before: np.ndarray) -> np.ndarray:
    whole = np.concatenate([before[:, None], levels], 1)
    return (1 - whole / np.maximum.accumulate(whole, 1)).max(1)


# Of levels (n, T) and the level before them (n,): that of the first step where a column is not learned by its changes.
STATISTICS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "min": lambda levels, before: levels.min(1),
    "max": lambda levels, before: levels.max(1),
    "mean": lambda levels, before: levels.mean(1),
    "sum": lambda levels, before: levels.sum(1),
    "deviation": lambda levels, before: levels.std(1),
    "first": lambda levels, before: levels[:, 0],
    "last": lambda levels, before: levels[:, -1],
    "change": lambda levels, before: levels[:, -1] - before,
    "return": lambda levels, before: levels[:, -1] / before - 1,
    "drawdown": _drawdown,
}


@dataclass
class Demand:
    """One condition on the path of a column."""

    place: int  # of the column
    statistic: str  # one of STATISTICS, or 'at'
    step: int  # of 'at', from 0
    sign: str
    value: float

    def of(self, levels: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Levels (n, T) of its column and those before them (n,) -> its statistic (n,)."""
        return levels[:, self.step] if self.statistic == "at" else STATISTICS[self.statistic](levels, before)

    def gap(self, values: np.ndarray) -> np.ndarray:
        """By how much values (n,) of the statistic miss what is demanded: 0 where they meet it, else more."""
        away = np.nan_to_num(np.abs(values - self.value), nan=np.inf)
        return np.where(SIGNS[self.sign](values, self.value), 0.0, np.maximum(away, 1e-12))

    def given(self, length: int) -> int | None:
        """The step whose level this demands, None where it demands anything else."""
        place = {"first": 0, "last": length - 1, "at": self.step}.get(self.statistic)
        return place if self.sign == "=" else None


def parted(text: str, attributes: Sequence[str]) -> tuple[str, str]:
    """The conditions of a text on paths, and those on attributes of these names; '' where there are none."""
    path: list[str] = []
    told: list[str] = []
    for part in JOINED.split(text.strip()):
        about = [re.match(rf"[\"']?{re.escape(each)}[\"']?\s*([=!<>]|in\b|is\b)", part, re.I) for each in attributes]
        (told if any(about) else path).append(part)
    return " and ".join(path), " and ".join(told)


def _value(text: str, channel: Channel, where: str) -> float:
    """What a statistic is held against: a number, or the place of a word of the column."""
    words = channel.column.values
    if text in words:
        return float(words.index(text))
    if words:
        raise unknown(f"--where {where!r}: value of {channel.column.name!r}", text, words)
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--where {where!r}: {text!r} is no number; {EXAMPLE}") from None


def parse(text: str, channels: Sequence[Channel], length: int) -> list[Demand]:
    """The conditions of a text on paths of `length` steps. InputError naming the clause for what cannot be read."""
    names, made = [each.column.name for each in channels], []
    for part in JOINED.split(text.strip()):
        found = CLAUSE.fullmatch(part)
        if found is None:
            raise InputError(f"--where {text!r}: {part!r} is no condition on a path; {EXAMPLE}")
        name = (found["inside"] or found["name"]).strip("\"'")
        statistic = (found["act"] or found["after"] or "at").lower()
        if name not in names:
            raise unknown(f"--where {text!r}: column", name, names)
        if statistic != "at" and statistic not in STATISTICS:
            raise unknown(f"--where {text!r}: statistic of a path", statistic, [*STATISTICS, "at STEP"])
        value = _value(found["value"].strip("\"'"), channels[names.index(name)], text)
        value /= 100 if found["percent"] else 1
        step = int(found["step"] or 1) - 1
        if not 0 <= step < length:
            raise InputError(f"--where {text!r}: paths have the steps 1 to {length}")
        demand = Demand(names.index(name), statistic, step, found["sign"].replace("==", "="), value)
        if demand.sign == "=" and (demand.given(length) is None or channels[demand.place].wanders):
            raise InputError(
                f"--where {text!r}: one exact value can be demanded of first, last and at STEP of a column that is "
                "learned by its level; use < or > here"
            )
        made.append(demand)
    return made
