"""Captions as a condition of models that read: in the data's own words, or in a sentence made of each label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.errors import InputError
from trilemma.modalities.contract import Data
from trilemma.models.contract import find
from trilemma.spaces import Space
from trilemma.words import Words, normal, words_of

TEMPLATE = "{label}"
CAPTION = "caption"  # the condition's name
SAID = ("label", "attributes")  # conditions in whose place captions are


def text_of(name: str, settings: dict[str, Any]) -> str:
    """How this model reads captions: its setting `text`, '' where it has none or does not read."""
    model, preset = find(name)
    if not hasattr(model.Config(), "text"):
        return ""
    given = {**model.presets.get(preset, {}), **{key.removeprefix("model."): value for key, value in settings.items()}}
    return str(given.get("text", model.Config().text) or "")


def has_captions(data: Data) -> bool:
    """Are there captions, or a sentence that makes them of labels? Labels alone are none: another model reads those."""
    if data.opening.template is not None and data.label_names:
        return True
    return data.captions is not None and any(caption.strip() for caption in data.captions)


def captions_of(data: Data, word: str = "") -> list[str]:
    """A caption of each example, '' where there is none; made of labels where the data have no captions.

    word: the one for what is on all of them, in place of labels.

    Raises:
        InputError: neither captions nor labels with names; a template without its label.
    """
    template = data.opening.template
    if template is not None and "{label}" not in template:
        raise InputError(f"setting data.template={template!r}: say where the label goes, as 'a photo of a {{label}}'")
    if template is None and data.captions is not None and any(caption.strip() for caption in data.captions):
        return data.captions
    if word:
        return [(template or TEMPLATE).replace("{label}", word)] * len(data.x)
    if not data.label_names or "label" not in data.conditions:
        raise InputError(
            f"setting text: {data.source} has no captions; put a metadata.csv with the columns file_name and text into "
            "the folder, or a .txt file beside each picture, or sort the pictures into a folder for each label"
        )
    sentences = [(template or TEMPLATE).replace("{label}", name) for name in data.label_names]
    here = data.present.get("label", np.ones(len(data.x), dtype=bool))
    return [sentences[code] if known else "" for code, known in zip(data.conditions["label"][:, 0], here, strict=True)]


def worded(data: Data, name: str, settings: dict[str, Any], theirs: Space | None = None, *, word: str = "") -> Data:
    """The data as a model of this name reads them: captions instead of labels, or no captions at all.

    theirs: the Space of the captions of a run whose weights this training begins with: its vocabulary stays. word: one
    that is added to it. Data that another model has read (the one that a CLIP is trained for) are read as it does.
    """
    if isinstance(data.spaces.get(CAPTION), Words):
        return data
    text = text_of(name, settings)
    if not text:
        if word:
            raise InputError(
                f"setting word={word!r}: {name} does not read captions; begin with a run of diffusion:text"
            )
        return data
    captions = captions_of(data, word)
    told = np.array([bool(caption.strip()) for caption in captions])
    train = [captions[row] for row in np.sort(data.splits["train"]) if told[row]]
    if not train:
        raise InputError(f"setting text: no training example of {data.source} has a caption; give them some")
    if theirs is not None and not isinstance(theirs, Words):
        raise InputError("--from: that run has not learned from captions, so that its weights do not fit here")
    if word and theirs is not None and theirs.knows(word):
        raise InputError(f"setting word={word!r}: the run of --from knows that word already; make up another one")
    if word and not any(normal(word) in words_of(caption) for caption in train):
        raise InputError(f"setting word={word!r}: no caption of {data.source} has this word; write it into them")
    space = Words.fit(train, theirs, word=word, table="" if text == "words" else text)
    values = {key: value for key, value in data.conditions.items() if key not in SAID}
    present = {key: value for key, value in data.present.items() if key not in SAID}
    notes = list(data.notes)
    if not told.all():
        notes.append(f"{int((~told).sum()):,} examples have no caption")
    cut = sum(space.cut(caption) > 0 for caption in train)
    if cut:
        notes.append(f"{cut:,} captions are longer than {space.shape[1]} tokens: cut there")
    return replace(
        data,
        conditions={**values, CAPTION: space.write(captions)},
        present={**present, CAPTION: told},
        spaces={**{key: one for key, one in data.spaces.items() if key not in SAID}, CAPTION: space},
        label_names=[],
        attributes=[],
        notes=notes,
    )


def check_same(data: Data, spaces: dict[str, Any], folder: Path) -> None:
    """InputError where a run goes on whose captions are others by now."""
    mine, theirs = data.spaces.get(CAPTION), spaces.get(CAPTION)
    if isinstance(mine, Words) and theirs is not None and mine.digest != theirs["digest"]:
        raise InputError(f"{folder} was trained with other captions than these pictures have now; give a new --out")
