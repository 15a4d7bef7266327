"""The columns of a table: what kind each is, and its cells as numbers that models like.

A column of numbers becomes scores of unit variance: a cell's place among all values of the column, drawn evenly within
the share of its own value, through the normal quantile function. So spikes, zeros in nine of ten rows, whole numbers
and heavy tails all come out as they went in, and a model sees nothing but normal marginals. Columns of many categories
go the same way, in an order in which neighbours are alike. Categories stay categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import special

from trilemma.errors import InputError
from trilemma.modalities import dates, identifiers, numerals
from trilemma.modalities.numerals import NUMBER, Form
from trilemma.modalities.texts import MISSING, Texts

__all__ = ["MISSING", "NUMBER", "Column", "Texts", "infer"]
KINDS = ("number", "integer", "category", "ordered", "date", "constant", "identifier", "text")
FEW = 12  # whole numbers of at most so many different values are categories
MANY = 64  # categories more than this are scores
KNOTS = 1000  # of the map of a column with more different values than this
EDGE = 1e-7  # scores stay within 5.2 deviations
MOSTLY = 0.9  # share of a column's texts that are numbers or dates, where the others are mistakes
NARROW = 1e-3  # share of a category within which its cells do not reach to the edges
FARTHEST = 12.0  # deviations, of a score in the tails
REPEATED = 5  # rows a value, on average, by which a column of numbers has steps, so that nothing lies between them
SPIKE = 2 / KNOTS  # share of a value that keeps a place of its own among knots
SOME = 10_000  # texts by which dates are recognised at first
LONG = 1000  # signs of a cell that no category has
WORDS = 4  # of a cell, on average, that make a column text


@dataclass
class Column:
    """What one column is, and how its cells are read and written; JSON by `vars`."""

    name: str
    kind: str
    gaps: bool = False
    empty: str = ""
    dtype: str = "str"
    # Of a category by code, and of a number that stands for words (of a series); the value of a constant.
    values: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)  # knots of the map: share of the training rows below,
    knots: list[float] = field(default_factory=list)  # and the value there
    tails: list[float] = field(
        default_factory=list
    )  # values a deviation below and above the map's ends; none: it stops
    ordered: bool = False  # a category whose values are in an order that means something
    levels: list[str] = field(default_factory=list)  # of a data frame's categorical
    decimals: int | None = None  # of a number: at most so many; the rest of how it is written as in `numerals.Form`
    least: int = 0
    comma: bool = False
    group: str = ""
    prefix: str = ""
    suffix: str = ""
    format: str = ""  # of a date, as it is written,
    formats: list[str] = field(default_factory=list)  # all that it is read in,
    unit: float = 1  # and the seconds of which its cells are multiples: a day's, mostly
    start: int = 0  # the first new number of an identifier
    signs: list[str] = field(default_factory=list)  # of an identifier that is no number: those at each place,
    room: int = 0  # how many new ones there are from `start` on,
    longest: int = 0  # and the signs of the data's longest one
    base: str = ""  # a column that this one is never below: what it has more is learned
    strict: bool = False  # nor equal to
    sum: list[str] = field(default_factory=list)  # columns that it is the sum of

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Column:
        """As `as_json` gave it. The first runs of tables say `padded` instead of `least`, and nothing of identifiers'
        signs: theirs are numbered."""
        own = {key: value for key, value in description.items() if key != "template"}
        if own.pop("padded", False) and own.get("decimals"):
            own["least"] = own["decimals"]
        return cls(**own)

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
        return self.kind in ("number", "integer", "date") or self.ordered or len(self.values) > MANY

    @property
    def form(self) -> Form:
        """How its numbers are written."""
        return Form(self.decimals, self.least, self.comma, self.group, self.prefix, self.suffix)

    def like(self, texts: Texts | None) -> Column:
        """As a task's table has it: its own empty cells, its types where the run's file had none, and numbers of a data
        frame not written in the way of a run's text file."""
        if texts is None:
            return self
        own = replace(self, empty=texts.empty, gaps=self.gaps or bool((texts.codes < 0).any()))
        if self.dtype == "str":
            own.dtype, own.levels = texts.dtype, texts.levels
        return replace(own, comma=False, group="", prefix="", suffix="") if texts.typed else own

    def numbers(self, texts: Texts) -> tuple[np.ndarray, str]:
        """Texts of a task's column as numbers: what `numerals.read` gives; words as their places."""
        if not self.values:
            return numerals.read(texts.texts, self.like(texts).form)
        places = {word.lower(): place for place, word in enumerate(self.values)}  # true is True
        places |= {word: place for place, word in enumerate(self.values)}
        found = [places.get(text, places.get(text.lower(), np.nan)) for text in texts.texts]
        return np.array(found, dtype=float), next((t for t, p in zip(texts.texts, found, strict=True) if p != p), "")

    def said(self) -> str:
        """The kind in words, for `inspect`."""
        words = {
            "category": f"{'ordered ' * self.ordered}category of {len(self.values):,}",
            "constant": f"constant {self.values[:1]}",
        }
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
        left = np.searchsorted(knots, here, "left")
        exact = knots[np.minimum(left, len(knots) - 1)] == here  # a value with a share of its own, or an end of the map
        right, place = np.searchsorted(knots, here[exact], "right"), place[exact]
        low, high = shares[left[exact]], shares[right - 1]
        if self.kind == "category":  # float32 tells the middles of very narrow shares apart, not their edges
            place = np.where(high - low < NARROW, 0.25 + place / 2, place)
        share = np.empty(len(here))
        share[exact], share[~exact] = low + place * (high - low), np.interp(here[~exact], knots, shares)
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
        if self.kind == "category" or (len(knots) <= 2 * KNOTS and self.stepped()):
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
        if not self.stepped():
            return values
        knots = np.unique(self.knots)
        right = np.searchsorted(knots, values).clip(1, max(len(knots) - 1, 1))
        left = knots[right - 1]
        right_knot = knots[np.minimum(right, len(knots) - 1)]
        return np.where(values - left <= right_knot - values, left, right_knot)

    def stepped(self) -> bool:
        """Does nothing lie between two of its values?"""
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
            if not self.signs:
                return np.array([str(self.start + row) for row in range(count)], dtype=object)
            return identifiers.anew(self.signs, self.start, self.room, self.longest, count, generator)
        cells = np.full(count, self.empty, dtype=object)
        here = ~np.isnan(values)
        if self.values:
            cells[here] = np.asarray(self.values, dtype=object)[values[here].astype(int)]
        elif self.kind == "date":
            cells[here] = dates.written(values[here], self.format)
        else:
            form, whole = self.form, self.kind == "integer"
            cells[here] = [numerals.written(value, form, whole=whole) for value in values[here]]
        return cells


def infer(texts: Texts, wanted: str | None = None) -> tuple[Column, np.ndarray, list[str]]:
    """What a column is, its values (N,) float64 (a category's are codes), and notes.

    wanted: the kind that the user names; `ordered:Fair<Good` gives the order of a category, too.
    """
    setting, (kind, _, order) = f"setting data.columns.{texts.name}", (wanted or "").partition(":")
    if wanted is not None and (kind not in KINDS or (order and kind != "ordered")):
        raise InputError(f"{setting}={wanted}: a column is one of {', '.join(KINDS)} (or ordered:LOW<MIDDLE<HIGH)")
    column = Column(texts.name, "category", empty=texts.empty, dtype=texts.dtype, levels=texts.levels)
    codes, count = texts.codes, np.bincount(texts.codes[texts.codes >= 0], minlength=len(texts.texts))
    column.gaps, present = bool((codes < 0).any()), int(count.sum())
    if present == 0:
        column.kind, column.gaps = "constant", False
        return column, np.full(len(codes), np.nan), [f"column {texts.name!r} is empty"]
    numbers, notes = _numbers(texts, column, count, kind)
    forms = [] if numbers is not None else dates.forms_of(texts.texts[:SOME])
    forms = dates.forms_of(texts.texts) if forms and len(texts.texts) > SOME else forms
    if not forms and numbers is None and not kind:
        odd = dates.odd_one(texts.texts, MOSTLY)
        notes += (
            [f"column {texts.name!r} is nearly all dates (but {odd[:40]!r}): mend it, and it is one"] if odd else []
        )
    kind = kind or _kind(column, texts, numbers, forms, present)
    column.kind = "category" if kind == "ordered" else kind
    if kind in ("number", "integer"):
        if numbers is None:
            raise InputError(f"{setting}={kind}: not all of its cells are numbers{_strangest(texts)}")
        return column, _picked(numbers, codes), notes
    if kind == "date":
        seconds = dates.seconds_of(texts.texts, forms)
        if not forms or seconds is None:
            raise InputError(f"{setting}=date: not all of its cells are dates of one form")
        column.format, column.formats, column.unit = forms[0], forms, dates.unit_of(seconds)
        if len(forms) > 1:
            notes.append(f"column {texts.name!r}: dates of {len(forms)} forms; all are written {forms[0]}")
        return column, _picked(seconds, codes), notes
    if kind == "constant":
        column.values = texts.texts[:1]
    elif kind == "identifier":
        if numbers is not None and wanted is None and not _huge(numbers):
            column.start = int(numbers.max()) + 1
        else:
            column.signs, column.start, column.room, column.longest = identifiers.learned(texts.texts)
    elif kind in ("category", "ordered"):
        column.ordered = kind == "ordered" or (texts.ordered and wanted is None)
        column.values = _values_in_order(column, texts, numbers, order, setting)
        place = {value: code for code, value in enumerate(column.values)}
        notes += _alike(texts) if wanted is None else []
        return column, _picked(np.array([place.get(text, np.nan) for text in texts.texts]), codes), notes
    return column, np.full(len(codes), np.nan), notes


def _values_in_order(column: Column, texts: Texts, numbers: np.ndarray | None, order: str, setting: str) -> list[str]:
    """A category's values by code: an ordered one's as the user or the data frame has them, or as they come."""
    if order or (column.ordered and texts.levels):
        given = [value.strip() for value in order.split("<")] if order else texts.levels
        lacking = [text for text in texts.texts if text not in given]
        if lacking or len(set(given)) < len(given):
            why = f"{lacking[0]!r} is not among them" if lacking else "one comes twice"
            raise InputError(f"{setting}: the values in their order are {' < '.join(given)}, but {why}")
        return given
    if numbers is not None:
        return [texts.texts[place] for place in np.argsort(numbers, kind="stable") if not np.isnan(numbers[place])]
    return list(texts.texts) if column.ordered else sorted(texts.texts)


def _picked(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.where(codes < 0, np.nan, values[np.maximum(codes, 0)])


def _huge(numbers: np.ndarray) -> bool:
    """Whole numbers that floats do not tell apart?"""
    return bool(np.nanmax(np.abs(numbers), initial=0.0) >= 2.0**53)


def all_whole(numbers: np.ndarray) -> bool:
    known = numbers[~np.isnan(numbers)]
    return bool((np.isfinite(known) & (known == known.round()) & (np.abs(known) < 2.0**53)).all())


def _kind(column: Column, texts: Texts, numbers: np.ndarray | None, forms: list[str], present: int) -> str:
    distinct, known = len(texts.texts), texts.texts
    if distinct == 1 and not column.gaps:
        return "constant"
    if texts.levels:
        return "category"  # a data frame's categorical
    if numbers is not None:
        whole = column.decimals == 0 and not np.isinf(numbers).any()
        if whole and _huge(numbers):
            return "identifier" if distinct == present > FEW else "category"
        if whole and distinct == present > FEW and np.nanmax(numbers) - np.nanmin(numbers) + 1 == distinct:
            return "identifier"
        if distinct <= (FEW if column.decimals == 0 else 2):
            return "category"
        # 5.0, as pandas writes whole numbers of a column with gaps.
        return "integer" if column.decimals == 0 or (column.decimals and all_whole(numbers)) else "number"
    if forms and distinct > 2:
        return "date"
    if distinct > 20 and distinct > 0.5 * present:
        some = known[:2000]
        if np.mean([len(text.split()) for text in some]) >= WORDS or max(map(len, some)) > LONG:
            return "text"
        if distinct == present and not dates.odd_one(known, MOSTLY):
            return "identifier"
    return "category"


def _numbers(texts: Texts, column: Column, count: np.ndarray, kind: str) -> tuple[np.ndarray | None, list[str]]:
    """The texts as numbers, NaN for those that stand for none, or None; how they are written goes into the column."""
    found, known, notes, name = numerals.parse(texts.texts, texts.plain, texts.numbers), texts.texts, [], texts.name
    none = np.zeros(len(known), dtype=bool)
    if found is None:
        none = np.array([len(text) <= 8 and text.lower() in numerals.NONE for text in known])
        rest = [text for text, gone in zip(known, none, strict=True) if not gone] if none.any() else known
        found = numerals.parse(rest) if none.any() and (len(rest) > FEW or kind in ("number", "integer")) else None
        if found is None:
            if kind in ("", "category"):
                notes += _nearly(texts)
            return None, notes
        gone = [text for text, own in zip(known, none, strict=True) if own]
        notes.append(f"column {name!r}: {int(count[none].sum()):,} cells are taken as missing ({', '.join(gone[:3])})")
        column.empty, column.gaps = column.empty or gone[0], True
    own, form = found
    column.decimals, column.least, column.comma = form.decimals, form.least, form.comma
    column.group, column.prefix, column.suffix = form.group, form.prefix, form.suffix
    numbers = np.full(len(known), np.nan)
    numbers[~none] = own
    endless = np.isinf(numbers)
    if endless.any() and kind not in ("category", "ordered"):
        notes.append(f"column {name!r}: {int(count[endless].sum()):,} infinite values are taken as missing")
        numbers[endless], column.gaps = np.nan, True
    return numbers, notes


def _nearly(texts: Texts) -> list[str]:
    """A note where a few cells keep a column from being one of numbers."""
    known, others = texts.texts, 0
    if len(known) < 20:
        return []
    for start in range(0, len(known), SOME):  # what is none shows soon
        others += sum(NUMBER.fullmatch(text) is None for text in known[start : start + SOME])
        if len(known) - others < MOSTLY * len(known):
            return []
    if numerals.ZEROS.search("\n".join(known)):
        return []
    return [
        f"column {texts.name!r} is nearly all numbers{_strangest(texts)}: taken as a category; empty these cells, and "
        "it is one of numbers"
    ]


def _strangest(texts: Texts) -> str:
    """' (but 'abc' in row 17)': the first cell that is no number."""
    for place, text in enumerate(texts.texts):
        if NUMBER.fullmatch(text) is None:
            return f" (but {text[:40]!r} in row {int(np.argmax(texts.codes == place)) + 1:,})"
    return ""


def _alike(texts: Texts) -> list[str]:
    """A note on values that differ in nothing but large letters."""
    if len(texts.texts) > SOME:
        return []
    seen: dict[str, str] = {}
    for text in texts.texts:
        other = seen.setdefault(text.lower(), text)
        if other != text:
            both = f"{other[:40]!r} and {text[:40]!r}"
            return [f"column {texts.name!r}: {both} are two values; write them alike if they are one"]
    return []


def encoded(columns: Sequence[Column], values: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """(N, learned columns) float32, as the Space has them: scores, codes, NaN where a cell is empty."""
    learned = [number for number, column in enumerate(columns) if column.learned]
    x = np.empty((len(values[0]), len(learned)), dtype=np.float32)
    for place, number in enumerate(learned):
        column, own = columns[number], values[number]
        within = np.random.default_rng([seed, number]).uniform(size=len(own)) if column.scored else own
        x[:, place] = column.scores(own, within) if column.scored else own
    return x


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
