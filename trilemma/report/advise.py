"""Which model to use, and why: plain rules over the measured table, so that a reader can check the answer by hand.

The rules, in this order:

1. A model is left out when no training of it succeeded, when its samples are copies of training data, when it
   collapsed (spread of samples below half of the data's; of a translator, which may blur, below a tenth), when its
   samples are nothing like the data (recall and coverage both below 0.1), or when it does not meet a need. A translator
   is left out when its outputs are no nearer to their hidden partners than other targets are, or, without pairs, when
   they keep nothing of their sources' layout. The answer names it with the reason.
2. Quality is the Frechet distance (the kernel distance where there is none); of pairs half of it and half the
   perceptual distance to the hidden partner (`metrics/translation.py: both`), and the latter alone tells models apart
   as well. Two models differ in quality only where
   the 95 % t interval of their paired differences over three or more common seeds excludes zero; with fewer seeds,
   only where their intervals do not overlap. Otherwise there is no difference that you could rely on, unless a
   classifier tells the samples of the one with the greater distance from real data more easily (told apart), judged in
   the same way.
3. Without a preference: the best quality; of the models that do not differ from the best, the fastest (more than 1.2
   times as fast, otherwise the better figure stays).
   quality: the best quality; among those that do not differ, the one with the higher recall and coverage.
   diversity: the highest mean of recall and coverage; among those that do not differ in both, the better quality.
   speed: the most samples a second among the models that are not worse than the best honest baseline (all, where
   none is left); within a factor of 1.2 the better quality.
4. A baseline or the floor is never the answer, but where no model beats a baseline, the answer says so. The resampled
   training set does not count for that: copying is what a generative model is not for.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trilemma.errors import unknown
from trilemma.report.advice_of_translation import astray, cautions
from trilemma.report.budgets import last_half
from trilemma.report.further import no_answer
from trilemma.report.needs import check_needs, promised, unmet
from trilemma.report.rankings import agreement, better, judge_name, judge_of, judges, ranks
from trilemma.report.summary import ENOUGH_SEEDS, Summary, differs, number, shorten, spanned, summaries

HEADLINES = {
    "translation": "translation score",
    "frechet": "Fréchet distance",
    "kernel": "kernel distance",
    "frechet@random": "Fréchet distance (random)",
}
FASTER = 1.2  # speeds within this factor count as the same
FEW_TEST_EXAMPLES = 200
TOO_FEW = 10  # test examples without which no variety is measured (FEWEST of measure.py)


# --- the choice ------------------------------------------------------------------------------------------------------


def _left_out(one: Summary, needs: list[str]) -> str | None:
    """The reason for which a model cannot be the answer, or None."""
    if one.status == "failed":
        error = next((row.get("error") for row in one.rows if row.get("error")), None)
        return f"its training failed{f': {shorten(str(error))}' if error else ''}"
    if one.status == "pending":
        return "it is not trained yet"
    if one.verdict == "copies":
        return "its samples are copies of training data"
    if one.collapsed:
        return "it collapsed: its samples show far less variety than the data"
    if one.lost:
        return "its samples are nothing like the data"
    return astray(one) or next((reason for need in needs if (reason := unmet(one, need))), None)


def _headline(models: list[Summary]) -> str | None:
    """The first headline metric that all models have, otherwise the first that any has."""
    for quantify in (all, any):
        for name in HEADLINES:
            if models and quantify(name in one.figures for one in models):
                return name
    return None


def rank(usable: list[Summary], metric: str, prefer: str | None, baselines: list[Summary]) -> list[Summary]:
    """The usable models, the answer first: rule 3 of this file."""
    by_quality = sorted(usable, key=lambda one: one.figures[metric].badness)
    if prefer == "diversity":
        pool = [one for one in by_quality if one.diverse() is not None]
        best = max(pool, key=lambda one: one.diverse() or 0.0, default=None)
        if best is None:
            return by_quality
        tied = [o for o in pool if o is best or not (differs(o, best, "recall") or differs(o, best, "coverage"))]
        rest = sorted((o for o in usable if o not in tied), key=lambda o: -(o.diverse() or 0.0))
        return [*tied, *rest]
    if prefer == "speed":
        pool = [one for one in by_quality if not _worse_than_any(one, baselines, metric)] or by_quality
        fastest = max(one.rate for one in pool)
        tied = [one for one in pool if one.rate * FASTER >= fastest]
        rest = sorted((one for one in usable if one not in tied), key=lambda one: (one not in pool, -one.rate))
        return [*tied, *rest]
    best = by_quality[0]
    tied = [one for one in by_quality if one is best or _close(one, best, metric)]
    if prefer == "quality":
        tied.sort(key=lambda one: -(one.diverse() or 0.0))
    else:
        winner = max(tied, key=lambda one: one.rate)
        winner = winner if winner.rate > FASTER * best.rate else best
        tied = [winner, *(one for one in tied if one is not winner)]
    return [*tied, *(one for one in by_quality if one not in tied)]


def _close(one: Summary, best: Summary, metric: str) -> bool:
    """Is there no difference in quality to the best one? Of translators neither in the distance to the partners alone,
    whose intervals are far narrower than those of a distance of sets. Nor is it told from real data more easily: of few
    examples distances overlap though one model's samples are plainly wrong."""
    told = differs(one, best, "classifier") and _bad(one, "classifier") > _bad(best, "classifier")
    return not (differs(one, best, metric) or told or (metric == "translation" and differs(one, best, "perceptual")))


def _worse_than_any(one: Summary, baselines: list[Summary], metric: str) -> bool:
    return any(
        differs(one, other, metric) and one.figures[metric].badness > other.figures[metric].badness
        for other in baselines
        if metric in other.figures
    )


def _beats(one: Summary, baseline: Summary, metric: str) -> bool:
    return one.figures[metric].badness < baseline.figures[metric].badness and differs(one, baseline, metric)


def front(models: list[Summary], metric: str) -> list[str]:
    """Names that no other model beats in quality and in speed at once, fastest first."""
    pool = sorted((o for o in models if metric in o.figures and o.rate > 0), key=lambda o: (-o.rate, _bad(o, metric)))
    kept: list[Summary] = []
    for one in pool:
        if not kept or _bad(one, metric) < _bad(kept[-1], metric):
            kept.append(one)
    return [one.name for one in kept]


def _bad(one: Summary, metric: str) -> float:
    return one.figures[metric].badness


# --- the words -------------------------------------------------------------------------------------------------------


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _said(one: Summary, metric: str) -> str:
    figure = one.figures[metric]
    value, low, high = spanned(figure.value, figure.low, figure.high)
    return f"{value} ({low} to {high})" if low else value


def _inside(one: Summary, metric: str) -> str:
    return _said(one, metric).replace(" (", ", ").removesuffix(")")


def _pace(one: Summary) -> str:
    return f"{number(one.rate)} samples a second" if one.rate else "an unmeasured number of samples a second"


def _why(
    ranked: list[Summary], metric: str, prefer: str | None, needs: list[str], floor: str, baselines: list[Summary]
) -> str:
    """The first sentence."""
    winner, others = ranked[0], ranked[1:]
    label = HEADLINES[metric]
    if not others:
        by = f", whatever is preferred ({prefer} was asked for)" if prefer else ""
        left = f"it is the only model left to choose from{by}{f' that meets {listed(needs)}' if needs else ''}"
        return f"Use {winner.name}: {left}, {label} {_said(winner, metric)}{floor}."
    if prefer == "diversity" and winner.diverse() is not None:
        shares = [f"{name} {_said(winner, name)}" for name in ("recall", "coverage") if name in winner.figures]
        best = max(others, key=lambda one: one.diverse() or 0.0)
        same = not any(differs(winner, best, name) for name in ("recall", "coverage"))
        close = f", though {best.name} cannot be told from it and its quality decided" if same else ""
        return f"Use {winner.name}: its samples show the most of the data's variety, {' and '.join(shares)}{close}."
    if prefer == "speed":
        worse = _worse_than_any(winner, baselines, metric)
        among = "all models, each of which is worse than a baseline" if worse else "those not worse than a baseline"
        return (
            f"Use {winner.name}: it makes {_pace(winner)}, the most (within a fifth, where quality decides) of "
            f"{among}, at {_said(winner, metric)} {label}{floor}."
        )
    best = min(ranked, key=lambda one: one.figures[metric].badness)
    nearest = "its samples are nearest to the real data"
    if metric == "translation":
        nearest = "its outputs are nearest to their hidden partners, and to the targets as a set"
    tied = [one for one in others if _close(one, best, metric) or one is best]
    if not tied:
        return (
            f"Use {winner.name}: {nearest}, {label} {_said(winner, metric)} against "
            f"{_said(others[0], metric)} for {others[0].name}{floor}; it makes {_pace(winner)}."
        )
    names = listed([f"{one.name} ({_inside(one, metric)})" for one in tied[:3]])
    if winner is best and prefer != "quality":
        pick = f"{winner.name} has the best figure and makes {_pace(winner)}"
    elif prefer == "quality" and winner.diverse() is None:
        pick = f"{winner.name} has the best figure"
    elif prefer == "quality":
        pick = f"{winner.name} shows the most of the data's variety among them"
    else:
        pick = f"{winner.name} is the fastest of them at {_pace(winner)}"
    return (
        f"Use {winner.name}: no difference in quality that you could rely on separates it ({label} "
        f"{_inside(winner, metric)}) from {names}{floor}; {pick}."
    )


def _otherwise(ranked: list[Summary], metric: str, prefer: str | None, baselines: list[Summary]) -> str:
    """The second sentence."""
    if len(ranked) < 2:
        return "There is no runner-up; comparing more models, or asking for less, would give a choice."
    winner, second = ranked[0], ranked[1]
    pace = ""
    if winner.rate and second.rate:
        times = second.rate / winner.rate
        if times > FASTER or times < 1 / FASTER:
            ratio = max(times, 1 / times)
            pace = f", {ratio:,.{0 if ratio >= 10 else 1}f} times as {'fast' if times > 1 else 'slow'}"
    text = f"The runner-up is {second.name} ({HEADLINES[metric]} {_inside(second, metric)}{pace})"
    changes, same = [], []
    for asked in ("quality", "diversity", "speed"):
        if asked == prefer:
            continue
        other = rank(ranked, metric, asked, baselines)[0]
        if other is winner:
            same.append(f"--prefer {asked}")
        else:
            changes.append(
                f"with --prefer {asked} the answer would be {other.name}{_trait(other, asked, metric, ranked)}"
            )
    if changes:
        return f"{text}; {', and '.join(changes)}."
    return f"{text}; {listed(same).replace('and', 'or')} would give the same answer."


def _trait(one: Summary, asked: str, metric: str, ranked: list[Summary]) -> str:
    """Why this one, in brackets."""
    if asked == "speed":
        return f" ({_pace(one)})"
    shares = [f"{n} {number(one.figures[n].value)}" for n in ("recall", "coverage") if n in one.figures]
    if asked == "diversity":
        return f" ({', '.join(shares)})" if shares else ""
    if one is min(ranked, key=lambda each: each.figures[metric].badness):
        return f" ({HEADLINES[metric]} {number(one.figures[metric].value)})"
    return f" (the most varied of those that cannot be told apart: {', '.join(shares)})" if shares else ""


def _caveats(
    results: dict[str, Any], ranked: list[Summary], metric: str, baselines: list[Summary], left: dict[str, str],
    elsewhere: list[Summary],
) -> list[str]:  # fmt: skip
    """What a careful reader should know, the gravest first."""
    said = []
    known = ((results.get("data") or {}).get("counts") or {}).get("train") or 0
    hardly = {
        row["name"]: row["speed"]["examples"]
        for row in results.get("rows", [])
        if row["kind"] == "model" and row["status"] == "ok" and (row.get("speed") or {}).get("examples", known) < known
    }
    if hardly:
        seen = listed([f"{name} {count:,}" for name, count in hardly.items()])
        said.append(f"not all of {known:,} training examples were seen ({seen}): the budget is too small to judge by")
    unbeaten = [b for b in baselines if metric in b.figures and not any(_beats(one, b, metric) for one in ranked)]
    if unbeaten:
        names = listed([f"{b.name} ({_inside(b, metric)})" for b in unbeaten])
        which = "none of the models left" if left else "no model"
        said.append(f"{which} is clearly better than the baseline {names}: train longer before you rely on any of them")
    said += cautions(results, ranked, [one for one in summaries(results) if one.kind == "baseline"])
    top = min(ranked, key=lambda one: one.figures[metric].badness)
    for judge in [name for name in judges(ranked) if judge_of(name) != judge_of(metric) and name in top.figures]:
        best = min((one for one in ranked if judge in one.figures), key=lambda one: one.figures[judge].badness)
        if best is not top and better(best, top, judge):
            said.append(
                f"judges disagree on quality: {judge_name(judge)} put {best.name} ({_inside(best, judge)}) before "
                f"{top.name} ({_inside(top, judge)}), so look at the samples"
            )
    for one in elsewhere:
        if metric in one.figures and differs(one, top, metric) and _bad(one, metric) < _bad(top, metric):
            copies = " copies of training data," if one.verdict == "copies" else ""
            said.append(
                f"the samples from elsewhere, {one.name},{copies} are nearer to real data ({_inside(one, metric)})"
            )
    last = last_half(ranked[0], metric)
    if last is not None and last.pays:
        said.append(
            f"train longer: the last half of the budget still brought {ranked[0].name} from "
            f"{number(last.half.value)} to {number(last.whole.value)}, and more would pay again"
        )
    seeds = min(len(one.done) for one in ranked[:2])
    if seeds < ENOUGH_SEEDS:
        times = "once" if seeds == 1 else "twice"
        said.append(f"each model was trained only {times}, so that a repeat may turn it round (--seeds 3 would tell)")
    tests = ((results.get("data") or {}).get("counts") or {}).get("test")
    if tests is not None and tests < FEW_TEST_EXAMPLES:
        wide = "they give no interval" if top.figures[metric].low is None else "intervals are wide"
        said.append(f"only {tests} test examples are few to measure with: {wide}")
    endless = ranked[0].figures.get("frechet_extrapolated")
    if endless is not None and metric == "frechet":
        said.append(
            "few examples for the number of features raise all Fréchet distances, real data's too (without that "
            f"{ranked[0].name}'s would be about {number(max(endless.value, 0.0))})"
        )
    if tests is not None and tests < TOO_FEW and all(one.diverse() is None for one in ranked):
        said.append(f"variety was not measured: fewer than {TOO_FEW} test examples")
    if ranked[0].verdict == "cannot tell":
        said.append(f"whether samples of {ranked[0].name} are copies of training data cannot be told: too few data")
    out = [f"{name} ({reason})" for name, reason in left.items() if reason != "it is not trained yet"]
    if out:
        said.append(f"left out: {'; '.join(out)}")
    partly = [one.name for one in ranked if any(row.get("status") == "failed" for row in one.rows)]
    if partly:
        said.append(f"some trainings of {listed(partly)} failed")
    troubled = [one.name for one in ranked[:1] if one.events]
    if troubled:
        said.append(f"the training of {troubled[0]} had events that are told below")
    return said


def _ground(results: dict[str, Any], winner: Summary) -> str:
    """What kind of data and how many the answer rests on, and what that meant; '' where it was not recorded."""
    data = results.get("data") or {}
    counts, kind, shape = data.get("counts") or {}, data.get("kind"), " × ".join(map(str, data.get("shape") or ()))
    known, tests = counts.get("train"), counts.get("test")
    if not known or not tests or not shape:
        return ""
    unit = {"table": " columns", "points": " numbers"}.get(str(kind), "")
    what = {"image": "pictures", "table": "rows", "series": "windows"}.get(str(kind), "examples")
    sides = {"paired": "pairs", "unpaired": "targets"}.get(str(data.get("sides")))
    text = f"{known:,} training {sides or what} of {shape}{unit}"
    if data.get("labels"):
        text += f" in {len(data['labels'])} classes"
    elif kind == "image" and not sides and not {"attributes", "clip_score"} & set(winner.figures):
        text += " without labels, so that no class can be asked for"
    seen = winner.speed.get("examples", 0.0) / known
    if seen >= 2 and winner.verdict == "none":
        text += f" (no copies were found, though {winner.name} saw each {number(seen)} times)"
    return f"{text}, measured on {tests:,} others"


def advise(
    results: dict[str, Any],
    *,
    prefer: str | None = None,
    need: Iterable[str] | str = (),
    folder: str | Path | None = None,
) -> dict[str, Any]:
    """Which model to use, from the rows of results.json by the rules of this file; trains and measures nothing.

    prefer: 'quality', 'diversity', 'speed' or None. need: tasks ('encode', 'likelihood') and limits ('latency<0.1',
    'size<10MB'). folder: that of the report, for the next command. The answer: 'sentences' (three), 'winner' and
    'runner_up' (names or None), 'next_command', 'pareto' (names, fastest first) and 'why' ('metric', 'ranking',
    'left_out' name -> reason, 'caveats', 'prefer', 'need', 'judges': the models' places under each, and 'agreement':
    the judges' mean rank correlation). Raises InputError for unknown preferences and needs.
    """
    if prefer not in (None, "quality", "diversity", "speed"):
        raise unknown("preference", str(prefer), ("quality", "diversity", "speed"))
    needs = check_needs(need)
    everything = summaries(results)
    models = [one for one in everything if one.kind == "model"]
    baselines = [one for one in everything if one.honest and one.status == "ok"]
    left = {one.name: reason for one in models if (reason := _left_out(one, needs))}
    usable = [one for one in models if one.name not in left]
    metric = _headline(usable)
    for one in [one for one in usable if metric is None or metric not in one.figures]:
        usable.remove(one)
        left[one.name] = "its quality could not be measured"
    sound = [
        one for one in models if one.status == "ok" and one.verdict != "copies" and not (one.collapsed or one.lost)
    ]
    done = [one for one in models if one.done]
    places = {judge: ranks(done, judge) for judge in judges(done)}
    answer: dict[str, Any] = {
        "winner": None,
        "runner_up": None,
        "next_command": results.get("command"),
        "pareto": front(sound, headline) if (headline := _headline(sound)) else [],
        "why": {
            "metric": metric,
            "ranking": [],
            "left_out": left,
            "caveats": [],
            "prefer": prefer,
            "need": needs,
            "judges": places,
            "agreement": agreement(done, places),
        },
    }
    waiting = [row for one in models for row in one.rows if row.get("status") == "pending"]
    if metric is None:
        sentences, answer["next_command"] = no_answer(results, models, left, needs, folder)
        return {**answer, "sentences": sentences}
    ranked = rank(usable, metric, prefer, baselines)
    floors = [one for one in everything if one.kind == "floor" and metric in one.figures]
    floor = f"; real data themselves have {_said(floors[0], metric)}" if floors else ""
    if floors and floors[0].figures[metric].value > ranked[0].figures[metric].value:
        floor = f"; real data themselves come no nearer ({_inside(floors[0], metric)})"
    first = _why(ranked, metric, prefer, needs, floor, baselines)
    if waiting:
        total = sum(row.get("kind") == "model" for row in results["rows"])
        first = f"So far, with {total - len(waiting)} of {total} trainings done: {first[0].lower()}{first[1:]}"
    caveats = _caveats(results, ranked, metric, baselines, left, [o for o in everything if o.kind == "included"])
    kept = promised(needs)
    first = f"{first[:-1]}; as you need it, {'; '.join(kept)}." if kept else first
    warning = f"keep in mind: {'; '.join(caveats)}." if caveats else "nothing in the table speaks against it."
    ground = _ground(results, ranked[0])
    warning = f"This was decided on {ground}; {warning}" if ground else warning[0].upper() + warning[1:]
    run = ranked[0].done[0].get("run")
    answer["winner"], answer["runner_up"] = ranked[0].name, ranked[1].name if len(ranked) > 1 else None
    answer["why"] |= {"ranking": [one.name for one in ranked], "caveats": caveats}
    if run:
        place = str(Path(folder) / run) if folder is not None else str(run)
        rows = results.get("data", {}).get("kind") == "table"
        asked = "-n 1000 --seed 0 --out made.csv" if rows else "-n 64 --seed 0"
        answer["next_command"] = f"trilemma generate {shlex.quote(place)} {asked}"
        if "structure" in ranked[0].figures:
            answer["next_command"] = f"trilemma translate {shlex.quote(place)} PICTURES --out translated"
    return {**answer, "sentences": [first, _otherwise(ranked, metric, prefer, baselines), warning]}
