"""What a report shows of translators: the same unseen sources, what each model makes of them, their hidden partners."""

from __future__ import annotations

from typing import Any

from trilemma.report import plots
from trilemma.report.pictures import Gallery
from trilemma.report.summary import Summary, number

SOURCES = 8
LARGE = 130  # pixels of a picture
ALIKE = 0.02  # draws that differ by less show nothing

Shown = list[tuple[Summary, dict[str, Any]]]  # rows, and the first finished training of each


def translation_facts(results: dict[str, Any]) -> dict[str, Any] | None:
    """What the page's words need to know; None for data without sources."""
    if not results.get("sources"):
        return None
    data = results.get("data") or {}
    paired = data.get("sides") == "paired"
    return {"paired": paired, "degradation": (data.get("opening") or {}).get("degradation")}


def translation_pictures(gallery: Gallery, results: dict[str, Any], shown: Shown) -> dict[str, list[dict[str, Any]]]:
    """'strips' for the top of the page, 'translations' (large, with baselines) and 'draws' of models that vary."""
    winner = (results.get("answer") or {}).get("winner")
    paired = (results.get("data") or {}).get("sides") == "paired"
    own = [(one, row) for one, row in shown if one.kind in ("model", "baseline") and "nothing" not in one.name]
    files = [results.get("sources"), *(row.get("samples") for _, row in own)]
    lengths = [len(x) for file in files if (x := gallery.load(file)) is not None]
    count = min([SOURCES, *lengths])  # as many as every row has
    ends: list[dict[str, Any]] = [
        {"name": "Source", "style": "family-floor", "note": "", "file": results.get("sources")},
        {"name": "Target" if paired else "Some targets", "style": "family-floor", "file": results.get("real"),
         "note": "hidden partner" if paired else "of other sources"},
    ]  # fmt: skip

    def rows(cell: int, *, baselines: bool) -> list[dict[str, Any]]:
        kept = [(one, row) for one, row in own if baselines or one.kind == "model"]
        middle: list[dict[str, Any]] = [
            {
                "name": one.name,
                "style": plots.family_class(one.family),
                "winner": one.name == winner,
                "note": _note(one),
                "file": row.get("samples"),
            }
            for one, row in kept
        ]
        return [{**each, "picture": gallery.row(each["file"], count, cell)} for each in [ends[0], *middle, ends[1]]]

    draws = []
    for one, row in own:
        figure = one.figures.get("draws")
        if row.get("draws") and figure is not None:
            drawn = gallery.load(row["draws"])
            sources = gallery.load(results.get("sources"))
            picture = None
            if drawn is not None and sources is not None and figure.value > ALIKE:
                picture = gallery.stack([sources[: drawn.shape[1]], *drawn], SOURCES)
            style = plots.family_class(one.family)
            draws.append({"name": one.name, "style": style, "note": number(figure.value), "picture": picture})
    return {
        "strips": rows(64, baselines=False),
        "translations": rows(LARGE, baselines=True),
        "draws": [each for each in draws if each["picture"] is not None],
    }


def _note(one: Summary) -> str:
    """The two figures that a reader of pictures wants beside them."""
    names = [("perceptual", "perceptual"), ("frechet", "Fréchet")]
    return ", ".join(f"{title} {number(one.figures[name].value)}" for name, title in names if name in one.figures)
