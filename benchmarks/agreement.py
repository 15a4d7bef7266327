"""Do the metrics agree with other people's code? The same features through both; the largest relative differences.

The other packages stay out of this project's environment (torch-fidelity and torchmetrics name a torch of their own):

    python3 -m venv PEERS
    PEERS/bin/pip install --no-deps prdc torch-fidelity torchmetrics lightning-utilities tqdm vendi-score
    PYTHONPATH=PEERS/lib/python3.11/site-packages .venv/bin/python benchmarks/agreement.py

alpha-precision is held against synthcity's method where `--synthcity FILE` gives its eval_statistical.py: the method is
taken out of the file, because the package needs a hundred others. It sums over levels (here 3,001 instead of its 30)
and interpolates between order statistics: its difference is absolute, and of the order of one over the count.
"""

from __future__ import annotations

import argparse
import ast
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from trilemma.metrics.classifier import area_under_curve
from trilemma.metrics.fidelity import frechet_distance, kernel_distance
from trilemma.metrics.neighbours import precision_recall_density_coverage
from trilemma.metrics.variety import alpha_precision_beta_recall, vendi_score


def sets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of sets by name: plain, rectified as a network's, repeats, fewer rows than dimensions, a class missing."""
    draw = np.random.default_rng(0).normal
    mixing = draw(size=(32, 32)) / 32**0.5
    plain = draw(size=(600, 32)) @ mixing, 1.2 * draw(size=(500, 32)) @ mixing + 0.2
    few = draw(size=(60, 128)), 0.8 * draw(size=(50, 128)) + 0.1
    classes = draw(size=(5, 16)) * 3
    labels = np.arange(600) % 5
    spread = classes[labels] + draw(size=(600, 16))
    return {
        "plain": plain,
        "rectified": (np.maximum(plain[0], 0), np.maximum(plain[1], 0)),
        "repeats": (np.repeat(plain[0][:200], 2, 0), np.repeat(plain[1][:150], 2, 0)),
        "fewer rows than dimensions": few,
        "a class missing": (spread, (classes[labels] + draw(size=(600, 16)))[labels < 4]),
    }


def frechet(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, float, float]]:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    ours = frechet_distance(x, y).value
    statistics = [fid_features_to_statistics(torch.from_numpy(each)) for each in (x, y)]
    yield "frechet, torch-fidelity", ours, fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    moments = [torch.from_numpy(m) for each in (x, y) for m in (each.mean(0), np.cov(each, rowvar=False))]
    yield "frechet, torchmetrics", ours, float(_compute_fid(*moments))


def kernel(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, float, float]]:
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torchmetrics.image.kid import poly_mmd

    count = min(len(x), len(y))  # both packages take equal counts only; one subset that is all of them
    x, y = x[:count], y[:count]
    ours, tensors = kernel_distance(x, y).value, (torch.from_numpy(x), torch.from_numpy(y))
    theirs = kid_features_to_metric(*tensors, kid_subsets=1, kid_subset_size=count, verbose=False)
    yield "kernel, torch-fidelity", ours, theirs["kernel_inception_distance_mean"]
    yield "kernel, torchmetrics", ours, float(poly_mmd(*tensors))


def neighbours(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, float, float]]:
    from prdc import compute_prdc
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    ours = {name: measure.value for name, measure in precision_recall_density_coverage(x, y).items()}
    for nearest, names in ((3, ("precision", "recall")), (5, ("density", "coverage"))):
        theirs = compute_prdc(x, y, nearest_k=nearest)
        for name in names:
            yield f"{name}, prdc", ours[name], theirs[name]
    # torch-fidelity counts a point on the border as inside, prdc and the papers do not: with repeats they differ.
    if len(np.unique(x, axis=0)) == len(x):
        precision, recall = calculate_precision_recall_full(torch.from_numpy(y), torch.from_numpy(x), 3)
        yield "precision, torch-fidelity", ours["precision"], precision
        yield "recall, torch-fidelity", ours["recall"], recall


def vendi(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, float, float]]:
    if not hasattr(scipy.sparse, "csr"):  # a module that the package names and SciPy has taken away
        scipy.sparse.csr = scipy.sparse  # type: ignore[attr-defined]
    from vendi_score import vendi as package

    ours = vendi_score(x, y).value
    yield "vendi, vendi-score (kernel)", ours, float(package.score_X(y - x.mean(0)))
    yield "vendi, vendi-score (dual)", ours, float(package.score_dual(y - x.mean(0)))


def area(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, float, float]]:
    side, scores = np.repeat([1, 0], [len(x), len(y)]), np.round(np.concatenate([x[:, 0], y[:, 0]]), 1)
    yield (
        "area under the curve, scikit-learn",
        area_under_curve(scores[side == 1], scores[side == 0])[0],
        float(roc_auc_score(side, scores)),
    )


def supports(x: np.ndarray, y: np.ndarray, file: Path) -> Iterator[tuple[str, float, float]]:
    """synthcity's beta-support is that of the samples found, the paper's (and ours) that of all: alpha only."""
    tree = ast.parse(file.read_text())
    kind = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "AlphaPrecision")
    method = next(node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "metrics")
    method.decorator_list, method.returns = [], None
    for argument in method.args.args:
        argument.annotation = None
    for node in ast.walk(method):  # a grid as fine as the counts: ours integrates exactly
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "n_steps":
            node.value = ast.Constant(3001)
    names: dict[str, Any] = {"np": np, "NearestNeighbors": NearestNeighbors}
    exec(textwrap.dedent(ast.unparse(method)), names)
    count = min(len(x), len(y))
    x, y = x[:count], y[:count]
    yield (
        "alpha-precision, synthcity",
        alpha_precision_beta_recall(x, y)["alpha_precision"].value,
        float(names["metrics"](None, x, y)[3]),
    )


def without_pictures() -> None:
    """Let torch-fidelity load without torchvision, which its networks need and what is called here does not."""
    from importlib.abc import Loader, MetaPathFinder
    from importlib.machinery import ModuleSpec
    from unittest.mock import MagicMock

    class Nothing(MetaPathFinder, Loader):
        def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
            return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None

        def create_module(self, spec: ModuleSpec) -> Any:
            module = MagicMock(__path__=[], __spec__=spec)
            module.__name__ = spec.name
            return module

        def exec_module(self, module: Any) -> None:
            pass

    sys.meta_path.append(Nothing())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthcity", type=Path)
    arguments = parser.parse_args()
    without_pictures()
    worst: dict[str, tuple[float, str, float, float]] = {}
    for kind, (x, y) in sets().items():
        found = [*frechet(x, y), *kernel(x, y), *neighbours(x, y), *vendi(x, y), *area(x, y)]
        if arguments.synthcity:
            found += supports(x, y, arguments.synthcity)
        for name, ours, theirs in found:
            difference = abs(ours - theirs) / max(abs(theirs), 1.0 if "synthcity" in name else 1e-12)
            if name not in worst or difference > worst[name][0]:
                worst[name] = difference, kind, ours, theirs
    print("| metric, other code | largest relative difference | on | ours | theirs |\n|---|---|---|---|---|")
    for name, (difference, kind, ours, theirs) in worst.items():
        print(f"| {name} | {difference:.1e} | {kind} | {ours:.8g} | {theirs:.8g} |")


if __name__ == "__main__":
    main()
