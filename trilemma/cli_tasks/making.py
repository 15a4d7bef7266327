"""Verbs that make examples: out of nothing, out of one another, as somebody steers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trilemma.cli_tasks.options import Debug, RunArgument, Seed, Steps, show


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


def interpolate(
    run: RunArgument,
    first: Annotated[str, typer.Argument(help="File, or the number of a sample.")] = "0",
    second: Annotated[str, typer.Argument(help="File, or the number of a sample.")] = "1",
    steps: Annotated[int, typer.Option(help="Examples on the way, ends included.")] = 9,
    space: Annotated[
        str, typer.Option(help="z: codes. w: the styles that they become (StyleGAN); files are projected.")
    ] = "z",
    seed: Seed = 0,
    sampler_steps: Annotated[
        int | None, typer.Option(help="Of diffusion, from noise to each example, and from files to their noise.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder, .npy or .png; of images also a film, .gif.")] = Path(
        "interpolated.png"
    ),
    debug: Debug = False,
) -> None:
    """Walk between two examples through the codes of RUN, of diffusion through noise."""
    from trilemma.tasks.verbs import interpolate as make

    show(make(run, first, second, steps=steps, seed=seed, space=space, sampler_steps=sampler_steps, out=out))


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
    sampler: Annotated[str | None, typer.Option(help="As of `generate` (diffusion).")] = None,
    eta: Annotated[
        float | None, typer.Option(help="How much draws differ (bridge; 0: not at all, 1: as targets); noise of ddim.")
    ] = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Turn pictures of one kind into the other: what RUN has learned from two folders."""
    from trilemma.tasks.verbs import translate as make

    show(make(run, source, n=n, to=to, steps=steps, sampler=sampler, eta=eta, seed=seed, out=out))


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
    names: Annotated[str | None, typer.Option(help="Which, as pca-1,sefa-2; default: labels, some of each.")] = None,
    steps: Annotated[int, typer.Option(help="Examples of each.")] = 7,
    reach: Annotated[float, typer.Option(help="How far to both sides, in deviations.")] = 3.0,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help=".png or .npy.")] = Path("directions.png"),
    debug: Debug = False,
) -> None:
    """Show directions of styles, a row each, and name all that RUN has."""
    from trilemma.tasks.verbs import directions as make

    show(make(run, names, steps=steps, reach=reach, seed=seed, out=out))
