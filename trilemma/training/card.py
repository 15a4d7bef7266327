"""The model card: what a run is, on what it was trained, what was measured, where its limits are; in Hub format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import trilemma
from trilemma.models.contract import CAPABILITIES, Matches, Translates, find

FEW = 2000  # training examples below which a card warns of them
# What a table of measured figures shows, where it was measured.
FIGURES = {
    "frechet": "Frechet distance (lower is better)",
    "kernel": "Kernel distance (lower is better)",
    "precision": "Precision",
    "recall": "Recall",
    "coverage": "Coverage",
    "control": "Of the class asked for",
    "perceptual": "Perceptual distance to the target (lower is better)",
    "shapes": "Single columns",
    "trends": "Pairs of columns",
    "usefulness": "Usefulness for prediction",
    "reconstruction": "Error of reconstruction (lower is better)",
}
COPIES = {
    "copies": "**Copies were found**: samples lie nearer to training examples than unseen data do. Publish none of "
    "private data.",
    "none": "Copies were looked for, in features and values, and none were found; that is no proof of privacy.",
    "cannot tell": "Copies were looked for; the test data were too few, or too near to the training data, to tell.",
}


def card(
    config: dict[str, Any], choices: dict[str, Any], *, measured: dict[str, Any] | None = None,
    place: str | None = None, licence: str = "other", picture: str | None = None,
    tasks: Sequence[str] = (),
) -> str:  # fmt: skip
    """The card as Markdown behind YAML front matter.

    measured: {"row", "floor", "protocol", "seeds"} of the comparison that the run stands in. place: OWNER/NAME on the
    Hub. licence: of the weights, by its name on the Hub. picture: file of samples beside the card.
    tasks: that the run can do, where they are known better than from its model's class.
    """
    data, training, name = config["data"], config["training"], config["model"]
    model_class, _ = find(name)
    able = [kind for kind in CAPABILITIES if issubclass(model_class, kind)]
    able = [kind for kind in able if kind is not Translates or _translates(config)]
    can = ", ".join(tasks or [kind.__name__.lower() for kind in able])
    options = choices.get("options") or {}
    chosen = ", ".join(f"{key} {value}" for key, value in options.items() if value is not None) or "defaults"
    average, count = choices.get("average"), data["counts"]["train"]
    seconds = (choices.get("seconds") or {}).get("total")
    took = f" in {seconds:.0f} s" if seconds else ""
    trouble = ", ".join(f"{kind} ({times}x)" for kind, times in (choices.get("events") or {}).items()) or "none"
    labels = f", {len(data['label_names'])} labels" if data["label_names"] else ""
    averaged = f"power average of relative deviation {average}" if average else "as trained"
    folder = f"runs/{place.rpartition('/')[2]}" if place else "RUN"
    lines = [
        *_front(config, licence),
        f"# {name} on {data['name']}",
        "",
        *([f"![samples]({picture})", ""] if picture else []),
        "## Use",
        "",
        "```bash",
        *([f"trilemma pull {place} --out {folder}  # Trilemma {trilemma.__version__} or newer, with its extra 'hub'"]
          if place else []),
        f"trilemma {_first_use(config, folder)}",
        f"trilemma info {folder}  # what else it can do",
        "```",
        "",
        f"It can: {can}. Sampling, chosen on held-out data: {chosen}.",
        "",
        "## Data and training",
        "",
        f"- data: {data['name']!r}, {count:,} training examples of {data['kind']} data, shape "
        f"{'x'.join(map(str, _shape(config)))}{labels}; contents {data['hash'][:16]}; choices and "
        "figures are from other examples of these data",
        f"- Trilemma {config['versions'].get('trilemma', trilemma.__version__)}, size {config['size']}, seed "
        f"{config['seed']}, {training['examples']:,} examples seen{took}, {training['dtype']}",
        *_tuned(config),
        f"- weights: {averaged}; trouble in training: {trouble}",
        "",
        "## Measured",
        "",
        *_figures(measured),
        "",
        "## Limits",
        "",
        *_limits(config, measured),
        "",
        "## Licence",
        "",
        _licence(licence),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _tuned(config: dict[str, Any]) -> list[str]:
    """What alone was learned from these data, where the rest is that of another run."""
    tuning = config.get("tuning") or {}
    rank, word = tuning.get("lora"), tuning.get("word")
    learned = [f"additions of rank {rank}"] * bool(rank) + [f"the word {word!r}"] * bool(word)
    return [f"- of these data only {' and '.join(learned)}; all else is of a run before"] if learned else []


def _front(config: dict[str, Any], licence: str) -> list[str]:
    """YAML, each value written as JSON, which is YAML too."""
    family = config["model"].partition(":")[0].rpartition("/")[2].removesuffix(".py")
    kind = config["data"]["kind"]
    lines = ["---", "library_name: trilemma", f"license: {json.dumps(licence)}"]
    if kind == "image":
        lines.append(f"pipeline_tag: {_tag(config)}")
    return [*lines, f"tags: {json.dumps(['trilemma', family, kind])}", "---", ""]


def _translates(config: dict[str, Any]) -> bool:
    known = {"source", "other"} & set(config["spaces"])
    return bool(known) and issubclass(find(config["model"])[0], Translates)


def _matches(config: dict[str, Any]) -> bool:
    return issubclass(find(config["model"])[0], Matches)


def _reads(config: dict[str, Any]) -> bool:
    return any(space["kind"] == "words" for space in config["spaces"].values())


def _tag(config: dict[str, Any]) -> str:
    """What the Hub calls what it does with pictures."""
    if _translates(config):
        return "image-to-image"
    if _matches(config):
        return "zero-shot-image-classification"
    return "text-to-image" if _reads(config) else "unconditional-image-generation"


def _first_use(config: dict[str, Any], folder: str) -> str:
    """A command that such a run takes."""
    if _translates(config):
        return f"translate {folder} IN --out translated"
    if _matches(config):
        return f'search {folder} "WORDS" PICTURES/'
    return f"generate {folder}{' --prompt WORDS' if _reads(config) else ''} -n 64 --seed 0"


def _shape(config: dict[str, Any]) -> list[int]:
    space = config["spaces"]["x"]
    space = space.get("base", space)
    return space.get("shape") or ["a table"]


def _figures(measured: dict[str, Any] | None) -> list[str]:
    if measured is None:
        return ["Nothing: this run stands in no comparison (`trilemma compare DATA` measures)."]
    row, protocol = measured["row"], measured["protocol"]
    floor = (measured.get("floor") or {}).get("metrics", {})
    lines = ["| | this model (95 % interval) | real data |", "|---|---|---|"]
    for key, title in FIGURES.items():
        entry = row["metrics"].get(key)
        if entry and entry.get("value") is not None:
            lines.append(f"| {title} | {_spanned(entry)} | {_spanned(floor.get(key), short=True)} |")
    rate = row["speed"].get("samples_per_second")
    if rate:
        lines.append(f"| Samples per second, on the machine that measured | {_number(rate)} | |")
    others = measured.get("seeds", 1)
    spread = f"Its training was repeated under {others} seeds; this is one of them." if others > 1 else (
        "One training: another seed may do better or worse."
    )  # fmt: skip
    return [
        *lines,
        "",
        f"{protocol['sample_count']:,} samples against {protocol['reference_count']:,} examples of the "
        f"{protocol['split']} split, from which nothing was learned or chosen, in features of "
        f"{protocol['features']!r}: hold them against other models of the same comparison only. {spread}",
    ]


def _spanned(entry: dict[str, Any] | None, *, short: bool = False) -> str:
    if not entry or entry.get("value") is None:
        return ""
    low, high = entry.get("low"), entry.get("high")
    span = "" if short or low is None or high is None else f" ({_number(low)} to {_number(high)})"
    return f"{_number(entry['value'])}{span}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _limits(config: dict[str, Any], measured: dict[str, Any] | None) -> list[str]:
    count = config["data"]["counts"]["train"]
    verdict = None if measured is None else measured["row"]["verdicts"].get("memorisation")
    lines = [f"- It knows {config['data']['name']!r} and nothing else, with whatever is one-sided or missing there."]
    if count < FEW:
        lines.append(f"- {count:,} training examples are few: expect little variety beyond them.")
    unknown = "- Copies of training examples were not looked for: measure before you publish samples."
    return [*lines, f"- {COPIES[verdict]}" if verdict in COPIES else unknown]


def _licence(licence: str) -> str:
    if licence == "other":
        return "None was chosen: the weights are under whatever terms the training data allow."
    return f"Weights: {licence}, as far as the terms of the training data allow."
