"""The order of the models under each judge, how far the judges agree, and where they contradict each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from trilemma.report.plots import family_class
from trilemma.report.summary import Summary, differs, mean, spanned

NAMES = {"": "in-domain features", "random": "random features", "imagenet": "ImageNet's features"}


def judge_of(metric: str) -> str | None:
    """The name behind the @ of a distance, '' for the in-domain network, None for any other metric."""
    distance, _, name = metric.partition("@")
    return name if distance in ("frechet", "kernel") else None


def judge_name(metric: str) -> str:
    """A judge in words: `kernel@dinov2` -> dinov2's features."""
    name = judge_of(metric) or ""
    return NAMES.get(name, f"{name}'s features")


def judges(models: Iterable[Summary]) -> list[str]:
    """The metric by which each judge ranks, the in-domain one first: its Frechet distance where all models have it."""
    models = list(models)
    kinds: dict[str, list[str]] = {}
    for metric in dict.fromkeys(name for one in models for name in one.figures):
        name = judge_of(metric)
        if name is not None:
            kinds.setdefault(name, []).append(metric)

    def key(metric: str) -> tuple[int, bool]:
        return -sum(metric in one.figures for one in models), not metric.startswith("frechet")

    order = sorted(kinds, key=lambda name: [*NAMES, name].index(name))
    return [min(kinds[name], key=key) for name in order]


def ranks(models: Iterable[Summary], metric: str) -> dict[str, int]:
    """Each model's place: one more than there are models that are better by a difference that one could rely on."""
    known = [one for one in models if metric in one.figures]
    return {one.name: 1 + sum(better(other, one, metric) for other in known if other is not one) for one in known}


def better(one: Summary, two: Summary, metric: str) -> bool:
    """Is the first better by this metric, by a difference that one could rely on?"""
    return differs(one, two, metric) and one.figures[metric].badness < two.figures[metric].badness


@dataclass(frozen=True)
class Contradiction:
    """Two judges (metrics) of which one puts `first` reliably before `second`, and the other the reverse."""

    first: str
    second: str
    judge: str
    other: str


def contradictions(models: Iterable[Summary], metrics: Iterable[str]) -> list[Contradiction]:
    """All pairs of models on which two judges contradict each other, each with the first two judges that do."""
    models, metrics = list(models), list(metrics)
    found = []
    for one, two in combinations(models, 2):
        said = {m: 1 if better(one, two, m) else -1 if better(two, one, m) else 0 for m in metrics}
        sides = {sign: next((m for m in metrics if said[m] == sign), None) for sign in (1, -1)}
        if sides[1] and sides[-1]:
            first = metrics.index(sides[1]) < metrics.index(sides[-1])
            names = (one.name, two.name) if first else (two.name, one.name)
            pair = (sides[1], sides[-1]) if first else (sides[-1], sides[1])
            found.append(Contradiction(*names, *pair))
    return found


def agreement(models: Iterable[Summary], metrics: Iterable[str]) -> float | None:
    """Mean rank correlation (Spearman) of the figures over all pairs of judges: 1 the same order, 0 none, -1 reversed.

    By values alone, without intervals; None for fewer than two judges or three models. Range [-1, 1].
    """
    metrics = list(metrics)
    known = [one for one in models if all(metric in one.figures for metric in metrics)]
    if len(metrics) < 2 or len(known) < 3:
        return None
    from scipy import stats

    figures = [[one.figures[metric].badness for one in known] for metric in metrics]
    if any(len(set(column)) < 2 for column in figures):
        return None
    return mean([float(stats.spearmanr(a, b).statistic) for a, b in combinations(figures, 2)])


def verdict(models: Iterable[Summary], metrics: list[str]) -> str:
    """Do the judges agree? One sentence for the report; '' with fewer than two judges or models."""
    models = list(models)
    if len(metrics) < 2 or len(models) < 2:
        return ""
    found, together = contradictions(models, metrics), agreement(models, metrics)
    figure = "" if together is None else f" Mean rank correlation between judges: {together:.2f} (1: the same order)."
    if not found:
        return f"No judge contradicts another on a difference that one could rely on.{figure}"
    shown = "; ".join(
        f"{judge_name(one.judge)} put {one.first} before {one.second}, {judge_name(one.other)} the reverse"
        for one in found[:3]
    )
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    pairs = len(models) * (len(models) - 1) // 2
    return f"The judges contradict each other on {len(found)} of {pairs} pairs of models: {shown}{more}.{figure}"


def ranking_table(models: list[Summary]) -> dict[str, Any] | None:
    """For the template: each model's place and figure under each judge; None with less than two of either."""
    metrics = judges(models)
    if len(metrics) < 2 or len(models) < 2:
        return None
    places = {metric: ranks(models, metric) for metric in metrics}
    lines = []
    for one in models:
        cells = []
        for metric in metrics:
            figure = one.figures.get(metric)
            text = spanned(figure.value, figure.low, figure.high)[0] if figure else ""
            cells.append((places[metric].get(one.name, "–"), text))
        lines.append({"name": one.name, "style": family_class(one.family), "cells": cells})
    return {
        "judges": [(judge_name(each), "Fréchet" if each.startswith("frechet") else "kernel") for each in metrics],
        "lines": lines,
        "verdict": verdict(models, metrics),
    }
