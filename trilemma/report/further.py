"""What is said where no model can be recommended, and the command that may change that: it never repeats the last."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from trilemma.config import parse_budget
from trilemma.report.needs import capabilities, meets, unmet
from trilemma.report.summary import Summary

TIMES = 4  # the budget that was too small
OTHER = "-more"  # behind the folder's name: another budget and other models are another comparison


def no_answer(
    results: dict[str, Any], models: list[Summary], left: dict[str, str], needs: list[str], folder: str | Path | None
) -> tuple[list[str], str | None]:
    """Three sentences, and what to type next; None where nothing is known to help."""
    waiting = [row for one in models for row in one.rows if row.get("status") == "pending"]
    if waiting:
        total = sum(len(one.rows) for one in models)
        out = "; ".join(f"{name}: {reason}" for name, reason in left.items() if reason != "it is not trained yet")
        return [
            f"There is no answer yet: {total - len(waiting)} of {total} trainings are done.",
            f"Next in line is {waiting[0]['name']}.",
            out[:1].upper() + out[1:] + "." if out else "This page is written anew after each training.",
        ], results.get("command")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in left.items()) or "no model was compared"
    advice, command = _way_out(results, models, needs, folder)
    return ["No model can be recommended on these data.", f"The reasons: {reasons}.", advice], command


def _way_out(
    results: dict[str, Any], models: list[Summary], needs: list[str], folder: str | Path | None
) -> tuple[str, str | None]:
    able = [one for one in models if not any(unmet(one, need) for need in needs)]
    if [one for one in able if one.status == "ok" and one.verdict != "copies"]:
        longer = _longer(results)
        return "Four times the budget may change that, or other models.", longer
    if able and all(one.status == "failed" for one in able):
        return "The same command tries again what failed; other models may fare better.", results.get("command")
    if able or not models:
        return "More data, other models or less training may change that.", None
    others = _of_these_needs(results, models, needs)
    if others:
        changes = {"--models": ",".join(others), "--need": ",".join(needs)}
        return f"Of the models that were not compared, {', '.join(others)} can do that.", _changed(results, changes)
    again = f"trilemma advise {shlex.quote(str(folder))}" if folder is not None else None
    return "Fewer needs may change that.", again


def _of_these_needs(results: dict[str, Any], models: list[Summary], needs: list[str]) -> list[str]:
    """Families that can do all that was asked for on such data, and that were not compared."""
    from trilemma.models.contract import find, model_files  # here, for the page needs no torch

    data, compared = results.get("data") or {}, {one.family for one in models}
    wanted = {"Samples", *(name for need in needs for name in capabilities(need))}
    sides = str(data.get("sides") or "alone")
    space = "Mixed" if sides == "alone" else "Continuous"  # of those that learn from single examples, of any
    found = []
    for stem in model_files():
        kind = find(stem)[0]
        fits = sides in kind.sets and space in {one.__name__ for one in kind.accepts}
        if stem not in compared and fits and meets([one.__name__ for one in kind.__mro__], wanted):
            found.append(stem)
    return found if len(wanted) > 1 else []


def _longer(results: dict[str, Any]) -> str | None:
    """The command with so many times the budget: the total where that was given, otherwise that of each training."""
    each = str((results.get("settings") or {}).get("budget_each") or "")
    total = re.search(r"--budget[ =](\S+)", str(results.get("command")))
    if not each:
        return None
    return _changed(results, {"--budget": _times(total[1])} if total else {"--budget-each": _times(each)})


def _times(budget: str) -> str:
    unit, amount, _ = parse_budget(budget)
    return f"{TIMES * amount:.0f}{'s' if unit == 'seconds' else ''}"


def _changed(results: dict[str, Any], options: dict[str, str]) -> str:
    """The command of this comparison with other options, in another folder; a call from Python likewise."""
    command, title = str(results.get("command")), results.get("title") or "data"
    words = shlex.split(command) if command.startswith("trilemma ") else []
    kept: list[str] = []
    old = {"--out": f"report/{title}"}
    names = {*options, "--out"}
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if place and words[place - 1] in names:
            old[words[place - 1]] = word
        elif name in names:
            old |= {name: value} if equals else {}
        else:
            kept.append(word)
    options = {**options, "--out": old["--out"].rstrip("/") + OTHER}
    if words:
        return shlex.join([*kept, *(word for pair in options.items() for word in pair)])
    told = ", ".join(f"{name.removeprefix('--').replace('-', '_')}={value!r}" for name, value in options.items())
    return f"trilemma.compare(..., {told})"
