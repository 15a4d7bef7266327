"""Verbs that hand a run on, and say what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trilemma.cli_tasks.options import Debug, RunArgument, show


def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="New or empty folder.")] = Path("exported"),
    to: Annotated[str, typer.Option(help="onnx, or diffusers: a pipeline's folder.")] = "onnx",
    debug: Debug = False,
) -> None:
    """Write RUN's networks as files that need no PyTorch (ONNX), checked and explained; or RUN for diffusers."""
    from trilemma.tasks.verbs import export as make

    show(make(run, out=out, to=to))


def info(run: RunArgument, debug: Debug = False) -> None:
    """Say what RUN is and what it can do."""
    from trilemma.tasks.verbs import info as tell

    print(tell(run))


def push(
    run: RunArgument,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where to, on the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make it private, where it is made now.")] = False,
    licence: Annotated[
        str, typer.Option("--license", metavar="NAME", help="Of the weights, as the Hub calls it: apache-2.0, mit, ...")
    ] = "other",
    message: Annotated[str | None, typer.Option(help="Of the commit.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the card; send nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Publish RUN with its card: what makes it usable, and no examples. HF_ENDPOINT names another server."""
    from trilemma.tasks.hub import push as send

    print(send(run, repository, private=private, licence=licence, message=message, dry_run=dry_run))


def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="A run on the Hub.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the run.")],
    debug: Debug = False,
) -> None:
    """Get a published run, whole and tried, or not at all."""
    from trilemma.tasks.hub import pull as get

    print(get(repository, out=out).folder)
