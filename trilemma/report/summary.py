"""The rows of the table with the seeds of one model taken together, and which differences one could rely on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

ENOUGH_SEEDS = 3
COLLAPSED = 0.5  # of the data's spread: samples with less have collapsed
BLANK = 0.1  # the same of a translator, whose outputs may be blurred and still be the right ones
LOST = 0.1  # recall and coverage: samples with less in both are nothing like the data


@dataclass
class Figure:
    """One metric of one model over its seeds: means of value and interval, and the deviation between seeds."""

    value: float
    low: float | None
    high: float | None
    better: str
    unit: str = ""
    spread: float | None = None  # between seeds; None for one
    seeds: dict[Any, float] = field(default_factory=dict)

    @property
    def badness(self) -> float:
        """Smaller is better, whatever the metric's good direction."""
        if self.better == "one":
            return abs(math.log(max(self.value, 1e-12)))
        return {"higher": -self.value, "half": abs(self.value - 0.5)}.get(self.better, self.value)


@dataclass
class Summary:
    """All rows of one name, seeds taken together."""

    name: str
    family: str
    kind: str
    rows: list[dict[str, Any]]
    figures: dict[str, Figure] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)

    @property
    def done(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row.get("status") == "ok"]

    @property
    def status(self) -> str:
        states = [row.get("status") for row in self.rows]
        return "ok" if "ok" in states else "failed" if "failed" in states and "pending" not in states else "pending"

    @property
    def can(self) -> list[str] | None:
        known = [row["can"] for row in self.rows if row.get("can") is not None]
        return known[0] if known else None

    @property
    def verdict(self) -> str | None:
        """The worst verdict on memorisation over the seeds."""
        said = [(row.get("verdicts") or {}).get("memorisation") for row in self.done]
        return next((verdict for verdict in ("copies", "cannot tell", "none") if verdict in said), None)

    @property
    def events(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in self.rows:
            for name, count in ((row.get("stability") or {}).get("events") or {}).items():
                counts[name] = counts.get(name, 0) + int(count)
        return counts

    @property
    def rollbacks(self) -> int:
        return sum(int((row.get("stability") or {}).get("rollbacks") or 0) for row in self.rows)

    @property
    def rate(self) -> float:
        return self.speed.get("samples_per_second", 0.0)

    @property
    def collapsed(self) -> bool:
        """Its samples show far less than the data's spread."""
        least = BLANK if "structure" in self.figures else COLLAPSED
        return "diversity" in self.figures and self.figures["diversity"].value < least

    @property
    def collapses(self) -> int:
        """How many of its trainings end in that; a model that recovers on the way has not collapsed."""
        return sum(single(row, self).collapsed for row in self.done)

    @property
    def lost(self) -> bool:
        """Its samples lie nowhere near the data: noise, not variety."""
        recall, coverage = self.figures.get("recall"), self.figures.get("coverage")
        return recall is not None and coverage is not None and max(recall.value, coverage.value) < LOST

    @property
    def honest(self) -> bool:
        """A baseline that one should beat: it makes something new."""
        return self.kind == "baseline" and self.verdict != "copies" and "resampled" not in self.name

    def diverse(self) -> float | None:
        values = [self.figures[name].value for name in ("recall", "coverage") if name in self.figures]
        return sum(values) / len(values) if values else None


def finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def summaries(results: dict[str, Any]) -> list[Summary]:
    """One Summary for each name in the table, in the order of the rows."""
    found: dict[str, Summary] = {}
    for row in results.get("rows") or []:
        name = str(row["name"])
        empty = Summary(name, str(row.get("family") or name.partition(":")[0]), row.get("kind") or "model", [])
        found.setdefault(name, empty).rows.append(row)
    for one in found.values():
        for name in dict.fromkeys(name for row in one.done for name in row.get("metrics") or {}):
            measures = {row.get("seed"): (row.get("metrics") or {}).get(name) or {} for row in one.done}
            measures = {seed: entry for seed, entry in measures.items() if finite(entry.get("value"))}
            if measures:
                one.figures[name] = joined(measures)
        for name in dict.fromkeys(name for row in one.done for name in row.get("speed") or {}):
            values = [float(row["speed"][name]) for row in one.done if finite((row.get("speed") or {}).get(name))]
            if values:
                one.speed[name] = mean(values)
    return list(found.values())


def single(row: dict[str, Any], of: Summary) -> Summary:
    """One row as a Summary of its own."""
    return summaries({"rows": [{**row, "name": of.name, "family": of.family, "kind": of.kind}]})[0]


def joined(measures: dict[Any, dict[str, Any]]) -> Figure:
    """One Figure of the records of a metric by seed."""
    values = [float(entry["value"]) for entry in measures.values()]
    ends = [(entry.get("low"), entry.get("high")) for entry in measures.values()]
    known = all(finite(low) and finite(high) for low, high in ends)
    centre = mean(values)
    spread = math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    first = next(iter(measures.values()))
    return Figure(
        value=centre,
        low=mean([float(low) for low, _ in ends if low is not None]) if known else None,
        high=mean([float(high) for _, high in ends if high is not None]) if known else None,
        better=first.get("better") or "neither",
        unit=first.get("unit") or "",
        spread=spread,
        seeds=dict(zip(measures, values, strict=True)),
    )


def differs(one: Summary, two: Summary, metric: str) -> bool:
    """Is there a difference that one could rely on? Rule 2 of `advise.py`."""
    left, right = one.figures.get(metric), two.figures.get(metric)
    return left is not None and right is not None and apart(left, right)


def apart(left: Figure, right: Figure) -> bool:
    """By the paired differences of three or more common seeds; with fewer, by intervals that do not overlap."""
    common = [seed for seed in left.seeds if seed in right.seeds and seed is not None]
    if len(common) >= ENOUGH_SEEDS:
        from scipy import stats

        gaps = [left.seeds[seed] - right.seeds[seed] for seed in common]
        centre = mean(gaps)
        error = math.sqrt(sum((gap - centre) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))
        return abs(centre) > float(stats.t.ppf(0.975, len(gaps) - 1)) * error
    if left.low is None or left.high is None or right.low is None or right.high is None:
        return False
    return left.low > right.high or right.low > left.high


def number(value: float) -> str:
    """Three figures that are read at a glance: 0.00123, 4.57, 1,230, 45 600 000 as 45.6 M."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g} M" if size < 1e9 else f"{value / 1e9:.3g} G"
    if size >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    if size and size < 1e-4:
        return f"{value:.1e}".replace("e-0", "e-")
    text = f"{value:.3g}"
    return text if "e" not in text else f"{value:.4f}"


def spanned(value: float, low: float | None, high: float | None) -> tuple[str, str, str]:
    """A value and the ends of its interval, to the digits that the interval leaves standing; '' without one."""
    if low is None or high is None or not high > low:
        return number(value), "", ""
    half = (high - low) / 2
    power = math.floor(math.log10(half))
    digits = max(0, -power + (half < 2 * 10.0**power))
    if value:  # never more than three figures, however narrow the interval
        digits = min(digits, max(0, 2 - math.floor(math.log10(abs(value)))))
    if digits > 6 or max(abs(low), abs(high)) >= 1e6:
        return number(value), number(low), number(high)
    return tuple(f"{round(each, digits) + 0.0:,.{digits}f}" for each in (value, low, high))  # type: ignore[return-value]


def shorten(text: str, most: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
