"""Strange rows of a table: how badly each cell goes with the others, held against rows that are known to be normal.

Of each column the model's surprise becomes the share of normal rows that surprise it as much; -log of it adds up over
columns, squared, so that one very strange cell outweighs many a little odd. A row raises an alarm where no more than
`false_alarms` of the normal rows are as strange: conformal prediction (Vovk et al. 2005), which holds for any model as
long as normal rows come as they came before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trilemma.batches import Arrays
from trilemma.errors import InputError
from trilemma.modalities.contract import Data, Gaps, Modality
from trilemma.modalities.table import Table
from trilemma.models.contract import Surprises
from trilemma.tasks.conformal import apart_from, check_enough, check_share, p_values, strangeness
from trilemma.tasks.tables import PART, table_of
from trilemma.training.sampling import Sampler

WRITTEN = ("anomaly", "p_value", "alarm", "because")  # columns of the answer
NAMED = 3  # columns that are blamed at most,
BLAMED = 0.1  # each for at least this part of what is strange


@dataclass
class Anomalies:
    """What was found in rows (n): how strange each is, and why."""

    table: Table
    rows: Gaps
    scores: np.ndarray  # (n,)
    p_values: np.ndarray  # (n,) share of normal rows at least as strange
    parts: np.ndarray  # (n, columns and rules) of the score, squared
    names: list[str]
    false_alarms: float
    normal: int  # rows that they were held against

    @property
    def alarms(self) -> np.ndarray:
        return self.p_values <= self.false_alarms

    def columns(self) -> dict[str, np.ndarray]:
        """As columns of a table."""
        return {
            "anomaly": self.scores.round(3),
            "p_value": self.p_values.round(5),
            "alarm": self.alarms,
            "because": blamed(self.names, self.parts, self.alarms),
        }

    def frame(self, out: Path | None = None) -> Any:
        """The rows as they were read, with these columns: a data frame, or written to a file."""
        return self.table.beside(self.rows, self.columns(), out)

    def said(self) -> str:
        count = int(self.alarms.sum())
        return (
            f"{count:,} of {len(self.scores):,} rows raise an alarm ({count / max(len(self.scores), 1):.1%}); of "
            f"normal rows {self.false_alarms:.2%} would, by {self.normal:,} that the model had not seen"
        )


def blamed(names: list[str], parts: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    """(n,) texts: of rows that raise an alarm the columns with the largest parts (n, columns) of what is strange."""
    because = []
    for alarm, own in zip(alarms, parts, strict=True):
        shares = own / max(own.sum(), 1e-12)
        order: list[int] = np.argsort(-shares)[:NAMED].tolist() if alarm else []
        because.append("; ".join(f"{names[i]} {shares[i]:.0%}" for i in order if shares[i] >= BLAMED))
    return np.array(because, dtype=object)


def detect(
    sampler: Sampler, modality: Modality, source: Any, *, false_alarms: float, normal: Any, seed: int
) -> Anomalies:
    """How strange the rows of a table are, held against normal rows: a table, or rows that were read.

    Raises:
        InputError: other data than tables; too few normal rows for so few false alarms.
    """
    table = table_of(modality, "detect")
    check_share(false_alarms, "rows")
    rows, known = table.gaps(source), normal if isinstance(normal, Gaps) else table.gaps(normal)
    taken = next((each.name for each in rows.origin if each.name in WRITTEN), None)
    if taken is not None:
        raise InputError(f"detect: column {taken!r} is what this would write; give the table without it or rename it")
    count = len(known.x)
    check_enough(count, false_alarms, "rows")
    chance, given = 1 / (count + 1), [place for place, column in enumerate(table.columns) if column.learned]
    parts = []
    found, ruler = surprises(sampler, rows, seed), surprises(sampler, known, seed)
    for gaps, own, itself in ((known, ruler, True), (rows, found, False)):
        whole = table.outside(gaps, chance, known)
        seen = strangeness(own, ruler, itself=itself, known=known.observed)
        whole[:, given] = np.maximum(whole[:, given], seen * gaps.observed)
        parts.append(whole**2)
    # A rule between columns that a row breaks is as strange as a value that was never seen.
    rules = [table.broken(gaps.origin) for gaps in (known, rows)]
    worst = (1.5 * np.log(chance)) ** 2
    parts = [
        np.column_stack([part, *(worst * row for row in own.values())]) for part, own in zip(parts, rules, strict=True)
    ]
    scores = [part.sum(1) ** 0.5 for part in parts]
    names = [*(column.name for column in table.columns), *(f"rule {rule}" for rule in rules[0])]
    return Anomalies(table, rows, scores[1], p_values(scores[1], scores[0]), parts[1], names, false_alarms, count)


def unseen(modality: Modality, data: Data) -> Gaps:
    """The rows of a run's data that it has not learned from, as they were read: what new rows are held against must be
    as far beyond what was learned, and as odd, as they would be."""
    gaps, places = table_of(modality, "detect").gaps(data.source), apart_from(data)
    origin = [replace(each, codes=each.codes[places]) for each in gaps.origin]
    return Gaps(gaps.x[places], gaps.observed[places], origin)


@torch.no_grad()
def surprises(sampler: Sampler, gaps: Gaps, seed: int) -> np.ndarray:
    """(n, learned columns) by the model."""
    model, arrays, made = sampler.model, Arrays(gaps.x, observed=gaps.observed), []
    assert isinstance(model, Surprises)
    model.eval()
    for first in range(0, len(gaps.x), PART):
        places = np.arange(first, min(first + PART, len(gaps.x)))
        batch = arrays.gather(places, seed=seed, device=str(sampler.engine.device))
        with sampler.engine.autocast():
            made.append(model.surprise(batch).float().cpu().numpy())
    return np.concatenate(made).astype(np.float64)
