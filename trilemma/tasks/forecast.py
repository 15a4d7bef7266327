"""What comes next in a series: the future as the part of a window that is not known, filled in many times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trilemma.batches import Options
from trilemma.errors import InputError
from trilemma.modalities import numerals
from trilemma.modalities.channels import Channel
from trilemma.modalities.contract import Modality
from trilemma.modalities.entities import Reading, Rows
from trilemma.modalities.frames import TEXT, suffix, write
from trilemma.modalities.numerals import Form
from trilemma.modalities.series import Series, free
from trilemma.modalities.writing import writing_to
from trilemma.tasks.series import go_on, label_of, series_of
from trilemma.training.progress import Bar
from trilemma.training.sampling import Sampler

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
SHOWN = 6  # curves in a picture


@dataclass
class Forecast:
    """Draws of the future of each entity."""

    series: Series
    past: list[Rows]
    times: list[np.ndarray]  # (horizon,) seconds of each entity
    draws: list[np.ndarray]  # (draws, horizon, columns) levels of each entity
    reading: Reading  # the table that it goes on from

    @property
    def columns(self) -> list[Channel]:
        """Those that are told: not what was known ahead."""
        return self.series.channels[: self.series.told]

    def frame(self, *, written: bool = False) -> pd.DataFrame:
        """`time, variable, draw, value`, after the entity where there are several. written: values as texts, as the
        table has them; words are so always."""
        parts = []
        for number, (rows, when, draws) in enumerate(zip(self.past, self.times, self.draws, strict=True)):
            count, horizon, _ = draws.shape
            moments = self.series.clock.written(when)
            for place, channel in enumerate(self.columns):
                own, texts = draws[:, :, place].ravel(), self.reading.texts_of(channel.column.name)
                parts.append(
                    self._named(rows, number, {
                        "time": np.tile(moments, count),
                        "variable": channel.column.name,
                        "draw": np.repeat(np.arange(count), horizon),
                        "value": channel.written(own, texts) if written or channel.column.values else own,
                    })
                )  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    def quantiles(self, *, written: bool = False) -> pd.DataFrame:
        """`time, variable, mean, q05 ... q95`, after the entity where there are several; of a column of words a
        variable `NAME = WORD` for each, of which the mean is how probable it is. written: as in `frame`."""
        parts, names = [], [f"q{round(100 * q):02d}" for q in QUANTILES]
        for number, (rows, when, draws) in enumerate(zip(self.past, self.times, self.draws, strict=True)):
            moments = self.series.clock.written(when)
            for place, channel in enumerate(self.columns):
                own, name = draws[:, :, place], channel.column.name
                for code, word in enumerate(channel.column.values):
                    told = {"mean": self._shares((own == code).mean(0), written), **dict.fromkeys(names, None)}
                    parts.append(self._named(rows, number, {"time": moments, "variable": f"{name} = {word}", **told}))
                if channel.column.values:
                    continue
                found = [significant(each) for each in (own.mean(0), *np.quantile(own, QUANTILES, axis=0))]
                if written:
                    texts, comma = self.reading.texts_of(name), self.reading.comma
                    found = [channel.written(each, texts, rounded=False, comma=comma) for each in found]
                told = dict(zip(["mean", *names], found, strict=True))
                parts.append(self._named(rows, number, {"time": moments, "variable": name, **told}))
        return pd.concat(parts, ignore_index=True)

    def _shares(self, values: np.ndarray, written: bool) -> Any:
        """Shares (n,), as texts with the table's decimal sign where they stand among texts."""
        values = significant(values)
        form = Form(comma=self.reading.comma)
        return [numerals.written(each, form, whole=False) for each in values.tolist()] if written else values

    def _named(self, rows: Rows, number: int, columns: dict[str, Any]) -> pd.DataFrame:
        frame = pd.DataFrame(columns)
        if self.series.entity is not None:
            frame.insert(0, free(self.series.entity, list(frame)), rows.name)
        elif len(self.past) > 1:
            frame.insert(0, "series", number)
        return frame

    def save(self, out: Path) -> list[Path]:
        """The draws, and beside them `.quantiles` and a picture."""
        beside, picture = companions(out, "quantiles")
        written = suffix(out) in TEXT
        write(self.frame(written=written), out, self.reading.delimiter)
        write(self.quantiles(written=written), beside, self.reading.delimiter)
        with writing_to(picture) as temporary:
            self.figure().savefig(temporary, format="png")
        return [out, beside, picture]

    def figure(self) -> Any:
        """Fans of half and of nine tenths of the draws behind the last of the past."""
        from matplotlib.figure import Figure

        pairs = [(e, c) for e in range(len(self.past)) for c in range(len(self.columns))][:SHOWN]
        figure = Figure(figsize=(9, 2.0 * len(pairs)), dpi=110, layout="constrained")
        for number, (e, c) in enumerate(pairs):
            axes = figure.add_subplot(len(pairs), 1, number + 1)
            rows, draws = self.past[e], self.draws[e][:, :, c]
            back = max(2 * draws.shape[1], self.series.window // 2)
            when, future = (
                times if self.series.clock.counted else times.astype("datetime64[s]")
                for times in (rows.times[-back:], self.times[e])
            )
            axes.plot(when, rows.values[-back:, c], color="0.25", linewidth=0.9)
            for low, high, alpha in ((0.05, 0.95, 0.18), (0.25, 0.75, 0.32)):
                axes.fill_between(
                    future, *np.quantile(draws, [low, high], axis=0), color="#7a3fb8", alpha=alpha, linewidth=0
                )
            axes.plot(future, np.median(draws, 0), color="#7a3fb8", linewidth=1.1)
            if words := self.columns[c].column.values:
                axes.set_yticks(range(len(words)), words)
            axes.set_title(" ".join(filter(None, [rows.name, self.columns[c].column.name])), fontsize=9, loc="left")
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        return figure


def significant(values: np.ndarray) -> np.ndarray:
    """Values (n,) of twelve digits: no 0.30000000000000004, and nothing small becomes 0."""
    return np.array([float(f"{value:.12g}") for value in values])


def companions(out: Path, what: str) -> tuple[Path, Path]:
    """Beside a table f.2024.csv the table f.2024.WHAT.csv and the picture f.2024.png."""
    name = out.name[: out.name.lower().rindex(suffix(out))]
    return out.with_name(f"{name}.{what}{out.name[len(name) :]}"), out.with_name(f"{name}.png")


def forecast(
    sampler: Sampler,
    modality: Modality,
    source: Any,
    *,
    horizon: int,
    draws: int,
    seed: int,
    options: Options,
    most: int | None = None,
) -> Forecast:
    """`draws` futures of `horizon` steps after the end of each series in `source`.

    A window is filled in at a time, at most half of it future; a longer horizon goes on from each draw by itself. most:
    the last so many steps of the series only are known; None: all.

    Raises:
        InputError: data that are no series; a horizon or number of draws below one; a series shorter than two steps.
    """
    series = series_of(modality, "forecast")
    if horizon < 1 or draws < 1:
        raise InputError(f"--horizon {horizon} --draws {draws}: at least one step and one draw")
    reading = series.reading(source)
    past = reading.found
    made, when, cut = [], [], []
    bar = Bar("forecast", len(past))
    for number, whole in enumerate(past):
        rows, later = until_now(series, whole)
        cut.append(rows)
        rows = Rows(rows.name, rows.times[-most:], rows.values[-most:]) if most else rows
        if len(rows.times) < 2:
            raise InputError(f"{source}: a series of {len(rows.times)} steps has no future that could be told")
        when.append(series.clock.after(int(rows.times[-1]), horizon))
        ahead = series.ahead(later[:horizon], when[-1])
        made.append(_futures(sampler, series, rows, ahead, draws, seed, options, first=number << 48))
        bar.update(number + 1, {})
    bar.close()
    return Forecast(series, cut, when, made, reading)


def until_now(series: Series, rows: Rows) -> tuple[Rows, np.ndarray]:
    """A series up to its last known value, where it has columns that are known ahead, and the values after that."""
    told = np.flatnonzero(~np.isnan(rows.values[:, : series.told]).all(1))
    end = len(rows.values) if series.told == len(series.channels) or len(told) == 0 else int(told[-1]) + 1
    return Rows(rows.name, rows.times[:end], rows.values[:end]), rows.values[end:]


def _futures(
    sampler: Sampler,
    series: Series,
    rows: Rows,
    ahead: np.ndarray,
    draws: int,
    seed: int,
    options: Options,
    *,
    first: int = 0,
) -> np.ndarray:
    """(draws, horizon, columns) levels; `ahead` (told, horizon): the channels known then. Draw i has the noise of the
    numbers from `first` + i on."""
    size, step = series.window, min(ahead.shape[1], series.window // 2)
    x, known = (np.repeat(each[None], draws, 0) for each in series.encode(rows.values[-size:], rows.times[-size:]))
    total, ends = len(rows.values), [_end(rows.values[:, c], each) for c, each in enumerate(series.channels)]
    # Steps at the end for which some column that is learned by its changes has no level.
    lost = min(max((total - end for end in ends if end), default=0), size - step - 1, x.shape[2] - 1)
    index, label = first + np.arange(draws), label_of(series, rows.name)
    made = go_on(
        sampler, series, x, known, np.repeat(ahead[None], draws, 0), seed=seed, index=index,
        label=None if label is None else np.full((draws, 1), label), options=options, lost=lost,
    )  # fmt: skip
    learned, levels = series.learned(made), []
    for c, (each, end) in enumerate(zip(series.channels[: series.told], ends, strict=False)):
        if each.wanders:
            learned[:, c, : max(end - (total - lost), 0)] = 0  # what is in its last known level already
        own = each.levels(learned[:, c], rows.values[end - 1, c] if end else each.start)
        levels.append(each.rounded(own)[:, lost:])
    return np.stack(levels, 2)


def _end(values: np.ndarray, channel: Channel) -> int:
    """The step after the last one from whose level changes go on; 0: there is none."""
    known = np.flatnonzero(~np.isnan(channel.steps(values))) if channel.wanders else [len(values) - 1]
    return int(known[-1]) + 1 if len(known) else 0
