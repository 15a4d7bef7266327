"""`inspect`: what is in the data, and what a comparison of the families on it would train and take."""

from __future__ import annotations

from typing import Any

from trilemma.config import parse_budget
from trilemma.modalities.contract import Data, opening_of
from trilemma.modalities.door import open_data
from trilemma.modalities.inspection import Inspection, of_data
from trilemma.models.contract import find
from trilemma.report.asked import budget_for_each, models_for
from trilemma.training.opening import seen_by
from trilemma.training.plan import choose_size


def inspect(
    source: Any,
    data2: Any = None,
    *,
    kind: str | None = None,
    resolution: Any = None,
    settings: dict[str, Any] | None = None,
) -> Inspection:
    """Counts, sizes, labels, duplicates and bad files of the source, and the outlook on `compare`'s defaults.

    settings: those of the data, {'data.fit': 'pad'}.
    """
    opening = opening_of(settings, kind, resolution, True, alone=True)
    data = open_data(source, opening=opening, data2=data2)
    found = of_data(data)
    found.plan += outlook(data)
    return found


def outlook(data: Data) -> list[str]:
    """What `trilemma compare` with its defaults would do with this data, in words."""
    models = models_for(data)
    each = budget_for_each(data, None, None, len(models))
    unit, amount, _ = parse_budget(each)
    sizes = list(dict.fromkeys(choose_size(seen_by(name, data), unit, amount, find(name)[0]) for name in models))
    total = amount * len(models) / 60
    shape = " x ".join(map(str, data.x.shape[1:]))
    return [
        f"trilemma compare would train {', '.join(models)}",
        f"at size {' or '.join(sizes)} on {len(data.splits['train']):,} examples of {shape}, "
        f"{each} each, {total:.0f} min in total;",
        "--budget changes that, and trilemma train --dry-run tells it exactly for one model",
    ]
