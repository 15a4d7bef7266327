"""Pictures found by words, words found for pictures, and classes that nobody has labelled: by a model that matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trilemma.errors import InputError
from trilemma.models.contract import Matches
from trilemma.tasks.prompts import check_text
from trilemma.training.captions import TEMPLATE, captions_of
from trilemma.training.matching import told, vectors, vectors_of_texts
from trilemma.words import normal, words_of

Loaded = Any  # a run as `load` gives it; imports point downward

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass
class Hits:
    """What was found, the best first."""

    names: list[str]  # of files, or captions
    scores: np.ndarray  # (n,) cosines, -1 to 1
    x: np.ndarray | None = None  # (n, channels, *grid) raw, where pictures were found


@dataclass
class Classes:
    """The most probable label of each example."""

    names: list[str]  # of the files
    labels: list[str]  # all that it could be
    probabilities: np.ndarray  # (n, labels)

    @property
    def found(self) -> list[str]:
        """A label of each."""
        return [self.labels[place] for place in self.probabilities.argmax(1)]


def search(loaded: Loaded, query: Any, source: Any = None, *, n: int = 8) -> Hits:
    """The n pictures of `source` (default: those of the run's data) that go best with words; or, where the query is a
    picture, the n captions of the run's data that go best with it.

    Raises:
        InputError: no word in the query; a query or a source that is not there.
    """
    loaded.require("search")
    if n < 1:
        raise InputError(f"-n {n}: ask for at least one")
    if not isinstance(query, str) or _is_picture(query):
        if source is not None:
            raise InputError("search: for a picture the captions of the run's own data are searched; leave DATA out")
        if isinstance(query, (str, Path)) and Path(query).is_dir():
            raise InputError(f"search: {query} is a folder; give one picture, or words")
        seen = _seen(loaded, loaded.read(query).x[:1])
        captions = distinct(captions_of(loaded.data("search", "give words and DATA")))
        return _best(seen, _told(loaded, captions), captions, n)
    read_words(loaded, query, "search")
    if source is None:
        x, names = _own(loaded)
    else:
        given = loaded.read(source)
        x, names = given.x, given.names
    hits = _best(_told(loaded, [query]), _seen(loaded, x), names, n)
    order = {name: place for place, name in enumerate(names)}
    hits.x = x[[order[name] for name in hits.names]]
    return hits


def classify(loaded: Loaded, source: Any, labels: Sequence[str] | None = None) -> Classes:
    """Which of these labels (default: those of the run's data, or its different captions) goes best with each picture.

    Nothing is trained for it (Radford et al. 2021, section 3.1): a label is read as a caption, in the sentence
    `data.template` where the run was trained with one.

    Raises:
        InputError: fewer than two labels; one without a word.
    """
    loaded.require("classify")
    template = loaded.config["data"]["opening"].get("template") or TEMPLATE
    if labels is None:
        data = loaded.data("classify", "give --labels")
        labels = list(data.label_names) or distinct(captions_of(data))
        template = template if data.label_names else TEMPLATE
    labels = list(dict.fromkeys(label.strip() for label in labels))
    if len(labels) < 2:
        raise InputError("--labels: give at least two, as cat,dog")
    for label in labels:
        read_words(loaded, label, "--labels")
    given = loaded.read(source)
    assert isinstance(loaded.model, Matches)
    cosines = _seen(loaded, given.x) @ _told(loaded, [template.replace("{label}", label) for label in labels]).T
    logits = torch.from_numpy(cosines).double() * float(loaded.model.scale.detach())
    return Classes(list(given.names), labels, logits.softmax(1).numpy())


def read_words(loaded: Loaded, text: str, what: str) -> None:
    """InputError for a text without a word; what the model does not know is said on stderr."""
    check_text(loaded, told(loaded.model)[1], text, what)


def distinct(captions: list[str]) -> list[str]:
    """Different captions in their normal writing, the most frequent first; empty ones say nothing."""
    counts: dict[str, int] = {}
    for caption in captions:
        if caption.strip():
            counts[normal(caption)] = counts.get(normal(caption), 0) + 1
    return sorted(counts, key=lambda caption: -counts[caption])


def _is_picture(query: str) -> bool:
    """A file, or what can only have been meant as one."""
    path = Path(query)
    try:
        there = path.is_file() or (path.is_dir() and "/" in query)  # a plain word is one, whatever folders lie here
    except OSError:  # longer than any name of a file
        return False
    return there or (path.suffix.lower() in PICTURES and len(words_of(query)) > 1 and " " not in query)


def _own(loaded: Loaded) -> tuple[np.ndarray, list[str]]:
    """All examples of the run's data, by the names of their files where they lie in a folder."""
    source = loaded.config["asked"].get("source")
    if source != "array" and Path(source).is_dir():
        given = loaded.read(source)
        return given.x, list(given.names)
    x = np.asarray(loaded.data("search", "give DATA").x)
    return x, [f"{place:05d}" for place in range(len(x))]


def _seen(loaded: Loaded, x: np.ndarray) -> np.ndarray:
    with loaded.engine.autocast():
        return vectors(loaded.model, x, device=loaded.engine.device)


def _told(loaded: Loaded, texts: list[str]) -> np.ndarray:
    with loaded.engine.autocast():
        return vectors_of_texts(loaded.model, texts, device=loaded.engine.device)


def _best(query: np.ndarray, candidates: np.ndarray, names: list[str], n: int) -> Hits:
    """The n candidates that are nearest to the one query."""
    scores = candidates @ query[0]
    order = np.argsort(-scores, kind="stable")[:n]
    return Hits([names[place] for place in order], scores[order])


def sheet(loaded: Loaded, hits: Hits) -> Image.Image:
    """The pictures that were found, in their order."""
    assert hits.x is not None
    return loaded.modality.picture(hits.x)
