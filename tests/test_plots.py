"""Plots: names that touch nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from trilemma.report.plots import LETTER, Axis, Mark, scatter

Box = tuple[float, float, float, float]


def names(svg: str) -> dict[str, Box]:
    """Boxes of the names of levels and points, as the browser puts them (mean letters, bold ones wider)."""
    found = {}
    for style, attributes, name in re.findall(r'<text class="(note|name[^"]*)" ([^>]*)>([^<]+)</text>', svg):
        x, y = (float(re.findall(rf'{axis}="([-\d.]+)"', attributes)[0]) for axis in "xy")
        wide = len(name) * LETTER * (1.15 if "strong" in style else 1.0)
        left = x - wide if 'text-anchor="end"' in attributes else x
        found[name] = left, y - 9, left + wide, y + 2
    return found


def touches(one: Box, two: Box) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def drawn(marks: list[Mark], levels: list[tuple[float, str]]) -> str:
    return str(scatter(marks, Axis("speed", log=True), Axis("distance", log=True, flip=True), title="t", levels=levels))


@pytest.mark.parametrize("seed", range(20))
def test_names_touch_no_mark_and_no_other_name(seed: int) -> None:
    """Six models and two dashed levels as reports have them, somewhere."""
    generator = np.random.default_rng(seed)
    marks = []
    for name in ("autoencoder", "vae", "gan", "gan:wasserstein", "diffusion", "diffusion:ddpm"):
        x, y = 10 ** generator.uniform(1, 4.5), 10 ** generator.uniform(0, 2)
        marks.append(Mark(name, x, y, "gan", y * 0.9, y * 1.1, strong=name == "autoencoder"))
    # The slowest point lies on a level, where its name would be written first.
    slowest = min(marks, key=lambda mark: mark.x)
    svg = drawn(marks, [(slowest.y, "PCA-Gaussian"), (0.7, "real data")])
    found = names(svg)
    assert len(found) == 8
    points = [tuple(map(float, pair)) for pair in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert len(points) == 6
    for name, box in found.items():
        assert box[0] >= 0 and box[2] <= 465, f"{name} leaves the plot"
        for x, y in points:
            assert not touches(box, (x - 5, y - 5, x + 5, y + 5)), f"{name} touches a mark"
        for other, second in found.items():
            assert other == name or not touches(box, second), f"{name} touches {other}"
