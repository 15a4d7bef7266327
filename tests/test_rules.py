"""Rules between columns: counted in rows of any origin, found by `detect`, kept by `impute` beside given cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import trilemma as tl
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.metrics.tables import rules_broken
from trilemma.modalities import keep
from trilemma.modalities.columns import Column
from trilemma.modalities.contract import Opening
from trilemma.modalities.table import Table
from trilemma.report.asked import samples_of

KEPT = ("start <= end", "net + tax = total", "high > low")


def rules(count: int = 400, seed: int = 4) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    start = pd.Timestamp("2021-01-01") + pd.to_timedelta(random.integers(0, 300, count), "D")
    net, tax = random.gamma(2, 50, count).round(2), random.gamma(1, 9, count).round(2)
    low = random.normal(size=count).round(2)
    return pd.DataFrame(
        {
            "end": (start + pd.to_timedelta(random.integers(0, 40, count), "D")).strftime("%Y-%m-%d"),
            "start": start.strftime("%Y-%m-%d"),
            "net": net,
            "tax": tax,
            "total": (net + tax).round(2),
            "low": low,
            "high": (low + random.gamma(1, 1, count) + 0.01).round(2),
            "kind": random.choice(["a", "b"], count),
        }
    )


def by_hand(frame: pd.DataFrame) -> np.ndarray:
    """Rows that break a rule (n,), with pandas."""
    whole = frame.dropna()
    late = pd.to_datetime(whole["start"]) > pd.to_datetime(whole["end"])
    wrong = (whole["net"] + whole["tax"] - whole["total"]).abs() > 0.006
    return (late | wrong | (whole["high"] <= whole["low"])).to_numpy()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE that has hardly learned: what it draws breaks rules wherever nothing holds it to them."""
    folder = tmp_path_factory.mktemp("rules")
    rules().to_csv(folder / "real.csv", index=False)
    settings = {"data.keep": list(KEPT), "training.previews": 0}
    tl.train(
        folder / "real.csv", model="vae", out=folder / "run", budget="2k", size="xs", settings=settings, quiet=True
    )
    return folder / "run"


def spoiled(count: int = 100) -> pd.DataFrame:
    """Rows 0 to 9 break the first rule, 10 to 19 the second, 20 to 29 the third, by values that are all common."""
    frame = rules(count, seed=9)
    frame.loc[:9, ["start", "end"]] = np.array([["2021-09-20", "2021-03-05"]] * 10)
    frame.loc[10:19, "total"] = (frame.loc[10:19, "total"] + 31.5).round(2)
    frame.loc[20:29, "high"] = (frame.loc[20:29, "low"] - 0.2).round(2)
    return frame


def test_broken_rules_are_counted_in_rows_of_any_origin(run: Path, tmp_path: Path) -> None:
    frame = spoiled()
    assert by_hand(frame).sum() == 30 and by_hand(rules()).sum() == 0
    data = tl.open_data(rules(), opening=Opening(keep=KEPT))
    assert isinstance(data.modality, Table)
    found = data.modality.broken(frame)
    assert list(found) == ["start <= end", "net + tax = total", "low < high"]
    np.testing.assert_array_equal(np.any(list(found.values()), axis=0), by_hand(frame))
    measure = rules_broken(by_hand(frame))
    wanted = stats.binomtest(30, 100).proportion_ci(0.95)
    assert (measure.value, measure.low, measure.high) == pytest.approx((0.3, wanted.low, wanted.high))
    frame.to_csv(tmp_path / "made.csv", index=False)
    given = ["measure", str(run.parent / "real.csv"), str(tmp_path / "made.csv")]
    said = CliRunner().invoke(
        app, [*given, *(word for rule in KEPT for word in ("--keep", rule))], catch_exceptions=False
    )
    assert said.exit_code == 0
    assert any(line.startswith("Rules broken") and "0.3" in line for line in said.stdout.splitlines()), said.stdout
    assert "note: 10 of 100 rows break 'net + tax = total'" in said.stdout
    figures = samples_of(data, "theirs", spoiled(400)).figures  # as `compare --include` reads them
    assert figures["rules_broken"]["value"] == pytest.approx(30 / 400)
    assert samples_of(tl.open_data(rules()), "theirs", spoiled(400)).figures == {}


def test_a_broken_rule_is_strange_and_named(run: Path) -> None:
    found = tl.load(run).detect(spoiled(), normal=rules(600, seed=5), false_alarms=0.02)
    assert found["alarm"][:30].all() and found["alarm"][30:].mean() < 0.1
    for first, rule in ((0, "start <= end"), (10, "net + tax = total"), (20, "low < high")):
        assert found["because"][first : first + 10].str.contains(f"rule {rule}", regex=False).all()
    assert not found["because"][30:].str.contains("rule").any()


def test_what_is_filled_in_keeps_the_rules_beside_what_is_there(run: Path) -> None:
    """Any pattern of gaps: no rule is broken, no given cell is touched, and a sum's last part is what is left."""
    whole = rules(300, seed=7)
    whole.loc[::3, "low"] = -40.0  # far below all that the model knows
    whole.loc[::3, "high"] = -39.5
    holes = np.random.default_rng(0).uniform(size=whole.shape) < 0.5
    gaps = whole.mask(holes)
    for filled in tl.load(run).imputations(gaps, draws=2):
        assert not filled.isna().any().any() and not by_hand(filled).any()
        for name in whole:
            kept = ~holes[:, list(whole).index(name)]
            assert (filled[name][kept].astype(str) == whole[name][kept].astype(str)).all(), name
    alone = whole.assign(tax=np.nan)
    np.testing.assert_allclose(tl.load(run).impute(alone)["tax"], whole["tax"], atol=1e-6)


def test_rows_that_are_made_keep_the_rules(run: Path) -> None:
    """With conditions and without, and in every format that is read back."""
    loaded, frame = tl.load(run), rules()
    made = loaded.generate(500)
    assert list(made) == list(frame) and not made.isna().any().any() and not by_hand(made).any()
    some = loaded.generate(50, where="total > 100 and end > 2021-06-01")
    assert (some["total"] > 100).all() and (some["end"] > "2021-06-01").all() and not by_hand(some).any()
    data = tl.open_data(frame, opening=Opening(keep=KEPT))
    rows = data.splits["train"]
    again = data.modality.export(data.x[rows])
    pd.testing.assert_frame_equal(again, frame.iloc[rows].reset_index(drop=True), check_dtype=False)
    gaps = frame.head(40).copy()
    gaps.loc[::2, "total"] = np.nan
    np.testing.assert_allclose(loaded.impute(gaps)["total"], frame["total"].head(40))


def test_bad_rules() -> None:
    for rule, message in (
        ("start", "write it like"),
        ("start <= nowhere", "unknown .*column"),
        ("start <= kind", "a rule is for numbers and dates"),
        ("end <= start", "break it .row"),
        ("net = total", "at least two columns"),
    ):
        with pytest.raises(InputError, match=message):
            tl.open_data(rules(), opening=Opening(keep=(rule,)))
    with pytest.raises(InputError, match="has a rule already"):
        tl.open_data(rules(), opening=Opening(keep=("low < high", "low <= high")))
    few = rules()
    few.loc[3, "high"] = few.loc[3, "low"] - 5
    data = tl.open_data(few, opening=Opening(keep=("low <= high",)))
    assert any("1 rows break" in note for note in data.notes)


def test_reconciled_by_hand() -> None:
    """A chain of three, and a sum of which two parts are drawn."""
    own = [
        Column("a", "integer"), Column("b", "integer", base="a"), Column("c", "integer", base="b", strict=True),
        Column("p", "number", decimals=1), Column("q", "number", decimals=1),
        Column("s", "number", decimals=1, sum=["p", "q"]),
    ]  # fmt: skip
    nothing = np.nan
    drawn = [np.array(cells) for cells in ([5.0, 5, 9], [2.0, 2, 2], [3.0, 3, 3], [1.0, 1, 4], [3.0, 3, 4])]
    drawn.append(np.full(3, nothing))
    given = [
        np.array([nothing, 4, nothing]), np.array([nothing, nothing, nothing]), np.array([nothing, 5, 8]),
        np.array([nothing, nothing, nothing]), np.array([nothing, nothing, 4]), np.array([nothing, 10, 10]),
    ]  # fmt: skip
    made = np.stack(keep.reconciled(own, drawn, given))
    np.testing.assert_array_equal(made[:, 0], [5, 7, 10, 1, 3, 4])  # nothing given: as drawn
    assert made[0, 1] == 4 and made[2, 1] == 5 and 4 <= made[1, 1] < 5  # a and c given, b between them
    assert made[2, 2] == 8 and made[0, 2] <= made[1, 2] < 8
    np.testing.assert_allclose(made[3:, 1], [2.5, 7.5, 10])  # 1 and 3 grow with the sum
    np.testing.assert_allclose(made[3:, 2], [6, 4, 10])
    assert not any(broken.any() for broken in keep.broken(own, list(made)).values())
