"""Zones of times: those that a file's UTC offsets tell, what clocks there show, and how they are written."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from trilemma.modalities import periods

OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)$|Z$")
# Of zones whose clocks agree the one that most people know.
USUAL = (
    "Europe/Berlin", "Europe/London", "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles",
    "Australia/Sydney", "Europe/Athens", "Europe/Lisbon", "America/Halifax", "Pacific/Auckland", "America/Sao_Paulo",
)  # fmt: skip
LOOKS = 400  # times at most that a zone is held against


def of_dtype(dtype: str) -> str:
    """The zone of a data frame's column of times; '' where it has none."""
    try:
        return str(pd.DatetimeTZDtype.construct_from_string(dtype).tz)
    except TypeError:
        return ""


def told(texts: Sequence[str], seconds: np.ndarray) -> tuple[str, str]:
    """The zone of texts of times that end in an offset to UTC, (n,) seconds of UTC, and a note.

    One offset is a zone itself, as '+02:00'; several are those of a zone with summer time, if there is one. '': UTC.
    """
    minutes = np.array([_minutes(text) for text in texts])
    offsets = np.unique(minutes)
    if len(offsets) == 1:
        sign, (hour, minute) = "-" if offsets[0] < 0 else "+", divmod(abs(int(offsets[0])), 60)
        return (f"{sign}{hour:02d}:{minute:02d}" if offsets[0] else ""), ""
    order = np.argsort(seconds)
    changes = np.flatnonzero(np.diff(minutes[order])) if len(texts) > 1 else np.zeros(0, dtype=int)
    looks = np.linspace(0, len(order) - 1, min(LOOKS // 2, len(order))).astype(int)
    places = order[np.unique([*looks, *changes[: LOOKS // 4], *changes[: LOOKS // 4] + 1])]
    when = pd.to_datetime(seconds[places], unit="s", utc=True)
    for zone in (*USUAL, *_all()):
        if _fits(zone, when, minutes[places]):
            return zone, f"its offsets to UTC are those of {zone}, if not of a zone like it: times are written so"
    return "", "its offsets to UTC change as in no zone that is known here: times are written in UTC"


def _minutes(text: str) -> int:
    found = OFFSET.search(text)
    if found is None or found[1] is None:
        return 0
    return int(f"{found[1]}1") * (60 * int(found[2]) + int(found[3]))


@cache
def _all() -> tuple[str, ...]:
    return tuple(sorted(name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith("Etc")))


def _fits(zone: str, when: pd.DatetimeIndex, minutes: np.ndarray) -> bool:
    try:
        local = when.tz_convert(zone)
    except (KeyError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        return False
    own = (local.tz_localize(None) - when.tz_localize(None)) / pd.Timedelta(minutes=1)
    return bool((own.to_numpy() == minutes).all())


def fixed(zone: str) -> bool:
    """Is its offset to UTC always the same one?"""
    return zone == "UTC" or OFFSET.fullmatch(zone.removeprefix("UTC")) is not None


def local(seconds: np.ndarray, zone: str) -> np.ndarray:
    """What clocks of a zone show at these seconds of UTC."""
    if not zone:
        return seconds
    there = pd.to_datetime(seconds, unit="s", utc=True).tz_convert(zone).tz_localize(None)
    return there.to_numpy("datetime64[us]").astype(np.int64) / 1e6


def moments(seconds: np.ndarray, *, zone: str, shown: str, utc: bool) -> pd.DatetimeIndex:
    """Seconds (n,) as moments: of what clocks of `zone` show, else of UTC, as in the zone `shown`, or without one."""
    if zone:
        first = np.ones(len(seconds), dtype=bool)
        return pd.to_datetime(seconds, unit="s").tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
    made = pd.to_datetime(seconds, unit="s", utc=utc or bool(shown))
    return made.tz_convert(shown) if shown else made


def form_of(texts: Sequence[str], form: str) -> str:
    """How an offset is written: with a colon, `%:z`, where these texts have one."""
    colon = form.endswith("%z") and all(re.search(r"[+-]\d\d:\d\d$", text) for text in texts)
    return f"{form[:-2]}%:z" if colon else form


def written(when: pd.DatetimeIndex, form: str) -> list[str]:
    """Moments as texts; `%:z` is an offset with a colon, which not every Python knows."""
    if (made := periods.written(when, form)) is not None:
        return made
    if not form.endswith("%:z"):
        return when.strftime(form).tolist()  # type: ignore[no-any-return]
    return [f"{text[:-2]}:{text[-2:]}" for text in when.strftime(f"{form[:-3]}%z")]
