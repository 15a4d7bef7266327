"""What is asked of tables: rows under conditions, classes in equal shares, gaps filled in; checked on a known law."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import trilemma as tl
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.metrics.privacy import attribute_gain, closer_to_train, closest_record, exact_copies, membership
from trilemma.metrics.usefulness import usefulness
from trilemma.modalities.contract import Opening
from trilemma.modalities.table import Table
from trilemma.modalities.where import parse
from trilemma.tasks.conformal import apart_from
from trilemma.tasks.detect import unseen

COUNT = 4000
NOISE = 0.5


def law(count: int = COUNT, seed: int = 0) -> pd.DataFrame:
    """x ~ N(0, 1); y = 2 x + N(0, 0.25); F more often where x is large; a grade by x; an identifier and a remark."""
    random = np.random.default_rng(seed)
    x = random.normal(size=count)
    y = 2 * x + NOISE * random.normal(size=count)
    sex = np.where(random.uniform(size=count) < 1 / (1 + np.exp(-3 * x)), "F", "M")
    grade = np.where(random.uniform(size=count) < 0.05, "rare", np.where(x > 0.5, "high", "low"))
    return pd.DataFrame(
        {
            "id": [f"R{number:06d}" for number in random.permutation(count)],
            "x": x.round(3),
            "the y": y.round(3),
            "sex": sex,
            "grade": grade,
        }
    )


@pytest.fixture(scope="module", autouse=True)
def few_rows() -> Iterator[None]:
    """Rows are made 512 at a time and not 2,560, and given up on after fewer: the tests want few of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trilemma.tasks.tables.PART", 512)
        patch.setattr("trilemma.tasks.tables.LEAST", 2000)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A diffusion model, a VAE and a GAN of the law, one y in ten missing."""
    folder, frame = tmp_path_factory.mktemp("rows"), law()
    frame.loc[np.random.default_rng(1).uniform(size=COUNT) < 0.1, "the y"] = np.nan
    made = {}
    for model, budget in (("diffusion", "130k"), ("vae", "150k"), ("gan", "8k")):
        made[model] = folder / model
        settings = {"training.previews": 0}
        tl.train(frame, model=model, out=made[model], budget=budget, size="xs", settings=settings, quiet=True)
    return made


def test_conditions_are_read(runs: dict[str, Path]) -> None:
    modality = tl.load(runs["gan"]).modality
    assert isinstance(modality, Table)

    def said(text: str) -> list[tuple[int, str, list[float]]]:
        return [(each.place, each.sign, each.values) for each in parse(text, modality.columns).clauses]

    assert said("sex = F and x > -0.5") == [(3, "=", [0.0]), (1, ">", [-0.5])]
    assert said("grade in (rare, 'high') and the y is missing") == [(4, "in", [2.0, 0.0]), (2, "missing", [])]
    assert said('"the y" <= 1e0 and sex != m') == [(2, "<=", [1.0]), (3, "!=", [1.0])]
    for text, message in (
        ("sexx = F", "Did you mean 'sex'"),
        ("sex = X", "unknown .*value of 'sex'"),
        ("sex > F", "have no order"),
        ("x = 99", "reaches from"),
        ("x = abc", "is no number"),
        ("id = R000001", "nothing depends on it"),
        ("x", "is no condition"),
        ("x is missing", "no missing cells"),
        ("grade in rare", "write the values as"),
        ("", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            parse(text, modality.columns)


@pytest.mark.parametrize("model", ["diffusion", "vae", "gan"])
def test_rows_meet_the_conditions(runs: dict[str, Path], model: str) -> None:
    run = tl.load(runs[model])
    frame = run.generate(300, where="sex = F and x > 0.5", seed=1)
    assert len(frame) == 300 and set(frame["sex"]) == {"F"} and (frame["x"] > 0.5).all()
    again = run.generate(300, where="sex = F and x > 0.5", seed=1)
    pd.testing.assert_frame_equal(frame.drop(columns="id"), again.drop(columns="id"))
    with pytest.raises(InputError, match="meet it"):
        run.generate(10, where="x > 50")
    anyone = run.generate(1000, seed=1)  # what is met often is waited for: the model knows its own rows best
    women = anyone[anyone["sex"] == "F"].reset_index(drop=True)
    waited = run.generate(len(women), where="sex = F", seed=1)
    pd.testing.assert_frame_equal(waited.drop(columns="id"), women.drop(columns="id"))
    name, values = ("sex", 2) if model == "gan" else ("grade", 3)  # so short a training makes no rare grades
    shares = run.generate(301, balance=name).value_counts(name)
    assert shares.max() - shares.min() <= 1 and len(shares) == values


def test_what_is_given_changes_the_rest_as_it_should(runs: dict[str, Path]) -> None:
    """Under the law, of which the expectations are known."""
    run, truth = tl.load(runs["diffusion"]), law(200_000, seed=5)
    women = run.generate(2000, where="sex = F")
    wanted = truth[truth["sex"] == "F"]["x"]
    assert women["x"].mean() == pytest.approx(wanted.mean(), abs=0.12)
    assert women["x"].std() == pytest.approx(wanted.std(), abs=0.12)
    at = run.generate(1000, where="x = 1")
    assert (at["x"] == 1).all()
    assert at["the y"].mean() == pytest.approx(2.0, abs=0.2) and at["the y"].std() < 0.9
    gone = run.generate(200, where="the y is missing")
    assert gone["the y"].isna().all()


@pytest.mark.parametrize(("model", "worse"), [("diffusion", 1.35), ("vae", 1.7)])
def test_gaps_are_filled_in(runs: dict[str, Path], model: str, worse: float) -> None:
    """Errors near those of the law's own conditional mean; draws as wide as its spread; all else as it was."""
    truth = law(400, seed=7)
    gaps = truth.copy()
    gaps["remark"] = "kept as it is"
    blank = np.random.default_rng(2).uniform(size=len(gaps)) < 0.5
    gaps.loc[blank, "the y"] = np.nan
    run = tl.load(runs[model])
    middle, *draws = run.imputations(gaps, draws=30)
    assert len(draws) == 30 and list(middle) == list(gaps)
    pd.testing.assert_frame_equal(middle[~blank], gaps[~blank], check_dtype=False)
    assert (middle["remark"] == "kept as it is").all() and (middle["id"] == gaps["id"]).all()
    assert not middle.isna().any().any()
    errors = (middle["the y"] - truth["the y"])[blank]
    assert errors.std() < worse * NOISE
    made = np.stack([draw["the y"][blank].astype(float) for draw in draws])
    low, high = np.quantile(made, [0.05, 0.95], axis=0)
    inside = ((truth["the y"][blank] >= low) & (truth["the y"][blank] <= high)).mean()
    assert 0.75 < inside < 0.98
    # Any pattern: where nothing is known but one category, and where a whole column is not there.
    few = pd.DataFrame({"sex": ["F", "M"] * 100})
    filled = run.impute(few)
    assert filled["x"][::2].mean() > filled["x"][1::2].mean() + 0.5
    pd.testing.assert_frame_equal(filled, run.impute(few).assign(id=filled["id"]))


def test_only_what_can_fills_in(runs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="gan cannot impute; models that can: diffusion, vae"):
        tl.load(runs["gan"]).impute(law(20))
    with pytest.raises(InputError, match="none of the columns"):
        tl.load(runs["vae"]).impute(pd.DataFrame({"other": [1, 2]}))
    with pytest.raises(InputError, match="at least one"):
        tl.load(runs["vae"]).impute(law(20), draws=0)


def test_tables_from_the_command_line(runs: dict[str, Path], tmp_path: Path) -> None:
    runner, gaps = CliRunner(), law(50, seed=3)
    gaps.loc[::2, "sex"] = np.nan
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    command = ["impute", str(runs["diffusion"]), str(tmp_path / "gaps.csv"), "--draws", "2"]
    done = runner.invoke(app, [*command, "--out", str(tmp_path / "full.csv")], catch_exceptions=False)
    assert done.exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("full*")) == ["full.csv", "full.draw1.csv", "full.draw2.csv"]
    full = (tmp_path / "full.csv").read_text().splitlines()
    for given, line in zip((tmp_path / "gaps.csv").read_text().splitlines(), full, strict=True):
        assert line == given or ",," in given
    asked = ["generate", str(runs["vae"]), "-n", "20", "--where", "sex = M", "--out", str(tmp_path / "men.csv")]
    assert runner.invoke(app, asked, catch_exceptions=False).exit_code == 0
    assert set(pd.read_csv(tmp_path / "men.csv")["sex"]) == {"M"}


def test_usefulness_on_a_known_law() -> None:
    """y = 2 x + noise: the best R2 is 1 - 0.25 / 4.25; columns that know nothing of each other teach nothing."""
    frame = law(4000, seed=8)
    cells = np.stack([frame["x"], frame["the y"], (frame["sex"] == "F").astype(float)], 1)
    numbers = [True, True, False]
    best = 1 - NOISE**2 / (4 + NOISE**2)
    for kind in ("trees", "linear"):
        found = usefulness(cells[:3000], cells[3000:], target=1, numbers=numbers, kind=kind)  # type: ignore[arg-type]
        assert found is not None and found.value == pytest.approx(best, abs=0.03)
    random = np.random.default_rng(0)
    mixed = np.stack([random.permutation(column) for column in cells[:3000].T], 1)
    worthless = usefulness(mixed, cells[3000:], target=1, numbers=numbers)
    assert worthless is not None and worthless.value < 0.05
    women = usefulness(cells[:3000], cells[3000:], target=2, numbers=numbers)
    assert women is not None and women.unit == "F1" and 0.7 < women.value < 0.95
    assert usefulness(cells[:3000], cells[3000:], target=2, numbers=[True, True, True]) is not None
    assert usefulness(cells[:5], cells[3000:], target=1, numbers=numbers) is None


def test_privacy_of_copies_and_of_strangers() -> None:
    random = np.random.default_rng(0)
    train, unseen, fresh = (random.normal(size=(500, 6)) for _ in range(3))
    gap = train.copy()
    gap[:, 0] = np.nan
    assert exact_copies(gap, gap[:100]).value == 1 and exact_copies(train, fresh).value == 0
    half = np.concatenate([train[:250], fresh[:250]])
    assert exact_copies(train, half).value == 0.5
    copied, stranger = membership(train, unseen, train), membership(train, unseen, fresh)
    assert copied.value > 0.99 and stranger.low is not None and stranger.low < 0.5 < (stranger.high or 0)
    secret = [random.integers(0, 4, 500).astype(float) for _ in range(3)]
    known = attribute_gain(train, unseen, train, (secret[0], secret[1], secret[0]))
    assert known.value == pytest.approx(0.75, abs=0.07)  # guessed by chance: one in four
    nothing = attribute_gain(train, unseen, fresh, (secret[0], secret[1], secret[2]))
    assert nothing.low is not None and nothing.low < 0 < (nothing.high or 0)


def test_the_closest_record_is_that_of_brute_force() -> None:
    """Numbers by their share of the range, categories 0 or 1, gaps; the share over ties; its interval."""
    random = np.random.default_rng(0)

    def table(count: int) -> np.ndarray:
        made = np.stack([random.normal(size=count), random.gamma(2, 100, count), random.integers(0, 3, count)], 1)
        made[random.uniform(size=made.shape) < 0.1] = np.nan
        return made

    train, unseen, made = table(40), table(30), table(25)
    numbers = [True, True, False]
    first, second, _ = closest_record(train, unseen, made, numbers)
    spans = np.nanmax(train, 0) - np.nanmin(train, 0)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for place in range(3):
            if np.isnan(a[place]) or np.isnan(b[place]):
                total += float(np.isnan(a[place]) != np.isnan(b[place]))
            else:
                total += abs(a[place] - b[place]) / spans[place] if numbers[place] else float(a[place] != b[place])
        return total / 3

    for found, pool in ((first, train), (second, unseen)):
        np.testing.assert_allclose(found, [min(distance(row, other) for other in pool) for row in made], rtol=1e-5)
    spans = np.nanmax(train[:30], 0) - np.nanmin(train[:30], 0)
    sides = [[min(distance(row, other) for other in pool[:30]) for row in made] for pool in (train, unseen)]
    wanted = np.mean([0.5 if np.isclose(a, b, atol=1e-7) else float(a < b) for a, b in zip(*sides, strict=True)])
    assert closer_to_train(train[:30], unseen, made, numbers).value == pytest.approx(wanted)
    assert closer_to_train(train, unseen, train, numbers).value == pytest.approx(1, abs=0.05)
    assert closer_to_train(train, unseen, unseen, numbers).value == pytest.approx(0, abs=0.05)
    for count in (60, 240):
        held = [closer_to_train(table(count), table(60), table(200), numbers) for _ in range(100)]
        assert np.mean([(own.low or 0) <= 0.5 <= (own.high or 0) for own in held]) > 0.9


@pytest.mark.parametrize("model", ["diffusion", "vae"])
def test_strange_rows_are_found_and_explained(runs: dict[str, Path], model: str) -> None:
    """Normal rows of the law, and rows that break it in one column each: in y given x, by a far value, a new grade."""
    run, normal, new = tl.load(runs[model]), law(1500, seed=11), law(900, seed=12)
    new.loc[:99, "the y"] = 2 * new.loc[:99, "x"] + np.where(new.loc[:99, "x"] > 0, -4, 4)  # y alone is common
    new.loc[100:149, "x"] = 40.0
    new.loc[150:199, "grade"] = "never seen"
    new["remark"] = "stays"
    found = run.detect(new, false_alarms=0.02, normal=normal)
    assert list(found) == [*new, "anomaly", "p_value", "alarm", "because"] and (found["remark"] == "stays").all()
    # 700 normal rows: a binomial of 2 % is below 1 + 2 % in 99 of 100 draws even for a finite set of normal ones.
    assert found["alarm"][200:].mean() < 0.035
    assert found["alarm"][:100].mean() > 0.8 and found["alarm"][100:200].all()
    assert found["because"][100:150].str.startswith("x ").all()
    assert found["because"][150:200].str.startswith("grade ").all()
    blamed = found["because"][:100][found["alarm"][:100]]
    assert blamed.str.contains("the y").mean() > 0.8
    assert (found["because"][~found["alarm"]] == "").all()
    again = run.detect(new, false_alarms=0.02, normal=normal)
    pd.testing.assert_frame_equal(found, again)


def test_detect_asks_for_what_it_needs(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gan cannot detect"):
        tl.load(runs["gan"]).detect(law(30))
    run = tl.load(runs["vae"])
    with pytest.raises(InputError, match="--normal FILE"):
        run.detect(law(30))  # trained on a data frame, which is gone
    with pytest.raises(InputError, match="normal rows cannot tell"):
        run.detect(law(30), normal=law(40), false_alarms=0.001)
    law(900, seed=1).to_csv(tmp_path / "law.csv", index=False)
    law(50, seed=2).to_csv(tmp_path / "new.csv", index=False)
    runner, folder = CliRunner(), tmp_path / "run"
    command = ["train", str(tmp_path / "law.csv"), "--model", "autoencoder", "--size", "xs", "--budget", "20k"]
    assert runner.invoke(app, [*command, "--out", str(folder)], catch_exceptions=False).exit_code == 0
    asked = ["detect", str(folder), str(tmp_path / "new.csv"), "--false-alarms", "5%", "--out", str(tmp_path / "d.csv")]
    assert runner.invoke(app, asked, catch_exceptions=False).exit_code == 0
    assert pd.read_csv(tmp_path / "d.csv")["alarm"].mean() < 0.25
    refused = runner.invoke(app, [*asked[:4], "5 percent", *asked[5:]])
    assert refused.exception is not None and "give a share" in str(refused.exception)


def test_normal_rows_of_the_run_may_be_as_odd_as_new_ones(tmp_path: Path) -> None:
    """As they were read: beyond what was learned, with a text that stands for no number."""
    random, frame = np.random.default_rng(5), law(900)
    frame["x"] = random.standard_cauchy(900).round(3).astype(str)
    frame.loc[random.uniform(size=900) < 0.05, "x"] = "unknown"
    frame.to_csv(tmp_path / "law.csv", index=False)
    data = tl.open_data(str(tmp_path / "law.csv"))
    assert isinstance(data.modality, Table)
    known, places = unseen(data.modality, data), apart_from(data)
    assert set(places) == {*data.splits["choose"], *data.splits["test"]}
    np.testing.assert_array_equal(np.where(known.observed, known.x, np.nan), data.x[places])
    texts = {each.name: each.cells() for each in known.origin}
    np.testing.assert_array_equal(texts["the y"].astype(float), frame["the y"].to_numpy()[places])
    assert (texts["x"] == "unknown").any()
    low, high = data.modality.columns[1].knots[0], data.modality.columns[1].knots[-1]
    far = [text != "unknown" and not low <= float(text) <= high for text in texts["x"]]
    assert any(far)
    np.testing.assert_array_equal(data.modality.outside(known, 1e-3, known)[:, 1] > 0, far)


def test_cells_that_are_hard_to_read(runs: dict[str, Path], tmp_path: Path) -> None:
    """Whole numbers that a gap made floats, a column without anything, dates in the run's order, many classes."""
    random = np.random.default_rng(0)
    count = 400
    frame = pd.DataFrame(
        {
            "flag": random.integers(0, 2, count),
            "empty": np.full(count, np.nan),
            "when": pd.date_range("2019-01-01", periods=count).strftime("%d/%m/%Y")[random.permutation(count)],
            "x": random.normal(size=count).round(2),
        }
    )
    settings = {"training.previews": 0}
    tl.train(frame, model="vae", out=tmp_path / "run", budget="2k", size="xs", settings=settings, quiet=True)
    run = tl.load(tmp_path / "run")
    gaps = frame.head(30).copy()
    gaps["flag"] = gaps["flag"].where(gaps.index != 3).astype(float)
    filled = run.impute(gaps)
    assert set(filled["flag"].astype(float)) <= {0.0, 1.0}
    found = run.detect(gaps, normal=frame, false_alarms=0.05)
    assert found["alarm"].mean() < 0.4
    one = pd.DataFrame({"flag": [1], "empty": [np.nan], "when": ["03/04/2021"], "x": [np.nan]})
    assert run.impute(one)["when"][0] == "03/04/2021"
    with pytest.raises(InputError, match=r"are not written %d/%m/%Y"):
        run.impute(one.assign(when="2021-04-03"))
    with pytest.raises(InputError, match="'abc' in column 'x' is no number"):
        run.impute(one.assign(x="abc"))
    with pytest.raises(InputError, match="would write"):
        run.detect(frame.assign(alarm=1), normal=frame)
    for command in (["impute", "--out", "filled"], ["detect", "--out", "strange"]):
        frame.to_csv(tmp_path / "t.csv", index=False)
        bad = CliRunner().invoke(app, [command[0], str(tmp_path / "run"), str(tmp_path / "t.csv"), *command[1:]])
        assert "name a file in" in str(bad.exception)
    cells = np.stack([random.normal(size=3000), random.integers(0, 200, 3000).astype(float)], 1)
    assert usefulness(cells[:2000], cells[2000:], target=1, numbers=[True, False]) is not None
    cells[:2000, 0] = np.nan
    assert usefulness(cells[:2000], cells[2000:], target=1, numbers=[True, False]) is None


def test_a_number_that_was_given_is_met(runs: dict[str, Path]) -> None:
    run = tl.load(runs["diffusion"])
    assert len(run.generate(20, where="x = 0.123")) == 20
    part = run.generate(10, where="sex = F", start=5)
    assert not part.equals(run.generate(10, where="sex = F"))
    with pytest.raises(InputError, match="without labels"):
        run.generate(5, where="sex = F", label=1)
    with pytest.raises(InputError, match=r"data\.window"):
        tl.open_data(law(100), opening=Opening(window=32))
