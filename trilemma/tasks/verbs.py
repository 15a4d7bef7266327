"""What each verb of the command line does with files: load the run, call one method, write the result."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from trilemma.errors import InputError, unknown
from trilemma.modalities.writing import MARK, own_folder, writing_to
from trilemma.spaces import Continuous
from trilemma.tasks.load import Loaded, load
from trilemma.tasks.outputs import ARRAYS, OTHERS, check_out, check_table, save_array
from trilemma.training.progress import Bar

FILM = (256, 256)  # pixels of a film
ALIKE = 0.005  # of the range of values: draws that differ by less


def generate(
    run: Path,
    n: int,
    *,
    seed: int,
    out: Path | None,
    label: str | None,
    guidance: float | None,
    steps: str | None,
    sampler: str | None,
    eta: float | None,
    interval: str | None,
    prior: str | None,
    truncation: float | None = None,
    noise_seed: int | None = None,
    where: str | None = None,
    balance: str | None = None,
    length: int | None = None,
    prompt: str | None = None,
    prompts: Path | None = None,
    negative: str | None = None,
) -> list[Path]:
    """n samples, or n of each line of the file `prompts`: a folder of files, an .npy array, a .png grid; or a table."""
    loaded = load(run)
    out = out or Path(f"samples{loaded.modality.usual}")
    check_out(out, loaded.modality.writes)
    count = loaded.fewest_steps() if steps == "auto" else _steps(steps)
    asked = [prompt] if prompts is None else _lines(prompts, prompt)
    for text in asked:  # before the first sample is made
        loaded.prompted(text, negative)
    pictured = where if loaded.attributes and balance is None and length is None else None
    if pictured is None and (where is not None or balance is not None or length is not None):
        rows = loaded.generate(
            n, seed=seed, label=label, guidance=guidance, steps=count, sampler=sampler, eta=eta,
            interval=_interval(interval), prior=prior, truncation=truncation, noise_seed=noise_seed, where=where,
            balance=balance, length=length, raw=True,
        )  # fmt: skip
        return loaded.shown(label).save(rows, out)
    each = [
        loaded.stream(
            n, seed=seed, label=label, guidance=guidance, steps=count, sampler=sampler, eta=eta,
            interval=_interval(interval), prior=prior, truncation=truncation, noise_seed=noise_seed, prompt=text,
            negative=negative, where=pictured, raw=True,
        )
        for text in asked
    ]  # fmt: skip
    total = n * len(asked)
    return loaded.shown(label).stream(_counted(chain.from_iterable(each), total), total, out)


def _lines(file: Path, prompt: str | None) -> list[str | None]:
    """The prompts of a file, one a line."""
    if prompt is not None:
        raise InputError("--prompt goes without --prompts; leave one of them out")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--prompts {file}: cannot be read ({error}); give a UTF-8 text file, one prompt a line"
        ) from None
    found: list[str | None] = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"--prompts {file}: is empty; write one prompt a line")
    return found


def _counted(parts: Iterator[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """The same parts, with a bar for people who wait."""
    bar, done = Bar("generate", n), 0
    for part in parts:
        done += len(part)
        bar.update(done, {})
        yield part
    bar.close()


def _steps(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit():
        raise InputError(f"--steps {text}: give a number of steps, or auto")
    return int(text)


def _interval(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--interval {text}: give two noise levels, such as 0.3,5") from None
    return low, high


def reconstruct(run: Path, source: Any, *, steps: int | None, out: Path) -> list[Path]:
    """What comes back; of pictures it is said how near."""
    loaded = load(run)
    check_out(out, loaded.modality.writes)
    given = loaded.read(source)
    again = loaded.reconstruct(given, steps=steps, raw=True)
    written = loaded.modality.save(again, out, names=given.names)
    space = loaded.space.outer
    if loaded.modality.kind == "image" and isinstance(space, Continuous) and None not in (space.low, space.high):
        from trilemma.metrics.pixels import reconstruction_error

        error = reconstruction_error(given.x, again, span=float(space.high) - float(space.low))["psnr"]  # type: ignore[arg-type]
        told = f"{error.value:.1f} dB (PSNR over all of them)" if np.isfinite(error.value) else "every value comes back"
        print(told, file=sys.stderr)
    return written


def impute(run: Path, source: Any, *, draws: int, steps: int | None, seed: int, out: Path) -> list[Path]:
    """The table without gaps, and beside it each draw when there are several."""
    loaded = load(run)
    check_table(out)
    gaps, middle, made = loaded.drawn(source, draws=draws, seed=seed, steps=steps)
    written = loaded.modality.filled(gaps, middle, out)
    name, _, ending = out.name.partition(".")
    for number, rows in enumerate(made if draws > 1 else [], 1):
        written += loaded.modality.filled(gaps, rows, out.with_name(f"{name}.draw{number}.{ending}"))
    return written


def forecast(
    run: Path, source: Any, *, horizon: int, draws: int, steps: int | None, seed: int, out: Path
) -> list[Path]:
    """The draws, their quantiles and a picture of them."""
    loaded = load(run)
    check_table(out)
    return loaded.forecast(source, horizon=horizon, draws=draws, seed=seed, steps=steps).save(out)


def stress(
    run: Path, *, where: str, n: int, horizon: int | None, label: str | None, weights: str | None, level: float,
    seed: int, out: Path,
) -> list[Path]:  # fmt: skip
    """Paths that meet conditions; how probable they are, and what a portfolio loses on them, is said."""
    loaded = load(run)
    check_out(out, loaded.modality.writes)
    found = loaded.scenarios(where, n, horizon=horizon, label=label, weights=weights, level=level, seed=seed)
    print(found.said(), file=sys.stderr)
    return loaded.shown(label).save(found.x, out)


def risk(
    run: Path, source: Any, *, weights: str | None, level: float, horizon: int, draws: int, most: int | None,
    steps: int | None, seed: int, out: Path,
) -> list[Path]:  # fmt: skip
    """The forecasts of losses, the tests of them and a picture."""
    loaded = load(run)
    check_table(out)
    found = loaded.risk(
        source, weights=weights, level=level, horizon=horizon, draws=draws, most=most, steps=steps, seed=seed
    )
    print(found.said(), file=sys.stderr)
    return found.save(out)


def detect(
    run: Path, source: Any, *, false_alarms: float, normal: Any, seed: int, out: Path, maps: Path | None = None
) -> list[Path]:
    """The table with what is strange in it, and a line about it; of pictures also where in them."""
    from trilemma.tasks.oddities import Oddities

    loaded = load(run)
    check_table(out)
    if maps is not None:
        if loaded.modality.kind != "image":
            raise InputError(f"--maps {maps}: is for images; this run's data are of kind {loaded.modality.kind}")
        if maps.exists() and (not maps.is_dir() or (any(maps.iterdir()) and not (maps / MARK).is_file())):
            raise InputError(f"--maps {maps}: name a new or empty folder, or one of earlier maps")
        if out.parent.resolve() == maps.resolve():
            raise InputError(f"--maps {maps}: is where --out goes; name a folder of its own")
    found = loaded.anomalies(source, false_alarms=false_alarms, normal=normal, seed=seed)
    print(found.said(), file=sys.stderr)
    written = found.frame(out)
    if maps is not None:
        assert isinstance(found, Oddities)
        found.save_maps(maps)
        written = [*written, maps]
    return written


def denoise(run: Path, source: Any, *, sigma: float | None, out: Path) -> list[Path]:
    loaded = load(run)
    check_out(out, loaded.modality.writes)
    given = loaded.read(source)
    return loaded.modality.save(loaded.denoise(given, sigma=sigma, raw=True), out, names=given.names)


def interpolate(
    run: Path, first: str, second: str, *, steps: int, seed: int, out: Path, space: str = "z", film: int = 12,
    sampler_steps: int | None = None,
) -> list[Path]:  # fmt: skip
    """The examples on the way; a .gif shows them one after the other, there and back, `film` a second."""
    loaded = load(run)
    if out.suffix != ".gif":
        check_out(out, loaded.modality.writes)
    elif loaded.modality.kind != "image":
        raise InputError(f"--out {out}: films are of images; this run's data are of kind {loaded.modality.kind}")
    x = loaded.interpolate(
        first, second, steps=steps, seed=seed, space=space, raw=True, quiet=False, sampler_steps=sampler_steps
    )
    if out.suffix != ".gif":
        return loaded.modality.save(x, out)
    frames = [loaded.modality.picture(one[None]).resize(FILM) for one in (*x, *x[-2:0:-1])]
    with writing_to(out) as temporary:
        frames[0].save(temporary, format="gif", save_all=True, append_images=frames[1:], duration=1000 // film, loop=0)
    return [out]


def mix(
    run: Path, *, seeds: str, columns: str | None, layers: str | None, label: str | None, truncation: float | None,
    out: Path,
) -> list[Path]:  # fmt: skip
    """One picture: rows and columns of samples, and between them each row's with its column's styles in some layers."""
    loaded = load(run)
    check_out(out, loaded.modality.writes)
    across = numbers_of(columns, "--columns") if columns else None
    rows = loaded.mix(
        numbers_of(seeds, "--seeds"), columns=across, layers=layers, label=label, truncation=truncation, raw=True
    )
    return _sheet(loaded, rows, out)


def project(run: Path, source: Any, *, steps: int, tune: int, seed: int, out: Path) -> list[Path]:
    """What the model makes of the inputs when it tries to make them; how near it comes is said."""
    loaded = load(run)
    check_out(out, loaded.modality.writes)
    given = loaded.read(source)
    found = loaded.project(given, steps=steps, tune=tune, seed=seed, quiet=False)
    for name, value in zip(given.names, found.psnr, strict=True):
        print(f"{name}: {value:.1f} dB", file=sys.stderr)
    return loaded.modality.save(loaded.sampler.array(found.decoded().float()), out, names=given.names)


def edit(
    run: Path, source: Any, *, direction: str | None, amount: str | None, layers: str | None, seed: int,
    number: int | None, steps: int | None, tune: int | None, out: Path, prompt: str | None = None,
    negative: str | None = None, where: str | None = None, strength: float | None = None,
    guidance: float | None = None,
) -> list[Path]:  # fmt: skip
    """One example moved along a direction (of several amounts, side by side), or drawn anew as is asked in words or
    attributes."""
    moving = {"--direction": direction, "--amount": amount, "--layers": layers, "--number": number, "--tune": tune}
    drawing = {"--strength": strength, "--negative": negative, "--guidance": guidance}
    if prompt is not None or where is not None:
        option = "--prompt" if where is None else "--where"
        if source is None:
            raise InputError(f"edit {option}: name the picture to edit; `generate {option}` makes new ones")
        _check_untold(moving, f"moves along a direction of styles; leave it out with {option}")
        return vary(
            run, source, n=1, strength=0.6 if strength is None else strength, prompt=prompt, negative=negative,
            where=where, label=None, guidance=guidance, steps=steps, seed=seed, out=out,
        )  # fmt: skip
    _check_untold(drawing, "goes with --prompt or --where; say with it what to turn the picture into")
    loaded, amount = load(run), "2" if amount is None else amount
    check_out(out, loaded.modality.writes)
    try:
        amounts = [float(part) for part in amount.split(",")]
    except ValueError:
        raise InputError(f"--amount {amount}: give a number, or several as -2,0,2") from None
    x = loaded.edit(
        source, direction="pca-1" if direction is None else direction, amount=amounts, layers=layers, seed=seed,
        number=number or 0, steps=300 if steps is None else steps, tune=tune or 0, raw=True, quiet=False,
    )  # fmt: skip
    return loaded.modality.save(x, out)


def _check_untold(options: dict[str, Any], why: str) -> None:
    """InputError for an option that somebody gave although it does nothing beside the others."""
    for name, told in options.items():
        if told is not None:
            raise InputError(f"{name} {told}: {why}")


def vary(
    run: Path, source: Any, *, n: int, strength: float, prompt: str | None, negative: str | None, where: str | None,
    label: str | None, guidance: float | None, steps: int | None, seed: int, out: Path,
) -> list[Path]:  # fmt: skip
    """n others of each example, one after the other."""
    loaded = load(run)
    check_out(out, loaded.modality.writes)
    loaded.require("vary")
    given = loaded.read(source)
    x = loaded.vary(
        given, n=n, strength=strength, prompt=prompt, negative=negative, where=where, label=label, guidance=guidance,
        steps=steps, seed=seed, raw=True,
    )  # fmt: skip
    names = given.names if n == 1 else [_numbered(name, k) for name in given.names for k in range(1, n + 1)]
    return loaded.modality.save(x, out, names=names)


def _numbered(name: str, number: int) -> str:
    """'cat.png', 2 -> 'cat.2.png'"""
    path = Path(name)
    return str(path.with_name(f"{path.stem}.{number}{path.suffix}"))


def directions(run: Path, names: str | None, *, steps: int, reach: float, seed: int, out: Path) -> list[Path]:
    """A sheet with a row for each direction; all names are said."""
    loaded = load(run)
    check_out(out, loaded.modality.writes)
    known = loaded.direction_names()
    print("directions of this run:\n" + fill("  ".join(known), 100, break_on_hyphens=False), file=sys.stderr)
    chosen = names.split(",") if names else None
    return _sheet(loaded, loaded.directions(chosen, steps=steps, reach=reach, seed=seed, raw=True), out)


def export(run: Path, *, out: Path, to: str) -> list[Path]:
    """ONNX files of a run, how far they are from the model is said; or a pipeline's folder for diffusers."""
    from trilemma.tasks.export import FORMATS

    if to not in FORMATS:  # before a run is loaded
        raise unknown("format", to, FORMATS)
    if out.suffix in (*OTHERS, ".onnx"):
        raise InputError(f"--out {out}: name a folder, it gets several files")
    written = load(run).export(out, to=to)
    if to != "onnx":
        return written
    files = json.loads(written[-1].read_text(encoding="utf-8"))["files"]
    for name, file in files.items():
        check = file["check"]
        told = f"differs by {check['largest_difference']:.2g} at most" if check else "not checked: no onnxruntime"
        print(f"{name}: {file['does']}; {told}", file=sys.stderr)
    return written


def numbers_of(text: str, option: str) -> list[int]:
    """'3,7' -> [3, 7]"""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: give whole numbers, such as 3,7") from None


def traverse(run: Path, *, dimensions: int, steps: int, seed: int, out: Path) -> list[Path]:
    """One row of examples for each code dimension."""
    loaded = load(run)
    check_out(out, loaded.modality.writes)
    return _sheet(loaded, loaded.traverse(dimensions=dimensions, steps=steps, seed=seed, raw=True), out)


def _sheet(loaded: Loaded, rows: np.ndarray, out: Path) -> list[Path]:
    """Rows and columns of raw examples (rows, columns, ...) as they stand: an array, one picture, or files."""
    flat = rows.reshape(-1, *rows.shape[2:])
    if out.suffix == ".npy":
        x = loaded.modality.export(flat)
        return save_array(x.reshape(*rows.shape[:2], *x.shape[1:]), out)
    if out.suffix == ".png":
        with writing_to(out) as temporary:
            loaded.modality.picture(flat, columns=rows.shape[1]).save(temporary, format="png")
        return [out]
    return loaded.modality.save(flat, out)


def alike(two: np.ndarray) -> bool:
    """Are two exported pictures nearly the same?"""
    one, other = two.astype(np.float64)
    return float(np.abs(one - other).mean()) < ALIKE * np.iinfo(two.dtype).max


def translate(
    run: Path, source: Any, *, n: int, to: str | None, steps: int | None, seed: int, out: Path,
    sampler: str | None = None, eta: float | None = None,
) -> list[Path]:  # fmt: skip
    """A file for each picture, of several draws one each; of one picture also into a file that is named."""
    from trilemma.tasks.translate import direction

    loaded = load(run)
    check_out(out, (".png",))
    names, made = loaded.translations(source, n=n, to=to, seed=seed, steps=steps, sampler=sampler, eta=eta)
    data, back = loaded.config["data"], direction(to, loaded.sides())
    scale = data.get("scale_back" if back else "scale")
    enlarges = "downscale" in (data["opening"].get("degradation") or "") and not back
    if scale is not None and scale < 1 and not enlarges:
        print(f"pictures are made at {scale:.3g} of their size: that of those which were learned from", file=sys.stderr)
    if out.suffix == ".png" and len(names) * n > 1:
        raise InputError(f"--out {out}: {len(names) * n:,} pictures are made; name a folder")
    called = [name if n == 1 else f"{name}-{draw + 1}" for name in names for draw in range(n)]
    paths = [out] if out.suffix == ".png" else [out / f"{name}.png" for name in called]
    bar = Bar("translate", len(names))

    def written() -> None:
        for number, x in enumerate(made):
            if number == 0 and n > 1 and alike(loaded.modality.export(x[:2])):
                print(f"{loaded.config['model']} hardly draws: its {n} results are nearly the same", file=sys.stderr)
            for path, one in zip(paths[number * n : (number + 1) * n], x, strict=True):
                loaded.modality.write(one, path)
            bar.update(number + 1, {})
        bar.close()

    if out.suffix == ".png":
        written()
    else:
        with own_folder(out, paths):
            written()
    return paths


def search(run: Path, query: str, source: Any, *, n: int, out: Path | None) -> list[str]:
    """A line for each picture (or caption) that was found; the pictures also as a sheet."""
    from trilemma.tasks.search import sheet

    loaded = load(run)
    if out is not None:
        check_out(out, (".png",))
    hits = loaded.search(query, source, n=n)
    if out is not None:
        if hits.x is None:
            raise InputError(f"--out {out}: captions were found, no pictures; leave it out")
        with writing_to(out) as temporary:
            sheet(loaded, hits).save(temporary, format="PNG")
    return [f"{score:.3f}  {name}" for name, score in zip(hits.names, hits.scores, strict=True)]


def classify(run: Path, source: Any, *, labels: str | None, out: Path) -> list[Path]:
    """A table: file, its label, how probable that is, and the probability of each label; how many of each is said."""
    import csv

    loaded = load(run)
    if out.suffix != ".csv":
        raise InputError(f"--out {out}: labels are written as .csv")
    check_out(out, (".csv",))
    made = loaded.classify(source, None if labels is None else labels.split(","))
    with writing_to(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "probability", *made.labels])
        for name, label, each in zip(made.names, made.found, made.probabilities, strict=True):
            table.writerow([name, label, f"{each.max():.4f}", *(f"{one:.4f}" for one in each)])
    counts = {label: made.found.count(label) for label in made.labels}
    most = sorted(counts.items(), key=lambda one: -one[1])[:10]
    print(", ".join(f"{label} {count:,}" for label, count in most if count), file=sys.stderr)
    return [out]


def embed(run: Path, source: Any, *, factors: Any = None, seed: int | None = None, out: Path) -> list[Path]:
    if factors is not None:
        from trilemma.modalities.frames import write

        check_table(out)
        write(load(run).factors(source, factors, seed=seed or 0), out)
        return [out]
    if seed is not None:
        raise InputError("--seed: codes have no chance in them; give it with --factors, or leave it out")
    check_out(out, ARRAYS)
    return save_array(load(run).embed(source), out)


def score(run: Path, source: Any, *, out: Path) -> list[Path]:
    check_out(out, ARRAYS)
    return save_array(load(run).score(source), out)


def info(run: Path) -> str:
    """The run's facts as JSON."""
    return json.dumps(load(run).info(), indent=1, ensure_ascii=False)
