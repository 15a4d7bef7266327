"""How a column's numbers are written: decimal commas, thousands apart, currencies and per cents; texts <-> floats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.A)
ZEROS = re.compile(r"^[+-]?0\d", re.M)  # a code, whose zeros must stay
COMMA = re.compile(r"[+-]?\d+(,\d+)?", re.A)
INFINITE = {"inf", "+inf", "-inf", "infinity", "-infinity", "+infinity"}
# What numbers' cells hold where there is none, beside what every column takes for empty.
NONE = {"-", "--", ".", "..", "...", "missing", "unknown", "n.a.", "#value!", "#div/0!", "#ref!", "#num!", "#name?"}
SIGNS = r"US\$|[$€£¥₹₩₽]|CHF|EUR|USD|GBP|JPY|Fr\.|kr|zł"
SPACES = " \u00a0\u202f"
UNIT = r"[A-Za-zµμΩ°℃][A-Za-zµμΩ°²³/·]{0,11}"  # kWh, °C, m/s
AFFIXED = re.compile(
    rf"(?P<sign>[+-]?)(?P<prefix>(?:{SIGNS})[{SPACES}]?)?(?P<body>[+-]?[\d.,'’{SPACES}]*\d)"
    rf"(?P<suffix>[{SPACES}]?(?:%|‰|{SIGNS}|{UNIT}))?",
    re.A,
)
DIGITS = 15  # that a float holds
LONGEST = 17  # digits that tell any float from all others
ROUND = 12  # digits of a number that was meant, of which arithmetic left more: 40.089999999999996
GROUPS = (",", ".", "'", "’", *SPACES)


@dataclass(frozen=True)
class Form:
    """How numbers are written."""

    decimals: int | None = None  # always as many, or at most so many; None: as few as are needed
    least: int = 0  # decimals that all have
    comma: bool = False  # decimal comma
    group: str = ""  # between thousands
    prefix: str = ""
    suffix: str = ""


def parse(
    texts: Sequence[str], cells: np.ndarray | None = None, numbers: np.ndarray | None = None
) -> tuple[np.ndarray, Form] | None:
    """The texts as numbers, infinite ones too, and how they are written; None where not all are numbers.

    cells, numbers: what `digits` and `floats` gave for them, if that is known.
    """
    if not texts:
        return None
    cells = digits(texts) if cells is None else cells
    numbers = _floats(cells) if numbers is None else numbers
    if cells is not None and numbers is not None:
        return None if _coded(cells) else (numbers, _with_places(cells, Form()))
    endless = np.array([len(text) <= 9 and text.lower() in INFINITE for text in texts], dtype=bool)
    if not endless.any():
        return _dressed(texts)
    found = parse([text for text, own in zip(texts, endless, strict=True) if not own])
    if found is None:
        return None
    numbers, form = found
    whole = np.empty(len(texts))
    whole[~endless], whole[endless] = numbers, [float(text) for text, own in zip(texts, endless, strict=True) if own]
    return whole, form


def floats(texts: Sequence[str]) -> np.ndarray | None:
    """Plain numbers with a decimal point as floats; None where one text is anything else. Millions in a second."""
    return _floats(digits(texts))


def _floats(cells: np.ndarray | None) -> np.ndarray | None:
    try:
        return None if cells is None else cells.astype(float)
    except ValueError:
        return None


def digits(texts: Sequence[str]) -> np.ndarray | None:
    """Texts of nothing but what plain numbers are written with, as an array of bytes; None where one has more."""
    joined = "\n".join(texts)
    if not texts or not joined.isascii():
        return None
    raw = joined.encode()
    if raw.translate(None, b"0123456789.+-eE\n") or raw.count(b"\n") != len(texts) - 1:
        return None
    ends = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) == ord("\n"))
    longest = int(np.diff(ends, prepend=-1, append=len(raw)).max()) - 1  # told beforehand, it is made in half the time
    return np.array(texts, dtype=f"S{max(longest, 1)}")


def _signs(cells: np.ndarray) -> np.ndarray:
    """Bytes (n, longest) of texts, 0 behind their ends."""
    return np.ascontiguousarray(cells).view(np.uint8).reshape(len(cells), -1)


def _coded(cells: np.ndarray) -> bool:
    """Is there a zero before digits, after a sign or none? Such are codes: `ZEROS` of an array."""
    signs = np.pad(_signs(cells)[:, :3], ((0, 0), (0, 2)))
    signed = (signs[:, 0] == ord("+")) | (signs[:, 0] == ord("-"))
    first, second = (np.where(signed, signs[:, place + 1], signs[:, place]) for place in (0, 1))
    return bool(((first == ord("0")) & (second >= ord("0")) & (second <= ord("9"))).any())


def _with_places(cells: np.ndarray, form: Form) -> Form:
    """The form with the decimals of these plain numbers; none where most have exponents, or no float so many digits."""
    signs = _signs(cells)
    length, points = (signs > 0).sum(1), signs == ord(".")
    point = np.where(points.any(1), points.argmax(1), -1)
    places = np.where(point < 0, 0, length - 1 - point)
    exponents = np.flatnonzero((signs | 32 == ord("e")).any(1)).tolist()
    powers = {place: cells[place].decode().lower().partition("e") for place in exponents}
    for place, (own, _, power) in powers.items():  # 1.25e-05 has seven
        places[place] = max(len(own.partition(".")[2]) - int(power), 0)
    for place in np.flatnonzero((point >= 0) & (length > DIGITS)).tolist():
        meant = f"{float(cells[place]):.{DIGITS}g}"
        if len(re.sub(r"e.*|\D", "", meant).strip("0")) <= ROUND and "e" not in meant:
            places[place] = min(places[place], len(meant.partition(".")[2]))
    most = int(places.max())
    highest = max((int(power) for *_, power in powers.values()), default=0)
    if powers and (2 * len(powers) > len(cells) or not 0 < most <= DIGITS - max(highest, 0)):
        return replace(form, decimals=None, least=0)
    return replace(form, decimals=most, least=int(places.min()))


def _dressed(texts: Sequence[str]) -> tuple[np.ndarray, Form] | None:
    """Numbers with commas, groups, currencies or per cents: all of one form."""
    first = AFFIXED.fullmatch(texts[0])
    if first is None:
        return None
    prefix, suffix = first["prefix"] or "", first["suffix"] or ""
    bodies = []
    for text in texts:
        match = AFFIXED.fullmatch(text)
        if match is None or (match["prefix"] or "") != prefix or (match["suffix"] or "") != suffix:
            return None
        if match["sign"] and match["body"][0] in "+-":
            return None
        bodies.append(match["sign"] + match["body"])
    if suffix[:1].isascii() and suffix[:1].isalpha() and all(map(str.isdigit, bodies)):
        return None  # 10023X and 5A are codes; 12 kWh and 12.5kWh are amounts
    for comma, group in _forms(bodies):
        form = Form(None, 0, comma, group, prefix, suffix)
        plain = [undressed(body, form) for body in bodies]
        cells = digits(plain)
        numbers = _floats(cells)
        if cells is not None and numbers is not None and not _coded(cells):
            return numbers, _with_places(cells, form)
    return None


def _forms(bodies: Sequence[str]) -> list[tuple[bool, str]]:
    """Decimal comma, and the sign between thousands, of which all bodies can be."""
    if all(NUMBER.fullmatch(body) for body in bodies):
        return [(False, "")]
    fits = []
    if all(COMMA.fullmatch(body) for body in bodies):
        fits.append((True, ""))
    for group in GROUPS:
        for comma in (False, True):
            decimal = "," if comma else "."
            if group == decimal:
                continue
            form = re.compile(rf"[+-]?(\d{{1,3}}({re.escape(group)}\d{{3}})*)({re.escape(decimal)}\d+)?", re.A)
            if all(form.fullmatch(body) for body in bodies) and any(group in body for body in bodies):
                fits.append((comma, group))
    # 1,234 may be either: thousands where some have two groups, or smaller ones stand without.
    if len(fits) > 1 and fits[0] == (True, ""):
        small = any("," not in body for body in bodies)
        return fits[1:] if small and all(len(body.partition(",")[2]) in (0, 3) for body in bodies) else fits[:1]
    return fits


def grouped(body: str, form: Form) -> bool:
    """Are its thousands apart as the form has them? `1.234` may be, `2000.5` is a plain number."""
    group, decimal = re.escape(form.group), "," if form.comma else r"\."
    return re.fullmatch(rf"[+-]?\d{{1,3}}({group}\d{{3}})+({decimal}\d+)?", body, re.A) is not None


def undressed(body: str, form: Form) -> str:
    """A number without its thousands' signs, with a decimal point."""
    body = body.replace(form.group, "") if form.group else body
    return body.replace(",", ".") if form.comma else body


def read(texts: Sequence[str], form: Form) -> tuple[np.ndarray, str]:
    """Texts of a task as numbers: in the form of the run's column, or plain; NaN where one is neither, and the first of
    these ('' where there is none). Cells that stand for no number are NaN, too."""
    made, strange = np.full(len(texts), np.nan), ""
    for place, text in enumerate(texts):
        body = text
        if form.prefix or form.suffix:
            body = re.sub(r"^([+-]?)" + re.escape(form.prefix.strip()) + r"\s?", r"\1", body)
            body = body.removesuffix(form.suffix.strip()).strip() if form.suffix else body
        if NUMBER.fullmatch(body) is None or (form.group and grouped(body, form)):
            body = undressed(body, form)
        if NUMBER.fullmatch(body):
            made[place] = float(body)
        elif text.lower() not in NONE and text.lower() not in INFINITE:
            strange = strange or text
    return made, strange


def written(value: float, form: Form, *, whole: bool) -> str:
    """One number as the column has it."""
    if whole:
        text = f"{round(value):,}" if form.group else str(round(value))
        text += "." + "0" * form.least if form.least else ""  # 5.0
    elif form.decimals is None:
        text = f"{value:.{DIGITS}g}"
    else:
        before = len(str(int(min(abs(value), 1e18))))  # what stands behind a float's digits is none of the value
        decimals = max(form.least, min(form.decimals, LONGEST - before))
        value = round(value, decimals) + 0.0  # no -0
        text = f"{value:,.{decimals}f}" if form.group else f"{value:.{decimals}f}"
        if form.least < decimals:
            short = text.rstrip("0")
            text = short + "0" * (form.least - len(short.partition(".")[2])) if form.least else short.rstrip(".")
    if form.group or form.comma:
        signs = {",": form.group, ".": "," if form.comma else "."}
        text = "".join(signs.get(sign, sign) for sign in text)
    if form.prefix or form.suffix:
        sign, body = ("-", text[1:]) if text.startswith("-") else ("", text)
        text = f"{sign}{form.prefix}{body}{form.suffix}"
    return text
