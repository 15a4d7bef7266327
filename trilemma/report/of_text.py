"""Are samples of what their captions say? By a CLIP that was trained apart from whatever guides or chooses.

Samples are asked for captions of the test split. The CLIP has learned from the pairs of the train split: of a caption
that it knows by heart it recognises a copy of that caption's picture, and little else.
"""

from __future__ import annotations

import numpy as np

from trilemma.metrics.matching import caption_score, found_among, shuffled
from trilemma.metrics.protocol import Measure
from trilemma.modalities.contract import Data
from trilemma.tasks.load import Loaded
from trilemma.training.captions import captions_of
from trilemma.training.matcher import matcher
from trilemma.training.matching import vectors, vectors_of_texts
from trilemma.words import Words, normal

RECIPE = 1  # a new number wherever these figures are defined anew


class TextRuler:
    """The network that measures, the captions that samples are asked for, and what their real examples get by it."""

    def __init__(self, data: Data, count: int, *, quiet: bool = False):
        self.matcher = matcher(data, quiet=quiet)
        captions, rows = captions_of(data), data.splits["test"]
        kept = [row for row in rows if captions[row].strip()][:count]
        self.real = np.asarray(data.x[kept]), [captions[row] for row in kept]

    @property
    def record(self) -> str:
        """All that the figures depend on besides the samples."""
        return f"{self.matcher.hash}, {len(self.real[1])} captions of test, recipe {RECIPE}"

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
        return self.measure(*self.real)

    def of_model(self, loaded: Loaded, samples: np.ndarray) -> dict[str, Measure]:
        """Of samples 0, 1, ... of a model that was told to `ask`; nothing of models that do not read."""
        if words_of(loaded) is None or not self.real[1]:
            return {}
        assert loaded.sampler.prompts is not None
        return self.measure(samples, [self.real[1][i % len(self.real[1])] for i in range(len(samples))])


def words_of(loaded: Loaded) -> Words | None:
    """The Space of the captions that a model reads, if it does."""
    return next((space for space in loaded.model.spaces.values() if isinstance(space, Words)), None)
