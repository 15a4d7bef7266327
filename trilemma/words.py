"""Captions as a condition: whole numbers from a byte-pair vocabulary that was fitted on the captions themselves.

Source: Sennrich et al. 2016, "Neural machine translation of rare words with subword units", on bytes (Radford et al.
2019), so that every script can be written.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trilemma.borrowed import Borrowed, Encoder, Table, named
from trilemma.errors import InputError
from trilemma.numbered import Numbered
from trilemma.spaces import Categorical

JOINERS = "\u200c\u200d"  # within words of Persian and of scripts of India, as marks are
UNSPACED = {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"}  # scripts without spaces between words
MERGES = 1500  # at most; of a small set of captions there are fewer
OFTEN = 2  # times that two pieces stand side by side before they are one
LONGEST = 64  # tokens of a caption, at most
KEPT = 2000  # captions that samples are asked for where nobody says what to make
KNOWN = 20_000  # words that are remembered as seen
BYTES = 256


def normal(text: str) -> str:
    """One writing for one text: NFKC, lower case, single spaces; halves of signs, which no file can hold, are '?'."""
    whole = text.encode(errors="replace").decode()
    return " ".join(unicodedata.normalize("NFKC", whole).lower().split())


def words_of(text: str, *, marks: bool = True) -> list[str]:
    """Words, and every other sign by itself. marks: vowels and accents that are signs of their own join what they are
    written on; without, they take words apart."""
    whole = normal(text)
    found = {sign for sign in set(whole) if sign in JOINERS or unicodedata.category(sign)[0] == "M"} if marks else set()
    joined = "".join(sorted(found))
    pattern = rf"[\w{joined}]+|[^\w\s][{joined}]*" if joined else r"\w+|[^\w\s]"
    return re.findall(pattern, whole)


def is_word(piece: str) -> bool:
    """Is there a letter or a digit in it?"""
    return any(sign.isalnum() for sign in piece)


def says_something(text: str) -> bool:
    """Is there a letter, a digit or a symbol in it? Spaces and punctuation alone say nothing."""
    return any(unicodedata.category(sign)[0] in "LNMS" for sign in text)


class Tokenizer:
    """Byte pairs: token 0 is padding, 1 to 256 the bytes, then one for each merge, the most frequent first.

    A word is its bytes after a space, so that joined tokens are the text again. Words that were added later are one
    token each, behind all others: every other word is written as before.
    """

    def __init__(self, merges: Sequence[tuple[int, int]], added: Sequence[str] = (), *, marks: bool = True):
        """marks: as for `words_of`; runs of before that was so have learned from words that were taken apart."""
        self.marks = marks
        self.merges = [(int(a), int(b)) for a, b in merges]
        self.rank = {pair: place for place, pair in enumerate(self.merges)}
        self.bytes: list[bytes] = [b"", *(bytes([value]) for value in range(BYTES))]
        for a, b in self.merges:
            self.bytes.append(self.bytes[a] + self.bytes[b])
        self.added = [normal(word) for word in added]
        self.whole = {word: len(self.bytes) + place for place, word in enumerate(self.added)}
        self.bytes += [(" " + word).encode() for word in self.added]
        self._word = lru_cache(50_000)(self._split)

    @property
    def count(self) -> int:
        return len(self.bytes)

    @classmethod
    def fit(cls, texts: Iterable[str], merges: int = MERGES) -> Tokenizer:
        """The merges that these texts ask for; ties go to the smaller tokens, so that it is a function of the texts."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(words_of(text))
        words = [([1 + byte for byte in (" " + word).encode()], times) for word, times in sorted(counts.items())]
        pairs: Counter[tuple[int, int]] = Counter()
        where: dict[tuple[int, int], set[int]] = {}
        for number, (word, times) in enumerate(words):
            for pair in pairwise(word):
                pairs[pair] += times
                where.setdefault(pair, set()).add(number)
        found: list[tuple[int, int]] = []
        queue = [(-times, pair) for pair, times in pairs.items()]
        heapq.heapify(queue)
        while queue and len(found) < merges:
            negative, best = heapq.heappop(queue)
            if -negative != pairs[best]:  # its count has changed since: that one stands in the queue as well
                continue
            if pairs[best] < OFTEN:
                break
            token, changed = 1 + BYTES + len(found), set()
            found.append(best)
            for number in sorted(where.pop(best)):
                word, times = words[number]
                for pair in pairwise(word):
                    pairs[pair] -= times
                    changed.add(pair)
                word[:] = _joined(word, best, token)
                for pair in pairwise(word):
                    pairs[pair] += times
                    changed.add(pair)
                    where.setdefault(pair, set()).add(number)
            for pair in changed:
                if pairs[pair] > 0:
                    heapq.heappush(queue, (-pairs[pair], pair))
        return cls(found)

    def encode(self, text: str) -> list[int]:
        return [token for word in words_of(text, marks=self.marks) for token in self._word(word)]

    def _split(self, word: str) -> tuple[int, ...]:
        if word in self.whole:
            return (self.whole[word],)
        tokens = [1 + byte for byte in (" " + word).encode()]
        while len(tokens) > 1:
            ranks = [self.rank.get(pair, len(self.rank)) for pair in pairwise(tokens)]
            best = min(ranks)
            if best == len(self.rank):
                break
            tokens = _joined(tokens, self.merges[best], 1 + BYTES + best)
        return tuple(tokens)

    def decode(self, tokens: Iterable[int]) -> str:
        return b"".join(self.bytes[token] for token in tokens).decode(errors="replace").strip()


def _joined(tokens: list[int], pair: tuple[int, int], token: int) -> list[int]:
    """Every such pair as one token, from the left."""
    result, place = [], 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) == pair:
            result.append(token)
            place += 2
        else:
            result.append(tokens[place])
            place += 1
    return result


class Words(Numbered):
    """A caption (B, 1, L): up to `length` tokens of a fitted vocabulary, 0 behind its end. Absent captions are empty.

    `kept`: captions of training examples, (KEPT, length), which samples are asked for when nobody gives a prompt.
    """

    kept: Tensor

    def __init__(self, length: int, tokenizer: Tokenizer | Borrowed, *, known: Sequence[str] = (), digest: str = ""):
        """known: words of the training captions. digest: of the captions themselves."""
        super().__init__()
        self.shape, self.dtype, self.tokenizer = (1, length), torch.int64, tokenizer
        self.count = self.width = tokenizer.count
        self.numbers = Categorical((1, length), self.count)
        self.known, self.digest = list(known), digest
        self._seen, self._signs = set(self.known), set("".join(self.known))
        self.register_buffer("kept", torch.zeros(KEPT, length, dtype=torch.int32))

    @classmethod
    def fit(cls, texts: Sequence[str], like: Words | None = None, *, word: str = "", table: str = "") -> Words:
        """Of the captions of training examples; empty ones say nothing.

        like: whose vocabulary and length to take. word: one that is added to it, as a token of its own. table: who
        brings words (`Borrowed`) that are taken instead of a vocabulary of the texts.
        """
        texts = [text for text in texts if text.strip()]
        tokenizer: Tokenizer | Borrowed
        if like is not None:
            tokenizer, theirs = like.tokenizer, getattr(like.tokenizer, "name", "words")
            if theirs != (named(table) if table else "words"):
                raise InputError(f"setting text={table or 'words'}: the run to begin with has text={theirs}; take that")
        else:
            tokenizer = Borrowed(table) if table else Tokenizer.fit(texts)
        if word and isinstance(tokenizer, Borrowed):
            raise InputError(
                f"setting word={word!r}: {tokenizer.name} knows no new words; begin with a run of text=words"
            )
        if word and isinstance(tokenizer, Tokenizer):
            tokenizer = Tokenizer(tokenizer.merges, [*tokenizer.added, word], marks=tokenizer.marks)
        coded = [tokenizer.encode(normal(text)) for text in texts]
        # Room for prompts that are longer than any caption, and whose unknown words take more tokens.
        length = min(2 * max((len(tokens) for tokens in coded), default=1) + 8, LONGEST)
        length = min(length, getattr(tokenizer, "length", None) or length)  # an encoder knows no more places
        seen: Counter[str] = Counter(dict.fromkeys([] if like is None else like.known, 1))
        for text in texts:
            seen.update(words_of(text))
        known = [word for word, _ in sorted(seen.items(), key=lambda one: (-one[1], one[0]))[:KNOWN]]
        digest = hashlib.sha256("\n".join(texts).encode(errors="replace")).hexdigest()[:16]
        space = cls(length if like is None else like.shape[1], tokenizer, known=known, digest=digest)
        evenly = [coded[place * len(coded) // KEPT] for place in range(KEPT)]
        kept = torch.from_numpy(space.rows(evenly)[:, 0])
        space.kept[:, : kept.shape[1]] = kept
        return space

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "words",
            "length": self.shape[1],
            **self._written(),
            "known": self.known,
            "digest": self.digest,
        }

    def _written(self) -> dict[str, Any]:
        """The tokenizer as JSON."""
        if isinstance(self.tokenizer, Borrowed):
            return {"table": self.tokenizer.name, "table_digest": self.tokenizer.digest}
        own = self.tokenizer
        return {"merges": [list(pair) for pair in own.merges], "added": own.added, "marks": own.marks}

    def holds(self, other: Words, *, more: bool = False) -> bool:
        """Do all captions of the other Space mean the same in this one: equal tokens, and room for them?

        more: but for words that were added to the other one only.
        """
        mine, theirs = self._written(), other._written()
        if more and "added" in mine and "added" in theirs:
            theirs = {**theirs, "added": theirs["added"][: len(mine["added"])]}
        return mine == theirs and self.shape[1] >= other.shape[1]

    @property
    def vectors(self) -> Table | Encoder | None:
        """(B, L) tokens -> (B, L, D), by what others bring; None: vectors are learned."""
        return self.tokenizer.vectors if isinstance(self.tokenizer, Borrowed) else None

    @classmethod
    def described(cls, about: dict[str, Any]) -> Words:
        tokenizer: Tokenizer | Borrowed
        if "table" in about:
            tokenizer = Borrowed(about["table"], about["table_digest"])
        else:
            tokenizer = Tokenizer(about["merges"], about.get("added", ()), marks=about.get("marks", False))
        return cls(about["length"], tokenizer, known=about["known"], digest=about["digest"])

    def rows(self, coded: Sequence[Sequence[int]]) -> np.ndarray:
        """Tokens as raw captions (n, 1, L), as long as the longest of them; what is longer than `length` is cut."""
        longest = min(max(map(len, coded), default=1), self.shape[1])
        result = np.zeros((len(coded), 1, max(longest, 1)), dtype=np.int64)
        for row, tokens in enumerate(coded):
            cut = list(tokens)[:longest]
            if len(tokens) > longest and getattr(self.tokenizer, "marked", False):
                cut[-1] = tokens[-1]  # the sign for the end
            result[row, 0, : len(cut)] = cut
        return result

    def write(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> raw captions (n, 1, L)."""
        return self.rows([self.tokenizer.encode(normal(text)) for text in texts])

    def read(self, raw: np.ndarray | Tensor) -> list[str]:
        """Raw captions (n, 1, L) -> texts, in their normal writing."""
        raw = np.asarray(raw)
        return [self.tokenizer.decode(tokens) for tokens in raw.reshape(-1, raw.shape[-1]).tolist()]

    def unseen(self, text: str) -> list[str]:
        """Words of a text that no training caption has; where a script puts no spaces between them, signs."""
        found: list[str] = []
        for word in words_of(text):
            if word in self._seen or not is_word(word):
                continue
            unspaced = any(unicodedata.name(sign, "").partition(" ")[0] in UNSPACED for sign in word)
            found += [sign for sign in word if sign.isalnum() and sign not in self._signs] if unspaced else [word]
        return list(dict.fromkeys(found))

    def knows(self, word: str) -> bool:
        """Does a training caption have this word?"""
        return normal(word) in self._seen

    def cut(self, text: str) -> int:
        """How many tokens of a text are too many."""
        return max(len(self.tokenizer.encode(normal(text))) - self.shape[1], 0)

    @staticmethod
    def mask(raw: Tensor) -> Tensor:
        """(B, 1, L) -> (B, L): where there are tokens."""
        return raw[:, 0] > 0
