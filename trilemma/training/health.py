"""What can go wrong in training, found from numbers that every model logs, and named in plain words.

Nothing here knows a model by name: `critic_real`, `critic_fake`, `penalty`, `kl`, `error` and `error_of_zero` in the
logs and previews are all it reads.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

WORDS = {
    "non-finite": "a loss or gradient was not a finite number",
    "constant": "all samples are (nearly) the same",
    "collapsed": "samples show much less variety than the data (mode collapse)",
    "critic-overpowered": "the critic tells real from fake without error: the generator learns little from it",
    "posterior-collapsed": "the codes carry (almost) no information: the decoder ignores them (posterior collapse)",
    "dead": "the denoiser is no better than an answer that does not look at its input",
}


class Health:
    """Counts events; each kind is reported when it begins, not again while it lasts."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.lasting: set[str] = set()
        self.gaps: deque[float] = deque(maxlen=20)

    def _judge(self, kind: str, wrong: bool, detail: str) -> list[dict[str, Any]]:
        if not wrong:
            self.lasting.discard(kind)
            return []
        if kind in self.lasting:
            return []
        self.lasting.add(kind)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return [{"event": kind, "words": f"{WORDS[kind]}: {detail}"}]

    def of_logs(self, logs: dict[str, float], progress: float) -> list[dict[str, Any]]:
        """Events that show in averaged losses."""
        events = []
        if "critic_real" in logs and "critic_fake" in logs:
            # exp(-gap) is about the share of pairs that the critic still confuses.
            self.gaps.append(logs["critic_real"] - logs["critic_fake"])
            gap = float(np.mean(self.gaps))
            wrong = len(self.gaps) == self.gaps.maxlen and gap > 8 and logs.get("penalty", 0.0) < 1e-3
            wrong = wrong or ("critic-overpowered" in self.lasting and gap > 4)  # one event, not one for each wobble
            events += self._judge("critic-overpowered", wrong, f"mean score gap {gap:.1f}")
        if "kl" in logs and progress > 0.2:
            events += self._judge("posterior-collapsed", logs["kl"] < 0.1, f"KL {logs['kl']:.3f} nats")
        if "error_of_zero" in logs and progress > 0.2:
            share = logs["error"] / max(logs["error_of_zero"], 1e-12)
            events += self._judge("dead", share > 0.99, f"its error is {share:.1%} of the target's own size")
        return events

    def of_samples(self, samples: np.ndarray, real: np.ndarray) -> list[dict[str, Any]]:
        """Events that show in a preview: raw samples and real examples, (n, channels, *grid)."""
        one, two = spread(samples), spread(real)
        if two <= 0:
            return []
        if not math.isfinite(one):
            return self._judge("non-finite", True, "samples are not finite")
        share = one / two
        events = self._judge("constant", share < 0.01, f"distance between samples is {share:.1%} of the data's")
        if not events and "constant" not in self.lasting:
            limit = 0.5 if "collapsed" in self.lasting else 0.4
            events += self._judge("collapsed", share < limit, f"distance between samples is {share:.0%} of the data's")
        return events

    def non_finite(self, detail: str) -> dict[str, Any]:
        self.counts["non-finite"] = self.counts.get("non-finite", 0) + 1
        return {"event": "non-finite", "words": f"{WORDS['non-finite']}: {detail}"}

    def state(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "lasting": sorted(self.lasting), "gaps": list(self.gaps)}

    def load(self, state: dict[str, Any]) -> None:
        self.counts, self.lasting = dict(state["counts"]), set(state["lasting"])
        self.gaps = deque(state["gaps"], maxlen=self.gaps.maxlen)


def spread(x: np.ndarray) -> float:
    """Root mean squared distance between two different examples, per dimension."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    return float(np.sqrt(2 * flat.var(0, ddof=1).mean())) if len(x) > 1 else 0.0
