"""Verbs of tables and series, and what is strange in examples of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trilemma.cli_tasks.options import Debug, RunArgument, Seed, show

Steps = Annotated[int | None, typer.Option(help="Sampler steps (diffusion); fewer are faster.")]


def impute(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="A table or a series with gaps.")],
    draws: Annotated[int, typer.Option(help="How often to draw; of several, each is written beside their middle.")] = 5,
    steps: Steps = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Table to write: .csv, .tsv, .jsonl, .parquet, .xlsx.")] = Path(
        "filled.csv"
    ),
    debug: Debug = False,
) -> None:
    """Fill in the gaps of a table or a series."""
    from trilemma.tasks.verbs import impute as make

    show(make(run, source, draws=draws, steps=steps, seed=seed, out=out), most=draws + 1)


def forecast(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="A series up to now.")],
    horizon: Annotated[int, typer.Option(help="Steps to look ahead.")] = 24,
    draws: Annotated[int, typer.Option(help="Futures to draw.")] = 200,
    steps: Steps = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="File of all draws; quantiles and a picture beside it.")] = Path(
        "forecast.csv"
    ),
    debug: Debug = False,
) -> None:
    """Draw futures of the series DATA."""
    from trilemma.tasks.verbs import forecast as make

    show(make(run, source, horizon=horizon, draws=draws, steps=steps, seed=seed, out=out))


def stress(
    run: RunArgument,
    where: Annotated[
        str,
        typer.Option(
            help="Conditions on the path, as 'AAPL return < -5%' or 'min(count) < 10 and max(count) > 50'; of several "
            "series also on what never changes within one, as 'region = north and sales return < -5%'."
        ),
    ],
    n: Annotated[int, typer.Option("-n", help="How many paths.")] = 1000,
    horizon: Annotated[int | None, typer.Option(help="Steps of a path; default: those of a window.")] = None,
    label: Annotated[str | None, typer.Option(help="Of several series: which one.")] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="A=0.5,B=0.5", help="A portfolio, to say what it loses on these paths.")
    ] = None,
    level: Annotated[str, typer.Option(help="Of value at risk and expected shortfall.")] = "99%",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Table to write, or .npy, .png.")] = Path("scenarios.csv"),
    debug: Debug = False,
) -> None:
    """Make paths of a series that meet conditions: scenarios, and say how probable they are."""
    from trilemma.tasks.risk import level_of
    from trilemma.tasks.verbs import stress as make

    show(make(
        run, where=where, n=n, horizon=horizon, label=label, weights=weights, level=level_of(level), seed=seed, out=out,
    ))  # fmt: skip


def risk(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="A series of prices up to now.")],
    weights: Annotated[
        str | None, typer.Option(metavar="A=0.5,B=0.5", help="The portfolio; default: equal parts of all prices.")
    ] = None,
    level: Annotated[str, typer.Option(help="How probable it is to lose less.")] = "99%",
    horizon: Annotated[int, typer.Option(help="Steps to look ahead.")] = 1,
    draws: Annotated[int, typer.Option(help="Futures to draw at each moment.")] = 64,
    most: Annotated[
        int | None, typer.Option(help="Moments of the backtest, the last ones; default: all of the last 15 %.")
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="File of all forecasts; tests and a picture beside it.")] = Path(
        "risk.csv"
    ),
    debug: Debug = False,
) -> None:
    """Say what a portfolio of the series DATA may lose, and how such forecasts would have fared."""
    from trilemma.tasks.risk import level_of
    from trilemma.tasks.verbs import risk as make

    show(make(
        run, source, weights=weights, level=level_of(level), horizon=horizon, draws=draws, most=most, steps=steps,
        seed=seed, out=out,
    ))  # fmt: skip


def detect(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="Pictures, a table or a series to look at.")],
    false_alarms: Annotated[
        str, typer.Option("--false-alarms", help="Share of normal examples that may raise an alarm, as 1% or 0.01.")
    ] = "1%",
    normal: Annotated[
        str | None,
        typer.Option(help="What is normal and RUN has not learned from; default: what it kept aside."),
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="Of pictures: a folder to write them to, what is strange in red.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Table to write: .csv, .tsv, .jsonl, .parquet, .xlsx.")] = Path(
        "detected.csv"
    ),
    debug: Debug = False,
) -> None:
    """Find strange pictures, rows of a table or steps of a series, and say where, or which columns make them so."""
    from trilemma.tasks.conformal import share
    from trilemma.tasks.verbs import detect as make

    show(make(run, source, false_alarms=share(false_alarms), normal=normal, maps=maps, seed=seed, out=out))
