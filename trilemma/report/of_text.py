"""Are samples of what their captions say? By a CLIP that was trained apart from whatever guides or chooses.

Samples are asked for captions of the test split. The CLIP has learned from the pairs of the train split: of a caption
that it knows by heart it recognises a copy of that caption's picture, and little else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trilemma.batches import Options
from trilemma.metrics.matching import caption_score, caption_variety, found_among, shuffled
from trilemma.metrics.protocol import Measure
from trilemma.modalities.contract import Data
from trilemma.tasks.load import Loaded
from trilemma.training.captions import captions_of, has_captions
from trilemma.training.features import FeatureNetwork
from trilemma.training.matcher import matcher
from trilemma.training.matching import vectors, vectors_of_texts
from trilemma.words import Words, normal

VARIED, EACH = 32, 5  # captions of which several samples are made, and how many: how varied are those of one?
CAPTIONS = "captions.txt"  # of a report: what samples are asked for, one on each line
RECIPE = 1  # a new number wherever these figures are defined anew


class TextRuler:
    """The network that measures, the captions that samples are asked for, and what their real examples get by it."""

    def __init__(self, data: Data, network: FeatureNetwork, count: int, *, quiet: bool = False):
        self.network, self.matcher = network, matcher(data, quiet=quiet)
        rows, captions = held_out(data, count)
        self.real = np.asarray(data.x[rows]), captions

    @property
    def record(self) -> str:
        """All that the figures depend on besides the samples."""
        return f"{self.matcher.hash}, {len(self.real[1])} captions of test, recipe {RECIPE}"

    def lines(self) -> str:
        """The captions that samples are asked for, one on each line."""
        return "".join(f"{' '.join(caption.split())}\n" for caption in self.real[1])

    def ask(self, loaded: Loaded) -> None:
        """Let a model that reads make sample i for the caption of real example i, over and over again."""
        words = words_of(loaded)
        if words is not None and self.real[1]:
            loaded.sampler.prompts = words.write(self.real[1])

    def measure(self, samples: np.ndarray, captions: list[str]) -> dict[str, Measure]:
        """Figures by name of raw samples (n, channels, *grid) and the caption of each."""
        if len(samples) < 2:
            return {}
        seen = vectors(self.matcher.model, samples).astype(np.float64)
        read = vectors_of_texts(self.matcher.model, captions).astype(np.float64)
        _, kinds = np.unique(np.array([normal(caption) for caption in captions], dtype=object), return_inverse=True)
        found = {
            "clip_score": caption_score((seen * read).sum(1)),
            "clip_shuffled": caption_score((seen * read[shuffled(len(seen), kinds)]).sum(1), "clip_shuffled"),
        }
        if len(np.unique(kinds)) > 1:
            for most in (1, 5):
                name = f"retrieval_{most}"
                found[name] = found_among(read @ seen.T, kinds, most=most, name=name)
        return found

    def floor(self) -> dict[str, Measure]:
        """Of unseen real pairs."""
        return self.measure(*self.real) | self.variety(*self.real)

    def variety(self, samples: np.ndarray, captions: list[str]) -> dict[str, Measure]:
        """How varied samples of one caption are, of captions that have several; nothing where only one or none has."""
        rows: dict[str, list[int]] = {}
        for row, caption in enumerate(captions):
            rows.setdefault(normal(caption), []).append(row)
        chosen = [places[:EACH] for places in rows.values() if len(places) > 1][:VARIED]
        if len(chosen) < 2:
            return {}
        features = self.network(samples[np.concatenate(chosen)])
        kinds = np.repeat(np.arange(len(chosen)), [len(places) for places in chosen])
        return {"caption_variety": caption_variety(features, kinds)}

    def of_samples(self, samples: np.ndarray, captions: list[str] | None = None) -> dict[str, Measure]:
        """Of raw samples and the caption of each; by default number i was asked for by that of real example i, over and
        over again."""
        if captions is None:
            asked = self.real[1]
            captions = [asked[i % len(asked)] for i in range(len(samples))] if asked else []
        told = [place for place, caption in enumerate(captions) if caption.strip()]
        captions, samples = [captions[place] for place in told], samples[told]
        return self.measure(samples, captions) | self.variety(samples, captions) if captions else {}

    def of_model(
        self, loaded: Loaded, samples: np.ndarray, seed: int, options: Options | None = None
    ) -> dict[str, Measure]:
        """Of samples 0, 1, ... of this seed and these options (None: the run's own), by a model that was told to `ask`.

        Further ones are made of the first captions. Nothing of models that do not read.
        """
        captions = self.real[1]
        if words_of(loaded) is None or not captions:
            return {}
        assert loaded.sampler.prompts is not None
        count, options = min(VARIED, len(captions), len(samples)), options or loaded.options
        further = [  # sample i + k len(captions) is of the caption of sample i
            loaded.sampler.samples(count, seed=seed, start=number * len(captions), options=options)
            for number in range(1, EACH)
        ]
        return self.of_samples(samples) | self.variety(
            np.concatenate([samples[:count], *further]), EACH * captions[:count]
        )


def held_out(data: Data, count: int) -> tuple[list[int], list[str]]:
    """Rows of the first `count` test examples that have a caption, and these: what samples are asked for."""
    captions = captions_of(data)
    rows = [int(row) for row in data.splits["test"] if captions[row].strip()][:count]
    return rows, [captions[row] for row in rows]


def captions_beside(data: Data, given: Any, notes: list[str]) -> list[str] | None:
    """The captions that came with samples of another origin, '' where one has none, or none that can be measured;
    None where that is true of all. What is left out, or no equal of the table's, is added to the notes.

    Those of training examples are left out, but for what the test split has, too: see the head of this file.
    """
    found = data.modality.captions(given)
    if found is None or not any(caption.strip() for caption in found):
        return None
    if not has_captions(data):
        notes.append("their captions are not used: these data have none from which to learn what captions mean")
        return None
    known = captions_of(data)
    test, train = ({normal(known[row]) for row in data.splits[split]} for split in ("test", "train"))
    own = [normal(caption) for caption in found]
    silent, heart = own.count(""), sum(bool(one) and one in train - test for one in own)
    strange = sum(bool(one) and one not in train | test for one in own)
    mend = f"make samples for those of the report's {CAPTIONS}"
    if silent:
        notes.append(f"{silent:,} of {len(own):,} samples have no caption")
    if heart:
        notes.append(
            f"{heart:,} of {len(own):,} samples have captions of training examples, which the CLIP that measures knows "
            f"by heart: not among the figures of captions; {mend}"
        )
    if strange:
        notes.append(
            f"{strange:,} of {len(own):,} samples have captions that the data have not: do not hold their figures of "
            f"captions against those of other rows; {mend}"
        )
    told = ["" if one in train - test else caption for one, caption in zip(own, found, strict=True)]
    return told if sum(bool(caption.strip()) for caption in told) > 1 else None


def words_of(loaded: Loaded) -> Words | None:
    """The Space of the captions that a model reads, if it does."""
    return next((space for space in loaded.model.spaces.values() if isinstance(space, Words)), None)
