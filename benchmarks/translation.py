"""Translations of any origin beside the hidden partners: runs of ours, folders of another tool, what needs no model.

    .venv/bin/python benchmarks/translation.py split A B OUT           # OUT/train/{a,b} and OUT/test/{a,b}, for peers
    .venv/bin/python benchmarks/translation.py judge A B NAME=RUN|FOLDER [...]

A and B are folders of pairs (`benchmarks/pairs.py` lays some out). A folder holds a picture for each of OUT/test/a,
named alike. The measures are those of `trilemma compare A B`, by the in-domain network that measures: distance to the
partner (1: that of two unrelated targets), Frechet and kernel distance to the targets as a set, structure kept, PSNR,
SSIM.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import trilemma as tl
from trilemma.metrics.fidelity import frechet_distance, kernel_distance
from trilemma.modalities.contract import Data
from trilemma.modalities.door import open_data
from trilemma.report.of_translation import TranslationRuler
from trilemma.training.features import feature_network


def split(data: Data, out: Path) -> None:
    """Both sides of train and test as PNG files, numbered in the order of the splits."""
    for name in ("train", "test"):
        sources = data.sources(name)
        assert sources is not None
        names = [f"{number:05d}" for number in range(len(sources))]
        for side, x in (("a", sources[np.arange(len(sources))]), ("b", data.rows(name))):
            data.modality.save(x, out / name / side, names=names[: len(x)])


def outputs(data: Data, given: str) -> tuple[np.ndarray, float]:
    """Raw outputs for the test sources in their order, and the seconds that one took; of a folder 0."""
    sources = data.sources("test")
    assert sources is not None
    if (Path(given) / "config.json").is_file():
        run, begun = tl.load(given), time.perf_counter()
        made = run.translate(data.modality.export(sources[np.arange(len(sources))]), raw=True)
        return np.asarray(made), (time.perf_counter() - begun) / len(sources)
    x, names = data.modality.read(given, data.spaces["x"])
    assert len(x) == len(sources), f"{given}: {len(x)} outputs for {len(sources)} sources"
    return x[np.argsort(names)], 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("split", "judge"))
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("rest", nargs="+", metavar="OUT | NAME=RUN|FOLDER")
    parser.add_argument("--resolution", help="as in training")
    given = parser.parse_args()
    data = open_data(given.a, data2=given.b, resolution=given.resolution)
    if given.what == "split":
        split(data, Path(given.rest[0]))
        return
    network = feature_network(data, "measure")
    ruler = TranslationRuler(data, network, len(data.splits["test"]))
    reference, targets = network(data.rows("test")), data.rows("test")
    train = data.sources("train")
    assert train is not None
    rows = {"did nothing": ruler.sources, "mean": np.broadcast_to(data.rows("train").mean(0), targets.shape)}
    near = [int(np.square(train[:].astype(np.float32) - one).mean((1, 2, 3)).argmin()) for one in ruler.sources]
    rows["nearest"] = data.rows("train")[near]
    print("| | partner | Frechet | kernel | structure | PSNR | SSIM | s each |\n|---|---|---|---|---|---|---|---|")
    for name in (*rows, *given.rest):
        name, _, place = name.partition("=")
        x, seconds = outputs(data, place) if place else (np.asarray(rows[name]), 0.0)
        found = ruler.measure(x)
        made = network(x)
        figures = [f"{found[key].value:.3f}" for key in ("perceptual",)]
        figures += [f"{frechet_distance(reference, made).value:.3f}"]
        figures += [f"{kernel_distance(reference, made).value:.2f}"]
        figures += [f"{found[key].value:.{digits}f}" for key, digits in (("structure", 2), ("psnr", 1), ("ssim", 3))]
        print(f"| {name} | {' | '.join(figures)} | {f'{seconds:.4f}' if place and seconds else ''} |", flush=True)


if __name__ == "__main__":
    main()
