"""Do 95 % intervals cover? 200 repeats on known distributions for every metric that prints an interval.

The estimand is the metric's expectation at the counts that were measured, over new draws of all sets (reference and
samples; training, held-out and sampled sets for memorisation): estimated by the mean over the repeats. An interval
covers if that mean lies in it. A share over 200 repeats has a standard error of 1.5 % at 95 %, so that a single row is
known to about 3 %; the bar, 90 to 98 %, is for each metric pooled over its rows.

    .venv/bin/python benchmarks/coverage.py --out FOLDER [--repeats 200] [--only frechet,kernel] [--cases "few samples"]

`width` is the mean width over that of an exact normal interval, 3.92 deviations of the metric over the repeats: about 1
where the interval is honest, more where it covers by size, 'stuck' where
the figure hardly leaves its bound. `below` and `above`: shares of the repeats in which the
expectation lies below and above the interval. `printed`: share of repeats with an interval at all. Each row is written
when it is done; rows that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from trilemma.metrics.classes import control, mean_control
from trilemma.metrics.classifier import two_sample_test
from trilemma.metrics.control import changed_as_asked, kept, perceptual_path_length
from trilemma.metrics.fidelity import frechet_distance, kernel_distance
from trilemma.metrics.latent import bits_per_dimension, critic_area, midpoints, noise_left, path_length
from trilemma.metrics.matching import caption_score, found_among
from trilemma.metrics.memorisation import memorisation
from trilemma.metrics.neighbours import precision_recall_density_coverage
from trilemma.metrics.pixels import (
    mean_distance_between_pairs,
    modes_found,
    reconstruction_error,
    sharpness,
    spectrum_distance,
)
from trilemma.metrics.privacy import attribute_gain, closer_to_train, exact_copies, membership
from trilemma.metrics.protocol import Measure
from trilemma.metrics.signatures import signature_distance
from trilemma.metrics.translation import map_agreement, psnr, ssim
from trilemma.metrics.variety import vendi_score
from trilemma.metrics.windows import discriminative_score, predictive_score

Draw = Callable[[np.random.Generator, int, int], np.ndarray]  # generator, count, dimension -> (count, dimension)


# ------------------------------------------------------------------------------------------- distributions


def gaussian(generator: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Independent directions with deviations from 1 down to 0.3, as features have."""
    return generator.normal(size=(count, dimension)) * np.linspace(1, 0.3, dimension)


def shifted(generator: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return gaussian(generator, count, dimension) + 0.5 / dimension**0.5


def scaled(generator: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return 1.4 * gaussian(generator, count, dimension)


def four_modes(generator: np.random.Generator, count: int, dimension: int, modes: int = 4) -> np.ndarray:
    centres = 4 * np.random.default_rng(7).normal(size=(4, dimension)) / dimension**0.5
    return centres[generator.integers(modes, size=count)] + 0.5 * generator.normal(size=(count, dimension))


def three_modes(generator: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return four_modes(generator, count, dimension, modes=3)


def rectified(generator: np.random.Generator, count: int, dimension: int, rate: float = 1.0) -> np.ndarray:
    """Mostly small, sometimes large, never negative and with a common factor: as the features of a network are."""
    weights = np.random.default_rng(8).normal(size=(8, dimension))
    hidden = generator.laplace(size=(count, 8)) @ weights / 8**0.5
    return np.maximum(rate * hidden + 0.5 * generator.laplace(size=(count, dimension)), 0)


def rectified_more(generator: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return rectified(generator, count, dimension, rate=1.2)


def student(generator: np.random.Generator, count: int, dimension: int, rate: float = 1.0) -> np.ndarray:
    """As `rectified`, with Student's t of 4 degrees of freedom: no fourth moment, so that no variance is ever known."""
    weights = np.random.default_rng(8).normal(size=(8, dimension))
    hidden = generator.standard_t(4, size=(count, 8)) @ weights / 8**0.5
    return np.maximum(rate * hidden + 0.5 * generator.standard_t(4, size=(count, dimension)), 0)


def student_more(generator: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return student(generator, count, dimension, rate=1.2)


def pictures(generator: np.random.Generator, count: int, side: int, blur: float = 0.6) -> np.ndarray:
    """Smooth grey fields (count, 1, side, side) whose contrast differs from one to the next."""
    fields = ndimage.gaussian_filter(generator.normal(size=(count, 1, side, side)), (0, 0, blur, blur), mode="wrap")
    return fields * np.exp(0.4 * generator.normal(size=(count, 1, 1, 1)))


def blurred_pictures(generator: np.random.Generator, count: int, side: int) -> np.ndarray:
    return pictures(generator, count, side, blur=0.8)


def series(generator: np.random.Generator, count: int, length: int) -> np.ndarray:
    return generator.laplace(size=(count, 2, length)).cumsum(2)


# ------------------------------------------------------------------------------------------- metrics by case


@dataclass(frozen=True)
class Case:
    name: str
    reference: Draw
    samples: Draw
    n: int
    m: int
    dimension: int

    def __str__(self) -> str:
        return f"{self.name}, {self.n} v {self.m}, {self.dimension}-d"


EQUAL_2 = Case("equal", gaussian, gaussian, 200, 200, 2)
EQUAL_16 = Case("equal", gaussian, gaussian, 500, 500, 16)
EQUAL_64 = Case("equal", gaussian, gaussian, 1000, 500, 64)
SHIFTED = Case("shifted mean", gaussian, shifted, 500, 500, 16)
SCALED_2 = Case("other scale", gaussian, scaled, 200, 200, 2)
SCALED_64 = Case("other scale", gaussian, scaled, 200, 200, 64)
LOST_2 = Case("missing mode", four_modes, three_modes, 500, 500, 2)
LOST_16 = Case("missing mode", four_modes, three_modes, 1000, 2000, 16)
HEAVY_16 = Case("heavy tails, equal", rectified, rectified, 500, 500, 16)
HEAVY_64 = Case("heavy tails, other scale", rectified, rectified_more, 500, 500, 64)
STUDENT_16 = Case("no fourth moment, equal", student, student, 500, 500, 16)
STUDENT_64 = Case("no fourth moment, other scale", student, student_more, 500, 500, 64)
FEW = Case("fewer than dimensions", gaussian, scaled, 60, 60, 100)
ALL = (
    EQUAL_2, EQUAL_16, EQUAL_64, SHIFTED, SCALED_2, SCALED_64, LOST_2, LOST_16, HEAVY_16, HEAVY_64, FEW, STUDENT_16,
    STUDENT_64,
)  # fmt: skip
SMALL = (EQUAL_2, EQUAL_16, SHIFTED, SCALED_2, LOST_2, HEAVY_16)
TRAINED = (  # few rows, for a classifier is trained five times a repeat
    EQUAL_2,
    SCALED_2,
    Case("equal", gaussian, gaussian, 150, 150, 8),
    Case("shifted mean", gaussian, shifted, 150, 150, 8),
    Case("missing mode", four_modes, three_modes, 200, 300, 2),
)
PICTURES = (
    Case("equal", pictures, pictures, 200, 200, 16),
    Case("equal", pictures, pictures, 1000, 2000, 8),
    Case("blurred", pictures, blurred_pictures, 500, 500, 12),
    Case("blurred", pictures, blurred_pictures, 200, 200, 8),
    Case("series, heavy tails", series, series, 500, 500, 64),
)
SHARES = tuple(
    Case(f"share {share}", gaussian, gaussian, count, count, 1)
    for count, share in ((200, 0.5), (200, 0.9), (500, 0.97), (2000, 0.99), (1000, 0.8))
)
# Small sets, for which intervals are printed too: the test split of the digits against a handful of samples, and a
# handful of real examples against 200 ways between codes.
FEW_SAMPLES, FEW_REAL = (
    tuple(
        Case(f"few samples, {name}", reference, samples, n, m, dimension)
        for n, m in counts
        for name, reference, samples, dimension in (
            ("equal", gaussian, gaussian, 16),
            ("other scale", gaussian, scaled, 64),
            ("missing mode", four_modes, three_modes, 2),
            ("heavy tails, equal", rectified, rectified, 16),
            ("heavy tails, other scale", rectified, rectified_more, 64),
        )
    )
    for counts in (((189, 12), (189, 20)), ((40, 200), (189, 200)))
)
FEW_PICTURES = tuple(
    Case(f"few samples, {name}", reference, samples, 189, count, side)
    for count in (6, 12)
    for name, reference, samples, side in (
        ("equal", pictures, pictures, 8),
        ("blurred", pictures, blurred_pictures, 16),
        ("series, heavy tails", series, series, 64),
    )
)
FEW_EXAMPLES = tuple(  # of metrics of pairs, which have no other side
    Case(f"few samples, {name}", draw, draw, count, count, 16)
    for count in (6, 12, 20)
    for name, draw in (("equal", gaussian), ("heavy tails, equal", rectified))
)
FEW_SHARES = tuple(
    Case(f"share {share} of few samples", gaussian, gaussian, count, count, 1)
    for count in (12, 20)
    for share in (0.5, 0.8, 0.95)
)


def of_control(case: Case, generator: np.random.Generator) -> Measure:
    share = float(case.name.split()[1])
    asked = generator.integers(10, size=case.n)
    return control(asked, np.where(generator.random(case.n) < share, asked, (asked + 1) % 10))


def of_modes(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    share = float(case.name.split()[1])
    samples = np.where(generator.random((case.n, 1)) < share, 0.0, 9.0) + np.array([[0.0, 0.0]])
    return modes_found(samples, np.array([[0.0, 0.0], [50.0, 0.0]]), 1.0)


def of_memorisation(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    """The training set is twice the held-out one, n; a tenth of the samples are copies where the name says so."""
    train = case.reference(generator, 2 * case.n, case.dimension)
    samples = case.samples(generator, case.m, case.dimension)
    if "copies" in case.name:
        copied = generator.random(case.m) < 0.1
        samples[copied] = train[generator.integers(len(train), size=int(copied.sum()))]
    found = memorisation(train, case.reference(generator, case.n, case.dimension), samples)
    return {"memorisation": found["ratio"], "near_copies": found["near_copies"]}


def of_reconstruction(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    x = case.reference(generator, case.n, case.dimension)
    loudness = np.abs(case.samples(generator, case.n, case.dimension)).mean(1, keepdims=True)
    return reconstruction_error(x, x + loudness * generator.normal(size=x.shape), span=1.0)


def of_sets(metric: Callable[..., Any]) -> Callable[[Case, np.random.Generator], Any]:
    def draw(case: Case, generator: np.random.Generator) -> Any:
        return metric(
            case.reference(generator, case.n, case.dimension), case.samples(generator, case.m, case.dimension)
        )

    return draw


def of_midpoints(case: Case, generator: np.random.Generator) -> Measure:
    """The points between are means of pairs of further samples, the ends as many again."""
    reference = case.reference(generator, case.n, case.dimension)
    ends, first, second = (case.samples(generator, case.m, case.dimension) for _ in range(3))
    return midpoints(reference, ends, between=(first + second) / 2)


def of_ways(case: Case, generator: np.random.Generator) -> Measure:
    """Nine points on each way: straight from one sample to another, with a wiggle as loud as the ends are apart."""
    first, second = (case.samples(generator, case.m, case.dimension)[:, None] for _ in range(2))
    t = np.linspace(0, 1, 9)[None, :, None]
    wiggle = generator.normal(size=(case.m, 9, case.dimension)) * np.abs(second - first) * np.sin(np.pi * t)
    return path_length(first + t * (second - first) + 0.2 * wiggle)


def of_noise(case: Case, generator: np.random.Generator) -> Measure:
    x = case.reference(generator, case.n, case.dimension)
    noise = 0.5 * generator.normal(size=x.shape)
    loudness = np.abs(case.samples(generator, case.n, case.dimension)).mean(1, keepdims=True)
    return noise_left(x, x + noise, again=x + 0.3 * noise + 0.2 * loudness * generator.normal(size=x.shape))


def of_scores(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    """First coordinates stand for a critic's scores, sums of squares for log-likelihoods."""
    real, made = case.reference(generator, case.n, case.dimension), case.samples(generator, case.m, case.dimension)
    bits = bits_per_dimension(-np.square(real).sum(1), case.dimension)
    return {"critic": critic_area(real[:, 0], made[:, 0] - 0.5), "bits_per_dimension": bits}


def of_attributes(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    """Three attributes that come right together more often than by chance, some of them not asked for; and changes."""
    share = float(case.name.split()[1])
    easy = generator.random((case.n, 1)) < 0.5
    hits = (generator.random((case.n, 3)) < np.where(easy, min(share + 0.2, 1), share - 0.2)).astype(float)
    hits[generator.random(hits.shape) < 0.2] = np.nan
    before = generator.integers(10, size=(case.n, 2))
    moved = generator.random((case.n, 1)) >= share
    after = np.where(moved, before + 1, before)
    return {
        "attributes": mean_control(hits),
        "changed": changed_as_asked(before[:, 0], after[:, 0]),
        "kept": kept(before, after),
    }


def of_small_ways(case: Case, generator: np.random.Generator) -> Measure:
    here = case.reference(generator, case.n, case.dimension)
    step = 0.01 * case.samples(generator, case.n, case.dimension)
    return perceptual_path_length(here, here + step, step=0.01)


def of_matching(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    """Two noisy views of each example, one for its caption; a tenth of the captions are another one's."""
    own = case.reference(generator, case.n, case.dimension)
    views = [own + 0.7 * case.samples(generator, case.n, case.dimension) for _ in range(2)]
    kinds = np.where(generator.random(case.n) < 0.1, generator.integers(case.n, size=case.n), np.arange(case.n))
    views[1] = views[1][kinds]
    views = [view / np.linalg.norm(view, axis=1, keepdims=True) for view in views]
    cosines = views[1] @ views[0].T
    return {
        "retrieval_1": found_among(cosines, kinds, most=1, name="retrieval_1"),
        "retrieval_5": found_among(cosines, kinds, most=5, name="retrieval_5"),
        "clip_score": caption_score(np.diagonal(cosines)),
    }


def of_privacy(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    """Rows of numbers; a tenth of the samples are copies of training rows where the name says so."""
    train, unseen = (case.reference(generator, case.n, case.dimension) for _ in range(2))
    samples = case.samples(generator, case.m, case.dimension)
    if "copies" in case.name:
        copied = generator.random(case.m) < 0.1
        samples[copied] = train[generator.integers(len(train), size=int(copied.sum()))]
    kinds = tuple((x[:, -1] > 0).astype(float) for x in (train, unseen, samples))
    rest = [x[:, :-1] for x in (train, unseen, samples)]
    return {
        "exact_copies": exact_copies(train, samples),
        "membership": membership(train, unseen, samples),
        "attribute_gain": attribute_gain(*rest, (kinds[0], kinds[1], kinds[2])),
        "closer_to_train": closer_to_train(train, unseen, samples, [True] * case.dimension),
    }


def walks(generator: np.random.Generator, count: int, length: int, memory: float = 0.7) -> np.ndarray:
    """Windows (count, length, 2) of an autoregression with heavy tails, each by itself."""
    x = generator.laplace(size=(count, length, 2))
    for step in range(1, length):
        x[:, step] += memory * x[:, step - 1]
    return x


def other_walks(generator: np.random.Generator, count: int, length: int) -> np.ndarray:
    return walks(generator, count, length, memory=0.5)


def of_windows(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    real, made = case.reference(generator, case.n, case.dimension), case.samples(generator, case.m, case.dimension)
    predictive = predictive_score(real, made)
    assert predictive is not None
    return {**discriminative_score(real, made), "predictive": predictive}


def of_translations(case: Case, generator: np.random.Generator) -> dict[str, Measure]:
    """Pictures and the same under noise of a loudness of their own; maps of three classes and how they are read."""
    x = pictures(generator, case.n, case.dimension)
    made = x + 0.3 * np.exp(0.5 * generator.normal(size=(case.n, 1, 1, 1))) * generator.normal(size=x.shape)
    maps = np.digitize(x, [-0.3, 0.6])
    wrong = generator.random(maps.shape) < 0.2 * generator.random((case.n, 1, 1, 1))
    read = np.where(wrong, generator.integers(3, size=maps.shape), maps)
    return {
        "psnr (outputs)": psnr(x, made, span=4.0),
        "ssim": ssim(x, made, span=4.0),
        "agreement": map_agreement(maps, read, 3),
    }


WALKS = (
    Case("equal walks", walks, walks, 200, 200, 24),
    Case("other memory", walks, other_walks, 200, 200, 24),
    Case("other memory", walks, other_walks, 500, 300, 12),
)
COPIES = tuple(
    Case(f"{each.name}, copies", each.reference, each.samples, each.n, each.m, each.dimension)
    for each in (EQUAL_16, HEAVY_16)
)
GAUSSIANS = (EQUAL_2, EQUAL_16, HEAVY_16, HEAVY_64)
OF_EXAMPLES = (*GAUSSIANS, STUDENT_16)
FAMILIES: dict[str, tuple[Callable[[Case, np.random.Generator], Any], tuple[Case, ...]]] = {
    "frechet": (of_sets(frechet_distance), (*ALL, *FEW_SAMPLES)),
    "kernel": (of_sets(kernel_distance), (*ALL, *FEW_SAMPLES)),
    "neighbours": (of_sets(precision_recall_density_coverage), (*ALL, *FEW_SAMPLES)),
    "vendi": (of_sets(vendi_score), (*ALL, *FEW_SAMPLES)),
    "diversity": (of_sets(mean_distance_between_pairs), (*ALL, *FEW_SAMPLES)),
    "classifier": (of_sets(two_sample_test), (*TRAINED, *(case for case in FEW_SAMPLES if case.dimension < 64))),
    "memorisation": (of_memorisation, (*SMALL, EQUAL_64, SCALED_64, *COPIES, *FEW_SAMPLES)),
    "sharpness": (of_sets(sharpness), (*PICTURES, *FEW_PICTURES)),
    "spectrum": (of_sets(spectrum_distance), (*PICTURES, *FEW_PICTURES)),
    "reconstruction": (of_reconstruction, (*OF_EXAMPLES, *FEW_EXAMPLES)),
    "control": (of_control, (*SHARES, *FEW_SHARES)),
    "modes": (of_modes, (*SHARES, *FEW_SHARES)),
    "midpoints": (of_midpoints, (*GAUSSIANS, *FEW_REAL)),
    "ways": (of_ways, OF_EXAMPLES),
    "noise": (of_noise, (*OF_EXAMPLES, *FEW_EXAMPLES)),
    "attributes": (of_attributes, (*SHARES[:2], *SHARES[-1:], *FEW_SHARES)),
    "small ways": (of_small_ways, OF_EXAMPLES),
    "matching": (of_matching, (EQUAL_16, HEAVY_64, Case("few", gaussian, gaussian, 150, 150, 16), *FEW_EXAMPLES)),
    "privacy": (of_privacy, (EQUAL_16, SHIFTED, HEAVY_16, SCALED_2, *COPIES, *FEW_SAMPLES)),
    "signature": (of_sets(signature_distance), WALKS),
    "windows": (of_windows, WALKS),
    "translations": (
        of_translations,
        tuple(case for case in PICTURES if case.reference is pictures)
        + tuple(Case("few samples, equal", pictures, pictures, count, count, 16) for count in (6, 12)),
    ),
    "scores": (of_scores, (*OF_EXAMPLES, *FEW_EXAMPLES)),
}


def repeat(family: str, case: Case, repeats: int, seed: int) -> list[dict[str, Any]]:
    """One row for each interval that the metric prints in this case."""
    begun = time.perf_counter()
    found: dict[str, list[Measure]] = {}
    for number in range(repeats):
        generator = np.random.default_rng([seed, number, zlib.crc32(str(case).encode())])
        answer = FAMILIES[family][0](case, generator)
        for name, measure in (answer if isinstance(answer, dict) else {answer.name: answer}).items():
            found.setdefault(name, []).append(measure)
    seconds = (time.perf_counter() - begun) / repeats
    rows = []
    for name, measures in found.items():
        values = np.array([each.value for each in measures])
        values = values[np.isfinite(values)]  # the others cannot be said
        told = [(each.low, each.high) for each in measures if each.low is not None and each.high is not None]
        row = {"family": family, "metric": name, "case": str(case), "repeats": repeats, "printed": len(told) / repeats}
        row["seconds"] = seconds
        if len(values) > 1:
            row |= {"expectation": float(values.mean()), "deviation": float(values.std(ddof=1))}
        if told and len(values) > 1:
            low, high = np.array(told).T
            below, above = values.mean() < low, values.mean() > high
            row |= {"below": float(below.mean()), "above": float(above.mean())}
            row["covers"] = 1 - row["below"] - row["above"]
            # A figure that sticks to its bound (a recall of 1) has no deviation to hold a width against.
            sticks = values.std(ddof=1) < 1e-3 * (high - low).mean()
            row["width"] = None if sticks else float((high - low).mean() / (3.92 * values.std(ddof=1)))
        rows.append(row)
    return rows


def width(row: dict[str, Any]) -> str:
    return "stuck" if row["width"] is None else f"{row['width']:.2f}"


def table(rows: list[dict[str, Any]]) -> str:
    """Each metric pooled, then each of its cases, as Markdown."""
    lines = [
        "| metric | case | expectation | deviation | covers | below | above | width |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["metric"] for row in rows if "covers" in row):
        mine = [row for row in rows if row["metric"] == name]
        told = [row for row in mine if "covers" in row]
        weights = np.array([row["printed"] * row["repeats"] for row in told])
        pooled = [
            float(np.average([row[key] for row in told], weights=weights)) for key in ("covers", "below", "above")
        ]
        lines.append(
            f"| **{name}** | {len(told)} cases | | | **{pooled[0]:.3f}** | {pooled[1]:.3f} | {pooled[2]:.3f} | |"
        )
        for row in mine:
            said = f"{row['expectation']:.4g} | {row['deviation']:.2g}" if "expectation" in row else " | "
            cells = f"| | {row['case']} | {said} |"
            if "covers" in row:
                cells += f" {row['covers']:.3f} | {row['below']:.3f} | {row['above']:.3f} | {width(row)} |"
            else:
                cells += " none printed | | | |"
            lines.append(cells)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(FAMILIES))
    parser.add_argument("--cases", default="", help="only cases with these words in their name")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "coverage.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    for family in arguments.only.split(","):
        for case in FAMILIES[family][1]:
            if arguments.cases not in case.name:
                continue
            if any(row["family"] == family and row["case"] == str(case) for row in rows):
                continue
            with threadpool_limits(1):
                new = repeat(family, case, arguments.repeats, arguments.seed)
            rows += new
            with open(file, "a") as lines:
                lines.writelines(json.dumps(row) + "\n" for row in new)
            for row in new:
                covers = f"{row['covers']:.3f}, width {width(row)}" if "covers" in row else "none printed"
                print(f"{row['metric']}, {case}: {covers} ({row['seconds'] * 1000:.0f} ms)", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
