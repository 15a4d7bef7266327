"""When things happened: the column of times, its regular grid, what comes after, and the calendar as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trilemma.errors import InputError
from trilemma.modalities import dates, periods, zones
from trilemma.modalities.columns import NUMBER, Texts, infer

PARTS = ("year", "month", "day", "hour", "minute", "second")  # columns that make a time together
NAMED = ("date", "time", "month", "period", "timestamp", "datetime", "ts")
HOURS = ("hour", "hr", "hours")  # columns that hold the hour beside a date
TWICE = 0.01  # share of times that may come once more
OFTEN = 0.1  # of those that are said to be a series
EQUAL = 0.7  # share of steps that have the usual length, in a series
CROWDED = 0.05  # share of times in a month that has one already, with which they are no monthly ones
HOUR, DAY, YEAR = 3600, 86_400, 365.2425 * 86_400
COUNTS = ("t", "time", "timestamp", "ts", "step", "index", "tick", "sample", "frame", "cycle", "n", "no")
NICE = (1, 5, 10, 30, 60, 300, 600, 900, 1800, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY)  # seconds of a step
# Days, weeks and years: what is added to a time for one to begin at 0 (1970 began on a Thursday), and their seconds.
CIRCLES: dict[str, tuple[int, float]] = {
    "hour of day": (0, DAY),
    "day of week": (3 * DAY, 7 * DAY),
    "day of year": (0, YEAR),
}
SLOT = 0.2  # of the usual number of rows: an hour of the week with fewer is one in which nothing happens


@dataclass
class Clock:
    """A regular grid of times: every `step` seconds, or `months`, but no slots of a week in which nothing happens."""

    step: int
    months: int = 0
    slots: list[int] = field(default_factory=list)  # weekday * 24 + hour (or weekdays, for steps of days); empty: all
    format: str = "%Y-%m-%d %H:%M:%S"
    names: list[str] = field(default_factory=list)  # of the column, or of the columns that make a time together
    irregular: bool = False  # what happens within a step is put at its beginning
    counted: float = 0.0  # what a step adds to times that are only counted; 0: they are real ones
    formats: list[str] = field(default_factory=list)  # all in which the column of dates is read
    day: int = 0  # of months: the one that times lie on, or the last where there are fewer; 0: that of the last time
    zone: str = ""  # in whose local time days, weeks and months begin; empty: as written, of times in zones UTC
    shown: str = ""  # the zone in which times of UTC are written
    offset: int = 0  # seconds by which all times lie behind multiples of the step, where columns keep a value for days

    def describe(self) -> dict[str, Any]:
        """JSON; without what most clocks have not, as in runs from before there was any."""
        return {name: value for name, value in asdict(self).items() if value or name not in ("shown", "offset")}

    def said(self) -> str:
        """The step in words."""
        if self.counted:
            return "step"
        if self.months:
            return {1: "month", 12: "year"}.get(self.months, f"{self.months} months")
        for unit, seconds in (("day", DAY), ("hour", HOUR), ("minute", 60), ("second", 1)):
            if self.step % seconds == 0:
                count = self.step // seconds
                return unit if count == 1 else f"{count:,} {unit}s"
        return f"{self.step} seconds"

    def grid(self, first: int, last: int) -> np.ndarray:
        """All times from first to last, seconds since 1970."""
        if self.months:
            count = (_month(np.array([last])) - _month(np.array([first])))[0] // self.months + 1
            return self.after(first, int(count) - 1, itself=True)
        return self._kept(np.arange(first, last + 1, self.step))

    def after(self, last: int, count: int, *, itself: bool = False) -> np.ndarray:
        """The next `count` times; with `itself` the last one before them."""
        if self.months:
            start = np.datetime64(int(last), "s")
            month, day = start.astype("datetime64[M]"), start.astype("datetime64[D]")
            months = month + self.months * np.arange(1, count + 1)
            lengths = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
            wanted = self.day or int((day - month).astype(np.int64)) + 1
            place = np.minimum(wanted, lengths) - 1  # a 30th is the 28th of February
            times = (months.astype("datetime64[D]") + place).astype("datetime64[s]") + (
                start - day.astype("datetime64[s]")
            )
            found = times.astype(np.int64)
        else:
            share = len(self.slots) / (7 if self.step % DAY == 0 else 168) if self.slots else 1.0
            ahead = int(count / max(share, 0.01)) + 7 * DAY // self.step + count
            found = self._kept(last + self.step * np.arange(1, ahead + 1))[:count]
        return np.concatenate([[last], found]) if itself else found

    def _kept(self, times: np.ndarray) -> np.ndarray:
        return times[np.isin(_slot(times, self.step), self.slots)] if self.slots else times

    def written(self, times: np.ndarray) -> list[str]:
        """As the user's file has them."""
        if self.counted:
            return [f"{time * self.counted:.10g}" for time in times.tolist()]
        utc = self.format.endswith("z")
        return zones.written(zones.moments(times, zone=self.zone, shown=self.shown, utc=utc), self.format)

    def calendar(self, times: np.ndarray, length: float) -> tuple[np.ndarray, list[str]]:
        """Hour of the day, day of the week, day of the year as points of circles (channels, n), and their names.

        Those that the step does not hide, and that the series (`length` seconds) went round twice.
        """
        made, names = [], []
        length = 0.0 if self.counted else length
        for name, (offset, period) in CIRCLES.items():
            step = self.months * YEAR / 12 if self.months else self.step
            if 2 * step < period and 2 * period <= length:
                angle = 2 * np.pi * ((times + offset) % period) / period
                made += [np.sin(angle), np.cos(angle)]
                names += [f"{name}, sine", f"{name}, cosine"]
        return (np.stack(made) * 2**0.5 if made else np.zeros((0, len(times)))), names

    def rounds(self, times: np.ndarray, circle: str) -> np.ndarray:
        """Which day, or which week, each of these times is of: how often the circle was gone round before."""
        offset, period = CIRCLES[circle]
        return (times + offset) // int(period)

    def late(self, circle: str) -> int:
        """Seconds from the beginning of a round of this circle to its first step."""
        return (self.offset + CIRCLES[circle][0]) % self.step

    def steps_of(self, circle: str) -> int:
        """Steps of a round of this circle, of which one begins with it; 0 where it does not go in equal steps."""
        period = int(CIRCLES[circle][1])
        pauses = bool(self.slots) and len(self.slots) * self.step != 7 * DAY
        return 0 if self.months or pauses or self.counted or period % self.step else period // self.step


class Moments(NamedTuple):
    """A column of times, or columns that make one together."""

    names: list[str]
    seconds: np.ndarray  # (N,)
    form: str  # as they are written
    formats: list[str]  # as its dates are read
    notes: list[str]
    zone: str = ""  # of a data frame's column, or that of a text file's offsets to UTC


@dataclass
class Times:
    """The times of a table's rows (N,), its entities, and the grid on which they lie."""

    seconds: np.ndarray
    clock: Clock
    entity: str | None  # the column that says whose row it is
    notes: list[str] = field(default_factory=list)


def find(
    texts: Sequence[Texts],
    known: Clock | None = None,
    entity: str | None = None,
    *,
    forced: bool = False,
    step: int | None = None,
) -> Times | None:
    """The times of a table whose rows are a series (or several, one for each entity); None for other tables.

    known, entity: those of a run, whose columns are taken without asking how regular the times are. forced: times may
    be counted, irregular (then they are put on a grid of `step` seconds, or of their usual step) or not there at all.
    """
    if known is not None and known.counted:
        return _counted_as(texts, known, entity)
    candidates = list(_candidates(texts, known))
    for given in [] if step else candidates:
        names, seconds, form, formats, notes, zone = given
        if np.isnan(seconds).any() or (known is None and len(seconds) < 32) or (known and names != known.names):
            continue
        if known is not None:
            seconds = zones.local(seconds, known.zone) if any(map(dates.zoned, formats)) else seconds
            return Times(_floored(seconds, known), known, entity, notes)
        found = entity_of(texts, names, seconds)
        if found == "":
            continue
        codes = None if found is None else _codes(texts, found)
        clock = _clock(seconds, codes)
        if clock is not None and zone and _begins(zone, clock.step):
            seconds = zones.local(seconds, zone)
            clock = _clock(seconds, codes)
        if clock is not None:
            clock.zone, clock.shown = (zone, "") if _begins(zone, clock.step) else ("", zone)
            clock.format, clock.names, clock.formats = form, names, formats
            return Times(seconds.astype(np.int64), clock, found, notes)
    if known is not None or not forced or not texts or len(texts[0].codes) < 32:
        return None
    for given in candidates:
        found = entity_of(texts, given.names, given.seconds)
        if found == "" and _repeated(given.seconds) <= OFTEN and ordered(given.seconds):
            found = None  # it is said to be a series: values of the same time are averaged
        codes = None if found in (None, "") else _codes(texts, str(found))
        if not np.isnan(given.seconds).any() and found != "" and (step or _alike(given.seconds, codes)):
            return _resampled(given, found, codes, step)
    return None if candidates else _counted(texts)


def _alike(seconds: np.ndarray, codes: np.ndarray | None) -> bool:
    """Are the usual steps of all entities much the same?"""
    if codes is None:
        return True
    usual = [np.median(steps) for code in np.unique(codes) if len(steps := _steps(seconds[codes == code], None))]
    return len(usual) < 2 or max(usual) <= 2 * min(usual)


def _resampled(given: Moments, entity: str | None, codes: np.ndarray | None, step: int | None) -> Times:
    """Irregular times on a grid of the usual step, rounded to what clocks show."""
    names, seconds, form, formats, notes, zone = given
    steps = _steps(seconds, codes)
    usual = float(np.median(steps)) if len(steps) else 1.0
    own = step or min(NICE, key=lambda each: abs(np.log(each / max(usual, 1.0))))
    form = form if own % DAY == 0 or "%H" in form else "%Y-%m-%d %H:%M:%S"
    zone, to = (zone, "") if _begins(zone, own) else ("", zone)
    clock = Clock(int(own), format=form, names=names, irregular=True, formats=formats, zone=zone, shown=to)
    note = f"times are irregular: values within one {clock.said()} are averaged (--set data.step=1h for another step)"
    return Times(_floored(zones.local(seconds, zone), clock), clock, entity, [*notes, note])


def _begins(zone: str, step: int) -> bool:
    """Do days, weeks and months begin at this zone's midnight? Steps of hours go on in UTC where its clocks change."""
    return step % DAY == 0 or zones.fixed(zone)


def _floored(seconds: np.ndarray, clock: Clock) -> np.ndarray:
    """Whole seconds, of irregular times the beginning of their step."""
    return (seconds // clock.step * clock.step if clock.irregular else seconds).astype(np.int64)


def _counted(texts: Sequence[Texts]) -> Times:
    """Times that only count: a column of numbers that rises by equal steps, or else the order of the rows."""
    for each in sorted(texts, key=lambda each: each.name.lower() not in COUNTS):
        try:
            numbers = infer(each, "number")[1] if each.texts and (each.codes >= 0).all() else np.zeros(0)
        except InputError:
            continue
        steps = np.diff(np.unique(numbers))
        if len(steps) < 31:
            continue
        usual, named = float(np.median(steps)), each.name.lower() in COUNTS
        count = (numbers / usual).round().astype(np.int64)
        entity = entity_of(texts, [each.name], count)
        if entity == "" or np.abs(numbers / usual - count).max() > 0.01:
            continue
        codes = None if entity is None else _codes(texts, entity)
        steps = _steps(count, codes)
        if (steps == 1).mean() >= (EQUAL if named else 1.0):
            return Times(count, Clock(1, names=[each.name], counted=usual), entity)
    return Times(np.arange(len(texts[0].codes)), Clock(1, counted=1.0), None)


def _counted_as(texts: Sequence[Texts], known: Clock, entity: str | None) -> Times | None:
    """As a run has them."""
    if not known.names:
        seconds = np.arange(len(texts[0].codes))
        return Times(seconds, known, entity)
    own = next((each for each in texts if each.name == known.names[0]), None)
    if own is None or (own.codes < 0).any():
        return None
    numbers = infer(own, "number")[1]
    return Times((numbers / known.counted).round().astype(np.int64), known, entity)


def _candidates(texts: Sequence[Texts], known: Clock | None) -> Iterator[Moments]:
    """What may be the times of a table, the finest first; those of a run are read as the run's own were."""
    named = {each.name.lower(): each for each in texts}
    found: list[Moments] = []
    for each in texts:
        if not each.texts or (each.codes < 0).any():
            continue
        if each.name.lower() in NAMED and all(
            re.fullmatch(r"(17|18|19|20|21)\d\d(0[1-9]|1[0-2])", t) for t in each.texts
        ):
            seconds = pd.to_datetime(pd.Series(each.texts), format="%Y%m").to_numpy("datetime64[s]").astype(np.int64)
            found.append(Moments([each.name], seconds[each.codes].astype(float), "%Y%m", [], []))
        elif (
            own := periods.seconds_of(each.name, each.texts, known=known is not None and each.name in known.names)
        ) is not None:
            found.append(Moments([each.name], own[0][each.codes], own[1], [], []))
        elif (
            known is not None
            and each.name in known.names
            and (values := dates.seconds_of(each.texts, known.formats)) is not None
        ):
            found.append(Moments([each.name], values[each.codes], known.format, known.formats, []))
        elif re.match(r"\d{1,4}[-/.]\d", each.texts[0]) and NUMBER.fullmatch(each.texts[0]) is None:
            column, values, _ = infer(each)
            if column.kind == "date":
                zone, form, notes = zones.of_dtype(each.dtype), column.format, []
                if form.endswith("%z") and not zone:
                    read = dates.seconds_of(each.texts, column.formats)
                    assert read is not None, "the column was read in these forms"
                    zone, note = zones.told(each.texts, read)
                    form, notes = zones.form_of(each.texts, form), [f"column {each.name!r}: {note}"] if note else []
                moments = Moments([each.name], values, form, column.formats, notes, zone)
                found.append(_in_order(moments, each, known))
    for names, days, form, formats, notes, _ in list(found):
        clock = next((each for each in texts if _time_of_day(each) is not None), None)
        if clock is not None and (days % DAY == 0).all() and form != "%Y%m":
            seconds = days + np.asarray(_time_of_day(clock))[clock.codes]
            found.append(Moments([*names, clock.name], seconds, "%Y-%m-%d %H:%M:%S", formats, notes))
    # The finest one: beside a time there is often its day.
    yield from sorted(found, key=lambda each: -len(np.unique(each.seconds)))
    parts = [part for part in PARTS if part in named]
    if len(parts) >= 2 and parts == list(PARTS[: len(parts)]):
        try:
            frame = pd.DataFrame({part: np.asarray(named[part].texts)[named[part].codes].astype(int) for part in parts})
            frame = frame if "day" in parts else frame.assign(day=1)
            seconds = pd.to_datetime(frame).to_numpy("datetime64[s]").astype(np.int64).astype(float)
        except (ValueError, TypeError):
            return
        form = "%Y-%m-%d %H:%M:%S" if len(parts) > 3 else "%Y-%m-%d" if len(parts) == 3 else "%Y-%m"
        yield Moments([named[part].name for part in parts], seconds, form, [], [])


def _in_order(given: Moments, texts: Texts, known: Clock | None) -> Moments:
    """Where day before month and month before day fit all dates: the order in which they leave fewer gaps."""
    form = given.formats[0]
    other = form.translate(str.maketrans("dm", "md"))
    if len(given.formats) > 1 or form.startswith("%Y") or other == form:
        return given
    values = dates.seconds_of(texts.texts, [other])
    if values is None:
        return given
    swapped = given._replace(seconds=values[texts.codes], form=other, formats=[other])
    taken = max(given, swapped, key=lambda each: _filled(each.seconds, known))
    order = "month before day" if taken.form.index("%m") < taken.form.index("%d") else "day before month"
    note = (
        f"column {texts.name!r}: {texts.texts[0]} is taken as {order}, though all of its dates could be the other way"
    )
    return taken._replace(notes=[note])


def _filled(seconds: np.ndarray, known: Clock | None) -> float:
    """About what share of the steps from the first to the last time has one."""
    moments = np.unique(seconds)
    clock = known or _clock(moments, None)
    if clock is None or len(moments) < 2:
        return 0.0
    step = clock.months * YEAR / 12 if clock.months else clock.step
    return float((len(moments) - 1) * step / np.ptp(moments))


def _time_of_day(texts: Texts) -> np.ndarray | None:
    """Seconds since midnight of texts such as 17:05, or of whole numbers in a column of hours; else None."""
    if not texts.texts or (texts.codes < 0).any():
        return None
    if all(re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text) for text in texts.texts):
        return (
            pd.to_timedelta([text if text.count(":") == 2 else f"{text}:00" for text in texts.texts])
            .total_seconds()
            .to_numpy()
        )
    if texts.name.lower() in HOURS and all(re.fullmatch(r"\d{1,2}", text) and int(text) < 24 for text in texts.texts):
        return np.array([3600.0 * int(text) for text in texts.texts])
    return None


def _codes(texts: Sequence[Texts], name: str) -> np.ndarray:
    return next(each.codes for each in texts if each.name == name)


def entity_of(texts: Sequence[Texts], names: list[str], seconds: np.ndarray) -> str | None:
    """The column within whose values each time comes once; None where it does so anyway, '' where there is none."""
    if _repeated(seconds) <= TWICE and ordered(seconds):
        return None
    for each in texts:
        if each.name in names or each.name.lower() in (*PARTS, *NAMED, *HOURS) or _time_of_day(each) is not None:
            continue
        if not 2 <= len(each.texts) <= max(2, len(seconds) // 32) or (each.codes < 0).any():
            continue
        order = np.argsort(each.codes, kind="stable")
        inside = np.diff(each.codes[order]) == 0
        once = _repeated(each.codes.astype(np.int64) * 2**40 + seconds.astype(np.int64)) <= TWICE
        if once and ordered(seconds[order], inside):
            return each.name
    return ""


def ordered(seconds: np.ndarray, inside: np.ndarray | None = None) -> bool:
    """Do the times rise, or fall, from row to row (where `inside`)? Those of people's birthdays do not."""
    steps = np.diff(seconds) if inside is None else np.diff(seconds)[inside]
    return len(steps) > 0 and max((steps >= 0).mean(), (steps <= 0).mean()) >= 1 - TWICE


def _repeated(values: np.ndarray) -> float:
    return 1 - len(np.unique(values)) / len(values)


def _steps(seconds: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    """What lies between the times of each entity, where it is more than nothing."""
    if codes is None:
        steps = np.diff(np.sort(seconds))
    else:
        order = np.lexsort((seconds, codes))
        steps = np.diff(seconds[order])[np.diff(codes[order]) == 0]
    return steps[steps > 0]


def _clock(seconds: np.ndarray, codes: np.ndarray | None) -> Clock | None:
    """The grid of strictly rising times; None where steps are not regular enough for one."""
    steps = _steps(seconds, codes)
    if len(steps) == 0:
        return None
    months = np.diff(_month(np.sort(np.unique(seconds.astype(np.int64)))))
    usual = float(np.median(steps))
    if usual > 27 * DAY and len(months) and (months == 0).mean() < CROWDED:
        every = int(np.median(months))
        share = (months == every).mean()
        if share >= (steps == usual).mean():  # else every 28 or 30 days
            return Clock(0, every, day=_day(seconds)) if every and share >= EQUAL else None
    if usual < 1 or (np.abs(steps - usual) < 0.05 * usual).mean() < EQUAL:
        return None
    step = round(usual)
    slots: list[int] = []
    if step <= DAY and (DAY % step == 0):
        found = np.bincount(_slot(seconds.astype(np.int64), step), minlength=7 if step == DAY else 168)
        kept = np.flatnonzero(found >= SLOT * np.median(found[found > 0]))
        slots = kept.tolist() if len(kept) < len(found) and np.ptp(seconds) > 28 * DAY else []
    return Clock(step, slots=slots)


def _slot(times: np.ndarray, step: int) -> np.ndarray:
    weekday = (times // DAY + 3) % 7
    return weekday if step % DAY == 0 else weekday * 24 + times % DAY // HOUR


def _month(times: np.ndarray) -> np.ndarray:
    return times.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)


def _day(seconds: np.ndarray) -> int:
    """On which day of their months most times lie; 31: on the last one."""
    days = seconds.astype(np.int64).astype("datetime64[s]").astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    own = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    lengths = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    return max(range(1, 32), key=lambda day: ((own == np.minimum(day, lengths)).sum(), day))


def regular(values: np.ndarray, seconds: np.ndarray, clock: Clock) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Rows (n, C) in order of time on the clock's grid: times (m,), values (m, C), NaN where there is none.

    Rows that share a place are averaged. Then the place (n,) of each row, -1 where it is too far from any and left out,
    and how many rows did not lie on the grid.
    """
    times = clock.grid(int(seconds[0]), int(seconds[-1]))
    if clock.months:
        place = ((_month(seconds) - _month(times[:1])[0]) // clock.months).clip(0, len(times) - 1)
        far = np.zeros(len(seconds), dtype=bool)
    else:
        place = np.searchsorted(times, seconds - (clock.step // 2), "left").clip(0, len(times) - 1)
        far = np.abs(times[place] - seconds) > clock.step / 2
    off = int((times[place] != seconds).sum())
    total, count = np.zeros((len(times), values.shape[1])), np.zeros((len(times), values.shape[1]))
    here = ~np.isnan(values) & ~far[:, None]
    np.add.at(total, place, np.where(here, values, 0.0))
    np.add.at(count, place, here)
    return times, np.where(count > 0, total / np.maximum(count, 1), np.nan), np.where(far, -1, place), off
