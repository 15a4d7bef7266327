"""The page's part on what a training costs and risks, and on the textbooks' claims: rows -> lines and tables."""

from __future__ import annotations

import math
from typing import Any

from trilemma.report import plots
from trilemma.report.advise import listed
from trilemma.report.budgets import astray, course, last_half, overtakings
from trilemma.report.claims import CALM, TOUCHY, decide
from trilemma.report.columns import amount
from trilemma.report.evidence import FAMILIES
from trilemma.report.summary import Figure, Summary, finite, joined, mean, number, single, spanned

UNDER_GUIDANCE = {
    "precision": "precision", "recall": "recall", "caption_variety": "variety per caption", "control": "as asked",
    "attributes": "attributes as asked", "clip_score": "caption score", "retrieval_5": "found by caption",
    "frechet": "Fréchet",
}  # fmt: skip
ORDER = {"holds": 0, "does not hold": 1, "cannot be told": 2}


def studies(
    results: dict[str, Any], everything: list[Summary], *, metric: str | None, shapes: dict[str, int]
) -> dict[str, Any]:
    """What the template shows: `claims`, `courses`, `stability`, `changes`, `drift`, `ladders`, `guided`, `bill`;
    nothing at all before a model is measured. shapes: a marker for each model, by name."""
    models = [one for one in everything if one.kind == "model" and one.status == "ok"]
    variants = [one for one in everything if one.kind == "variant"]
    if metric is None or not models:
        return {}
    return {
        "claims": _claims(results, models),
        "courses": _courses(models, metric, shapes),
        "stability": _stability([one for one in everything if one.kind == "model"], metric),
        "changes": [
            table
            for table in (
                _changes("sensitivity", "Touchy?", models, variants, metric),
                _changes("subsample", "Less data", models, variants, metric),
            )
            if table
        ],
        "drift": _drift(variants, metric, results.get("drift") or {}),
        "ladders": _ladders(models),
        "guided": _guided(models),
        "bill": _bill(results, models),
    }


def _claims(results: dict[str, Any], models: list[Summary]) -> dict[str, Any] | None:
    """The decided claims first; those for which something was not trained only as a number."""
    if not {one.family for one in models} >= set(FAMILIES[1:]):
        return None
    found = decide(results)
    asked = [one for one in found if not one["figures"].startswith("not measured")]
    missing = [one for one in found if one not in asked]
    lacking, lacks = [one for one in missing if one["lacks"]], {name for one in missing for name in one["lacks"]}
    rest = []
    if not results.get("finished"):
        rest = [f"{len(missing)} more are not measured so far"] if missing else []
    else:
        if lacking:  # options, then models
            rest.append(f"{len(lacking)} more need{'s' * (len(lacking) == 1)} {listed(sorted(lacks))}")
        if len(missing) > len(lacking):
            rest.append(f"{len(missing) - len(lacking)} more cannot be told on these data")
    return {
        "lines": sorted(asked, key=lambda one: ORDER[one["verdict"]]),
        "counts": {word: sum(one["verdict"] == word for one in asked) for word in ORDER},
        "rest": rest,
    }


def _courses(models: list[Summary], metric: str, shapes: dict[str, int]) -> dict[str, Any] | None:
    """Quality over the budget: a drawing, who overtakes whom, and whether the last half paid."""
    ways = {one.name: [(at, figure.value) for at, figure in course(one, metric)] for one in models}
    if not any(len(points) > 1 for points in ways.values()):
        return None
    lines = [
        plots.Line(one.name, ways[one.name], one.family, shapes[one.name], True)
        for one in models
        if len(ways[one.name]) > 1
    ]
    log = all(y > 0 for points in ways.values() for _, y in points)
    drawing = plots.curves(
        lines,
        plots.Axis("seconds of training (log)", log=True),
        plots.Axis(f"distance{' (log)' if log else ''} ↓ better", log=log),
        title="Quality after shares of the budget",
    )
    words = [
        f"{each.ahead} overtakes {each.behind} after about {amount(each.seconds, 'seconds')}."
        for each in sorted(overtakings(models, metric), key=lambda each: each.seconds)
    ]
    pays, worse, still = [], [], []
    for one in models:
        last = last_half(one, metric)
        if last is None:
            continue
        if last.pays:
            pays.append(f"{one.name} ({number(last.half.value)} → {number(last.whole.value)})")
        elif last.hurts:
            worse.append(f"{one.name} ({number(last.half.value)} → {number(last.whole.value)})")
        else:
            still.append(one.name)
    if pays:
        words.append(f"The last half of the budget paid for {', '.join(pays)}: more training would pay again.")
    if worse:
        words.append(f"It made {', '.join(worse)} worse: less training is better there.")
    if still:
        words.append(f"It changed nothing much, or nothing that one could rely on, for {', '.join(still)}.")
    for reset, why in ((True, "The clock set counts right on the way"), (False, "Rounded to whole batches")):
        off = [
            f"{one.name} {100 * reached:.3g}% for {100 * share:.3g}%"
            for one in models
            for share, reached, corrected in astray(one)
            if corrected == reset
        ]
        if off:
            words.append(f"{why}, so that shares became others: {', '.join(off)}.")
    return {"drawing": drawing, "words": words}


def _stability(models: list[Summary], metric: str) -> list[dict[str, Any]]:
    """How many trainings went well, how far seeds lie apart, and whether the last state was the best on the way."""
    lines = []
    for one in models:
        ended = [row for row in one.rows if row.get("status") in ("ok", "failed")]
        if not ended:
            continue
        calm = [row for row in ended if row["status"] == "ok" and not (row.get("stability") or {}).get("events")]
        well = [row for row in calm if not single(row, one).collapsed]
        figure = one.figures.get(metric)
        spread = figure.spread / abs(figure.value) if figure and figure.spread is not None and figure.value else None
        lost = []
        for row in one.done:
            seen = [float(p["kernel@random"]) for p in row.get("curve") or [] if finite(p.get("kernel@random"))]
            if len(seen) > 2 and seen[0] > min(seen):
                lost.append((seen[-1] - min(seen)) / (seen[0] - min(seen)))
        lines.append(
            {
                "name": one.name,
                "style": plots.family_class(one.family),
                "well": f"{len(well)} of {len(ended)}",
                "events": ", ".join(f"{name} {count}×" for name, count in one.events.items()) or "none",
                "spread": f"± {spread:.0%}" if spread is not None else "–",
                "lost": f"{mean(lost):.0%}" if lost else "–",
            }
        )
    return lines


def _changes(
    study: str, title: str, models: list[Summary], variants: list[Summary], metric: str
) -> dict[str, Any] | None:
    """One line a model, one column a change: the figure, and how many times that of the base of the same seeds."""
    known = [one for one in variants if one.rows[0].get("study") == study and one.status != "pending"]
    what = list(dict.fromkeys(one.rows[0]["what"] for one in known))
    lines, words = [], []
    for base in models:
        own = {one.rows[0]["what"]: one for one in known if one.rows[0].get("of") == base.name}
        if not own or metric not in base.figures:
            continue
        cells, worst = [], 0.0
        for each in what:
            figure = own[each].figures.get(metric) if each in own else None
            if figure is None:
                worst = math.inf if each in own else worst
                cells.append(("failed" if each in own else "–", ""))
                continue
            usual = mean([base.figures[metric].seeds.get(seed, base.figures[metric].value) for seed in figure.seeds])
            times = figure.value / usual if usual else float("nan")
            worst = max(worst, times) if finite(times) else worst
            text, low, high = spanned(figure.value, figure.low, figure.high)
            small = ", ".join(
                part
                for part in (
                    f"{low}–{high}" if low else "",
                    f"{times:.2g} × {number(usual)}" if finite(times) else "",
                    "copies" if own[each].verdict == "copies" else "",
                )
                if part
            )
            cells.append((text, small))
        value, low, high = spanned(base.figures[metric].value, base.figures[metric].low, base.figures[metric].high)
        answer = ""
        if study == "sensitivity":
            answer = "touchy" if worst > TOUCHY else "calm" if worst < CALM else "in between"
        else:
            words.append(_copying(base, own))
        lines.append(
            {
                "name": base.name,
                "style": plots.family_class(base.family),
                "base": (value, f"{low}–{high}" if low else ""),
                "cells": cells,
                "answer": answer,
            }
        )
    told = [sentence for sentence in words if sentence]
    return {"study": study, "title": title, "what": what, "lines": lines, "words": told} if lines else None


def _copying(base: Summary, parts: dict[str, Summary]) -> str:
    """With how much of the data a model's samples begin to be copies, in a sentence; '' where that was not told."""
    told = {float(what.partition("%")[0]): one.verdict for what, one in parts.items() if one.verdict}
    if not told:
        return ""
    told |= {100.0: base.verdict} if base.verdict else {}

    def at(verdict: str) -> list[float]:
        return sorted(share for share in told if told[share] == verdict)

    def said(shares: list[float]) -> str:
        return listed([f"{share:g} %" for share in shares])

    copies, free, open_ = at("copies"), at("none"), at("cannot tell")
    if copies and copies == sorted(told)[: len(copies)]:
        words = f"copies from {copies[-1]:g} % of the data down" + (f", none at {free[0]:g} %" if free else "")
    elif copies:
        words = f"copies at {said(copies)} of the data" + (f", none at {said(free)}" if free else "")
    else:
        words = f"no copies down to {free[0]:g} % of the data" if free else ""
    unknown = f"it cannot be told at {said(open_)} of the data" if open_ else ""
    return f"{base.name}: {'; '.join(part for part in (words, unknown) if part)}."


def _drift(variants: list[Summary], metric: str, floors: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By what time is told -> a line a model, trained on the earlier half and on a random half of the same size.

    Both are measured on the later test examples: another way to tell time is another protocol, and another table.
    """
    found: dict[str, dict[tuple[str, str], dict[str, Figure]]] = {}
    for one in variants:
        row = one.rows[0]
        if row.get("study") == "drift" and metric in one.figures:
            half, _, by = row["what"].partition(" half by ")
            key = row["of"], plots.family_class(one.family)
            found.setdefault(by, {}).setdefault(key, {})[half] = one.figures[metric]
    for by, halves in floors.items():
        records = {half: m[metric] for half, m in halves.items() if metric in m and finite(m[metric].get("value"))}
        figures = {half: joined({None: record}) for half, record in records.items()}
        found.setdefault(by, {})["real data", plots.family_class("floor")] = figures
    tables = {
        by: [_halves(*key, halves) for key, halves in rows.items() if len(halves) == 2] for by, rows in found.items()
    }
    return {by: lines for by, lines in tables.items() if lines}


def _halves(name: str, style: str, figures: dict[str, Figure]) -> dict[str, Any]:
    earlier, mixed = figures["earlier"], figures["random"]
    times = f"{earlier.value / mixed.value:.2g} ×" if mixed.value else "–"
    both = {"earlier": _with_interval(earlier), "random": _with_interval(mixed)}
    return {"name": name, "style": style, **both, "times": times}


def _with_interval(figure: Figure) -> tuple[str, str]:
    text, low, high = spanned(figure.value, figure.low, figure.high)
    return text, f"{low}–{high}" if low else ""


def _guided(models: list[Summary]) -> list[dict[str, Any]]:
    """Quality, variety and control over the strength of guidance: {'name', 'style', 'samples', 'titles', 'points'}."""
    found = []
    for one in models:
        points: list[dict[str, Any]] = next((row["guided"] for row in one.done if row.get("guided")), [])
        if points:
            known = {name for point in points for name in point["metrics"]}
            names = [name for name in UNDER_GUIDANCE if name in known]
            lines = [
                (f"{point['guidance']:g}", [_interval_of(point["metrics"].get(name)) for name in names])
                for point in points
            ]
            found.append({
                "name": one.name, "style": plots.family_class(one.family), "samples": points[0]["samples"],
                "titles": [UNDER_GUIDANCE[name] for name in names], "points": lines,
            })  # fmt: skip
    return found


def _interval_of(entry: dict[str, Any] | None) -> tuple[str, str]:
    """A metric's record as its value and its interval, in words."""
    return _with_interval(joined({None: entry})) if entry and finite(entry.get("value")) else ("–", "")


def _ladders(models: list[Summary]) -> list[dict[str, Any]]:
    """Quality over steps of a sampler: {'name', 'style', 'samples', 'rungs'}."""
    found = []
    for one in models:
        rungs: list[dict[str, Any]] = next((row["ladder"] for row in one.done if row.get("ladder")), [])
        if rungs:
            found.append(
                {
                    "name": one.name,
                    "style": plots.family_class(one.family),
                    "samples": rungs[0]["samples"],
                    "rungs": [
                        (
                            rung["sampler"],
                            rung["steps"],
                            rung["calls"],
                            number(rung["samples_per_second"]),
                            _interval_of(rung["metrics"]["frechet"]),
                        )
                        for rung in rungs
                        if finite(rung["metrics"]["frechet"]["value"])
                    ],
                }
            )
    return found


def _bill(results: dict[str, Any], models: list[Summary]) -> list[dict[str, Any]]:
    """What training and a million samples cost: seconds, memory, and money where a price was given."""
    price = (results.get("settings") or {}).get("price")
    lines = []
    for one in models:
        seconds, rate = one.speed.get("train_seconds"), one.speed.get("samples_per_second")
        if not seconds or not rate:
            continue
        million = 1e6 / rate
        memory = one.speed.get("train_memory_bytes")
        money = None if price is None else (seconds / 3600 * price, million / 3600 * price)
        lines.append(
            {
                "name": one.name,
                "style": plots.family_class(one.family),
                "training": amount(seconds, "seconds"),
                "memory": amount(memory, "bytes") if memory else "–",
                "million": amount(million, "seconds"),
                "money": None if money is None else (number(money[0]), number(money[1])),
            }
        )
    return lines
