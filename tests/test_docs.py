"""What the documentation says is run, or compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import trilemma
from trilemma.models.contract import TRAINED, configure, find, known_models
from trilemma.spaces import Continuous

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/add-a-model.md", "docs/choosing.md", "docs/export.md", "docs/outside.md")


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of docs/add-a-model.md as a file."""
    text = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    path = tmp_path_factory.mktemp("own") / "gaussian.py"
    path.write_text(example, encoding="utf-8")
    return path


def test_the_example_model_is_the_density_that_it_says(gaussian: Path) -> None:
    model_class, preset = find(f"{gaussian}:smooth")
    assert (model_class.__name__, preset) == ("Gaussian", "smooth")
    spaces = {"x": Continuous((3,), mean=torch.tensor([1.0, 2.0, 3.0]), deviation=torch.tensor([2.0, 1.0, 0.5]))}
    config = configure(f"{gaussian}:smooth", spaces)
    assert config.grain == 0.5
    model = model_class(config, spaces).double()  # type: ignore[call-arg]
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    factor = model.factor()  # type: ignore[operator]
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(model.mean, precision_matrix=factor.T @ factor)  # type: ignore[arg-type]
    torch.testing.assert_close(-model.nll(x), law.log_prob(x))  # type: ignore[operator]


def test_the_example_model_trains_and_samples(gaussian: Path, tmp_path: Path) -> None:
    """The whole way, from the file to samples, by the functions that the verbs call."""
    name = str(gaussian)
    few = {"training.previews": 1, "training.preview_samples": 4, "training.choose_samples": 50}  # too few to choose by
    trilemma.train("digits", model=name, budget=4_096, out=tmp_path / "run", settings=few, quiet=True)
    loaded = trilemma.load(tmp_path / "run")
    assert set(loaded.can()) == {"generate", "score", "info"}
    x = loaded.generate(5, seed=1)
    assert x.shape == (5, 8, 8) and x.dtype == np.uint8 and x.std() > 0
    np.testing.assert_array_equal(x[3:], loaded.generate(2, seed=1, start=3))


def test_the_readme_knows_every_model() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.M)
    shown = {stem for stem, _ in rows}
    for stem, presets in rows:
        shown |= {f"{stem}:{preset}" for preset in re.findall(r"`([\w-]+)`", presets)}
    assert shown == set(known_models())


def test_the_readme_knows_what_every_model_can() -> None:
    from trilemma.tasks.abilities import TASKS, needs

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for stem, verbs in re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \|$", text, re.M):
        model_class, _ = find(stem)
        assert issubclass(model_class, TRAINED)
        can = {task for task in TASKS if task not in ("generate", "info") and needs(model_class, task)}
        assert set(re.findall(r"`(\w+)`", verbs)) == can, stem


def test_the_readme_shows_options_that_exist() -> None:
    """Every `trilemma VERB` line of the README parses: its verb and its options are the command line's."""
    import typer

    from trilemma.cli import app

    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in PAGES)
    lines = re.findall(r"^ *trilemma (\w+) (.*?)(?: +#.*)?$", text, re.M)
    assert len(lines) > 10
    for verb, rest in lines:
        known = {option for parameter in verbs[verb].params for option in parameter.opts}
        for option in re.findall(r"(?<!\S)--?[a-z][\w-]*", rest):
            assert option in known, f"trilemma {verb} has no {option}"


def test_choosing_is_what_the_rules_say() -> None:
    """docs/choosing.md is written by `python -m trilemma.report.choosing`; do it again when this fails."""
    from trilemma.report.choosing import page

    text = page()
    assert (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8") == text


def test_presets_and_settings_are_those_of_the_code() -> None:
    """docs/presets.md is written by `python -m trilemma.report.presets`; do it again when this fails."""
    from trilemma.report.presets import comments, page, written

    text = page()
    assert (ROOT / "docs" / "presets.md").read_text(encoding="utf-8") == text
    for name in known_models():
        model_class, preset = find(name)
        assert model_class.about.keys() == model_class.presets.keys(), (
            f"{name}: a sentence for each preset, and no more"
        )
        assert not preset or f"| `{name}` | {model_class.about[preset]} |" in text
        assert all(field in comments(model_class.Config) for field in vars(model_class.Config()))
    assert "| `prior_draws` | `2` | impressions for a caption" in text and "`diffusion:unclip` is another name" in text
    assert [written(value) for value in ((1, 0.5), (), (3,), None, True, "", 1e-3)] == [
        "(1,0.5)", "()", "(3,)", "none", "true", "''", "0.001",
    ]  # fmt: skip


def test_the_rules_are_stated_with_the_numbers_that_they_use() -> None:
    from trilemma.report import advise, summary

    text = " ".join((advise.__doc__ or "").split())
    assert f"more than {advise.FASTER} times" in text and f"within a factor of {advise.FASTER} " in text
    assert summary.COLLAPSED == 0.5 and "below half of the data's" in text
    assert f"both below {summary.LOST}" in text
    assert summary.ENOUGH_SEEDS == 3 and "three or more common seeds" in text


def test_every_need_and_limit_is_in_choosing() -> None:
    from trilemma.report.needs import LIMITS, TASKS, check_needs

    text = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    assert {name for name in TASKS if f"`{name}`" in text} == set(TASKS)
    assert {name for name in LIMITS if f"`{name}<...`" in text} == set(LIMITS)
    for needs in re.findall(r"--need '([^']+)'", text):
        assert check_needs(needs)
