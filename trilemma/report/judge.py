"""`measure`: samples of any origin, on the same protocol as the rows of a comparison; `readvise`: its answer again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilemma.errors import InputError
from trilemma.metrics.protocol import records
from trilemma.modalities.contract import opening_of
from trilemma.modalities.door import open_data
from trilemma.report.advise import advise
from trilemma.report.baselines import FLOOR, real
from trilemma.report.columns import COLUMNS
from trilemma.report.measure import Ruler, count_for, drawn, read_samples, rules_of
from trilemma.report.of_series import told
from trilemma.report.of_text import captions_beside
from trilemma.report.summary import spanned
from trilemma.report.words import WORDS
from trilemma.training.engine import prepare
from trilemma.training.published import open_given, read_wanted

VERDICTS = {
    "copies": "samples lie nearer to training examples than unseen real data do: they are copies",
    "none": "samples lie no nearer to training examples than unseen real data do",
    "cannot tell": "too little data to say whether samples are copies",
}


@dataclass
class Judgement:
    """What was measured, under which protocol, and the same figures of real data (the floor)."""

    protocol: dict[str, Any]
    metrics: dict[str, dict[str, Any]]  # name -> value, low, high, better, unit
    verdicts: dict[str, str]
    floor: dict[str, dict[str, Any]]
    notes: list[str]

    def record(self) -> dict[str, Any]:
        """Plain values for JSON: the entries of a row of results.json, and the floor."""
        return {
            "protocol": self.protocol,
            "metrics": self.metrics,
            "verdicts": self.verdicts,
            "floor": self.floor,
            "notes": self.notes,
        }

    def text(self) -> str:
        """A table for people: figure, 95 % interval, the same figure of real data, and what it means."""
        titles = {column.key: column.title for column in COLUMNS}
        rows = [("", "value", "95 % interval", "real data", "")]
        for name, entry in sorted(self.metrics.items(), key=lambda pair: [*titles, pair[0]].index(pair[0])):
            value, low, high = spanned(entry["value"], entry["low"], entry["high"])
            value += f" {entry['unit']}" if entry["unit"].startswith("of ") else ""
            known = spanned(self.floor[name]["value"], None, None)[0] if name in self.floor else ""
            meaning = WORDS.get(name, "").split(". ")[0].split(": ")[0].rstrip(".")
            rows.append((titles.get(name, name), value, f"{low} to {high}" if low else "", known, meaning))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows]
        counts = f"{self.protocol['reference_count']} test examples and {self.protocol['sample_count']} samples"
        lines += ["", f"intervals: of each metric's expectation at {counts}"]
        lines += [f"copies of training data: {VERDICTS[self.verdicts['memorisation']]}"]
        facts = told(self.verdicts)
        lines += [f"stylised facts of returns: {facts}"] if facts else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def measure(
    source: Any,
    samples: Any,
    *,
    kind: str | None = None,
    resolution: Any = None,
    skip_bad: bool = False,
    settings: dict[str, Any] | None = None,
    features: Iterable[str | Path] | str | Path = (),
    quiet: bool = False,
) -> Judgement:
    """Measure samples of any origin against the test split of the source, as a row of `compare` is measured.

    samples: a folder, an archive, an array file, an array, a list of pictures; pictures of another size are brought to
    the data's. More samples than the protocol takes are drawn from at random; fewer make another protocol, whose
    figures are no others' equals. features: further feature networks, as of `compare`. Raises InputError for
    everything that you can mend.
    """
    prepare()
    wanted = read_wanted(features)
    opening = opening_of(settings, kind, resolution, skip_bad, alone=True)
    data = open_data(source, opening=opening)
    notes: list[str] = []
    x = read_samples(data, samples, notes)
    captions = captions_beside(data, samples, notes)
    count = count_for(data)
    if len(x) > count:
        notes.append(f"{count} of {len(x)} samples were drawn at random: the protocol's number for these data")
        places = drawn(len(x), count)
        x, captions = x[places], None if captions is None else [captions[place] for place in places]
    elif len(x) < count:
        notes.append(
            f"{len(x)} samples, and {count} is the protocol's number for these data: do not hold these figures against "
            "those of a comparison"
        )
    given = open_given(wanted, data)
    notes += [f"no figures by {name}: {reason}" for name, reason in given.left_out.items()]
    ruler = Ruler(data, len(x), given=given.networks, worded=captions is not None, quiet=quiet)
    metrics, verdicts, _, _ = ruler.measure(x)
    metrics |= rules_of(data, samples, notes)
    if ruler.text is not None:
        metrics |= records(ruler.text.of_samples(x, captions))
    floor = ruler.floor(real(data, len(x), seed=0))[0]
    return Judgement(
        {**ruler.protocol.record(), "key": ruler.protocol.key(), "floor": FLOOR}, metrics, verdicts, floor, notes
    )


def readvise(file: str | Path, *, prefer: str | None = None, need: Iterable[str] | str = ()) -> dict[str, Any]:
    """The answer of a comparison under another preference or need, from its results.json (or its folder)."""
    path = Path(file)
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the results.json (or the folder) of a comparison")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        rows = results["rows"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no results.json of a comparison") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
        raise InputError(f"{path} is no results.json of a comparison")
    return advise(results, prefer=prefer, need=need, folder=path.parent)
