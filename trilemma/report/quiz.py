"""The blind quiz of the page (real or generated, and by which family?), and `fold`: several people's answers as one.

The page keeps what is answered to itself; its button saves `quiz-answers.json`:

    {"format": 1, "title", "data_hash", "protocol_key", "items_hash", "items": 80, "families": ["vae", ...],
     "answers": [{"item", "truth": "real" or a model's name, "family": "real" or a family,
                  "guess": "real" or "generated", "family_guess": a family or null, "milliseconds"}, ...]}
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from trilemma.errors import InputError
from trilemma.report.pictures import GAP, Gallery

FORMAT = 1
REAL = "real"
MOST, MOST_REAL = 12, 64  # pictures of one model, and real ones
FEWEST = 8  # real pictures; and generated ones in all
COLUMNS = 10  # of the sheet
ENOUGH_PEOPLE = 5  # from here on a difference is judged by its spread over people
SAME = ("title", "data_hash", "protocol_key", "items_hash", "items", "families")  # what answers of one page share


# --- the page's part -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Pictures of one origin: the last `count` of a file, which no other part of the page shows."""

    name: str
    family: str
    file: str
    first: int
    count: int


def sources(load: Callable[[str | None], np.ndarray | None], results: dict[str, Any]) -> list[Source]:
    """The real pictures, then each model by its first finished seed and included samples; empty where there is no quiz.

    load: a file's raw examples, (n, C, H, W) where they are pictures. About 40 % of all are real, a third at least.
    """
    real = load(results.get("real"))
    found: dict[str, tuple[dict[str, Any], int]] = {}
    for row in results.get("rows") or []:
        if row.get("kind") in ("model", "included") and row.get("status") == "ok" and row["name"] not in found:
            x = load(row.get("samples"))
            if x is not None and x.ndim == 4:
                found[row["name"]] = row, len(x)
    if real is None or real.ndim != 4 or not found:
        return []
    models, held_out = len(found), min(MOST_REAL, len(real) // 2)
    # Half of a file at most: the page's other pictures are taken from the rest.
    each = min(MOST, max(FEWEST, 48 // models), 96 // models, 2 * held_out // models)
    picked = [
        Source(name, str(row.get("family") or name), row["samples"], size - count, count)
        for name, (row, size) in found.items()
        if (count := min(each, size // 2)) > 0
    ]
    generated = sum(source.count for source in picked)
    count = min(held_out, round(generated * 2 / 3))
    if min(count, generated) < FEWEST:
        return []
    return [Source(REAL, REAL, str(results["real"]), len(real) - count, count), *picked]


def quiz(gallery: Gallery, results: dict[str, Any], chosen: list[Source]) -> dict[str, Any] | None:
    """What the page's template takes: one sheet of all pictures, shuffled, and the key to it, encoded.

    One sheet and not one a source: an encoder's traces, the order and the sizes then tell nothing about the origin.
    """
    if not chosen or not gallery.thrift.samples:
        return None
    digest = hashlib.sha256()
    cells: list[tuple[int, Any]] = []
    for place, source in enumerate(chosen):
        x = gallery.load(source.file, whole=True)
        assert x is not None, "sources() has read it"
        part = np.ascontiguousarray(x[source.first : source.first + source.count])
        digest.update(f"{source.name} {part.dtype.str} {part.shape}".encode() + part.tobytes())
        cells += [(place, part[i : i + 1]) for i in range(len(part))]
    order = np.random.default_rng(int.from_bytes(digest.digest()[:8])).permutation(len(cells))
    sheet, (width, height), crisp = gallery.sheet([cells[i][1] for i in order], COLUMNS)
    data = results.get("data") or {}
    key = {
        "format": FORMAT,
        "title": results.get("title"),
        "data_hash": data.get("hash"),
        "protocol_key": results.get("protocol_key"),
        "items_hash": digest.hexdigest()[:16],
        "items": len(cells),
        "families": list(dict.fromkeys(source.family for source in chosen[1:])),
        "sources": [[source.name, source.family] for source in chosen],
        "truth": [cells[i][0] for i in order],
        "columns": COLUMNS, "width": width, "height": height, "gap": GAP, "crisp": crisp,
    }  # fmt: skip
    encoded = base64.b64encode(json.dumps(key, ensure_ascii=False).encode()).decode()
    return {"sheet": sheet, "key": encoded, "count": len(cells), "families": key["families"]}


# --- answers of several people ---------------------------------------------------------------------------------------


@dataclass
class Share:
    """So many of so many, with the exact 95 % interval of the share (Clopper and Pearson 1934)."""

    hits: int
    of: int

    def interval(self) -> tuple[float, float]:
        """(low, high); (0, 1) where nothing was asked."""
        if not self.of:
            return 0.0, 1.0
        from scipy import stats

        low, high = stats.binomtest(self.hits, self.of).proportion_ci(0.95, method="exact")
        return float(low), float(high)

    def record(self, name: str) -> dict[str, Any]:
        """Plain values; `name` says what was counted."""
        low, high = self.interval()
        return {"shown": self.of, name: self.hits, "share": self.hits / self.of if self.of else None, "low": low,
                "high": high}  # fmt: skip


def difference(one: Share, two: Share) -> tuple[float, float]:
    """95 % interval of the difference of two independent shares (Newcombe 1998, method 10: of Wilson's intervals)."""

    def wilson(share: Share) -> tuple[float, float, float]:
        from scipy import stats

        low, high = stats.binomtest(share.hits, share.of).proportion_ci(0.95, method="wilson")
        return share.hits / share.of, float(low), float(high)

    (a, a_low, a_high), (b, b_low, b_high) = wilson(one), wilson(two)
    return a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


@dataclass
class Folded:
    """What people took for real: real pictures, each family, each model."""

    about: dict[str, Any]  # title, data_hash, protocol_key, items_hash
    people: int
    answers: int
    seconds: float  # median of an answer
    real: dict[str, Any]
    families: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]
    naming: dict[str, Any]
    notes: list[str]

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.about, "people": self.people, "answers": self.answers, "seconds_per_answer": self.seconds,
            "real": self.real, "families": self.families, "models": self.models, "naming": self.naming,
            "notes": self.notes,
        }  # fmt: skip

    def text(self) -> str:
        """A table for people: who was taken for real how often, and which families can be told from real."""
        rows = [("", "taken for real", "95 % interval", "told from real", "family named right")]
        for name, entry in {"real pictures": self.real, **self.families}.items():
            told = {True: "yes", False: "not by these answers", None: ""}[entry.get("told_from_real")]
            if told == "yes" and entry["difference_high"] < 0:
                told = "yes: more often than real ones"
            named = entry.get("naming")
            rows.append((
                name, _of(entry["taken_for_real"], entry["shown"]), _span(entry) if entry["shown"] else "", told,
                _of(named["right"], named["shown"]) if named and named["shown"] else "",
            ))  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(0, f"{self.about['title']}: {_count(self.answers, 'answer')} of {_count(self.people, 'person')}\n")
        if self.naming["shown"] and self.naming["chance"]:
            lines += ["", f"of the generated pictures that were found out, the family was named right in "
                      f"{_of(self.naming['right'], self.naming['shown'])} ({_span(self.naming)}; "
                      f"by chance {self.naming['chance']:.0%})"]  # fmt: skip
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def fold(files: Iterable[str | Path]) -> Folded:
    """The answers that several people saved from one page, taken together.

    A family can be told from real where the 95 % interval of (share of real pictures taken for real) - (share of its
    own taken for real) excludes 0: Newcombe's over all answers, as if these were independent; from five people on
    widened to the t interval of each person's difference. InputError names a file that is damaged, is of another page,
    or is given twice.
    """
    names = [str(name) for name in files]
    if not names:
        raise InputError("no answers to fold; give the quiz-answers.json that the quiz of a report saved")
    sheets = [_read(name) for name in names]
    first = sheets[0]
    truth: dict[int, tuple[str, str]] = {}
    seen: dict[str, str] = {}
    for name, sheet in zip(names, sheets, strict=True):
        for key in SAME:
            if sheet[key] != first[key]:
                raise InputError(
                    f"{name} is of another page than {names[0]}: {key} is {sheet[key]!r}, not {first[key]!r}; fold "
                    "answers to one report at a time"
                )
        content = json.dumps(sheet["answers"], sort_keys=True)
        if content in seen:
            raise InputError(f"{name} holds the same answers as {seen[content]}; give each person's once")
        seen[content] = name
        for answer in sheet["answers"]:
            origin = answer["truth"], answer["family"]
            if truth.setdefault(answer["item"], origin) != origin:
                raise InputError(f"{name} contradicts another file about picture {answer['item']}: it was changed")
    people = [sheet["answers"] for sheet in sheets]
    every = [answer for answers in people for answer in answers]
    real = _taken(every, "family", REAL)
    families = {}
    for family in first["families"]:
        taken = _taken(every, "family", family)
        named = _named([answer for answer in every if answer["family"] == family])
        families[family] = {**taken.record("taken_for_real"), **_told(people, real, family),
                            "naming": named.record("right")}  # fmt: skip
    models = dict.fromkeys(answer["truth"] for answer in every if answer["family"] != REAL)
    naming = _named([answer for answer in every if answer["family"] != REAL]).record("right")
    naming["chance"] = 1 / len(first["families"]) if len(first["families"]) > 1 else None
    return Folded(
        {"format": FORMAT, **{key: first[key] for key in SAME}}, len(people), len(every),
        median(answer["milliseconds"] for answer in every) / 1000, real.record("taken_for_real"), families,
        {name: _taken(every, "truth", name).record("taken_for_real") for name in sorted(models)}, naming,
        _notes(people, real, families),
    )  # fmt: skip


def _taken(answers: list[dict[str, Any]], key: str, value: str) -> Share:
    guesses = [answer["guess"] for answer in answers if answer[key] == value]
    return Share(guesses.count(REAL), len(guesses))


def _named(answers: list[dict[str, Any]]) -> Share:
    """Of those that were called generated, how many by the right family."""
    asked = [answer for answer in answers if answer["family_guess"] is not None]
    return Share(sum(answer["family_guess"] == answer["family"] for answer in asked), len(asked))


def _told(people: list[list[dict[str, Any]]], real: Share, family: str) -> dict[str, Any]:
    """The difference to real pictures, its interval, and whether that excludes 0; None where it cannot be had."""
    every = [answer for answers in people for answer in answers]
    taken = _taken(every, "family", family)
    if not taken.of or not real.of:
        return {"difference": None, "difference_low": None, "difference_high": None, "told_from_real": None}
    low, high = difference(real, taken)
    value = real.hits / real.of - taken.hits / taken.of
    pairs = [(_taken(answers, "family", REAL), _taken(answers, "family", family)) for answers in people]
    gaps = [a.hits / a.of - b.hits / b.of for a, b in pairs if a.of and b.of]
    if len(gaps) >= ENOUGH_PEOPLE:
        from scipy import stats

        value = sum(gaps) / len(gaps)
        error = math.sqrt(sum((gap - value) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))
        # The wider of both: people who all agree leave no spread to judge by.
        half = float(stats.t.ppf(0.975, len(gaps) - 1)) * error
        low, high = min(low, value - half), max(high, value + half)
    return {"difference": value, "difference_low": low, "difference_high": high, "told_from_real": not low <= 0 <= high}


def _notes(people: list[list[dict[str, Any]]], real: Share, families: dict[str, dict[str, Any]]) -> list[str]:
    notes = []
    if len(people) < ENOUGH_PEOPLE:
        notes.append(
            f"answers of one person are not independent, and these are of {_count(len(people), 'person')}: the true "
            f"intervals are wider; from {ENOUGH_PEOPLE} people on, differences are judged by their spread over people"
        )
    notes.append("everybody saw the same few pictures of each model: this is about these, less surely about the model")
    empty = [name for name, entry in families.items() if not entry["shown"]] + ([] if real.of else ["real pictures"])
    if empty:
        notes.append(f"nothing was answered about {', '.join(empty)}")
    return notes


def _read(name: str) -> dict[str, Any]:
    """One file of answers, checked; InputError names it."""
    try:
        sheet = json.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as problem:
        raise InputError(f"{name}: {problem.strerror}; give the quiz-answers.json that a report's quiz saved") from None
    except ValueError:
        raise InputError(f"{name} is no JSON; give the quiz-answers.json that a report's quiz saved") from None
    if not isinstance(sheet, dict) or not isinstance(sheet.get("answers"), list) or not {*SAME} <= set(sheet):
        raise InputError(f"{name} holds no answers of a quiz; give the quiz-answers.json that a report's quiz saved")
    if sheet.get("format") != FORMAT:
        raise InputError(f"{name} is of format {sheet.get('format')!r}, this version reads {FORMAT}; answer anew")
    families, items = sheet["families"], sheet["items"]
    if not isinstance(families, list) or not families or not isinstance(items, int):
        raise InputError(f"{name} is damaged: its list of families or its number of pictures; answer anew")
    if not sheet["answers"]:
        raise InputError(f"{name} holds no answer yet; answer a few pictures before you save")
    answered = set()
    for place, answer in enumerate(sheet["answers"], 1):
        fault = _fault(answer, families, items)
        if fault is None and answer["item"] in answered:
            fault = "its picture was answered before"
        if fault:
            raise InputError(f"{name}: answer {place} is damaged: {fault}")
        answered.add(answer["item"])
    return sheet


def _fault(answer: Any, families: list[Any], items: int) -> str | None:
    """What is wrong with an answer, or None."""
    if not isinstance(answer, dict):
        return "it is no record"
    item, time = answer.get("item"), answer.get("milliseconds")
    if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < items:
        return f"item {item!r} is none of the page's {items}"
    if answer.get("guess") not in (REAL, "generated"):
        return f"guess {answer.get('guess')!r} is neither real nor generated"
    if not isinstance(answer.get("truth"), str) or answer.get("family") not in (REAL, *families):
        return f"family {answer.get('family')!r} is none of the page's"
    if (answer["truth"] == REAL) != (answer["family"] == REAL):
        return "its truth and its family contradict each other"
    guess = answer.get("family_guess")
    if guess not in (None, *families) or (answer["guess"] == REAL and guess is not None):
        return f"family_guess {guess!r} is none of the page's"
    if not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time < math.inf:
        return f"milliseconds {time!r} is no duration"
    return None


def _of(hits: int, count: int) -> str:
    return f"{hits} of {count}" + (f", {hits / count:.0%}" if count else "")


def _span(entry: dict[str, Any]) -> str:
    return f"{entry['low']:.0%} to {entry['high']:.0%}"


def _count(number: int, what: str) -> str:
    return f"{number} {what if number == 1 else {'person': 'people'}.get(what, what + 's')}"
