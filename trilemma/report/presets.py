"""docs/presets.md: what every model and preset is, and what can be set; all of it is read from the code.

python -m trilemma.report.presets > docs/presets.md
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import sys
import tokenize
import typing
from typing import Any

from trilemma.config import Optimizer, Training, Tuning
from trilemma.modalities.contract import OWN, Opening
from trilemma.models.contract import ALIASES, TRAINED, Model, find, model_files
from trilemma.networks.layers import Network

INTRODUCTION = """# Models, presets, settings

Written by `python -m trilemma.report.presets` from the models' files. `--model gan:hinge` takes a preset, whose
settings are laid over those that follow from data, `--size` and budget; `--set latent=128` (or `model.latent=128`) is
laid over both, and so is that of a part: `--set network.width=96 --set optimizer.rate=5e-4`. Of two stages
`--set autoencoder.KEY=VALUE` is for the first one. Values below are those that a file begins with: size and data
change many of them, and a run's `config.json` has those that it took.
"""
PARTS = {
    "network": (Network, "What most of a model is made of; where it has a critic, that is another: `critic.KEY`."),
    "optimizer": (Optimizer, "How weights move."),
    "training": (Training, "The loop, whatever the model. `none`: by what machine and budget allow."),
    "data": (Opening, "How data are read; beside these, `data.columns.NAME` says what a column is."),
    "": (Tuning, "Of `train --from RUN`, without a prefix: what learns, while the run's own weights stay."),
}
ELSEWHERE = {"training.examples", "training.corrections"}  # what the budget says, and what the loop writes down


def comments(kind: type) -> dict[str, str]:
    """What stands behind each field of a dataclass in its file."""
    source = inspect.getsource(kind)
    said = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for one in body.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            lines = range(one.lineno, (one.end_lineno or one.lineno) + 1)
            found[one.target.id] = " ".join(said[line] for line in lines if line in said)
    return found


def written(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, tuple):
        return f"({','.join(map(written, value))}{',' if len(value) == 1 else ''})"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"


def _settings(kind: type, prefix: str = "") -> list[str]:
    """The rows of a dataclass's settings; not those that are parts with settings of their own."""
    config, said, hints = kind(), comments(kind), typing.get_type_hints(kind)
    lines = ["| `--set` | value | |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value) or name in ELSEWHERE or (kind is Opening and name not in OWN):
            continue
        words = said[field.name].rstrip(",").replace("|", "\\|")
        if typing.get_origin(hints[field.name]) is typing.Literal:
            others = [written(one) for one in typing.get_args(hints[field.name]) if one != value]
            words = "; ".join(filter(None, [f"or {', '.join(f'`{one}`' for one in others)}", words]))
        # Of the data nothing means that it is found out; `none` is a way of its own.
        shown = "" if kind is Opening and value is None else f"`{written(value)}`"
        lines.append(f"| `{name}` | {shown} | {words} |")
    return lines


def _presets(stem: str, model: type[Model]) -> list[str]:
    lines = ["| `--model` | what it is | settings |", "|---|---|---|"]
    for preset, settings in model.presets.items():
        changes = ", ".join(f"`{key}={written(value)}`" for key, value in settings.items()) or "as without it"
        lines.append(f"| `{stem}:{preset}` | {model.about.get(preset, '')} | {changes} |")
    return lines


def page() -> str:
    """The page as text."""
    lines = [INTRODUCTION]
    for stem in model_files():
        model, _ = find(stem)
        if not issubclass(model, TRAINED):
            continue
        words = (sys.modules[model.__module__].__doc__ or "").split("\n\n")[0]
        lines += [f"## {stem}", "", words.replace("\n", " ").strip(), ""]
        lines += [f"`{name}` is another name for it.\n" for name, own in ALIASES.items() if own == stem]
        lines += [*_presets(stem, model), ""] if model.presets else []
        lines += [*_settings(model.Config), ""]
    for name, (kind, words) in PARTS.items():
        prefix = f"{name}." if name else ""
        lines += [f"## {prefix}KEY" if name else "## --from", "", words, "", *_settings(kind, prefix), ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
