"""The columns of a table: what kind each is, and its cells as numbers that models like.

A column of numbers becomes scores of unit variance: a cell's place among all values of the column, drawn evenly within
the share of its own value, through the normal quantile function. So spikes, zeros in nine of ten rows, whole numbers
and heavy tails all come out as they went in, and a model sees nothing but normal marginals. Columns of many categories
go the same way, in an order in which neighbours are alike. Categories stay categories.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from trilemma.errors import InputError

MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "<na>", "#n/a", "nat"}
KINDS = ("number", "integer", "category", "date", "constant", "identifier", "text")
FEW = 12  # whole numbers of at most so many different values are categories
MANY = 64  # categories more than this are scores
KNOTS = 1000  # of the map of a column with more different values than this
EDGE = 1e-7  # scores stay within 5.2 deviations
FARTHEST = 12.0  # deviations, of a score in the tails
REPEATED = 5  # rows a value, on average, by which a column of numbers has steps, so that nothing lies between them
SPIKE = 2 / KNOTS  # share of a value that keeps a place of its own among knots
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
COMMA = re.compile(r"[+-]?\d+(,\d+)?")
WORDS = 4  # of a cell, on average, that make a column text


@dataclass
class Texts:
    """A column as it was read: different texts, and which one each row has (N,); -1 where the cell is empty."""

    name: str
    codes: np.ndarray
    texts: list[str]
    empty: str = ""  # how an empty cell was written, most often
    dtype: str = "str"  # of a data frame's column


@dataclass
class Column:
    """What one column is, and how its cells are read and written; JSON by `vars`."""

    name: str
    kind: str
    gaps: bool = False
    empty: str = ""
    dtype: str = "str"
    values: list[str] = field(default_factory=list)  # of a category, by code; the value of a constant
    shares: list[float] = field(default_factory=list)  # knots of the map: share of the rows below,
    knots: list[float] = field(default_factory=list)  # and the value there
    tails: list[float] = field(
        default_factory=list
    )  # values a deviation below and above the map's ends; none: it stops
    decimals: int | None = None  # of a number that has always as many, or at most so many
    padded: bool = False  # written with all its decimals
    comma: bool = False  # decimal comma
    format: str = ""  # of a date,
    unit: int = 1  # and the seconds of which its cells are multiples: a day's, mostly
    start: int = 0  # the first new number of an identifier
    template: str = ""  # of an identifier in letters and digits
    base: str = ""  # a column that this one is never below: what it has more is learned
    strict: bool = False  # nor equal to
    sum: list[str] = field(default_factory=list)  # columns that it is the sum of

    @property
    def learned(self) -> bool:
        return self.kind not in ("constant", "identifier", "text") and not self.sum

    @property
    def step(self) -> float:
        """The smallest difference between two cells as they are written; 0 where there is none."""
        if self.kind in ("integer", "date"):
            return float(self.unit)
        return 0.0 if self.decimals is None else 10.0**-self.decimals

    @property
    def scored(self) -> bool:
        """Is it a score for the model, not a category?"""
        return self.kind in ("number", "integer", "date") or len(self.values) > MANY

    def said(self) -> str:
        """The kind in words, for `inspect`."""
        words = {"category": f"category of {len(self.values):,}", "constant": f"constant {self.values[:1]}"}
        left = {"identifier": ", written anew", "text": ", left out", "constant": ""}.get(self.kind, "")
        rule = f", never below {self.base}" if self.base else f", the sum of {', '.join(self.sum)}" if self.sum else ""
        return words.get(self.kind, self.kind) + left + rule + (", with gaps" if self.gaps else "")

    # --- numbers <-> scores ---

    def fit(self, values: np.ndarray, *, smooth: bool = False) -> None:
        """The map of a scored column from its values (n,) in the training rows; NaN counts nothing.

        smooth: only values that a fiftieth of the rows have, such as zeros, keep a share of their own.
        """
        here = np.sort(values[~np.isnan(values)])
        if len(here) == 0:
            here = np.zeros(1)
        distinct, first, counts = np.unique(here, return_index=True, return_counts=True)
        low, high = first / len(here), (first + counts) / len(here)
        few = len(distinct) <= KNOTS and len(here) >= REPEATED * len(distinct)
        if self.kind != "category" and (smooth or not few):
            # Evenly spread ranks; values with a share of their own keep both of their ends.
            spike = (counts > (10 * SPIKE if smooth else SPIKE) * len(here)) & (counts > REPEATED)
            keep = spike.copy()
            ranks = np.linspace(0, len(here) - 1, min(KNOTS, len(here))).round().astype(int)
            keep[np.searchsorted(distinct, here[ranks])] = True
            middle = (low + high) / 2
            low, high = np.where(spike, low, middle)[keep], np.where(spike, high, middle)[keep]
            distinct = distinct[keep]
        shares, knots = np.stack([low, high], 1).ravel(), np.repeat(distinct, 2)
        new = np.concatenate([[True], (np.diff(shares) > 0) | (np.diff(knots) > 0)])
        self.shares, self.knots = shares[new].tolist(), knots[new].tolist()

    def lengthen(self) -> None:
        """Let the fitted map go on beyond its ends, as steep as over the last tenth of it on either side."""
        shares, knots = np.asarray(self.shares), np.asarray(self.knots)
        ends = self._ends()
        inner = special.ndtri(np.array([0.1, 0.9]))
        values = np.interp([0.1, 0.9], shares, knots)
        # Where a tenth of the rows share the end's value it has no slope of its own.
        spread = float(np.std(np.interp(np.linspace(0, 1, 999), shares, knots)))
        least = max(spread / 10, 1e-6 * float(np.abs(knots).max()), 1e-9)
        low = max((values[0] - knots[0]) / max(inner[0] - ends[0], 0.1), least)
        self.tails = [low, max((knots[-1] - values[1]) / max(ends[1] - inner[1], 0.1), least)]

    def _ends(self) -> tuple[float, float]:
        """Scores at which the tails begin."""
        low, high = special.ndtri(np.clip([self.shares[0], self.shares[-1]], EDGE, 1 - EDGE))
        return float(low), float(high)

    def scores(self, values: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Normal scores of values (n,); `place` (n,) in (0, 1): where within the share of its own value each is put."""
        shares, knots = np.asarray(self.shares), np.asarray(self.knots)
        here = np.clip(np.nan_to_num(values), knots[0], knots[-1])
        left, right = np.searchsorted(knots, here, "left"), np.searchsorted(knots, here, "right")
        exact = right > left
        low = np.where(exact, shares[np.minimum(left, len(knots) - 1)], 0.0)
        high = np.where(exact, shares[np.maximum(right - 1, 0)], 0.0)
        share = np.where(exact, low + place * (high - low), np.interp(here, knots, shares))
        scores = special.ndtri(np.clip(share, EDGE, 1 - EDGE))
        if self.tails:
            (low_end, high_end), (low_slope, high_slope) = self._ends(), self.tails
            scores = np.where(values < knots[0], low_end + (values - knots[0]) / low_slope, scores)
            scores = np.where(values > knots[-1], high_end + (values - knots[-1]) / high_slope, scores)
            scores = scores.clip(-FARTHEST, FARTHEST)
        return np.where(np.isnan(values), np.nan, scores)

    def from_scores(self, scores: np.ndarray) -> np.ndarray:
        """Values (n,) whose share holds the scores' places; whole where the column's values are."""
        shares, knots = np.asarray(self.shares), np.asarray(self.knots)
        share = special.ndtr(scores)
        if self.kind == "category" or (len(knots) <= 2 * KNOTS and self._stepped()):
            # Only values that exist: the one whose share holds the place.
            upper = np.searchsorted(shares, share, "left").clip(0, len(knots) - 1)
            values = knots[upper]
        else:
            values = np.interp(share, shares, knots)
            if self.tails:
                (low_end, high_end), (low_slope, high_slope) = self._ends(), self.tails
                values = np.where(scores < low_end, knots[0] + (scores - low_end) * low_slope, values)
                values = np.where(scores > high_end, knots[-1] + (scores - high_end) * high_slope, values)
            if self.kind in ("integer", "date"):
                values = (values / self.unit).round() * self.unit
            elif self.decimals is not None:
                values = values.round(self.decimals)  # as it will be written
        return np.where(np.isnan(scores), np.nan, values)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Values (n,) that the column can have: of one with steps the nearest of them."""
        if not self._stepped():
            return values
        knots = np.unique(self.knots)
        right = np.searchsorted(knots, values).clip(1, max(len(knots) - 1, 1))
        left = knots[right - 1]
        right_knot = knots[np.minimum(right, len(knots) - 1)]
        return np.where(values - left <= right_knot - values, left, right_knot)

    def _stepped(self) -> bool:
        knots, shares = np.asarray(self.knots), np.asarray(self.shares)
        between = np.diff(knots) > 0
        return not (np.diff(shares)[between] > 1e-12).any()

    # --- cells ---

    def written(self, values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Cells (n,) as texts in the user's own way; NaN is an empty one."""
        count = len(values)
        if self.kind == "constant":
            return np.full(count, self.values[0] if self.values else self.empty, dtype=object)
        if self.kind == "identifier":
            return self._anew(count, generator)
        cells = np.full(count, self.empty, dtype=object)
        here = ~np.isnan(values)
        if self.kind == "category":
            cells[here] = np.asarray(self.values, dtype=object)[values[here].astype(int)]
        elif self.kind == "date":
            moments = pd.to_datetime(values[here] * 1e9, unit="ns", utc="%z" in self.format).round("us")
            cells[here] = moments.strftime(self.format).to_numpy(dtype=object)
        else:
            cells[here] = [self._number(value) for value in values[here]]
        return cells

    def _number(self, value: float) -> str:
        if self.kind == "integer":
            return str(round(value))
        text = f"{value:.{self.decimals}f}" if self.decimals is not None else f"{value:.6g}"
        if not self.padded and "." in text:
            text = text.rstrip("0").rstrip(".") if self.decimals != 1 else text
        return text.replace(".", ",") if self.comma else text

    def _anew(self, count: int, generator: np.random.Generator) -> np.ndarray:
        if not self.template:
            return np.array([str(self.start + row) for row in range(count)], dtype=object)
        sets = {"9": "0123456789", "a": "abcdefghijklmnopqrstuvwxyz", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
        made: list[str] = []
        for _ in range(count):
            made.append(
                "".join(
                    sets[c][generator.integers(len(sets[c]))] if c in sets else c[-1] for c in _signs(self.template)
                )
            )
        return np.array(made, dtype=object)


def _signs(template: str) -> list[str]:
    """`\\x` is the sign x itself; 9, a and A stand for any digit and letter."""
    return re.findall(r"\\.|.", template, re.S)


def infer(texts: Texts, wanted: str | None = None) -> tuple[Column, np.ndarray, list[str]]:
    """What a column is, its values (N,) float64 (a category's are codes), and notes."""
    if wanted is not None and wanted not in KINDS:
        raise InputError(f"setting data.columns.{texts.name}={wanted}: a column is one of {', '.join(KINDS)}")
    column = Column(texts.name, "category", empty=texts.empty, dtype=texts.dtype)
    column.gaps = bool((texts.codes < 0).any())
    count = np.bincount(texts.codes[texts.codes >= 0], minlength=len(texts.texts)) if texts.texts else np.zeros(0)
    present, notes = int(count.sum()), []
    if present == 0:
        column.kind, column.gaps = "constant", False
        return column, np.full(len(texts.codes), np.nan), [f"column {texts.name!r} is empty"]
    numbers = _numbers(texts.texts, column)
    distinct = len(texts.texts)
    kind = wanted or _kind(column, texts.texts, numbers, present)
    if numbers is not None and np.isinf(numbers).any():
        bad = int(count[np.isinf(numbers)].sum())
        notes.append(f"column {texts.name!r}: {bad} infinite values are taken as missing")
        numbers = np.where(np.isinf(numbers), np.nan, numbers)
        column.gaps = True
    column.kind = kind
    codes = texts.codes
    if kind in ("number", "integer"):
        if numbers is None:
            raise InputError(f"setting data.columns.{texts.name}={kind}: not all of its cells are numbers")
        return column, _picked(numbers, codes), notes
    if kind == "date":
        seconds = _dates(texts.texts, column)
        if seconds is None:
            raise InputError(f"setting data.columns.{texts.name}=date: not all of its cells are dates of one form")
        return column, _picked(seconds, codes), notes
    if kind == "constant":
        column.values = texts.texts[:1]
    elif kind == "identifier":
        if numbers is not None and wanted is None:
            column.start = int(numbers.max()) + 1
        else:
            column.template = _template(texts.texts)
    elif kind == "category":
        order = np.argsort(numbers, kind="stable") if numbers is not None else np.argsort(np.asarray(texts.texts))
        column.values = [texts.texts[place] for place in order]
        codes_of = np.empty(distinct)
        codes_of[order] = np.arange(distinct)
        return column, _picked(codes_of, codes), notes
    return column, np.full(len(codes), np.nan), notes


def _picked(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.where(codes < 0, np.nan, values[np.maximum(codes, 0)])


def _kind(column: Column, texts: Sequence[str], numbers: np.ndarray | None, present: int) -> str:
    distinct = len(texts)
    if distinct == 1 and not column.gaps:
        return "constant"
    if numbers is not None:
        whole = column.decimals == 0
        if whole and distinct == present > FEW and numbers.max() - numbers.min() + 1 == distinct:
            return "identifier"
        if distinct <= (FEW if whole else 2):
            return "category"
        return "integer" if whole else "number"
    if distinct > 2 and _dates(texts[:10_000], column) is not None:
        return "date"
    words = float(np.mean([len(text.split()) for text in texts[:2000]]))
    if distinct > 20 and distinct > 0.5 * present:
        if words >= WORDS:
            return "text"
        if distinct == present:
            return "identifier"
    return "category"


def _numbers(texts: Sequence[str], column: Column) -> np.ndarray | None:
    """The texts as numbers, or None; how they are written goes into the column."""
    infinite = {"inf", "+inf", "-inf", "infinity", "-infinity"}
    finite = [text for text in texts if text.lower() not in infinite]
    if not finite or any(re.match(r"[+-]?0\d", text) for text in finite):
        return None
    if not all(NUMBER.fullmatch(text) for text in finite):
        if not all(COMMA.fullmatch(text) for text in finite):
            return None
        column.comma = True
        texts, finite = [text.replace(",", ".") for text in texts], [text.replace(",", ".") for text in finite]
    places = [len(text.partition(".")[2]) if "e" not in text.lower() else -1 for text in finite]
    column.decimals = max(places) if min(places) >= 0 else None
    column.padded = len(set(places)) == 1
    return np.array([float(text) for text in texts])


def _dates(texts: Sequence[str], column: Column) -> np.ndarray | None:
    """Seconds since 1970 of texts that are dates of one form, or None."""
    if not all(re.match(r"\d{1,4}[-/.]\d", text) for text in texts[:100]):
        return None
    for guess in dict.fromkeys([_format(texts, False), _format(texts, True)]):
        if guess is None:
            continue
        moments = pd.to_datetime(pd.Series(list(texts)), format=guess, errors="coerce", utc="%z" in guess)
        if moments.notna().all():
            column.format = guess
            seconds = moments.to_numpy(dtype="datetime64[us]").astype("int64") // 1_000_000
            column.unit = next((unit for unit in (86_400, 3600, 60) if (seconds % unit == 0).all()), 1)
            return moments.to_numpy(dtype="datetime64[us]").astype("int64") / 1e6
    return None


def _format(texts: Sequence[str], day_first: bool) -> str | None:
    longest = max(texts[:1000], key=len)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both orders are tried on all cells
        return pd.tseries.api.guess_datetime_format(longest, dayfirst=day_first)


def _template(texts: Sequence[str]) -> str:
    """Signs that all texts share stay; a digit is 9, letters are a and A. Of different lengths the most common."""
    lengths = [len(text) for text in texts]
    common = max(set(lengths), key=lengths.count)
    rows = [text for text in texts if len(text) == common][:1000]
    signs = []
    for place in zip(*rows, strict=True):
        if len(set(place)) == 1:
            signs.append("\\" + place[0])
        elif all(sign.isdigit() for sign in place):
            signs.append("9")
        else:
            signs.append("A" if all(sign.isupper() or not sign.isalpha() for sign in place) else "a")
    return "".join(signs)


def encoded(columns: Sequence[Column], values: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """(N, learned columns) float32, as the Space has them: scores, codes, NaN where a cell is empty."""
    made = []
    for number, (column, own) in enumerate(zip(columns, values, strict=True)):
        if column.learned:
            place = np.random.default_rng([seed, number]).uniform(size=len(own))
            made.append(column.scores(own, place) if column.scored else own)
    return np.stack(made, 1).astype(np.float32) if made else np.zeros((len(values[0]), 0), dtype=np.float32)


def decoded(columns: Sequence[Column], x: np.ndarray) -> list[np.ndarray]:
    """The columns' values again, one array (n,) each; of columns that are not learned NaN."""
    found, place = [], 0
    for column in columns:
        if not column.learned:
            found.append(np.full(len(x), np.nan))
            continue
        own = np.asarray(x[:, place], dtype=np.float64)
        found.append(column.from_scores(own) if column.scored else own)
        place += 1
    return found


def as_json(columns: Sequence[Column]) -> list[dict[str, Any]]:
    return [vars(column) for column in columns]
