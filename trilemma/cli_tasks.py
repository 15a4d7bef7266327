"""The verbs of trained runs on the command line; `cli.py` puts them beside its own. No torch before it is needed."""

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


def generate(
    run: RunArgument,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 64,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of files, .npy array, .png grid, or a table; default: samples.png or .csv."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Name or number of a label; default: as in the training data.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What to make, in words (models that learned captions).")] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A prompt a line; -n samples of each, in this order.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What not to make: guidance leads away from it.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Strength of guidance (where captions, labels or clusters are).")
    ] = None,
    steps: Steps = None,
    sampler: Annotated[
        str | None, typer.Option(help="ddpm, ddim, euler, heun, dpm++2m, dpm++3m, adams-bashforth, ipndm.")
    ] = None,
    eta: Annotated[
        float | None, typer.Option(help="Noise of ddim (1: as ddpm), of masked on which tokens stay.")
    ] = None,
    interval: Annotated[
        str | None, typer.Option(help="LOW,HIGH: noise levels between which guidance acts, data of variance 1.")
    ] = None,
    prior: Annotated[str | None, typer.Option(help="normal or mixture (VAE).")] = None,
    truncation: Annotated[
        float | None, typer.Option(metavar="PSI", help="Share of the way from the mean style, as 0.7 (StyleGAN).")
    ] = None,
    noise_seed: Annotated[
        int | None, typer.Option(help="Other noise in the layers, the same styles (StyleGAN).")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="What all are, as 'sex = Female and age > 60': tables, attributes."),
    ] = None,
    balance: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of tables: a category whose values come equally often.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="Of series: steps of each, also more than a window (diffusion, VAE).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Make samples with a trained (or unfinished) RUN."""
    from trilemma.tasks.verbs import generate as make

    done = make(
        run, n, seed=seed, out=out, label=label, guidance=guidance, steps=steps, sampler=sampler, eta=eta,
        interval=interval, prior=prior, truncation=truncation, noise_seed=noise_seed, where=where, balance=balance,
        length=length, prompt=prompt, prompts=prompts, negative=negative,
    )  # fmt: skip
    show(done)


def impute(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="A table or a series with gaps.")],
    draws: Annotated[int, typer.Option(help="How often to draw; of several, each is written beside their middle.")] = 5,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Table to write: .csv, .tsv, .jsonl, .parquet, .xlsx.")] = Path(
        "filled.csv"
    ),
    debug: Debug = False,
) -> None:
    """Fill in the gaps of a table or a series."""
    from trilemma.tasks.verbs import impute as make

    show(make(run, source, draws=draws, seed=seed, out=out))


def forecast(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="A series up to now.")],
    horizon: Annotated[int, typer.Option(help="Steps to look ahead.")] = 24,
    draws: Annotated[int, typer.Option(help="Futures to draw.")] = 200,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="File of all draws; quantiles and a picture beside it.")] = Path(
        "forecast.csv"
    ),
    debug: Debug = False,
) -> None:
    """Draw futures of the series DATA."""
    from trilemma.tasks.verbs import forecast as make

    show(make(run, source, horizon=horizon, draws=draws, seed=seed, out=out))


def stress(
    run: RunArgument,
    where: Annotated[
        str,
        typer.Option(help="Conditions on the path, as 'AAPL return < -5%' or 'min(count) < 10 and max(count) > 50'."),
    ],
    n: Annotated[int, typer.Option("-n", help="How many paths.")] = 1000,
    horizon: Annotated[int | None, typer.Option(help="Steps of a path; default: those of a window.")] = None,
    label: Annotated[str | None, typer.Option(help="Of several series: which one.")] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Table to write, or .npy, .png.")] = Path("scenarios.csv"),
    debug: Debug = False,
) -> None:
    """Make paths of a series that meet conditions: scenarios."""
    from trilemma.tasks.verbs import stress as make

    show(make(run, where=where, n=n, horizon=horizon, label=label, seed=seed, out=out))


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
    steps: Annotated[int | None, typer.Option(help="Sampler steps (diffusion); fewer are faster.")] = None,
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


def reconstruct(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png.")] = Path("reconstructed.png"),
    debug: Debug = False,
) -> None:
    """Encode and decode DATA."""
    from trilemma.tasks.verbs import reconstruct as make

    show(make(run, source, out=out))


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


def interpolate(
    run: RunArgument,
    first: Annotated[str, typer.Argument(help="File, or the number of a sample.")] = "0",
    second: Annotated[str, typer.Argument(help="File, or the number of a sample.")] = "1",
    steps: Annotated[int, typer.Option(help="Examples on the way, ends included.")] = 9,
    space: Annotated[str, typer.Option(help="z: codes. w: the styles that they become (StyleGAN).")] = "z",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png; of images also a film, .gif.")] = Path(
        "interpolated.png"
    ),
    debug: Debug = False,
) -> None:
    """Walk between two examples through the codes of RUN."""
    from trilemma.tasks.verbs import interpolate as make

    show(make(run, first, second, steps=steps, seed=seed, space=space, out=out))


def mix(
    run: RunArgument,
    seeds: Annotated[str, typer.Option(help="Seeds whose first samples are the rows, as 3,7.")] = "0,1,2,3",
    columns: Annotated[str | None, typer.Option(help="Seeds of the columns; default: those of the rows.")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers whose styles are the column's, from coarse to fine; default: finer half.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Name or number of a label for all.")] = None,
    truncation: Annotated[float | None, typer.Option(metavar="PSI", help="Share of the way from the mean.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png.")] = Path("mixed.png"),
    debug: Debug = False,
) -> None:
    """Mix styles: each row's sample with each column's styles in some layers."""
    from trilemma.tasks.verbs import mix as make

    show(make(run, seeds=seeds, columns=columns, layers=layers, label=label, truncation=truncation, out=out))


def project(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    steps: Annotated[int, typer.Option(help="Steps of the search for styles.")] = 300,
    tune: Annotated[int, typer.Option(help="Then as many steps of the generator itself, in a copy.")] = 0,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png.")] = Path("projected.png"),
    debug: Debug = False,
) -> None:
    """Find the styles under which RUN makes DATA, and say how near it comes."""
    from trilemma.tasks.verbs import project as make

    show(make(run, source, steps=steps, tune=tune, seed=seed, out=out))


def edit(
    run: RunArgument,
    source: Annotated[str | None, typer.Argument(metavar="FILE", help="One example; default: a sample.")] = None,
    direction: Annotated[
        str | None,
        typer.Option(help="A label, brightness, contrast, pca-K or sefa-K; `directions` names all; default: pca-1."),
    ] = None,
    amount: Annotated[str | None, typer.Option(help="How far, in deviations; several as -2,0,2; default: 2.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What to turn FILE into, in words (models that learned captions).")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="With --prompt: what to lead away from.")] = None,
    where: Annotated[str | None, typer.Option(help="Attributes to turn FILE into, as 'smiling = yes'.")] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="With --prompt or --where: 0 leaves FILE as it is, 1 leaves nothing of it; default: 0.6."),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="With --prompt or --where: strength of guidance.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers that move, as 4-8; default: all.")] = None,
    seed: Seed = 0,
    number: Annotated[int | None, typer.Option(help="Which sample of the seed, without FILE; default: 0.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Of the search for the FILE's styles (default 300); with --prompt or --where of the whole way."
        ),
    ] = None,
    tune: Annotated[int | None, typer.Option(help="Then as many steps of the generator itself; default: 0.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png.")] = Path("edited.png"),
    debug: Debug = False,
) -> None:
    """Move one example along a direction of styles, or draw it anew as a prompt asks."""
    from trilemma.tasks.verbs import edit as make

    show(make(
        run, source, direction=direction, amount=amount, layers=layers, seed=seed, number=number, steps=steps,
        tune=tune, out=out, prompt=prompt, negative=negative, where=where, strength=strength, guidance=guidance,
    ))  # fmt: skip


def vary(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    n: Annotated[int, typer.Option("-n", help="How many others of each.")] = 4,
    strength: Annotated[
        float,
        typer.Option(
            help="0 leaves them as they are, 1 leaves nothing; to make them what is asked for takes 0.7 and more."
        ),
    ] = 0.6,
    prompt: Annotated[str | None, typer.Option(help="What to turn them into (models that learned captions).")] = None,
    negative: Annotated[str | None, typer.Option(help="With --prompt: what to lead away from.")] = None,
    where: Annotated[str | None, typer.Option(help="Attributes to turn them into, as 'smiling = yes'.")] = None,
    label: Annotated[str | None, typer.Option(help="Name or number of a label to turn them into.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Strength of guidance.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the whole way; a share of them is gone.")] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png.")] = Path("varied.png"),
    debug: Debug = False,
) -> None:
    """Make others out of given examples: noise takes part of each away, and RUN draws it anew."""
    from trilemma.tasks.verbs import vary as make

    show(make(
        run, source, n=n, strength=strength, prompt=prompt, negative=negative, where=where, label=label,
        guidance=guidance, steps=steps, seed=seed, out=out,
    ))  # fmt: skip


def directions(
    run: RunArgument,
    names: Annotated[str | None, typer.Option(help="Which, as pca-1,sefa-2; default: some of each.")] = None,
    steps: Annotated[int, typer.Option(help="Examples of each.")] = 7,
    reach: Annotated[float, typer.Option(help="How far to both sides, in deviations.")] = 3.0,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help=".png or .npy.")] = Path("directions.png"),
    debug: Debug = False,
) -> None:
    """Show directions of styles, a row each, and name all that RUN has."""
    from trilemma.tasks.verbs import directions as make

    show(make(run, names, steps=steps, reach=reach, seed=seed, out=out))


def traverse(
    run: RunArgument,
    dimensions: Annotated[int, typer.Option(help="How many code dimensions, the most used first.")] = 8,
    steps: Annotated[int, typer.Option(help="Values of each.")] = 9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help=".png or .npy.")] = Path("traversal.png"),
    debug: Debug = False,
) -> None:
    """Vary each code dimension alone."""
    from trilemma.tasks.verbs import traverse as make

    show(make(run, dimensions=dimensions, steps=steps, seed=seed, out=out))


def translate(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="IN", help="A picture or a folder of pictures, of any size.")],
    out: Annotated[Path, typer.Option("--out", help="Folder, or of one picture a .png file.")] = Path("translated"),
    n: Annotated[int, typer.Option("-n", help="Draws of each (models that draw: bridge, diffusion).")] = 1,
    to: Annotated[str | None, typer.Option(help="Name of that folder, or else b; a: the way back (cyclegan).")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampler steps (bridge, diffusion).")] = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Turn pictures of one kind into the other: what RUN has learned from two folders."""
    from trilemma.tasks.verbs import translate as make

    show(make(run, source, n=n, to=to, steps=steps, seed=seed, out=out))


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
    out: Annotated[Path, typer.Option("--out", help=".npy or .csv to write.")] = Path("codes.npy"),
    debug: Debug = False,
) -> None:
    """Write the codes of DATA."""
    from trilemma.tasks.verbs import embed as make

    show(make(run, source, out=out))


def score(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="DATA", help="File, folder or array file.")],
    out: Annotated[Path, typer.Option("--out", help=".npy or .csv to write.")] = Path("scores.csv"),
    debug: Debug = False,
) -> None:
    """Write the log-likelihood of DATA, nats per example (VAE: a lower bound)."""
    from trilemma.tasks.verbs import score as make

    show(make(run, source, out=out))


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


def show(paths: list[Path]) -> None:
    """Print what was written: a few files by name, many by their folder."""
    if len(paths) > 3:
        print(paths[0].parent)
    else:
        for path in paths:
            print(path)


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
