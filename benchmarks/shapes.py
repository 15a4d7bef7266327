"""Coloured shapes with captions of known truth: do pictures show what was asked for?

    python benchmarks/shapes.py make DATA                          # DATA/pictures, DATA/seen.txt, DATA/held_out.txt
    python benchmarks/shapes.py train DATA OUT --budget 6m         # OUT/diffusion-text, ... one after the other
    python benchmarks/shapes.py judge DATA RUN [...]               # attribute accuracy, alignment, diversity
    python benchmarks/shapes.py levels DATA RUN [...]              # at which levels of noise captions are heard

A caption says "two small red circles above a blue square": colour (6), shape (4), size (2) and count (1 to 3) of some
things, and of half the pictures their relation (4) to one thing of another colour or shape. Four of the 24 pairs of
colour and shape are never in a training picture: prompts with one of them are the held-out ones.

The judge has no network: it takes pictures apart into connected patches of one colour, and compares each with drawings
of the four shapes of its own area. What it says of real pictures is the first row of every table, what it says of real
pictures under other pictures' captions the second. Everything is a function of the seed. Rows are written when they
are done, and those that are there are not done again.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 24
COLOURS = {
    "red": (230, 40, 40), "green": (40, 190, 60), "blue": (50, 90, 245),
    "yellow": (240, 220, 40), "purple": (175, 50, 220), "white": (240, 240, 240),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross")
AREAS = {"small": 16.0, "large": 40.0}  # square pixels
RELATIONS = {"above": (0, -1), "below": (0, 1), "left of": (-1, 0), "right of": (1, 0)}  # of the first things
COUNTS = ("a", "two", "three")
MOST = {"small": 3, "large": 2}  # of one kind
HELD = {("red", "triangle"), ("blue", "circle"), ("green", "cross"), ("yellow", "square")}
FINE = 4  # drawn points a pixel and axis
GAP = 2.0  # pixels between two things
SEEN = 0.5  # of a thing's own colour: what counts as covered
SPECK = 4.0  # square pixels: less is dirt
APART = 2.0  # pixels by which one is above another
MODELS = ("diffusion:text", "diffusion:clip-guided", "unclip", "gan:text")
ATTRIBUTES = ("colour", "shape", "size", "count", "relation", "all")


@dataclass(frozen=True)
class Scene:
    """What a caption says."""

    count: int
    size: str
    colour: str
    shape: str
    relation: str = ""  # to one thing of these, of any size; '': there is none
    other_colour: str = ""
    other_shape: str = ""

    def __str__(self) -> str:
        shape = self.shape if self.count == 1 else self.shape + ("es" if self.shape.endswith("s") else "s")
        text = f"{COUNTS[self.count - 1]} {self.size} {self.colour} {shape}"
        return f"{text} {self.relation} a {self.other_colour} {self.other_shape}" if self.relation else text

    @classmethod
    def read(cls, text: str) -> Scene:
        """Of a caption."""
        found = next((word for word in RELATIONS if f" {word} a " in text), "")
        first, _, second = text.partition(f" {found} a ") if found else (text, "", "")
        count, size, colour, shape = first.split()
        shape = next(name for name in SHAPES if shape.startswith(name))
        return cls(COUNTS.index(count) + 1, size, colour, shape, found, *second.split())

    @property
    def held_out(self) -> bool:
        return bool({(self.colour, self.shape), (self.other_colour, self.other_shape)} & HELD)


def any_scene(random: np.random.Generator) -> Scene:
    size = str(random.choice(list(AREAS)))
    count = int(random.integers(1, MOST[size] + 1))
    colour, shape = str(random.choice(list(COLOURS))), str(random.choice(SHAPES))
    if random.random() < 0.5:
        return Scene(count, size, colour, shape)
    while True:
        other = str(random.choice(list(COLOURS))), str(random.choice(SHAPES))
        if other != (colour, shape):
            return Scene(count, size, colour, shape, str(random.choice(list(RELATIONS))), *other)


# --- drawing ---


def extent(shape: str, area: float) -> tuple[float, float]:
    """Width and height of a shape of this area."""
    if shape == "circle":
        return (2 * (area / np.pi) ** 0.5,) * 2
    if shape == "square":
        return (area**0.5,) * 2
    if shape == "triangle":  # of equal sides
        side = (4 * area / 3**0.5) ** 0.5
        return side, side * 3**0.5 / 2
    return ((area * 9 / 5) ** 0.5,) * 2  # a cross: five squares


def cover(shape: str, area: float, x: float, y: float) -> np.ndarray:
    """(SIDE, SIDE) how much of each pixel is under a shape whose box has this centre."""
    width, height = extent(shape, area)
    places = (np.arange(SIDE * FINE) + 0.5) / FINE
    dx, dy = np.abs(places - x)[None], (places - y)[:, None]
    if shape == "circle":
        inside = dx**2 + dy**2 <= (width / 2) ** 2
    elif shape == "square":
        inside = (dx <= width / 2) & (np.abs(dy) <= height / 2)
    elif shape == "triangle":
        inside = (np.abs(dy) <= height / 2) & (dx <= (dy / height + 0.5) * width / 2)
    else:
        inside = (np.maximum(dx, np.abs(dy)) <= width / 2) & (np.minimum(dx, np.abs(dy)) <= width / 6)
    return inside.reshape(SIDE, FINE, SIDE, FINE).mean((1, 3))


def row_of(things: int, shape: str, area: float, *, upright: bool, random: np.random.Generator, band: tuple) -> list:
    """Centres of things in a row, at a random place within a band (left, top, right, bottom)."""
    size = extent(shape, area)
    along, across = (1, 0) if upright else (0, 1)
    low, high = (band[0], band[1]), (band[2], band[3])
    length = things * size[along] + (things - 1) * GAP
    free = max(high[along] - low[along] - length, 0.0)
    step = size[along] + GAP + (float(random.uniform(0, free / things)) if things > 1 else 0.0)
    length = step * (things - 1) + size[along]
    start = low[along] + float(random.uniform(0, max(high[along] - low[along] - length, 0.0)))
    centre = low[across] + size[across] / 2
    centre += float(random.uniform(0, max(high[across] - low[across] - size[across], 0.0)))
    spots = [start + size[along] / 2 + number * step for number in range(things)]
    return [(centre, spot) if upright else (spot, centre) for spot in spots]


def related(relation: str, first: list, second: Sequence = ()) -> bool:
    """Are the centres (x, y) of the first things above, below, ... those of the second, more than beside them?"""
    if not relation:
        return True
    (dx, dy), (ax, ay) = np.mean(first, 0) - np.mean(second, 0), RELATIONS[relation]
    return bool(dx * ax + dy * ay > max(APART, abs(dx * ay) + abs(dy * ax)))


def draw(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 3) of whole numbers."""
    picture = np.full((SIDE, SIDE, 3), 0.0) + random.uniform(15, 45)
    end, half = SIDE - 1, SIDE / 2
    halves = {
        "above": (1, 1, end, half - 1), "below": (1, half + 1, end, end),
        "left of": (1, 1, half - 1, end), "right of": (half + 1, 1, end, end), "": (1, 1, end, end),
    }  # fmt: skip
    contrary = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
    upright = scene.relation in ("left of", "right of") or (not scene.relation and bool(random.random() < 0.5))
    groups = [(scene.count, scene.size, scene.colour, scene.shape, halves[scene.relation])]
    if scene.relation:
        size = str(random.choice(list(AREAS)))
        groups.append((1, size, scene.other_colour, scene.other_shape, halves[contrary[scene.relation]]))
    spots: list[list[tuple[float, float]]] = []
    areas = [AREAS[size] * float(random.uniform(0.92, 1.08)) for _, size, *_ in groups]
    while not spots or not related(scene.relation, *spots):  # not also left of it, and more so than above
        spots = [
            row_of(count, shape, area, upright=upright, random=random, band=band)
            for area, (count, _, _, shape, band) in zip(areas, groups, strict=True)
        ]
    for area, places, (_, _, colour, shape, _) in zip(areas, spots, groups, strict=True):
        paint = np.clip(np.array(COLOURS[colour]) + random.uniform(-12, 12, 3), 0, 255)
        for x, y in places:
            alpha = cover(shape, area, x, y)[:, :, None]
            picture = picture * (1 - alpha) + paint * alpha
    return np.clip(np.rint(picture + random.normal(0, 2, picture.shape)), 0, 255).astype(np.uint8)


# --- reading ---


@dataclass(frozen=True)
class Thing:
    """A connected patch of one colour."""

    colour: str
    shape: str
    size: str
    x: float
    y: float


def shape_of(alpha: np.ndarray) -> str:
    """The shape whose drawing of the same area, at the same centre of gravity, differs least."""
    area = float(alpha.sum())
    rows, columns = np.indices(alpha.shape) + 0.5
    x, y = float((alpha * columns).sum() / area), float((alpha * rows).sum() / area)
    wrong = {}
    for shape in SHAPES:
        # A triangle's centre of gravity is a sixth of its height below that of its box.
        lift = extent(shape, area)[1] / 6 if shape == "triangle" else 0.0
        wrong[shape] = float(np.abs(alpha - cover(shape, area, x, y - lift)).sum())
    return min(wrong, key=lambda shape: wrong[shape])


def look(picture: np.ndarray) -> list[Thing]:
    """(SIDE, SIDE, 3) -> the things in it."""
    x = picture.astype(float)
    edge = np.concatenate([x[0], x[-1], x[:, 0], x[:, -1]])
    ground = np.median(edge, 0)
    names, towards = list(COLOURS), np.array(list(COLOURS.values())) - ground
    length = np.linalg.norm(towards, axis=1)
    away = x - ground
    # A pixel at an edge is a mixture of ground and colour: it lies on the line between the two.
    projected = away @ (towards / length[:, None]).T
    best = projected.argmax(2)
    alpha = projected.max(2) / length[best]
    alpha[alpha < 0.12] = 0
    found = []
    for number, colour in enumerate(names):
        own = np.where(best == number, alpha, 0.0)
        patches, count = ndimage.label(own > SEEN)
        for patch in range(1, count + 1):
            core = patches == patch
            near = ndimage.binary_dilation(core, np.ones((3, 3)))  # with its soft edge, in whatever colour that looks
            others = (best != number) & (alpha > SEEN)
            soft = np.where(near & ~others & ((patches == 0) | core), np.minimum(alpha, 1.0), 0.0)
            area = float(soft.sum())
            if core.sum() < SPECK:
                continue
            rows, columns = np.nonzero(core)
            size = "small" if area < (AREAS["small"] * AREAS["large"]) ** 0.5 else "large"
            found.append(Thing(colour, shape_of(soft), size, float(columns.mean()), float(rows.mean())))
    return found


def answers(scene: Scene, things: list[Thing]) -> dict[str, bool]:
    """Which attributes of a caption are right; the things are dealt to its two sides as suits it best.

    Colour, shape and size: of every thing. Count: of both sides, and nothing else is there. Relation: of the two
    sides' centres; left out where the caption has none.
    """
    best: dict[str, bool] = {name: False for name in ATTRIBUTES if name != "relation" or scene.relation}
    if not 1 <= len(things) <= 8:
        return best
    sides = itertools.product((True, False), repeat=len(things)) if scene.relation else [(True,) * len(things)]
    for dealt in sides:
        first = [thing for thing, here in zip(things, dealt, strict=True) if here]
        second = [thing for thing, here in zip(things, dealt, strict=True) if not here]
        if not first or (scene.relation and not second):
            continue
        found = {
            "colour": all(one.colour == scene.colour for one in first)
            and all(one.colour == scene.other_colour for one in second),
            "shape": all(one.shape == scene.shape for one in first)
            and all(one.shape == scene.other_shape for one in second),
            "size": all(one.size == scene.size for one in first),
            "count": len(first) == scene.count and len(second) == bool(scene.relation),
        }
        if scene.relation:
            centres = [[(one.x, one.y) for one in side] for side in (first, second)]
            found["relation"] = related(scene.relation, *centres)
        found["all"] = all(found.values())
        best = max(best, found, key=lambda one: sum(one.values()))
    return best


# --- the set ---


def make(out: Path, *, count: int, prompts: int, seed: int) -> None:
    """Pictures without held-out pairs, and two files of prompts: captions of training pictures, and held-out ones."""
    random = np.random.default_rng(seed)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str]] = []
    while len(rows) < count:
        scene = any_scene(random)
        if scene.held_out:
            continue
        name = f"{len(rows):05d}.png"
        Image.fromarray(draw(scene, random)).save(out / "pictures" / name)
        rows.append((name, str(scene)))
    with (out / "pictures" / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *rows])
    captions = list(dict.fromkeys(text for _, text in rows))
    asked = {"seen": [captions[place] for place in random.permutation(len(captions))[:prompts]], "held_out": []}
    while len(asked["held_out"]) < prompts:
        scene = any_scene(random)
        if scene.held_out and str(scene) not in asked["held_out"]:
            asked["held_out"].append(str(scene))
    for name, texts in asked.items():
        (out / f"{name}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    print(f"{count} pictures with {len(captions)} different captions; {prompts} prompts of each kind")


# --- judging ---


def spread(pictures: np.ndarray) -> float:
    """Mean distance between two pictures (n, SIDE, SIDE, 3): root mean square over elements, 255 is 1."""
    flat = pictures.reshape(len(pictures), -1).astype(float) / 255
    pairs = itertools.combinations(range(len(flat)), 2)
    return float(np.mean([np.sqrt(np.square(flat[a] - flat[b]).mean()) for a, b in pairs]))


def figures(prompts: list[str], pictures: np.ndarray) -> dict[str, float]:
    """Shares of right attributes, and diversity; pictures (prompts, several, SIDE, SIDE, 3)."""
    rows = [
        answers(Scene.read(text), look(one)) for text, several in zip(prompts, pictures, strict=True) for one in several
    ]
    shares = {name: float(np.mean([row[name] for row in rows if name in row])) for name in ATTRIBUTES}
    shares["of those with a relation"] = float(np.mean([row["all"] for row in rows if "relation" in row]))
    return {**shares, "diversity": float(np.mean([spread(several) for several in pictures]))}


def real(prompts: list[str], several: int, *, seed: int, other: bool = False) -> np.ndarray:
    """Fresh real pictures of these captions; `other`: of the next prompt's caption instead."""
    random = np.random.default_rng(seed + 1)
    told = prompts[1:] + prompts[:1] if other else prompts
    return np.stack([np.stack([draw(Scene.read(text), random) for _ in range(several)]) for text in told])


def asked(run: Any, prompts: list[str], several: int, *, seed: int, **options: Any) -> np.ndarray:
    """Samples of a run for many prompts at once; sample i of all prompts has noise of its own."""
    import torch

    from trilemma.batches import Options
    from trilemma.tasks.load import merged
    from trilemma.words import Words

    name, words = next((name, space) for name, space in run.model.spaces.items() if isinstance(space, Words))
    told = np.repeat(words.write(prompts), several, 0)
    parts = []
    with torch.no_grad():
        for first in range(0, len(told), 120):
            index = np.arange(first, min(first + 120, len(told)))
            request = run.sampler.request(seed, index, options=merged(run.options, Options(**options)))
            request.raw[name] = torch.from_numpy(told[index])
            parts.append(run.sampler.array(run.model.sample(request)))
    made = np.concatenate(parts).transpose(0, 2, 3, 1)
    return made.reshape(len(prompts), several, *made.shape[1:])


def sheet(pictures: np.ndarray, file: Path, *, columns: int = 12) -> None:
    """The first pictures of the prompts, two of each side by side, three times as large."""
    two = pictures[: columns * 4 // 2, :2].reshape(-1, SIDE, SIDE, 3)
    rows = [np.concatenate(list(two[i : i + columns]), 1) for i in range(0, len(two), columns)]
    image = Image.fromarray(np.concatenate(rows))
    image.resize((image.width * 3, image.height * 3), Image.Resampling.NEAREST).save(file)


def judge(
    data: Path, runs: list[Path], *, several: int, prompts: int, seed: int, guidances: list[float], extra: dict
) -> None:
    """A row for each run, guidance and kind of prompt, into RUN/shapes.jsonl; real pictures' into DATA/shapes.jsonl."""
    import trilemma as tl

    texts = {
        kind: (data / f"{kind}.txt").read_text(encoding="utf-8").split("\n")[:-1][:prompts]
        for kind in ("seen", "held_out")
    }
    print("| | guidance | prompts | " + " | ".join(ATTRIBUTES) + " | diversity | of real | s each |")
    print("|---" * (len(ATTRIBUTES) + 6) + "|")
    true = {kind: real(prompts, several, seed=seed) for kind, prompts in texts.items()}
    ceiling: dict[str, float] = {}
    for name, other in (("real", False), ("real, other captions", True)):
        for kind, prompts_of in texts.items():
            found = figures(prompts_of, true[kind] if not other else real(prompts_of, several, seed=seed, other=True))
            ceiling.setdefault(kind, found["diversity"])
            show(name, "", kind, found, ceiling[kind], 0.0)
    for place in runs:
        loaded, done = tl.load(place), rows_of(place / "shapes.jsonl")
        strengths: list[float | None] = [None] if place.name.startswith("gan") else [*guidances]
        for strength, kind in itertools.product(strengths, texts):
            options = {"guidance": strength, **extra} if strength is not None else {}
            key = {"options": options, "kind": kind, "several": several, "prompts": prompts, "seed": seed}
            row = next((row for row in done if row["key"] == json.loads(json.dumps(key))), None)
            if row is None:
                begun = time.perf_counter()
                made = asked(loaded, texts[kind], several, seed=seed, **options)
                seconds = (time.perf_counter() - begun) / (len(texts[kind]) * several)
                row = {"key": key, "seconds": seconds, **figures(texts[kind], made)}
                with (place / "shapes.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                sheet(made, place / f"sheet-{kind}-{strength}{''.join(f'-{k}{v}' for k, v in extra.items())}.png")
            show(place.name, f"{strength or ''}", kind, row, ceiling[kind], row["seconds"])


def levels(data: Path, runs: list[Path], *, seed: int, count: int = 200) -> None:
    """Squared error of x_0 on test pictures with their caption, without, and with another one's, by noise level."""
    import torch

    import trilemma as tl
    from trilemma.batches import Request
    from trilemma.maths.noise import Noise
    from trilemma.modalities.door import open_data

    opened = open_data(data / "pictures")
    rows = np.sort(opened.splits["test"])[:count]
    assert opened.captions is not None
    told = [opened.captions[row] for row in rows]
    print("| | s | with | without | another's | without / with | another's / with |\n|---|---|---|---|---|---|---|")
    for place in runs:
        model = tl.load(place).model
        words = model.spaces["caption"]
        captions = torch.from_numpy(words.write(told))
        x = model.space.embed(torch.from_numpy(np.ascontiguousarray(opened.x[rows])))
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        here = {"caption": torch.ones(len(x), dtype=torch.bool)}
        for s in (0.1, 0.3, 1, 2, 3, 5, 8, 12, 20, 40):
            asked_for: tuple[dict[str, Any], ...] = ({"caption": captions}, {}, {"caption": captions.roll(1, 0)})
            y, level = x + s * noise, torch.full((len(x),), s)
            with torch.no_grad():
                found = [model.denoise(y, level, Request(Noise(seed, rows), raw, here)) for raw in asked_for]
            own, none, wrong = (float((one - x).square().mean()) for one in found)
            print(f"| {place} | {s} | {own:.4f} | {none:.4f} | {wrong:.4f} | {none / own:.2f} | {wrong / own:.2f} |")


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def show(name: str, strength: str, kind: str, row: dict[str, Any], diversity: float, seconds: float) -> None:
    shares = " | ".join(f"{row[attribute]:.2f}" for attribute in ATTRIBUTES)
    each = f"{seconds:.3f}" if seconds else ""
    print(
        f"| {name} | {strength} | {kind.replace('_', ' ')} | {shares} | {row['diversity']:.3f} | "
        f"{row['diversity'] / diversity:.2f} | {each} |",
        flush=True,
    )


def train(
    data: Path, out: Path, *, budget: str, models: list[str], seed: int, settings: dict[str, Any], start: Path | None
) -> None:
    """One after the other; a run that is there goes on, one that is done is left."""
    import trilemma as tl

    # All of the budget for training: what is judged here says nothing by Frechet distances.
    plain = {"training.dtype": "float32", "training.threads": 1}
    plain |= {"training.previews": 1, "training.choose_samples": 0}
    for model in models:
        place, begun = out / model.replace(":", "-"), time.perf_counter()
        tl.train(
            data / "pictures", model=model, out=place, budget=budget, seed=seed, start=start,
            settings={**plain, **settings},
        )  # fmt: skip
        print(f"{model}: {time.perf_counter() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "train", "judge", "levels"))
    parser.add_argument("data", type=Path)
    parser.add_argument("places", type=Path, nargs="*", metavar="OUT | RUN")
    parser.add_argument("--count", type=int, default=6000, help="pictures that are made")
    parser.add_argument("--prompts", type=int, default=120, help="of each kind: that are written, or judged")
    parser.add_argument("--several", type=int, default=4, help="samples of a prompt")
    parser.add_argument("--budget", default="6m")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--guidance", default="1,2,3,5")
    parser.add_argument("--interval", help="LOW,HIGH of noise levels in which guidance acts, instead of the run's own")
    parser.add_argument("--steps", type=int, help="of the sampler, instead of the run's own")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--start", type=Path, help="a run whose weights to begin with")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_intermixed_args()
    if given.what == "make":
        make(given.data, count=given.count, prompts=given.prompts, seed=given.seed)
    elif given.what == "train":
        from trilemma.config import parse_value

        settings = {name: parse_value(value) for name, _, value in (one.partition("=") for one in given.set)}
        (out,) = given.places
        train(
            given.data, out, budget=given.budget, models=given.models.split(","), seed=given.seed, settings=settings,
            start=given.start,
        )  # fmt: skip
    elif given.what == "levels":
        levels(given.data, given.places, seed=given.seed)
    else:
        extra: dict[str, Any] = {} if given.steps is None else {"steps": given.steps}
        if given.interval:
            extra["interval"] = tuple(float(level) for level in given.interval.split(","))
        guidances = [float(one) for one in given.guidance.split(",")]
        judge(
            given.data, given.places, several=given.several, prompts=given.prompts, seed=given.seed,
            guidances=guidances, extra=extra,
        )  # fmt: skip


if __name__ == "__main__":
    main()
