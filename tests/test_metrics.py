"""Metrics against independent code, closed forms, corner cases, and the coverage of their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage
from scipy import stats as scipy_stats
from scipy.spatial.distance import cdist
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits
from written_out import SETS, double_sum, normal, package, textbook_frechet

from trilemma.metrics import memorisation as memorisation_module
from trilemma.metrics import neighbours, pixels
from trilemma.metrics.classes import class_reader, class_shares, control, mean_control
from trilemma.metrics.classifier import BINS, area_interval, area_under_curve, binned, two_sample_test
from trilemma.metrics.fidelity import frechet_distance, frechet_extrapolated, kernel_distance
from trilemma.metrics.latent import critic_area
from trilemma.metrics.matching import found_among
from trilemma.metrics.memorisation import memorisation, nearest, unseen_distances, without_place
from trilemma.metrics.neighbours import precision_recall_density_coverage
from trilemma.metrics.protocol import Measure
from trilemma.metrics.random_features import RandomFeatures, random_features
from trilemma.metrics.variety import alpha_precision_beta_recall, vendi_score

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Keep BLAS and OpenMP to one thread: on a busy machine their waiting for each other costs ten times the work."""
    with threadpool_limits(1):
        yield


def mixed(seed: int, count: int, dimension: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, dimension)) @ np.random.default_rng(99).normal(size=(dimension, dimension))


def assert_ordered(measure: Measure) -> None:
    assert measure.low is not None and measure.high is not None
    assert measure.low <= measure.value <= measure.high


# ---------------------------------------------------------------------------------------------------- Frechet


@pytest.mark.parametrize(("n", "m", "dimension"), [(500, 300, 8), (200, 400, 33), (300, 300, 2)])
def test_frechet_equals_the_textbook(n, m, dimension):
    x, y = mixed(0, n, dimension), 1.3 * mixed(1, m, dimension) + 0.5
    measure = frechet_distance(x, y)
    assert measure.value == pytest.approx(textbook_frechet(x, y), rel=1e-8)
    assert_ordered(measure)


def test_frechet_of_exact_gaussians_is_the_closed_form():
    # Whitened samples have exactly the identity as covariance: |m|^2 + sum (a_i - b_i)^2 for deviations a and b.
    def white(x: np.ndarray) -> np.ndarray:
        x = x - x.mean(0)
        return x @ linalg.inv(linalg.cholesky(np.cov(x, rowvar=False)))

    a, b, gap = np.array([1.0, 2.0, 0.5]), np.array([2.0, 2.0, 3.0]), np.array([1.0, 0.0, -2.0])
    value = frechet_distance(white(normal(0, 100, 3)) * a, white(normal(1, 80, 3)) * b + gap).value
    assert value == pytest.approx(np.square(gap).sum() + np.square(a - b).sum(), rel=1e-10)


def test_frechet_with_singular_covariances():
    # Fewer rows than dimensions: the trace by the eigenvalues of the small product, in another order of the factors.
    x, y = normal(0, 12, 50), normal(1, 9, 50) + 0.3
    a, b = (x - x.mean(0)) / math.sqrt(11), (y - y.mean(0)) / math.sqrt(8)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.square(a).sum() + np.square(b).sum() - 2 * overlap
    measure = frechet_distance(x, y)
    assert measure.value == pytest.approx(expected, rel=1e-9)
    assert_ordered(measure)
    # A rotation into more dimensions, and constant features, change nothing.
    wide = np.concatenate([x, np.full((12, 30), 7.0)], 1), np.concatenate([y, np.full((9, 30), 7.0)], 1)
    assert frechet_distance(*wide).value == pytest.approx(expected, rel=1e-9)


def test_frechet_corner_cases():
    x = normal(0, 100, 5)
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-10)
    constant = frechet_distance(np.full((20, 3), 2.0), np.full((30, 3), 4.0))
    assert (constant.value, constant.low, constant.high) == (12.0, 12.0, 12.0)
    assert frechet_distance(x, np.tile(x.mean(0), (50, 1))).value == pytest.approx(np.trace(np.cov(x.T)), rel=1e-9)
    assert frechet_distance(x + 1e6, x + 1e6 + 1).value == pytest.approx(5, rel=1e-6)
    assert frechet_distance(x[:2], x[2:4]).low is None
    order = np.argsort(x[:, 0])
    assert frechet_distance(x[order], x).value == pytest.approx(0, abs=1e-10)


# ---------------------------------------------------------------------------------------------------- kernel


@pytest.mark.parametrize(("n", "m", "dimension"), [(30, 20, 4), (7, 25, 40), (2, 3, 1)])
def test_kernel_equals_the_double_sum(n, m, dimension):
    x, y = mixed(0, n, dimension), mixed(1, m, dimension) + 0.2
    assert kernel_distance(x, y).value == pytest.approx(double_sum(x, y), rel=1e-9)


def test_kernel_in_chunks_is_the_same(monkeypatch):
    x, y = normal(0, 50, 3), normal(1, 41, 3)
    whole = kernel_distance(x, y)
    monkeypatch.setattr("trilemma.metrics.fidelity.CHUNK_ENTRIES", 300)
    parts = kernel_distance(x, y)
    assert (parts.value, parts.low, parts.high) == pytest.approx((whole.value, whole.low, whole.high))


def test_kernel_corner_cases():
    one, two = np.ones((10, 2)), np.full((12, 2), 2.0)
    assert kernel_distance(one, one).value == 0
    assert kernel_distance(one, two).value == pytest.approx(8 + 125 - 2 * 27)
    assert_ordered(kernel_distance(normal(0, 10, 30), normal(1, 10, 30)))


# ---------------------------------------------------------------------------------------------------- neighbours


@pytest.mark.parametrize("name", SETS)
def test_neighbours_equal_the_package(name):
    x, y = SETS[name]
    values = {key: measure.value for key, measure in precision_recall_density_coverage(x, y).items()}
    third, fifth = package(x, y, 3), package(x, y, 5)
    assert values["precision"] == pytest.approx(third["precision"]) and values["recall"] == third["recall"]
    assert values["density"] == pytest.approx(fifth["density"]) and values["coverage"] == fifth["coverage"]


def test_neighbours_in_chunks_are_the_same(monkeypatch):
    whole = precision_recall_density_coverage(*SETS["plain"])
    monkeypatch.setattr(neighbours, "CHUNK_ENTRIES", 200)
    assert precision_recall_density_coverage(*SETS["plain"]) == whole


def test_neighbours_on_equal_and_lost_data():
    x, y = normal(0, 400, 2), normal(1, 400, 2)
    equal = precision_recall_density_coverage(x, y)
    assert equal["density"].low < 1 < equal["density"].high
    assert min(equal[name].value for name in ("precision", "recall", "coverage")) > 0.8
    classes = np.concatenate([x[:200], x[200:] + 50])
    lost = precision_recall_density_coverage(classes, y)
    assert lost["precision"].value > 0.8 and lost["recall"].value < 0.6 and lost["coverage"].value < 0.6
    for measure in (*equal.values(), *lost.values()):
        assert_ordered(measure)
    with pytest.raises(ValueError, match="too few"):
        precision_recall_density_coverage(x[:5], y)


def test_a_share_that_nobody_has_is_not_certain():
    """Samples far away: no row of the reference is found, and the interval still admits a few."""
    lost = precision_recall_density_coverage(normal(0, 100, 3), normal(1, 150, 3) + 40)
    for name in ("precision", "recall", "coverage"):
        # The rule of three says 3 / n at a one-sided 95 %; Wilson's interval a little more at two-sided.
        count = 150 if name == "precision" else 100
        assert lost[name].value == lost[name].low == 0 and 3 / count < lost[name].high < 6 / count


# ---------------------------------------------------------------------------------------------------- classifier


def test_area_under_curve_equals_scikit_learn():
    positive, negative = np.round(normal(0, 80) + 0.5, 1), np.round(normal(1, 60), 1)  # rounded, so that some tie
    area, deviation = area_under_curve(positive, negative)
    assert area == pytest.approx(roc_auc_score([1] * 80 + [0] * 60, np.concatenate([positive, negative])))
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    assert deviation**2 == pytest.approx(pairs.mean(1).var(ddof=1) / 80 + pairs.mean(0).var(ddof=1) / 60)


@pytest.mark.parametrize("kind", ["trees", "linear"])
def test_classifier_is_at_chance_on_equal_data_and_certain_on_others(kind):
    x, y = normal(0, 300, 5), normal(1, 200, 5)
    equal = two_sample_test(x, y, kind=kind)
    assert equal.low < 0.5 < equal.high
    assert two_sample_test(x, y + 3, kind=kind).value > 0.98
    assert two_sample_test(x, y, kind=kind) == equal


@pytest.mark.parametrize("count", [10, 20, 24])
def test_trees_split_small_sets(count):
    """Leaves of 20 rows would leave every score tied, and tell sets ten deviations apart by nothing, for certain."""
    x = normal(0, count, 8)
    apart = two_sample_test(x, normal(1, count, 8) + 10)
    assert apart.value == apart.high == 1 and 0.5 < apart.low < 1, "the rule of three: few rows are not certain"
    covered = 0
    for repeat in range(3):
        equal = two_sample_test(normal(2 * repeat, count, 8), normal(2 * repeat + 1, count, 8))
        covered += equal.low <= 0.5 <= equal.high
        assert equal.high - equal.low > 0.2
    assert covered >= 2


def test_an_area_is_not_certain_before_there_are_rows_to_show_it():
    # Nothing on the wrong side: the bound of Wilson's interval, n / (n + 1.96^2).
    assert area_interval(1.0, 0.0, 10, 50) == pytest.approx((10 / (10 + 1.959964**2), 1.0))
    assert area_interval(0.0, 0.0, 2000, 1000) == pytest.approx((0.0, 1.959964**2 / (1000 + 1.959964**2)))
    assert area_interval(0.5, 0.0, 100, 100) == (None, None), "all scores tie"
    assert area_interval(0.9, 0.1, 3, 50) == (None, None)
    assert area_interval(0.7, 0.01, 1000, 1000) == pytest.approx((0.7 - 0.01959964, 0.7 + 0.01959964))
    assert critic_area(np.arange(12.0) + 20, np.arange(12.0)).low < 0.8


def test_classifier_knows_the_best_area_of_shifted_gaussians():
    # Two unit Gaussians at distance d: area = Phi(d / sqrt 2) = 0.7602 for d = 1.
    measure = two_sample_test(normal(0, 1500, 1), normal(1, 1500, 1) + 1, kind="linear")
    assert measure.low < 0.7602 < measure.high


def test_classifier_does_not_learn_repeats_by_heart():
    x = normal(0, 300, 4)
    again = normal(1, 100, 4)[np.random.default_rng(0).integers(100, size=600)]
    assert two_sample_test(x, again).value < 0.62


@pytest.mark.parametrize("kind", ["unequal classes", "equal classes", "ties"])
def test_trees_learn_the_same_from_the_numbers_of_their_bins(kind):
    """To the last bit what scikit-learn's own way to find the bins gives; 252 values have edges on values."""
    pytest.importorskip("sklearn", minversion="1.8")  # before, bins took no notice of weights
    random, count = np.random.default_rng(0), 4 * BINS
    x, real = random.normal(size=(320, 9)), random.uniform(size=320) < 0.4
    if kind == "equal classes":
        real = np.arange(320) % 2 == 0
    if kind == "ties":
        x[:, 1], x[:, 2] = x[:, 1].round(1), np.maximum(x[:, 2], 0)
    x[real] += 0.3
    x[:, 0] = x[:, 0].round()
    scores = []
    for learn, judge in ((x[:count], x[count:]), binned(x[:count], real[:count], x[count:])):
        model = HistGradientBoostingClassifier(
            max_iter=20, max_bins=BINS, early_stopping=False, random_state=0, class_weight="balanced"
        )
        with threadpool_limits(1, "openmp"):
            scores.append(model.fit(learn, real[:count]).predict_proba(judge)[:, 1])
    np.testing.assert_array_equal(*scores)


def test_classifier_corner_cases():
    same = np.ones((30, 3))
    assert two_sample_test(same, same).value == 0.5
    assert two_sample_test(same, 2 * same).value == 1.0
    assert two_sample_test(normal(0, 30, 3), same).value == 1.0
    wide = two_sample_test(normal(0, 40, 200), normal(1, 40, 200), kind="linear")  # fewer rows than features
    assert 0.2 < wide.value < 0.8
    with pytest.raises(ValueError, match="forest"):
        two_sample_test(same, same, kind="forest")


# ---------------------------------------------------------------------------------------------------- memorisation


def test_nearest_equals_brute_force():
    x, pool = normal(0, 70, 6) + 100, normal(1, 90, 6) + 100
    indices, distances = nearest(x, pool)
    between = cdist(x, pool)
    assert (indices == between.argmin(1)).all()
    assert distances == pytest.approx(between.min(1), rel=1e-12)
    own = cdist(x, x) + np.diag(np.full(70, np.inf))
    assert (nearest(x, x, skip_self=True)[0] == own.argmin(1)).all()


def test_memorisation_tells_copies_from_unseen_data(monkeypatch):
    monkeypatch.setattr(memorisation_module, "CHUNK_ENTRIES", 100_000)  # several chunks
    train, held_out, unseen = normal(0, 2000, 8), normal(1, 500, 8), normal(2, 600, 8)
    rows = np.random.default_rng(3).integers(2000, size=600)
    copies = memorisation(train, held_out, train[rows])
    assert copies["verdict"] == "copies"
    assert copies["near_copies"].value == 1 and copies["ratio"].value < 1e-6
    assert (copies["nearest"] == rows).all() and (copies["distances"] == 0).all()

    assert memorisation(train, held_out, train[rows] + 0.05 * normal(4, 600, 8))["verdict"] == "copies"
    half = np.concatenate([train[rows[:300]], unseen[:300]])
    halves = memorisation(train, held_out, half)
    assert halves["verdict"] == "copies" and halves["near_copies"].value == pytest.approx(0.5, abs=0.02)
    assert halves["ratio"].low <= halves["ratio"].value <= halves["ratio"].high < 2

    honest = memorisation(train, held_out, unseen)
    assert honest["verdict"] == "none"
    assert honest["near_copies"].value < 0.03
    assert honest["ratio"].low < 1 < honest["ratio"].high


def test_memorisation_does_not_call_blurred_or_noisy_samples_copies():
    train, held_out = normal(0, 2000, 8), normal(1, 500, 8)
    assert memorisation(train, held_out, 0.3 * normal(2, 600, 8))["verdict"] == "none"
    assert memorisation(train, held_out, 1.5 * normal(2, 600, 8))["verdict"] == "none"


def test_memorisation_says_when_it_cannot_tell():
    train, samples = normal(0, 200, 3), normal(2, 100, 3)
    assert memorisation(train, normal(1, 10, 3), samples)["verdict"] == "cannot tell"
    constant = memorisation(np.ones((50, 2)), np.ones((40, 2)), np.ones((30, 2)))
    assert constant["verdict"] == "cannot tell" and constant["ratio"].value == 1


def test_memorisation_in_every_view():
    """Copies that were moved or mirrored are copies when place and mirror are forgotten; unseen data are not."""
    pictures = ndimage.gaussian_filter(normal(0, 1400, 2, 12, 10), (0, 0, 1, 1))
    train, held_out, unseen = pictures[:800], pictures[800:1100], pictures[1100:]
    moved = np.roll(train, (2, -1), (2, 3))
    assert without_place(moved) == pytest.approx(without_place(train), abs=1e-5)
    for axis in (2, 3):
        assert without_place(np.flip(train, axis)) == pytest.approx(without_place(train), abs=1e-5)
    assert abs(without_place(unseen) - without_place(train[:300])).max() > 0.1
    series = normal(1, 20, 3, 16)
    assert without_place(np.roll(series, 5, 2)) == pytest.approx(without_place(series), abs=1e-5)

    again = train[np.random.default_rng(2).integers(800, size=300)]
    border = np.concatenate([again[..., :1], again[..., :-1]], -1)  # moved, not rolled: a column is lost
    views = [without_place(each) for each in (train, held_out)]
    known = unseen_distances(*views)
    for copies in (again, np.flip(again, 3), border, border + 0.02 * normal(3, *border.shape)):
        assert memorisation(*views, without_place(copies), unseen=known)["verdict"] == "copies"
    assert memorisation(*views, without_place(unseen), unseen=known)["verdict"] == "none"
    alone, told = (memorisation(*views, without_place(unseen)[:50], unseen=each) for each in (None, known))
    assert alone["ratio"] == told["ratio"] and alone["near_copies"] == told["near_copies"]


# ---------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("grid", [(24,), (16, 12), (6, 8, 7), (9, 1)])
def test_sharpness_falls_with_blur_and_rises_with_noise(grid):
    x = ndimage.gaussian_filter(normal(0, 60, 2, *grid), (0, 0, *[0.5] * len(grid)))
    blurred = pixels.sharpness(x[:30], ndimage.gaussian_filter(x[30:], (0, 0, *[1.0] * len(grid))))
    assert_ordered(blurred)
    assert blurred.high < 0.7
    assert pixels.sharpness(x[:30], x[30:] + normal(1, 30, 2, *grid)).low > 1
    equal = pixels.sharpness(x[:30], x[30:])
    assert equal.low < 1 < equal.high


def test_sharpness_is_the_laplacian_written_out():
    x, y = normal(0, 5, 3, 6, 7), normal(1, 4, 3, 6, 7)

    def laplacian(image: np.ndarray) -> float:
        inner = ndimage.laplace(image)[1:-1, 1:-1]
        return float(np.abs(inner).mean())

    means = [np.mean([laplacian(channel) for example in each for channel in example]) for each in (x, y)]
    assert pixels.sharpness(x, y).value == pytest.approx(means[1] / means[0])
    flat = np.zeros((5, 1, 4))
    assert pixels.sharpness(flat, flat).value == 1
    assert math.isnan(pixels.sharpness(flat, flat + np.arange(4) ** 2).value), "no number says it"
    assert pixels.sharpness(np.uint8([[[0, 255, 0]]] * 4), np.uint8([[[0, 255, 0]]] * 4)).value == 1
    with pytest.raises(ValueError, match="with a grid"):
        pixels.sharpness(normal(0, 5, 3), normal(0, 5, 3))
    with pytest.raises(ValueError, match="shapes differ"):
        pixels.sharpness(x, y[..., :-1])


def test_reconstruction_error():
    x = normal(0, 10, 3, 4, 4)
    measures = pixels.reconstruction_error(x, x + 0.1, span=1.0)
    assert measures["mse"].value == pytest.approx(0.01)
    assert measures["psnr"].value == pytest.approx(20)
    noisy = pixels.reconstruction_error(x, x + 0.1 * normal(1, *x.shape), span=255)
    assert_ordered(noisy["mse"])
    assert_ordered(noisy["psnr"])
    perfect = pixels.reconstruction_error(x, x, span=1)
    assert perfect["mse"].value == 0 and perfect["psnr"].value == math.inf
    assert set(pixels.reconstruction_error(x, x)) == {"mse"}
    # 8-bit values must not wrap round.
    assert pixels.reconstruction_error(np.uint8([[0]]), np.uint8([[255]]))["mse"].value == 255**2
    with pytest.raises(ValueError, match="shape"):
        pixels.reconstruction_error(x, x[:5])


def test_spectrum_distance():
    x = normal(0, 400, 1, 16, 16)
    equal = pixels.spectrum_distance(x[:200], x[200:])
    assert_ordered(equal)
    assert equal.value < 0.5
    # Twice the amplitude is 6.02 dB at each frequency.
    assert pixels.spectrum_distance(x, 2 * x).value == pytest.approx(20 * math.log10(2))
    assert pixels.spectrum_distance(x, x + 5).value == pytest.approx(0, abs=1e-6)
    blurred = pixels.spectrum_distance(x[:200], ndimage.gaussian_filter(x[200:], (0, 0, 1, 1)))
    assert blurred.low > 3
    assert pixels.spectrum_distance(normal(0, 40, 2, 30), normal(1, 40, 2, 30)).value < 2


def test_mean_distance_between_pairs():
    x, y = normal(0, 40, 2, 3), 0.5 * normal(1, 30, 2, 3)

    def mean(z: np.ndarray) -> float:
        between = cdist(z.reshape(len(z), -1), z.reshape(len(z), -1))
        return between.sum() / (len(z) * (len(z) - 1))

    measure = pixels.mean_distance_between_pairs(x, y)
    assert measure.value == pytest.approx(mean(y) / mean(x))
    assert_ordered(measure)
    assert pixels.mean_distance_between_pairs(x, np.ones((30, 2, 3))).value == pytest.approx(0, abs=1e-6)


def test_modes_found():
    angles = np.arange(8) * math.pi / 4
    centres = np.stack([np.cos(angles), np.sin(angles)], 1)
    which = np.random.default_rng(0).integers(8, size=800)
    samples = centres[which] + 0.02 * normal(1, 800, 2)
    full = pixels.modes_found(samples, centres, 0.02)
    assert full["modes"].value == 8 and full["at_modes"].value > 0.99
    assert_ordered(full["at_modes"])
    assert pixels.modes_found(samples[which < 3], centres, 0.02)["modes"].value == 3
    noise = pixels.modes_found(np.random.default_rng(2).uniform(-2, 2, (800, 2)), centres, 0.02)
    assert noise["modes"].value == 0 and noise["at_modes"].value < 0.05


# ---------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize("grid", [(), (2,), (9,), (16, 12), (3, 1), (28, 28), (5, 6, 4)])
def test_random_features_of_any_grid(grid):
    x = normal(0, 24, 2, *grid).astype(np.float32)
    net = RandomFeatures(x, seed=1, width=16)
    features = net(x)
    assert features.shape[0] == 24 and features.ndim == 2 and np.isfinite(features).all()
    assert features.mean(0) == pytest.approx(np.zeros(features.shape[1]), abs=1e-5)
    assert net(x[5:9]) == pytest.approx(features[5:9], abs=1e-4)  # an example's features depend on it alone
    assert (random_features(x, 1, 16) == features).all()
    assert RandomFeatures(x, seed=1, width=16).hash == net.hash
    if grid:
        assert RandomFeatures(x, seed=2, width=16).hash != net.hash
    with pytest.raises(ValueError, match="fixed on examples"):
        net(np.concatenate([x, x], 1))


def test_random_features_without_a_grid_are_standardised_values():
    x, y = 5 + 3 * normal(0, 200, 4), normal(1, 50, 4)
    x[:, 3] = 2.0  # a constant column stays finite
    features = random_features(y, reference=x)
    deviation = np.where(np.arange(4) == 3, 1, x.std(0))
    assert features == pytest.approx((y - x.mean(0)) / deviation)


def test_random_features_see_blur_noise_and_place():
    x = ndimage.gaussian_filter(normal(0, 600, 1, 16, 16), (0, 0, 0.7, 0.7))
    x[:, :, :8] += 0.5  # upper half is lighter
    net = RandomFeatures(x[:300], width=32)
    real = net(x[:300])

    def distance(samples: np.ndarray) -> float:
        return frechet_distance(real, net(samples)).value

    floor = distance(x[300:])
    assert distance(ndimage.gaussian_filter(x[300:], (0, 0, 0.5, 0.5))) > 2 * floor
    assert distance(x[300:] + 0.3 * normal(1, 300, 1, 16, 16)) > 2 * floor
    assert distance(x[300:, :, ::-1]) > 2 * floor
    assert distance(x[300:] + 0.3) > 2 * floor


def test_random_features_corner_cases():
    assert np.isfinite(random_features(np.ones((5, 3, 8, 8)))).all()
    assert random_features(np.zeros((4, 1, 8, 8), dtype=np.uint8)).shape[0] == 4
    with pytest.raises(ValueError, match="not finite"):
        random_features(np.full((4, 1, 8), np.nan))
    with pytest.raises(ValueError, match="expected shape"):
        random_features(np.ones(4))


def test_extrapolated_frechet_sheds_most_of_the_bias():
    """Known Gaussians, counts of a few times the dimension: mean over repeats beside the closed form."""
    for shift in (0.0, 0.3):
        truth = 8 * shift**2 + 8 * shift**2  # means apart by `shift` in 8 dimensions, deviations 1 and 1 + shift
        plain, beyond = [], []
        for repeat in range(40):
            x, y = normal(2 * repeat, 80, 8), (1 + shift) * normal(2 * repeat + 1, 80, 8) + shift
            plain.append(frechet_distance(x, y).value)
            beyond.append(frechet_extrapolated(x, y).value)
        biases = np.mean(plain) - truth, np.mean(beyond) - truth
        error = np.std(beyond) / len(beyond) ** 0.5
        assert biases[0] > 0.3 and abs(biases[1]) < 0.2 * biases[0] + 3 * error, (shift, biases)
    with pytest.raises(ValueError, match="at least 20"):
        frechet_extrapolated(normal(0, 19, 3), normal(1, 40, 3))


# ---------------------------------------------------------------------------------------------------- classes


def test_class_shares_by_hand():
    real = np.repeat([0, 1, 2, 3], [40, 30, 20, 10])
    half = class_shares(real, np.repeat([0, 1], [4, 3]))
    # 4/7 - .4 + 3/7 - .3 = .3 too much, as much too little.
    assert half["classes"].value == 2 and half["classes"].unit == "of 4"
    assert half["balance"].value == pytest.approx(0.7)
    same = class_shares(real, real)
    assert same["classes"].value == 4 and same["balance"].value == 1
    few = class_shares(real, np.repeat([0, 1, 2, 3], [990, 1000, 1000, 9]))
    assert few["classes"].value == 3, "a class with less than a tenth of its part is not there"
    strange = class_shares(real, np.repeat([7], 5))
    assert strange["classes"].value == 0 and strange["balance"].value == 0


def test_control_is_a_share_with_an_exact_interval():
    asked = np.repeat([0, 1], [30, 10])
    read = asked.copy()
    read[:10] = 1
    measured = control(asked, read)
    assert measured.value == 0.75
    # Clopper and Pearson's bounds are quantiles of beta distributions.
    assert measured.low == pytest.approx(scipy_stats.beta.ppf(0.025, 30, 11))
    assert measured.high == pytest.approx(scipy_stats.beta.ppf(0.975, 31, 10))
    with pytest.raises(ValueError, match="one class read for each"):
        control(asked, read[:3])


def test_the_reader_reads_classes_that_are_apart():
    x = np.concatenate([normal(0, 200, 4), normal(1, 200, 4) + 6])
    labels = np.repeat([3, 8], 200)
    reader = class_reader(x, labels)
    assert (reader.predict(np.concatenate([normal(2, 50, 4), normal(3, 50, 4) + 6])) == np.repeat([3, 8], 50)).all()
    with pytest.raises(ValueError, match="two classes"):
        class_reader(x, np.zeros(400))


# ---------------------------------------------------------------------------------------------------- variety


def test_vendi_counts_what_is_different():
    """k orthogonal directions in equal shares are k different samples, whatever their number."""
    zero = np.concatenate([np.eye(7), -np.eye(7)])  # mean zero
    for k in (1, 2, 5):
        samples = np.repeat(3 * np.eye(7)[:k], 40, axis=0)
        assert vendi_score(zero, samples).value == pytest.approx(k)
    assert vendi_score(np.ones((9, 3)), np.ones((5, 3))).value == 1
    # All but a few at the mean: leaving out the block that holds them leaves nothing, and that is no error.
    lonely = vendi_score(zero, np.concatenate([np.eye(7)[:1], np.zeros((60, 7))]))
    assert lonely.value == pytest.approx(1) and np.isfinite([lonely.low, lonely.high]).all()
    shares = np.concatenate([np.repeat(np.eye(7)[:1], 30, 0), np.repeat(np.eye(7)[1:2], 10, 0)])
    assert vendi_score(zero, shares).value == pytest.approx(0.75**-0.75 * 0.25**-0.25)


def test_supports_on_equal_lost_and_narrow_data():
    x = normal(0, 3000, 4)
    equal = alpha_precision_beta_recall(x, normal(1, 3000, 4))
    assert equal["alpha_precision"].value > 0.96 and equal["beta_recall"].value == pytest.approx(0.5, abs=0.03)
    lost = alpha_precision_beta_recall(x, normal(1, 3000, 4) + 50)
    assert lost["alpha_precision"].value < 1e-3 and lost["beta_recall"].value < 1e-3
    # All samples at the centre: too typical. P(alpha) = 1 for every alpha.
    narrow = alpha_precision_beta_recall(x, 1e-3 * normal(1, 3000, 4))
    assert narrow["alpha_precision"].value < 1e-2 and narrow["beta_recall"].value < 0.1


# ---------------------------------------------------------------------------------------------------- intervals


def covered(metric, *, repeats: int = 40, shift: float) -> dict[str, float]:
    """Return per metric the share of repeats whose interval holds the metric's mean over all repeats."""
    rows: dict[str, list[Measure]] = {}
    for repeat in range(repeats):
        answer = metric(normal(2 * repeat, 240, 6), (1 + shift) * normal(2 * repeat + 1, 160, 6) + shift)
        for name, measure in (answer if isinstance(answer, dict) else {"it": answer}).items():
            rows.setdefault(name, []).append(measure)
    shares = {}
    for name, measures in rows.items():
        truth = np.mean([each.value for each in measures])
        shares[name] = float(np.mean([each.low <= truth <= each.high for each in measures]))
        # Covering by width alone would be no art.
        width = np.mean([each.high - each.low for each in measures])
        assert width < 2 * 3.92 * np.std([each.value for each in measures]), name
    return shares


@pytest.mark.parametrize("shift", [0.0, 0.2])
@pytest.mark.parametrize(
    "metric",
    [
        frechet_distance,
        kernel_distance,
        precision_recall_density_coverage,
        lambda x, y: two_sample_test(x, y, kind="linear"),
        vendi_score,
        pixels.mean_distance_between_pairs,
        lambda x, y: pixels.sharpness(x[:, None], y[:, None]),
        lambda x, y: pixels.spectrum_distance(x[:, None], y[:, None]),
        lambda x, y: memorisation(x, y[:80], y[80:])["ratio"],
    ],
    ids=[
        "frechet",
        "kernel",
        "neighbours",
        "classifier",
        "vendi",
        "diversity",
        "sharpness",
        "spectrum",
        "memorisation",
    ],
)
def test_intervals_cover_the_expectation(metric, shift):
    assert min(covered(metric, shift=shift).values()) >= 0.85


def test_few_rows_beyond_the_others_make_intervals_wider_and_lopsided():
    """A kernel that cubes what it sees: most of the chance comes from few rows, towards larger values."""
    heavy = np.random.default_rng(0).exponential(size=(200, 2)) ** 2
    measure = kernel_distance(normal(1, 200, 2), heavy)
    assert measure.high - measure.value > 1.2 * (measure.value - measure.low)
    near = frechet_distance(normal(0, 200, 2), normal(1, 200, 2))
    assert near.low > 0 and near.high - near.value > 2 * (near.value - near.low)


def test_few_rows_have_student_s_interval():
    x, noise = normal(0, 6, 2, 4), normal(1, 6, 2, 4)
    error = pixels.reconstruction_error(x, x + noise)["mse"]
    each = np.square(noise).reshape(6, -1).mean(1)
    half = scipy_stats.t.ppf(0.975, 5) * each.std(ddof=1) / 6**0.5
    assert (error.low, error.high) == pytest.approx((max(error.value - half, 0), error.value + half))
    # Of two sets alike the degrees of freedom are those of both together, 5 + 5, in logarithms.
    real = x[:, None]
    measure = pixels.sharpness(real, real)
    rough = pixels._roughness(real)
    deviation = (2 * rough.var(ddof=1) / 6) ** 0.5 / rough.mean()
    assert math.log(measure.high) == pytest.approx(scipy_stats.t.ppf(0.975, 10) * deviation)
    assert pixels.mean_distance_between_pairs(np.eye(5), np.eye(5)).low == pytest.approx(1), "no deviation, no width"


def test_all_right_is_not_certain():
    """A share of all has no deviation: the interval is that of as many answers as were given."""
    answers = np.where(np.arange(36).reshape(12, 3) % 3 == 2, np.nan, 1.0)  # two of three asked for: 24
    assert mean_control(answers).low == pytest.approx(24 / (24 + 1.959964**2))
    assert mean_control(answers).value == mean_control(answers).high == 1
    found = found_among(np.eye(60), np.arange(60), most=1)
    assert found.value == found.high == 1 and found.low == pytest.approx(60 / (60 + 1.959964**2))
