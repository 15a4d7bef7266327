"""Time series: a table with a column of regular times <-> windows (channels, T) of a Continuous space.

Each value column becomes a channel of normal scores, through a map of its training values that goes on beyond both
ends; one that wanders off, such as a price, is learned by its changes. Channels of the calendar stand beside them and
are known for any time. Splits are in the order of time: train first, test last.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from trilemma.errors import InputError
from trilemma.maths.rounds import Steady
from trilemma.modalities import arrays, attributes, examples, frames, splits, statics, times, written
from trilemma.modalities.channels import Channel, learned, straight
from trilemma.modalities.contract import Data, Gaps, Modality, Opening, alone_and_plain
from trilemma.modalities.entities import Reading, Rows, read_entities
from trilemma.modalities.times import CIRCLES, Clock
from trilemma.modalities.writing import own_folder, writing_to
from trilemma.spaces import Categorical, Space, fit_continuous

PARTS = (0.7, 0.85)  # of each entity's time: where choose and test begin
WINDOWS = {60: 240, 3600: 168, 86_400: 64}  # steps by the length of a step in seconds; months: 48
MOST = 1 << 28  # bytes of training windows
HELD = 500  # windows of choose and of test
DRAWN = 4  # channels in a picture
HEAD = 50_000  # rows by which a table is recognised as a series


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
    starts: list[list[float]] = field(default_factory=list)  # of each entity the levels from which changes go on
    held: list[list[int]] = field(default_factory=list)  # of each entity the times at which choose and test begin
    delimiter: str = ","  # between cells of text files that are written

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
        wanted = dict(opening.columns)
        if examples.holds(source):
            given = examples.read_examples(source, shown)
        else:
            given = read_entities(source, shown, forced=opening.kind == cls.kind, step=opening.step)
        found, columns, clock, entity, notes = given.found, given.columns, given.clock, given.entity, given.notes
        constant = statics.constants(given, wanted, shown)
        usual = int(np.median([len(each.times) for each in found]))
        window = opening.window or (usual if given.apart else _window(clock, usual, shown))
        edges = examples.edges(given, shown, PARTS)
        out = {name for name, kind in wanted.items() if kind == "left-out"} | constant.keys()
        keep = [place for place, column in enumerate(columns) if column.name not in out]
        keep.sort(key=lambda place: wanted.get(columns[place].name) == "known")  # these stand beside the calendar
        if not any(wanted.get(columns[place].name) != "known" for place in keep):
            raise InputError(f"{shown}: no column of numbers is left beside the times")
        channels, span = [], float(max(each.times[-1] - each.times[0] for each in found))
        names = clock.calendar(found[0].times[:1], span)[1]
        early = [each.times[: own[1]] for each, own in zip(found, edges, strict=True)]
        for place in list(keep):
            train = [each.values[: own[1], place] for each, own in zip(found, edges, strict=True)]
            if all(len(np.unique(each[~np.isnan(each)])) < 2 for each in train):
                notes.append(f"column {columns[place].name!r} is left out: it never changes in the first 70 %")
                keep.remove(place)
                continue
            known = found[0].values[~np.isnan(found[0].values[:, place]), place]
            channels.append(
                learned(
                    columns[place], train, early, clock, length=span, window=window,
                    kind=wanted.get(columns[place].name), start=float(known[-1]) if len(known) else 1.0,
                )
            )  # fmt: skip
        if any(each.circle for each in channels):
            clock.offset = int(found[0].times[0]) % clock.step
        if not any(each.kind != "known" for each in channels):
            raise InputError(f"{shown}: no column changes in the first 70 % of its time")
        labels = [] if given.apart or len(found) == 1 else [each.name for each in found]
        modality = cls(
            channels, clock, window, entity, labels, names, span, _starts(found, keep, channels) if labels else []
        )
        modality.delimiter = given.delimiter
        if not given.apart:
            modality.held = [[int(r.times[at]) for at in own[1:3]] for r, own in zip(found, edges, strict=True)]
        for each in found:
            each.values = each.values[:, keep]
        x, observed, owner, parts = modality._windows(found, edges, shown)
        digest = splits.digests(x)
        always = tuple(range(modality.told, x.shape[1]))
        space = fit_continuous(x, rows=parts["train"], always=always, steady=modality._steady(), calendar=len(names))
        spaces: dict[str, Space] = {"x": space}
        conditions, present = {}, {}
        label_names = given.label_names if given.apart else labels
        if len(label_names) > 1:
            owner = owner if given.labels is None else given.labels[owner]
            spaces["label"], conditions["label"] = Categorical((1,), len(label_names)), owner[:, None]
        told = statics.told(constant, owner, parts["train"], shown, wanted, digest)
        if told.columns:
            spaces[attributes.NAME], conditions[attributes.NAME] = told.space, told.x
            if (empty := np.isnan(told.x).all(1)).any():
                present[attributes.NAME] = ~empty
        notes += told.notes
        still = {each.name for each in given.texts if len(each.texts) == 1 and (each.codes >= 0).all()}
        if never := [name for name in given.left if name in still and name not in constant]:
            notes.append(f"left out, for they never change: {', '.join(never)}")
        if left := [name for name in given.left if name not in constant and name not in still]:
            notes.append(f"left out, for they are neither numbers nor a few words: {', '.join(left)}")
        step = clock.said()
        article = "" if step[0].isdigit() else "an " if step == "hour" else "a "
        facts = {
            "examples": len(x),
            "duplicates": splits.duplicates(digest),
            "times": f"{sum(len(each.times) for each in found):,} steps of {article}{step}, from "
            f"{clock.written(found[0].times[:1])[0]} to {clock.written(found[0].times[-1:])[0]}",
            "window": f"{window} steps (--set data.window=N for others)",
            "columns": {each.column.name: each.said() for each in channels},
            "calendar": names or "none",
            "gaps": f"{float(1 - observed[:, : len(channels)].mean()):.1%} of values",
        }
        if entity:
            facts["series"] = f"{len(found)}, by column {entity}"
        data = Data(
            name=Path(shown).name.split(".")[0] if isinstance(source, (str, Path)) else "series",
            source=shown,
            modality=modality,
            x=x,
            splits=parts,
            spaces=spaces,
            # When the splits begin follows from the rest.
            hash=splits.content_hash(
                digest, parts, cls.kind, {**replace(modality, delimiter=",").describe(), "held": []}, *told.hashable()
            ),
            conditions=conditions,
            present=present,
            attributes=told.columns,
            observed=None if observed.all() else observed,
            label_names=label_names if len(label_names) > 1 else [],
            notes=notes,
            opening=opening,
            facts=facts,
        )
        attributes.remember(data)
        return data

    @property
    def told(self) -> int:
        """The first of the channels that are known for any time: columns known ahead, and the calendar."""
        return sum(each.kind != "known" for each in self.channels)

    def _steady(self) -> tuple[Steady, ...]:
        """Channels that keep one value for a round of the calendar's circles."""
        places = {name: place for place, name in enumerate(self.calendar, len(self.channels))}
        return tuple(
            Steady(
                c, places[f"{each.circle}, sine"], places[f"{each.circle}, cosine"], self.clock.steps_of(each.circle),
                self.clock.late(each.circle) / self.clock.step,
            )
            for c, each in enumerate(self.channels)
            if each.circle
        )  # fmt: skip

    # --- levels <-> raw x ---

    def encode(self, values: np.ndarray, when: np.ndarray, *, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Levels (n, C) and their times (n,) -> raw x (channels, n), and which of its elements are known.

        number: of the window among several, whose equal values must not all get equal scores.
        """
        place = np.random.default_rng((len(when), number)).uniform(size=values.shape)
        for c, each in enumerate(self.channels):
            if each.circle and len(when):  # what is one value is one score, and known where one of its steps is
                own = np.unique(self.clock.rounds(when, each.circle), return_inverse=True)[1]
                place[:, c] = place[own, c]
                known = np.flatnonzero(~np.isnan(values[:, c]))[::-1]
                first = np.full(own.max() + 1, np.nan)
                first[own[known]] = values[known, c]
                values = values.copy()
                values[:, c] = np.where(np.isnan(values[:, c]), first[own], values[:, c])
        made = [each.column.scores(each.relative(values[:, c]), place[:, c]) for c, each in enumerate(self.channels)]
        scores = np.stack(made)
        x = np.concatenate([scores, self.clock.calendar(when, self.length)[0]])
        return straight(x).astype(np.float32), ~np.isnan(x)

    def decode(self, x: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Raw x (n, channels, T) -> levels (n, T, C); `start` (C,): those of the step before, for what is a change."""
        made, learned = [], self.learned(x)
        for c, each in enumerate(self.channels):
            made.append(each.rounded(each.levels(learned[:, c], None if start is None else start[c])))
        return np.stack(made, 2)

    def learned(self, x: np.ndarray) -> np.ndarray:
        """Raw x (n, channels, T) -> what is learned of the columns (n, C, T): levels, changes, returns."""
        scores = np.asarray(x[:, : len(self.channels)], dtype=np.float64)
        return np.stack([each.from_scores(scores[:, c]) for c, each in enumerate(self.channels)], 1)

    def seen(self, x: np.ndarray) -> np.ndarray:
        """Raw x (n, channels, T) as windows of levels alone tell it: no calendar, and a first change like the second.

        By this windows are measured, so that made ones are worth the same in memory and in a file.
        """
        made = x.copy()
        made[:, len(self.channels) :] = 0
        walks = [place for place, each in enumerate(self.channels) if each.wanders]
        made[:, walks, 0] = made[:, walks, 1]
        return made

    def ahead(self, values: np.ndarray, when: np.ndarray) -> np.ndarray:
        """Raw channels (told, n) known for future times (n,); values (n, C): those of columns known ahead count.

        Raises:
            InputError: a column known ahead without all of its values.
        """
        known = self.channels[self.told :]
        for c, each in enumerate(known, self.told):
            missing = len(when) if len(values) < len(when) else int(np.isnan(values[:, c]).sum())
            if missing:
                raise InputError(
                    f"column {each.column.name!r} is known ahead: give its values for the {len(when)} steps after the "
                    f"last of the other columns, from {self.clock.written(when[:1])[0]} on ({missing} are missing)"
                )
        x = self.encode(values if known else np.full((len(when), len(self.channels)), np.nan), when)[0]
        return x[self.told :]

    def _windows(
        self, found: list[Rows], edges: list[list[int]], shown: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Windows of all entities (N, channels, T), what of them is known, whose they are, and the splits."""
        size, channels = self.window, len(self.channels) + len(self.calendar)
        budget = MOST // (4 * size * channels)
        kept: dict[str, list[tuple[int, int]]] = {"train": [], "choose": [], "test": []}
        for number, own in enumerate(edges):
            for name, begin, end in zip(kept, own, own[1:], strict=False):
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
            "channels": [each.describe() for each in self.channels],
            "clock": self.clock.describe(),
            "window": self.window,
            "entity": self.entity,
            "entities": self.entities,
            "calendar": self.calendar,
            "length": self.length,
            "starts": self.starts,
            "held": self.held,
            **({} if self.delimiter == "," else {"delimiter": self.delimiter}),
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Series:
        channels = [Channel.from_json(each) for each in description["channels"]]
        rest = {name: description[name] for name in ("window", "entity", "entities", "calendar", "length")}
        others = {name: description.get(name, []) for name in ("starts", "held")}
        delimiter = description.get("delimiter", ",")
        return cls(channels, Clock(**description["clock"]), **rest, **others, delimiter=delimiter)

    def of(self, label: int | None) -> Series:
        """As it shows what is made for one entity: from that one's levels on."""
        if label is None or label >= len(self.starts):
            return self
        own = [replace(each, start=start) for each, start in zip(self.channels, self.starts[label], strict=True)]
        return replace(self, channels=own)

    def unseen(self, rows: Rows) -> tuple[list[int], str]:
        """The steps of a series at which choose and test begin, and a note; '' where the file is the run's own.

        Parts of the file's time, but nothing that the run has learned from. Times that are only counted say nothing of
        which series this is: then the note tells what it must be.
        """
        places = [int(part * len(rows.times)) for part in PARTS]
        number = self.entities.index(rows.name) if rows.name in self.entities else 0
        if number >= len(self.held):
            return places, ""
        own = [int(np.searchsorted(rows.times, when)) for when in self.held[number]]
        if all(place >= mine for place, mine in zip(places, own, strict=True)):
            return places, ""
        first = self.clock.written(np.array(self.held[number][1:]))[0]
        if self.clock.counted:
            return places, f"the run has learned from, or chosen by, what is before step {first} of its own series"
        found = [max(place, mine) for place, mine in zip(places, own, strict=True)]
        return found, f"the test begins at {first}, for the run has learned from, or chosen by, what is before"

    def rows(self, source: Any) -> list[Rows]:
        """The series of a file or a data frame, in this run's columns. InputError where one is not there."""
        return self.reading(source).found

    def reading(self, source: Any) -> Reading:
        """`rows`, and the table in which they stand."""
        shown = str(source) if isinstance(source, (str, Path)) else "array"
        if examples.holds(source):
            return examples.read_examples(source, shown, [each.column.name for each in self.channels])
        wanted = {channel.column.name: channel.column for channel in self.channels}
        given = read_entities(source, shown, clock=self.clock, wanted=wanted, entity=self.entity)
        for each in given.found:
            if self.entity is not None and each.name not in self.entities:
                known = ", ".join(self.entities[:10])
                raise InputError(
                    f"{shown}: {each.name!r} in column {self.entity!r} is none that the run knows ({known})"
                )
        names = [column.name for column in given.columns]
        for channel in self.channels:
            if channel.column.name not in names:
                raise InputError(f"{shown}: has no column {channel.column.name!r} of numbers, which the run needs")
        order = [names.index(channel.column.name) for channel in self.channels]
        for each in given.found:
            each.values = each.values[:, order]
        return given

    def read(self, source: Any, space: Space, notes: list[str] | None = None) -> tuple[np.ndarray, list[str]]:
        whole = self._made(source, space.shape[1])
        if whole is not None:
            x = np.stack([self.encode(each, self._when(each), number=number)[0] for number, each in enumerate(whole)])
            return x, [f"{n:05d}" for n in range(len(whole))]
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

    def _when(self, levels: np.ndarray) -> np.ndarray:
        """Times of a window (size, C) that has none: days begin where most of the daily values change."""
        circle, before = next((each.circle for each in self.channels if each.circle), ""), 0
        if circle:
            steady = [c for c, each in enumerate(self.channels) if each.circle == circle]
            steps = self.clock.steps_of(circle)
            first = np.flatnonzero((np.diff(levels[:, steady], axis=0) != 0).any(1)) + 1
            begins = int(np.bincount(first % steps, minlength=steps).argmax())
            before = self.clock.late(circle) - CIRCLES[circle][0] - (begins + 1) * self.clock.step
        return self.clock.after(before, len(levels))

    def _made(self, source: Any, size: int) -> np.ndarray | None:
        """Levels (n, size, C) of windows as `export` gives and `save` writes them; None of anything else."""
        names = [each.column.name for each in self.channels]
        if examples.holds(source):
            held = arrays.load(Path(source).expanduser()) if isinstance(source, (str, Path)) else source
            if arrays.dimensions(held) != 3:
                return None
            x = np.asarray(arrays.to_numpy(held), dtype=np.float64)
            return x if x.shape[1:] == (size, len(names)) else None
        index, step = (free(name, names) for name in ("series", "step"))
        if frames.is_frame(source) or (isinstance(source, (str, Path)) and Path(source).expanduser().is_file()):
            there = {each.name for each in frames.head(source, 8)}
            if {index, step} <= there and not set(self.clock.names) & there:
                given = read_entities(
                    source,
                    str(source),
                    clock=Clock(1, names=[step], counted=1.0),
                    wanted={each.column.name: each.column for each in self.channels},
                    entity=index,
                )
                found = [each.name for each in given.columns]
                if set(names) <= set(found) and all(len(each.times) == size for each in given.found):
                    return np.stack([each.values[:, [found.index(name) for name in names]] for each in given.found])
        return None

    def gaps(self, source: Any) -> Gaps:
        """Levels (steps of all entities, C) and which of them are there; `origin` is what was read."""
        given = self.reading(source)
        levels = np.concatenate([each.values for each in given.found])
        return Gaps(np.nan_to_num(levels), ~np.isnan(levels), given)

    def filled(self, gaps: Gaps, x: np.ndarray, out: Path | None = None) -> Any:
        """The table that was read, its empty cells from levels (steps of all entities, C)."""
        return written.filled(gaps.origin, self.channels, x, out)

    def export(self, x: np.ndarray) -> np.ndarray:
        """Levels (n, T, columns); words as their places among those of the column."""
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
            own, as_texts = levels[:, :, c].ravel(), frames.suffix(out) in frames.TEXT
            frame[each.column.name] = each.written(own) if as_texts else written.typed(own, each)
        frames.write(pd.DataFrame(frame), out, self.delimiter)
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


def _starts(found: list[Rows], keep: list[int], channels: list[Channel]) -> list[list[float]]:
    """The last levels of each entity."""
    if not any(each.wanders for each in channels):
        return []
    made = []
    for rows in found:
        own = [rows.values[~np.isnan(rows.values[:, place]), place] for place in keep]
        made.append([float(each[-1]) if len(each) else c.start for each, c in zip(own, channels, strict=True)])
    return made


def _window(clock: Clock, shortest: int, shown: str) -> int:
    """Steps of a window: a week of hours, a quarter of days, four years of months; less where there are few."""
    size = 48 if clock.months else WINDOWS.get(clock.step, 128)
    most = int(0.15 * shortest) // 2  # two of them fit into the test split
    size = min(size, most)
    if size < 8:
        raise InputError(f"{shown}: {shortest} steps are too few to learn from; give at least 120")
    return size - size % 8 if size >= 16 else size


def free(name: str, taken: list[str]) -> str:
    """A name that no column has."""
    while name in taken:
        name += "_"
    return name
