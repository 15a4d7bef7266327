"""A look at data before any training: what was found, how it was read, and a picture of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trilemma.modalities.attributes import NAME
from trilemma.modalities.contract import SPLITS, Data
from trilemma.modalities.writing import own_folder, writing_to
from trilemma.spaces import Categorical, Continuous

LONG = 100  # characters of a line
MORE = ("sources", "classes", "target", "times", "window", "calendar", "gaps", "series")


@dataclass
class Inspection:
    """What `trilemma inspect` shows. `plan` is filled in by who knows about models and budgets."""

    name: str
    source: str
    kind: str
    examples: int
    shape: tuple[int, ...]  # (channels, *grid) that a model sees
    values: str  # range and levels of the values, in words
    splits: dict[str, int]
    labels: dict[str, int]  # examples per label
    numbers: dict[str, str]  # numeric conditions: their range, in words
    columns: dict[str, str]  # of a table or a series, and attributes: what each is, in words
    attributes: list[str]  # which of them are conditions
    more: dict[str, str]  # what else the kind of data says of itself, in words
    captions: int
    duplicates: int
    unreadable: list[tuple[str, str]]  # file, reason
    alone: list[str]  # files without a partner on the other side
    sizes: list[tuple[int, int, int]]  # height, width, count: the most common ones
    different_sizes: int
    modes: dict[str, int]
    notes: list[str]
    hash: str
    picture: Image.Image
    plan: list[str] = field(default_factory=list)  # lines: what would be trained and how long it takes

    def text(self) -> str:
        """The whole of it for a terminal, without colours."""
        lines = [f"{self.name}  ({self.kind} from {self.source})", ""]

        def row(title: str, value: str) -> None:
            lines.append(f"  {title:<12}{value}")

        row("examples", f"{self.examples:,}")
        if self.columns and len(self.shape) == 1:
            row("shape", f"{self.shape[0]:,} of {len(self.columns):,} columns are learned")
        else:
            row("shape", f"{' x '.join(map(str, self.shape))} (channels first), {self.values}")
        row("splits", ", ".join(f"{name} {count:,}" for name, count in self.splits.items()))
        if self.sizes:
            more = (
                f" and {self.different_sizes - len(self.sizes):,} more"
                if self.different_sizes > len(self.sizes)
                else ""
            )
            row("sizes", ", ".join(f"{h} x {w} ({count:,})" for h, w, count in self.sizes) + more)
        if self.modes:
            row("modes", ", ".join(f"{mode} ({count:,})" for mode, count in self.modes.items()))
        if self.labels:
            shown = [f"{name} {count:,}" for name, count in list(self.labels.items())[:12]]
            more = f" and {len(self.labels) - 12:,} more" if len(self.labels) > 12 else ""
            row("labels", f"{len(self.labels):,}: " + ", ".join(shown) + more)
        for name, value in self.numbers.items():
            row("number", f"{name}: {value}")
        for name, value in self.columns.items():
            row("attribute" if name in self.attributes else "column", f"{name}: {value}")
        for name, value in self.more.items():
            row(name, value if len(value) <= LONG else f"{value[:LONG].rpartition(',')[0]} and more")
        if self.captions:
            row("captions", f"{self.captions:,}")
        row("duplicates", f"{self.duplicates:,}")
        if self.unreadable:
            row("unreadable", f"{len(self.unreadable):,}: training needs --skip-bad to go on without them")
            lines += [f"    {file}: {reason}" for file, reason in self.unreadable[:20]]
            if len(self.unreadable) > 20:
                lines.append(f"    and {len(self.unreadable) - 20:,} more")
        if self.alone:
            row("partners", f"{len(self.alone):,} files have none: training needs --skip-bad to go on without them")
            lines += [f"    {file}" for file in self.alone[:20]]
            if len(self.alone) > 20:
                lines.append(f"    and {len(self.alone) - 20:,} more")
        lines += [f"  note        {note}" for note in self.notes]
        if self.plan:
            lines += ["", *(f"  {line}" for line in self.plan)]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything but the picture as JSON values."""
        return {name: value for name, value in vars(self).items() if name != "picture"}

    def save(self, folder: Path | str) -> list[Path]:
        """Write inspection.txt, inspection.json and examples.png; their paths."""
        folder = Path(folder)
        paths = [folder / name for name in ("inspection.txt", "inspection.json", "examples.png")]
        with own_folder(folder, paths):
            with writing_to(paths[0]) as temporary:
                temporary.write_text(self.text() + "\n", encoding="utf-8")
            with writing_to(paths[1]) as temporary:
                temporary.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False), encoding="utf-8")
            with writing_to(paths[2]) as temporary:
                self.picture.save(temporary, format="PNG")
        return paths


def of_data(data: Data) -> Inspection:
    """The inspection of data that are open already."""
    space = data.spaces["x"]
    labels: dict[str, int] = {}
    numbers: dict[str, str] = {}
    for name, values in data.conditions.items():
        here = data.present.get(name, np.ones(len(values), dtype=bool))
        if name != "source" and isinstance(data.spaces.get(name), Categorical):
            counts = np.bincount(values[here, 0], minlength=len(data.label_names))
            labels = dict(zip(data.label_names, counts.tolist(), strict=True))
        elif name not in ("source", NAME, *(one.name for one in data.attributes)):  # a picture, or a map of classes
            numbers[name] = f"{values[here].min():g} to {values[here].max():g}, mean {values[here].mean():g}"
    described = "numbers"
    if isinstance(space, Continuous) and space.levels:
        described = f"{space.levels:,} levels from {space.low:g} to {space.high:g}"
    return Inspection(
        name=data.name,
        source=data.source,
        kind=data.modality.kind,
        examples=len(data.x),
        shape=tuple(space.shape),
        values=described,
        splits={name: len(data.splits[name]) for name in SPLITS},
        labels=labels,
        numbers=numbers,
        columns={**data.facts.get("columns", {}), **{one.name: one.said() for one in data.attributes}},
        attributes=[one.name for one in data.attributes],
        more={name: ", ".join(v) if isinstance(v, list) else str(v) for name, v in data.facts.items() if name in MORE},
        captions=sum(bool(caption) for caption in data.captions or []),
        duplicates=int(data.facts.get("duplicates", 0)),
        unreadable=[(file, reason) for file, reason in data.facts.get("unreadable", [])],
        alone=list(data.facts.get("alone") or []),
        sizes=[(h, w, count) for h, w, count in data.facts.get("sizes", [])],
        different_sizes=int(data.facts.get("different_sizes", 0)),
        modes=dict(data.facts.get("modes", {})),
        notes=list(data.notes),
        hash=data.hash,
        picture=data.modality.picture(data.rows("train", 64 if len(space.grid) else 2000)),
    )
