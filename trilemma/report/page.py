"""The report: one self-contained page, written anew after each training, under 5 MB whatever the pictures are."""

from __future__ import annotations

import json
import os
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from trilemma.report import plots
from trilemma.report.advise import HEADLINES, advise
from trilemma.report.columns import ARROWS, COLUMNS, amount, cell, direction, present, table
from trilemma.report.pictures import THRIFTS, Gallery, Pictures
from trilemma.report.quiz import quiz, sources
from trilemma.report.rankings import ranking_table
from trilemma.report.series_figures import series_figures
from trilemma.report.studies import studies
from trilemma.report.summary import Summary, finite, number, single, summaries
from trilemma.report.table_figures import table_figures
from trilemma.report.translation_figures import translation_facts, translation_pictures

LIMIT = 4_900_000  # bytes of the page
LOSSES = ("seen", "step", "seconds")  # what a row of losses holds besides losses


def write_page(folder: Path, results: dict[str, Any], pictures: Pictures) -> Path:
    """Write folder/index.html from results (as in results.json); `pictures` draws raw examples (n, C, *grid).

    The page is replaced at once, never half-written; pictures shrink until it is small enough.
    """
    folder = Path(folder)
    text = render(folder, results, pictures)
    path, aside = folder / "index.html", folder / ".index.html.part"
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return path


def render(folder: Path, results: dict[str, Any], pictures: Pictures, *, limit: int = LIMIT) -> str:
    """The page as text, with as much of the pictures as fits."""
    template = _environment().get_template("page.html")
    figures = _figures(folder, results)
    text = ""
    chosen = sources(Gallery(folder, pictures, THRIFTS[0]).load, results)
    for thrift in THRIFTS:
        gallery = Gallery(folder, pictures, thrift, {source.file: source.first for source in chosen})
        shown = _shown(figures, results, gallery)
        # A page that is written anew after each training would be another quiz each time.
        shown["quiz"] = quiz(gallery, results, chosen) if results.get("finished") else None
        text = template.render(**figures, **shown)
        if len(text.encode()) <= limit:
            break
    return text


@cache
def _environment() -> Environment:
    """Once: its templates are compiled when they are first asked for, and the page is written after each row."""
    environment = Environment(
        loader=PackageLoader("trilemma.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"], environment.filters["amount"] = number, amount
    environment.filters["value"], environment.filters["breakable"] = _value, breakable
    environment.filters["spoken"], environment.filters["typed"] = spoken, typed
    return environment


def spoken(sentence: str) -> Markup:
    """A sentence whose options are not broken at their hyphens, and whose shapes (1 × 8 × 8) stay in one line."""
    return Markup(re.sub(r"--\w+( \w+)?|\d+( × \d+)+", r'<span class="whole">\g<0></span>', str(escape(sentence))))


def typed(command: str) -> Markup:
    """A command that is broken between its words, and inside one only where it is longer than a line."""
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in command.split(" "))


def breakable(name: str) -> Markup:
    """A name that may be broken after its colon."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[:@_])", name))


def _value(value: Any) -> str:
    """A setting as a person writes it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(one) for one in value) if value else "none"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def flat(settings: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and values."""
    found = []
    for key, value in (settings or {}).items():
        if isinstance(value, dict) and value:
            found += flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for place, one in enumerate(value):
                found += flat(one, f"{prefix}{key}.{place}.")
        else:
            found.append((f"{prefix}{key}", _value(value)))
    return found


# --- what does not depend on the pictures ----------------------------------------------------------------------------


def _figures(folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    everything = summaries(results)
    models = [one for one in everything if one.kind == "model"]
    answer = results.get("answer") or {}
    if not answer.get("sentences"):
        needs = (results.get("settings") or {}).get("need") or ()
        answer = advise(results, prefer=results.get("preferences"), need=needs, folder=folder)
    measured = [one for one in models if one.figures]
    headline = (answer.get("why") or {}).get("metric") or next(
        (name for name in HEADLINES if any(name in one.figures for one in everything)), None
    )
    order = (answer.get("why") or {}).get("ranking") or []
    measured.sort(key=lambda one: _bad(one, headline))
    rows = results.get("rows") or []
    waiting = [row for row in rows if row.get("kind") == "model" and row.get("status") == "pending"]
    shapes = _shapes(models)
    return {
        "results": results,
        "answer": answer,
        "everything": everything,
        "models": models,
        "measured": measured,
        "ranking": order,
        "headline": headline,
        "headline_name": HEADLINES.get(headline or "", headline),
        "waiting": len(waiting),
        "to_come": list(dict.fromkeys(each["name"] for each in results.get("studies_to_come") or [])),
        "trainings": sum(row.get("kind") == "model" for row in rows),
        "facts": _facts(results),
        "table": table(everything, headline, answer.get("winner")),
        "glossary": [(c, ARROWS.get(direction(c, everything), "")) for c in present(COLUMNS, everything)],
        "rankings": ranking_table(measured),
        "full": _full(everything, headline),
        "frontier": _frontier(everything, headline, answer, shapes),
        "variety": _variety(everything, answer, shapes),
        "cost": _cost(everything, headline, answer, shapes),
        "learning": _learning(models, shapes),
        "losses": _losses(models),
        "troubles": _troubles([one for one in everything if one.kind in ("model", "variant")]),
        "details": [_detail(row) for row in rows],
        "protocol": flat(results.get("protocol")),
        "other_protocols": {key: flat(record) for key, record in (results.get("other_protocols") or {}).items()},
        "settings": flat(results.get("settings")),
        "versions": flat(results.get("versions")),
        "commands": _commands(folder, results, answer),
        "headlines": HEADLINES,
        "translation": translation_facts(results),
        "series": series_figures(results, everything, shapes),
        "together": table_figures(results, everything),
        "study": studies(results, everything, metric=headline, shapes=shapes),
    }


def _bad(one: Summary, metric: str | None) -> float:
    return one.figures[metric].badness if metric in one.figures else float("inf")


def _facts(results: dict[str, Any]) -> list[str]:
    """One line under the title: the data, the budget, the time."""
    data, settings = results.get("data") or {}, results.get("settings") or {}
    counts = data.get("counts") or {}
    facts = []
    if counts:
        what = {"paired": "pairs", "unpaired": "targets"}.get(str(data.get("sides")), "examples")
        facts.append(" / ".join(f"{counts[s]:,} {s}" for s in ("train", "choose", "test") if s in counts) + f" {what}")
        if data.get("sides") == "unpaired":
            facts.append(" / ".join(f"{n:,}" for n in data["sources"].values()) + " sources, without pairs")
    if data.get("shape"):
        kind = "columns" if data.get("kind") == "table" else data.get("kind", "")
        facts.append(f"{' × '.join(map(str, data['shape']))} {kind}".rstrip())
    if data.get("labels"):
        facts.append(f"{len(data['labels'])} classes")
    if (data.get("opening") or {}).get("degradation"):
        facts.append(f"sources: {data['opening']['degradation']}")
    each = settings.get("budget_each")
    if each or settings.get("budget"):
        facts.append(f"budget {each} a training" if each else f"budget {settings['budget']}")
    if settings.get("seeds"):
        facts.append("one seed" if settings["seeds"] == 1 else f"{settings['seeds']} seeds")
    if finite(results.get("seconds")) and results["seconds"] > 0:
        facts.append(f"{amount(results['seconds'], 'seconds')} in all")
    if results.get("started"):
        facts.append(str(results["started"])[:16].replace("T", " "))
    return facts


def _shapes(models: list[Summary]) -> dict[str, int]:
    """A marker for each preset of a family."""
    counts: dict[str, int] = {}
    shapes = {}
    for one in models:
        shapes[one.name] = counts.get(one.family, 0)
        counts[one.family] = shapes[one.name] + 1
    return shapes


def _frontier(everything: list[Summary], metric: str | None, answer: dict[str, Any], shapes: dict[str, int]) -> Markup:
    """Quality against speed, better to the upper right, with the Pareto front and what real data reach."""
    if metric is None:
        return Markup("")
    points = {one.name: one for one in everything if one.kind == "model" and metric in one.figures and one.rate > 0}
    marks = [
        plots.Mark(
            one.name, one.rate, (f := one.figures[metric]).value, one.family, f.low, f.high,
            shape=shapes[one.name], strong=one.name == answer.get("winner"),
        )
        for one in points.values()
    ]  # fmt: skip
    names = {"floor": "real data", "baseline": "", "included": ""}
    levels = [
        (one.figures[metric].value, names[one.kind] or one.name)
        for one in everything
        if one.kind in names and metric in one.figures and (one.kind != "baseline" or one.honest)
    ]
    front = [(points[n].rate, points[n].figures[metric].value) for n in answer.get("pareto") or [] if n in points]
    positive = all(mark.y > 0 for mark in marks)
    return plots.scatter(
        marks,
        plots.Axis("samples a second (log) → faster", log=True),
        plots.Axis(
            f"{HEADLINES.get(metric, metric)} ({'log' if positive else 'linear'}) ↑ closer to real",
            log=positive,
            flip=True,
        ),
        title="Quality against speed of sampling",
        levels=levels,
        front=front,
    )


def _variety(everything: list[Summary], answer: dict[str, Any], shapes: dict[str, int]) -> Markup:
    marks = []
    for one in everything:
        shown = one.honest if one.kind == "baseline" else one.kind != "variant"
        if shown and "precision" in one.figures and "recall" in one.figures:
            p, r = one.figures["precision"], one.figures["recall"]
            name = "real data" if one.kind == "floor" else one.name
            marks.append(
                plots.Mark(
                    name, r.value, p.value, one.family if one.kind in ("model", "included") else one.kind,
                    p.low, p.high, r.low, r.high, shapes.get(one.name, 1), one.name == answer.get("winner"),
                )
            )  # fmt: skip
    across, up = (
        (
            max(min((value for mark in marks for value in pair(mark) if value is not None), default=0.0) - 0.06, -0.02),
            1.04,
        )
        for pair in (lambda mark: (mark.x, mark.x_low), lambda mark: (mark.y, mark.low))
    )
    return plots.scatter(
        marks,
        plots.Axis("recall → more of the variety", fixed=across),
        plots.Axis("precision ↑ more look real", fixed=up),
        title="Precision against recall",
    )


def _cost(everything: list[Summary], metric: str | None, answer: dict[str, Any], shapes: dict[str, int]) -> Markup:
    if metric is None:
        return Markup("")
    marks = [
        plots.Mark(
            one.name, one.speed["parameters"], (f := one.figures[metric]).value, one.family, f.low, f.high,
            shape=shapes[one.name], strong=one.name == answer.get("winner"),
        )
        for one in everything
        if one.kind == "model" and metric in one.figures and one.speed.get("parameters")
    ]  # fmt: skip
    positive = all(mark.y > 0 for mark in marks)
    return plots.scatter(
        marks,
        plots.Axis("parameters (log) → larger", log=True),
        plots.Axis(
            f"{HEADLINES.get(metric, metric)} ({'log' if positive else 'linear'}) ↑ closer to real",
            log=positive,
            flip=True,
        ),
        title="Quality against size",
    )


def _learning(models: list[Summary], shapes: dict[str, int]) -> Markup:
    lines: list[plots.Line] = []
    for one in models:
        for row in one.rows:
            points = [(p.get("seconds"), p.get("kernel@random")) for p in row.get("curve") or []]
            known = [(float(a), float(b)) for a, b in points if finite(a) and finite(b)]
            if len(known) > 1:
                first = one.name not in [line.name for line in lines]
                lines.append(plots.Line(one.name, known, one.family, shapes[one.name], first))
    times = [a for line in lines for a, _ in line.points if a > 0]
    log = bool(times) and max(times) / min(times) > 30
    return plots.curves(
        lines,
        plots.Axis(f"seconds of training{' (log)' if log else ''}", log=log),
        plots.Axis("kernel distance, random features (log) ↓ better", log=True),
        title="Quality while training",
    )


def _losses(models: list[Summary]) -> list[dict[str, Any]]:
    """For each training a small line of everything that it logged."""
    found = []
    for one in models:
        for row in one.rows[:1]:
            kept = row.get("losses") or []
            names = dict.fromkeys(n for entry in kept for n, v in entry.items() if n not in LOSSES and finite(v))
            lines = []
            for name in names:
                values = [float(entry[name]) for entry in kept if finite(entry.get(name))]
                drawing = plots.spark(values, title=f"{name} of {one.name}")
                if drawing:
                    lines.append((name, drawing, number(values[0]), number(values[-1])))
            if lines:
                found.append({"name": one.name, "style": plots.family_class(one.family), "lines": lines})
    return found


def _troubles(models: list[Summary]) -> dict[str, Any]:
    """What went wrong, in words, and the models of which nothing is to be told."""
    wrong, fine = [], []
    for one in models:
        for row in one.rows:
            name = one.name if len(one.rows) < 2 else f"{one.name}, seed {row.get('seed')}"
            total = (row.get("training") or {}).get("examples") or (row.get("speed") or {}).get("examples")
            lines = []
            for event in row.get("events") or []:
                seen = event.get("seen")
                at = f"after {number(seen)} examples" if finite(seen) else ""
                at += f" ({min(seen / total, 1):.0%})" if at and total else ""
                words = event.get("words") or event.get("event") or ""
                lines.append((at, words, event.get("action") or ""))
            lines += [("", f"not measured: {problem}", "") for problem in row.get("problems") or []]
            if row.get("status") == "ok" and single(row, one).collapsed:
                lines.append(("", "its samples show far less variety than the data: it collapsed", ""))
            elif row.get("status") == "ok" and single(row, one).lost:
                lines.append(("", "its samples are nothing like the data", ""))
            if row.get("status") == "failed":
                lines.append(("", f"the training failed: {row.get('error') or 'no reason was recorded'}", ""))
            if lines:
                wrong.append({"name": name, "style": plots.family_class(one.family), "lines": lines})
            elif row.get("status") == "ok" and one.kind == "model":
                fine.append(name)
    return {"wrong": wrong, "fine": fine}


def _full(everything: list[Summary], headline: str | None) -> dict[str, Any]:
    """Every figure of every row: one line a row, one column a metric."""
    columns = [c for c in present(COLUMNS, everything) if c.source != "spread"]
    known = {column.key for column in COLUMNS}
    extra = list(dict.fromkeys(n for one in everything for n in one.figures if n not in known))
    lines = []
    for one in everything:
        for row in one.rows:
            if row.get("beside") not in (None, row.get("column")):
                continue  # measured on other test examples: another protocol shares no column
            alone = single(row, one)
            others = [(number(alone.figures[n].value) if n in alone.figures else "–") for n in extra]
            lines.append(
                (one.name, row.get("seed"), row.get("status"), [cell(alone, c, headline) for c in columns], others)
            )
    return {"columns": columns, "extra": extra, "lines": lines}


def _detail(row: dict[str, Any]) -> dict[str, Any]:
    parts = [
        ("How it samples and what was chosen", flat(row.get("choices"))),
        ("Settings", flat(row.get("config"))),
        ("Training", flat(row.get("training"))),
        ("Speed and cost", flat(row.get("speed"))),
        ("Where it lies", flat({k: row[k] for k in ("run", "size", "samples", "column") if row.get(k)})),
    ]
    seed = "" if row.get("seed") is None else f"seed {row['seed']}"
    return {
        "name": row["name"],
        "seed": seed,
        "status": row.get("status"),
        "error": row.get("error"),
        "style": plots.family_class(str(row.get("family"))),
        "parts": [(title, pairs) for title, pairs in parts if pairs],
    }


def control_figures(one: Summary) -> list[tuple[str, str, str]]:
    """(title, value, words) of what control by styles is worth."""
    chosen = [c for c in COLUMNS if c.group == "Control" and c.key != "control" and c.key in one.figures]
    return [(column.title, cell(one, column, None).text, column.words) for column in chosen]


def _commands(folder: Path, results: dict[str, Any], answer: dict[str, Any]) -> list[tuple[str, str]]:
    commands = [("This comparison; run again, it goes on where it stopped", results.get("command"))]
    if answer.get("winner"):
        commands.append((f"Samples of {answer['winner']}", answer.get("next_command")))
    for row in results.get("rows") or []:
        if row.get("run") and row.get("status") == "ok":
            label = f"About {row['name']}" + ("" if row.get("seed") is None else f", seed {row['seed']}")
            commands.append((label, f"trilemma info {shlex.quote(str(folder / row['run']))}"))
    return [(label, str(command)) for label, command in commands if command]


# --- pictures --------------------------------------------------------------------------------------------------------


def _shown(figures: dict[str, Any], results: dict[str, Any], gallery: Gallery) -> dict[str, Any]:
    """Everything that is made of samples, each model by its first finished seed, the best model first."""
    real = {"name": "Real", "note": "held out", "style": "family-floor"}
    metric = figures["headline"]
    shown = [(one, one.done[0]) for one in figures["measured"]]
    shown += [(one, one.done[0]) for one in figures["everything"] if one.kind in ("included", "baseline") and one.done]
    strips, grids = (
        [{**real, "picture": gallery.row(results.get("real"), 8)}],
        [{**real, "picture": gallery.grid(results.get("real"))}],
    )
    noised = next((row["noised"] for _, row in shown if row.get("noised")), None)
    steered: list[dict[str, Any]] = []
    nearest, films, frames = [], [], [{**real, "name": "Real, noised", "picture": gallery.strip(noised)}]
    for one, row in shown:
        figure = one.figures.get(metric or "")
        base = {
            "name": one.name,
            "note": number(figure.value) if figure else "",
            "style": plots.family_class(one.family),
            "winner": one.name == figures["answer"].get("winner"),
            "verdict": one.verdict,
        }
        if one.kind != "baseline":
            strips.append({**base, "picture": gallery.row(row.get("samples"), 8)})
        grids.append({**base, "picture": gallery.grid(row.get("samples"))})
        near = row.get("nearest") or {}
        nearest.append({**base, "picture": gallery.pairs(near.get("samples"), near.get("training"))})
        films.append({**base, "picture": gallery.film(row.get("film"))})
        frames.append({**base, "picture": gallery.strip(row.get("strip"))})
        steered.append({**base, "figures": control_figures(one), "picture": gallery.named(row.get("directions"))})
    lists = {"strips": strips, "grids": grids, "nearest": nearest, "films": films, "frames": frames, "steered": steered}
    if results.get("sources"):
        lists |= {"grids": [], **translation_pictures(gallery, results, shown)}
    kept = {name: [entry for entry in entries if entry["picture"]] for name, entries in lists.items()}
    return {**kept, "pictures_left_out": not gallery.thrift.samples}
