"""What a person sees of the data: files, records and pictures on one side, arrays and Spaces on the other.

A modality is one file in this folder with one `Modality` subclass, found by its file name. It opens sources into a
`Data`, and turns arrays of examples back into files and pictures. Models never see it: they see `Data.spaces`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trilemma.batches import Arrays, Rows
from trilemma.errors import InputError, unknown
from trilemma.maths.noise import Noise
from trilemma.modalities.degrade import by_chance, degraded
from trilemma.spaces import Categorical, Space, fit_continuous

SPLITS = ("train", "choose", "test")
DEGRADING = 0x64656772616465  # what sources are degraded with while training comes from a stream of its own


@dataclass(frozen=True)
class Opening:
    """How the user wants a source to be read; part of the cache key and of a run's config.json."""

    kind: str | None = None  # the modality's name; None: recognised from the source
    resolution: tuple[int, int] | int | None = None  # (height, width), or the length of the longer side
    fit: str = "crop"  # how an image of another aspect is brought to (height, width): crop or pad
    skip_bad: bool = False  # go on without unreadable files
    columns: tuple[tuple[str, str], ...] = ()  # kinds of a table's columns that the user names
    target: str | None = None  # of a table: the column that the others are to predict; None: guessed
    keep: tuple[str, ...] = ()  # rules between a table's columns: 'start <= end'
    window: int | None = None  # of a series: steps that a model sees at once
    step: int | None = None  # of a series with irregular times: seconds of the grid that they are put on
    pairs: str | None = (
        None  # of images: by name, by row (their order), none, left or right half the source; None: auto
    )
    degradation: str | None = None  # of images: what makes a source of each, as 'downscale 4'
    template: str | None = None  # a caption made of each label, as 'a photo of a {label}'
    classes: str | None = None  # of images: colours of sources that are maps, or how many; None: recognised
    fewest: int | None = None  # examples that are enough; None: as many as a model from nothing needs


OWN = (
    "data.fit",
    "data.target",
    "data.keep",
    "data.window",
    "data.step",
    "data.pairs",
    "data.degradation",
    "data.template",
    "data.classes",
)  # settings of the data, beside the kinds of columns


def opening_of(
    settings: dict[str, Any] | None, kind: str | None, resolution: Any, skip_bad: bool, *, alone: bool = False
) -> Opening:
    """The opening that a command asks for; of its settings those that begin with `data.` belong to it.

    alone: the command trains nothing, so that any other setting is a mistake.
    """
    for key in settings or {}:
        if alone and not key.startswith("data."):
            raise InputError(f"setting {key!r}: only settings of the data (data.fit) say something here")
    wanted = {key: value for key, value in (settings or {}).items() if key.split(".")[0] == "data"}
    columns = {key: str(value) for key, value in wanted.items() if key.startswith("data.columns.")}
    for key in wanted:
        if key not in OWN and key not in columns:
            raise unknown("setting", key, [*OWN, "data.columns.NAME"])
    target, rules = wanted.get("data.target"), wanted.get("data.keep", ())
    target = None if target is None else str(target)
    keep = (rules,) if isinstance(rules, str) else tuple(rules)
    window = wanted.get("data.window")
    if window is not None and not (isinstance(window, int) and 8 <= window <= 4096):
        raise InputError(f"setting data.window={window}: a number of steps from 8 to 4096")
    named = tuple(sorted((key.removeprefix("data.columns."), value) for key, value in columns.items()))
    return Opening(
        kind,
        resolution,
        str(wanted.get("data.fit", "crop")),
        skip_bad,
        named,
        target,
        keep,
        window,
        _step(wanted.get("data.step")),
        # The command line reads "none" as nothing; here it is a way of its own.
        str(wanted["data.pairs"] or "none") if "data.pairs" in wanted else None,
        str(wanted["data.degradation"]) if wanted.get("data.degradation") else None,
        str(wanted["data.template"]) if wanted.get("data.template") else None,
        str(wanted["data.classes"] or "none") if "data.classes" in wanted else None,
    )


def _step(given: Any) -> int | None:
    """'30s', '15m', '1h', '1d' or a number of seconds -> seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    text = "" if given is None else str(given)
    found = re.fullmatch(r"(\d+)([smhd]?)", text)
    if text and (found is None or int(found[1]) < 1):
        raise InputError(f"setting data.step={given}: give a length of time, as 30s, 15m, 1h or 1d")
    return int(found[1]) * units[found[2] or "s"] if found else None


def alone_and_plain(what: str, opening: Opening, data2: Any) -> None:
    """InputError for a second set or a resolution, where neither means anything."""
    if data2 is not None:
        raise InputError(f"two sets of {what} cannot be opened together; give one")
    if opening.resolution is not None:
        raise InputError(f"--resolution is for images; these are {what}: leave it out")


@dataclass
class Data:
    """One opened source: arrays (often mapped from disk), their Spaces, and the three splits."""

    name: str  # short, for titles and default folders: 'digits', the folder's name
    source: str  # what the user gave, or 'array' for objects in memory
    modality: Modality
    x: np.ndarray  # (N, channels, *grid) raw: uint8 for 8-bit images, float32 for points
    splits: dict[str, np.ndarray]  # 'train', 'choose', 'test' -> row numbers, in an order as good as shuffled
    spaces: dict[str, Space]  # 'x' and one for each condition, fitted on the train split
    hash: str  # of the contents, the opening and the splits
    conditions: dict[str, np.ndarray] = field(default_factory=dict)  # 'label' -> (N, 1) int64, numbers (N, k) float32
    present: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (N,) bool, where some are missing
    observed: np.ndarray | None = None  # x's shape: not missing
    valid: np.ndarray | None = None  # x's shape: not padding
    codes: np.ndarray | None = None  # (N, width, *coarse) of training examples, where an autoencoder has coded them
    other: np.ndarray | None = None  # (M, channels, *grid) raw, a second set without pairs
    other_splits: dict[str, np.ndarray] = field(default_factory=dict)
    label_names: list[str] = field(default_factory=list)  # of condition 'label', by number
    attributes: list[Any] = field(default_factory=list)  # of condition 'attributes': what its columns are
    captions: list[str] | None = None  # one for each example, '' where there is none
    notes: list[str] = field(default_factory=list)  # what was done to the files, in plain words
    log_density: Callable[[np.ndarray], np.ndarray] | None = None  # (M, C) -> (M,) nats, where it is known
    centres: np.ndarray | None = None  # (K, C) of the modes, where they are known
    opening: Opening = field(default_factory=Opening)
    places: tuple[str, ...] = ()  # where the door found it, and a second set: absolute paths, names, 'array'
    facts: dict[str, Any] = field(default_factory=dict)  # JSON for `inspect`: sizes, modes, duplicates, unreadable

    def split(self, name: str) -> Arrays:
        """The rows of one split, as models and metrics read them; of the train split codes, where there are some."""
        return Arrays(
            x=self.x if self.codes is None or name != "train" else self.codes,
            conditions=self.conditions,
            present=self.present,
            observed=self.observed,
            valid=self.valid,
            rows=self.splits[name],
            other=self.other,
            other_rows=None if self.other is None else self.other_splits[name],
            renewed=self._renewed() if name == "train" else {},
        )

    def _renewed(self) -> dict[str, Callable[[np.ndarray, Noise], np.ndarray]]:
        """Of sources that a degradation with noise makes: each time that one is learned from, noise of its own."""
        text = self.opening.degradation
        if text is None or not by_chance(text):
            return {}

        def again(rows: np.ndarray, noise: Noise) -> np.ndarray:
            words = Noise(noise.seed ^ DEGRADING, noise.index).integers(2**31, 2).numpy()
            return degraded(self.x[rows], text, words[:, 0] << 31 | words[:, 1])

        return {"source" if "source" in self.conditions else "other": again}

    def sources(self, name: str) -> Rows | None:
        """Raw sources (n, channels, *grid) of one split: of pairs in their order, else of the second set; or None."""
        if "source" in self.conditions:
            return Rows(self.conditions["source"], self.splits[name])
        return None if self.other is None else Rows(self.other, self.other_splits[name])

    def uncoded(self) -> Data:
        """As the user sees them, where an autoencoder has coded them."""
        return (
            self
            if self.codes is None
            else replace(self, codes=None, spaces={**self.spaces, "x": self.spaces["x"].outer})
        )

    def pictured(self, sources: np.ndarray, *, colour: bool = False) -> np.ndarray:
        """Raw sources as x is raw: maps of classes in their colours (`colour`: even where x has none)."""
        maps = isinstance(self.spaces.get("source"), Categorical)
        return self.modality.painted(sources, colour=colour) if maps else sources

    def without_pairs(self) -> Data:
        """Pairs as two sets without any order between them; each part of them as before, maps of classes in colours."""
        if "source" not in self.conditions:
            return self
        conditions = {key: value for key, value in self.conditions.items() if key != "source"}
        spaces = {"other" if key == "source" else key: space for key, space in self.spaces.items()}
        other, modality = self.conditions["source"], self.modality
        if isinstance(spaces["other"], Categorical):
            other, modality = self.pictured(other), modality.without_classes()
            high = int(np.iinfo(other.dtype).max)
            rows = np.sort(self.splits["train"])
            spaces["other"] = fit_continuous(other, low=0.0, high=float(high), levels=high + 1, rows=rows)
        return replace(
            self, modality=modality, conditions=conditions, spaces=spaces, other=other, other_splits=self.splits
        )

    def rows(self, name: str, limit: int | None = None) -> np.ndarray:
        """Raw examples (n, channels, *grid) of one split, the first `limit` of them."""
        return np.asarray(self.x[self.splits[name][:limit]])


@dataclass
class Cells:
    """Rows of a table in the user's units."""

    values: np.ndarray  # (n, columns) float64: numbers, codes of categories, NaN where a cell is empty
    numbers: list[bool]  # which columns are numbers
    target: int  # the column that people would predict from the others


@dataclass
class Gaps:
    """Examples of which some elements are not known, and what they were read from."""

    x: np.ndarray  # (n, channels, *grid) raw, of a series levels (steps, C); anything where it is not observed
    observed: np.ndarray  # the same shape, bool
    origin: Any  # what the modality needs to write them with nothing else changed
    frame: Any = None  # of a table: the data frame that they came from; None: a file of texts
    delimiter: str = ","  # of such a file, between cells


class Modality(ABC):
    """Files <-> arrays for one kind of data. Instances hold what is needed to write files like the user's own."""

    kind: str  # also the name of its file
    names: tuple[str, ...] = ()  # named sets that `open` knows: 'digits', 'moons'
    writes: tuple[str, ...] = (".npy", ".png")  # endings of the single files that `save` writes,
    usual: str = ".png"  # and of the one that nobody named

    @classmethod
    @abstractmethod
    def claims(cls, source: Any) -> bool:
        """True when this modality can read the source (a path, an array, a tensor, a list, a data frame)."""

    @classmethod
    @abstractmethod
    def open(cls, source: Any, opening: Opening, *, data2: Any = None) -> Data:
        """Read the source. InputError for everything that the user can mend."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """JSON from which `from_description` makes an equal instance: it is stored in runs."""

    @classmethod
    @abstractmethod
    def from_description(cls, description: dict[str, Any]) -> Modality: ...

    @abstractmethod
    def read(self, source: Any, space: Space, notes: list[str] | None = None) -> tuple[np.ndarray, list[str]]:
        """Files or arrays as inputs of a task: raw (n, channels, *grid) in this Space's shape, and a name for each.

        To `notes` is added what was done to them, in plain words.
        """

    def captions(self, source: Any) -> list[str] | None:
        """The caption of each example that `read` finds in a source, '' where one has none; None: there are none."""
        return None

    @abstractmethod
    def export(self, x: np.ndarray) -> np.ndarray:
        """Raw examples as users' programs expect them: uint8 (n, H, W) or (n, H, W, C) images, (n, C) points."""

    @abstractmethod
    def save(self, x: np.ndarray, out: Path, *, names: list[str] | None = None) -> list[Path]:
        """Write raw examples: `.npy` as `export` gives them, `.png` as one picture, else one file each in a folder."""

    def whole(self, source: Any) -> tuple[list[str], Iterator[np.ndarray]]:
        """Names of the user's own files or arrays, and raw (channels, *grid) of each in turn, in its own size."""
        raise InputError(f"translating is for images; this run's data are of kind {self.kind}")

    def painted(self, classes: np.ndarray, *, colour: bool = False) -> np.ndarray:
        """Maps of classes (n, 1, H, W) as pictures in the raw form of x; `colour`: in colours even where x is grey."""
        raise AssertionError(f"data of kind {self.kind} have no maps of classes")

    def without_classes(self) -> Modality:
        """The same, reading sources as pictures."""
        return self

    def cells(self, x: np.ndarray) -> Cells | None:
        """A table's rows in the user's units."""
        return None

    def seen(self, x: np.ndarray) -> np.ndarray:
        """Raw x as it is measured: without what `export` does not give."""
        return x

    def gaps(self, source: Any) -> Gaps:
        """Files or arrays as `read` takes them, in which elements are missing that a model is to fill in."""
        raise InputError(f"filling in is for tables and series; this run's data are of kind {self.kind}")

    def filled(self, gaps: Gaps, x: np.ndarray, out: Path | None = None) -> Any:
        """What was read with its gaps taken from raw x: as users' programs expect it, or written to a file."""
        raise InputError(f"filling in is for tables and series; this run's data are of kind {self.kind}")

    def stream(self, parts: Iterable[np.ndarray], count: int, out: Path) -> list[Path]:
        """`save` of `count` raw examples that come in parts; a modality that can writes each part as it comes."""
        return self.save(np.concatenate(list(parts)), out)

    def write(self, one: np.ndarray, path: Path) -> None:
        """One raw example of any size into this very file."""
        raise InputError(f"{path}: data of kind {self.kind} are written into other files")

    @abstractmethod
    def picture(self, x: np.ndarray, *, columns: int | None = None, reference: np.ndarray | None = None) -> Image.Image:
        """One picture of several examples: a grid of images, a scatter plot of points (real ones behind, in grey)."""
