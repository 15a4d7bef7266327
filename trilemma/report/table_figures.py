"""What a report shows of tables: how columns go together, in real rows and in made ones."""

from __future__ import annotations

from typing import Any

from trilemma.report.series_figures import card, heat
from trilemma.report.summary import Summary


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
