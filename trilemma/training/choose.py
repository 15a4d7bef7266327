"""Choices at the end of a training, made on the choose split: which average of the weights, how to sample.

The features are those of the network for choices; the test split and the network that measures are never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import reduce
from typing import Any

import numpy as np

from trilemma.batches import Options
from trilemma.metrics.translation import both, map_distances, relative, unrelated_distances
from trilemma.mixed import Mixed
from trilemma.modalities.contract import Data
from trilemma.models.contract import Samples
from trilemma.spaces import Continuous
from trilemma.training.average import usual
from trilemma.training.features import FeatureNetwork, feature_network
from trilemma.training.loop import Loop
from trilemma.training.sampling import Sampler, merged, recodes

Judge = Callable[[np.ndarray], tuple[float, dict[str, float]]]  # of raw samples: what decides, all figures by name
REFERENCE = 5000  # most examples of the choose split
FIT = 5000  # codes behind a density that is only compared
PARTNERS = 500  # most samples that are held against their own partners: a mean needs fewer than a distance of sets,
CHUNK = 250  # and pictures whose feature maps are held at once
SEED = 0x63686F6F7365
KNEE = 500  # samples for each number of steps, when that is all that is looked for
RUNGS = (1 / 3, 1 / 2, 2 / 3, 1, 4 / 3, 2)  # of the model's own number of steps
TIE = 0.02  # distances that differ by less are equal: the cheaper way to sample wins


def default_samples(model: Samples) -> int:
    """Samples behind each choice when no clock decides: fewer where one costs many network calls."""
    return max(256, min(2000, 24_000 // model.calls(Options())))


def defaults(model: Samples) -> Options:
    """The first answer to each of the model's questions."""
    return reduce(merged, (question[0] for question in model.choices()), Options())


def asked(model: Samples, *, few: bool) -> list[list[Options]]:
    """The questions with their answers; of `few` three answers to the first question, of which the third is asked only
    where the first beats the second."""
    questions = model.choices()
    return [question[:3] for question in questions[:1]] if few else questions


def attempts(model: Samples, averages: int, *, few: bool) -> float:
    """What is tried, in units of sampling with the model's own settings as often as for one figure."""
    start = defaults(model)
    answers = [merged(start, answer) for question in asked(model, few=few) for answer in question[1:]]
    calls = averages * model.calls(start) + sum(model.calls(answer) for answer in answers)
    return calls / model.calls(Options())


def cheapest(figures: list[float], calls: list[int]) -> int:
    """Which answer to take: of those as good as the best one, but for TIE, the one with the fewest network calls."""
    good = [i for i, value in enumerate(figures) if value <= (1 + TIE) * min(figures)]
    return min(good, key=lambda i: (calls[i], figures[i]))


def judge(data: Data, features: FeatureNetwork, *, most: int = REFERENCE) -> Judge:
    """What tells of raw samples the figure that decides, less is better, and all figures by name.

    It is the Frechet distance to the choose split (the first `most` of it), and of pairs the distances to the partners
    and to the targets as a set, half of each, as reports rank by (`both`): sample i is then made from choose source i,
    over and over again.
    """
    from trilemma.metrics.fidelity import frechet_distance  # and scipy, which only choices wait for

    rows, reference = data.splits["choose"], features(data.rows("choose", most))
    shaped, paired = features.shaped(reference), "source" in data.conditions
    unrelated = unrelated_distances(features.maps(data.rows("choose", CHUNK))) if paired else np.zeros(0)

    def figures(samples: np.ndarray) -> tuple[float, dict[str, float]]:
        distance, apart = frechet_distance(shaped, features.shaped(features(samples))), []
        if not paired:
            return distance.value, {"frechet": distance.value}
        for start in range(0, min(len(samples), PARTNERS), CHUNK):
            made = features.maps(samples[start : start + CHUNK])
            own = rows[np.arange(start, start + len(made[0])) % len(rows)]
            apart.append(map_distances(features.maps(data.x[own]), made))
        near = relative(np.concatenate(apart), unrelated, "perceptual", "lower")
        whole = both(near, distance, float(reference.var(0).sum()))
        named = {"frechet": distance.value, "perceptual": near.value, "translation": whole.value}
        return whole.value, named

    return figures


def fewest_steps(data: Data, sampler: Sampler, option: Options, *, default: int, quiet: bool) -> dict[str, Any]:
    """The knee of quality over sampler steps on the choose split: {"steps", "samples", "features", "tried"}."""
    model, space = sampler.model, sampler.model.space
    assert isinstance(model, Samples)
    if isinstance(space, Mixed) or (isinstance(space, Continuous) and space.in_time):
        # Distances do not see what more steps bring to a table or a series: the width of its law.
        return {"steps": default, "reason": "laws of tables and series want all of the model's steps", "tried": []}
    from trilemma.metrics.fidelity import frechet_distance

    features = feature_network(data, "choose", quiet=quiet)
    reference = features.shaped(features(data.rows("choose", REFERENCE)))
    answers = [replace(option, steps=count) for count in sorted({max(round(default * k), 2) for k in RUNGS})]
    tried: list[dict[str, Any]] = []
    for answer in answers:
        made = features(sampler.samples(KNEE, seed=SEED, options=answer))
        value = frechet_distance(reference, features.shaped(made)).value
        tried.append({"steps": answer.steps, "calls": model.calls(answer), "frechet": value})
    taken = cheapest([row["frechet"] for row in tried], [row["calls"] for row in tried])
    return {"steps": tried[taken]["steps"], "samples": KNEE, "features": features.name, "tried": tried}


def choose(loop: Loop, data: Data, sampler: Sampler, *, quiet: bool) -> tuple[str | None, Options, dict[str, Any]]:
    """(average, options, what was tried): the best average with default options, then the model's questions in turn.

    Of answers that are as good as the best one, but for TIE, the one with the fewest network calls is taken. A model
    that codes for another one is judged by how it gives back the examples of that split.
    `training.choose_few` keeps the model's usual average and asks the first question only, for its first two answers;
    the third is tried where the first of them won: where guidance helps, more of it may help more.
    """
    training, model = loop.training, loop.model
    assert isinstance(model, Samples)
    train, keys = data.split("train"), list(loop.averages.exponents)
    default = usual(training.averages, loop.model.average)
    count = default_samples(model) if training.choose_samples is None else training.choose_samples
    option = defaults(model)
    if training.choose_few and default:
        keys = [default]
    if count < 100 or len(data.splits["choose"]) < 32 or not keys:
        return default, option, {"reason": "too few samples or examples to choose by: defaults taken"}
    features = feature_network(data, "choose", quiet=quiet)
    figures_of, tried = judge(data, features, most=count if recodes(model) else REFERENCE), []

    def figure(key: str, option: Options) -> float:
        value, found = figures_of(sampler.judged(data.split("choose"), count, seed=SEED + loop.seed, options=option))
        named = {name: v for name, v in asdict(option).items() if v is not None}
        tried.append({"average": key, **named, "calls": model.calls(option), **found})
        return value

    few, values = min(training.fit_examples, FIT), {}
    for key in keys:
        with loop.averages.applied(model, key):
            if not recodes(model):
                sampler.fit(train, seed=loop.seed, limit=few)
            values[key] = figure(key, option)
    best = min(values, key=lambda key: values[key])
    current, questions = values[best], asked(model, few=training.choose_few)
    with loop.averages.applied(model, best):
        if any(len(question) > 1 for question in questions):
            sampler.fit(train, seed=loop.seed, limit=few)
        for question in questions:
            answers = [merged(option, answer) for answer in question]
            figures, calls = [current], [model.calls(answer) for answer in answers]
            for answer in answers[1:]:
                if training.choose_few and len(figures) == 2 and cheapest(figures, calls) == 1:
                    break
                figures.append(figure(best, answer))
            taken = cheapest(figures, calls)
            option, current = answers[taken], figures[taken]
    return best, option, {"samples": count, "features": features.name, "hash": features.hash, "tried": tried}
