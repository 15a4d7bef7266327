"""Are samples of what their captions say? By a CLIP that was trained apart from whatever guides or chooses."""

from __future__ import annotations

import numpy as np

from trilemma.metrics.matching import caption_score, found_among, shuffled
from trilemma.metrics.protocol import Measure
from trilemma.modalities.contract import Data
from trilemma.tasks.load import Loaded
from trilemma.training.captions import captions_of
from trilemma.training.matcher import matcher
from trilemma.training.matching import told, vectors, vectors_of_texts
from trilemma.words import Words, normal


class TextRuler:
    """The network that measures, and what real pairs that it has not seen get by it."""

    def __init__(self, data: Data, count: int, *, quiet: bool = False):
        self.matcher = matcher(data, quiet=quiet)
        captions, rows = captions_of(data), data.splits["test"]
        kept = [row for row in rows if captions[row].strip()][:count]
        self.real = np.asarray(data.x[kept]), [captions[row] for row in kept]

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

    def of_model(self, loaded: Loaded, samples: np.ndarray, seed: int) -> dict[str, Measure]:
        """Of samples 0, 1, ... of this seed, made for captions of training examples; nothing of other models."""
        if not any(isinstance(space, Words) for space in loaded.model.spaces.values()):
            return {}
        _, space = told(loaded.model)
        return self.measure(samples, space.read(loaded.sampler.captions(seed, np.arange(len(samples)))))
