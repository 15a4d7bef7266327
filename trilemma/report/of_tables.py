"""What a page draws of tables: how strongly columns go together."""

from __future__ import annotations

from typing import Any

import numpy as np

from trilemma.metrics.tables import associations
from trilemma.modalities.contract import Data
from trilemma.modalities.table import Table
from trilemma.report.of_series import PAIRED, plain_numbers

ROWS = 5000  # that strengths are taken from


def drawn(data: Data, x: np.ndarray) -> dict[str, Any] | None:
    """Names of the columns and how strongly each two go together in raw rows (n, ...); None for other data."""
    if not isinstance(data.modality, Table):
        return None
    cells = data.modality.cells(x[:ROWS])
    names = [column.name for column in data.modality.columns if column.learned][:PAIRED]
    return {"columns": names, "together": plain_numbers(associations(cells.values[:, :PAIRED], cells.numbers[:PAIRED]))}
