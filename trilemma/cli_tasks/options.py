"""Options that several verbs of trained runs have, and how these say what they wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `trilemma train --out` wrote.")]
Seed = Annotated[int, typer.Option(help="Every random choice follows from it.")]
Steps = Annotated[
    str | None,
    typer.Option(metavar="NUMBER|auto", help="Sampler steps (diffusion, masked); auto: the fewest that are as good."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def show(paths: list[Path], most: int = 3) -> None:
    """Print what was written: a few files by name, more than `most` by their folder."""
    if len(paths) > most:
        print(paths[0].parent)
    else:
        for path in paths:
            print(path)
