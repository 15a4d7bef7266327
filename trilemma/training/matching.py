"""Examples and captions in the common space of a model that matches them: for previews, choices, tasks and measures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trilemma.batches import Arrays, Batch, Options
from trilemma.errors import InputError
from trilemma.maths.losses import matching_softmax
from trilemma.metrics.matching import found_among
from trilemma.modalities.contract import Data
from trilemma.models.contract import Matches, Model
from trilemma.training.average import usual
from trilemma.training.loop import Loop
from trilemma.training.run import Run
from trilemma.words import Words

BATCH = 500
MOST = 2000  # examples of the choose split by which an average of the weights is chosen


def told(model: Model) -> tuple[str, Words]:
    """The name and the Space of the captions that a model has learned from."""
    found = next(((name, space) for name, space in model.spaces.items() if isinstance(space, Words)), None)
    if found is None:
        raise InputError("this model has not learned from captions")
    return found


def _of_examples(model: Model, batches: Iterator[Batch]) -> np.ndarray:
    assert isinstance(model, Matches)
    parts = []
    for batch in batches:
        parts.append(model.images(batch.embedded(model.space)).float().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def vectors(model: Model, x: np.ndarray, *, device: torch.device | str = "cpu") -> np.ndarray:
    """(n, E) unit vectors of raw examples (n, channels, *grid)."""
    return _of_examples(model, Arrays(x).batches(BATCH, device=str(device)))


@torch.no_grad()
def vectors_of_texts(model: Model, texts: list[str], *, device: torch.device | str = "cpu") -> np.ndarray:
    """(n, E) unit vectors of texts; equal ones are read once."""
    assert isinstance(model, Matches)
    _, space = told(model)
    distinct, back = np.unique(np.array(texts, dtype=object), return_inverse=True)
    raw, parts = torch.from_numpy(space.write(list(distinct))), []
    for start in range(0, len(raw), BATCH):
        parts.append(model.texts(raw[start : start + BATCH].to(device)).float().cpu().numpy())
    return np.concatenate(parts)[back]


@torch.no_grad()
def _found(model: Model, data: Data, device: torch.device | str) -> dict[str, float]:
    """How well examples of the choose split and their captions find each other: shares, and the mean cosine."""
    assert isinstance(model, Matches)
    name, _ = told(model)
    rows = data.splits["choose"][:MOST]
    rows = rows[np.asarray(data.present[name])[rows]] if name in data.present else rows
    if len(rows) < 2:
        return {}
    captions = np.asarray(data.conditions[name])[rows]
    read = torch.cat([model.texts(part.to(device)) for part in torch.from_numpy(captions).split(BATCH)])
    seen = vectors(model, np.asarray(data.x[rows]), device=device)
    cosines = seen @ read.float().cpu().numpy().T
    _, kinds = np.unique(captions[:, 0], axis=0, return_inverse=True)
    loss = float(_surprise(torch.from_numpy(cosines) * float(model.scale), torch.from_numpy(kinds.reshape(-1))))
    both = [found_among(each, kinds.reshape(-1), most=5).value for each in (cosines, cosines.T)]
    return {"found@5": float(np.mean(both)), "surprise": loss}


def _surprise(logits: Tensor, kinds: Tensor) -> Tensor:
    """Cross-entropy of finding one's own, both ways: the loss of the split as one batch, nats."""
    same = kinds.unsqueeze(0) == kinds.unsqueeze(1)
    return matching_softmax(logits, same, torch.ones(len(kinds), dtype=torch.bool)).mean()


class Found:
    """The preview of a model that makes no samples: how often captions find their examples, at a few moments."""

    def __init__(self, run: Run, data: Data, *, moments: int, average: str | None):
        self.run, self.data, self.average = run, data, average
        self.moments, self.seconds = [(i + 1) / moments for i in range(moments)], 0.0

    def due(self, seen: int, batch: int, total: int) -> bool:
        """Did this step of `batch` examples pass one of the moments?"""
        return any(seen - batch < moment * total <= seen for moment in self.moments)

    def show(self, loop: Any) -> list[dict[str, Any]]:
        """A line in stats.jsonl; no events of health."""
        start = time.monotonic()
        with loop.averages.applied(loop.model, self.average):
            loop.model.eval()
            found = _found(loop.model, self.data, loop.engine.device)
        self.seconds += time.monotonic() - start
        self.run.log({"event": "preview", "seen": loop.seen, "step": loop.step, **found})
        return []


def best_average(loop: Loop, data: Data) -> tuple[str | None, Options, dict[str, Any]]:
    """(average, options, what was tried): the average whose vectors of the choose split go together best."""
    keys = list(loop.averages.exponents)
    tried: list[dict[str, Any]] = []
    for key in keys:
        with loop.averages.applied(loop.model, key):
            loop.model.eval()
            tried.append({"average": key, **_found(loop.model, data, loop.engine.device)})
    if not tried or "found@5" not in tried[0]:
        shown = usual(loop.training.averages, loop.model.average)
        return shown, Options(), {"reason": "too few examples with captions to choose by: defaults taken"}
    best = max(tried, key=lambda row: (row["found@5"], -row["surprise"]))
    return best["average"], Options(), {"samples": min(len(data.splits["choose"]), MOST), "tried": tried}
