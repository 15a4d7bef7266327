"""Tables: CSV, TSV, JSON lines, Parquet, Excel and data frames <-> the cells of a Mixed space."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from trilemma.errors import InputError, unknown
from trilemma.mixed import Mixed
from trilemma.modalities import arrays, columns, dates, faults, frames, keep, splits
from trilemma.modalities.columns import NUMBER, Column, Texts
from trilemma.modalities.contract import Cells, Data, Gaps, Modality, Opening, alone_and_plain
from trilemma.modalities.plain import typed
from trilemma.modalities.texts import hashed
from trilemma.modalities.writing import own_folder, writing_to
from trilemma.spaces import Space

DRAWN = 12  # columns that a picture shows
TARGETS = ("target", "class", "label", "outcome", "response", "y")
AXIS = 20_000  # rows by which many categories are put in order


class Table(Modality):
    """Rows of columns; knows what each column is and writes rows with all of them, as the user's table has them."""

    kind = "table"
    writes = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".png", ".gz")
    usual = ".csv"

    def __init__(self, own: list[Column], target: str | None = None, delimiter: str = ","):
        self.columns = own
        self.delimiter = delimiter  # between cells of text files that are written
        self.target = target or _target(own)

    @classmethod
    def claims(cls, source: Any) -> bool:
        if isinstance(source, Path):
            return not source.is_dir() and frames.suffix(source) in frames.SUFFIXES and frames.suffix(source) != ".txt"
        return frames.is_frame(source)

    @classmethod
    def open(cls, source: Any, opening: Opening, *, data2: Any = None) -> Data:
        alone_and_plain("rows of a table", opening, data2)
        shown = str(source) if isinstance(source, (str, Path)) else "array"
        gathered, notes = frames.gathered(_source(source, shown), shown)
        splits.enough(gathered[0].rows if gathered else 0, shown)
        wanted = dict(opening.columns)
        for name in wanted:
            if name not in {each.name for each in gathered}:
                raise InputError(f"setting data.columns.{name}: {shown} has no column of this name")
        own: list[Column] = []
        values: list[np.ndarray] = []
        hashes: list[np.ndarray] = []
        for each in gathered:  # one after the other: their texts take more memory than all the rest
            texts = each.texts()
            column, numbers, more = columns.infer(texts, wanted.get(each.name))
            own.append(column)
            values.append(numbers)
            hashes.append(_hashed(texts))
            notes += more
        if opening.kind is None:
            notes += faults.in_order(own, values)
        notes += keep.apply(opening.keep, own, values, shown)
        values = keep.relative(own, values)
        if not any(column.learned for column in own):
            raise InputError(f"{shown}: no column in it that could be learned ({_listed(own)})")
        digest = splits.digests(np.stack(hashes, 1))
        del hashes
        # Equal rows are no copies of one another, as equal pictures are: each is put into a split by itself.
        parts, more = splits.cut(_numbered(digest), shown)
        train = parts["train"]
        for place, column in enumerate(own):
            if column.kind == "category" and column.scored and not column.ordered:
                values[place] = _in_order(column, values[place], own, values, train)
            if column.learned:
                column.fit(values[place][train])
        left = [column.name for column in own if column.kind == "text"]
        if left:
            notes.append(f"free text is left out: {', '.join(left)} (--set data.columns.NAME=category would use it)")
        x = columns.encoded(own, values)
        modality = cls(own, _checked_target(opening.target, own, shown), frames.delimiter(source))
        return Data(
            name=Path(shown).name.split(".")[0] if isinstance(source, (str, Path)) else "table",
            source=shown,
            modality=modality,
            x=x,
            splits=parts,
            spaces={"x": _space(own, x[train])},
            hash=splits.content_hash(digest, parts, cls.kind, [modality.target, *columns.as_json(own)]),
            notes=notes + more,
            opening=opening,
            facts={
                "examples": len(x),
                "duplicates": splits.duplicates(digest),
                "columns": {column.name: column.said() for column in own},
                "target": f"{modality.target} (--set data.target=NAME for another)",
            },
        )

    def describe(self) -> dict[str, Any]:
        own = {"kind": self.kind, "columns": columns.as_json(self.columns), "target": self.target}
        return own if self.delimiter == "," else {**own, "delimiter": self.delimiter}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Table:
        own = [Column.from_json(each) for each in description["columns"]]
        return cls(own, description.get("target"), description.get("delimiter", ","))

    def read(self, source: Any, space: Space, notes: list[str] | None = None) -> tuple[np.ndarray, list[str]]:
        shown = str(source) if isinstance(source, (str, Path)) else "array"
        texts, more = _texts(source, shown)
        if notes is not None:
            notes += more
        given = {each.name: each for each in texts}
        values = [_values(column, given.get(column.name), len(texts[0].codes), shown) for column in self.columns]
        values = keep.relative(self.columns, values)
        return columns.encoded(self.columns, values), [f"{row:05d}" for row in range(len(values[0]))]

    def cells(self, x: np.ndarray) -> Cells:
        found = self._decoded(x)
        kept = [(own, column) for own, column in zip(found, self.columns, strict=True) if column.learned]
        target = [column.name for _, column in kept].index(self.target)
        return Cells(np.stack([own for own, _ in kept], 1), [column.kind != "category" for _, column in kept], target)

    def gaps(self, source: Any) -> Gaps:
        shown = str(source) if isinstance(source, (str, Path)) else "array"
        source = _source(source, shown)
        delimiter = frames.delimiter(source)
        if isinstance(source, Path) and frames.suffix(source) not in (*frames.TEXT, *frames.LINES):
            source = frames.whole(source)
        texts, _ = _texts(source, shown)
        given = {each.name: each for each in texts}
        if not any(column.learned and column.name in given for column in self.columns):
            raise InputError(f"{shown}: has none of the columns that the run has learned ({_listed(self.columns)})")
        count = len(texts[0].codes)
        values = [_values(column, given.get(column.name), count, shown, strict=False) for column in self.columns]
        x = columns.encoded(self.columns, keep.relative(self.columns, values))
        return Gaps(np.nan_to_num(x), ~np.isnan(x), texts, source if frames.is_frame(source) else None, delimiter)

    def outside(self, gaps: Gaps, chance: float, normal: Gaps) -> np.ndarray:
        """(n, columns) -log of how probable it is that the training rows have nothing like a cell; 0 where they have.

        chance: of the last of them, as 1 in 1,000. A number beyond the range is the stranger the farther off it is;
        what stands for none (inf, unknown) is strange where no normal row, or no other one, has it in this column.
        """
        made = np.zeros((len(gaps.x), len(self.columns)))
        texts, usual = ({each.name: each for each in own.origin} for own in (gaps, normal))
        given = [_values(column, texts.get(column.name), len(made), "", strict=False) for column in self.columns]
        there = keep.relative(self.columns, given)
        for place, (column, cells, values) in enumerate(zip(self.columns, given, there, strict=True)):
            own = texts.get(column.name)
            if own is None or column.kind in ("identifier", "text"):
                continue
            if column.kind == "constant" and column.values:
                new = (own.codes >= 0) & (np.asarray([*own.texts, ""], dtype=object)[own.codes] != column.values[0])
                made[new, place] = -1.5 * np.log(chance)
            elif column.kind == "category":
                made[(own.codes >= 0) & np.isnan(values), place] = -1.5 * np.log(chance)
            elif column.learned:
                low, high = column.knots[0], column.knots[-1]
                far = np.nan_to_num(np.maximum(low - values, values - high)) / max(high - low, 1e-12)
                made[:, place] = np.where(far > 0, -np.log(chance) + np.log1p(10 * np.maximum(far, 0)), 0.0)
                times = usual[column.name].times() if column.name in usual else {}
                new = np.array([times.get(text, 0) <= (gaps is normal) for text in own.texts] + [False])[own.codes]
                made[new & np.isnan(cells), place] = -1.5 * np.log(chance)
            if not column.gaps and column.kind != "constant":
                made[own.codes < 0, place] = -np.log(chance)  # a gap where there was none
        return made

    def broken(self, source: Any) -> dict[str, np.ndarray]:
        """Of each rule between columns, which rows (n,) of a file, a data frame or a list of `Texts` break it."""
        is_read = isinstance(source, list) and all(isinstance(each, Texts) for each in source)
        texts = source if is_read else _texts(source, "the rows")[0]
        named, count = {each.name: each for each in texts}, len(texts[0].codes)
        given = [_values(column, named.get(column.name), count, "", strict=False) for column in self.columns]
        return keep.broken(self.columns, given)

    def beside(self, gaps: Gaps, more: dict[str, Any], out: Path | None = None) -> Any:
        """The table that was read with more columns at its end."""
        taken = next((each.name for each in gaps.origin if each.name in more), None)
        if taken is not None:
            raise InputError(f"column {taken!r} is what this would write; give the table without it or rename it")
        return self._out(gaps, {}, more, out)

    def filled(self, gaps: Gaps, x: np.ndarray, out: Path | None = None) -> Any:
        """The table that was read: only its empty cells are new, and those of numbers' columns that hold none."""
        texts: dict[str, Texts] = {each.name: each for each in gaps.origin}
        given = [_values(column, texts.get(column.name), len(x), "", strict=False) for column in self.columns]
        made = self._like(gaps)._cells(
            keep.reconciled(self.columns, columns.decoded(self.columns, np.asarray(x)), given)
        )
        new = {name: made[name].to_numpy(dtype=object) for name in made if name not in texts}
        for column, values in zip(self.columns, given, strict=True):
            own = texts.get(column.name)
            if own is None or not (column.learned or column.sum):
                continue
            hole = (own.codes < 0) | (np.isnan(values) if column.kind in ("number", "integer") else False)
            if hole.any():
                new[column.name] = np.where(hole, made[column.name], own.cells())
        return self._out(gaps, new, {}, out)

    def _like(self, gaps: Gaps) -> Table:
        """Its columns as the table that was read has them."""
        texts = {each.name: each for each in gaps.origin}
        return Table([column.like(texts.get(column.name)) for column in self.columns], self.target)

    def _out(self, gaps: Gaps, new: dict[str, np.ndarray], more: dict[str, Any], out: Path | None) -> Any:
        """The table that was read with new cells of some columns as texts, and more columns at its end.

        Cells as they are written for text files; for others and for programs as they are in a data frame that was read,
        in their types where nothing is lost by it.
        """
        texts, like = {each.name: each for each in gaps.origin}, self._like(gaps)
        if gaps.frame is None or (out is not None and frames.suffix(out) in frames.TEXT):
            frame = pd.DataFrame({name: own.cells() for name, own in texts.items()} | new)
            if out is None or frames.suffix(out) not in frames.TEXT:
                known = {column.name for column in self.columns}
                like.columns += [
                    Column(each.name, "category", True, each.empty, each.dtype)
                    for each in gaps.origin
                    if each.name not in known
                ]
                frame = like._typed(frame)
        else:
            frame, cells = gaps.frame.copy(), like._typed(pd.DataFrame(new))
            inner = list(texts)[len(texts) - frame.shape[1] :]  # the first ones may stand in the index
            for name in cells:
                if name in inner:
                    frame.isetitem(inner.index(name), cells[name].array)
                elif name not in texts:
                    frame[name] = cells[name].array
        frame = frame.assign(**more)
        if out is None:
            return frame
        comma = any(column.comma for column in like.columns)
        frames.write(frames.with_index(frame, []), out, gaps.delimiter, comma=comma)
        return [out]

    def export(self, x: np.ndarray) -> Any:
        """A data frame with the user's columns: numbers as numbers, the rest as texts."""
        return self._typed(self._written(x))

    def _typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        for column in self.columns:
            if column.kind != "text" and column.name in frame:
                frame[column.name] = typed(frame[column.name], column)
        return frame

    def _decoded(self, x: np.ndarray) -> list[np.ndarray]:
        return keep.absolute(self.columns, columns.decoded(self.columns, np.asarray(x)))

    def _written(self, x: np.ndarray) -> pd.DataFrame:
        """All cells as texts in the user's own way."""
        return self._cells(self._decoded(x))

    def _cells(self, found: list[np.ndarray]) -> pd.DataFrame:
        seed = 0
        for own in found:  # other rows have other identifiers
            seed = zlib.crc32(own.tobytes(), seed)
        generator = np.random.default_rng(seed)
        kept = [(column, own) for column, own in zip(self.columns, found, strict=True) if column.kind != "text"]
        return pd.DataFrame({column.name: column.written(own, generator) for column, own in kept})

    def save(self, x: np.ndarray, out: Path, *, names: list[str] | None = None) -> list[Path]:
        out = Path(out)
        if out.suffix == ".png":
            with writing_to(out) as temporary:
                self.picture(x).save(temporary, format="png")
            return [out]
        if frames.suffix(out) not in frames.SUFFIXES:
            with own_folder(out, [out / "table.csv"]):
                return self.save(x, out / "table.csv")
        frames.write(self._written(x) if frames.suffix(out) in frames.TEXT else self.export(x), out, self.delimiter)
        return [out]

    def picture(self, x: np.ndarray, *, columns: int | None = None, reference: np.ndarray | None = None) -> Image.Image:
        """How often each value comes, column by column; the reference behind in grey, of some in one row if asked."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        own = self.cells(x)
        found, numbers = own.values, own.numbers
        real = None if reference is None else self.cells(reference).values
        # Beside the real ones, as reports show them, fewer: they must be legible when they are small.
        columns = None if real is None else columns
        count = columns or (DRAWN if real is None else DRAWN // 2)
        learned = [column for column in self.columns if column.learned]
        shown = _spread(len(learned), count)
        across = columns or min(4 if real is None else 2, len(shown))
        down = -(-len(shown) // across)
        size, dpi = ((0.9 * across, 0.6), 200) if columns else ((2.0 * across, 1.5 * down), 100)
        figure = Figure(figsize=size, dpi=dpi, layout="constrained")
        for number, place in enumerate(shown, 1):
            column = learned[place]
            axes = figure.add_subplot(down, across, number)
            axes.set_title(column.name[: 12 if columns else 28], fontsize=6 if columns else 8, pad=1 if columns else 3)
            axes.set_yticks([])
            _bars(axes, found[:, place], None if real is None else real[:, place], column, numeric=numbers[place])
            axes.tick_params(labelsize=6, length=2)
            if columns:
                axes.set_xticks([])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _spread(columns: int, count: int) -> list[int]:
    """The places of at most `count` of so many columns: the first, the last and some in between."""
    return sorted(set(np.linspace(0, columns - 1, min(count, columns)).round().astype(int).tolist()))


def _bars(axes: Any, own: np.ndarray, real: np.ndarray | None, column: Column, *, numeric: bool) -> None:
    """Shares of rows: bars of the samples over those of the reference."""
    behind = own if real is None else real
    if numeric:
        known = behind[~np.isnan(behind)]
        low, high = np.quantile(known, [0.005, 0.995]) if len(known) else (0.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1, 31)
        shares = [np.histogram(each, edges)[0] / max(len(each), 1) for each in (behind, own)]
        middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    else:
        count = len(column.values) + 1
        coded = [np.where(np.isnan(each), count - 1, each).astype(int) for each in (behind, own)]
        shares = [np.bincount(each, minlength=count)[:count] / max(len(each), 1) for each in coded]
        order = np.argsort(-shares[0], kind="stable")[:15]
        shares, middle, width = [each[order] for each in shares], np.arange(len(order), dtype=float), 0.8
        names = [*column.values, column.empty or "empty"]
        axes.set_xticks(middle, [names[code][:10] for code in order], rotation=60, ha="right", fontsize=5)
    if real is not None:
        axes.bar(middle, shares[0], width, color="0.75")
    axes.step(middle, shares[1], where="mid", color="#1f5abe", linewidth=1.0)


def _source(source: Any, shown: str) -> Any:
    """A file that may be a table, or a data frame; InputError for others."""
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        path = path / "table.csv" if (path / "table.csv").is_file() else path  # as `save` writes into a folder
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name the table in it")
        arrays.check_file(path)
        if frames.suffix(path) not in frames.SUFFIXES:
            raise InputError(f"{path}: is no table that is known; save it as one of {', '.join(frames.SUFFIXES)}")
        return path
    if frames.is_frame(source):
        return source
    try:
        return pd.DataFrame(source)
    except (ValueError, TypeError) as problem:
        raise InputError(f"{shown}: is no table ({problem}); give a data frame or a file") from problem


def _texts(source: Any, shown: str) -> tuple[list[Texts], list[str]]:
    texts, notes = frames.read(_source(source, shown), shown)
    if not texts or len(texts[0].codes) == 0:
        raise InputError(f"{shown}: has no rows; give a table with a line of names and rows below it")
    return texts, notes


def _values(column: Column, texts: Texts | None, count: int, shown: str, *, strict: bool = True) -> np.ndarray:
    """A task's cells as a run's column has them: NaN where one is empty or the whole column is not there.

    strict: InputError for a category that the run does not know, and for gaps where the run's data have none.
    """
    if not (column.learned or column.sum):
        return np.full(count, np.nan)
    strict = strict and not column.sum
    if texts is None:
        if column.gaps or not strict:
            return np.full(count, np.nan)
        raise InputError(f"{shown}: has no column {column.name!r}, which the run's data have; add it")
    if column.kind == "category":
        codes = {value: code for code, value in enumerate(column.values)}
        same = _numbers_of(codes)  # 1.0 for 1, as a data frame with a gap has it
        codes |= {text: same[float(text)] for text in texts.texts if text not in codes and _number(text) in same}
        strange = [text for text in texts.texts if text not in codes]
        if strict and strange:
            fix = "; write it so, or leave the cell empty" if column.gaps else ""
            raise InputError(
                f"{shown}: {strange[0]!r} in column {column.name!r} is none of the values that the run knows "
                f"({', '.join(column.values[:5])}, ...){fix}"
            )
        numbers = np.array([codes.get(text, np.nan) for text in texts.texts], dtype=float)
    else:
        numbers = _read(column, texts, shown)
    if len(numbers) == 0:
        numbers = np.full(1, np.nan)
    values = np.where(texts.codes < 0, np.nan, numbers[np.maximum(texts.codes, 0)])
    if strict and np.isnan(values).any() and not column.gaps:
        raise InputError(f"{shown}: empty cells in column {column.name!r}, where the run's data have none; fill them")
    return values


def _target(own: list[Column]) -> str:
    """The column that people would predict from the others: a last category, one of a telling name, the last."""
    learned = [column for column in own if column.learned]
    telling = [column.name for column in learned if column.name.lower() in TARGETS]
    if learned[-1].kind == "category" or not telling:
        return learned[-1].name
    return telling[-1]


def _checked_target(wanted: str | None, own: list[Column], shown: str) -> str | None:
    if wanted is not None and wanted not in {column.name for column in own if column.learned}:
        raise unknown(f"setting data.target: column of {shown}", wanted, [each.name for each in own if each.learned])
    return wanted


def _read(column: Column, texts: Texts, shown: str) -> np.ndarray:
    """The different texts of a column as numbers, dates in the run's own format."""
    if column.kind == "date":
        seconds = dates.seconds_of(texts.texts, column.formats or [column.format])
        if seconds is None:
            strange = next(t for t in texts.texts if dates.seconds_of([t], column.formats or [column.format]) is None)
            raise InputError(
                f"{shown}: dates in column {column.name!r} are not written {column.format} ({strange[:40]!r})"
            )
        return seconds
    numbers, strange = column.numbers(texts)
    if strange:
        raise InputError(f"{shown}: {strange[:40]!r} in column {column.name!r} is no number")
    return numbers


def _number(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text) else None


def _numbers_of(codes: dict[str, int]) -> dict[float, int]:
    """The codes by number, where all values are numbers and written without zeros that mean something."""
    plain = all(NUMBER.fullmatch(text) and not re.match(r"[+-]?0\d", text) for text in codes)
    return {float(text): code for text, code in codes.items()} if plain else {}


def _hashed(texts: Texts) -> np.ndarray:
    """A hash of each cell of a column (N,)."""
    own = hashed(texts.texts) if texts.hashes is None else texts.hashes
    return np.append(own, hashed([""]))[texts.codes]  # -1: the last, an empty cell


def _numbered(digest: np.ndarray) -> np.ndarray:
    """A hash of each row (N, 2) and of how many equal ones stand before it."""
    group, _ = pd.factorize(digest[:, 0])
    order = np.argsort(group, kind="stable")
    begin = np.concatenate([[True], np.diff(group[order]) > 0])
    earlier = np.arange(len(order)) - np.maximum.accumulate(np.where(begin, np.arange(len(order)), 0))
    number = np.empty(len(order), dtype=np.uint64)
    number[order] = earlier
    return splits.digests(np.concatenate([digest, number[:, None]], 1))


def _space(own: list[Column], train: np.ndarray) -> Mixed:
    learned = [column for column in own if column.learned]
    kinds = [0 if column.scored else len(column.values) for column in learned]
    scores = np.ma.masked_invalid(train.astype(np.float64))
    mean = np.array([m if kind == 0 else 0.0 for m, kind in zip(scores.mean(0).filled(0.0), kinds, strict=True)])
    deviation = np.array([max(d, 1e-3) if k == 0 else 1.0 for d, k in zip(scores.std(0).filled(1), kinds, strict=True)])
    gaps = [column.gaps for column in learned]
    return Mixed(kinds, gaps, mean=torch.from_numpy(mean), deviation=torch.from_numpy(deviation))


def _in_order(
    column: Column, codes: np.ndarray, own: list[Column], values: list[np.ndarray], train: np.ndarray
) -> np.ndarray:
    """New codes of many categories, so that neighbours go with alike rows; the column's values in that order.

    Rows lie on the first principal axis of the other columns' ranks; a category's place is its rows' mean there, drawn
    to the middle by as much as four rows would.
    """
    rows = train[:AXIS]
    others = [
        np.argsort(np.argsort(np.nan_to_num(numbers[rows]), kind="stable"), kind="stable").astype(float)
        for other, numbers in zip(own, values, strict=True)
        if other is not column and other.learned and (other.kind != "category" or len(other.values) == 2)
    ]
    axis = np.zeros(len(rows))
    if others:
        ranks = np.stack(others, 1)
        ranks = (ranks - ranks.mean(0)) / np.maximum(ranks.std(0), 1e-9)
        axis = ranks @ np.linalg.eigh(ranks.T @ ranks)[1][:, -1]
        axis /= max(axis.std(), 1e-9)
    here = ~np.isnan(codes[rows])
    seen = codes[rows][here].astype(int)
    count = np.bincount(seen, minlength=len(column.values))
    mean = np.bincount(seen, weights=axis[here], minlength=len(column.values)) / (count + 4)
    order = np.argsort(mean, kind="stable")
    moved = np.argsort(order).astype(float)
    column.values = [column.values[code] for code in order]
    return np.where(np.isnan(codes), np.nan, moved[np.nan_to_num(codes).astype(int)])


def _listed(own: list[Column]) -> str:
    return ", ".join(f"{column.name}: {column.kind}" for column in own[:6])
