"""Choices at the end of a training, made on the choose split: which average of the weights, how to sample.

The features are those of the network for choices; the test split and the network that measures are never touched.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trilemma.batches import Options
from trilemma.metrics.fidelity import frechet_distance
from trilemma.modalities.contract import Data
from trilemma.models.contract import Samples
from trilemma.training.features import feature_network
from trilemma.training.loop import Loop
from trilemma.training.sampling import Sampler

REFERENCE = 5000  # most examples of the choose split
FIT = 5000  # codes behind a density that is only compared
SEED = 0x63686F6F7365


def default_samples(model: Samples) -> int:
    """Samples behind each choice when no clock decides: fewer where one costs many network calls."""
    return max(256, min(2000, 24_000 // model.calls(Options())))


def choose(loop: Loop, data: Data, sampler: Sampler, *, quiet: bool) -> tuple[str | None, Options, dict[str, Any]]:
    """(average, options, what was tried): the best average with default options, then the best options with it.

    `training.choose_few` keeps the middle average and tries the first two options only.
    """
    training, model = loop.training, loop.model
    assert isinstance(model, Samples)
    train, keys = data.split("train"), list(loop.averages.exponents)
    default = keys[len(keys) // 2] if keys else None
    count = default_samples(model) if training.choose_samples is None else training.choose_samples
    options = model.choices()
    if training.choose_few:
        keys, options = keys[len(keys) // 2 :][:1], options[:2]
    if count < 100 or len(data.splits["choose"]) < 32 or not keys:
        return default, options[0], {"reason": "too few samples or examples to choose by: defaults taken"}
    features = feature_network(data, "choose", quiet=quiet)
    reference = features(data.rows("choose", REFERENCE))
    tried: list[dict[str, Any]] = []

    def figure(key: str, option: Options) -> float:
        samples = sampler.samples(count, seed=SEED + loop.seed, options=option)
        value = frechet_distance(reference, features(samples)).value
        asked = {name: v for name, v in asdict(option).items() if v is not None}
        tried.append({"average": key, **asked, "frechet": value})
        return value

    few, values = min(training.fit_examples, FIT), {}
    for key in keys:
        with loop.averages.applied(model, key):
            sampler.fit(train, seed=loop.seed, limit=few)
            values[key] = figure(key, options[0])
    best = min(values, key=lambda key: values[key])
    with loop.averages.applied(model, best):
        if len(options) > 1:
            sampler.fit(train, seed=loop.seed, limit=few)
        by_option = [values[best], *(figure(best, option) for option in options[1:])]
    option = options[min(range(len(options)), key=lambda i: by_option[i])]
    return best, option, {"samples": count, "features": features.name, "hash": features.hash, "tried": tried}
