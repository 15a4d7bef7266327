"""Times that are no dates: quarters (1984Q1), weeks (2024-W05), years, and seconds or milliseconds since 1970."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

QUARTER = (("%YQ%q", r"(?P<y>\d{4})Q(?P<q>[1-4])"), ("%Y-Q%q", r"(?P<y>\d{4})-Q(?P<q>[1-4])"),
           ("%Y Q%q", r"(?P<y>\d{4}) Q(?P<q>[1-4])"), ("Q%q %Y", r"Q(?P<q>[1-4]) (?P<y>\d{4})"),
           ("Q%q-%Y", r"Q(?P<q>[1-4])-(?P<y>\d{4})"))  # fmt: skip
WEEK = re.compile(r"(\d{4})-W(0[1-9]|[1-4]\d|5[0-3])")
YEARS = ("year", "years", "yr", "jahr", "année", "annee", "año", "anno")
YEAR = re.compile(r"(17|18|19|20|21)\d\d")
ENOUGH = 120  # years that are a series; of fewer the column may mean anything
EPOCH = re.compile(r"time|date|epoch|unix|(^|_)ts(_|$)", re.I)  # names of columns that count from 1970 on
FIRST, LAST = 631_152_000, 4_102_444_800  # 1990 and 2100, between which these lie
ZEROS = (0, 3, 6, 9)  # behind the seconds: none, of milliseconds, micro- and nanoseconds


def seconds_of(name: str, texts: Sequence[str], *, known: bool = False) -> tuple[np.ndarray, str] | None:
    """Seconds since 1970 (n,) of the different texts of a column, and how they are written; None where they are dates
    or something else. known: it is the column of a run's times."""
    for form, pattern in QUARTER:
        if not texts or re.fullmatch(pattern, texts[0]) is None:
            continue
        found = [re.fullmatch(pattern, text) for text in texts]
        if all(found):
            months = [12 * (int(each["y"]) - 1970) + 3 * (int(each["q"]) - 1) for each in found if each]
            return np.array(months, dtype="datetime64[M]").astype("datetime64[s]").astype(float), form
    if texts and all(map(WEEK.fullmatch, texts)):
        days = pd.to_datetime([f"{text}-1" for text in texts], format="%G-W%V-%u")
        return days.to_numpy("datetime64[s]").astype(float), "%G-W%V"
    if name.lower() in YEARS and all(map(YEAR.fullmatch, texts)) and (known or len(texts) >= ENOUGH):
        return np.array(texts, dtype="datetime64[Y]").astype("datetime64[s]").astype(float), "%Y"
    if EPOCH.search(name) and texts and all(text.isascii() and text.isdigit() for text in texts):
        for zeros in ZEROS:
            seconds = np.array([int(text) for text in texts], dtype=float) / 10**zeros
            if seconds.min() >= FIRST and seconds.max() < LAST:
                whole = (seconds % 1 == 0).all()  # of parts of a second steps are counted
                return (seconds, "%s" + "0" * zeros) if whole else None
    return None


def written(when: pd.DatetimeIndex, form: str) -> list[str] | None:
    """Moments in one of these forms; None where it is one of dates."""
    if form.startswith("%s"):
        return [f"{second}{form[2:]}" for second in when.to_numpy("datetime64[s]").astype(np.int64).tolist()]
    if "%q" in form:
        return [form.replace("%Y", str(each.year)).replace("%q", str(each.quarter)) for each in when]
    return None
