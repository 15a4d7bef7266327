"""Time series: a table with a column of regular times <-> windows (channels, T) of a Continuous space.

Each value column becomes a channel of normal scores, through a map of its training values that goes on beyond both
ends; one that wanders off, such as a price, is learned by its changes. Channels of the calendar stand beside them and
are known for any time. Splits are in the order of time: train first, test last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from trilemma.errors import InputError, unknown
from trilemma.modalities import arrays, faults, frames, splits, times
from trilemma.modalities.columns import Column, Texts, infer
from trilemma.modalities.contract import Data, Modality, Opening, alone_and_plain
from trilemma.modalities.times import Clock
from trilemma.modalities.writing import own_folder, writing_to
from trilemma.spaces import Categorical, Space, fit_continuous

KINDS = ("level", "change", "return", "left-out")
PARTS = (0.7, 0.85)  # of each entity's time: where choose and test begin
WINDOWS = {60: 240, 3600: 168, 86_400: 64}  # steps by the length of a step in seconds; months: 48
MOST = 1 << 28  # bytes of training windows
HELD = 500  # windows of choose and of test
WANDERS = 0.1  # of what a random walk would vary from window to window
DRAWN = 4  # channels in a picture
HEAD = 50_000  # rows by which a table is recognised as a series


@dataclass
class Channel:
    """One value column: how its cells become scores."""

    column: Column
    kind: str  # level, change or return
    start: float = 1.0  # a level from which changes go on: the last one known
    decimals: int | None = None  # of levels; the column's own are those of what is learned

    def relative(self, values: np.ndarray) -> np.ndarray:
        """Levels (n,) as what is learned of them; changes are those from the last level that is known."""
        if self.kind == "level":
            return values
        with np.errstate(invalid="ignore", divide="ignore"):
            steps = np.log(np.where(values > 0, values, np.nan)) if self.kind == "return" else values
        before = pd.Series(steps).ffill().shift(1).to_numpy()
        return steps - before

    def levels(self, learned: np.ndarray, start: np.ndarray | float | None = None) -> np.ndarray:
        """(n, T) of what is learned -> levels; `start` (n,) or one: those of the step before."""
        if self.kind == "level":
            return learned
        first = np.broadcast_to(np.asarray(self.start if start is None else start, dtype=float), len(learned))
        total = np.cumsum(np.nan_to_num(learned), 1)
        return first[:, None] * np.exp(total) if self.kind == "return" else first[:, None] + total


@dataclass
class Rows:
    """The rows of one entity on the clock's grid."""

    name: str
    times: np.ndarray  # (n,) seconds
    values: np.ndarray  # (n, columns) levels, NaN where there is none


@dataclass
class Series(Modality):
    """Windows of one or several series; writes them with the user's names, times and decimals."""

    channels: list[Channel]
    clock: Clock
    window: int
    entity: str | None = None
    entities: list[str] = field(default_factory=list)
    calendar: list[str] = field(default_factory=list)  # names of the last channels
    length: float = 0.0  # seconds that the series spans

    kind = "series"
    writes = (".csv", ".tsv", ".jsonl", ".parquet", ".npy", ".png", ".gz")
    usual = ".csv"

    @classmethod
    def claims(cls, source: Any) -> bool:
        if isinstance(source, Path):
            if source.is_dir() or frames.suffix(source) not in frames.READ or not source.is_file():
                return False
        elif not frames.is_frame(source):
            return False
        try:
            return times.find(frames.head(source, HEAD)) is not None
        except InputError:
            return False  # the table says what is wrong with it

    @classmethod
    def open(cls, source: Any, opening: Opening, *, data2: Any = None) -> Data:
        alone_and_plain("steps of a series", opening, data2)
        shown = str(source) if isinstance(source, (str, Path)) else "array"
        rows, clock, entity, left, notes = _rows(source, shown)
        wanted = dict(opening.columns)
        columns = rows[0][1]
        for name, kind in wanted.items():
            if name not in {column.name for column in columns}:
                raise unknown(f"setting data.columns.{name}: column of {shown}", name, [each.name for each in columns])
            if kind not in KINDS:
                raise unknown(f"setting data.columns.{name}: kind", kind, KINDS)
        found = [each for each, _ in rows]
        window = opening.window or _window(clock, int(np.median([len(each.times) for each in found])), shown)
        keep = [place for place, column in enumerate(columns) if wanted.get(column.name) != "left-out"]
        if not keep:
            raise InputError(f"{shown}: no column of numbers is left beside the times")
        channels, span = [], float(max(each.times[-1] - each.times[0] for each in found))
        calendars = [clock.calendar(each.times[: int(PARTS[0] * len(each.times))], span)[0] for each in found]
        for place in list(keep):
            train = [each.values[: int(PARTS[0] * len(each.times)), place] for each in found]
            if len(np.unique(np.concatenate(train)[~np.isnan(np.concatenate(train))])) < 2:
                notes.append(f"column {columns[place].name!r} is left out: it never changes in the first 70 %")
                keep.remove(place)
                continue
            kind = wanted.get(columns[place].name) or _kind(train, calendars, window)
            if kind == "return" and min(np.nanmin(each, initial=np.inf) for each in train) <= 0:
                raise InputError(f"setting data.columns.{columns[place].name}=return: it has values of 0 or below")
            known = found[0].values[~np.isnan(found[0].values[:, place]), place]
            channel = Channel(columns[place], kind, float(known[-1]) if len(known) else 1.0)
            channel.decimals = channel.column.decimals
            channel.column.decimals = channel.decimals if kind == "level" else None
            channel.column.fit(np.concatenate([channel.relative(each) for each in train]), smooth=True)
            channel.column.lengthen()
            channels.append(channel)
        if not channels:
            raise InputError(f"{shown}: no column changes in the first 70 % of its time")
        names = clock.calendar(found[0].times[:1], span)[1]
        modality = cls(channels, clock, window, entity, [each.name for each in found], names, span)
        for each in found:
            each.values = each.values[:, keep]
        x, observed, owner, parts = modality._windows(found, shown)
        digest = splits.digests(x)
        space = fit_continuous(x, rows=parts["train"], always=tuple(range(len(channels), x.shape[1])))
        spaces: dict[str, Space] = {"x": space}
        conditions = {}
        if len(found) > 1:
            spaces["label"], conditions["label"] = Categorical((1,), len(found)), owner[:, None]
        if left:
            notes.append(f"left out, for they are no numbers: {', '.join(left)}")
        facts = {
            "examples": len(x),
            "duplicates": splits.duplicates(digest),
            "times": f"{sum(len(each.times) for each in found):,} steps of a {clock.said()}, from "
            f"{clock.written(found[0].times[:1])[0]} to {clock.written(found[0].times[-1:])[0]}",
            "window": f"{window} steps (--set data.window=N for others)",
            "columns": {each.column.name: _said(each) for each in channels},
            "calendar": names or "none",
            "gaps": f"{float(1 - observed[:, : len(channels)].mean()):.1%} of values",
        }
        if entity:
            facts["series"] = f"{len(found)}, by column {entity}"
        return Data(
            name=Path(shown).name.split(".")[0] if isinstance(source, (str, Path)) else "series",
            source=shown,
            modality=modality,
            x=x,
            splits=parts,
            spaces=spaces,
            hash=splits.content_hash(digest, parts, cls.kind, modality.describe()),
            conditions=conditions,
            observed=None if observed.all() else observed,
            label_names=modality.entities if len(found) > 1 else [],
            notes=notes,
            opening=opening,
            facts=facts,
        )

    # --- levels <-> raw x ---

    def encode(self, values: np.ndarray, when: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levels (n, C) and their times (n,) -> raw x (channels, n), and which of its elements are known."""
        place = np.random.default_rng(len(when)).uniform(size=values.shape)
        made = [each.column.scores(each.relative(values[:, c]), place[:, c]) for c, each in enumerate(self.channels)]
        scores = np.stack(made)
        x = np.concatenate([scores, self.clock.calendar(when, self.length)[0]])
        return _bridged(x).astype(np.float32), ~np.isnan(x)

    def decode(self, x: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Raw x (n, channels, T) -> levels (n, T, C); `start` (C,): those of the step before, for what is a change."""
        made = []
        for c, each in enumerate(self.channels):
            learned = each.column.from_scores(np.asarray(x[:, c], dtype=np.float64))
            levels = each.levels(learned, None if start is None else start[c])
            made.append(levels if each.decimals is None else levels.round(each.decimals))
        return np.stack(made, 2)

    def _windows(
        self, found: list[Rows], shown: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Windows of all entities (N, channels, T), what of them is known, whose they are, and the splits."""
        size, channels = self.window, len(self.channels) + len(self.calendar)
        budget = MOST // (4 * size * channels)
        kept: dict[str, list[tuple[int, int]]] = {"train": [], "choose": [], "test": []}
        for number, each in enumerate(found):
            edges = [0, *(int(part * len(each.times)) for part in PARTS), len(each.times)]
            for name, begin, end in zip(kept, edges, edges[1:], strict=False):
                room = end - begin - size + 1
                if room < 1:
                    continue
                most = max((budget if name == "train" else HELD) // len(found), 1)
                kept[name] += [(number, begin + offset) for offset in range(0, room, -(-room // most))]
        if min(len(own) for own in kept.values()) < 2:
            raise InputError(
                f"{shown}: too short for windows of {size} steps in each of train (70 %), choose and test (15 % each); "
                "give more steps, or --set data.window=N for fewer a window"
            )
        coded = [self.encode(each.values, each.times) for each in found]
        spots = [spot for own in kept.values() for spot in own]
        x = np.stack([coded[number][0][:, begin : begin + size] for number, begin in spots])
        observed = np.stack([coded[number][1][:, begin : begin + size] for number, begin in spots])
        counts = np.cumsum([0, *(len(own) for own in kept.values())])
        # Shuffled, as the rows of a split are expected to be.
        order = np.random.default_rng(0)
        parts = {
            name: begin + order.permutation(end - begin)
            for name, begin, end in zip(kept, counts, counts[1:], strict=False)
        }
        return x, observed, np.array([number for number, _ in spots], dtype=np.int64), parts

    # --- the contract ---

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "channels": [asdict(each) for each in self.channels],
            "clock": asdict(self.clock),
            "window": self.window,
            "entity": self.entity,
            "entities": self.entities,
            "calendar": self.calendar,
            "length": self.length,
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Series:
        channels = [Channel(Column(**each.pop("column")), **each) for each in map(dict, description["channels"])]
        rest = {name: description[name] for name in ("window", "entity", "entities", "calendar", "length")}
        return cls(channels, Clock(**description["clock"]), **rest)

    def rows(self, source: Any) -> list[Rows]:
        """The series of a file or a data frame, in this run's columns. InputError where one is not there."""
        shown = str(source) if isinstance(source, (str, Path)) else "array"
        wanted = {channel.column.name for channel in self.channels}
        found, _, _, _, _ = _rows(source, shown, clock=self.clock, wanted=wanted, entity=self.entity)
        for each, _ in found:
            if self.entity is not None and each.name not in self.entities:
                known = ", ".join(self.entities[:10])
                raise InputError(
                    f"{shown}: {each.name!r} in column {self.entity!r} is none that the run knows ({known})"
                )
        made = []
        for each, columns in found:
            names = [column.name for column in columns]
            for channel in self.channels:
                if channel.column.name not in names:
                    raise InputError(f"{shown}: has no column {channel.column.name!r} of numbers, which the run needs")
            order = [names.index(channel.column.name) for channel in self.channels]
            made.append(Rows(each.name, each.times, each.values[:, order]))
        return made

    def read(self, source: Any, space: Space, notes: list[str] | None = None) -> tuple[np.ndarray, list[str]]:
        if arrays.dimensions(source) == 3:  # as `export` gives them
            values = np.asarray(arrays.to_numpy(source), dtype=np.float64)
            when = self.clock.after(0, values.shape[1])
            made = [self.encode(each, when)[0] for each in values]
            return np.stack(made), [f"{number:05d}" for number in range(len(made))]
        found = self.rows(source)
        size = space.shape[1]
        made, names = [], []
        for each in found:
            x = self.encode(each.values, each.times)[0]
            for begin in range(0, x.shape[1] - size + 1, size):
                made.append(x[:, begin : begin + size])
                names.append(f"{each.name or 'series'}-{begin:06d}")
        if not made:
            raise InputError(f"{source}: shorter than a window of {size} steps; give more")
        return np.stack(made), names

    def export(self, x: np.ndarray) -> np.ndarray:
        """Levels (n, T, columns)."""
        return self.decode(x)

    def save(self, x: np.ndarray, out: Path, *, names: list[str] | None = None) -> list[Path]:
        out, levels = Path(out), self.export(x)
        if out.suffix in (".png", ".npy"):
            with writing_to(out) as temporary:
                if out.suffix == ".png":
                    self.picture(x).save(temporary, format="png")
                else:
                    with open(temporary, "wb") as file:
                        np.save(file, levels)
            return [out]
        if frames.suffix(out) not in frames.SUFFIXES:
            with own_folder(out, [out / "series.csv"]):
                return self.save(x, out / "series.csv", names=names)
        count, size = levels.shape[:2]
        index, step = (free(name, [each.column.name for each in self.channels]) for name in ("series", "step"))
        frame = {
            index: np.repeat(names or np.arange(count).astype(str), size),
            step: np.tile(np.arange(size), count),
        }
        for c, each in enumerate(self.channels):
            shown = replace(each.column, decimals=each.decimals)
            frame[each.column.name] = shown.written(levels[:, :, c].ravel(), np.random.default_rng(0))
        frames.write(pd.DataFrame(frame), out)
        return [out]

    def picture(self, x: np.ndarray, *, columns: int | None = None, reference: np.ndarray | None = None) -> Image.Image:
        """A few windows, one row of curves for each of the first columns; real ones above them in grey."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        levels = self.export(x[:6])
        real = None if reference is None else self.export(reference[:6])
        shown = self.channels[:DRAWN]
        figure = Figure(figsize=(7.2, 1.3 * len(shown)), dpi=100, layout="constrained")
        for c, each in enumerate(shown):
            axes = figure.add_subplot(len(shown), 1, c + 1)
            axes.set_ylabel(each.column.name[:16], fontsize=7)
            axes.tick_params(labelsize=6, length=2)
            for curve in () if real is None else real:
                axes.plot(curve[:, c], color="0.8", linewidth=0.7)
            for curve in levels:
                axes.plot(curve[:, c], linewidth=0.8)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _rows(
    source: Any, shown: str, *, clock: Clock | None = None, wanted: set[str] | None = None, entity: str | None = None
) -> tuple[list[tuple[Rows, list[Column]]], Clock, str | None, list[str], list[str]]:
    """Each entity's rows with the columns of numbers, the clock, the entity's column, columns left out, notes."""
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        arrays.check_file(path)
        source = path
    texts, notes = frames.read(source, shown)
    if entity is not None and entity not in {each.name for each in texts}:
        raise InputError(f"{shown}: has no column {entity!r}, which says whose rows they are; add it")
    when = times.find(texts, clock, entity)
    if when is None:
        raise InputError(f"{shown}: {faults.why_not(texts)}")
    own = clock or when.clock
    names, columns, values, left = {*when.clock.names, when.entity}, [], [], []
    same = _same_time(texts, when)
    for each in texts:
        if each.name in names or (each.name in same if wanted is None else each.name not in wanted):
            continue
        column, numbers, more = infer(each, "number" if wanted is not None or _numeric(each) else None)
        if column.kind != "number":
            left.append(each.name)
            continue
        columns.append(column)
        values.append(numbers)
        notes += more
    if not columns:
        raise InputError(f"{shown}: no column of numbers that change beside the times; add one, or --kind table")
    table = np.stack(values, 1)
    found = []
    for name, chosen in _by_entity(texts, when):
        again = len(chosen) - len(np.unique(when.seconds[chosen]))
        if again:
            notes.append(f"{again:,} rows have the time of another one{f' of {name!r}' if name else ''}: averaged")
        grid, levels, off, far = times.regular(table[chosen], when.seconds[chosen], own)
        if off > far and not own.months:
            notes.append(f"{off - far:,} times lie beside the grid of one {own.said()}: they went to the nearest place")
        if far:
            notes.append(f"{far:,} rows are left out: at their times of the week hardly anything ever happens")
        found.append((Rows(name, grid, levels), columns))
    return found, own, when.entity, left, notes


def _by_entity(texts: list[Texts], when: times.Times) -> list[tuple[str, np.ndarray]]:
    if when.entity is None:
        return [("", np.argsort(when.seconds, kind="stable"))]
    own = next(each for each in texts if each.name == when.entity)
    found = []
    for code, name in enumerate(own.texts):
        rows = np.flatnonzero(own.codes == code)
        found.append((name, rows[np.argsort(when.seconds[rows], kind="stable")]))
    return found


def _numeric(texts: Texts) -> bool:
    """Is this a column of numbers, however few different ones?"""
    try:
        return infer(texts, "number")[0].kind == "number" and len(texts.texts) > 1
    except InputError:
        return False


def _same_time(texts: list[Texts], when: times.Times) -> set[str]:
    """Columns that say the time once more: rows counted through, parts of it, a coarser date."""
    said, moments = set(), when.seconds.astype("datetime64[s]")
    parts = pd.DatetimeIndex(moments)
    for each in texts:
        if (each.codes < 0).any() or not each.texts:
            continue
        name, column = each.name.lower(), infer(each)[0]
        if column.kind == "date":
            said.add(each.name)
            continue
        try:
            numbers = infer(each, "number")[1]
        except InputError:
            continue
        whose = {"hr": "hour"}.get(name, name)
        if (whose in times.PARTS and (numbers == getattr(parts, whose)).all()) or (
            len(each.texts) == len(when.seconds) and (np.diff(numbers) == 1).all()
        ):
            said.add(each.name)
    return said


def _window(clock: Clock, shortest: int, shown: str) -> int:
    """Steps of a window: a week of hours, a quarter of days, four years of months; less where there are few."""
    size = 48 if clock.months else WINDOWS.get(clock.step, 128)
    most = int(0.15 * shortest) // 2  # two of them fit into the test split
    size = min(size, most)
    if size < 8:
        raise InputError(f"{shown}: {shortest} steps are too few to learn from; give at least 120")
    return size - size % 8 if size >= 16 else size


def _kind(levels: list[np.ndarray], calendars: list[np.ndarray], window: int) -> str:
    """How to learn a column: a level that returns, or the changes of one that wanders off.

    What the calendar explains apart, the means of windows vary against what varies within them: of a random walk n / T
    times as much on average, of n steps in windows of T. A tenth of that is taken for one.
    """
    between, within, steps = [], [], 0
    for values, calendar in zip(levels, calendars, strict=True):
        count, known = len(values) // window, ~np.isnan(values)
        if count < 3 or known.sum() < 3 * window:
            continue
        terms = np.concatenate([np.ones((1, len(values))), calendar])
        explained, *_ = np.linalg.lstsq(terms[:, known].T, values[known], rcond=None)
        rest = (values - explained @ terms)[: count * window].reshape(count, window)
        rest = rest[(~np.isnan(rest)).sum(1) > 1]
        between.append(np.nanmean(rest, 1).var())
        within.append(np.nanvar(rest, axis=1).mean())
        steps = max(steps, len(values))
    if not between or np.mean(between) <= WANDERS * steps / window * np.mean(within):
        return "level"
    return "return" if all(np.nanmin(each, initial=np.inf) > 0 for each in levels) else "change"


def _bridged(x: np.ndarray) -> np.ndarray:
    """Gaps of (channels, n) by a straight line: models do not look at them, measures do."""
    made, places = x.copy(), np.arange(x.shape[1])
    for row in made:
        known = ~np.isnan(row)
        if not known.all():
            row[~known] = np.interp(places[~known], places[known], row[known]) if known.any() else 0.0
    return made


def free(name: str, taken: list[str]) -> str:
    """A name that no column has."""
    while name in taken:
        name += "_"
    return name


def _said(channel: Channel) -> str:
    return {"level": "number", "change": "number, by its changes", "return": "number, by its returns"}[channel.kind]
