"""Studies beside the comparison: branches, variants, probes, budgets, and what becomes of the textbooks' claims."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import trilemma as tl
from trilemma.errors import InputError
from trilemma.metrics.latent import active_units, bits_per_dimension, critic_area, midpoints, noise_left, path_length
from trilemma.metrics.neighbours import inside_balls, precision_recall_density_coverage
from trilemma.metrics.protocol import Protocol
from trilemma.modalities.door import open_data
from trilemma.report.advise import advise
from trilemma.report.asked import forecast
from trilemma.report.budgets import after, astray, at_share, course, last_half, overtakings
from trilemma.report.claims import CLAIMS, decide, document
from trilemma.report.columns import as_csv
from trilemma.report.evidence import Evidence
from trilemma.report.measure import Ruler, new_row
from trilemma.report.page import write_page
from trilemma.report.probes import drifted, quick
from trilemma.report.studies import studies
from trilemma.report.summary import summaries
from trilemma.report.variants import (
    Studies,
    Variant,
    check,
    data_of,
    later,
    moments,
    parse_shares,
    remembered,
    settings_of,
    variants,
)
from trilemma.tasks.load import Loaded
from trilemma.training.branch import branch, shares_of

MODELS = ["autoencoder", "vae", "gan", "diffusion", "diffusion:ddpm"]
QUICK = {
    "training.previews": 2,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
    "optimizer.batch": 32,
}


# --- branches --------------------------------------------------------------------------------------------------------


def test_a_branch_is_the_training_of_that_length_to_the_bit(tmp_path: Path) -> None:
    """Where nothing but what rises and falls follows the budget; what rises is that of the shortest branch."""
    data = open_data("moons")
    settings = QUICK | {"optimizer.warm_up": 32, "model.warm_up": 0.1}
    whole = tl.train(data, model="vae", size="xs", budget=2560, out=tmp_path / "whole", quiet=True,
                     settings=settings | {"training.branches": (0.25, 0.5)})  # fmt: skip
    assert shares_of(whole) == [0.25, 0.5]
    for share, examples in ((0.25, 640), (0.5, 1280)):
        short = branch(data, whole, share, quiet=True)
        assert short.finished and short.config()["training"]["examples"] == examples
        if share > 0.25:
            continue
        alone = tl.train(data, model="vae", size="xs", budget=examples, out=tmp_path / str(examples), quiet=True,
                         settings=settings)  # fmt: skip
        ours, theirs = (load_file(run.weights_file) for run in (short, alone))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert branch(data, whole, 0.25, quiet=True).finished, "a second call finds it"
    assert not [name for name in whole.states() if name.startswith("branch")], "the states are not needed any more"
    assert shares_of(whole) == [0.25, 0.5]


def test_a_branch_without_a_state_is_refused(tmp_path: Path) -> None:
    data = open_data("moons")
    run = tl.train(data, model="vae", size="xs", budget=128, out=tmp_path / "run", quiet=True, settings=QUICK)
    assert shares_of(run) == []
    with pytest.raises(InputError, match=r"training\.branches=0\.5"):
        branch(data, run, 0.5, quiet=True)


# --- variants --------------------------------------------------------------------------------------------------------


def test_shares_are_read_and_refused() -> None:
    assert parse_shares("10%,30%,100%") == (0.1, 0.3)
    assert parse_shares([0.5, 1]) == (0.5,) and parse_shares(["10%,30%", "0.5"]) == (0.1, 0.3, 0.5)
    assert parse_shares(None) == ()
    for wrong in ("0%", "150%", "some", "-3%"):
        with pytest.raises(InputError, match="--subsample"):
            parse_shares(wrong)


def wanted(studies: Studies, bases: list[str], *, grid: bool = True, examples: int = 1000, **settings: Any) -> list:
    return variants(studies, bases, settings=settings, examples=examples, grid=grid)


def test_variants_vary_one_thing_each() -> None:
    found = wanted(Studies(claims=True, sensitivity=True, subsample=(0.3, 0.104), drift="order"), MODELS)
    names = [each.name for each in found]
    assert len(names) == len(set(names))
    assert {"vae, without KL", "gan, minimax", "gan, rate × 3", "diffusion, 10% of the data"} <= set(names)
    assert {"autoencoder, trained on noisy input", "vae, 10.4% of the data", "vae, earlier half by order"} <= set(names)
    # One preset of a family stands for it.
    assert not [name for name in names if name.startswith("diffusion:ddpm")]
    assert all(remembered(json.loads(json.dumps(asdict(each)))) == each for each in found)
    by_what = {each.what: each for each in found if each.of == "gan"}
    assert by_what["minimax"].branches == (0.125,) and by_what["minimax"].every_seed
    assert by_what["10% of the data"].every_seed and not by_what["30% of the data"].every_seed


def test_variants_that_say_nothing_are_left_out() -> None:
    claims = Studies(claims=True)
    assert "without KL" not in [each.what for each in wanted(claims, ["vae"], **{"model.beta": 4})], "beta is fixed"
    assert "pixels only" not in [each.what for each in wanted(claims, ["vae"], grid=False)], "points have no texture"
    assert "10% of the data" not in [each.what for each in wanted(claims, ["vae"], examples=150)], "fifteen examples"
    assert wanted(Studies(sensitivity=True), []) == [], "no base was trained"


def test_a_variant_keeps_what_the_probe_chose_for_its_base() -> None:
    base = {"config": {"optimizer": {"rate": 0.003, "batch": 33}}, "training": {"dtype": "bfloat16"}}
    kept = {"a": 1, "optimizer.batch": 33, "training.dtype": "bfloat16"}
    by_what = {each.what: settings_of(each, {"a": 1}, base) for each in wanted(Studies(sensitivity=True), ["vae"])}
    assert by_what["rate × 3"] == {**kept, "optimizer.rate": pytest.approx(0.009)}
    assert by_what["rate × 1/3"]["optimizer.rate"] == pytest.approx(0.001)
    assert by_what["batch × 1/2"]["optimizer.batch"] == 16 and by_what["batch × 2"]["optimizer.batch"] == 66
    minimax = next(each for each in wanted(Studies(claims=True), ["gan"]) if each.what == "minimax")
    assert settings_of(minimax, {}, base)["training.branches"] == (0.125,)


def test_parts_of_the_data_are_parts_and_have_hashes_of_their_own() -> None:
    data = open_data("digits")
    found = wanted(Studies(subsample=(0.1, 0.3), drift="order"), ["vae"]) + wanted(Studies(drift="label"), ["vae"])
    parts = {each.what: data_of(each, data) for each in found}
    whole = data.splits["train"]
    assert len({part.hash for part in parts.values()} | {data.hash}) == len(parts) + 1
    assert np.array_equal(parts["10% of the data"].splits["train"], whole[: round(0.1 * len(whole))])
    early, mixed = (parts[f"{half} half by order"].splits["train"] for half in ("earlier", "random"))
    when, middle = moments(data, "order")
    assert len(early) == len(mixed) and (when[early] < middle).all() and not (when[mixed] < middle).all()
    after = later(data, "order").splits["test"]
    assert (when[after] >= middle).all() and 0 < len(after) < len(data.splits["test"])
    # Nobody knows when these came: they are in neither half.
    unknown = np.arange(len(data.x)) % 3 > 0
    gaps = replace(data, present={"label": unknown})
    when, middle = moments(gaps, "label")
    assert np.isnan(when[~unknown]).all() and middle == np.median(
        when[data.splits["train"]][unknown[data.splits["train"]]]
    )
    assert unknown[later(gaps, "label").splits["test"]].all()
    for part in parts.values():
        assert np.array_equal(part.splits["test"], data.splits["test"])


def test_studies_that_the_data_do_not_allow_are_refused() -> None:
    data = open_data("digits")
    with pytest.raises(InputError, match="--subsample 1%"):
        check(Studies(subsample=(0.01,)), data)
    with pytest.raises(InputError, match="--drift"):
        check(Studies(drift="year"), data)
    check(Studies(drift="label", subsample=(0.1,)), data)


# --- codes -----------------------------------------------------------------------------------------------------------


def test_active_units_counts_dimensions_that_move() -> None:
    generator = np.random.default_rng(0)
    codes = generator.standard_normal((500, 6)) * [1, 1, 1, 0.01, 0.001, 0]
    found = active_units(codes)
    assert found.value == 3 and found.unit == "of 6"
    with pytest.raises(ValueError, match="codes"):
        active_units(codes[:1])


def test_points_in_balls_are_those_that_precision_counts() -> None:
    generator = np.random.default_rng(0)
    real, made = generator.standard_normal((300, 3)), 1.5 * generator.standard_normal((200, 3))
    inside = inside_balls(real, made)
    assert inside.mean() == precision_recall_density_coverage(real, made)["precision"].value
    assert 0 < inside.mean() < 1


def test_midpoints_between_two_clusters_are_implausible() -> None:
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((300, 2)) * 0.3 + [x, 0] for x in (-5, 5))
    real = np.concatenate([left, right])
    ends = np.concatenate([generator.standard_normal((200, 2)) * 0.3 + [x, 0] for x in (-5, 5)])
    assert midpoints(real, ends, between=(ends[:200] + ends[200:]) / 2).value == 0
    found = midpoints(real, ends, between=ends[::2])
    assert found.low is not None and found.high is not None and found.low < 1 < found.high


def test_no_plausible_midpoint_has_an_interval_that_excludes_the_ends() -> None:
    generator = np.random.default_rng(0)
    real = generator.standard_normal((200, 2))
    found = midpoints(real, real[:100], between=real[:100] + 100)
    assert found.value == 0 == found.low and found.high is not None and 0 < found.high < 0.2
    assert math.isnan(midpoints(real, real[:9] + 100, between=real[:9]).value), "ends that are nothing say nothing"
    with pytest.raises(ValueError, match="too few"):
        midpoints(real[:5], real, between=real)


def test_noise_left_is_a_share() -> None:
    generator = np.random.default_rng(0)
    clean, noise = generator.standard_normal((400, 3, 4)), generator.standard_normal((400, 3, 4))
    assert noise_left(clean, clean + noise, again=clean).value == 0
    assert noise_left(clean, clean + noise, again=clean + noise).value == 1
    found = noise_left(clean, clean + noise, again=clean + 0.5 * noise + 0.1)
    assert found.low is not None and found.high is not None and found.low < 0.25 + 0.01 < found.high
    with pytest.raises(ValueError, match="equal"):
        noise_left(clean, clean, again=clean)


def test_noise_left_is_that_of_what_is_known() -> None:
    clean = np.random.default_rng(0).normal(size=(50, 4))
    gaps = clean.copy()
    gaps[:30, 1], gaps[7] = np.nan, np.nan
    found = noise_left(gaps, gaps + 1, again=gaps + 0.5)
    assert found.value == pytest.approx(0.25) == noise_left(clean, clean + 1, again=clean + 0.5).value
    with pytest.raises(ValueError, match="no noise"):
        noise_left(np.full((5, 2), np.nan), np.full((5, 2), np.nan), again=np.zeros((5, 2)))


def test_a_critic_at_chance_has_area_one_half() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    real, made = generator.standard_normal(300), generator.standard_normal(200) - 0.5
    truth = np.repeat([1, 0], [300, 200])
    assert critic_area(real, made).value == pytest.approx(roc_auc_score(truth, np.concatenate([real, made])))
    assert critic_area(np.zeros(5), np.zeros(5)).value == 0.5


def test_the_interval_of_midpoints_covers() -> None:
    """The expectation over new references too: of data in several parts, most of the chance is theirs."""
    generator = np.random.default_rng(1)
    centres = np.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 3.0], [4.0, -2.0]])

    def drawn(count: int, modes: int) -> np.ndarray:
        return centres[generator.integers(modes, size=count)] + 0.5 * generator.standard_normal((count, 2))

    found = [midpoints(drawn(100, 4), drawn(200, 3), between=(drawn(200, 3) + drawn(200, 3)) / 2) for _ in range(60)]
    truth = np.mean([each.value for each in found])
    assert sum(each.low <= truth <= each.high for each in found) >= 0.85 * 60  # type: ignore[operator]
    few = midpoints(drawn(39, 4), drawn(200, 3), between=drawn(200, 3))
    assert few.low is None and few.high is None and few.value > 0
    sure = midpoints(
        np.zeros((60, 2)) + generator.standard_normal((60, 2)), np.zeros((50, 2)), between=np.zeros((9, 2))
    )
    assert sure.value == 1 and sure.low is not None and sure.low < 0.9, "nine of nine are not certain"


def test_straight_ways_have_length_one_and_bent_ones_more() -> None:
    t = np.linspace(0, 1, 9)
    straight = np.stack([np.outer(t, [1.0, 2.0]) + k for k in range(5)])
    assert path_length(straight).value == pytest.approx(1)
    half_circle = np.stack([np.stack([np.cos(np.pi * t), np.sin(np.pi * t)], 1)] * 5)
    # Eight chords of a half circle over its diameter.
    assert path_length(half_circle).value == pytest.approx(8 * 2 * math.sin(np.pi / 16) / 2)
    with pytest.raises(ValueError, match="ways"):
        path_length(straight[:, :2])


def test_bits_per_dimension_in_closed_form() -> None:
    """A uniform density over 256 levels costs 8 bits, in whatever units; a Gaussian its differential entropy."""
    scores = np.full(10, -12 * np.log(256.0))
    assert bits_per_dimension(scores, 12).value == pytest.approx(8)
    assert bits_per_dimension(np.full(10, -12 * np.log(1.0)), 12, step=1 / 256).value == pytest.approx(8)
    x = 20 * np.random.default_rng(0).standard_normal((4000, 12))
    density = (-0.5 * np.square(x / 20) - np.log(20 * np.sqrt(2 * np.pi))).sum(1)
    found, entropy = bits_per_dimension(density, 12), 0.5 * np.log2(2 * np.pi * np.e * 400)
    assert found.low is not None and found.high is not None and found.low < entropy < found.high
    assert found.value == pytest.approx(entropy, abs=0.02)
    with pytest.raises(ValueError, match="scores"):
        bits_per_dimension(density[:0], 12)


# --- budgets ---------------------------------------------------------------------------------------------------------


def measure(value: float, wide: float = 0.01, better: str = "lower", unit: str = "") -> dict[str, Any]:
    return {"value": value, "low": value - wide, "high": value + wide, "better": better, "unit": unit}


def trained(name: str, values: dict[float, float], *, seconds: float = 80.0, **more: Any) -> dict[str, Any]:
    """A row whose distance at each share of the budget is given."""
    return {
        "name": name,
        "family": name.partition(":")[0].partition(",")[0],
        "kind": "model",
        "seed": 0,
        "status": "ok",
        "metrics": {"frechet": measure(values[1])},
        "speed": {"train_seconds": seconds},
        "budgets": [
            {"share": share, "reached": share, "seconds": seconds * share, "metrics": {"frechet": measure(value)}}
            for share, value in values.items()
            if share < 1
        ],
        **more,
    }


def test_courses_cross_where_their_lines_in_logarithms_do() -> None:
    """Distances that fall as 1/t and as 1/sqrt(t) and meet at 0.35 of the budget."""
    shares = (0.125, 0.25, 0.5, 1)
    slow = trained("diffusion", {s: 4 * 0.35 / s for s in shares})
    fast = trained("vae", {s: 4 * (0.35 / s) ** 0.5 for s in shares})
    both = summaries({"rows": [slow, fast]})
    (found,) = overtakings(both, "frechet")
    assert (found.ahead, found.behind) == ("diffusion", "vae")
    assert found.seconds == pytest.approx(80 * 0.35)
    seconds, figure = course(both[0], "frechet")[0]
    assert (seconds, figure.value) == (10.0, pytest.approx(11.2))
    # Crossings of what cannot be told apart are no news.
    near = [trained("gan", {0.5: 2.0, 1: 1.99}), trained("vae", {0.5: 1.99, 1: 2.0})]
    assert overtakings(summaries({"rows": near}), "frechet") == []


def test_who_overtakes_whom_is_told_by_seconds_not_by_shares() -> None:
    """As many examples take one family four times as long: at equal shares it is ahead from the start."""
    shares = (0.125, 0.25, 0.5, 1)
    slow = trained("diffusion", {s: 4 * 14 / (80 * s) for s in shares})
    fast = trained("vae", {s: 4 * (14 / (20 * s)) ** 0.5 for s in shares}, seconds=20.0)
    # Few steps: a share that whole batches made a larger one is a training of some seconds like any other.
    for row in (slow, fast):
        row["budgets"][0]["reached"] = 0.14
    (found,) = overtakings(summaries({"rows": [slow, fast]}), "frechet")
    assert (found.ahead, found.behind, found.seconds) == ("diffusion", "vae", pytest.approx(14))
    apart_in_time = [slow, trained("vae", {s: 1 / s for s in shares}, seconds=9.0)]
    assert overtakings(summaries({"rows": apart_in_time}), "frechet") == [], "no moment has figures of both"


def test_a_course_between_its_points_is_straight_in_logarithms() -> None:
    (one,) = summaries({"rows": [trained("vae", {0.25: 8.0, 1: 2.0})]})
    middle = after(course(one, "frechet"), 40.0)
    assert middle is not None and middle.value == pytest.approx(4.0) == pytest.approx(middle.seeds[0])
    assert middle.low == pytest.approx((7.99 * 1.99) ** 0.5) and middle.high == pytest.approx((8.01 * 2.01) ** 0.5)
    assert after(course(one, "frechet"), 19.9) is None is after(course(one, "frechet"), 80.1)
    # An interval that reaches down to 0 has no logarithm there: it stays as wide.
    wide = trained("vae", {0.25: 8.0, 1: 2.0})
    wide["metrics"]["frechet"] |= {"low": 0.0}
    middle = after(course(summaries({"rows": [wide]})[0], "frechet"), 40.0)
    assert middle is not None and middle.low == 0.0


def test_why_a_share_became_another_is_told() -> None:
    """By the clock, which corrects the count of a time budget, or by the rounding to whole batches."""
    rounded, corrected = trained("gan", {0.125: 4, 1: 1}), trained("vae", {0.5: 2, 1: 1})
    rounded["budgets"][0]["reached"], corrected["budgets"][0]["reached"] = 0.138, 0.27
    rounded["training"], corrected["training"] = {"corrections": []}, {"corrections": [[40, 9000]]}
    assert studied([rounded])["courses"]["words"][-1] == (
        "Rounded to whole batches, so that shares became others: gan 13.8% for 12.5%."
    )
    assert studied([rounded, corrected])["courses"]["words"][-2:] == [
        "The clock set counts right on the way, so that shares became others: vae 27% for 50%.",
        "Rounded to whole batches, so that shares became others: gan 13.8% for 12.5%.",
    ]


def test_the_last_half_pays_or_does_not() -> None:
    falling, flat, worse = summaries(
        {"rows": [trained("a", {0.5: 2, 1: 1}), trained("b", {0.5: 1.01, 1: 1}), trained("c", {0.5: 1, 1: 2})]}
    )
    assert [getattr(last_half(one, "frechet"), "pays", None) for one in (falling, flat, worse)] == [True, False, False]
    assert [getattr(last_half(one, "frechet"), "hurts", None) for one in (falling, flat, worse)] == [False, False, True]
    assert last_half(summaries({"rows": [trained("d", {1: 1})]})[0], "frechet") is None


def test_a_share_that_became_another_one_is_no_figure_at_it() -> None:
    """The clock may set the count right after the state of a branch was kept: half of 100 is a quarter of 200."""
    row = trained("vae", {0.125: 4, 0.5: 2, 1: 1})
    row["budgets"][1] |= {"reached": 0.27, "seconds": 21.6}
    (one,) = summaries({"rows": [row]})
    assert last_half(one, "frechet") is None and at_share(one, 0.5, "frechet") is None
    assert at_share(one, 0.125, "frechet") is not None and astray(one) == [(0.5, 0.27, False)]
    assert (21.6, 2.0) in [(s, f.value) for s, f in course(one, "frechet")], (
        "it is what a training of these seconds reached"
    )
    near = trained("vae", {0.5: 2, 1: 1})
    near["budgets"][0]["reached"] = 0.46
    assert last_half(summaries({"rows": [near]})[0], "frechet") is not None


# --- drift -----------------------------------------------------------------------------------------------------------


def drifting(by: str, earlier: float, mixed: float) -> list[dict[str, Any]]:
    """Rows of both halves by this order, on test examples of their own."""
    row = trained("vae", {1: 1.0}) | {"kind": "variant", "of": "vae", "study": "drift", "column": f"later-{by}"}
    halves = {"earlier": measure(earlier), "random": measure(mixed)}
    return [
        row | {"name": f"vae, {half} half by {by}", "what": f"{half} half by {by}", "metrics": {"frechet": value}}
        for half, value in halves.items()
    ]


def test_two_protocols_share_no_column() -> None:
    """Neither in the file nor on the page: two ways to tell time are measured on other test examples, too."""
    base = trained("vae", {1: 1.0}) | {"column": "whole"}
    table = [base, *drifting("order", 3.0, 1.5), *drifting("year", 8.0, 2.0)]
    lines = list(csv.DictReader(as_csv(table).splitlines()))
    for line in lines:
        known = {name for name, value in line.items() if value and name.startswith("frechet")}
        assert known == {f"frechet_{line['protocol']}{end}" for end in ("", "_low", "_high")}, line["name"]
    assert [line["train_seconds"] for line in lines] == ["80.0"] * 5, "a second is a second"
    found = studies({"rows": table}, summaries({"rows": table}), metric="frechet", shapes={"vae": 0})["drift"]
    assert {by: [each["times"] for each in own] for by, own in found.items()} == {"order": ["2 ×"], "year": ["4 ×"]}


def test_where_the_mean_moves_the_earlier_half_serves_the_later_worse(tmp_path: Path) -> None:
    """Points whose mean goes from -3 to 3: real ones and samples of models alike."""
    moving = np.random.default_rng(0).standard_normal((400, 2)) + np.linspace(-3, 3, 400)[:, None]
    data = open_data(moving.astype(np.float32))
    ruler = Ruler(later(data, "order"), 100, quiet=True)
    earlier, mixed = wanted(Studies(drift="order"), ["vae"], examples=400, grid=False)
    found = [drifted(ruler, data, earlier, seed=0), {}]
    for half in (earlier, mixed):
        run = tl.train(data_of(half, data), model="vae", size="xs", budget=2048, out=tmp_path / half.half, quiet=True,
                       settings=QUICK)  # fmt: skip
        found[1][half.half] = quick(ruler, Loaded(run.folder).sampler.samples(100, seed=0))
    for halves in found:
        assert halves["earlier"]["frechet"]["low"] > halves["random"]["frechet"]["high"], halves


# --- less data, other settings, stability, the bill -------------------------------------------------------------------


def variant(of: str, study: str, what: str, value: float | None, verdict: str = "none") -> dict[str, Any]:
    """One row of a study; without a value its training failed."""
    (row,) = rows(f"{of}, {what}", 1, kind="variant", frechet=value or 1.0, jitter=0)
    row |= {"study": study, "of": of, "what": what, "verdicts": {"memorisation": verdict}}
    return row if value else row | {"status": "failed", "metrics": {}, "verdicts": {}}


def studied(table: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """What the page shows of these rows."""
    results = {"rows": table, **more}
    everything = summaries(results)
    return studies(results, everything, metric="frechet", shapes={one.name: 0 for one in everything})


def test_where_samples_begin_to_be_copies_is_a_sentence() -> None:
    """By family: at 10, 30 and 60 % of the data; all of them are 'none'."""
    told = {
        "vae": (("copies", "none", "none"), "vae: copies from 10 % of the data down, none at 30 %."),
        "gan": (("none", "copies", "none"), "gan: copies at 30 % of the data, none at 10 %, 60 % and 100 %."),
        "diffusion": (
            ("cannot tell", "none", "none"),
            "diffusion: no copies down to 30 % of the data; it cannot be told at 10 % of the data.",
        ),
        "autoencoder": (("none",) * 3, "autoencoder: no copies down to 10 % of the data."),
    }
    table = [rows(name, 1, frechet=2.0)[0] for name in told]
    for name, (verdicts, _) in told.items():
        for share, verdict in zip((10, 30, 60), verdicts, strict=True):
            table.append(variant(name, "subsample", f"{share}% of the data", 4.0, verdict))
    (found,) = studied(table)["changes"]
    assert found["words"] == [sentence for _, sentence in told.values()]
    table[0]["verdicts"] = {"memorisation": "copies"}
    assert (
        studied(table)["changes"][0]["words"][0] == "vae: copies at 10 % and 100 % of the data, none at 30 % and 60 %."
    )


def test_a_rate_or_batch_that_matters_makes_a_family_touchy() -> None:
    """By the worst of four changes: above 1.5 times touchy, below 1.2 calm, a training that fails is the worst."""
    worst = {"gan": 3.3, "vae": 2.3, "autoencoder": 2.7, "diffusion": None}
    table = [rows(name, 1, frechet=2.0, jitter=0)[0] for name in worst]
    for name, value in worst.items():
        for what, times in (("rate × 1/3", 2.1), ("rate × 3", value), ("batch × 1/2", 2.0), ("batch × 2", 1.8)):
            table.append(variant(name, "sensitivity", what, times))
    (found,) = studied(table)["changes"]
    lines = {line["name"]: line for line in found["lines"]}
    assert {name: line["answer"] for name, line in lines.items()} == {
        "gan": "touchy", "vae": "calm", "autoencoder": "in between", "diffusion": "touchy",
    }  # fmt: skip
    assert found["what"] == ["rate × 1/3", "rate × 3", "batch × 1/2", "batch × 2"]
    assert lines["diffusion"]["cells"][1] == ("failed", "") and lines["gan"]["cells"][1][1].endswith("1.6 × 2")


def test_a_change_is_held_against_the_figure_that_stands_beside_it() -> None:
    """One training beside three: the usual figure of its own seed is not the mean that the first column has."""
    table = rows("gan", 3, frechet=2.0, jitter=0)
    for row, value in zip(table, (10.0, 12.0, 14.0), strict=True):
        row["metrics"]["frechet"] = measure(value, 1.0)
    table.append(variant("gan", "subsample", "30% of the data", 11.0))
    (line,) = studied(table)["changes"][0]["lines"]
    assert line["base"][0] == "12.0" and line["cells"][0] == ("11.0", "10.8–11.2, 1.1 × 10")


def test_stability_counts_trainings_that_went_well_and_what_was_lost_on_the_way() -> None:
    table = rows("gan", 5, frechet=2.0, jitter=0)
    for row, value in zip(table, (1.0, 3.0, 2.0, 2.0, 2.0), strict=True):
        row["metrics"]["frechet"] = measure(value)
    table[1]["stability"] = {"events": {"overpowered": 2}, "rollbacks": 0}
    table[2]["metrics"]["diversity"] = measure(0.1)
    table[3] |= {"status": "failed", "metrics": {}}
    table[4]["status"] = "pending"
    previews = {0: (1.0, 0.2, 0.6), 1: (0.5, 0.3, 0.1)}  # half of what was gained is lost again; nothing is
    for place, values in previews.items():
        table[place]["curve"] = [{"kernel@random": value} for value in values]
    table += rows("vae", 1, frechet=2.0)
    gan, vae = studied(table)["stability"]
    assert gan["well"] == "1 of 4", "an event, a collapse and a failure are three that went wrong"
    assert gan["events"] == "overpowered 2×" and gan["lost"] == "25%"
    assert gan["spread"] == "± 50%", "of 1, 3 and 2 the deviation is 1, half of their mean"
    assert (vae["well"], vae["events"], vae["spread"], vae["lost"]) == ("1 of 1", "none", "–", "–")


def test_the_bill_is_hours_times_the_price() -> None:
    row = trained("vae", {1: 1.0}, seconds=5400.0)
    row["speed"] |= {"samples_per_second": 500.0, "train_memory_bytes": 2.5e9}
    (line,) = studied([row], settings={"price": 1.8})["bill"]
    assert line["money"] == ("2.7", "1"), "an hour and a half; a million samples take 2,000 seconds"
    assert (line["training"], line["million"], line["memory"]) == ("1.5 h", "33.3 min", "2.5 GB")
    assert studied([row])["bill"][0]["money"] is None


# --- claims ----------------------------------------------------------------------------------------------------------


def rows(
    name: str, seeds: int = 3, kind: str = "model", jitter: float = 0.01, **metrics: float
) -> list[dict[str, Any]]:
    """Rows of a model over seeds; a metric given as a number, with a little spread."""
    better = {"frechet": "lower", "path_length": "lower", "denoising": "lower", "reconstruction": "lower"}
    generator = np.random.default_rng(len(name))
    found = []
    for seed in range(seeds):
        noise = {key: value * math.exp(jitter * generator.standard_normal()) for key, value in metrics.items()}
        found.append(
            {
                "name": name, "family": name.partition(":")[0].partition(",")[0], "kind": kind, "seed": seed,
                "status": "ok", "verdicts": {"memorisation": "none"}, "stability": {"events": {}, "rollbacks": 0},
                "metrics": {key: measure(v, 0.02 * abs(v), better.get(key, "higher")) for key, v in noise.items()},
                "speed": {},
            }
        )  # fmt: skip
    return found


def judged(*parts: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    results = {"title": "toy", "command": "x", "rows": [row for part in parts for row in part], "data": {}}
    return {one["key"]: (one["verdict"], one["figures"]) for one in decide(results)}


def test_a_claim_holds_does_not_hold_or_cannot_be_told() -> None:
    """The same claim on data where it is so, where the reverse is so, and where nothing differs."""
    for gan, vae, expected in ((1.0, 0.7, "holds"), (0.7, 1.0, "does not hold"), (0.9, 0.9, "cannot be told")):
        found = judged(rows("gan", sharpness=gan, frechet=2, jitter=0.03), rows("vae", sharpness=vae, frechet=3))
        assert found["sharper"][0] == expected, found["sharper"]
    assert found["control"][1].startswith("not measured")
    assert found["ddim"] == ("cannot be told", "not measured: no diffusion:ddpm in this comparison")


def test_one_reliable_counterexample_sinks_a_claim_about_all() -> None:
    good = [rows("vae", frechet=3, recall=0.5), rows("gan", frechet=4, recall=0.4)]
    assert judged(*good, rows("diffusion", frechet=1, recall=0.8))["trilemma"][0] == "holds"
    assert judged(*good, rows("diffusion", frechet=1, recall=0.3))["trilemma"][0] == "does not hold"
    assert judged(*good, rows("diffusion", frechet=1, recall=0.5, jitter=0.2))["trilemma"][0] == "cannot be told"


def test_stability_is_decided_by_tests_not_by_a_single_odd_seed() -> None:
    calm = [rows("vae", frechet=3, jitter=0.001), rows("diffusion", frechet=3, jitter=0.001)]
    assert judged(*calm, rows("gan", frechet=3, jitter=0.5))["unstable"][0] == "holds"
    assert judged(*calm, rows("gan", frechet=3, jitter=0.003))["unstable"][0] == "cannot be told", "F(2, 2) is wide"
    assert judged(*calm, rows("gan", 2, frechet=3))["unstable"][0] == "cannot be told"
    waiting = rows("gan", frechet=3, jitter=0.5)
    for row in waiting[1:]:
        row["status"] = "pending"
    assert judged(*calm, waiting)["unstable"][1].startswith("not measured"), "seeds that have not run are no evidence"
    troubled = rows("vae", frechet=3, jitter=0.001)
    troubled[0]["stability"]["events"] = {"collapsed": 1}
    steady = rows("gan", frechet=3, jitter=0.001)
    assert judged(troubled, calm[1], steady)["unstable"][0] == "cannot be told", "one trouble of three is chance"
    dead = rows("gan", frechet=3)
    for row in dead:
        row["status"], row["metrics"] = "failed", {}
    assert judged(*calm, dead)["unstable"][0] == "holds", "that none succeeded is the strongest evidence"


def test_little_data_hurts_by_quotients_seed_by_seed() -> None:
    base = [rows(name, frechet=3) for name in ("vae", "gan", "diffusion")]
    for gan, expected in ((30, "holds"), (4, "does not hold")):
        few = [rows(f"{n}, 10% of the data", kind="variant", frechet=f) for n, f in (("vae", 9), ("gan", gan))]
        assert judged(*base, *few)["hungry"][0] == expected


def test_touchiness_counts_failures_and_is_held_against_the_seeds() -> None:
    def told(worst: float | None, jitter: float = 0.01) -> str:
        found = [rows("vae", frechet=3, jitter=jitter)]
        for what, value in (("rate × 1/3", 3), ("rate × 3", worst), ("batch × 1/2", 3), ("batch × 2", 3)):
            (row,) = rows(f"vae, {what}", 1, kind="variant", frechet=value or 1, jitter=0)
            row |= {"study": "sensitivity", "of": "vae", "what": what}
            found.append([row | ({"status": "failed", "metrics": {}} if value is None else {})])
        return judged(*found)["touchy"][0]

    assert [told(each) for each in (3.1, 4.0, 9.0, None)] == ["does not hold", "cannot be told", "holds", "holds"]
    assert told(6.0, jitter=0.8) != "holds", "seeds alone differ as much"


def test_collapses_are_counted_as_the_answer_counts_them() -> None:
    """By the spread of the samples at the end, training by training."""
    flat = rows("diffusion", 1, frechet=3, diversity=0.356, jitter=0)
    assert advise({"rows": flat, "command": ""})["why"]["left_out"]["diffusion"].startswith("it collapsed")
    assert judged(flat)["no-collapse"] == (
        "does not hold", "spread 0.356 of real data's, 1 of 1 training collapsed",
    )  # fmt: skip
    one_of_three = rows("diffusion", frechet=3, diversity=1.3, jitter=0)
    one_of_three[1]["metrics"]["diversity"] = measure(0.3)
    one_of_three[2]["stability"]["events"] = {"collapsed": 1}  # and it recovered
    verdict, words = judged(one_of_three)["no-collapse"]
    assert verdict == "does not hold" and words.endswith("1 of 3 trainings collapsed")
    assert studied(one_of_three)["stability"][0]["well"] == "1 of 3", "what was detected on the way is trouble"
    assert judged(flat)["copies"] == ("holds", "none of 1 model")


def test_what_a_claim_lacks_is_what_was_not_given() -> None:
    """Options that were given and models that are there help no more; what data do not have no option brings."""

    def decided(**studies: Any) -> dict[str, dict[str, Any]]:
        floor = rows("real against real", 1, kind="floor", frechet=1, recall=1)
        table = [*rows("vae", frechet=3), *rows("gan", frechet=2), *rows("diffusion", frechet=1), *floor]
        for row in table[6:9]:
            row["budgets"] = [{"share": 0.125, "reached": 5 / 24, "metrics": {"frechet": measure(2)}}]
        settings = {"seeds": 3, "studies": studies}
        results = {"rows": table, "data": {"labels": None}, "settings": settings, "finished": True}
        return {one["key"]: one for one in decide(results)} | {"page": studied(table, **results)["claims"]["rest"]}

    plain, given = decided(), decided(claims=True, sensitivity=True)
    assert plain["wasserstein"]["lacks"] == ["--claims", "gan:wasserstein"], "three seeds are there"
    assert plain["touchy"]["lacks"] == ["--sensitivity"] and plain["touchy"]["figures"].endswith("(--sensitivity)")
    assert plain["denoising"]["lacks"] == ["--claims", "autoencoder"] and given["denoising"]["lacks"] == ["autoencoder"]
    assert plain["ddim"]["lacks"] == ["diffusion:ddpm", "--claims"] and given["ddim"]["lacks"] == ["diffusion:ddpm"]
    for found in (plain, given):
        for key in ("sharper", "control", "guidance", "hybrids"):
            assert found[key]["lacks"] == [] and "--" not in found[key]["figures"], found[key]
    assert "--seeds" not in given["first"]["figures"] and "vae 0, gan 0" in given["first"]["figures"]
    assert given["late"]["figures"].endswith("diffusion at 0.125 of the budget became one at 0.21: batches are whole")
    assert "--claims" in plain["page"][0] and "--" not in " ".join(given["page"])
    assert given["page"][0].endswith("more need a larger budget, autoencoder and diffusion:ddpm")
    assert re.fullmatch(r"\d+ more cannot be told on these data", given["page"][1])


def test_the_rule_is_undecided_where_its_family_is_tied() -> None:
    def told(gan: float, vae: float, jitter: float = 0.01, part: int = 0) -> str:  # verdict, figures
        return judged(
            rows("gan", frechet=gan, recall=0.5, coverage=0.5, jitter=jitter),
            rows("vae", frechet=5, recall=vae, coverage=vae, jitter=jitter),
            rows("diffusion", frechet=3, recall=0.7, coverage=0.7, jitter=jitter),
            rows("autoencoder", frechet=4, recall=0.6, coverage=0.6, jitter=jitter),
        )["rule"][part]

    assert told(1, 0.9) == "holds"
    assert told(9, 0.9) == "does not hold"
    assert told(1, 0.75, jitter=0.1) == "cannot be told"
    for gan, words in ((2.8, "gan (cannot be told from diffusion)"), (3.3, "diffusion (cannot be told from gan)")):
        assert f"quality: {words}, " in told(gan, 0.9, jitter=0.1, part=1)


def test_claims_on_steps_guidance_and_budgets_read_their_studies() -> None:
    ddpm = rows("diffusion:ddpm", 1, frechet=3)
    rungs = {"ddpm": (90, 40, 12, 6, 3.0), "ddim": (20, 6, 3.1, 3.0, 3.0)}
    ddpm[0]["ladder"] = [
        {"sampler": name, "steps": steps, "metrics": {"frechet": measure(value)}}
        for name, values in rungs.items()
        for steps, value in zip((4, 8, 16, 32, 64), values, strict=True)
    ]
    verdict, words = judged(ddpm)["ddim"]
    assert verdict == "holds" and words.endswith("DDPM 64, DDIM 16")
    guided = rows("diffusion", 1, frechet=3)
    guided[0]["guided"] = [
        {"guidance": g, "metrics": {"precision": measure(p, better="higher"), "recall": measure(r, better="higher")}}
        for g, p, r in ((1.0, 0.6, 0.8), (2.0, 0.7, 0.7), (4.0, 0.9, 0.4))
    ]
    assert judged(guided)["guidance"] == ("holds", "guidance 1 → 4: precision 0.6 → 0.9, recall 0.8 → 0.4")
    late = [trained("diffusion", {0.125: 9, 1: 1}), trained("vae", {0.125: 5, 1: 3}), trained("gan", {0.125: 6, 1: 2})]
    assert judged(late)["late"][0] == "holds"
    assert judged([{**late[0], "metrics": {"frechet": measure(4)}}, *late[1:]])["late"][0] == "does not hold"
    early = [
        {**trained("gan, minimax", {0.125: 9, 1: 3}), "kind": "variant"},
        {**trained("gan, non-saturating", {0.125: 4, 1: 3}), "kind": "variant"},
    ]
    assert judged(early)["saturates"][0] == "holds"


def test_variants_decide_ablations_and_never_are_the_answer() -> None:
    base = [
        rows("vae", frechet=3, sharpness=0.9, path_length=1.5),
        rows("gan", frechet=4),
        rows("diffusion", frechet=5),
    ]
    pixels = rows("vae, pixels only", kind="variant", frechet=0.1, sharpness=0.5)
    rough = rows("vae, without KL", kind="variant", frechet=0.1, path_length=1.1)
    found = judged(*base, pixels, rough)
    assert found["blur"][0] == "holds" and found["smooth"][0] == "does not hold"
    seen = Evidence({"rows": [row for part in (*base, pixels) for row in part]})
    assert [one.name for one in seen.models] == ["vae", "gan", "diffusion"]
    assert advise({"rows": [r for part in (*base, pixels) for r in part], "command": ""})["winner"] == "vae"


def test_a_hybrid_needs_both_strengths() -> None:
    base = [rows("vae", frechet=3, sharpness=0.7, recall=0.6), rows("gan", frechet=4, sharpness=0.9, recall=0.3)]
    both = rows("vae, with a critic", kind="variant", frechet=2, sharpness=0.85, recall=0.6)
    blurred = rows("vae, with a critic", kind="variant", frechet=2, sharpness=0.6, recall=0.6)
    assert judged(*base, both)["hybrids"][0] == "holds"
    assert judged(*base, blurred)["hybrids"][0] == "does not hold"
    assert judged(*base)["hybrids"][1].startswith("not measured")


def test_every_claim_has_words_and_the_page_in_docs_is_theirs() -> None:
    keys = [claim.key for claim in CLAIMS]
    assert len(keys) >= 20 and len(set(keys)) == len(keys)
    assert all(claim.sentence.endswith(".") and claim.test and claim.needs for claim in CLAIMS)
    text = (Path(__file__).parent.parent / "docs" / "claims.md").read_text(encoding="utf-8")
    assert text == document(), "python -m trilemma.report.claims > docs/claims.md"


def test_a_critic_at_chance_beside_a_bad_gan_refutes() -> None:
    good = [rows(f"gan:{n}", 1, frechet=1 + n, critic=0.5 + 0.08 * (n + 1)) for n in range(6)]
    assert judged(*good)["critic"][0] == "holds"
    fooled = rows("gan:bad", 1, frechet=20, critic=0.5)
    assert judged(*good, fooled)["critic"][0] == "does not hold"
    assert judged(*good[:3])["critic"][1].startswith("not measured")


# --- the whole -------------------------------------------------------------------------------------------------------


def last_page(folder: Path, results: dict[str, Any], pictures: Any) -> None:
    """The page of a finished comparison alone: one after each of many rows takes longer than their few steps."""
    if results["finished"]:
        write_page(folder, results, pictures)


def test_compare_with_studies_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits, a few steps each: rows, figures, claims and sections are there, and a second call trains nothing."""
    monkeypatch.setattr("trilemma.report.compare.write_page", last_page)
    monkeypatch.setattr("trilemma.report.probes.STEPS", (4, 8))
    monkeypatch.setattr("trilemma.report.probes.TEST", 60)
    monkeypatch.setattr("trilemma.report.compare.count_for", lambda data: 150)
    x = open_data("digits").x[:600]
    labels = open_data("digits").conditions["label"][:600, 0]
    source = {"x": x[:, 0], "label": labels}
    np.savez(tmp_path / "few.npz", **source)
    out = tmp_path / "report"
    asked: dict[str, Any] = dict(
        models=["vae", "gan", "diffusion"], budget_each="256", claims=True, drift="order", price=0.5, out=out,
        quiet=True, settings=QUICK | {"network.width": 16, "training.save_every": 100},
    )  # fmt: skip
    tl.compare(str(tmp_path / "few.npz"), **asked)
    results = json.loads((out / "results.json").read_text())
    assert results["finished"] and all(row["status"] == "ok" for row in results["rows"]), [
        (row["name"], row["error"]) for row in results["rows"] if row["status"] != "ok"
    ]
    by_name = {row["name"]: row for row in results["rows"]}
    assert [point["share"] for point in by_name["vae"]["budgets"]] == [0.125, 0.25, 0.5]
    assert [point["share"] for point in by_name["gan, minimax"]["budgets"]] == [0.125] and not by_name[
        "vae, pixels only"
    ]["budgets"]
    of_codes = {"rate", "reconstruction_psnr", "reconstruction_frechet"}
    assert {"active_units", "midpoints", "path_length", "denoising"} | of_codes <= set(by_name["vae"]["metrics"])
    for name in ("vae", "diffusion"):
        assert 0 < by_name[name]["metrics"]["bits_per_dimension"]["value"] < 100
    assert "critic" in by_name["gan"]["metrics"]
    assert {rung["steps"] for rung in by_name["diffusion"]["ladder"]} == {4, 8}
    assert [point["guidance"] for point in by_name["diffusion"]["guided"]] == [1.0, 2.0, 4.0]
    later_half, usual = by_name["vae, earlier half by order"]["column"], results["protocol_key"]
    assert later_half != usual == by_name["vae"]["column"], "another protocol"
    record = results["other_protocols"][later_half]
    assert set(results["other_protocols"]) == {later_half} and Protocol.from_record(record).key() == later_half
    with open(out / "results.csv", newline="") as file:
        lines = {line["name"]: line for line in csv.DictReader(file)}
    for name, own, other in (("vae", usual, later_half), ("vae, earlier half by order", later_half, usual)):
        assert float(lines[name][f"frechet_{own}"]) == pytest.approx(by_name[name]["metrics"]["frechet"]["value"])
        assert lines[name][f"frechet_{other}"] == "" == lines[name][f"recall_{other}_low"]
    decided = [one for one in decide(results) if not one["figures"].startswith("not measured")]
    assert len(decided) >= 15
    floors = results["drift"]["order"]
    assert set(floors) == {"earlier", "random"} and floors["earlier"] != floors["random"]
    assert floors["random"]["frechet"]["value"] < by_name["vae, random half by order"]["metrics"]["frechet"]["value"]
    page = (out / "index.html").read_text(encoding="utf-8")
    for words in (
        "by order",
        later_half,
        "What the textbooks say",
        "What a training costs and risks",
        "Less data",
        "change with time",
        "The bill",
    ):
        assert words in page
    times = {path: path.stat().st_mtime for path in out.glob("runs/*/weights.safetensors")}
    tl.compare(str(tmp_path / "few.npz"), **asked)
    assert times == {path: path.stat().st_mtime for path in out.glob("runs/*/weights.safetensors")}
    again = json.loads((out / "results.json").read_text())
    assert {row["name"] for row in again["rows"]} == set(by_name)
    assert again["drift"] == results["drift"] and not again["studies_to_come"]
    assert again["other_protocols"] == results["other_protocols"]
    assert not [row["problems"] for row in again["rows"] if row["problems"]]
    assert [one["verdict"] for one in again["claims"]] == [one["verdict"] for one in decide(again)]
    with pytest.raises(InputError, match="branches"):
        tl.compare(str(tmp_path / "few.npz"), **{**asked, "claims": False})


def test_studies_on_points_two_seeds_and_remeasured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No grid, no labels, two seeds, a preset beside its own ablation; --remeasure without a word of the studies."""
    monkeypatch.setattr("trilemma.report.compare.write_page", last_page)
    monkeypatch.setattr("trilemma.report.compare.count_for", lambda data: 100)
    out, few = tmp_path / "report", np.asarray(open_data("moons").x[:300])
    asked: dict[str, Any] = dict(
        models=["gan", "gan:minimax", "vae"], budget_each="256", seeds=2, out=out, quiet=True,
        settings=QUICK | {"network.width": 16},
    )  # fmt: skip
    tl.compare(few, claims=True, **asked)
    first = json.loads((out / "results.json").read_text())
    assert all(row["status"] == "ok" and not row["problems"] for row in first["rows"]), [
        (row["name"], row["error"], row["problems"]) for row in first["rows"]
    ]
    of_two = [row["seed"] for row in first["rows"] if row["name"] == "gan, minimax"]
    assert of_two == [0, 1], "ablations at every seed, beside the preset of that name"
    assert "vae, pixels only" not in [row["name"] for row in first["rows"]], "points have no texture"
    spoilt = json.loads((out / "results.json").read_text())
    for row in spoilt["rows"]:
        for entry in row["metrics"].values():
            entry["value"] = -1.0
    (out / "results.json").write_text(json.dumps(spoilt))
    tl.compare(few, curve=True, remeasure=True, **asked)
    again = json.loads((out / "results.json").read_text())
    names = {(row["name"], row["seed"]): row for row in again["rows"]}
    for row in first["rows"]:
        assert names[row["name"], row["seed"]]["metrics"]["frechet"] == row["metrics"]["frechet"], row["name"]


def test_a_probe_that_fails_is_no_failure_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("trilemma.report.teller.probes", broken)
    few = np.asarray(open_data("moons").x[:300])
    tl.compare(few, models=["vae"], budget_each="256", out=tmp_path / "r", quiet=True, settings=QUICK)
    row = json.loads((tmp_path / "r" / "results.json").read_text())["rows"][0]
    assert row["status"] == "ok" and "out of luck" in row["problems"][0]
    assert "out of luck" in (tmp_path / "r" / "errors.log").read_text()
    assert "out of luck" in (tmp_path / "r" / "index.html").read_text(encoding="utf-8"), "the reader is told"


def test_what_is_to_come_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first step how much there is to do; on an unfinished page which studies; and which of them failed."""

    class Stop(KeyboardInterrupt):
        pass

    def vary(self: Any, variant: Variant, *rest: Any) -> None:
        if variant.what == "rate × 1/3":
            row = new_row("vae", 0, "variant", "failed") | {"name": variant.name, "of": "vae", "error": "no luck"}
            return self._keep(row | {"variant": asdict(variant), "study": "sensitivity", "what": variant.what})
        raise Stop

    monkeypatch.setattr("trilemma.report.compare.Comparison._vary", vary)
    few = np.asarray(open_data("moons").x[:300])
    with pytest.raises(Stop):
        tl.compare(few, models=["vae"], budget_each="64", out=tmp_path / "r", settings=QUICK, sensitivity=True)
    assert "to do: 1 training and 4 of studies, 64 each: about 320 examples of training" in capsys.readouterr().err
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    to_come = [each["name"] for each in json.loads((tmp_path / "r" / "results.json").read_text())["studies_to_come"]]
    assert to_come == ["vae, rate × 3", "vae, batch × 1/2", "vae, batch × 2"]
    assert "studies to come: " + "; ".join(to_come) in page and "the training failed: no luck" in page


def test_forecasts_count_branches_and_studies() -> None:
    assert forecast("2m", 18, 33, (0.125, 0.25, 0.5)) == (
        "to do: 18 trainings with 3 branches and 33 of studies, 2m each: about 2.0 h of training, and the measuring"
    )
    assert forecast("90s", 1, 0) == "to do: 1 training, 90s each: about 90 s of training, and the measuring"
    assert "about 50,000 examples of training" in forecast("10k", 5, 0)
    assert "2m each, 4 at once: about 10.0 min of training" in forecast("2m", 18, 2, at_once=4)
    assert forecast("2m", 1, 0, at_once=4) == forecast("2m", 1, 0)
