"""docs/choosing.md, the page for people with data and no theory, from the rules and limits that `advise` goes by.

    python -m trilemma.report.choosing > docs/choosing.md

Every answer that the page quotes is what `advise` says about made-up figures; which model can do what comes from the
class headers, thresholds from where they are applied, the rules themselves from advise.py.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from trilemma.models.contract import CAPABILITIES, Samples, find, model_files
from trilemma.report import advise as rules
from trilemma.report.advise import FASTER, FEW_TEST_EXAMPLES, advise, listed
from trilemma.report.compare import PREFERENCES
from trilemma.report.needs import LIMITS, PROMISES, TASKS, UNITS, WORK, meets
from trilemma.report.summary import COLLAPSED, ENOUGH_SEEDS, LOST, number

# A family without a line here is told by the first sentence of its file.
FAMILIES = {
    "autoencoder": "Squeezes each example into a few numbers and rebuilds it from them; new numbers give new examples.",
    "vae": "The same, but the numbers are kept to a known distribution from which new ones are drawn.",
    "gan": "A forger makes examples, a critic learns to tell them from real ones, and both get better.",
    "diffusion": "Learns to take noise off an example, and makes new ones by doing so step by step from noise alone.",
    "masked": "Codes each example as a few whole numbers, learns to fill in hidden ones, and begins with all hidden.",
}
TRANSLATORS = {
    "bridge": "Of pairs: learns the way from noise to the partner, seeing the source, and walks it in a few steps.",
    "pix2pix": "Of pairs: makes the partner at once, while a critic looks at every patch of source and partner.",
    "cut": "Of two sets without pairs: makes one look like the other and keeps what is where, patch by patch.",
    "cyclegan": "Of two sets without pairs: learns both ways at once; there and back must lead to the start.",
}
WHEN = {
    None: "you want good samples and do not wait longer for them than you must",
    "quality": "each sample has to look right, and time does not count",
    "diversity": "the samples have to show everything that the data show: rare kinds too, as for training other models",
    "speed": "you need very many samples, or need them at once",
}


CLOSE = 3.1  # a distance that cannot be told from the best one's


# --- made-up figures, for the answers that are quoted ----------------------------------------------------------------


def _row(name: str, frechet: float, rate: float, *, variety: float = 0.6, **more: Any) -> dict[str, Any]:
    """A row as compare writes it."""
    width, family = more.pop("width", 0.05), name.partition(":")[0]
    figures = {"frechet": frechet, "recall": variety, "coverage": variety, "diversity": more.pop("diversity", 1.0)}
    figures |= {key: more.pop(key) for key in ("frechet@random",) if key in more}
    kind = more.get("kind", "model")
    return {
        "name": name, "family": family, "kind": kind, "seed": more.pop("seed", 0), "status": "ok",
        "run": f"runs/{name}-s0" if kind == "model" else None,
        "can": [one.__name__ for one in CAPABILITIES if kind == "model" and issubclass(find(name)[0], one)],
        "metrics": {
            key: {"value": value, "low": value * (1 - width), "high": value * (1 + width),
                  "better": "lower" if "frechet" in key else "higher"}
            for key, value in figures.items()
        },
        "verdicts": {"memorisation": more.pop("copies", "none")},
        "speed": {"samples_per_second": rate, "examples": 200_000}, **more,
    }  # fmt: skip


def _table(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Four models whose figures are clearly apart; `changes` are laid over the arguments of a row."""
    usual: dict[str, dict[str, Any]] = {
        "autoencoder": {"frechet": 9.0, "rate": 45_000.0, "variety": 0.5},
        "vae": {"frechet": 8.0, "rate": 50_000.0, "variety": 0.6},
        "gan": {"frechet": 4.0, "rate": 20_000.0, "variety": 0.65},
        "diffusion": {"frechet": 3.0, "rate": 30.0, "variety": 0.85},
    }
    return [_row(name, **{**usual[name], **changes.get(name, {})}) for name in usual]


def _asked(rows: list[dict[str, Any]], **how: Any) -> dict[str, Any]:
    counts = {"train": 4_000, "choose": 500, "test": 500}
    data = {"kind": "image", "counts": counts, "shape": [3, 32, 32], "labels": ["cat", "dog"]}
    results = {"rows": rows, "command": "trilemma compare photos/", "data": data}
    return advise(results, folder="report/photos", **how)


def _caveat(word: str, rows: list[dict[str, Any]], **results: Any) -> str:
    """What `advise` warns of about these rows, the caution that holds this word."""
    said = advise({"rows": rows, **results})["why"]["caveats"]
    return next(caveat for caveat in said if word in caveat)


# --- the parts of the page -------------------------------------------------------------------------------------------


def _families() -> list[str]:
    lines = ["| `--model` | how it works | variants |", "|---|---|---|"]
    for stem in sorted(model_files(), key=lambda stem: [*FAMILIES, stem].index(stem)):
        if issubclass(model_class := find(stem)[0], Samples):
            words = (FAMILIES | TRANSLATORS).get(stem) or (sys.modules[model_class.__module__].__doc__ or "").partition(
                "\n"
            )[0]
            variants = " ".join(f"`{stem}:{preset}`" for preset in model_class.presets) or "–"
            lines.append(f"| `{stem}` | {words} | {variants} |")
    return lines


def _preferences() -> list[str]:
    lines = [f"| | ask for it when | above, with gan at {CLOSE:g} |", "|---|---|---|"]
    for prefer in (None, *PREFERENCES):
        name = f"`--prefer {prefer}`" if prefer else "nothing"
        winner = _asked(_table(gan={"frechet": CLOSE}), prefer=prefer)["winner"]
        lines.append(f"| {name} | {WHEN[prefer]} | {winner} |")
    return lines


def _tasks() -> list[str]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, capabilities in TASKS.items():
        groups.setdefault(capabilities, []).append(name)
    lines = ["| `--need` | the model must | which can |", "|---|---|---|"]
    for capabilities, names in groups.items():
        which = []
        for stem in model_files():
            known = [one.__name__ for one in CAPABILITIES if issubclass(find(stem)[0], one)]
            if meets(known, ("Samples", *capabilities)) and "alone" in find(stem)[0].sets:
                which.append(f"`{stem}`")
        words = " or ".join(f"`{name}`" for name in names)
        lines.append(f"| {words} | {WORK[names[0]]} | {' '.join(which)} |")
    lines += [f"| `{name}` | {words} | {who} |" for name, (words, who) in PROMISES.items()]
    return lines


def _limits() -> list[str]:
    lines = ["| `--need` | limits |", "|---|---|"]
    lines += [
        f"| `{name}<...` or `{name}>...` | {f'{form} {words}'.strip()} |" for name, (_, form, words) in LIMITS.items()
    ]
    units = ", ".join(f"`{unit}`" for unit in UNITS if unit)
    return [*lines, "", f"Amounts may carry a unit ({units}): `--need 'encode,latency<50ms,size<10MB'`."]


def _cautions() -> list[tuple[str, str, str]]:
    """(what the report says, what it means, what to do)."""
    seeds = [one for place in range(ENOUGH_SEEDS) for one in _table(**{n: {"seed": place} for n in FAMILIES})]
    close = _asked(_table(gan={"frechet": CLOSE}))["sentences"][0]
    gaussian = _row("PCA-Gaussian", 2.0, 0.0, kind="baseline", seed=None)
    judged = {"gan": 1.0, "diffusion": 3.0, "vae": 5.0, "autoencoder": 6.0}
    disagree = _table(**{name: {"frechet@random": value} for name, value in judged.items()})
    left = _asked(_table(gan={"copies": "copies"}, vae={"diversity": 0.3}, autoencoder={"variety": 0.05}))["why"]
    out = left["left_out"]
    before = {"frechet": {"value": 6.0, "low": 5.9, "high": 6.1, "better": "lower"}}
    half = [{"share": 0.5, "reached": 0.5, "seconds": 30.0, "metrics": before}]
    again = f"run it again with `--seeds {ENOUGH_SEEDS}`"
    return [
        (
            close[close.index("no difference") :].partition(";")[0],
            "Their figures are too close for what was measured: the order might be another one tomorrow. Then another "
            f"thing decides: without a preference speed, if it is more than {FASTER} times as high.",
            f"Take the one that suits you, or {again}: differences are then judged by how they repeat.",
        ),
        (
            _caveat("only once", _table()),
            "Training has luck in it. One training of each cannot show how much.",
            f"{again[0].upper()}{again[1:]}; the budget is shared by all trainings, so give more of it.",
        ),
        (
            _caveat("test examples", seeds, data={"counts": {"test": FEW_TEST_EXAMPLES - 80}}),
            f"With fewer than {FEW_TEST_EXAMPLES} examples put aside for measuring, every figure is rough: look at the "
            "intervals.",
            "Add data if you can; otherwise trust only large differences, and your eyes (pictures have a quiz).",
        ),
        (
            _caveat("baseline", [*_table(), gaussian]),
            "A simple recipe without any learning comes as near to your data as the models do, or nearer.",
            "Give more time: `--budget 4h`. If that does not help, the data may be too few, or too simple to need one.",
        ),
        (
            _caveat("train longer: the last half", [*_table()[:-1], {**_table()[-1], "budgets": half}]),
            "With `--curve` the report knows what half of the budget would have given: much less.",
            "Give more time, and look at the curve again: it says when that stops paying.",
        ),
        (
            _caveat("judges disagree", disagree),
            "Two ways of looking at samples put different models first.",
            "Look at the samples yourself before you decide; reports on pictures have a quiz.",
        ),
        (
            out["gan"],
            "It shows you your own training examples again: no new ones, and perhaps private ones.",
            "Do not use or publish these samples. More data help, or a smaller `--size` of `trilemma train`.",
        ),
        (
            out["vae"],
            f"Its samples differ from each other less than {COLLAPSED:g} times as much as your data do.",
            "Use another model, or train it with another `--seed` or a variant of it.",
        ),
        (
            out["autoencoder"],
            f"It reaches less than {LOST:.0%} of your data's variety, and what it makes lies elsewhere.",
            "Train longer; if it stays so, use another model.",
        ),
        (
            _caveat("cannot be told", [one for one in _table(diffusion={"copies": "cannot tell"})]),
            "There are too few examples to compare with.",
            "Look at the pictures under “Copies?” in the report.",
        ),
        (
            _asked(_table(), need="encode,denoise,score")["sentences"][0],
            "No model is left after what you needed: none can do all of it, or all trainings failed. The next sentence "
            "of the report says why of each.",
            "Ask for less, or use two models: each is kept, ready for work, in the report's `runs` folder.",
        ),
    ]


def _rules() -> list[str]:
    """The rules as advise.py states them, as a Markdown list."""
    text = (rules.__doc__ or "").partition("The rules, in this order:")[2].strip()
    names = "|".join(PREFERENCES)
    return re.sub(rf"^ +({names}):", r"   - `--prefer \1`:", text, flags=re.M).splitlines()


def page() -> str:
    """The whole page as Markdown."""
    example = _asked(_table())
    figures = ["| made-up figures | Fréchet distance | variety shown | samples a second |", "|---|---|---|---|"]
    for row in _table():
        distance, recall = (row["metrics"][name]["value"] for name in ("frechet", "recall"))
        rate = number(row["speed"]["samples_per_second"])
        figures.append(f"| {row['name']} | {distance:g} | {recall:.0%} | {rate} |")
    careful = [f"- **“{said.rstrip('.')}”**  \n  {means} {then}" for said, means, then in _cautions()]
    return PAGE.format(
        names=listed([f"`{name}`" for name in FAMILIES]),
        seeds=ENOUGH_SEEDS,
        figures="\n".join(figures),
        sentences="\n>\n".join(f"> {sentence}" for sentence in example["sentences"]),
        families="\n".join(_families()),
        preferences="\n".join(_preferences()),
        tasks="\n".join(_tasks()),
        limits="\n".join(_limits()),
        careful="\n".join(careful),
        next=example["next_command"],
        rules="\n".join(_rules()),
    )


PAGE = """\
<!-- Written by: python -m trilemma.report.choosing > docs/choosing.md. Change that file, not this one. -->
# Which generative model for my data?

You have data, and want a program that makes more like them, or finds the odd one, or repairs damaged ones. There are
several families of such programs ({names}), and which one is best depends on your
data, on the time you give, and on what you want. So Trilemma does not guess: it trains them on your data for the same
time, measures what they make against examples that none of them has seen, and says which to use. You need no theory to
read the answer. This page says what it means.

## Ask

```bash
trilemma inspect photos/    # is everything read as you meant it?
trilemma compare photos/ --budget 1h --seeds {seeds}    # an hour in all; then open report/photos/index.html
```

The report begins with three sentences: which model and why; which comes second and what would change the answer; and
on what data that was decided, with what you should keep in mind. Had the measuring given these figures,

{figures}

it would say:

{sentences}

The Fréchet distance compares the crowd of samples with the crowd of real examples, as a small network that was trained
on your data sees them (of points and tables: as their values, and waves of these, lie). Smaller is better, 0 would be
the same crowd; real data held against other real data have a figure too, and no model can be expected to do better than
that. Behind each figure stands an interval, such as “3.00 (2.85 to 3.15)”: chance has a part in which examples and
which samples were looked at, and the mean over many such choices, of as many, very probably lies in it.

## The families

{families}

## Say what matters to you

{preferences}

You need not train again to ask again: `trilemma advise report/photos --prefer speed` answers from what was measured.

## Say what the model must be able to do

Not every family can do every job. What you need is never traded for quality: a model without it is left out.

{tasks}

{limits}

## When the answer is careful

A figure that cannot carry a conclusion does not get one. What the report may say, with figures like those above, and
what you can do:

{careful}

## And then

```bash
# what the report tells you to type next
{next}
# what this model is and can do
trilemma info report/photos/runs/diffusion-s0
# the chosen one, for longer
trilemma train photos/ --model diffusion --budget 8h --out runs/final
# samples from anywhere, measured the same way
trilemma measure photos/ made/
# what people took for real, in the quiz of a report on pictures
trilemma measure --quiz ann.json bob.json
```

The answer holds for your data and for the budget that you gave. With ten times the time, or ten times the data, another
model may win: ask again.

## The rules, exactly

What the program goes by, in its own words (`trilemma/report/advise.py`), so that you can check an answer by hand:

{rules}
"""


if __name__ == "__main__":
    print(page(), end="")
