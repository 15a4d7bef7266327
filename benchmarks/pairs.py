"""The pair sets of the translation benchmarks, laid out as folders of PNG files that any tool reads.

    .venv/bin/python benchmarks/pairs.py DATA OUT [NAME ...]

DATA holds `emoji/emoji64.zip` and `pairs/` (what they are: the list below). Each NAME becomes OUT/NAME/a (sources) and
OUT/NAME/b (targets) with equal file names.

outlines   1,906 outline drawings of OpenMoji -> the emoji in colour, 64 x 64
relief     1,013 elevation maps -> satellite photographs of the Earth, 64 x 64
mask       1,013 masks of land, lakes and ocean -> the same photographs
mri        142 slices of 116 labelled regions -> the T1 image of one head, 96 x 80
styles     1,906 Twemoji -> the same emoji as Noto draws them
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("outlines", "relief", "mask", "mri", "styles")
SEAS = np.array([[20, 40, 90], [120, 160, 80], [60, 110, 200]], np.uint8)  # ocean, land, lake: colours to look at


def emoji(data: Path, first: str, second: str) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    with zipfile.ZipFile(data / "emoji" / "emoji64.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(f"{first}/") and name.endswith(".png"))
        for name in names:
            stem = name.rpartition("/")[2]
            sides = [Image.open(io.BytesIO(archive.read(f"{side}/{stem}"))) for side in (first, second)]
            yield stem.removesuffix(".png"), sides[0], sides[1]


def earth(data: Path, source: str) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    Image.MAX_IMAGE_PIXELS = None
    photo = np.asarray(Image.open(data / "pairs" / "earth_photo.jpg").convert("RGB"))
    if source == "relief":
        given = np.asarray(Image.open(data / "pairs" / "earth_relief.jpg").convert("RGB"))
    else:
        given = SEAS[np.asarray(Image.open(data / "pairs" / "earth_mask.png"))]
    with open(data / "pairs" / "earth_tiles.csv", newline="") as file:
        for row in csv.DictReader(file):
            x, y = int(row["x"]), int(row["y"])
            here = np.s_[y : y + 64, x : x + 64]
            yield f"{y:04d}-{x:04d}", Image.fromarray(given[here]), Image.fromarray(photo[here])


def mri(data: Path) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    held = np.load(data / "pairs" / "mri_slices.npz")
    colours = np.random.default_rng(0).integers(40, 256, (256, 3), dtype=np.uint8)
    colours[0] = 0
    for number, (label, t1) in enumerate(zip(held["label"], held["t1"], strict=True)):
        yield f"{number:03d}", Image.fromarray(colours[label]), Image.fromarray(t1)


def pairs_of(name: str, data: Path) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    if name == "outlines":
        return emoji(data, "openmoji_line", "openmoji")
    if name == "styles":
        return emoji(data, "twemoji", "noto")
    return mri(data) if name == "mri" else earth(data, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=NAMES)
    given = parser.parse_args()
    for name in given.names:
        folders = [given.out / name / side for side in "ab"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        count = 0
        for stem, source, target in pairs_of(name, given.data):
            source.save(folders[0] / f"{stem}.png")
            target.save(folders[1] / f"{stem}.png")
            count += 1
        print(f"{name}: {count:,} pairs in {given.out / name}")


if __name__ == "__main__":
    main()
