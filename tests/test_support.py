"""docs/support.md: every cell that says `works` is run here, and every empty one is an error that says why."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

import trilemma as tl
from trilemma.errors import InputError
from trilemma.modalities.door import kinds
from trilemma.models.contract import find
from trilemma.report.support import families, page
from trilemma.tasks.abilities import TASKS, learns, works
from trilemma.tasks.load import Loaded

ROOT = Path(__file__).resolve().parents[1]
PAIRS = [(stem, kind) for kind in kinds() for stem in families() if learns(find(stem)[0], kind)]


@cache
def example(kind: str) -> Any:
    """A small set of each kind. A new kind needs one here."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3)).astype(np.float32)
    if kind == "image":
        return (load_digits().images[:300] * 15).astype(np.uint8)
    if kind == "points":
        return x
    frame = pd.DataFrame(x.round(3), columns=["a", "b", "c"])
    if kind == "table":
        return frame.assign(d=np.where(x[:, 0] > 0, "up", "down"))
    assert kind == "series", f"no example of kind {kind}"
    return frame.cumsum().assign(day=pd.date_range("2020-01-01", periods=300).strftime("%Y-%m-%d"))


def ways(run: Loaded, data: Any) -> dict[str, Callable[[], Any]]:
    """How each task is done with such data; all give arrays or data frames."""
    some = data[:20] if isinstance(data, np.ndarray) else data.head(60)
    gaps = some.copy() if isinstance(some, np.ndarray) else some.assign(a=some["a"].where(some.index % 3 > 0))
    return {
        "generate": lambda: run.generate(5),
        "reconstruct": lambda: run.reconstruct(some),
        "interpolate": lambda: run.interpolate(0, 1, steps=4),
        "embed": lambda: run.embed(some),
        "denoise": lambda: run.denoise(some),
        "impute": lambda: run.impute(gaps, draws=2),
        "forecast": lambda: run.forecast(some, horizon=3, draws=4).frame(),
        "stress": lambda: run.stress("a change > -1e6", n=3),
        "risk": lambda: run.risk(data, weights="a=1", draws=8, most=5).tests().fillna(0.0),
        "traverse": lambda: run.traverse(dimensions=2, steps=3, raw=True),
        "mix": lambda: run.mix([1, 2], raw=True),
        "project": lambda: run.project(some, steps=2).decoded().numpy(),
        "edit": lambda: run.edit(direction="sefa-1"),
        "vary": lambda: run.vary(some, raw=True),
        "directions": lambda: run.directions(["pca-1", "sefa-1"], steps=2, raw=True),
        "score": lambda: run.score(some),
        "translate": lambda: run.translate(some),
        "search": lambda: run.search("up", some).scores,
        "classify": lambda: run.classify(some, ["up", "down"]).probabilities,
        "detect": lambda: run.detect(some, normal=data, false_alarms=0.05),
        "info": lambda: np.zeros(len(run.info())),
    }


@pytest.mark.parametrize(("stem", "kind"), PAIRS, ids=[f"{stem}-{kind}" for stem, kind in PAIRS])
def test_every_cell(stem: str, kind: str, tmp_path: Path) -> None:
    data = example(kind)
    settings = {"training.previews": 0} | ({"data.window": 16} if kind == "series" else {})
    tl.train(data, model=stem, out=tmp_path / "run", budget="1k", size="xs", settings=settings, quiet=True)
    run = tl.load(tmp_path / "run")
    assert run.modality.kind == kind
    tasks = ways(run, data)
    assert set(tasks) == set(TASKS)
    for task, way in tasks.items():
        if works(find(stem)[0], kind, task) and task != "translate":  # these have learned from one set
            made = way()
            assert task in run.can() and len(made) > 0, task
            numbers = made if isinstance(made, np.ndarray) else made.select_dtypes("number").to_numpy()
            assert np.isfinite(np.asarray(numbers, dtype=np.float64)).all(), task
        else:
            with pytest.raises(InputError, match=f"{task}|{kind}"):
                way()
            assert task not in run.can()


@pytest.mark.parametrize(
    ("stem", "sets"), [(stem, sets) for sets in ("paired", "unpaired") for stem in families(sets)], ids=str
)
def test_every_translator(stem: str, sets: str, tmp_path: Path) -> None:
    x = example("image")
    if sets == "unpaired":
        x, y = x[:150], 255 - x[150:]
        settings = {"data.pairs": "none"}
    else:
        y, settings = 255 - x, {}
    settings |= {"training.previews": 1}
    tl.train(x, y, model=stem, out=tmp_path / "run", budget="500", size="xs", settings=settings, quiet=True)
    run = tl.load(tmp_path / "run")
    assert run.can() == ["translate", "info"]
    made = run.translate(x[:3])
    assert made.shape == (3, 8, 8) and made.dtype == np.uint8
    assert len(np.unique(made.reshape(3, -1), axis=0)) == 3, "all sources give one picture"
    with pytest.raises(InputError, match="has learned to translate"):
        run.generate(2)


def test_the_page_is_what_the_code_says() -> None:
    """docs/support.md is written by `python -m trilemma.report.support`; do it again when this fails."""
    assert (ROOT / "docs" / "support.md").read_text(encoding="utf-8") == page()
