"""`inspect`: what is in the data, and what a comparison of the families on it would train and take."""

from __future__ import annotations

from typing import Any

from trilemma.config import parse_budget
from trilemma.errors import InputError
from trilemma.modalities.contract import Data, opening_of
from trilemma.modalities.door import open_data
from trilemma.modalities.inspection import Inspection, of_data
from trilemma.report.compare import MODELS, budget_for_each
from trilemma.training.plan import choose_size


def inspect(
    source: Any, *, kind: str | None = None, resolution: Any = None, settings: dict[str, Any] | None = None
) -> Inspection:
    """Counts, sizes, labels, duplicates and bad files of the source, and the outlook on `compare`'s defaults.

    settings: those of the data, {'data.fit': 'pad'}.
    """
    for key in settings or {}:
        if not key.startswith("data."):
            raise InputError(f"setting {key!r}: only settings of the data (data.fit) say something to inspect")
    opening = opening_of(settings, kind, resolution, True)
    data = source if isinstance(source, Data) else open_data(source, opening=opening)
    found = of_data(data)
    found.plan += outlook(data)
    return found


def outlook(data: Data) -> list[str]:
    """What `trilemma compare` with its defaults would do with this data, in words."""
    each = budget_for_each(data, None, None, len(MODELS))
    unit, amount, _ = parse_budget(each)
    size = choose_size(data, unit, amount)
    total = amount * len(MODELS) / 60
    shape = " x ".join(map(str, data.x.shape[1:]))
    return [
        f"trilemma compare would train {', '.join(MODELS)}",
        f"at size {size} on {len(data.splits['train']):,} examples of {shape}, {each} each, {total:.0f} min in total;",
        "--budget changes that, and trilemma train --dry-run tells it exactly for one model",
    ]
