"""Translators side by side: measures in closed form, whole comparisons of pairs, degradations and two sets."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trilemma as tl
from trilemma.errors import InputError
from trilemma.metrics.protocol import Measure
from trilemma.metrics.translation import (
    both,
    cycle_error,
    map_distances,
    over_examples,
    psnr,
    relative,
    self_similarity,
    ssim,
    structure_kept,
)
from trilemma.modalities.contract import Data, Opening
from trilemma.modalities.door import open_data
from trilemma.models.contract import find
from trilemma.report import advise as advising
from trilemma.report import measure
from trilemma.report.asked import MODELS, models_for
from trilemma.report.baselines import baselines_for
from trilemma.report.outlook import outlook
from trilemma.training import features
from trilemma.training.choose import judge

SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 8,
    "training.choose_samples": 0,
    "training.dtype": "float32",
}
PAIRED, UNPAIRED = "diffusion", "cyclegan"


# --- measures ---------------------------------------------------------------------------------------------------------


def test_psnr_of_a_known_error() -> None:
    """An error of 5 of 255 everywhere is 34.15 dB; equal pictures are as near as 8 bits tell."""
    x = np.full((6, 3, 4, 4), 100, dtype=np.uint8)
    assert psnr(x, x + 5, span=255).value == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(x, x, span=255).value == pytest.approx(58.92, abs=0.01)
    mixed = np.concatenate([x[:3] + 5, x[3:] + 10])
    found = psnr(x, mixed, span=255)
    ends = 20 * math.log10(51), 20 * math.log10(25.5)
    assert found.value == pytest.approx(sum(ends) / 2)
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def by_hand(x: np.ndarray, y: np.ndarray, span: float) -> float:
    """Wang et al. 2004, eq. 13, window by window."""
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    c1, c2, values = (0.01 * span) ** 2, (0.03 * span) ** 2, []
    for channel in range(len(x)):
        for top in range(x.shape[1] - 10):
            for left in range(x.shape[2] - 10):
                a, b = (z[channel, top : top + 11, left : left + 11].astype(float) for z in (x, y))
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def test_ssim_is_wangs() -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (4, 2, 13, 14), dtype=np.uint8)
    y = (x * 0.7 + generator.integers(0, 70, x.shape)).astype(np.uint8)
    want = np.mean([by_hand(one, two, 255) for one, two in zip(x, y, strict=True)])
    assert ssim(x, y, span=255).value == pytest.approx(want, abs=1e-9)
    assert ssim(x, x, span=255).value == pytest.approx(1)
    small = x[..., :8, :8]  # less than a window
    assert ssim(small, small, span=255).value == pytest.approx(1) != ssim(small, small[::-1], span=255).value


def test_distances_of_feature_maps() -> None:
    """Unit vectors at right angles are 2 apart, opposite ones 4; length is nothing; levels count alike."""
    east, north = np.zeros((2, 1, 2, 3, 3))
    east[:, 0], north[:, 1] = 1, 7
    assert map_distances([east], [3 * east]) == pytest.approx([0])
    assert map_distances([east], [north]) == pytest.approx([2])
    assert map_distances([east, east], [north, -east]) == pytest.approx([3])
    found = relative(np.array([1.0, 1, 1, 1]), np.array([2.0, 6]), "perceptual", "lower")
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_structure_is_layout_and_not_what_things_look_like() -> None:
    generator = np.random.default_rng(1)
    maps = generator.normal(size=(60, 6, 5, 5))
    turned = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    other = np.einsum("ij,njhw->nihw", turned, maps) * 3 + 2  # other colours, the same places alike
    layouts = [self_similarity(each) for each in (maps, other, maps[::-1], np.zeros_like(maps))]
    assert structure_kept(layouts[0], layouts[1]).value == pytest.approx(1)
    assert structure_kept(layouts[0], layouts[2]).value == pytest.approx(0, abs=0.05)
    assert structure_kept(layouts[0], layouts[3]).value == pytest.approx(0)
    always = np.repeat(layouts[0][:1], 60, 0)
    assert structure_kept(layouts[0], always).value == pytest.approx(0, abs=1e-9)


def test_cycle_error_and_means() -> None:
    x = np.random.default_rng(2).normal(size=(50, 1, 4, 4))
    assert cycle_error(x, x).value == 0
    assert cycle_error(x, np.broadcast_to(x.mean(0), x.shape)).value == pytest.approx(1)
    with pytest.raises(ValueError, match="one shape"):
        cycle_error(x, x[:3])
    values = np.random.default_rng(3).normal(5, 2, (400, 9))
    inside = [(one := over_examples(row, "x", "lower")).low < 5 < one.high for row in values]  # type: ignore[operator]
    assert 0.92 < np.mean(inside) < 0.98


def test_both_is_half_and_half() -> None:
    near, set_distance = Measure(0.5, 0.4, 0.6, "p", "lower"), Measure(4.0, 2.25, 9.0, "f", "lower")
    found = both(near, set_distance, 25.0)
    assert found.value == pytest.approx((0.5 + 0.4) / 2)
    assert found.low == pytest.approx(0.45 - math.hypot(0.1, 0.1) / 2)
    assert found.high == pytest.approx(0.45 + math.hypot(0.1, 0.2) / 2)


def test_choices_are_by_the_figure_that_ranks(pairs: Data) -> None:
    """Targets in another order are perfect as a set and no translations; of two sets nothing else can be told."""
    network = features.feature_network(pairs, "choose", quiet=True)
    targets = pairs.rows("choose")
    near, elsewhere = (targets.astype(int) + 12).clip(0, 255).astype(np.uint8), np.roll(targets, 1, axis=0)
    figures = judge(pairs, network)
    (decides, one), (_, two), (_, twice) = (figures(x) for x in (near, elsewhere, np.concatenate([near, near])))
    assert decides == one["translation"] and two["frechet"] == pytest.approx(0, abs=1e-6) and one["frechet"] > 1e-3
    assert one["translation"] < 0.8 * two["translation"] and two["perceptual"] == pytest.approx(1, abs=0.25)
    assert twice["perceptual"] == pytest.approx(one["perceptual"])  # sources come over and over again
    decides, alone = judge(pairs.without_pairs(), network)(near)
    assert alone == {"frechet": decides}


# --- data -------------------------------------------------------------------------------------------------------------


def discs(count: int = 80, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets (n, side, side, 3): a white disc on black, and the same in orange on blue, shaded."""
    generator = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    y, x = generator.uniform(2, side - 2, (2, count, 1, 1))
    inside = np.clip(2.5 - np.hypot(rows - y, columns - x), 0, 1)[..., None]
    light = generator.uniform(0.6, 1, (count, 1, 1, 1))
    target = inside * (230, 120, 20) * light + (1 - inside) * (20, 40, 160)
    return (255 * inside.repeat(3, -1)).astype(np.uint8), target.astype(np.uint8)


def folders(place: Path, names: tuple[str, str] = ("drawn", "painted"), *, same: bool = True) -> tuple[Path, Path]:
    for which, (name, x) in enumerate(zip(names, discs(), strict=True)):
        (place / name).mkdir()
        for number, one in enumerate(x):
            Image.fromarray(one).save(place / name / f"{number if same else number + 1000 * which:04d}.png")
    return place / names[0], place / names[1]


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Networks for features of a few steps, and no trees: what is tested here is not how well they see."""
    chance = Measure(0.5, 0.4, 0.6, "classifier", "half")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "examples_for", lambda data: 512)
        patch.setattr(measure, "two_sample_test", lambda reference, samples: chance)
        yield


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return folders(tmp_path_factory.mktemp("sides"))


@pytest.fixture(scope="module")
def pairs(sides: tuple[Path, Path]) -> Data:
    return open_data(sides[0], data2=sides[1], opening=Opening())


def compared(out: Path, source: Any, data2: Any = None, **asked: Any) -> dict[str, Any]:
    settings = {**SETTINGS, **asked.pop("settings", {})}
    tl.compare(source, data2, out=out, budget_each="512", settings=settings, quiet=True, **asked)
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def of(results: dict[str, Any], name: str) -> dict[str, float]:
    (row,) = [row for row in results["rows"] if row["name"] == name]
    assert row["status"] == "ok" and not row["problems"], (row["error"], row["problems"])
    return {key: entry["value"] for key, entry in row["metrics"].items()}


@pytest.fixture(scope="module")
def report(sides: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Paired and unpaired models on the same pairs, which the unpaired ones see as two sets."""
    out = tmp_path_factory.mktemp("report") / "discs"
    drawn = discs()[1][:70]
    return out, compared(out, *sides, models=[PAIRED, UNPAIRED], include={"elsewhere": drawn})


# --- a comparison -----------------------------------------------------------------------------------------------------


def test_models_are_taken_by_what_they_learn_from(pairs: Data) -> None:
    paired, unpaired = models_for(pairs), models_for(pairs.without_pairs())
    assert paired[:2] == ["bridge", "pix2pix"] and "diffusion" in paired and unpaired[:2] == ["cut", "cyclegan"]
    assert all("paired" in find(name)[0].sets for name in paired)
    assert all("unpaired" in find(name)[0].sets for name in unpaired)
    assert models_for(open_data("digits", opening=Opening())) == list(MODELS)
    assert any(", ".join(paired) in line for line in outlook(pairs))


def test_every_row_is_measured_on_the_same_unseen_sources(report: tuple[Path, dict[str, Any]]) -> None:
    folder, results = report
    held = np.load(folder / "samples" / "sources.npy"), np.load(folder / "samples" / "real.npy")
    drawn, painted = discs()
    want = {target.tobytes(): source for source, target in zip(drawn, painted, strict=True)}
    for source, target in zip(*(x.transpose(0, 2, 3, 1) for x in held), strict=True):
        np.testing.assert_array_equal(want[np.ascontiguousarray(target).tobytes()], source)
    tests = results["data"]["counts"]["test"]
    assert results["protocol"]["sample_count"] == tests == results["data"]["sources"]["test"]
    for name in [PAIRED, UNPAIRED, "did nothing", "mean target", "nearest target"]:
        found = of(results, name)
        assert {"frechet", "perceptual", "structure", "psnr", "ssim", "translation"} <= found.keys(), name
        assert found["translation"] == pytest.approx(
            (found["perceptual"] + (found["frechet"] / spread(results)) ** 0.5) / 2, rel=1e-6
        )
    assert of(results, "did nothing")["structure"] == pytest.approx(1)
    for row in results["rows"]:
        if row["kind"] == "model":  # copies are told of translators, too: of training targets
            assert {"memorisation", "near_copies"} <= of(results, row["name"]).keys()
            assert row["verdicts"]["memorisation"] in ("none", "copies", "cannot tell")
    np.testing.assert_array_equal(np.load(folder / "samples" / "did-nothing.npy"), held[0][:tests])


def spread(results: dict[str, Any]) -> float:
    """What the targets' spread must have been, from the row of the mean."""
    found = of(results, "mean target")
    return found["frechet"] / (2 * found["translation"] - found["perceptual"]) ** 2


def test_figures_that_need_the_model(report: tuple[Path, dict[str, Any]]) -> None:
    """Nearly the same output each time has no variety; the way back is asked of those that know it."""
    _, results = report
    assert of(results, "cyclegan")["draws"] < 0.01 < of(results, "diffusion")["draws"]
    assert of(results, "cyclegan")["cycle"] > 0
    assert "cycle" not in of(results, "diffusion")
    assert all("draws" not in of(results, name) for name in ("did nothing", "mean target"))


def test_other_tools_samples_are_in_no_order(report: tuple[Path, dict[str, Any]]) -> None:
    found = of(report[1], "elsewhere")
    assert "frechet" in found and not {"perceptual", "structure", "translation"} & found.keys()


def test_the_floor_says_what_the_partners_keep(report: tuple[Path, dict[str, Any]]) -> None:
    found = of(report[1], "real against real")
    assert 0 < found["structure"] < 1 and "perceptual" not in found


def test_the_page_shows_sources_outputs_and_targets(report: tuple[Path, dict[str, Any]]) -> None:
    page = (report[0] / "index.html").read_text(encoding="utf-8")
    part = page[page.index('id="translations"') :]
    part = part[: part.index("</section>")]
    names = ["Source", PAIRED, UNPAIRED, "mean target", "nearest target", "hidden partner", "Several draws"]
    assert all(name in part for name in names) and 'id="samples"' not in page
    assert part.index("Source") < part.index("mean target") < part.index("hidden partner")
    assert "pairs" in page[: page.index('id="answer"')]


def test_a_degradation_has_bicubic_and_lanczos_beside_it(tmp_path: Path) -> None:
    source = discs(side=16)[1]
    data = open_data(source, opening=Opening(degradation="downscale 4"))
    made = {name: make(data, 10, seed=0) for name, make in baselines_for(data).items()}
    assert list(made) == ["did nothing (bicubic)", "Lanczos", "linear filter", "mean target", "nearest target"]
    targets = data.rows("test", 10)
    errors = {name: np.square(x.astype(float) - targets).mean() for name, x in made.items()}
    assert errors["Lanczos"] != errors["did nothing (bicubic)"]
    assert max(errors["Lanczos"], errors["did nothing (bicubic)"]) < errors["mean target"]


@pytest.mark.parametrize(
    ("degradation", "more", "part"),
    [
        ("darken 0.3", [], 0.01),
        ("noise 20", ["adaptive filter"], 0.6),
        ("blur 1", [], 0.5),
        ("grey", [], 0.5),
        ("darken 0.5, downscale 2", ["Lanczos"], 0.2),
    ],
)
def test_what_classical_filters_undo_is_no_feat(degradation: str, more: list[str], part: float) -> None:
    """Beside each degradation stands what undoes a part of it without any network: so much of the error is left."""
    data = open_data(discs(side=16)[1], opening=Opening(degradation=degradation))
    made = {name: make(data, 10, seed=0) for name, make in baselines_for(data).items()}
    assert set(made) == {"did nothing", "linear filter", *more, "mean target", "nearest target"}
    errors = {name: np.square(x.astype(float) - data.rows("test", 10)[: len(x)]).mean() for name, x in made.items()}
    assert errors["linear filter"] < part * errors["did nothing"]
    assert all(errors[name] < errors["did nothing"] for name in set(more) - {"Lanczos"})
    assert all(x.shape == made["did nothing"].shape and x.dtype == np.uint8 for x in made.values())


def test_the_nearest_target_is_that_of_the_nearest_source(pairs: Data) -> None:
    """And without pairs, the one that looks most like the source."""
    for data in (pairs, pairs.without_pairs()):
        found = baselines_for(data)["nearest target"](data, 10, seed=0)
        known = {row.tobytes() for row in data.rows("train")}
        assert all(row.tobytes() in known for row in found)
    error = np.square(baselines_for(pairs)["nearest target"](pairs, 10, seed=0) - pairs.rows("test", 10).astype(float))
    moved = np.square(np.roll(pairs.rows("test", 10), 1, 0) - pairs.rows("test", 10).astype(float))
    assert error.mean() < 0.5 * moved.mean()


def test_two_sets(tmp_path: Path) -> None:
    """Without partners: distances to the targets as a set, what is kept of the sources, and nothing else."""
    results = compared(tmp_path / "out", *folders(tmp_path, same=False), models=["cut"])
    found = of(results, "cut")
    assert {"frechet", "structure", "draws"} <= found.keys()
    assert not {"perceptual", "psnr", "ssim", "translation"} & found.keys()
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "sources, without pairs" in page and "Some targets" in page


def test_models_that_do_not_fit_are_refused(sides: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vae.*learns from one set"):
        tl.compare(*sides, models=["vae"], out=tmp_path / "out")
    with pytest.raises(InputError, match=r"bridge.*learns from pairs"):
        tl.compare("digits", models=["bridge"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the answer -------------------------------------------------------------------------------------------------------


def row(name: str, kind: str = "model", rate: float = 10.0, **figures: Any) -> dict[str, Any]:
    """A row of results.json; a figure is (value, half-width)."""
    entries = {
        key: Measure(
            value,
            value - half,
            value + half,
            key,
            "higher" if key in ("structure", "psnr", "recall", "coverage") else "lower",
        ).record()
        for key, (value, half) in figures.items()
    }
    return {
        "name": name, "family": name, "kind": kind, "seed": 0 if kind == "model" else None, "status": "ok",
        "metrics": entries, "speed": {"samples_per_second": rate}, "verdicts": {"memorisation": "none"},
        "run": f"runs/{name}-s0" if kind == "model" else None, "can": ["Samples", "Translates"],
    }  # fmt: skip


def test_the_answer_of_pairs(tmp_path: Path) -> None:
    rows = [
        row("bridge", translation=(0.3, 0.02), perceptual=(0.4, 0.02), structure=(0.5, 0.1), psnr=(19.0, 0.1)),
        row("nearest target", "baseline", translation=(0.9, 0.1), perceptual=(0.41, 0.1)),
        row("pix2pix", translation=(0.31, 0.02), perceptual=(0.5, 0.02), structure=(0.5, 0.1), rate=500.0),
        row("lost", translation=(0.1, 0.02), perceptual=(1.1, 0.02), structure=(0.5, 0.1)),
        row("did nothing", "baseline", translation=(0.9, 0.1), perceptual=(0.7, 0.1), psnr=(20.0, 0.1)),
    ]
    answer = advising.advise({"rows": rows, "settings": {}}, folder=tmp_path)
    # The scores' intervals overlap and pix2pix is faster, but it is clearly farther from the partners.
    assert answer["winner"] == "bridge" and "hidden partners" in answer["sentences"][0]
    assert "no nearer" in answer["why"]["left_out"]["lost"]
    assert answer["next_command"] == f"trilemma translate {tmp_path}/runs/bridge-s0 PICTURES --out translated"
    said = "; ".join(answer["why"]["caveats"])
    assert "not clearly nearer to the hidden partners (0.4) than nearest target (0.41)" in said
    assert "by PSNR doing nothing is better (20 against 19 dB)" in said


def test_the_answer_of_two_sets() -> None:
    """The set distance decides among those that follow their sources; who keeps more of them is named."""
    curve = [{"seconds": s, "kernel@random": v} for s, v in ((10, 0.5), (20, 0.1), (40, 0.3), (60, 0.3))]
    rows = [
        {**row("cut", frechet=(2.0, 0.1), structure=(0.3, 0.02)), "curve": curve},
        row("cyclegan", frechet=(3.0, 0.1), structure=(0.6, 0.02)),
        row("astray", frechet=(0.5, 0.1), structure=(0.0, 0.02)),
        row("did nothing", "baseline", frechet=(1.5, 0.1), structure=(1.0, 0.0)),
    ]
    answer = advising.advise({"rows": rows, "settings": {}})
    assert answer["winner"] == "cut" and answer["why"]["left_out"] == {
        "astray": "its outputs do not follow their sources"
    }
    said = "; ".join(answer["why"]["caveats"])
    assert "clearly better than the baseline did nothing" in said
    assert "cyclegan keeps more of its sources' layout (0.6 against 0.3)" in said
    assert "nearest to held-out targets after 20 of 60 seconds" in said
