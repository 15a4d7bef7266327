"""Verbs that say what a run makes of given examples: codes, scores, words, without their noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trilemma.cli_tasks.options import Debug, RunArgument, show


def reconstruct(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    steps: Annotated[
        int | None, typer.Option(help="Of diffusion, to the noise and from it; more of them come nearer.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png.")] = Path("reconstructed.png"),
    debug: Debug = False,
) -> None:
    """Encode and decode DATA; diffusion goes to the noise that makes it, and back."""
    from trilemma.tasks.verbs import reconstruct as make

    show(make(run, source, steps=steps, out=out))


def denoise(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    sigma: Annotated[
        float | None, typer.Option(help="Deviation of the noise (data's deviation = 1); default: estimated.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png.")] = Path("denoised.png"),
    debug: Debug = False,
) -> None:
    """Remove noise from DATA."""
    from trilemma.tasks.verbs import denoise as make

    show(make(run, source, sigma=sigma, out=out))


def search(
    run: RunArgument,
    query: Annotated[str, typer.Argument(metavar="WORDS|PICTURE", help="Words, or a file of one picture.")],
    source: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="Pictures to search; default: those RUN was trained on.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many to show.")] = 8,
    out: Annotated[Path | None, typer.Option("--out", help="Also a sheet of the pictures, .png.")] = None,
    debug: Debug = False,
) -> None:
    """Find pictures by words, or the captions of RUN's data that go with a picture (clip)."""
    from trilemma.tasks.verbs import search as find

    for line in find(run, query, source, n=n, out=out):
        print(line)


def classify(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Any words; default: the labels or captions of RUN's data.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Table to write, .csv.")] = Path("classified.csv"),
    debug: Debug = False,
) -> None:
    """Say which of some words goes with each picture of DATA, without training for them (clip)."""
    from trilemma.tasks.verbs import classify as make

    show(make(run, source, labels=labels, out=out))


def embed(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    factors: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Of series: a table of dates and factors; written is how each code goes with them, and what it moves.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of --factors: every random choice follows from it; default 0.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help=".npy or .csv to write; default: codes.npy, with --factors factors.csv."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write the codes of DATA, or what they stand for."""
    from trilemma.tasks.verbs import embed as make

    show(make(run, source, factors=factors, seed=seed, out=out or Path("factors.csv" if factors else "codes.npy")))


def score(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    out: Annotated[Path, typer.Option("--out", help=".npy or .csv to write.")] = Path("scores.csv"),
    debug: Debug = False,
) -> None:
    """Write the log-likelihood of DATA, nats per example (VAE: a lower bound)."""
    from trilemma.tasks.verbs import score as make

    show(make(run, source, out=out))
