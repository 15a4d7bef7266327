"""The table: which columns there are, what each means in plain words, and how its cells read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trilemma.report.plots import family_class
from trilemma.report.summary import Figure, Summary, differs, number, shorten, single, spanned
from trilemma.report.words import WORDS

ARROWS = {"lower": "↓", "higher": "↑", "one": "→ 1", "half": "→ ½"}
KINDS = {
    "model": "Models",
    "included": "Samples from elsewhere",
    "variant": "Variants",
    "baseline": "Baselines",
    "floor": "Floor",
}


@dataclass(frozen=True)
class Column:
    """One column: its title and where its value comes from."""

    group: str
    key: str
    title: str
    source: str = "metric"  # metric, speed, spread, events or verdict
    better: str = ""  # of speeds; metrics say it themselves
    form: str = ""  # seconds, bytes or whole
    first: bool = True  # in the first table, not only in the last

    @property
    def words(self) -> str:
        return WORDS[self.key]


COLUMNS = (
    Column("Translation", "translation", "Score"),
    Column("Translation", "perceptual", "Perceptual"),
    Column("Translation", "structure", "Structure"),
    Column("Translation", "agreement", "Map read off"),
    Column("Translation", "psnr", "PSNR"),
    Column("Translation", "ssim", "SSIM"),
    Column("Translation", "draws", "Draws"),
    Column("Translation", "cycle", "There and back"),
    Column("Quality", "frechet", "Fréchet"),
    Column("Quality", "frechet@random", "Fréchet, second judge"),
    Column("Quality", "frechet_extrapolated", "Fréchet, n → ∞", first=False),
    Column("Quality", "kernel@imagenet", "Kernel, ImageNet"),
    Column("Quality", "kernel", "Kernel", first=False),
    Column("Quality", "kernel@random", "Kernel, second judge", first=False),
    Column("Quality", "precision", "Precision"),
    Column("Quality", "density", "Density", first=False),
    Column("Quality", "classifier", "Told apart"),
    Column("Quality", "shapes", "Columns"),
    Column("Quality", "trends", "Pairs"),
    Column("Usefulness", "usefulness", "Teaches"),
    Column("Usefulness", "augmented", "Added to real"),
    Column("Usefulness", "usefulness@linear", "Teaches, linear", first=False),
    Column("Quality", "rules_broken", "Rules broken"),
    Column("Quality", "sharpness", "Sharpness"),
    Column("Quality", "spectrum", "Spectrum", first=False),
    Column("Quality", "alpha_precision", "α-precision", first=False),
    Column("Quality", "log_likelihood", "Log-likelihood"),
    Column("Quality", "bits_per_dimension", "Bits/dim", first=False),
    Column("Quality", "reconstruction", "Reconstruction", first=False),
    Column("Series", "marginals", "Values"),
    Column("Series", "autocorrelation", "Memory"),
    Column("Series", "cross_correlation", "Together"),
    Column("Series", "spectra", "Spectra"),
    Column("Series", "discriminative", "Discriminative"),
    Column("Series", "predictive", "Predictive"),
    Column("Series", "signature", "Signature"),
    Column("Series", "forecast", "Forecasts"),
    Column("Series", "forecast_tails", "Forecasts, tails", first=False),
    Column("Series", "forecast_coverage", "Forecasts, coverage", first=False),
    Column("Series", "facts", "Facts of returns"),
    Column("Series", "tail_index", "Tail index", first=False),
    Column("Series", "linear_autocorrelation", "Linear memory", first=False),
    Column("Series", "volatility_clustering", "Clustering", first=False),
    Column("Series", "leverage", "Leverage", first=False),
    Column("Series", "gain_loss_asymmetry", "Gain/loss", first=False),
    Column("Codes", "rate", "Bits an example", first=False),
    Column("Codes", "reconstruction_psnr", "PSNR, reconstructed", first=False),
    Column("Codes", "reconstruction_frechet", "Fréchet, reconstructed", first=False),
    Column("Codes", "codebook_use", "Codebook in use", first=False),
    Column("Codes", "perplexity", "Perplexity of tokens", first=False),
    Column("Codes", "active_units", "Active units", first=False),
    Column("Codes", "midpoints", "Midpoints", first=False),
    Column("Codes", "mixed_midpoints", "Mixed midpoints", first=False),
    Column("Codes", "path_length", "Path length", first=False),
    Column("Codes", "denoising", "Noise left", first=False),
    Column("Codes", "critic", "Its critic", first=False),
    Column("Diversity", "recall", "Recall"),
    Column("Diversity", "coverage", "Coverage"),
    Column("Diversity", "diversity", "Spread", first=False),
    Column("Diversity", "beta_recall", "β-recall", first=False),
    Column("Diversity", "vendi", "Vendi", first=False),
    Column("Diversity", "caption_variety", "Variety per caption", first=False),
    Column("Diversity", "classes", "Classes", first=False),
    Column("Diversity", "balance", "Balance", first=False),
    Column("Diversity", "modes", "Modes"),
    Column("Diversity", "at_modes", "At modes", first=False),
    Column("Control", "control", "As asked"),
    Column("Control", "attributes", "Attributes as asked"),
    Column("Control", "clip_score", "Caption score"),
    Column("Control", "clip_shuffled", "Of other captions", first=False),
    Column("Control", "retrieval_1", "Found first", first=False),
    Column("Control", "retrieval_5", "Found by caption"),
    Column("Control", "changed@label", "Label changed", first=False),
    Column("Control", "kept@label", "Label: rest kept", first=False),
    Column("Control", "replaced@label", "Label: replaced", first=False),
    Column("Control", "attributes_changed", "Attributes changed", first=False),
    Column("Control", "attributes_kept", "Attributes: rest kept", first=False),
    Column("Control", "changed", "Brightness changed", first=False),
    Column("Control", "kept", "Rest kept", first=False),
    Column("Control", "separability", "Separability", first=False),
    Column("Control", "path_length@z", "Path length, z", first=False),
    Column("Control", "path_length@w", "Path length, w", first=False),
    Column("Memorisation", "verdict", "Copies?", "verdict"),
    Column("Memorisation", "near_copies", "Near-copies", first=False),
    Column("Memorisation", "memorisation", "Nearness", first=False),
    Column("Memorisation", "exact_copies", "Exact copies", first=False),
    Column("Memorisation", "closer_to_train", "Closer to train", first=False),
    Column("Memorisation", "membership", "Membership"),
    Column("Memorisation", "attribute_gain", "Attribute", first=False),
    Column("Speed", "samples_per_second", "Samples/s", "speed", "higher"),
    Column("Speed", "first_sample_seconds", "First sample", "speed", "lower", "seconds"),
    Column("Speed", "calls", "Calls", "speed", "lower", "whole"),
    Column("Stability", "spread", "Over seeds", "spread"),
    Column("Stability", "events", "Events", "events"),
    Column("Cost", "train_seconds", "Training", "speed", "", "seconds"),
    Column("Cost", "examples", "Examples seen", "speed", "", "", False),
    Column("Cost", "examples_per_second", "Examples/s", "speed", "", "", False),
    Column("Cost", "parameters", "Parameters", "speed"),
    Column("Cost", "model_bytes", "Weights", "speed", "", "bytes", False),
    Column("Cost", "train_memory_bytes", "Memory", "speed", "", "bytes", False),
    Column("Cost", "train_joules", "Joules", "speed", "", "", False),
    Column("Cost", "sample_memory_bytes", "Memory, sampling", "speed", "", "bytes", False),
)  # fmt: skip


@dataclass
class Cell:
    """What one cell shows; `sort` orders the column, missing cells stay last."""

    text: str = "–"
    small: str = ""
    sort: float | None = None
    style: str = ""


@dataclass
class Line:
    """One row of the table, with those of its seeds beneath."""

    name: str
    note: str
    style: str
    cells: list[Cell]
    problem: str = ""
    seeds: list[Line] = field(default_factory=list)


def amount(value: float, form: str = "") -> str:
    """A number with its unit, as short as it can be read."""
    if form == "seconds":
        if value < 1:
            return f"{number(value * 1000)} ms"
        if value < 100:
            return f"{number(value)} s"
        return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"
    if form == "bytes":
        for unit in ("B", "kB", "MB"):
            if value < 999.5:
                return f"{number(value)} {unit}"
            value /= 1000
        return f"{number(value)} GB"
    return f"{value:,.0f}" if form == "whole" else number(value)


def cell(one: Summary, column: Column, headline: str | None) -> Cell:
    """The cell of a model (or of one of its seeds, given as a Summary of one row)."""
    if column.source == "metric":
        figure = one.figures.get(column.key)
        if figure is None:
            return Cell()
        text, low, high = spanned(figure.value, figure.low, figure.high)
        text += f" {figure.unit}" if figure.unit.startswith("of ") else ""
        return Cell(
            text,
            f"{low}–{high}" if low and not low.startswith("-") else f"{low} to {high}" if low else "",
            figure.value,
        )
    if column.source == "speed":
        value = one.speed.get(column.key)
        return Cell() if value is None else Cell(amount(value, column.form), "", value)
    if column.source == "spread":
        figure = one.figures.get(headline or "")
        if figure is None or figure.spread is None:
            return Cell()
        return Cell(f"± {number(figure.spread)}", "", figure.spread)
    if not one.done:
        return Cell()
    if column.source == "events":
        if one.kind != "model":
            return Cell()
        total = sum(one.events.values())
        small = ", ".join(f"{name} {count}×" if count > 1 else name for name, count in one.events.items())
        if one.rollbacks:
            small += f"; {one.rollbacks} rollback" + ("s" if one.rollbacks > 1 else "")
        return Cell(str(total) if total else "none", small, total, "warn" if total else "")
    if one.kind == "floor":
        return Cell()  # real data are what copies are measured against
    order = {"none": 0, "cannot tell": 1, "copies": 2}
    if one.verdict is None:
        return Cell()
    near = one.figures.get("near_copies")
    small = f"{near.value:.0%} near" if near else ""
    return Cell(
        one.verdict, small, order[one.verdict], "warn" if one.verdict == "copies" and one.kind != "baseline" else ""
    )


def present(columns: Sequence[Column], everything: list[Summary]) -> list[Column]:
    """The columns in which at least one row has something."""

    def known(column: Column) -> bool:
        if column.source == "metric":
            return any(column.key in one.figures for one in everything)
        if column.source == "speed":
            return any(column.key in one.speed for one in everything)
        if column.source == "spread":
            return any(len(one.done) > 1 for one in everything)
        return any(one.done for one in everything)

    return [column for column in columns if known(column)]


def direction(column: Column, everything: list[Summary]) -> str:
    """The good direction of a column: 'lower', 'higher', 'one', 'half' or nothing."""
    if column.source == "metric":
        return next((one.figures[column.key].better for one in everything if column.key in one.figures), "")
    return column.better


def mark_best(column: Column, place: int, models: list[Summary], lines: list[Line], better: str) -> None:
    """Mark the best model of a column, and those that cannot be told from it."""
    if better not in ARROWS or len(models) < 2:
        return
    if column.source == "speed":
        known = {one.name: one.speed[column.key] for one in models if column.key in one.speed}
        best = (min if better == "lower" else max)(known.values(), default=None)
        for line in lines:
            if known.get(line.name) == best and best is not None:
                line.cells[place].style = "best"
        return
    pool = [one for one in models if column.key in one.figures]
    if column.source != "metric" or len(pool) < 2:
        return
    leader = min(pool, key=lambda one: one.figures[column.key].badness)
    for one in pool:
        line = next(line for line in lines if line.name == one.name)
        if one.figures[column.key].value == leader.figures[column.key].value:
            line.cells[place].style = "best"
        elif _measured(one.figures[column.key]) and not differs(one, leader, column.key):
            line.cells[place].style = "tied"


def _measured(figure: Figure) -> bool:
    return figure.low is not None and figure.high is not None


def table(everything: list[Summary], headline: str | None, winner: str | None) -> dict[str, Any]:
    """Columns in their groups, and rows by kind, for the template."""
    columns = present([column for column in COLUMNS if column.first], everything)
    bodies: list[dict[str, Any]] = []
    for kind, title in KINDS.items():
        if kind == "variant":  # they are no candidates: their studies tell of them
            continue
        members = [one for one in everything if one.kind == kind]
        lines = [_line(one, columns, headline, winner) for one in members]
        if kind == "model":
            usable = [one for one in members if one.status == "ok" and one.verdict != "copies"]
            sound = [one for one in usable if not one.lost and not one.collapsed]
            for place, column in enumerate(columns):
                mark_best(column, place, sound, lines, direction(column, everything))
        if lines:
            bodies.append({"kind": kind, "title": title, "lines": lines})
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return {
        "columns": [(column, ARROWS.get(direction(column, everything), "")) for column in columns],
        "starts": [i == 0 or columns[i - 1].group != column.group for i, column in enumerate(columns)],
        "groups": groups,
        "bodies": bodies,
        "tied": any(c.style == "tied" for body in bodies for line in body["lines"] for c in line.cells),
        "best": any(c.style == "best" for body in bodies for line in body["lines"] for c in line.cells),
    }


def _line(one: Summary, columns: list[Column], headline: str | None, winner: str | None) -> Line:
    style = f"{family_class(one.family)} {'winner' if one.name == winner else ''} {one.status}".replace("  ", " ")
    line = Line(one.name, _note(one), style, [cell(one, column, headline) for column in columns], _problem(one))
    if len(one.rows) > 1:
        for row in one.rows:
            alone = single(row, one)
            cells = [cell(alone, column, headline) for column in columns]
            line.seeds.append(Line(f"seed {row.get('seed')}", "", str(row.get("status")), cells, _problem(alone)))
    return line


def _note(one: Summary) -> str:
    states = [row.get("status") for row in one.rows]
    if len(states) < 2:
        return ""
    done = states.count("ok")
    return f"{done} seeds" if done == len(states) else f"{done} of {len(states)} seeds so far"


def _problem(one: Summary) -> str:
    if one.status == "ok":
        return ""
    error = next((str(row["error"]) for row in one.rows if row.get("error")), "")
    if one.status == "failed":
        what = "its pipeline failed" if one.kind == "included" else "training failed"
        return f"{what}: {shorten(error, 160)}" if error else what
    return "not trained yet"


def as_csv(rows: list[dict[str, Any]]) -> str:
    """One line a row, one column a metric and protocol with its interval: two protocols share none; then speeds."""
    keys = dict.fromkeys(row["column"] for row in rows if row["column"])
    names = {key: sorted({name for row in rows if row["column"] == key for name in row["metrics"]}) for key in keys}
    columns = [(key, name, end) for key in keys for name in names[key] for end in ("", "_low", "_high")]
    speeds = sorted({name for row in rows for name in row["speed"]})
    facts = ("name", "kind", "seed", "status")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*facts, "protocol", *(f"{name}_{key}{end}" for key, name, end in columns), *speeds])
    for row in rows:
        figures = [
            row["metrics"].get(name, {}).get(end.removeprefix("_") or "value") if row["column"] == key else None
            for key, name, end in columns
        ]
        speed = [row["speed"].get(name) for name in speeds]
        writer.writerow([*(row[fact] for fact in facts), row["column"], *figures, *speed])
    return text.getvalue()
