"""Rules between the columns of a table that made rows keep too: `start <= end`, `net + tax = total`.

A column that is never below another is learned as what it has more; one that is a sum of others is not learned at all.
So every row keeps the rule, of whatever model it comes, and no row has to be thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from trilemma.errors import InputError, unknown
from trilemma.modalities.columns import Column
from trilemma.modalities.numerals import NUMBER

RULE = re.compile(r"^(?P<left>.+?)\s*(?P<sign><=|>=|==|=|<|>)\s*(?P<right>.+)$")
BROKEN = 0.01  # share of rows that may break a rule
CLOSE = 1e-6  # relative difference at which a sum is one


def apply(rules: Sequence[str], own: list[Column], values: list[np.ndarray], shown: str) -> list[str]:
    """Let columns know what they build on; notes on rows that break a rule. InputError for what is no rule here."""
    notes = []
    for rule in rules:
        match = RULE.match(rule.strip())
        if match is None:
            raise InputError(f"--keep {rule!r}: write it like --keep 'start <= end' or --keep 'net + tax = total'")
        left, sign, right = match["left"].strip(), match["sign"], match["right"].strip()
        if sign in (">", ">="):
            left, right, sign = right, left, sign.replace(">", "<")
        if sign in ("=", "=="):
            parts, total = (left, right) if "+" in left else (right, left)
            summands = [_named(part.strip(), own, rule) for part in parts.split("+")]
            if len(summands) < 2:
                raise InputError(f"--keep {rule!r}: a sum has at least two columns")
            whole = _named(total, own, rule)
            found = sum((values[own.index(part)] for part in summands), np.zeros(len(values[0])))
            given = values[own.index(whole)]
            broken = np.abs(found - given) > CLOSE * np.maximum(np.abs(given), 1)
            _free(whole, rule)
            whole.sum = [part.name for part in summands]
        else:
            low, high = _named(left, own, rule), _named(right, own, rule)
            one, two = values[own.index(low)], values[own.index(high)]
            broken = one >= two if sign == "<" else one > two
            _free(high, rule)
            high.base, high.strict = low.name, sign == "<"
            if np.isnan(one).any() and not np.isnan(two[np.isnan(one)]).all():
                raise InputError(
                    f"--keep {rule!r}: {low.name!r} is empty in rows in which {high.name!r} is not; mend them"
                )
        _acyclic(own, rule)
        share = broken.sum() / max(len(broken), 1)
        if share > BROKEN:
            row = int(np.flatnonzero(broken)[0]) + 1
            raise InputError(f"--keep {rule!r}: {broken.sum():,} rows of {shown} break it (row {row} is the first)")
        if broken.any():
            notes.append(f"{broken.sum():,} rows break {rule!r}: they are learned as if they just kept it")
    return notes


def relative(own: Sequence[Column], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values (N,) of each column as what they have more than the column that they build on."""
    place = {column.name: number for number, column in enumerate(own)}
    made = list(values)
    for number, column in enumerate(own):
        if column.base:
            least = column.step if column.strict else 0.0
            made[number] = np.maximum(values[number] - values[place[column.base]], least)
    return made


def absolute(own: Sequence[Column], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The columns' values again, sums too."""
    made = {column.name: value for column, value in zip(own, values, strict=True)}
    for column in _in_order(own):
        if column.base:
            total = made[column.name] + made[column.base]
            # Never below it as it is written: rounded up where it must be rounded.
            made[column.name] = np.ceil(total / column.step - 1e-6) * column.step if column.step else total
        else:
            made[column.name] = sum((made[name] for name in column.sum), np.zeros(len(values[0])))
    return [made[column.name] for column in own]


def said(column: Column) -> str:
    """The rule of a column in words; '' where it has none."""
    if column.sum:
        return f"{' + '.join(column.sum)} = {column.name}"
    return f"{column.base} {'<' if column.strict else '<='} {column.name}" if column.base else ""


def broken(own: Sequence[Column], values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Of each rule, which rows (N,) break it; values as they stand in the table, NaN where one is missing."""
    made, named = {}, {column.name: value for column, value in zip(own, values, strict=True)}
    for column in own:
        given = named[column.name]
        if column.base:
            low = named[column.base]
            made[said(column)] = low >= given if column.strict else low > given
        elif column.sum:
            total = sum((named[name] for name in column.sum), np.zeros(len(given)))
            made[said(column)] = np.abs(total - given) > CLOSE * np.maximum(np.abs(given), 1) + column.step / 2
    return made


def reconciled(own: Sequence[Column], drawn: Sequence[np.ndarray], given: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values of whole rows that keep the rules beside the cells that stand in the table already.

    drawn: values (N,) of all columns as `relative` gives them; given: what stands in the table, NaN where it is to be
    filled in. A drawn cell that goes with those that are there stays. One that is above a given end is drawn again from
    it downwards, by the drawn difference; drawn parts of a given sum share what is left of it, as they were drawn.
    """
    there = {column.name: value for column, value in zip(own, given, strict=True)}
    differences = {column.name: value for column, value in zip(own, drawn, strict=True)}
    named = {column.name: column for column in own}
    made = {
        column.name: np.where(np.isnan(there[column.name]), differences[column.name], there[column.name])
        for column in own
    }
    for column in _in_order(own):
        name, hole = column.name, np.isnan(there[column.name])
        if column.base:
            total = made[column.base] + differences[name]
            total = np.ceil(total / column.step - 1e-6) * column.step if column.step else total
            made[name] = np.where(hole, total, there[name])
        elif column.sum:
            made[name] = np.where(hole, sum((made[part] for part in column.sum), np.zeros(len(hole))), there[name])
    for column in reversed(_in_order(own)):
        name, end = column.name, made[column.name]
        if column.base:
            least, low = column.step if column.strict else 0.0, made[column.base]
            over = np.isnan(there[column.base]) & (low > end - least)
            step = named[column.base].step
            below = end - np.maximum(np.nan_to_num(differences[name]), least)
            made[column.base] = np.where(over, np.floor(below / step + 1e-6) * step if step else below, low)
        elif column.sum:
            _shared(column, made, there, named)
    for column in _in_order(own):  # the middle one of three stays above the first
        if column.base and column.base in made:
            least = column.step if column.strict else 0.0
            low = made[column.base] + least
            under = np.isnan(there[column.name]) & (made[column.name] < low)
            made[column.name] = np.where(under, low, made[column.name])
    return [made[column.name] for column in own]


def _shared(
    column: Column, made: dict[str, np.ndarray], there: dict[str, np.ndarray], named: dict[str, Column]
) -> None:
    """Drawn parts of a sum that is given: the last one is what is left, the others shrink or grow with it."""
    holes = np.stack([np.isnan(there[part]) for part in column.sum])
    drawn = np.where(holes, np.stack([made[part] for part in column.sum]), 0.0)
    left = made[column.name] - sum(np.where(np.isnan(there[part]), 0.0, there[part]) for part in column.sum)
    total = drawn.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where((total > 0) & (left >= 0) & (drawn >= 0).all(0), drawn / total, holes / holes.sum(0))
    shift = np.where((total > 0) & (left >= 0) & (drawn >= 0).all(0), share * left, drawn + share * (left - total))
    for place, part in enumerate(column.sum):
        step = named[part].step
        last = holes[place] & ~holes[place + 1 :].any(0)
        own = shift[place].round(named[part].decimals) if step and named[part].decimals is not None else shift[place]
        own = np.where(last, left, own)
        left = left - np.where(holes[place], own, 0.0)
        made[part] = np.where(holes[place], own, made[part])


def _in_order(own: Sequence[Column]) -> list[Column]:
    """The columns with rules, each after those that it builds on."""
    left, done = [column for column in own if column.base or column.sum], []
    while left:
        waiting = {column.name for column in left}
        ready = [each for each in left if not waiting & {each.base, *each.sum}]
        done += ready
        left = [each for each in left if each not in ready]
    return done


def _named(name: str, own: Sequence[Column], rule: str) -> Column:
    name = name[1:-1] if name[:1] in "\"'" else name
    known = {column.name: column for column in own}
    if name not in known:
        if NUMBER.fullmatch(name):
            raise InputError(f"--keep {rule!r}: rules are between columns; what one column reaches is kept anyway")
        raise unknown(f"--keep {rule!r}: column", name, list(known))
    column = known[name]
    if column.kind not in ("number", "integer", "date"):
        raise InputError(f"--keep {rule!r}: {name!r} is {column.said()}; a rule is for numbers and dates")
    return column


def _free(column: Column, rule: str) -> None:
    if column.base or column.sum:
        raise InputError(f"--keep {rule!r}: {column.name!r} has a rule already ({column.said()}); one column has one")


def _acyclic(own: Sequence[Column], rule: str) -> None:
    needs = {column.name: {column.base, *column.sum} - {""} for column in own}
    while ready := [name for name, others in needs.items() if not others & set(needs)]:
        for name in ready:
            del needs[name]
    if needs:
        raise InputError(f"--keep {rule!r}: the rules go in a circle ({', '.join(needs)})")
