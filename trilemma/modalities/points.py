"""Points: rows of a few numbers. Toy sets of known density, and (N, D) arrays from memory, .npy or .npz files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from trilemma.errors import InputError
from trilemma.modalities import arrays, attributes, splits, toys
from trilemma.modalities.contract import Data, Modality, Opening, alone_and_plain
from trilemma.modalities.labels import columns_of
from trilemma.modalities.writing import own_folder, writing_to
from trilemma.spaces import Space, fit_continuous

WIDEST = 256  # numbers in a row; more are a table or images that lost their shape


class Points(Modality):
    """(N, D) floats. Pictures show the first two coordinates in one frame for the whole run."""

    kind = "points"
    names = tuple(toys.TOYS)

    def __init__(self, low: list[float] | None = None, high: list[float] | None = None):
        self.low, self.high = low, high  # the frame of pictures, first two coordinates

    @classmethod
    def claims(cls, source: Any) -> bool:
        return arrays.dimensions(source) == 2

    @classmethod
    def open(cls, source: Any, opening: Opening, *, data2: Any = None) -> Data:
        alone_and_plain("points", opening, data2)
        log_density = centres = None
        notes: list[str] = []
        labels: dict[str, Any] = {}
        if isinstance(source, str) and source in cls.names:
            x, log_density, centres = toys.toy(source)
            name, shown = source, source
            notes.append(f"{len(x):,} points drawn from a density that is known exactly")
        else:
            shown = arrays.shown(source)
            name = Path(shown).stem if isinstance(source, (str, Path)) else "points"
            x, labels = _rows(source, shown)
        digest = splits.digests(x)
        parts, more = splits.cut(digest, shown)
        condition = columns_of(labels, len(x), parts["train"], shown, digest=digest)
        modality = cls(*_frame(x[parts["train"]]))
        data = Data(
            name=name,
            source=shown,
            modality=modality,
            x=x,
            splits=parts,
            spaces={"x": fit_continuous(x, rows=parts["train"]), **condition.spaces},
            hash=splits.content_hash(digest, parts, cls.kind, condition.hashable(digest)),
            conditions=condition.values,
            present=condition.present,
            label_names=condition.label_names,
            attributes=condition.attributes,
            notes=notes + more + condition.notes,
            log_density=log_density,
            centres=centres,
            opening=opening,
            facts={"examples": len(x), "duplicates": splits.duplicates(digest), "numbers": int(x.shape[1])},
        )
        attributes.remember(data)
        return data

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "low": self.low, "high": self.high}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Points:
        return cls(description["low"], description["high"])

    def read(self, source: Any, space: Space, notes: list[str] | None = None) -> tuple[np.ndarray, list[str]]:
        shown = arrays.shown(source)
        if arrays.dimensions(source) == 1:
            source = arrays.to_numpy(source)[None]
        x, _ = _rows(source, shown)
        if x.shape[1:] != space.shape:
            raise InputError(
                f"{shown}: rows of {x.shape[1]} numbers, but the data have {space.shape[0]}; give such rows"
            )
        return x, [f"{row:05d}" for row in range(len(x))]

    def export(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, dtype=np.float32)

    def save(self, x: np.ndarray, out: Path, *, names: list[str] | None = None) -> list[Path]:
        out = Path(out)
        if out.suffix == ".png":
            with writing_to(out) as temporary:
                self.picture(x).save(temporary, format="png")
            return [out]
        if out.suffix != ".npy":
            with own_folder(out, [out / "points.npy"]):
                return self.save(x, out / "points.npy")
        with writing_to(out) as temporary, open(temporary, "wb") as file:
            np.save(file, self.export(x))
        return [out]

    def picture(self, x: np.ndarray, *, columns: int | None = None, reference: np.ndarray | None = None) -> Image.Image:
        size, scale = 512, 2  # drawn at twice the size, so that dots are round
        low, high = self.low, self.high
        if low is None or high is None:
            low, high = _frame(np.asarray(x if reference is None else reference))
        canvas = Image.new("RGB", (size * scale, size * scale), "white")
        draw = ImageDraw.Draw(canvas, "RGBA")
        span = max(b - a for a, b in zip(low, high, strict=True))
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        for rows, colour in ((reference, (150, 150, 150, 150)), (x, (31, 90, 190, 210))):
            if rows is None or len(rows) == 0:
                continue
            radius = min(max(90 / len(rows) ** 0.5, 3.5), 12.0)  # few points must be seen in a small picture, too
            place = _plane(np.asarray(rows, dtype=np.float64))
            place = place[np.isfinite(place).all(1)][:5000]
            across = ((place[:, 0] - middle[0]) / span + 0.5) * size * scale
            down = (0.5 - (place[:, 1] - middle[1]) / span) * size * scale
            for a, b in zip(across, down, strict=True):
                draw.ellipse((a - radius, b - radius, a + radius, b + radius), fill=colour)
        draw.rectangle((0, 0, size * scale - 1, size * scale - 1), outline=(200, 200, 200, 255), width=2)
        return canvas.resize((size, size), Image.Resampling.BOX)


def _plane(x: np.ndarray) -> np.ndarray:
    """The two coordinates that are drawn (M, 2); single numbers lie on a line."""
    return x[:, :2] if x.shape[1] > 1 else np.concatenate([x, np.zeros_like(x)], 1)


def _frame(x: np.ndarray) -> tuple[list[float], list[float]]:
    """Corners of a frame that holds nearly all of x (N, D) with a margin."""
    plane = _plane(np.asarray(x, dtype=np.float64))
    low, high = np.quantile(plane, 0.001, axis=0), np.quantile(plane, 0.999, axis=0)
    margin = 0.1 * max(float((high - low).max()), 1e-6)
    return [float(v - margin) for v in low], [float(v + margin) for v in high]


def _rows(source: Any, shown: str) -> tuple[np.ndarray, dict[str, Any]]:
    """(N, D) float32 and the labels beside it."""
    labels: dict[str, Any] = {}
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        # As `save` writes them into a folder.
        source = arrays.load(path / "points.npy" if (path / "points.npy").is_file() else path)
    if isinstance(source, tuple) and len(source) == 2:
        source = {"x": source[0], "y": source[1]}
    if isinstance(source, Mapping):
        sorted_out = arrays.sort_out(source, shown, wanted=2)
        source, labels = sorted_out.x, sorted_out.columns
    x = arrays.to_numpy(source, shown)
    if x.dtype == object or x.dtype.kind not in "fiub":
        raise InputError(f"{shown}: values of type {x.dtype}, not numbers; give an array of floats")
    if x.ndim != 2 or 0 in x.shape:
        raise InputError(f"{shown}: shape {x.shape}; points need a non-empty (N, D) array")
    if x.shape[1] > WIDEST:
        raise InputError(
            f"{shown}: rows of {x.shape[1]} numbers; points have at most {WIDEST}. "
            "Flattened images? Give them as (N, height, width)"
        )
    arrays.finite(x, shown)
    return np.ascontiguousarray(x, dtype=np.float32), labels
