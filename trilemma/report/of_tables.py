"""What a report shows of tables: how columns go together, in real rows and in made ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from trilemma.metrics.tables import associations
from trilemma.modalities.contract import Data
from trilemma.modalities.table import Table
from trilemma.report.of_series import PAIRED, plain_numbers
from trilemma.report.series_figures import card, heat
from trilemma.report.summary import Summary

ROWS = 5000  # that strengths are taken from


def drawn(data: Data, x: np.ndarray) -> dict[str, Any] | None:
    """Names of the columns and how strongly each two go together in raw rows (n, ...); None for other data."""
    if not isinstance(data.modality, Table):
        return None
    cells = data.modality.cells(x[:ROWS])
    names = [column.name for column in data.modality.columns if column.learned][:PAIRED]
    return {"columns": names, "together": plain_numbers(associations(cells.values[:, :PAIRED], cells.numbers[:PAIRED]))}


def table_figures(results: dict[str, Any], everything: list[Summary]) -> list[dict[str, Any]]:
    """A matrix for the unseen rows and one for each row of the comparison; [] for other data and for one column."""
    real = results.get("table")
    if not real or len(real["columns"]) < 2:
        return []
    winner = (results.get("answer") or {}).get("winner")
    entry = {"name": "Real", "style": "family-floor", "note": "unseen", "winner": False}
    made = [{**entry, "drawing": heat(real["together"], real["columns"], title="How columns of real rows go together")}]
    rank = {"model": 0, "included": 1, "baseline": 2, "floor": 3}
    shown = [(one, row["table"]) for one in everything for row in one.done[:1] if row.get("table")]
    for one, own in sorted((pair for pair in shown if pair[0].kind in rank), key=lambda pair: rank[pair[0].kind]):
        if one.kind != "baseline" or one.honest:
            drawing = heat(own["together"], own["columns"], title=f"How columns of {one.name} go together")
            made.append({**card(one, winner, "trends"), "drawing": drawing})
    return made
