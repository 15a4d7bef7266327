"""Studies beside the comparison: branches, variants, probes, budgets, and what becomes of the textbooks' claims."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import trilemma as tl
from trilemma.errors import InputError
from trilemma.metrics.latent import active_units, bits_per_dimension, midpoints, path_length
from trilemma.metrics.neighbours import inside_balls, precision_recall_density_coverage
from trilemma.modalities.door import open_data
from trilemma.report import claims as claiming
from trilemma.report.budgets import course, last_half, overtakings
from trilemma.report.claims import CLAIMS, decide, document
from trilemma.report.evidence import Evidence
from trilemma.report.summary import summaries
from trilemma.report.variants import Studies, check, data_of, later, moments, parse_shares, settings_of, variants
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
    """Where nothing but the fall of the rate follows the budget, branch and short training are one."""
    data = open_data("moons")
    settings = QUICK | {"optimizer.warm_up": 0, "model.warm_up": 0.0}
    whole = tl.train(data, model="vae", size="xs", budget=1280, out=tmp_path / "whole", quiet=True,
                     settings=settings | {"training.branches": (0.25, 0.5)})  # fmt: skip
    assert shares_of(whole) == [0.25, 0.5]
    for share, examples in ((0.25, 320), (0.5, 640)):
        short = branch(data, whole, share, quiet=True)
        assert short.finished and short.config()["training"]["examples"] == examples
        alone = tl.train(data, model="vae", size="xs", budget=examples, out=tmp_path / str(examples), quiet=True,
                         settings=settings)  # fmt: skip
        ours, theirs = (load_file(run.weights_file) for run in (short, alone))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert branch(data, whole, share, quiet=True).folder == short.folder, "a second call finds it"
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
    assert parse_shares([0.5, 1]) == (0.5,)
    assert parse_shares(None) == ()
    for wrong in ("0%", "150%", "some", "-3%"):
        with pytest.raises(InputError, match="--subsample"):
            parse_shares(wrong)


def test_variants_vary_one_thing_each() -> None:
    wanted = variants(Studies(claims=True, sensitivity=True, subsample=(0.3,), drift="order"), MODELS, {}, MODELS)
    names = [each.name for each in wanted]
    assert len(names) == len(set(names))
    assert {"vae, without KL", "gan, minimax", "gan, rate × 3", "diffusion, 10% of the data"} <= set(names)
    assert "autoencoder, trained on noisy input" in names
    # One preset of a family stands for it.
    assert not [name for name in names if name.startswith("diffusion:ddpm")]
    assert variants(Studies(claims=True), ["vae"], {}, ["vae"])[0].every_seed
    assert not [
        v for v in variants(Studies(claims=True), ["vae"], {"model.beta": 4}, ["vae"]) if v.what == "without KL"
    ]
    assert variants(Studies(sensitivity=True), ["vae"], {}, []) == [], "the base failed"
    base = {"optimizer": {"rate": 0.003, "batch": 33}}
    by_what = {
        v.what: settings_of(v, {"a": 1}, base) for v in variants(Studies(sensitivity=True), ["vae"], {}, ["vae"])
    }
    assert by_what["rate × 3"] == {"a": 1, "optimizer.rate": pytest.approx(0.009)}
    assert by_what["rate × 1/3"]["optimizer.rate"] == pytest.approx(0.001)
    assert by_what["batch × 1/2"]["optimizer.batch"] == 16 and by_what["batch × 2"]["optimizer.batch"] == 66


def test_parts_of_the_data_are_parts_and_have_hashes_of_their_own() -> None:
    data = open_data("digits")
    wanted = variants(Studies(subsample=(0.1, 0.3), drift="order"), ["vae"], {}, ["vae"])
    parts = {v.what: data_of(v, data, "order") for v in wanted}
    whole = data.splits["train"]
    assert len({part.hash for part in parts.values()} | {data.hash}) == len(parts) + 1
    assert np.array_equal(parts["10% of the data"].splits["train"], whole[: round(0.1 * len(whole))])
    early, mixed = (parts[f"trained on the {half} half"].splits["train"] for half in ("earlier", "random"))
    when, middle = moments(data, "order")
    assert len(early) == len(mixed) and (when[early] < middle).all() and not (when[mixed] < middle).all()
    after = later(data, "order").splits["test"]
    assert (when[after] >= middle).all() and 0 < len(after) < len(data.splits["test"])
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
    assert midpoints(real, ends, (ends[:200] + ends[200:]) / 2).value == 0
    found = midpoints(real, ends, ends[::2])
    assert found.low is not None and found.high is not None and found.low < 1 < found.high


def test_the_interval_of_midpoints_covers() -> None:
    """Katz's interval against the true ratio of two shares, at a share like those of real runs."""
    generator = np.random.default_rng(1)
    real = generator.standard_normal((400, 2))
    pool = [generator.standard_normal((20_000, 2)) * scale for scale in (1.6, 1.3)]
    truth = inside_balls(real, pool[0]).mean() / inside_balls(real, pool[1]).mean()
    hits = 0
    for _ in range(200):
        between, ends = (x[generator.choice(len(x), 200)] for x in pool)
        found = midpoints(real, ends, between)
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    assert 0.9 * 200 <= hits <= 0.99 * 200, hits


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
    assert bits_per_dimension(np.full(10, -12 * np.log(1.0)), 12, 1 / 256).value == pytest.approx(8)
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
            {"share": share, "seconds": seconds * share, "metrics": {"frechet": measure(value)}}
            for share, value in values.items()
            if share < 1
        ],
        **more,
    }


def test_courses_cross_where_their_lines_in_logarithms_do() -> None:
    """Distances 16/t and 4/sqrt(t) (t in shares of 1/16) are equal at t = 16 shares: here shifted to 1/4."""
    shares = (0.125, 0.25, 0.5, 1)
    slow = trained("diffusion", {s: 4 * 0.35 / s for s in shares})
    fast = trained("vae", {s: 4 * (0.35 / s) ** 0.5 for s in shares})
    both = summaries({"rows": [slow, fast]})
    (found,) = overtakings(both, "frechet")
    assert (found.ahead, found.behind) == ("diffusion", "vae")
    assert found.seconds == pytest.approx(80 * 0.35)
    assert course(both[0], "frechet")[0] == (10.0, pytest.approx(11.2))


def test_the_last_half_pays_or_does_not() -> None:
    falling, flat, worse = summaries(
        {"rows": [trained("a", {0.5: 2, 1: 1}), trained("b", {0.5: 1.01, 1: 1}), trained("c", {0.5: 1, 1: 2})]}
    )
    assert [getattr(last_half(one, "frechet"), "pays", None) for one in (falling, flat, worse)] == [True, False, False]
    assert last_half(summaries({"rows": [trained("d", {1: 1})]})[0], "frechet") is None


# --- claims ----------------------------------------------------------------------------------------------------------


def rows(
    name: str, seeds: int = 3, kind: str = "model", jitter: float = 0.01, **metrics: float
) -> list[dict[str, Any]]:
    """Rows of a model over seeds; a metric given as a number, with a little spread."""
    better = {"frechet": "lower", "path_length": "lower", "denoising": "lower", "reconstruction": "lower"}
    generator = np.random.default_rng(len(name))
    found = []
    for seed in range(seeds):
        noise = {key: value * (1 + jitter * generator.standard_normal()) for key, value in metrics.items()}
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


def test_stability_needs_three_seeds_and_counts_trouble_first() -> None:
    calm = [rows("vae", frechet=3, jitter=0.01), rows("diffusion", frechet=3, jitter=0.01)]
    assert judged(*calm, rows("gan", frechet=3, jitter=0.5))["unstable"][0] == "holds"
    assert judged(*calm, rows("gan", 2, frechet=3))["unstable"][0] == "cannot be told"
    troubled = rows("vae", frechet=3)
    troubled[0]["stability"]["events"] = {"collapsed": 1}
    assert judged(troubled, calm[1], rows("gan", frechet=3, jitter=0.01))["unstable"][0] == "does not hold"


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
    assert claiming.advise({"rows": [r for part in (*base, pixels) for r in part], "command": ""})["winner"] == "vae"


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


def test_compare_with_studies_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits, a few steps each: rows, figures, claims and sections are there, and a second call trains nothing."""
    monkeypatch.setattr("trilemma.report.probes.STEPS", (4, 8))
    x = open_data("digits").x[:600]
    labels = open_data("digits").conditions["label"][:600, 0]
    source = {"x": x[:, 0], "label": labels}
    np.savez(tmp_path / "few.npz", **source)
    out = tmp_path / "report"
    asked: dict[str, Any] = dict(
        models=["vae", "gan", "diffusion"], budget_each="320", claims=True, drift="order", price=0.5, out=out,
        quiet=True, settings=QUICK,
    )  # fmt: skip
    tl.compare(str(tmp_path / "few.npz"), **asked)
    results = json.loads((out / "results.json").read_text())
    assert results["finished"] and all(row["status"] == "ok" for row in results["rows"]), [
        (row["name"], row["error"]) for row in results["rows"] if row["status"] != "ok"
    ]
    by_name = {row["name"]: row for row in results["rows"]}
    assert [point["share"] for point in by_name["vae"]["budgets"]] == [0.125, 0.25, 0.5]
    assert by_name["gan, minimax"]["budgets"] and not by_name["vae, pixels only"]["budgets"]
    assert {"active_units", "midpoints", "path_length", "denoising"} <= set(by_name["vae"]["metrics"])
    for name in ("vae", "diffusion"):
        assert 0 < by_name[name]["metrics"]["bits_per_dimension"]["value"] < 100
    assert "critic" in by_name["gan"]["metrics"]
    assert {rung["steps"] for rung in by_name["diffusion"]["ladder"]} == {4, 8}
    assert [point["guidance"] for point in by_name["diffusion"]["guided"]] == [1.0, 2.0, 4.0]
    assert by_name["vae, trained on the earlier half"]["column"] != by_name["vae"]["column"], "another protocol"
    decided = [one for one in decide(results) if not one["figures"].startswith("not measured")]
    assert len(decided) >= 15
    page = (out / "index.html").read_text(encoding="utf-8")
    for words in (
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
    with pytest.raises(InputError, match="branches"):
        tl.compare(str(tmp_path / "few.npz"), **{**asked, "claims": False})
