"""Texts that are dates <-> seconds since 1970: of one form, or of up to three where people wrote them as they liked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

LIKE = re.compile(r"\d{1,4}(st|nd|rd|th)?[-/. ](\d|[A-Za-z]{3})|[A-Za-z]{3,9}\.? \d{1,2}")  # how a date begins
FORMS = 3
SAMPLE = 1000
MOST_COMMON = 1 / 3  # share of the texts that the usual form has at least


def forms_of(texts: Sequence[str]) -> list[str]:
    """The forms in which all texts are dates, the usual one first; none where they are no dates."""
    if not texts or not all(LIKE.match(text) for text in texts[:100]):
        return []
    left, found = pd.Series(list(texts), dtype=object), []
    for _ in range(FORMS):
        best: tuple[int, str] = (0, "")
        for guess in _guesses(left.tolist()):
            fits = int(_moments(left, guess).notna().sum())
            best = max(best, (fits, guess), key=lambda each: each[0])
        if best[0] == 0:
            return []
        found.append(best[1])
        left = left[_moments(left, best[1]).isna()]
        if len(left) == 0:
            break
    else:
        return []
    if len(found) > 1:
        counts = [int(_moments(pd.Series(list(texts), dtype=object), form).notna().sum()) for form in found]
        # What is mostly something else is no date; and no zones beside times without.
        if max(counts) < MOST_COMMON * len(texts) or len({zoned(form) for form in found}) > 1:
            return []
        found = [form for _, form in sorted(zip(counts, found, strict=True), key=lambda each: -each[0])]
    return found


def odd_one(texts: Sequence[str], mostly: float) -> str:
    """The first text that is no date, of texts that mostly are; '' where all are, or few."""
    if sum(LIKE.match(text) is not None for text in texts[:SAMPLE]) < mostly * len(texts[:SAMPLE]) or len(texts) < 10:
        return ""
    series = pd.Series(list(texts), dtype=object)
    like = [text for text in texts[:SAMPLE] if LIKE.match(text)]
    best = max((_moments(series, guess).notna() for guess in _guesses(like)), key=lambda own: own.sum(), default=None)
    if best is None or best.all() or best.mean() < mostly:
        return ""
    return str(series[~best].iloc[0])


def seconds_of(texts: Sequence[str], forms: Sequence[str]) -> np.ndarray | None:
    """Seconds since 1970 (n,), each text by the first form that fits it; None where one fits none."""
    series = pd.Series(list(texts), dtype=object)
    found = np.full(len(series), np.nan)
    for form in forms:
        left = np.isnan(found)
        if left.any():
            moments = _moments(series[left], form)
            whole = moments.to_numpy(dtype="datetime64[us]").astype("int64") / 1e6
            found[left] = np.where(moments.notna(), whole, np.nan)
    return None if np.isnan(found).any() else found


def unit_of(seconds: np.ndarray) -> float:
    """The seconds of which all are multiples: a day's, mostly; a millionth at least."""
    micro = np.round(seconds * 1e6).astype(np.int64)
    return next((unit for unit in (86_400, 3600, 60, 1, 1e-3) if (micro % round(1e6 * unit) == 0).all()), 1e-6)


def zoned(form: str) -> bool:
    """Does it say the zone?"""
    return "%z" in form or form.endswith("Z")


def written(seconds: np.ndarray, form: str) -> np.ndarray:
    """Seconds (n,) as texts."""
    micro = np.round(seconds * 1e6).astype("int64")
    return (
        pd.DatetimeIndex(micro.astype("datetime64[us]"), tz="UTC" if "%z" in form else None)
        .strftime(form)
        .to_numpy(object)
    )


def _moments(texts: pd.Series, form: str) -> pd.Series:
    return pd.to_datetime(texts, format=form, errors="coerce", utc="%z" in form)


def _guesses(texts: Sequence[str]) -> list[str]:
    """Forms of the longest and of the first text, with the day before the month and after it."""
    some = texts[:SAMPLE]
    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both orders are tried on all cells
        for text in dict.fromkeys((max(some, key=len), some[0])):
            found = [pd.tseries.api.guess_datetime_format(text, dayfirst=first) for first in (False, True)]
            if text.endswith("Z"):  # so it is written again
                made += [guess.replace("%z", "Z") for guess in found if guess]
            made += found
    return [guess for guess in dict.fromkeys(made) if guess]
