"""Tables: what columns are, cells as numbers and back, files in and out, and what is measured of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats
from sklearn.datasets import load_breast_cancer, load_wine
from typer.testing import CliRunner

import trilemma as tl
from trilemma.batches import Options
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.metrics import tables
from trilemma.metrics.memorisation import nearest
from trilemma.metrics.tables import associations, column_shapes, pair_trends
from trilemma.mixed import Mixed, plain
from trilemma.modalities.columns import MANY, Column, Texts, encoded, infer
from trilemma.modalities.frames import write
from trilemma.modalities.table import Table
from trilemma.modalities.where import parse
from trilemma.report import baselines
from trilemma.report.baselines import baselines_for, gaussian_copula, independent
from trilemma.spaces import Categorical
from trilemma.tasks.tables import balanced
from trilemma.training.progress import Bar

SHAPES, TRENDS = 0.916875, 0.8830461183976079


def people(count: int = 400) -> pd.DataFrame:
    """All kinds of columns, with what makes tables hard: gaps, zeros, spikes, heavy tails, many categories, dates."""
    random = np.random.default_rng(0)
    age = random.integers(17, 91, count)
    gain = np.where(random.uniform(size=count) < 0.9, 0, random.pareto(1.2, count) * 1000).round(2)
    score = random.normal(age / 10, 1).round(3).astype(object)
    score[random.uniform(size=count) < 0.2] = ""
    days = pd.to_timedelta(random.integers(0, 900, count), "D")
    return pd.DataFrame(
        {
            "id": [f"P-{number:05d}" for number in random.permutation(count)],
            "age": age,
            "gain": gain,
            "score": score,
            "sex": np.where(random.uniform(size=count) < 0.4, "F", "M"),
            "city": [f"city {number:03d}" for number in (random.pareto(1, count) * 20).astype(int) % 150],
            "seen": (pd.Timestamp("2020-01-01") + days).strftime("%d.%m.%Y"),
            "land": "CH",
            "notes": [
                " ".join(random.choice(["a", "long", "free", "text", "here"], 9)) + f" {n}" for n in range(count)
            ],
        }
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("table") / "people.csv"
    people().to_csv(file, index=False)
    return file


def test_what_each_column_is(table: Path) -> None:
    data = tl.open_data(str(table))
    assert data.modality.kind == "table" and isinstance(data.spaces["x"], Mixed)
    said = data.facts["columns"]
    assert said == {
        "id": "identifier, written anew",
        "age": "integer",
        "gain": "number",
        "score": "number, with gaps",
        "sex": "category of 2",
        "city": said["city"],
        "seen": "date",
        "land": "constant ['CH']",
        "notes": "text, left out",
    }
    assert said["city"].startswith("category of") and int(said["city"].split()[-1]) > MANY
    assert any("free text is left out: notes" in note for note in data.notes)
    assert data.x.shape == (400, 6) and np.isnan(data.x[:, 2]).mean() == pytest.approx(0.2, abs=0.05)
    shown = tl.inspect(str(table)).text()
    assert "column      gain: number" in shown and "6 of 9 columns are learned" in shown


def test_the_first_runs_of_tables_still_load(table: Path) -> None:
    data = tl.open_data(str(table))
    told = data.modality.describe()
    old = [
        {**{k: v for k, v in each.items() if k != "least"}, "padded": True, "template": ""} for each in told["columns"]
    ]
    again = Table.from_description({**told, "columns": old})
    assert [each.least for each in again.columns] == [each.decimals or 0 for each in again.columns]
    np.testing.assert_array_equal(again.cells(data.x).values, data.modality.cells(data.x).values)


def test_cells_come_back_as_they_were_written(table: Path, tmp_path: Path) -> None:
    data = tl.open_data(str(table))
    given = pd.read_csv(table, dtype=str, keep_default_na=False)
    out = data.modality.save(data.x[data.splits["train"]], tmp_path / "again.csv")[0]
    again = pd.read_csv(out, dtype=str, keep_default_na=False)
    assert list(again.columns) == [name for name in given.columns if name != "notes"]
    rows = given.iloc[data.splits["train"]].reset_index(drop=True)
    for name in ("age", "sex", "city", "land"):
        assert (again[name] == rows[name]).all(), name
    assert again["id"].str.fullmatch(r"P-\d{5}").all()
    late = pd.to_datetime(again["seen"], format="%d.%m.%Y") - pd.to_datetime(rows["seen"], format="%d.%m.%Y")
    assert late.abs().max() <= pd.Timedelta(2, "D")
    scores = [pd.to_numeric(each["score"], errors="coerce") for each in (again, rows)]
    np.testing.assert_allclose(*scores, atol=0.02)
    assert again["score"].str.fullmatch(r"-?\d+(\.\d{1,3})?|").all()
    np.testing.assert_allclose(again["gain"].astype(float), rows["gain"].astype(float), rtol=0.02, atol=0.011)
    frame = data.modality.export(data.x[:5])
    assert frame["age"].dtype.kind == "i" and frame["score"].dtype.kind == "f"
    for suffix in (".tsv", ".jsonl", ".csv.gz"):
        write(frame, tmp_path / f"t{suffix}")
        data.modality.read(tmp_path / f"t{suffix}", data.spaces["x"])
    assert data.modality.picture(data.x[:50], reference=data.x).width > 300
    row = data.modality.picture(data.x[:50], columns=3, reference=data.x)
    assert row.size == (540, 120), "three columns beside each other, as a page shows them beside the answer"
    same = Table.from_description(data.modality.describe())
    np.testing.assert_array_equal(same.cells(data.x).values, data.modality.cells(data.x).values)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["number", "category"])
def test_scores_lie_between_knots_or_within_a_share(kind: str) -> None:
    """Each cell by itself, as it is defined: what is done for many at once gives the same, bit by bit."""
    random = np.random.default_rng(2)
    values = np.where(random.uniform(size=3000) < 0.4, random.integers(0, 4, 3000), random.normal(1, 9, 3000))
    values[::50] = np.nan
    column, place = Column("x", kind), random.uniform(size=3000)
    column.fit(np.round(values, 0 if kind == "category" else 9))
    shares, knots = np.asarray(column.shares), np.asarray(column.knots)
    for value, within, score in zip(values, place, column.scores(values, place), strict=True):
        here = float(np.clip(value, knots[0], knots[-1]))
        own = np.flatnonzero(knots == here)
        if np.isnan(value):
            assert np.isnan(score)
            continue
        share = np.interp(here, knots, shares)
        if len(own):
            low, high = shares[own[0]], shares[own[-1]]
            within = 0.25 + within / 2 if kind == "category" and high - low < 1e-3 else within
            share = low + within * (high - low)
        assert score == special.ndtri(np.clip(share, 1e-7, 1 - 1e-7))


@pytest.mark.parametrize("kind", ["continuous", "heavy", "zeros", "steps", "spiked"])
def test_every_column_of_numbers_becomes_normal_and_back(kind: str) -> None:
    random = np.random.default_rng(1)
    values = {
        "continuous": lambda: random.gamma(2.0, 3.0, 5000),
        "heavy": lambda: random.standard_cauchy(5000),
        "zeros": lambda: np.where(random.uniform(size=5000) < 0.9, 0.0, random.exponential(100.0, 5000)),
        "steps": lambda: random.poisson(3.0, 5000).astype(float),
        "spiked": lambda: np.where(random.uniform(size=5000) < 0.3, 7.5, random.normal(size=5000)),
    }[kind]()
    column = Column("x", "number")
    column.fit(values)
    scores = column.scores(values, random.uniform(size=5000))
    assert stats.kstest(scores, "norm").pvalue > 1e-3
    back = column.from_scores(scores)
    if kind == "steps":
        np.testing.assert_array_equal(back, values)
    else:
        assert np.quantile(np.abs(back - values), 0.99) < 0.02 * values.std() + 1e-12
    drawn = column.from_scores(random.standard_normal(20_000))
    assert stats.ks_2samp(drawn, values).statistic < 0.03
    if kind in ("zeros", "spiked"):
        spike = 0.0 if kind == "zeros" else 7.5
        assert (drawn == spike).mean() == pytest.approx((values == spike).mean(), abs=0.02)
    assert (
        np.isnan(column.from_scores(np.array([np.nan]))).all()
        and np.isnan(column.scores(np.array([np.nan]), np.array([0.5])))[0]
    )


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([str(n) for n in range(1000, 1100)], "identifier"),
        ([str(n % 37) for n in range(300)], "integer"),
        ([f"{n / 7:.2f}" for n in range(300)], "number"),
        ([f"{n},{n % 10}" for n in range(300)], "number"),
        (["0", "1"] * 50, "category"),
        (["007", "012", "113"] * 50, "category"),
        (["yes", "no", "?"] * 50, "category"),
        (["2021-03-04", "2020-12-31", "2021-01-02"] * 20, "date"),
        (["31/12/2020", "01/02/2021", "15/03/2021"] * 20, "date"),
        (["2021-03-04 10:20:30", "2020-12-31 00:00:00", "2021-01-02 23:59:59"] * 20, "date"),
        (["x"] * 50, "constant"),
        ([""] * 50, "constant"),
        ([f"user{n:04d}" for n in range(60)], "identifier"),
        ([f"this is sentence number {n}" for n in range(60)], "text"),
        (["1e3", "2.5e-4", "7"] * 30, "number"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_kinds_are_told_by_the_cells(cells: list[str], kind: str) -> None:
    codes, texts = pd.factorize(np.array(cells, dtype=object))
    codes = np.where(np.isin(np.array(cells), ["", "?"]), -1, codes)
    keep = [text for text in texts if text not in ("", "?")]
    places = {text: place for place, text in enumerate(keep)}
    own = np.array([places.get(cell, -1) for cell in cells])
    column, values, _ = infer(Texts("c", own, keep))
    assert column.kind == kind
    if column.learned:
        if column.scored:
            column.fit(values)
        x = encoded([column], [values])
        back = column.from_scores(x[:, 0].astype(float)) if column.scored else x[:, 0].astype(float)
        written = column.written(back, np.random.default_rng(0))
        here = own >= 0
        if kind == "category" or kind == "date" or "," in cells[0]:
            assert [str(cell) for cell in written[here]] == [
                cell for cell, known in zip(cells, here, strict=True) if known
            ]


def test_bad_tables(tmp_path: Path) -> None:
    def file(text: str, name: str = "t.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    rows = "".join(f"{n},{n * 7 % 30},x\n" for n in range(40))
    for text, said in (
        ("", "is empty"),
        ("a,b,c\n", "no rows"),
        ("a,b,a\n" + rows, "names of columns come twice ('a')"),
        ("a,b,c\n" + rows + "1,2,3,4,5\n", "line 42 has 5 cells, where there are 3 names"),
        ("a,b,c\n1,2,3\n", "at least 16"),
        ("a,b\n" + "1,x\n" * 40, "no column in it that could be learned"),
        ("<!doctype html><p>404", "web page"),
    ):
        with pytest.raises(InputError) as problem:
            tl.open_data(file(text))
        assert said in str(problem.value), text[:30]
    with pytest.raises(InputError, match="no column of this name"):
        tl.train(file("a,b,c\n" + rows), model="vae", out=tmp_path / "r", settings={"data.columns.z": "number"})
    with pytest.raises(InputError, match="a column is one of"):
        tl.train(file("a,b,c\n" + rows), model="vae", out=tmp_path / "r", settings={"data.columns.b": "colour"})
    data = tl.open_data(file("a;b;c\n" + "".join(f"{n},5;inf;é{n % 3}\n" for n in range(40)).replace("inf", "inf", 1)))
    assert data.x.shape[1] >= 2
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"name,v\n" + "".join(f"é{n % 3},{n / 3:.2f}\n" for n in range(40)).encode("cp1252"))
    assert "é1" in tl.open_data(str(latin)).modality.columns[0].values  # type: ignore[attr-defined]
    read = tl.open_data(file("a,b,c\n" + rows))
    other = file("a,b\n1,2\n", "other.csv")
    learned = [column.name for column in read.modality.columns if column.learned]  # type: ignore[attr-defined]
    if "c" not in learned:
        read.modality.read(other, read.spaces["x"])
    with pytest.raises(InputError, match="has no column 'b'"):
        read.modality.read(file("a\n1\n", "less.csv"), read.spaces["x"])


def test_equal_rows_are_split_one_by_one() -> None:
    frame = pd.DataFrame({"a": ["x", "y"] * 500, "b": ["u", "v", "w", "u"] * 250})
    data = tl.open_data(frame)
    rows = {name: {tuple(row) for row in data.rows(name)} for name in data.splits}
    assert rows["train"] == rows["test"] == rows["choose"]
    assert len(data.splits["test"]) == pytest.approx(100, abs=30)


def test_shapes_and_trends_are_those_of_sdmetrics() -> None:
    """Values of sdmetrics 0.32.0 on these very tables: QualityReport's Column Shapes, and the mean over all pairs of
    CorrelationSimilarity.compute and ContingencySimilarity.compute (ten bins)."""
    random = np.random.default_rng(3)

    def made(count: int, shift: float) -> np.ndarray:
        a = random.normal(shift, 1, count)
        b = 0.5 * a + random.normal(size=count)
        c = random.integers(0, 3, count).astype(float)
        d = np.where(random.uniform(size=count) < 0.3 + shift / 3, 1.0, 0.0)
        return np.stack([a, b, c, d], 1)

    real, samples = made(500, 0.0), made(400, 0.4)
    numbers = [True, True, False, False]
    assert column_shapes(real, samples, numbers).value == pytest.approx(SHAPES, abs=1e-4)
    trends = pair_trends(real, samples, numbers)
    assert trends is not None and trends.value == pytest.approx(TRENDS, abs=1e-4)
    assert column_shapes(real, real, numbers).value == 1 and pair_trends(real, real, numbers).value == pytest.approx(1)  # type: ignore[union-attr]


def test_wide_tables_are_measured_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pairs of columns are judged by some of them; trees look at the columns next to their own."""
    random = np.random.default_rng(0)
    real, made = random.normal(size=(2, 200, 60))
    made[:, ::2] += made[:, 1::2]
    assert tables.PAIRS == 5000
    whole, found = pair_trends(real, made, [True] * 60), []
    judge = tables._correlations
    monkeypatch.setattr(tables, "PAIRS", 500)
    monkeypatch.setattr(tables, "_correlations", lambda *pair: found.append(judge(*pair)) or found[-1])
    some = pair_trends(real, made, [True] * 60)
    assert whole is not None and some is not None and len(found) == 500
    assert some.value == pytest.approx(whole.value, abs=0.01)
    seen = []
    for kind in ("DecisionTreeClassifier", "DecisionTreeRegressor"):
        tree = getattr(baselines, kind)
        fit = lambda self, x, y, fit=tree.fit: seen.append(x.shape) or fit(self, x, y)  # noqa: E731
        monkeypatch.setattr(baselines, kind, type(kind, (tree,), {"fit": fit}))
    monkeypatch.setattr(baselines, "CELLS", 40 * 100)
    monkeypatch.setattr(baselines, "NEAR", 12)
    hidden = random.normal(size=(400, 8))
    frame = pd.DataFrame(np.tile(hidden, 5) + 0.1 * random.normal(size=(400, 40))).rename(columns=str)
    data = tl.open_data(frame)
    bars = []
    monkeypatch.setattr(baselines, "Bar", lambda *_, quiet: bars.append(quiet) or Bar("trees", 1, quiet=True))
    rows = data.modality.export(baselines_for(data, quiet=True)["trees (CART)"](data, 300, seed=0))
    assert bars == [True], "a quiet comparison has no bars"
    assert max(seen) == (100, 12) and len(seen) == 39
    assert (
        rows["0"].corr(rows["8"]) > 0.8 and rows["31"].corr(rows["39"]) > 0.8 and abs(rows["30"].corr(rows["39"])) < 0.5
    )


def test_a_column_without_any_cell_costs_all_of_its_error() -> None:
    """A column that is missing on one side is the worst there is; one that is on both says nothing."""
    real = np.random.default_rng(0).normal(size=(50, 3))
    real[:, 2] = real[:, 2] > 0
    numbers = [True, True, False]
    for place in (0, 2):
        gone = real.copy()
        gone[:, place] = np.nan
        for pair in ((real, gone), (gone, real)):
            assert column_shapes(*pair, numbers).value == pytest.approx(2 / 3)
            trends = pair_trends(*pair, numbers)
            assert trends is not None and trends.value == pytest.approx(1 / 3)
        assert column_shapes(gone, gone, numbers).value == 1


def test_a_category_that_the_run_does_not_know_is_named() -> None:
    """In a column with gaps, too: it is no empty cell, which `measure` would not count."""
    frame = people(60).assign(sex=lambda own: own["sex"].where(own.index % 9 > 0))
    data = tl.open_data(frame, kind="table")
    with pytest.raises(
        InputError, match=r"'ZZZ' in column 'sex' is none of the values that the run knows \(F, M.*empty"
    ):
        data.modality.read(frame.assign(sex="ZZZ"), data.spaces["x"])


def test_a_gaussian_copula_keeps_rare_values_gaps_and_correlations() -> None:
    random = np.random.default_rng(0)
    z = random.multivariate_normal([0, 0, 0], [[1, 0.8, 0.6], [0.8, 1, 0.5], [0.6, 0.5, 1]], 5000)
    frame = pd.DataFrame({"x": np.exp(z[:, 0]).round(4), "y": np.where(z[:, 1] > 1.645, np.nan, z[:, 1].round(4))})
    frame["kind"] = np.where(z[:, 2] > 2.054, "rare", np.where(z[:, 2] > 0, "high", "low"))
    frame["one"] = np.where(frame.index == 0, "b", "a")  # a value that may not be there among the training rows
    data = tl.open_data(frame)
    made = data.modality.export(gaussian_copula(data, 20_000, seed=0))
    assert (made["kind"] == "rare").mean() == pytest.approx((frame["kind"] == "rare").mean(), abs=0.004)
    assert made["y"].isna().mean() == pytest.approx(frame["y"].isna().mean(), abs=0.006)
    assert stats.ks_2samp(made["x"], frame["x"]).statistic < 0.02
    there = made["y"].notna()
    real = frame.dropna()
    wanted = stats.spearmanr(real["x"], real["y"])[0]
    assert stats.spearmanr(made["x"][there], made["y"][there])[0] == pytest.approx(wanted, abs=0.04)
    assert made["x"][~there].median() > 3 * made["x"].median(), "gaps come where they come: above"


def test_how_strongly_columns_go_together() -> None:
    """Against pandas, the variance explained by an analysis of variance, and Cramer's V of known tables."""
    random = np.random.default_rng(0)
    one, group = random.normal(size=400), random.integers(0, 3, 400)
    two = one + group + random.normal(size=400)
    same, alone = group.copy(), random.permutation(400) % 2
    values = np.stack([one, two, group, same, alone, np.full(400, 7.0)], 1)
    values[::7, 1] = np.nan
    found = associations(values, [True, True, False, False, False, True])
    assert found[0, 1] == pytest.approx(pd.DataFrame(values)[[0, 1]].corr().iloc[0, 1])
    known = ~np.isnan(values[:, 1])
    within = sum(((v - v.mean()) ** 2).sum() for v in (two[known & (group == k)] for k in range(3)))
    explained = 1 - within / ((two[known] - two[known].mean()) ** 2).sum()
    assert found[1, 2] == found[2, 1] == pytest.approx(np.sqrt(explained))
    assert found[2, 3] == pytest.approx(1) and found[2, 4] < 0.15 and found[4, 4] == pytest.approx(1)
    assert (
        np.isnan(found[5]).all()
        and (found[0, 1] > 0)
        and associations(-values[:, :2] * [1, -1], [True, True])[0, 1] < 0
    )


def test_baselines_of_tables() -> None:
    frame = load_wine(as_frame=True).frame
    data = tl.open_data(frame)
    assert isinstance(data.modality, Table)
    real = data.modality.cells(data.rows("train"))
    trends, nearest_real = {}, {}
    for name, make in baselines_for(data).items():
        samples = make(data, 2000, seed=0)
        made = data.modality.cells(samples).values
        assert column_shapes(real.values, made, real.numbers).value > 0.93, name
        trends[name] = pair_trends(real.values, made, real.numbers).value  # type: ignore[union-attr]
        nearest_real[name] = np.median(nearest(plain(data.spaces["x"], samples), plain(data.spaces["x"], data.x))[1])
    for name in ("Gaussian copula", "interpolated rows (SMOTE)", "trees (CART)"):
        assert trends[name] > trends["independent columns"] + 0.03, trends
    # Rows between two real ones lie nearest to real ones; columns of their own farthest off.
    assert (
        nearest_real["interpolated rows (SMOTE)"] < nearest_real["trees (CART)"] < nearest_real["independent columns"]
    )
    assert np.isfinite(plain(data.spaces["x"], data.x)).all()


def test_tokens_are_denoised_by_their_posterior() -> None:
    """With a network that says nothing, the estimate is Bayes' for equally frequent tokens under Gaussian noise."""
    space = Categorical((1,), 4)
    x = torch.tensor([[2], [0], [3]])
    sigma = torch.tensor([0.7, 2.0, 5.0])
    y = space.embed(x) + sigma[:, None] * torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    ends = space.embed(torch.arange(4)[:, None])  # (4, 4)
    likelihood = (-((y[:, None] - ends[None]) ** 2).sum(-1) / (2 * sigma[:, None] ** 2)).softmax(1)
    silent = torch.zeros_like(y)
    torch.testing.assert_close(space.settle(y, silent, y, sigma), likelihood @ ends, rtol=1e-4, atol=1e-4)
    error = space.denoising_error(silent + 9, silent, x, y, sigma)
    torch.testing.assert_close(error.sum(1), -likelihood.gather(1, x)[:, 0].log(), rtol=1e-4, atol=1e-4)
    mixed = Mixed([0, 4], [False, False])
    both = torch.cat([torch.ones(3, 1), y], 1)
    raw = torch.cat([torch.ones(3, 1), x.float()], 1)
    settled = mixed.settle(both, torch.zeros_like(both), both, sigma)
    torch.testing.assert_close(settled[:, 1:], space.settle(y, silent, y, sigma))
    assert (settled[:, 0] == 1).all()
    torch.testing.assert_close(
        mixed.denoising_error(both * 0 + 9, torch.zeros_like(both), raw, both, sigma)[:, 1:].sum(1), error.sum(1)
    )


def test_a_draw_has_the_shares_that_the_parameters_say() -> None:
    mixed = Mixed([0, 3], [True, False])
    params = torch.tensor([[1.0, 4.0, 0.0, np.log(2.0), np.log(5.0)]]).repeat(4000, 1)
    x = mixed.realise(params, Noise(0, np.arange(4000)), log_scale=torch.tensor(0.5).log())
    assert x[:, 0].mean() == pytest.approx(1.0, abs=0.05) and x[:, 0].std() == pytest.approx(0.5, abs=0.03)
    shares = torch.bincount(x[:, 1].long(), minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([1.0, 2.0, 5.0]) / 8, rtol=0, atol=0.03)


@pytest.mark.timeout(600)
def test_a_table_from_the_command_line(tmp_path: Path) -> None:
    """Train, generate with all columns, and measure: the diffusion model is nearer to the table than single columns."""
    frame = load_breast_cancer(as_frame=True).frame.iloc[:, [0, 1, 2, 3, 20, 30]]
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    frame["target"] = np.where(frame["target"] == 1, "benign", "malignant")
    file, run = tmp_path / "cells.csv", tmp_path / "run"
    frame.to_csv(file, index=False)
    runner = CliRunner()
    command = ["train", str(file), "--model", "diffusion", "--size", "xs", "--budget", "30k", "--out", str(run)]
    command += ["--set", "training.previews=0"]
    assert runner.invoke(app, command, catch_exceptions=False).exit_code == 0
    made = tmp_path / "made.csv"
    done = runner.invoke(app, ["generate", str(run), "-n", "400", "--out", str(made)], catch_exceptions=False)
    assert done.exit_code == 0
    samples = pd.read_csv(made)
    assert list(samples.columns) == list(frame.columns) and set(samples["target"]) == {"benign", "malignant"}
    assert abs((samples["target"] == "benign").mean() - (frame["target"] == "benign").mean()) < 0.12
    judged = tl.measure(str(file), str(made), quiet=True)
    data = tl.open_data(str(file))
    alone = tl.measure(data, data.modality.export(independent(data, 400, seed=0)), quiet=True)
    assert judged.metrics["trends"]["value"] > alone.metrics["trends"]["value"]
    assert judged.metrics["shapes"]["value"] > 0.8


def test_what_is_no_number_is_strange_where_none_was() -> None:
    """inf and `unknown` in a column of numbers, with gaps and without; what other normal rows have, too, is not."""
    random = np.random.default_rng(0)
    whole = random.gamma(2, 900, 80).round(2).astype(str).astype(object)
    gaps, marked = whole.copy(), whole.copy()
    gaps[::7], marked[::7] = "", "unknown"
    normal = pd.DataFrame({"whole": whole, "gaps": gaps, "marked": marked})
    table = tl.open_data(normal, kind="table").modality
    assert isinstance(table, Table)
    new = normal[1:5].copy()
    new.loc[2], new.loc[3] = "inf", "unknown"
    known = table.gaps(normal)
    found = table.outside(table.gaps(new), 0.001, known) / -np.log(0.001)
    np.testing.assert_allclose(found, [[0, 0, 0], [1.5, 1.5, 1.5], [1.5, 1.5, 0], [0, 0, 0]])
    assert (table.outside(known, 0.001, known)[::7, 1:] == 0).all()
    one = table.gaps(pd.concat([normal, new[1:2]]))  # normal rows are treated as new ones are
    assert (table.outside(one, 0.001, one)[-1] > 0).all()


def test_a_cell_with_an_exponent_takes_no_digits_from_the_others() -> None:
    """pandas writes 0.00001 as 1e-05; numbers that no count of decimals says keep all that a float holds."""
    random = np.random.default_rng(0)
    pay = np.array([f"{value:.2f}1" for value in random.uniform(1e5, 1e6, 200)], dtype=object)
    pay[::90], small = "1e-05", [f"{value:.3e}" for value in 10.0 ** random.uniform(-13, -10, 200)]
    for cells, decimals in (
        (pay, 5),
        (small, None),
        ([*pay[:99], "1.5e+16"], None),
        (["2.5e3", "1E+02", *map(str, random.permutation(10**7)[:60])], None),
    ):
        codes, texts = pd.factorize(np.array(cells, dtype=object))
        column, values, _ = infer(Texts("c", codes, list(texts)))
        assert column.kind == "number" and column.decimals == decimals
        column.fit(values)
        written = column.written(values, random)
        np.testing.assert_allclose(written.astype(float), values, rtol=1e-14)
        plain = [(text, cell) for text, cell in zip(written, cells, strict=True) if "e" not in cell.lower()]
        assert [text for text, cell in plain if text != cell] == []


def test_values_with_quotes_are_balanced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever signs a value holds; what goes wrong is said of `--balance`, not of a condition that nobody gave."""
    monkeypatch.setattr("trilemma.tasks.tables.LEAST", 500)
    values = np.array(['5" disk', "'n' \" and", "a, b", "plain"], dtype=object)
    frame = pd.DataFrame({"disk": values[np.arange(200) % 4], "x": np.random.default_rng(0).normal(size=200).round(2)})
    data = tl.open_data(frame, kind="table")
    table = data.modality
    assert isinstance(table, Table)
    rows: Any = SimpleNamespace(model=None, samples=lambda n, **_: np.resize(data.x, (n, 2)))

    def made(where: str | None) -> np.ndarray:
        return balanced(rows, table, 100, "disk", where=where, seed=0, start=0, options=Options())

    assert table.export(made(None))["disk"].value_counts().to_dict() == dict.fromkeys(values, 25)
    assert (table.export(made("x > 0"))["x"] > 0).all()
    with pytest.raises(InputError, match=r"--balance disk: .* with --where 'x > 90': 0 of"):
        made("x > 90")
    with pytest.raises(InputError, match="--balance disk: --where asks for one value"):
        made("disk = plain")


def test_equal_is_what_is_written_alike() -> None:
    """Dates, large and very small numbers: `=`, `!=` and `in` tell apart what the column does."""
    random = np.random.default_rng(0)
    when = pd.Timestamp("2024-03-01") + pd.to_timedelta(random.permutation(80) * 25, "min")
    frame = pd.DataFrame(
        {
            "when": when,
            "number": 148_509_800 + random.permutation(800)[:80],
            "pay": random.gamma(2, 9e5, 80).round(2),
            "small": 10.0 ** random.uniform(-13, -10, 80),
        }
    )
    data = tl.open_data(frame, kind="table")
    assert isinstance(data.modality, Table)
    cells = frame.assign(when=when.astype("datetime64[s]").astype(np.int64))
    for name in frame:
        values = cells[name].to_numpy(dtype=float)
        for row in (3, 40):
            written = f"'{frame[name][row]}'"
            for text, wanted in (
                (f"{name} = {written}", values == values[row]),
                (f"{name} != {written}", values != values[row]),
                (f"{name} in ({written}, {written})", values == values[row]),
            ):
                clause = parse(text, data.modality.columns).clauses[0]
                assert (clause.holds(values) == wanted).all(), text
                assert (clause.holds(values * (1 + 1e-15)) == wanted).all(), text  # as sums come out


def test_a_table_is_compared(tmp_path: Path) -> None:
    """The whole of it, with the floor and the baselines, on rows with a gap, a category and something to predict."""
    random = np.random.default_rng(0)
    age, shift = random.gamma(4, 10, 900), random.normal(size=900)
    frame = pd.DataFrame({"age": age.round(), "load": age / 20 + shift, "team": random.choice(list("abc"), 900)})
    frame["answer"] = np.where(frame["load"] + (frame["team"] == "a") > 2.5, "yes", "no")
    frame.loc[::9, "age"] = np.nan
    settings = {"training.previews": 0, "data.target": "answer"}
    tl.compare(frame, models=["vae"], budget_each="1k", settings=settings, out=tmp_path / "report", quiet=True)
    rows = {row["name"]: row for row in json.loads((tmp_path / "report" / "results.json").read_text())["rows"]}
    found = {name: {key: each["value"] for key, each in row["metrics"].items()} for name, row in rows.items()}
    plain = {"resampled training set", "Gaussian copula", "independent columns", "interpolated rows (SMOTE)"}
    assert found.keys() == plain | {"trees (CART)", "vae", "real against real"}
    assert not rows["vae"]["problems"] and found["vae"]["denoising"] > 0
    own = {"shapes", "trends", "classifier", "usefulness", "usefulness@linear", "augmented"}
    privacy = {"exact_copies", "membership", "closer_to_train", "attribute_gain", "near_copies"}
    for name, row in found.items():
        needed = own if name == "real against real" else own | privacy
        assert needed <= row.keys() and all(np.isfinite(row[key]) for key in needed), name
    assert found["resampled training set"]["exact_copies"] == 1 and found["vae"]["exact_copies"] < 0.1
    assert found["resampled training set"]["membership"] > 0.7 > found["independent columns"]["membership"]
    for key in ("trends", "usefulness"):
        assert found["real against real"][key] > found["independent columns"][key] + 0.03, key
        assert found["Gaussian copula"][key] > found["independent columns"][key] + 0.03, key
    assert found["independent columns"]["shapes"] > found["vae"]["shapes"] + 0.02
    page = (tmp_path / "report" / "index.html").read_text()
    together = {name: np.array(row["table"]["together"]) for name, row in rows.items()}
    assert together["real against real"][1, 3] > 0.5 > together["independent columns"][1, 3] + 0.3
    for words in ("Usefulness", "trees (CART)", "How columns go together", "load and answer", "team and answer"):
        assert words in page, words
