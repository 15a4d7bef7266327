"""Identifiers written anew: they look like those of the data, no two are alike, and none of them is one of the data's.

Identifiers of one length are numbers, whose digits at each place are the signs that may stand there. New ones come from
the longest stretch of these numbers in which the data have none: so nothing needs to be kept of the data's own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

import numpy as np

DIGITS = "0123456789"
FEW = 12  # texts: what fewer share, others need not have
SPARSE = 10**12  # times as many numbers as texts: one drawn anywhere is none of theirs
EXACT = 1e-14  # of the largest number, to which floats know all of them
PART = 10_000  # texts at a time


def learned(texts: Sequence[str]) -> tuple[list[str], int, int, int]:
    """Of different texts: the signs that may stand at each place of those whose length is the most common, the first
    and the count of new numbers, and the longest text's length.

    A sign that all share stays, but for zeros before digits that change; else there may be the digits, if there are
    any, and the letters, large or small, and other signs that stand at any place that changes.
    """
    lengths = Counter(map(len, texts))
    length = lengths.most_common(1)[0][0]
    own = [text for text in texts if len(text) == length]
    seen: list[set[str]] = [set() for _ in range(length)]
    for codes in _codes(own, length):
        for signs, new in zip(seen, codes.T, strict=True):
            signs.update(map(chr, np.unique(new).tolist()))
    if len(own) < FEW:
        seen = [set().union(*seen)] * length
    changes = [len(signs) > 1 for signs in seen]
    for place in reversed(range(length - 1)):
        if seen[place] == {"0"} and changes[place + 1] and seen[place + 1] & set(DIGITS):
            changes[place] = True
    used = set(DIGITS).union(*(signs for signs, change in zip(seen, changes, strict=True) if change))
    made = []
    for signs, change in zip(seen, changes, strict=True):
        kinds = {_kind(sign) for sign in signs}
        made.append("".join(sorted({sign for sign in used if _kind(sign) in kinds} if change else signs)))
    if "0" not in seen[0]:
        made[0] = made[0].replace("0", "")  # numbers do not begin with it
    start, count = _free(own, made)
    return made, start, count, max(lengths)


def _codes(texts: list[str], length: int) -> Iterator[np.ndarray]:
    """Numbers of the signs (n, length) of texts of one length, part by part."""
    for first in range(0, len(texts), PART):
        yield np.array(texts[first : first + PART], dtype=f"U{length}").view(np.uint32).reshape(-1, length)


def _kind(sign: str) -> tuple[bool, bool, bool]:
    return sign.isdecimal(), sign.isupper(), sign.islower()


def _free(texts: list[str], signs: list[str]) -> tuple[int, int]:
    """The first and the count of numbers in the longest stretch without those of texts."""
    size = math.prod(map(len, signs))
    if size > SPARSE * len(texts):
        return 0, size
    parts = []
    for codes in _codes(texts, len(signs)):
        numbers = np.zeros(len(codes))
        for place, own in enumerate(signs):
            numbers = numbers * len(own) + np.searchsorted([ord(sign) for sign in own], codes[:, place])
        parts.append(numbers)
    taken = np.sort(np.concatenate([[-1.0], *parts, [float(size)]]))
    widest, border = int(np.diff(taken).argmax()), int(size * EXACT)
    start = int(taken[widest]) + 1 + border
    return start, max(int(taken[widest + 1]) - border - start, 0)


def anew(
    signs: list[str], start: int, room: int, longest: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    """`count` different new ones (n,), from what `learned` gave; longer than all the data's where there is no room."""
    if room < count:
        signs = list(signs)
        last = max((place for place, own in enumerate(signs) if len(own) > 1), default=len(signs) - 1)
        more = signs[last] if len(signs[last]) > 1 else DIGITS
        while len(signs) <= longest or math.prod(map(len, signs)) < count:
            signs.insert(last + 1, more)
        start, room = 0, math.prod(map(len, signs))
    part, random = room // max(count, 1), Random(int(generator.integers(2**63)))
    start += random.randrange(room - part * count + 1)
    numbers = [start + number * part + random.randrange(part) for number in range(count)]  # one of each part
    random.shuffle(numbers)
    return np.array([_text(number, signs) for number in numbers], dtype=object)


def _text(number: int, signs: list[str]) -> str:
    made = []
    for own in reversed(signs):
        number, digit = divmod(number, len(own))
        made.append(own[digit])
    return "".join(reversed(made))
