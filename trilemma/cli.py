"""The command line: each verb calls one function of the package; no logic here, and no torch before it is needed."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trilemma import collect_late
from trilemma.cli_tasks import VERBS
from trilemma.cli_tasks.options import Debug, Seed
from trilemma.errors import InputError

app = typer.Typer(
    name="trilemma",
    help="Which generative model for my data? Train, measure, compare and use autoencoders, GANs and diffusion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="Folder, archive, array file, or a named set such as digits.")
]
Data2Argument = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATA2]",
        show_default=False,
        help="Targets, where DATA holds their sources: pairs by equal file names, or two sets.",
    ),
]
Degradation = Annotated[
    str | None,
    typer.Option(
        "--from-degradation",
        metavar="WHAT",
        help="Make the sources from DATA: downscale 4, grey, blur 2, noise 20, darken 0.3, jpeg 10; or several.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="COLOURS",
        help="Of sources that are label maps: number of colours, #ff0000,#00ff00 ..., a file of them, or none.",
    ),
]
Kind = Annotated[str | None, typer.Option(help="Kind of data when it is not recognised: image, points, table, series.")]
Resolution = Annotated[str | None, typer.Option(help="Longer side in pixels, or HxW.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without unreadable files.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, e.g. model.beta=4. Repeatable."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE", help="Of tables: a rule between columns, as 'start <= end' or 'a + b = c'. Repeatable."
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NETWORK",
        help="One more judge of pictures: inception, dinov2, clip, or a TorchScript or ONNX FILE[:SIZE]. Repeatable.",
    ),
]


@app.command()
def inspect(
    data: DataArgument,
    data2: Data2Argument = None,
    kind: Kind = None,
    resolution: Resolution = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="As in train: here bad files are always named and left out.")
    ] = False,
    settings: Set = None,
    keep: Keep = None,
    from_degradation: Degradation = None,
    classes: Classes = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the grid picture and the findings.")] = None,
    debug: Debug = False,
) -> None:
    """Say what is in DATA: counts, sizes, labels, duplicates, bad or lonely files, what would be trained."""
    from trilemma.report.outlook import inspect as look

    found = look(
        data, data2, kind=kind, resolution=resolution, settings=_settings(settings, keep, from_degradation, classes)
    )
    print(found.text())
    if out is not None:
        for path in found.save(out):
            print(path)


@app.command()
def train(
    data: DataArgument,
    data2: Data2Argument = None,
    *,
    out: Annotated[Path, typer.Option("--out", help="Run folder; run the same command again to resume.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="autoencoder, vae, gan, diffusion, or a preset such as gan:wasserstein; default: diffusion, of pairs "
            "bridge, of two sets cut.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(help="xs, s, m, l or xl; chosen for the budget unless given.")] = None,
    budget: Annotated[
        str, typer.Option(help="Time (10m, 1h30m), examples (40k, 2M), or +10m to go on with a finished run.")
    ] = "10m",
    seed: Seed = 0,
    kind: Kind = None,
    resolution: Resolution = None,
    skip_bad: SkipBad = False,
    settings: Set = None,
    keep: Keep = None,
    from_degradation: Degradation = None,
    classes: Classes = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Run whose weights to start from. On a few examples: --set lora=8 adds to weights that stay as they "
            "are, --set word=NAME learns a new word.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print parameters, memory, examples and finish time; train nothing.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train one model on DATA until the budget is spent."""
    from trilemma.training.plan import Plan
    from trilemma.training.start import train as begin

    done = begin(
        data,
        data2,
        model=model,
        out=out,
        size=size,
        budget=budget,
        seed=seed,
        kind=kind,
        resolution=resolution,
        skip_bad=skip_bad,
        settings=_settings(settings, keep, from_degradation, classes),
        start=start,
        dry_run=dry_run,
    )
    print(done.text() if isinstance(done, Plan) else out)


@app.command()
def compare(
    data: DataArgument,
    data2: Data2Argument = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Comma-separated, repeatable; default: all families.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="In total over models and seeds: 30m, 2h.")] = None,
    budget_each: Annotated[str | None, typer.Option("--budget-each", help="For each training: 10m, 200k.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each model.")] = 1,
    prefer: Annotated[str | None, typer.Option(help="quality, diversity or speed.")] = None,
    need: Annotated[
        list[str] | None,
        typer.Option(help="Comma-separated tasks the winner must do: encode, likelihood, ... Repeatable."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SAMPLES",
            help="Samples of another tool (folder, .npy) or a pipeline of diffusers (FOLDER[:STEPS]). Repeatable.",
        ),
    ] = None,
    features: Features = None,
    remeasure: Annotated[
        bool, typer.Option("--remeasure", help="Take all figures anew, from the runs that are in --out.")
    ] = False,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Also the quality after 1/8, 1/4 and 1/2 of the budget (half as long again)."),
    ] = False,
    claims: Annotated[
        bool, typer.Option("--claims", help="Also the trainings by which textbooks' claims are tested; --curve too.")
    ] = False,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also other learning rates and batches: which family is touchy.")
    ] = False,
    subsample: Annotated[list[str] | None, typer.Option(metavar="SHARES", help="Also less data: 10%,30%,100%.")] = None,
    drift: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Also the earlier half, measured on the later: a condition, or 'order'."),
    ] = None,
    price: Annotated[float | None, typer.Option(help="Of an hour of this machine, for the costs.")] = None,
    on: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Train several at once: processes[:NUMBER] or ray[:ADDRESS].")
    ] = None,
    cpus_each: Annotated[int | None, typer.Option("--cpus-each", help="Cores of each training with --on.")] = None,
    seed: Seed = 0,
    kind: Kind = None,
    resolution: Resolution = None,
    skip_bad: SkipBad = False,
    settings: Set = None,
    keep: Keep = None,
    from_degradation: Degradation = None,
    classes: Classes = None,
    out: Annotated[Path | None, typer.Option("--out", help="Report folder; default report/NAME.")] = None,
    debug: Debug = False,
) -> None:
    """Train the families on DATA under one budget, measure them, and say which to use."""
    from trilemma.report.compare import compare as go

    page = go(
        data,
        data2,
        models=models,
        budget=budget,
        budget_each=budget_each,
        seeds=seeds,
        prefer=prefer,
        need=need or (),
        include=_included(include),
        features=features or (),
        remeasure=remeasure,
        curve=curve,
        claims=claims,
        sensitivity=sensitivity,
        subsample=subsample,
        drift=drift,
        price=price,
        on=on,
        cpus_each=cpus_each,
        seed=seed,
        kind=kind,
        resolution=resolution,
        skip_bad=skip_bad,
        settings=_settings(settings, keep, from_degradation, classes),
        out=out,
    )
    print(page)


@app.command()
def measure(
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATA SAMPLES", help="The data, and a folder, archive or array file of samples."),
    ] = None,
    kind: Kind = None,
    resolution: Resolution = None,
    skip_bad: SkipBad = False,
    settings: Set = None,
    keep: Keep = None,
    quiz: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE [FILE...]", help="Fold the answers that people saved from a report's quiz."),
    ] = None,
    features: Features = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with the protocol instead of a table.")] = False,
    debug: Debug = False,
) -> None:
    """Measure SAMPLES of any origin against DATA, as compare measures its models; or what people take for real."""
    import json

    found: Any
    if quiz:
        from trilemma.report.quiz import fold

        found = fold([*quiz, *(given or [])])
    else:
        from trilemma.report.judge import measure as judge

        data, samples = _two(given or [])
        found = judge(
            data,
            samples,
            kind=kind,
            resolution=resolution,
            skip_bad=skip_bad,
            settings=_settings(settings, keep),
            features=features or (),
            quiet=False,
        )
    print(json.dumps(found.record(), indent=1) if as_json else found.text())


@app.command()
def advise(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="results.json of a comparison, or its folder.")],
    prefer: Annotated[str | None, typer.Option(help="quality, diversity or speed.")] = None,
    need: Annotated[
        list[str] | None,
        typer.Option(help="Comma-separated tasks and limits: encode, likelihood, latency<50ms, size<10MB. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with ranking and reasons.")] = False,
    debug: Debug = False,
) -> None:
    """Answer from what a comparison measured, under this preference and these needs only; trains nothing."""
    import json

    from trilemma.report.judge import readvise

    answer = readvise(results, prefer=prefer, need=need or ())
    if as_json:
        print(json.dumps(answer, indent=1))
        return
    for sentence in answer["sentences"]:
        print(sentence)
    if answer["next_command"]:
        print(f"next: {answer['next_command']}")


@app.command()
def bench(
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "--models", help="Comma-separated, repeatable; default: all families."),
    ] = None,
    size: Annotated[str | None, typer.Option(help="xs, s, m, l, xl; default: what ten minutes would choose.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; default: the faster one.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Also where the time of a training step goes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else on stdout.")] = False,
    debug: Debug = False,
) -> None:
    """Time this machine and the models on it: training, sampling, and their share of the machine's limit."""
    import json

    from trilemma.report.bench import bench as go
    from trilemma.report.bench import text

    found = go(models, size=size, dtype=dtype, profiled=profile)
    print(json.dumps(found, indent=2) if as_json else text(found))


def _settings(
    pairs: list[str] | None,
    keep: list[str] | None = None,
    degradation: str | None = None,
    classes: str | None = None,
) -> dict[str, Any]:
    from trilemma.config import parse_value

    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {pair!r}: write KEY=VALUE, e.g. --set model.beta=4")
        settings[key.strip()] = parse_value(value.strip())
    made = {} if degradation is None else {"data.degradation": degradation}
    made |= {} if classes is None else {"data.classes": classes}
    return settings | ({"data.keep": keep} if keep else {}) | made


def _included(pairs: list[str] | None) -> dict[str, str]:
    included: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, path = (part.strip() for part in pair.partition("="))
        if not equals or not name or not path or name in included:
            raise InputError(f"--include {pair!r}: write NAME=FOLDER, each with a name of its own: theirs=out/")
        included[name] = path
    return included


def _two(given: list[str]) -> list[str]:
    if len(given) != 2:
        raise InputError(
            f"measure takes two arguments, DATA and SAMPLES (trilemma measure photos/ made/), not {len(given)}; the "
            "answers of a quiz come after --quiz"
        )
    return given


for verb in VERBS:
    app.command()(verb)


def main() -> None:
    """Run a verb; what the user can mend ends with code 2 and one message."""
    debug = "--debug" in sys.argv
    collect_late()
    try:
        app()
    except InputError as problem:
        if debug:
            raise
        if os.environ.get("RANK", "0") == "0":  # of several processes of torchrun, one tells
            print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except (MemoryError, RuntimeError) as problem:
        # Torch says so in its own class.
        if debug or not (isinstance(problem, MemoryError) or "memory" in str(problem)):
            raise
        print("error: out of memory; try a smaller --size, --resolution or --set optimizer.micro=16", file=sys.stderr)
        sys.exit(2)
    except OSError as problem:
        if debug or problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        print(
            f"error: {problem.strerror}: {problem.filename or 'a file'}; free some space or choose another folder",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
