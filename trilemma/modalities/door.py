"""The door for data: a name, a path or an object in, a `Data` out."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from trilemma.errors import InputError, unknown
from trilemma.modalities.contract import Data, Modality, Opening
from trilemma.modalities.files import list_folder


@cache
def _files() -> dict[str, str]:
    """By the modalities' names, the text of those files beside this one that define a Modality. Nothing is imported."""
    texts = {path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))}
    return {stem: text for stem, text in texts.items() if re.search(r"^class \w+\(Modality\):", text, re.M)}


def kinds() -> tuple[str, ...]:
    """The modalities' names."""
    return tuple(_files())


def modality(kind: str) -> type[Modality]:
    """The Modality class of this name."""
    if kind not in kinds():
        raise unknown("kind of data", kind, kinds())
    module = import_module(f"trilemma.modalities.{kind}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Modality) and getattr(value, "kind", None) == kind:
            return value
    raise AssertionError(f"modalities/{kind}.py defines no Modality of kind {kind!r}")


def _modalities() -> Iterator[type[Modality]]:
    for kind in kinds():
        yield modality(kind)


def _with_names() -> Iterator[type[Modality]]:
    """Those that know sets by name; the others, and pandas with them, are not imported."""
    for kind, text in _files().items():
        if re.search(r"^    names = ", text, re.M):
            yield modality(kind)


def named_sets() -> tuple[str, ...]:
    """Names that `open_data` knows without a path."""
    return tuple(sorted(name for each in _with_names() for name in each.names))


def resolution_from(given: Any) -> tuple[int, int] | int | None:
    """'32' or 32 -> the longer side; '32x48' or (32, 48) -> height and width."""
    wrong = InputError(
        f"--resolution {given!r}: give the longer side in pixels (32) or height x width (32x48), each from 4 to 2048"
    )
    if given is None:
        return None
    if isinstance(given, str):
        numbers = re.fullmatch(r"(\d{1,5})(?:\s*[x×,]\s*(\d{1,5}))?", given.strip())
        if not numbers:
            raise wrong
        given = (int(numbers[1]), int(numbers[2])) if numbers[2] else int(numbers[1])
    sides = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(sides) > 2 or not sides:
        raise wrong
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int) or not 4 <= side <= 2048:
            raise wrong
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def open_data(
    source: Any,
    *,
    opening: Opening | None = None,
    kind: str | None = None,
    resolution: Any = None,
    fit: str = "crop",
    skip_bad: bool = False,
    data2: Any = None,
) -> Data:
    """Open a named set, a path or an object (array, tensor, list of images, ...) as a `Data`.

    data2: the targets, where `source` holds the sources: pairs by equal file names, or two sets. `opening` holds the
    other settings already put together, as runs store them. What is a `Data` already is handed back. InputError for
    everything that the user can mend.
    """
    if isinstance(source, Data):
        if data2 is not None:
            raise InputError(
                f"data2={data2!r}: the first data are opened already, without it. Open both with "
                "trilemma.open_data(A, data2=B). Names of models are model=NAME, of compare models=[NAME]"
            )
        if kind is not None or resolution is not None:
            raise InputError("kind and resolution: these data are opened already; say both when you open them")
        return source
    if opening is None:
        opening = Opening(kind=kind, resolution=resolution, fit=fit, skip_bad=skip_bad)
    opening = replace(opening, resolution=resolution_from(opening.resolution))
    if opening.fit not in ("crop", "pad"):
        raise unknown("way to fit images", str(opening.fit), ("crop", "pad"))
    if opening.kind is not None and opening.kind not in kinds():
        raise unknown("kind of data", str(opening.kind), kinds())
    if source is None or (isinstance(source, (str, Path)) and not str(source).strip()):
        raise InputError("no data given: name a folder, a file or one of " + ", ".join(named_sets()))
    if isinstance(source, (str, Path)) and "\0" in str(source):
        raise InputError(f"{source!r}: a path cannot hold a zero byte; check the path")
    if isinstance(source, str):
        for each in _with_names():
            if source in each.names:
                if opening.kind not in (None, each.kind):
                    raise InputError(f"--kind {opening.kind}: the set {source!r} is of kind {each.kind}; leave it out")
                return _opened(each, source, opening, data2)
    if isinstance(source, (str, Path)):
        source = _existing(source)
    if isinstance(data2, (str, Path)) and not (isinstance(data2, str) and data2 in named_sets()):
        data2 = _existing(data2)
    if opening.kind is not None:
        return _opened(modality(opening.kind), source, opening, data2)
    for each in _modalities():
        if each.claims(source):
            return _opened(each, source, opening, data2)
    if isinstance(source, Path) and source.is_dir():
        listing = list_folder(source)
        if not listing.names:
            raise InputError(f"{source}: the folder is empty; name the folder that holds the data")
        suffixes = Counter(Path(name).suffix.lower() or "without suffix" for name in listing.names)
        held = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(4))
        raise InputError(
            f"{source}: no image or other known data in it (it holds {held}); name the folder that has them"
        )
    if isinstance(source, Path):
        raise InputError(f"{source}: no kind of data that is known; give --kind ({', '.join(kinds())}) or another file")
    shape = getattr(source, "shape", None)
    what = type(source).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")
    raise InputError(
        f"array: {what} is no kind of data that is known; give images (N, H, W[, C]), points (N, D), a path or a name, "
        "or say --kind series of steps (T,), (T, columns) or (N, T, columns)"
    )


def _opened(kind: type[Modality], source: Any, opening: Opening, data2: Any) -> Data:
    """What settings of other kinds of data would say nothing of is an error."""
    meant: dict[str, tuple[Any, tuple[str, ...]]] = {
        "data.columns": (opening.columns, ("table", "series", "image")),
        "data.target": (opening.target, ("table",)),
        "data.keep": (opening.keep, ("table",)),
        "data.window": (opening.window, ("series",)),
        "data.step": (opening.step, ("series",)),
        "data.pairs": (opening.pairs, ("image",)),
        "--from-degradation": (opening.degradation, ("image",)),
        "--classes": (opening.classes, ("image",)),
    }
    for name, (value, kinds_of) in meant.items():
        if value and kind.kind not in kinds_of:
            raise InputError(f"setting {name}: is for a {' or a '.join(kinds_of)}; these data are of kind {kind.kind}")
    given = [one for one in (source, data2) if one is not None]
    places = (
        str(one.resolve()) if isinstance(one, Path) else one if isinstance(one, str) else "array" for one in given
    )
    return replace(kind.open(source, opening, data2=data2), places=tuple(places))


def _existing(source: str | Path) -> Path:
    """The path, or an error with the nearest name; `archive.zip/folder` means a folder in an archive."""
    path = Path(source).expanduser()
    try:
        if path.exists() or any(parent.is_file() for parent in path.parents):
            return path
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}); check the path") from error
    try:
        entries = path.parent.iterdir() if path.parent.is_dir() else []
        beside = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError:
        beside = []
    if isinstance(source, str) and re.fullmatch(r"[\w-]+", source) is not None:
        close = difflib.get_close_matches(source, beside, n=1)
        raise unknown("data set or path", source, [*named_sets(), *close])
    close = difflib.get_close_matches(path.name, beside, n=1)
    hint = f". Did you mean {str(path.with_name(close[0]))!r}?" if close else ""
    raise InputError(f"{source}: no such file or folder; check the path{hint}")
