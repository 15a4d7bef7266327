"""What a report shows of series: curves over real ones, memory, values, how variables go together, facts of returns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from trilemma.metrics.stylised import FACTS
from trilemma.report import plots
from trilemma.report.columns import COLUMNS
from trilemma.report.summary import Summary, finite, number, spanned
from trilemma.report.words import WORDS

Cards = list[tuple[Summary, dict[str, Any]]]  # rows, and what is drawn of them
CELL = 190  # pixels of a matrix
NAMED = 12  # variables of a matrix whose names are written


def series_figures(results: dict[str, Any], everything: list[Summary], shapes: dict[str, int]) -> dict[str, Any] | None:
    """Everything that the page's section on series needs; None for other data."""
    real = results.get("series")
    shown = [(one, row["series"]) for one in everything for row in one.done[:1] if row.get("series")]
    if not real or not shown:
        return None
    winner = (results.get("answer") or {}).get("winner")
    rank = {"model": 0, "included": 1, "baseline": 2, "floor": 3, "variant": 4}
    shown = [(one, drawn) for one, drawn in shown if one.kind != "variant"]
    shown.sort(key=lambda pair: rank[pair[0].kind])
    cards = [(one, drawn) for one, drawn in shown if one.kind in ("model", "included") or one.honest]
    names = [str(name) for name in real["columns"]]
    return {
        "strips": _strips(real, cards, names),
        "curves": [
            {
                **card(one, winner, None),
                "drawings": [
                    (name, overlay(curves, drawn["curves"][place], title=f"{one.name}: {name}"))
                    for place, (name, curves) in enumerate(zip(names, real["curves"], strict=False))
                ],
            }
            for one, drawn in cards
        ],
        "memory": _memory(real, cards, names, shapes),
        "marginals": _values(real, cards, names, shapes),
        "together": _together(real, shown, names, winner),
        "forecasts": _forecasts(real, everything, winner),
        "facts": _facts(real, everything, winner),
        "shown": len(real["curves"]),
        "of": len(names),
    }  # fmt: skip


def card(one: Summary, winner: Any, metric: str | None) -> dict[str, Any]:
    """Name, colours and figure of a row, below a drawing of it."""
    figure = one.figures.get(metric or "")
    return {
        "name": "Training data" if one.kind == "floor" else one.name,
        "style": plots.family_class(one.family),
        "winner": one.name == winner,
        "note": number(figure.value) if figure else "",
    }


def _strips(real: dict[str, Any], cards: Cards, names: list[str]) -> list[dict[str, Any]]:
    """One window of the first variable of each model, all on one scale."""
    own = [("Real", "family-floor", real)]
    own += [(one.name, plots.family_class(one.family), drawn) for one, drawn in cards if one.kind != "baseline"]
    values = [value for curve in real["curves"][0] for value in curve if finite(value)]
    limits = _limits(values)
    return [
        {
            "name": name,
            "style": style,
            "drawing": _drawing([], drawn["curves"][0][:1], limits, f"{name}: {names[0]}", 420, 54, ends=False),
        }
        for name, style, drawn in own
    ]


def overlay(real: Sequence[Sequence[float]], made: Sequence[Sequence[float]], *, title: str) -> Markup:
    """Real windows in grey under made ones, on a scale that holds both but for a few far-off values."""
    values = [value for curve in [*real, *made] for value in curve if finite(value)]
    return _drawing(real, made, _limits(values), title, 300, 88, ends=True)


def _limits(values: list[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    order = sorted(values)
    low, high = order[len(order) // 200], order[-1 - len(order) // 200]
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _drawing(
    real: Sequence[Sequence[float]], made: Sequence[Sequence[float]], limits: tuple[float, float], title: str,
    width: int, height: int, *, ends: bool,
) -> Markup:  # fmt: skip
    left = 40 if ends else 2
    low, high = limits
    parts = []
    for style, curves in (("real", real), ("made", made)):
        for curve in curves:
            places: list[str] = []
            for step, value in enumerate([*curve, None]):
                share = (value - low) / (high - low) if value is not None and finite(value) else -1.0
                if 0 <= share <= 1:
                    a = left + step / max(len(curve) - 1, 1) * (width - left - 2)
                    places.append(f"{a:.1f},{height - 3 - share * (height - 6):.1f}")
                elif places:  # what leaves the scale leaves the picture, and may come back
                    parts.append(f'<polyline class="{style}" points="{" ".join(places)}"/>')
                    places = []
    if ends:
        for value, down in ((high, 11), (low, height - 3)):
            parts.append(f'<text x="{left - 5}" y="{down}" text-anchor="end">{plots.tick_label(value)}</text>')
    return Markup(
        f'<svg class="overlay" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _memory(real: dict[str, Any], cards: Cards, names: list[str], shapes: dict[str, int]) -> list[tuple[str, Markup]]:
    """Autocorrelation of each drawn variable; of returns that of their sizes, too."""
    made = []
    for place in range(len(real["autocorrelation"])):
        walk = real["kinds"][place] != "level"
        what = {"return": "returns", "change": "changes"}.get(real["kinds"][place], "")
        for key, title in (("autocorrelation", what), *([("of_sizes", f"absolute {what}")] if walk else [])):
            drawing = _lines(
                [(one, list(zip(real["lags"], drawn[key][place], strict=False))) for one, drawn in cards],
                list(zip(real["lags"], real[key][place], strict=True)),
                shapes, "steps apart", "autocorrelation", f"Autocorrelation of {names[place]}",
            )  # fmt: skip
            made.append((f"{names[place]}{', ' + title if title else ''}", drawing))
    return made


def _values(real: dict[str, Any], cards: Cards, names: list[str], shapes: dict[str, int]) -> list[tuple[str, Markup]]:
    """Histograms as lines through the middle of their bins, in the units that are learned."""
    made = []
    for place, edges in enumerate(real["edges"]):
        middles = [(a + b) / 2 for a, b in pairwise(edges)]
        what = {"return": ", logarithmic returns", "change": ", changes"}.get(real["kinds"][place], "")
        drawing = _lines(
            [(one, list(zip(middles, drawn["histograms"][place], strict=False))) for one, drawn in cards],
            list(zip(middles, real["histograms"][place], strict=True)),
            shapes, names[place], "share of steps", f"Values of {names[place]}",
        )  # fmt: skip
        made.append((f"{names[place]}{what}", drawing))
    return made


def _lines(
    lines: list[tuple[Summary, list[tuple[float, float]]]], real: list[tuple[float, float]], shapes: dict[str, int],
    across: str, up: str, title: str,
) -> Markup:  # fmt: skip
    kept = [
        plots.Line(one.name, points, one.family, shapes.get(one.name, 1), dots=False)
        for one, points in lines
        if one.kind != "baseline"
    ]
    kept.append(plots.Line("real", real, "real", dots=False))
    return plots.curves(kept, plots.Axis(across), plots.Axis(up), title=title)


def _together(real: dict[str, Any], shown: Cards, names: list[str], winner: Any) -> list[dict[str, Any]]:
    if len(real.get("correlation") or []) < 2:
        return []
    made = [{"name": "Real", "style": "family-floor", "note": "unseen", "winner": False,
             "drawing": heat(real["correlation"], names, title="Correlations of real data")}]  # fmt: skip
    for one, drawn in shown:
        if one.kind != "baseline" or one.honest:
            made.append(
                {
                    **card(one, winner, "cross_correlation"),
                    "drawing": heat(drawn["correlation"], names, title=f"Correlations of {one.name}"),
                }
            )
    return made


def heat(matrix: Sequence[Sequence[float | None]], names: Sequence[str], *, title: str) -> Markup:
    """A matrix of correlations: the stronger, the darker, in two colours for the two signs."""
    count = len(matrix)
    few = count <= NAMED
    left = 8 + 6.2 * min(max(len(name) for name in names[:count]), 10) if few else 0
    size = (CELL - left) / count
    parts = []
    for i, line in enumerate(matrix):
        if few:
            shown = names[i] if len(names[i]) <= 10 else names[i][:9] + "…"
            parts.append(
                f'<text x="{left - 5:.1f}" y="{(i + 0.5) * size + 4:.1f}" text-anchor="end">{escape(shown)}</text>'
            )
        for j, value in enumerate(line):
            sign = "minus" if (value or 0.0) < 0 else "plus"
            strength = min(abs(value or 0.0), 1.0)
            words = f"{names[i]} and {names[j]}: {number(value) if value is not None else 'unknown'}"
            parts.append(
                f'<rect class="{sign}" x="{left + j * size:.1f}" y="{i * size:.1f}" '
                f'width="{size - 0.6:.1f}" height="{size - 0.6:.1f}" fill-opacity="{0.04 + 0.96 * strength:.2f}">'
                f"<title>{escape(words)}</title></rect>"
            )
    return Markup(
        f'<svg class="heat" viewBox="0 0 {CELL} {(CELL - left):.1f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _forecasts(real: dict[str, Any], everything: list[Summary], winner: Any) -> dict[str, Any] | None:
    """A line for each model that forecasts, and for each plain forecast: error, tails, coverage."""
    columns = [column for column in COLUMNS if column.key.startswith("forecast")]
    lines = []
    for one in everything:
        own = [one.figures.get(column.key) for column in columns]
        if one.kind == "model" and one.done and any(own):
            cells = [spanned(each.value, each.low, each.high) if each else ("–", "", "") for each in own]
            lines.append({**card(one, winner, None), "cells": cells, "kind": one.kind})
    for name, found in (real.get("forecasts") or {}).items():
        entries = [found.get(column.key) for column in columns]
        cells = [spanned(each["value"], each["low"], each["high"]) if each else ("–", "", "") for each in entries]
        lines.append({"name": name, "style": plots.family_class("baseline"), "cells": cells, "kind": "baseline"})
    titles = [(column.title, WORDS[column.key]) for column in columns]
    return {"titles": titles, "lines": lines} if lines else None


def _facts(real: dict[str, Any], everything: list[Summary], winner: Any) -> dict[str, Any] | None:
    """A line for each row, a column for each fact: the figure, and whether it lies in real data's interval."""
    known = real.get("facts") or {}
    facts = [fact for fact in FACTS if fact.key in known]
    if not facts:
        return None
    wanted = [known[fact.key] for fact in facts]
    order = {"model": 0, "included": 1, "baseline": 2, "floor": 3}
    lines = []
    for one in sorted((one for one in everything if one.kind in order and one.done), key=lambda one: order[one.kind]):
        verdicts = [[(row.get("verdicts") or {}).get(fact.key) for row in one.done] for fact in facts]
        cells = []
        for fact, words in zip(facts, verdicts, strict=True):
            figure = one.figures.get(fact.key)
            missed = sum(word == "missed" for word in words)
            told = "" if not any(words) else "inside" if not missed else "missed"
            told += f" by {missed} of {len(words)}" if missed and len(words) > 1 else ""
            cells.append((spanned(figure.value, figure.low, figure.high)[0] if figure else "–", told, missed > 0))
        lines.append({**card(one, winner, None), "cells": cells, "kind": one.kind})
    return {
        "titles": [(fact.title, fact.words) for fact in facts],
        "real": [spanned(entry["value"], entry["low"], entry["high"]) for entry in wanted],
        "lines": lines,
    }
