"""Are samples what was asked of them, attribute by attribute? Read off their features, as from unseen real data."""

from __future__ import annotations

from typing import Any

import numpy as np

from trilemma.metrics.classes import class_reader, control, mean_control
from trilemma.metrics.protocol import Measure
from trilemma.mixed import Attributes
from trilemma.modalities.attributes import NAME
from trilemma.modalities.contract import Data
from trilemma.tasks.load import Loaded

FEWEST = 20  # training examples of a value that is read


class AttributeRuler:
    """A linear reader of each attribute, fitted on features of training examples; numbers are above or below their
    median."""

    def __init__(self, data: Data, train: np.ndarray, test: np.ndarray):
        """train, test: features (n, D) of the first examples of these splits."""
        self.columns = data.attributes
        cells = np.asarray(data.conditions[NAME])
        self.middle = np.nanmedian(self._numbers(cells[data.splits["train"]]), 0)
        told, known = self.values(cells[data.splits["train"][: len(train)]])
        self.readers: dict[int, Any] = {}
        for place in range(len(self.columns)):
            here = known[:, place]
            values, times = np.unique(told[here, place], return_counts=True)
            here &= np.isin(told[:, place], values[times >= FEWEST])
            if (times >= FEWEST).sum() > 1:
                self.readers[place] = class_reader(train[here], told[here, place])
        self.real = self.measure(test, cells[data.splits["test"][: len(test)]])

    def _numbers(self, cells: np.ndarray) -> np.ndarray:
        """Cells in the user's units; codes of categories as they are."""
        columns = zip(self.columns, cells.T.astype(np.float64), strict=True)
        return np.stack([one.from_scores(own) if one.scored else own for one, own in columns], 1)

    def values(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cells (n, columns) -> which value each has, whole numbers, and which are known."""
        known = ~np.isnan(cells)
        scored = np.array([column.scored for column in self.columns])
        return np.where(scored, self._numbers(cells) > self.middle, np.nan_to_num(cells)).astype(int), known

    def measure(self, features: np.ndarray, asked: np.ndarray) -> dict[str, Measure]:
        """`control@NAME` of each attribute, and their mean `attributes`; features (n, D), asked cells (n, columns)."""
        told, known = self.values(asked)
        found: dict[str, Measure] = {}
        hits = np.full(asked.shape, np.nan)
        for place, reader in self.readers.items():
            here = known[:, place] & np.isin(told[:, place], reader.classes_)
            if here.any():
                read = reader.predict(features[here])
                hits[here, place] = read == told[here, place]
                found[f"control@{self.columns[place].name}"] = control(told[here, place], read)
        if found:
            found["attributes"] = mean_control(hits)
        return found

    def of_model(self, loaded: Loaded, features: np.ndarray, seed: int) -> dict[str, Measure]:
        """Of samples in their order, asked for as `of_run` asks; nothing where the model knows no attributes."""
        spaces, index = dict(loaded.model.spaces.items()), np.arange(len(features))
        space = spaces.get(NAME)
        if not isinstance(space, Attributes):
            return {}
        asked, _ = loaded.sampler.attributes(space, seed, index, loaded.sampler.labels(seed, index))
        return self.measure(features, asked)
