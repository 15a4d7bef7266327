"""docs/support.md: which model does what with which kind of data; a test runs every cell.

python -m trilemma.report.support > docs/support.md
"""

from __future__ import annotations

import sys

from trilemma.modalities.door import kinds
from trilemma.models.contract import Samples, find, model_files
from trilemma.tasks.abilities import TASKS, TRANSLATORS, learns, needs, works


def families(sets: str = "alone") -> list[str]:
    """The models that make samples and learn from such data (`SETS`), with captions or without, by file."""
    able = [stem for stem in model_files() if issubclass(find(stem)[0], Samples) and not find(stem)[0].needs_captions]
    return [stem for stem in able if sets in find(stem)[0].sets]


def page() -> str:
    """The page as text."""
    tasks = [task for task in TASKS if task not in TRANSLATORS and any(needs(find(one)[0], task) for one in families())]
    lines = [
        "# What works with what",
        "",
        "Written by `python -m trilemma.report.support` from the models' class headers and the tasks' kinds of data.",
        "`works` stands where `tests/test_support.py` trains the model on such data and does the task; elsewhere it",
        "holds that there is an error which says why not. All of it is trained, compared and measured alike.",
    ]
    for kind in kinds():
        lines += [
            "",
            f"## {kind}",
            "",
            f"| | {' | '.join(f'`{task}`' for task in tasks)} |",
            "|---" * (len(tasks) + 1) + "|",
        ]
        for stem in (stem for stem in families() if learns(find(stem)[0], kind)):
            cells = ["works" if works(find(stem)[0], kind, task) else "" for task in tasks]
            lines.append(f"| `{stem}` | {' | '.join(cells)} |")
    lines += ["", "## Sources and targets (images)", "", "| | pairs | two sets |", "|---|---|---|"]
    for stem in dict.fromkeys([*families("paired"), *families("unpaired")]):
        cells = ["`translate`" if stem in families(sets) else "" for sets in ("paired", "unpaired")]
        lines.append(f"| `{stem}` | {' | '.join(cells)} |")
    lines += ["", "## Pictures with captions", "", "Models that learn nothing without.", "", "| | |", "|---|---|"]
    for stem in (stem for stem in model_files() if find(stem)[0].needs_captions):
        cells = [f"`{task}`" for task in TASKS if task != "info" and works(find(stem)[0], "image", task)]
        lines.append(f"| `{stem}` | {' '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
