"""Conditions on the rows of a table, as people write them: `sex = Female and age > 60`.

Clauses joined by `and`: COLUMN = VALUE, != < <= > >=, COLUMN in (ONE, TWO), COLUMN is missing, COLUMN is not missing.
Names and values with a comma, a sign or `and` in them stand in quotes.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from trilemma.errors import InputError, unknown
from trilemma.modalities import numerals
from trilemma.modalities.columns import EDGE, Column, decoded
from trilemma.modalities.keep import absolute
from trilemma.modalities.numerals import Form

TOKEN = re.compile(r"""\s*("[^"]*"|'[^']*'|<=|>=|!=|==|[=<>(),]|[^\s=<>!(),"']+)""")
SIGNS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
RARE = 0.05  # share of rows: fewer are not waited for
EXAMPLE = 'write them like --where "sex = Female and age > 60"'


@dataclass
class Clause:
    """One condition: the place of a column in the table, a sign and values; of categories they are codes."""

    place: int
    sign: str  # one of SIGNS, in, missing, present
    values: list[float]
    step: float = 0.0  # the smallest difference between two cells of the column; 0 where there is none

    def holds(self, cells: np.ndarray) -> np.ndarray:
        """(n,) cells in the user's units, NaN where one is missing -> bool; a missing cell meets no comparison."""
        if self.sign in ("missing", "present"):
            return np.isnan(cells) == (self.sign == "missing")
        if self.sign in ("=", "!=", "in"):
            same = np.zeros(len(cells), dtype=bool)
            for value in self.values:  # cells without a step have the precision of float32
                same |= (np.abs(cells - value) < (self.step / 2 or 1e-6 * abs(value))) | (cells == value)
            return (same == (self.sign != "!=")) & ~np.isnan(cells)
        return SIGNS[self.sign](cells, self.values[0]) & ~np.isnan(cells)


@dataclass
class Where:
    """Conditions on the rows of these columns."""

    text: str  # as errors name them
    columns: list[Column]  # all of the table
    clauses: list[Clause]

    def holds(self, x: np.ndarray, *, given: bool = False) -> np.ndarray:
        """Which of raw rows (n, columns) meet all conditions; with `given` those that `given` has put in are met."""
        cells, met = absolute(self.columns, decoded(self.columns, x)), np.ones(len(x), dtype=bool)
        for clause in self.clauses:
            if given and self._given(clause):
                continue
            met &= clause.holds(self._compared(clause, cells[clause.place]))
        return met

    def unmet(self, x: np.ndarray) -> str:
        """What the first of raw rows (n, columns) has instead of what is asked, in words; '' where it meets all."""
        cells = absolute(self.columns, decoded(self.columns, x[:1]))
        for clause in self.clauses:
            column, cell = self.columns[clause.place], cells[clause.place]
            if not clause.holds(self._compared(clause, cell))[0]:
                return f"{column.written(cell, np.random.default_rng(0))[0] or 'nothing'} is the {column.name}"
        return ""

    def given(self, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Raw rows (count, columns) with the cells that one value is demanded of, and which cells these are.

        Of a condition that few training rows meet, too: its cells are drawn among those that do, for a model to fill in
        the rest. Of several such conditions the rarest; the others are met by chance or not at all.
        """
        learned = [column.name for column in self.columns if column.learned]
        x = np.zeros((count, len(learned)), dtype=np.float32)
        observed = np.zeros(x.shape, dtype=bool)
        for clause in self.clauses:
            column = self.columns[clause.place]
            if not self._given(clause):
                continue
            value = np.array([np.nan if clause.sign == "missing" else clause.values[0]])
            place = learned.index(column.name)
            x[:, place] = column.scores(value, np.array([0.5])) if column.scored else value
            observed[:, place] = True
        shares = [self._shares(clause) for clause in self.clauses]
        met = [float((own[:, 1] - own[:, 0]).sum()) or 1.0 for own in shares]  # 0: not known
        rarest = int(np.argmin(met))
        column, own = self.columns[self.clauses[rarest].place], shares[rarest]
        if met[rarest] < RARE and not observed[:, (place := learned.index(column.name))].any():
            chosen = own[generator.choice(len(own), size=count, p=(own[:, 1] - own[:, 0]) / met[rarest])]
            share = generator.uniform(chosen[:, 0], chosen[:, 1]).clip(EDGE, 1 - EDGE)
            codes = np.asarray(column.knots)[np.searchsorted(column.shares, share)]
            x[:, place] = special.ndtri(share) if column.scored else codes
            observed[:, place] = True
        return x, observed

    def _shares(self, clause: Clause) -> np.ndarray:
        """(k, 2): between which shares of a column's training rows those that meet a clause lie; none: not known."""
        column, ordered = self.columns[clause.place], clause.sign in ("<", "<=", ">", ">=")
        separate = column.kind == "category" or column.stepped()  # nothing lies between two values
        if not column.learned or column.base or not (ordered or (separate and clause.sign in ("in", "!="))):
            return np.zeros((0, 2))
        shares, knots = np.asarray(column.shares), np.asarray(column.knots)
        inside = clause.holds(self._compared(clause, knots))
        ends = np.stack([shares[:-1], shares[1:]], 1)
        edges = np.flatnonzero(inside[:-1] != inside[1:])
        if not separate and len(edges):  # the clause's value lies between two knots
            low, high = knots[edges], knots[edges + 1]
            edge = shares[edges] + (clause.values[0] - low) / (high - low) * np.diff(ends[edges], axis=1)[:, 0]
            ends[edges, np.where(inside[edges], 1, 0)] = edge
            return ends[inside[:-1] | inside[1:]]
        return ends[inside[:-1] & inside[1:]]

    def _given(self, clause: Clause) -> bool:
        column = self.columns[clause.place]
        return clause.sign in ("=", "missing") and column.learned and not column.base

    def _compared(self, clause: Clause, cells: np.ndarray) -> np.ndarray:
        """Categories that are numbers are compared as such; others have codes, which are only equal or not."""
        column = self.columns[clause.place]
        if column.kind != "category" or column.ordered or clause.sign not in ("<", "<=", ">", ">="):
            return cells
        found = _as_numbers(column)
        assert found is not None
        return np.append(found[0], np.nan)[np.where(np.isnan(cells), -1, cells).astype(int)]


def parse(text: str, columns: Sequence[Column]) -> Where:
    """The conditions of a text. InputError naming the clause for what cannot be read or is not in the table."""
    tokens, end = [], 0
    while match := TOKEN.match(text, end):
        tokens.append(match.group(1))
        end = match.end()
    if text[end:].strip() or not tokens:
        raise InputError(f"--where {text!r}: cannot be read at {text[end:].strip()[:20]!r}; {EXAMPLE}")
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token.lower() == "and":
            parts.append([])
        else:
            parts[-1].append(token)
    clauses = [_clause(part, list(columns), text) for part in parts]
    demanded: dict[int, Clause] = {}
    for clause in clauses:
        if clause.sign in ("=", "missing"):
            other = demanded.setdefault(clause.place, clause)
            if (other.sign, other.values) != (clause.sign, clause.values):
                name = columns[clause.place].name
                raise InputError(f"--where {text!r}: no row has two values of {name!r}; ask for one")
    return Where(f"--where {text!r}", list(columns), clauses)


def _clause(tokens: list[str], columns: list[Column], text: str) -> Clause:
    shown = " ".join(tokens)
    signs = [token for token in tokens if token in SIGNS or token.lower() in ("==", "in", "is")]
    if len(signs) > 1 and "or" in (token.lower() for token in tokens):
        raise InputError(
            f"--where {text!r}: conditions are joined by 'and' alone; write colours as colour in (red, blue)"
        )
    low = [token.lower() for token in tokens]
    middle = next((i for i, token in enumerate(low) if token in SIGNS or token in ("==", "in", "is")), None)
    if not middle or middle == len(tokens) - 1:
        raise InputError(f"--where {text!r}: {shown!r} is no condition; {EXAMPLE}")
    name = " ".join(_bare(token) for token in tokens[:middle])
    named = {column.name: column for column in columns}
    alike = [column for own, column in named.items() if own.lower() == name.lower()]
    if name not in named and len(alike) != 1:
        raise unknown(f"--where {text!r}: column", name, list(named))
    column = named.get(name) or alike[0]
    if not (column.learned or column.sum):
        raise InputError(f"--where {text!r}: column {name!r} is {column.said()}: nothing depends on it")
    place, sign, rest = columns.index(column), low[middle].replace("==", "="), tokens[middle + 1 :]
    if sign == "is":
        if low[middle + 1 :] not in (["missing"], ["not", "missing"]):
            raise InputError(f"--where {text!r}: after 'is' comes missing or not missing; {EXAMPLE}")
        wanted = "present" if len(rest) == 2 else "missing"
        if wanted == "missing" and not column.gaps:
            raise InputError(f"--where {text!r}: column {name!r} has no missing cells")
        return Clause(place, wanted, [])
    if sign == "in":
        inside = " ".join(rest)
        if not (inside.startswith("(") and inside.endswith(")")):
            raise InputError(f"--where {text!r}: write the values as {name} in (ONE, TWO)")
        values = [each.strip() for each in re.findall(r"\"[^\"]*\"|'[^']*'|[^,]+", inside[1:-1]) if each.strip()]
        return Clause(place, sign, [value_of(column, _bare(each), text) for each in values], column.step)
    value = re.sub(r"(?<=\d) , (?=\d)", ",", " ".join(_bare(token) for token in rest))  # 1,5 and 1,200
    ordered = sign in ("<", "<=", ">", ">=")
    if ordered and column.kind == "category" and not column.ordered:
        numbers = _as_numbers(column)
        if numbers is None:
            raise InputError(
                f"--where {text!r}: the values of {name!r} have no order ({', '.join(column.values[:4])}); use = or in"
            )
        return Clause(place, sign, [_number(value, numbers[1], column, text)])
    found = value_of(column, value, text)
    if (
        sign == "="
        and column.kind != "category"
        and not (column.base or column.sum)
        and not column.knots[0] <= found <= column.knots[-1]
    ):
        low_end, high_end = (column.written(np.array([end]), np.random.default_rng(0))[0] for end in _ends(column))
        raise InputError(f"--where {text!r}: {name!r} reaches from {low_end} to {high_end} in the run's data")
    return Clause(place, sign, [found], column.step)


def value_of(column: Column, text: str, where: str) -> float:
    """A value in the column's units; of a category its code."""
    if column.kind == "category":
        if text not in column.values:
            same = [value for value in column.values if value.lower() == text.lower()]
            if not same:
                raise unknown(f"--where {where!r}: value of {column.name!r}", text, column.values)
            text = same[0]
        return float(column.values.index(text))
    if column.kind == "date":
        return _moment(text, column, where)
    return _number(text, column.form, column, where)


def _as_numbers(column: Column) -> tuple[np.ndarray, Form] | None:
    """The values of a category as numbers, and how they are written; None where they are none."""
    plain = numerals.floats(column.values)
    return (plain, Form()) if plain is not None else numerals.parse(column.values)


def _number(text: str, form: Form, column: Column, where: str) -> float:
    """A number as the data have it (`30%`, `1.234,50`) or plain."""
    made, _ = numerals.read([text], form)
    body = re.sub(r"^[^\d+-]+|\D+$", "", text)
    apart = bool(form.group) and form.group in body and numerals.NUMBER.fullmatch(body) is None
    if np.isnan(made[0]) or (apart and not numerals.grouped(body, form)):  # 12,5 is no 125
        kind = "number" if column.kind == "category" else column.kind
        raise InputError(f"--where {where!r}: {text!r} is no {kind}, as {column.name!r} needs")
    return float(made[0])


def _moment(text: str, column: Column, where: str) -> float:
    """Seconds since 1970 of a date as the data have it, with or without its time of day, or year-month-day."""
    for form in (column.format, column.format.split(" ")[0], "ISO8601"):
        try:
            return pd.to_datetime(text, format=form).timestamp()
        except ValueError:
            continue
    raise InputError(
        f"--where {where!r}: {text!r} is no date written {column.format}, as {column.name!r} needs; "
        "2024-12-31 is understood, too"
    )


def _ends(column: Column) -> tuple[float, float]:
    return column.knots[0], column.knots[-1]


def _bare(token: str) -> str:
    return token[1:-1] if token[:1] in "\"'" and len(token) > 1 else token
