"""What is said of translators alone: who is left out, what a careful reader should know, when to stop."""

from __future__ import annotations

from typing import Any

from trilemma.report.budgets import last_half
from trilemma.report.summary import Summary, differs, finite, number

FOLLOWS = 0.05  # of its sources' layout: who keeps less does not follow them
WORSE = 1.25  # times its best figure while training: longer was not better
LATE = 0.7  # of the training: a best figure after that is the end


def astray(one: Summary) -> str | None:
    """Why a model's outputs are no translations, or None."""
    perceptual, structure = one.figures.get("perceptual"), one.figures.get("structure")
    if perceptual is not None:
        if perceptual.value >= 1:
            return "its outputs are no nearer to their hidden partners than other targets"
    elif structure is not None and structure.high is not None and structure.high < FOLLOWS:
        return "its outputs do not follow their sources"
    return None


def cautions(results: dict[str, Any], ranked: list[Summary], baselines: list[Summary]) -> list[str]:
    """The gravest first; baselines: all of the table, those that copy too."""
    best, said = ranked[0], []
    near = [one for one in baselines if not _nearer(best, one)]
    if near:
        names = ", ".join(f"{one.name} ({number(one.figures['perceptual'].value)})" for one in near)
        own = number(best.figures["perceptual"].value)
        said.append(f"{best.name} is not clearly nearer to the hidden partners ({own}) than {names}")
    idle = next((one for one in baselines if one.name.startswith("did nothing")), None)
    if idle is not None and "psnr" in best.figures and "psnr" in idle.figures:
        mine, its = best.figures["psnr"], idle.figures["psnr"]
        if mine.value < its.value and idle not in near:
            said.append(
                f"by PSNR doing nothing is better ({number(its.value)} against {number(mine.value)} dB): what "
                f"{best.name} adds is likely, not certain"
            )
    if "perceptual" not in best.figures:
        for one in ranked[1:]:
            if differs(one, best, "structure") and one.figures["structure"].value > best.figures["structure"].value:
                kept, own = (number(each.figures["structure"].value) for each in (one, best))
                said.append(f"{one.name} keeps more of its sources' layout ({kept} against {own})")
    return said + _stop(best)


def _nearer(one: Summary, baseline: Summary) -> bool:
    mine, its = one.figures.get("perceptual"), baseline.figures.get("perceptual")
    return mine is None or its is None or (mine.value < its.value and differs(one, baseline, "perceptual"))


def _stop(one: Summary) -> list[str]:
    """When the training should have stopped: by branches of it (--curve), or by its figures on the choose split."""
    last = last_half(one, "frechet")
    if last is not None and last.hurts:
        return [f"stop earlier: half of the budget gave a better set distance ({number(last.half.value)})"]
    for row in one.done[:1]:
        points = [(p["seconds"], p["kernel@random"]) for p in row.get("curve") or [] if finite(p.get("seconds"))]
        points = [(when, value) for when, value in points if finite(value) and value > 0]
        if len(points) > 2:
            when, value = min(points, key=lambda point: point[1])
            end, final = points[-1]
            if when < LATE * end and final > WORSE * value:
                return [
                    f"stop earlier, perhaps: while it trained, {one.name} was nearest to held-out targets after "
                    f"{when:.0f} of {end:.0f} seconds (--curve would tell)"
                ]
    return []
