"""Columns of a table as they were read: each different text once, and which one each row has."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trilemma.modalities.numerals import digits

MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "<na>", "#n/a", "nat"}
LONGEST = max(map(len, MISSING))
LONG = 48  # signs of a text that is kept as bytes
PLAIN = re.compile(r"(u?int|float|decimal)\d|(double|float)\[", re.I)  # types of numbers
MANY = 1000  # different texts in half as many cells: there is no use in looking for equal ones part by part


@dataclass
class Texts:
    """A column as it was read: different texts, and which one each row has (N,); -1 where the cell is empty."""

    name: str
    codes: np.ndarray
    texts: list[str]
    empty: str = ""  # how an empty cell was written, most often
    dtype: str = "str"  # of a data frame's column
    levels: list[str] = field(default_factory=list)  # of a categorical, in its order
    ordered: bool = False  # does that order mean something?
    plain: np.ndarray | None = None  # where all are plain numbers the texts as bytes (n,),
    numbers: np.ndarray | None = None  # and as floats (n,)
    hashes: np.ndarray | None = None  # the texts' (n,), as `hashed` has them

    @property
    def typed(self) -> bool:
        """Were they numbers where they come from, a data frame or the like? Then they have a decimal point."""
        return PLAIN.match(self.dtype) is not None

    def times(self) -> dict[str, int]:
        """How often each text comes."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))
        return dict(zip(self.texts, counts.tolist(), strict=True))

    def cells(self) -> np.ndarray:
        """All cells (N,) as texts, those that are missing as most of them were written."""
        return np.asarray([*self.texts, self.empty], dtype=object)[self.codes]


class Gathering:
    """One column while its parts are read. Memory: four bytes a cell, and each part's different texts."""

    def __init__(self, name: str, dtype: str = "str", levels: Sequence[str] = (), ordered: bool = False):
        self.name, self.dtype, self.levels, self.ordered = name, dtype, list(levels), ordered
        self.rows = 0
        self._codes: list[np.ndarray] = []
        self._hashes: list[np.ndarray] = []
        self._texts: list[list[str] | np.ndarray] = []
        self._empty: Counter[str] = Counter()
        self._numbers: list[np.ndarray | None] = []
        self._different, self._many = 0, False

    def add(self, cells: Sequence[str] | np.ndarray) -> None:
        """The next rows' cells, all of them texts."""
        if self._many:
            own, texts = np.arange(len(cells)), list(cells)
        else:
            own, found = pd.factorize(np.asarray(cells, dtype=object))
            texts = list(found)
            self._many = len(texts) > 0.5 * len(cells) and len(texts) > MANY
        gone = [place for place, text in enumerate(texts) if not text] if "" in texts else []
        # Most columns of many different texts are numbers: nothing in them is missing, nor has spaces around it.
        # (What stands in place of those that are missing is never looked at.)
        plain = digits([text or "0" for text in texts] if gone else texts)
        numbers = None
        if plain is not None:
            with contextlib.suppress(ValueError):
                numbers = plain.astype(float)
        if numbers is None:
            texts = [text.strip() for text in texts]
            gone = [place for place, text in enumerate(texts) if len(text) <= LONGEST and text.lower() in MISSING]
            plain = _packed(texts) if self._many else None
        self._numbers.append(numbers)
        table = np.arange(len(texts), dtype=np.int32) + self._different
        if gone:
            times = np.bincount(own, minlength=len(texts))
            for place in gone:
                table[place] = -1
                self._empty[texts[place]] += int(times[place])
        self._codes.append(table[own])
        self._texts.append(texts if plain is None else plain)
        self._hashes.append(hashed(self._texts[-1]))
        self._different += len(texts)
        self.rows += len(cells)

    def lacking(self, count: int) -> None:
        """So many rows that have no such column."""
        self._codes.append(np.full(count, -1, dtype=np.int32))
        self._empty[""] += count
        self.rows += count

    def texts(self) -> Texts:
        """All of the column; what was gathered is given away."""
        codes = np.concatenate(self._codes) if self._codes else np.zeros(0, dtype=np.int32)
        packed = [part for part in self._texts if not isinstance(part, list)]
        if packed and len(packed) == len(self._texts):
            texts = np.concatenate(packed)
        else:
            every = (part if isinstance(part, list) else part.astype(str).tolist() for part in self._texts)
            texts = np.array(list(itertools.chain.from_iterable(every)), dtype=object)
        hashes = np.concatenate(self._hashes) if self._hashes else np.zeros(0, dtype=np.uint64)
        known = [each for each in self._numbers if each is not None]
        numbers = np.concatenate(known) if known and len(known) == len(self._numbers) else None
        self._codes, self._texts, self._hashes, self._numbers = [], [], [], []
        # Texts that come in several parts, or with spaces around them, are one; in the order in which they come.
        used = np.zeros(len(texts) + 1, dtype=bool)
        used[codes] = True  # the last for -1
        places = np.flatnonzero(used[:-1])
        same, distinct = pd.factorize(hashes[places])
        first = np.empty(len(distinct), dtype=np.int64)
        first[same[::-1]] = places[::-1]
        table = np.full(len(texts) + 1, -1, dtype=np.int32)
        table[places] = same
        common, texts = self._empty.most_common(1), texts[first]
        return Texts(
            self.name,
            table[codes],
            texts.tolist() if texts.dtype == object else texts.astype(str).tolist(),
            common[0][0] if common else "",
            self.dtype,
            self.levels,
            self.ordered,
            None if numbers is None else texts,
            None if numbers is None else numbers[first],
            hashes[first],
        )


def hashed(texts: Sequence[str] | np.ndarray) -> np.ndarray:
    """64 bits of each text (n,), the same of texts and of arrays of bytes, on every machine."""
    cells = texts.tolist() if isinstance(texts, np.ndarray) else texts
    try:
        found = pd.util.hash_array(np.array(cells, dtype=object), categorize=False)
    except UnicodeEncodeError:  # half a character, as JSON may have it
        whole = [cell.encode(errors="surrogatepass") for cell in cells]
        found = pd.util.hash_array(np.array(whole, dtype=object), categorize=False)
    return np.asarray(found)


def _packed(texts: list[str]) -> np.ndarray | None:
    """Short plain texts as an array of bytes, a sixth of the memory; None for others."""
    joined = "".join(texts)
    if not joined.isascii() or "\0" in joined or max(map(len, texts), default=0) > LONG:
        return None
    return np.array(texts, dtype="S")
