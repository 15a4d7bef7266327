"""What a trained model can tell beyond its samples: codes, ways between them, noise, its critic, steps and guidance.

`probes` costs a second or two and belongs to every row; `ladder` and `guided` make many samples, and are taken where
they are asked for.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from trilemma.batches import Batch, Request
from trilemma.conditions import tell
from trilemma.maths.signals import spherical
from trilemma.metrics.classes import control
from trilemma.metrics.fidelity import frechet_distance
from trilemma.metrics.latent import (
    active_units,
    bits_per_dimension,
    critic_area,
    midpoints,
    noise_left,
    path_length,
)
from trilemma.metrics.neighbours import DENSITY_NEIGHBOURS, precision_recall_density_coverage
from trilemma.metrics.protocol import Measure, records
from trilemma.modalities.contract import Data
from trilemma.models.contract import Criticizes, Decodes, Encodes, Samples, Scores
from trilemma.report.baselines import real
from trilemma.report.coding import coding
from trilemma.report.measure import SEED, Ruler
from trilemma.report.variants import HALVES, Variant, data_of
from trilemma.tasks.load import Loaded

WAYS = 200  # ways between two codes
POINTS = 9  # on each
REFERENCE = 2000  # real examples whose balls say what is plausible
NOISE = 0.5  # deviation of the noise that is put on, of data of unit variance
TEST = 500  # test examples that codes and critics are asked about
LIKELIHOODS, DEAR_LIKELIHOODS = 500, 40  # test examples whose likelihood is computed: by one call, by an ODE
STEPS = (4, 8, 16, 32, 64)
STRENGTHS = (1.0, 2.0, 4.0)  # of guidance
LADDER_SECONDS = 60.0  # for one rung of the ladder or one strength, at most


def probes(loaded: Loaded, data: Data, ruler: Ruler, samples: np.ndarray) -> dict[str, Any]:
    """Metrics by name, as records, of everything that this model's capabilities allow."""
    model = loaded.model
    found: dict[str, Measure] = {}
    with torch.no_grad(), loaded.engine.autocast():
        found |= coding(loaded, data, ruler)
        if isinstance(model, Encodes):
            codes = torch.cat([model.encode(batch).float() for batch in _test(loaded, data)]).cpu().numpy()
            if len(codes) > 1:
                found["active_units"] = active_units(codes)
        if isinstance(model, Decodes):
            found |= _between(loaded, ruler)
        if isinstance(model, Encodes) and isinstance(model, Decodes) and np.issubdtype(data.x.dtype, np.number):
            left = _denoising(loaded, data)
            found |= {} if left is None else {"denoising": left}
        if isinstance(model, Criticizes):
            found["critic"] = _critic(loaded, data, samples)
    bits = _bits(loaded, data)
    if bits is not None:
        found["bits_per_dimension"] = bits
    return records(found)


def _test(loaded: Loaded, data: Data) -> list[Batch]:
    """Test examples with their own conditions, as the model takes them."""
    count = min(TEST, len(data.splits["test"]))
    arrays, device = data.split("test"), str(loaded.engine.device)
    parts = np.array_split(np.arange(count), -(-count // 250))
    return [tell(loaded.model.spaces, arrays.gather(part, seed=SEED, device=device)) for part in parts]


def _between(loaded: Loaded, ruler: Ruler) -> dict[str, Measure]:
    """Ways between two codes of the prior under equal conditions; beside them, the mean of the two ends themselves."""
    model, sampler, index = loaded.model, loaded.sampler, np.arange(WAYS)
    assert isinstance(model, Decodes)
    ways = []
    for part in np.array_split(index, 4):
        one = sampler.request(SEED, part, options=loaded.options)
        other = sampler.request(SEED, part + WAYS, options=loaded.options)
        two = Request(other.noise, one.raw, one.present, loaded.options)
        first, second = model.draw(one), model.draw(two)
        shares = torch.linspace(0, 1, POINTS, device=first.device)
        points = [sampler.array(model.decode(spherical(first, second, t), one)) for t in shares]
        ways.append(np.stack(points, 1))
    x = np.concatenate(ways)  # (WAYS, POINTS, channels, *grid)
    features = ruler.network(x.reshape(-1, *x.shape[2:])).reshape(WAYS, POINTS, -1)
    ends = np.concatenate([features[:, 0], features[:, -1]])
    # Half-way between the ends in the data's own units: what no code is needed for.
    mixed = (x[:, 0].astype(np.float64) + x[:, -1]) / 2
    mixed = (mixed.round() if np.issubdtype(x.dtype, np.integer) else mixed).astype(x.dtype)
    found = {"path_length": path_length(features)}
    real = ruler.features[:REFERENCE]
    if len(real) > DENSITY_NEIGHBOURS:
        found["midpoints"] = midpoints(real, ends, between=features[:, POINTS // 2])
        found["mixed_midpoints"] = midpoints(real, ends, between=ruler.network(mixed), name="mixed_midpoints")
    return found


def _bits(loaded: Loaded, data: Data) -> Measure | None:
    """Bits per dimension of unseen examples, where a likelihood exists and the data have levels, such as 8-bit pixels.

    A discretised likelihood is a probability as it is; a density becomes a bound of one on examples with uniform noise
    of one level (Theis et al. 2016, eq. 4). Of a score under a label the label's own share is a part.
    """
    model, space = loaded.model, loaded.space
    step = getattr(space, "step", None)  # codes of an autoencoder have none
    if not isinstance(model, Scores) or step is None or not space.grid:
        return None
    likelihood = loaded.config["config"].get("likelihood")
    if likelihood == "bernoulli":
        return None
    arrays, device, scores = data.split("test"), str(loaded.engine.device), []
    most = DEAR_LIKELIHOODS if "steps" in loaded.config["config"] else LIKELIHOODS
    for places in np.array_split(np.arange(min(most, len(data.splits["test"]))), max(most // 20, 1)):
        if not len(places):
            continue
        batch = tell(model.spaces, arrays.gather(places, seed=SEED, device=device))
        if likelihood != "discretised":
            grain = batch.noise.uniform(*batch.x.shape[1:]) - 0.5
            batch = replace(batch, x=batch.x.float() + step * grain)
        score = model.score(batch).detach().double()
        for name, shares in loaded.shares().items():
            if bool(batch.present[name].all()):
                score = score + shares[batch.raw[name][:, 0]].double().log()
        scores.append(score.cpu().numpy())
    unit = 1.0 if likelihood == "discretised" else step
    return bits_per_dimension(np.concatenate(scores), math.prod(space.shape), step=unit)


def _denoising(loaded: Loaded, data: Data) -> Measure | None:
    """What reconstructions of noisy test examples leave of the noise; None where rounding took it all away."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    space = loaded.space
    for batch in _test(loaded, data):
        x = space.embed(batch.x)
        noisy = loaded.sampler.array(space.decode(x + NOISE * batch.noise.normal(*x.shape[1:])))
        again = loaded.sampler.reconstruct(replace(batch, x=torch.from_numpy(noisy).to(batch.x.device)))
        parts.append((loaded.sampler.array(batch.x), noisy, again))
    clean, noisy, again = (np.concatenate(each) for each in zip(*parts, strict=True))
    return None if np.array_equal(clean, noisy) else noise_left(clean, noisy, again=again)


def _critic(loaded: Loaded, data: Data, samples: np.ndarray) -> Measure:
    """Its scores of unseen real data and of the model's own samples, under their own conditions."""
    model = loaded.model
    assert isinstance(model, Criticizes)
    real = [model.criticize(batch).float().cpu().numpy() for batch in _test(loaded, data)]
    made = []
    for part in np.array_split(np.arange(min(TEST, len(samples))), 2):
        request = loaded.sampler.request(SEED, part)
        x = torch.from_numpy(np.ascontiguousarray(samples[part])).to(loaded.engine.device)
        index = torch.from_numpy(part).to(loaded.engine.device)
        batch = Batch(x=x, noise=request.noise, index=index, raw=request.raw, present=request.present)
        made.append(model.criticize(batch).float().cpu().numpy())
    return critic_area(np.concatenate(real), np.concatenate(made))


def quick(ruler: Ruler, samples: np.ndarray) -> dict[str, Any]:
    """The few metrics of a point on a curve: distance, and the four that count neighbours."""
    return of_features(ruler, ruler.network(samples))


def drifted(ruler: Ruler, data: Data, variant: Variant, *, seed: int) -> dict[str, Any]:
    """What real training examples of each half would get instead of samples: by how much the data themselves change."""
    halves = {half: data_of(replace(variant, half=half), data) for half in HALVES}
    return {half: quick(ruler, real(part, ruler.count, seed=seed)) for half, part in halves.items()}


def of_features(ruler: Ruler, features: np.ndarray) -> dict[str, Any]:
    """`quick`, of samples whose features (n, D) are there already."""
    found = {"frechet": frechet_distance(ruler.shaped, ruler.network.shaped(features))}
    if min(len(ruler.features), len(features)) >= 10:
        found |= precision_recall_density_coverage(ruler.features, features)
    return records(found)


def _affordable(seconds_each: float, most: int) -> int:
    """How many samples a rung may cost; the same on all rungs of a ladder, for a distance changes with the count."""
    return int(np.clip(LADDER_SECONDS / max(seconds_each, 1e-9), 100, most))


def ladder(loaded: Loaded, ruler: Ruler, samplers: tuple[str, ...]) -> list[dict[str, Any]]:
    """Quality over the number of steps: {'sampler', 'steps', 'calls', 'samples', 'samples_per_second', 'metrics'}.

    The samples of all rungs begin with the same noise and labels, so that differences are those of the steps.
    """
    model = loaded.model
    assert isinstance(model, Samples)
    start = time.perf_counter()
    loaded.sampler.samples(16, seed=SEED, options=replace(loaded.options, sampler=samplers[0], steps=max(STEPS)))
    count = _affordable((time.perf_counter() - start) / 16, min(1000, ruler.count))
    rungs = []
    for sampler in samplers:
        for steps in STEPS:
            options = replace(loaded.options, sampler=sampler, steps=steps)
            start = time.perf_counter()
            x = loaded.sampler.samples(count, seed=SEED, options=options)
            seconds = time.perf_counter() - start
            rungs.append(
                {
                    "sampler": sampler,
                    "steps": steps,
                    "calls": model.calls(options),
                    "samples": count,
                    "samples_per_second": count / seconds,
                    "metrics": quick(ruler, x),
                }
            )
    return rungs


def guided(loaded: Loaded, ruler: Ruler) -> list[dict[str, Any]]:
    """Quality, variety and control over the strength of guidance: {'guidance', 'samples', 'metrics'}."""
    if ruler.reader is None and ruler.attributes is None and ruler.text is None:
        return []
    start = time.perf_counter()
    loaded.sampler.samples(16, seed=SEED, options=replace(loaded.options, guidance=max(STRENGTHS)))
    count = _affordable((time.perf_counter() - start) / 16, min(1000, ruler.count))
    asked = loaded.sampler.labels(SEED, np.arange(count))
    points = []
    for strength in STRENGTHS:
        # At all levels of noise: an interval is there to keep what guidance costs.
        options = replace(loaded.options, guidance=strength, interval=(0.0, math.inf))
        x = loaded.sampler.samples(count, seed=SEED, options=options)
        features = ruler.network(x)
        metrics = of_features(ruler, features)
        if asked is not None and ruler.reader is not None:
            metrics["control"] = control(asked[:, 0], ruler.reader.predict(features)).record()
        if ruler.attributes is not None:
            metrics |= records(ruler.attributes.of_model(loaded, features, SEED))
        if ruler.text is not None:
            metrics |= records(ruler.text.of_model(loaded, x, SEED, options))
        points.append({"guidance": strength, "samples": count, "metrics": metrics})
    return points
