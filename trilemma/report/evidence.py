"""What claims are decided by: the rows of a comparison, and comparisons that can turn out either way or undecided."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from trilemma.report.advise import HEADLINES
from trilemma.report.budgets import astray, at_share
from trilemma.report.summary import ENOUGH_SEEDS, Figure, Summary, apart, number, summaries

Verdict = Literal["holds", "does not hold", "cannot be told"]
CLEARLY = 1.2  # times as fast, as hurt: less counts as the same
THREE, SEEDS = "three seeds", f"--seeds {ENOUGH_SEEDS}"  # as a claim needs them, and the option that gives them
FAMILIES = ("autoencoder", "vae", "gan", "diffusion")


@dataclass(frozen=True)
class Finding:
    """What became of a claim, and the figures that decided it."""

    verdict: Verdict
    figures: str


class Missing(Exception):
    """A row or a figure that a claim needs is not there, and the models and options that would bring it; without any
    these data or these trainings cannot tell."""

    def __init__(self, reason: str, *by: str):
        super().__init__(reason)
        self.by = by


MORE = "a larger budget"
OF_ALL = ("sharpness", "recall", "control")  # what real data have as well, where it can be measured at all


class Evidence:
    """The rows of a comparison as claims read them."""

    def __init__(self, results: dict[str, Any]):
        self.results = results
        settings = results.get("settings") or {}
        studies = {name for name, asked in (settings.get("studies") or {}).items() if asked}
        studies |= {"curve"} if "claims" in studies else set()
        self.given = {f"--{name}" for name in studies}
        self.given |= {SEEDS} if (settings.get("seeds") or 1) >= ENOUGH_SEEDS else set()
        everything = summaries(results)
        self.by_name = {one.name: one for one in everything if one.status == "ok"}
        # No training of these succeeded: that is evidence, too.
        self.failed = {one.name: one for one in everything if one.status == "failed"}
        self.models = [one for one in self.by_name.values() if one.kind == "model"]
        floors = [one for one in self.by_name.values() if one.kind == "floor"]
        self.floor = floors[0] if floors else None
        present = [one for one in self.models if one.name in FAMILIES] or self.models
        self.headline = next((m for m in HEADLINES if present and all(m in one.figures for one in present)), "frechet")

    def one(self, name: str) -> Summary:
        if name in self.failed:
            raise Missing(f"no training of {name} succeeded")
        if name not in self.by_name:
            base, _, what = name.partition(", ")
            by = ["--claims"] if what else []
            raise Missing(f"no {name} in this comparison", *by, *([] if base in self.by_name else [base]))
        return self.by_name[name]

    def figure(self, name: str, metric: str) -> Figure:
        """Missing is raised for one that was not measured: the claim cannot be told then."""
        if metric in OF_ALL and self.floor is not None and metric not in self.floor.figures:
            raise Missing(f"there is no {metric} on such data")
        one = self.one(name)
        if metric not in one.figures:
            raise Missing(f"{metric} of {name} was not measured")
        return one.figures[metric]

    def speed(self, name: str, key: str) -> float:
        one = self.one(name)
        if not one.speed.get(key):
            raise Missing(f"{key} of {name} was not measured")
        return one.speed[key]

    def others(self, name: str) -> list[str]:
        """The other families of the comparison."""
        found = [one for one in FAMILIES if one != name and one in self.by_name]
        if not found:
            raise Missing("no other family in this comparison", *(one for one in FAMILIES if one != name))
        return found

    def at(self, name: str, share: float, metric: str) -> Figure:
        """The figure that a training of this share of the budget reached."""
        one = self.one(name)
        found = at_share(one, share, metric)
        if found is None:
            other = [(reached, clock) for of, reached, clock in astray(one) if of == share]
            if not other:
                raise Missing(f"no figure of {name} at {share:g} of the budget", "--curve")
            why = "the clock set the count right on the way" if other[0][1] else "batches are whole"
            raise Missing(
                f"the branch of {name} at {share:g} of the budget became one at {other[0][0]:.2g}: {why}", MORE
            )
        return found

    def lacks(self, problem: Missing, needs: str) -> list[str]:
        """Models and options that would help, of those that the claim `needs` as well; none where nothing would."""
        known = {*self.given, *self.by_name, *self.failed}
        if not {*problem.by} - known:
            return []
        also = [SEEDS if part == THREE else part for part in needs.split(", ") if re.match(rf"--|{THREE}|\w+:", part)]
        return [each for each in dict.fromkeys([*problem.by, *also]) if each not in known]


def said(name: str, figure: Figure) -> str:
    return f"{name} {number(figure.value)}"


def sign(left: Figure, right: Figure, *, better: bool = False) -> int:
    """1 where left is reliably larger (with `better`: better), -1 where right is, 0 where neither can be told."""
    if not apart(left, right):
        return 0
    one, two = (-left.badness, -right.badness) if better else (left.value, right.value)
    return 1 if one > two else -1


def verdict(signs: list[int]) -> Verdict:
    """Of several comparisons that must all be for it: one reliably against it is enough to sink it."""
    return "does not hold" if -1 in signs else "holds" if all(each > 0 for each in signs) else "cannot be told"


def more(metric: str, one: str, other: str, *, better: bool = False) -> Callable[[Evidence], Finding]:
    """The claim that one has more of a metric than another (with `better`: a better figure)."""

    def decide(seen: Evidence) -> Finding:
        name = seen.headline if metric == "headline" else metric
        left, right = seen.figure(one, name), seen.figure(other, name)
        return Finding(verdict([sign(left, right, better=better)]), f"{said(one, left)}, {said(other, right)}")

    return decide


def most(metric: str, one: str, *, least: bool = False, better: bool = False) -> Callable[[Evidence], Finding]:
    """The claim that one has the most (least, best) of a metric of all families that have it."""

    def decide(seen: Evidence) -> Finding:
        name = seen.headline if metric == "headline" else metric
        own = seen.figure(one, name)
        rest = {other: seen.one(other).figures[name] for other in seen.others(one) if name in seen.one(other).figures}
        if not rest:
            raise Missing(f"{name} of other families was not measured")
        signs = [(-1 if least else 1) * sign(own, other, better=better) for other in rest.values()]
        figures = ", ".join([said(one, own), *(said(other, figure) for other, figure in rest.items())])
        return Finding(verdict(signs), f"{figures}")

    return decide


def both(*parts: Callable[[Evidence], Finding]) -> Callable[[Evidence], Finding]:
    """Claims that must hold together."""

    def decide(seen: Evidence) -> Finding:
        found = [part(seen) for part in parts]
        ranks = {"holds": 1, "cannot be told": 0, "does not hold": -1}
        return Finding(verdict([ranks[one.verdict] for one in found]), "; ".join(one.figures for one in found))

    return decide


def faster(key: str, one: str, *, others: tuple[str, ...] = (), slower: bool = False) -> Callable[[Evidence], Finding]:
    """The claim that one is clearly faster (slower) than every other family, or than those named."""

    def decide(seen: Evidence) -> Finding:
        rates = {name: seen.speed(name, key) for name in [one, *(others or seen.others(one))]}
        own, rest = rates[one], [rate for name, rate in rates.items() if name != one]
        signs = []
        for rate in rest:
            times = rate / own if slower else own / rate
            signs.append(1 if times > CLEARLY else -1 if times < 1 / CLEARLY else 0)
        return Finding(verdict(signs), ", ".join(f"{name} {number(rate)}" for name, rate in rates.items()))

    return decide
