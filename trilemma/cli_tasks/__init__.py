"""The verbs of trained runs on the command line; `cli.py` puts them beside its own. No torch before it is needed."""

from __future__ import annotations

from trilemma.cli_tasks.making import directions, edit, generate, interpolate, mix, project, translate, traverse, vary
from trilemma.cli_tasks.reading import classify, denoise, embed, reconstruct, score, search
from trilemma.cli_tasks.rows import detect, forecast, impute, risk, stress
from trilemma.cli_tasks.sharing import export, info, pull, push

VERBS = (
    generate,
    impute,
    forecast,
    stress,
    risk,
    detect,
    reconstruct,
    denoise,
    interpolate,
    traverse,
    translate,
    mix,
    project,
    edit,
    vary,
    directions,
    search,
    classify,
    embed,
    score,
    export,
    info,
    push,
    pull,
)
