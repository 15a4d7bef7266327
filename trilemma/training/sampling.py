"""Samples from a model as arrays: image i depends on (seed, i) and its conditions alone, whatever the batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from trilemma.batches import Arrays, Batch, Options, Request, Rows
from trilemma.conditions import tell
from trilemma.errors import InputError
from trilemma.latent import Coder
from trilemma.maths.noise import Noise
from trilemma.mixed import Attributes
from trilemma.models.contract import Decodes, Encodes, Model, Samples, Translates
from trilemma.numbered import Clusters
from trilemma.training.engine import Engine
from trilemma.words import Words

LABEL_SEED = 0x6C6162656C  # labels come from a stream of their own, so that they do not move the noise,
CLUSTER_SEED = 0x636C7573746572  # and so do clusters
CAPTION_SEED = 0x63617074696F6E  # and captions
ATTRIBUTE_SEED = 0x617474726962  # and attributes
BATCH = 250


def label_frequencies(data: Arrays, count: int) -> list[float]:
    """Share of each label among the training examples that have one."""
    rows = np.arange(len(data.x)) if data.rows is None else data.rows
    if "label" in data.present:
        rows = rows[np.asarray(data.present["label"])[rows]]
    labels = data.conditions["label"][rows, 0]
    return (np.bincount(labels, minlength=count) / max(len(labels), 1)).tolist()


def told_labels(data: Arrays) -> np.ndarray | None:
    """(n, 1) labels of the targets of these pairs, -1 where none is known; None without labels or without pairs."""
    if not {"source", "label"} <= data.conditions.keys():
        return None
    rows = np.arange(len(data.x)) if data.rows is None else data.rows
    labels = np.asarray(data.conditions["label"])[rows]
    return np.where(np.asarray(data.present["label"])[rows][:, None], labels, -1) if "label" in data.present else labels


def draw(frequencies: list[float], seed: int, index: np.ndarray) -> np.ndarray:
    """(n, 1) labels that follow the frequencies evenly: label i is a function of (seed, i) alone."""
    places = Noise(seed, index).spread().numpy()
    edges = np.cumsum(frequencies)
    return np.searchsorted(edges / edges[-1], places, side="right").clip(0, len(edges) - 1)[:, None]


@dataclass
class Prompt:
    """What to make, and what not: raw captions (1, 1, L) of the model's own vocabulary; or rows of attributes.

    pool: rows (n, columns) of which each sample gets one, and their labels (n,), -1 where none is known. strange: they
    go with no label, and none is told.
    """

    caption: np.ndarray | None = None
    negative: np.ndarray | None = None
    pool: tuple[np.ndarray, np.ndarray] | None = None
    strange: bool = False


def recodes(model: Model) -> bool:
    """Is it judged by what its codes give back? What codes data for another model is no worse for bad samples."""
    return isinstance(model, Coder) and isinstance(model, Encodes) and isinstance(model, Decodes)


class Sampler:
    """A model ready to make samples, reconstructions and codes; weights as they are, evaluation mode."""

    def __init__(
        self,
        model: Model,
        engine: Engine,
        *,
        frequencies: list[float] | None,
        dtype: np.dtype,
        sources: Rows | None = None,
        told: np.ndarray | None = None,
    ):
        """sources: what a translator's samples are made from: sample i from source i, over and over again.

        told: (n, 1) labels that the sources' targets have, -1 where none is known.
        """
        self.model, self.engine, self.frequencies, self.dtype = model, engine, frequencies, dtype
        self.sources, self.told = sources, told
        self.prompts: np.ndarray | None = None  # (n, 1, L) captions for samples that nobody prompts, in turn

    def labels(self, seed: int, index: np.ndarray) -> np.ndarray | None:
        """(n, 1) labels for which the images `index` of this seed are asked; None where the model knows none."""
        if not self.frequencies:
            return None
        drawn = draw(self.frequencies, seed ^ LABEL_SEED, index)
        own = drawn if self.told is None else self.told[index % len(self.told)]
        return np.where(own < 0, drawn, own)

    def captions(self, seed: int, index: np.ndarray) -> np.ndarray:
        """(n, 1, L) captions for which the images `index` are asked when nobody prompts: those of training examples.

        Of `prompts`, where there are some, image i is asked for caption i, over and over again.
        """
        if self.prompts is not None:
            return self.prompts[index % len(self.prompts)]
        space = next(space for space in self.model.spaces.values() if isinstance(space, Words))
        row, kept = draw([1.0] * len(space.kept), seed ^ CAPTION_SEED, index)[:, 0], space.kept.cpu().numpy()
        longest = max(int((kept > 0).any(0).sum()), 1)
        return kept[row, :longest].astype(np.int64)[:, None]

    def attributes(
        self, space: Attributes, seed: int, index: np.ndarray, labels: np.ndarray | None, prompt: Prompt | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n, columns) attributes for which the images `index` are asked, and the labels (n,) that go with them, or -1.

        Those of training examples: of ones with the sample's label, where labels (n, 1) are given; NaN where none of
        them is known.
        """
        rows, theirs = space.pool() if prompt is None or prompt.pool is None else prompt.pool
        noise = Noise(seed ^ ATTRIBUTE_SEED, index)
        # Labels are spread evenly, too: a second sequence of that kind would go along with theirs.
        shares = (noise.spread() if labels is None else noise.uniform()).numpy()
        if labels is None:
            places = (shares * len(rows)).astype(int)
            return rows[places], theirs[places]
        told = np.zeros((len(index), rows.shape[1]), dtype=np.float32)
        for label in np.unique(labels):
            here = labels[:, 0] == label
            own = rows[theirs == label]
            if len(own) == 0:  # what a prompt asks for goes with any label
                own = rows if prompt is not None and prompt.pool is not None else np.full_like(rows[:1], np.nan)
            told[here] = own[(shares[here] * len(own)).astype(int)]
        return told, labels[:, 0]

    def request(
        self, seed: int, index: np.ndarray, *, label: int | np.ndarray | None = None, options: Options | None = None,
        prompt: Prompt | None = None,
    ) -> Request:  # fmt: skip
        """A request for the images `index` of this seed, with drawn or given labels: one, or (n, 1); -1: none."""
        device = self.engine.device
        request = Request(Noise(seed, index, device), options=options or Options())
        drawn: dict[str, np.ndarray] = {}
        labels = self.labels(seed, index)
        if labels is not None:
            label = -1 if prompt is not None and prompt.strange else label
            labels = labels if label is None else np.broadcast_to(label, (len(index), 1))
            drawn["label"] = labels
        elif label is not None:
            raise InputError("--label: this model was trained on data without labels")
        for name, space in self.model.spaces.items():
            if isinstance(space, Attributes):
                free = label is None and prompt is not None and prompt.pool is not None
                rows, theirs = self.attributes(space, seed, index, None if free else labels, prompt)
                request.raw[name] = torch.from_numpy(rows).to(device)
                request.present[name] = ~request.raw[name].isnan().all(1)
                if labels is not None:  # of what was asked for, the label that training examples of it have
                    drawn["label"] = np.where(theirs < 0, labels[:, 0], theirs)[:, None]
            elif isinstance(space, Clusters):
                drawn[name] = draw(space.shares.tolist(), seed ^ CLUSTER_SEED, index)
            elif isinstance(space, Words):
                caption = None if prompt is None else prompt.caption
                drawn[name] = self.captions(seed, index) if caption is None else np.repeat(caption, len(index), 0)
                if prompt is not None and prompt.negative is not None:
                    negative = np.repeat(prompt.negative, len(index), 0)
                    request.against[name] = torch.from_numpy(negative).to(device)
        if isinstance(self.model, Translates) and self.model.can_translate():
            if self.sources is None:
                raise InputError("this model makes its samples out of sources: `trilemma translate RUN SOURCES`")
            request.raw["source"] = torch.from_numpy(self.sources[index % len(self.sources)]).to(device)
            request.present["source"] = torch.ones(len(index), dtype=torch.bool, device=device)
        for name, values in drawn.items():
            request.raw[name] = torch.from_numpy(values.astype(np.int64).clip(min=0)).to(device)
            request.present[name] = torch.from_numpy(values.reshape(len(index), -1)[:, 0] >= 0).to(device)
        return request

    @torch.no_grad()
    def stream(
        self,
        count: int,
        *,
        seed: int = 0,
        start: int = 0,
        label: int | None = None,
        options: Options | None = None,
        prompt: Prompt | None = None,
        batch: int = BATCH,
        watch: Callable[[int, Tensor], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Raw examples in batches, in the order of their index."""
        if not isinstance(self.model, Samples):
            raise InputError("this model cannot generate samples")
        self.model.eval()
        for first in range(start, start + count, batch):
            index = np.arange(first, min(first + batch, start + count))
            request = self.request(seed, index, label=label, options=options, prompt=prompt)
            request.watch = watch
            with self.engine.autocast():
                x = self.model.sample(request)
            yield self.array(x)

    def samples(
        self,
        count: int,
        *,
        seed: int = 0,
        start: int = 0,
        label: int | None = None,
        options: Options | None = None,
        prompt: Prompt | None = None,
        batch: int = BATCH,
    ) -> np.ndarray:
        """`stream`, all at once: (count, channels, *grid) raw."""
        parts = self.stream(count, seed=seed, start=start, label=label, options=options, prompt=prompt, batch=batch)
        return np.concatenate(list(parts))

    def judged(self, data: Arrays, count: int, *, seed: int, options: Options | None = None) -> np.ndarray:
        """(count, channels, *grid) raw by which a training is judged: samples, or the first of these examples (as many
        as there are), coded and restored."""
        if not recodes(self.model):
            return self.samples(count, seed=seed, options=options)
        device = str(self.engine.device)
        return np.concatenate([self.reconstruct(part) for part in data.batches(BATCH, limit=count, device=device)])

    def array(self, x: Tensor) -> np.ndarray:
        """Raw tensors in the data's own dtype."""
        if np.issubdtype(self.dtype, np.integer):
            limits = np.iinfo(self.dtype)
            return x.float().round().clamp(limits.min, limits.max).cpu().numpy().astype(self.dtype)
        return x.float().cpu().numpy()

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> np.ndarray:
        """decode(encode(x)) of one batch, under its own conditions."""
        if not (isinstance(self.model, Encodes) and isinstance(self.model, Decodes)):
            raise InputError("this model has no codes to reconstruct from")
        self.model.eval()
        with self.engine.autocast():
            codes = self.model.encode(batch)
            return self.array(self.model.decode(codes, Request(batch.noise, batch.raw, batch.present)))

    @torch.no_grad()
    def fit(self, data: Arrays, *, seed: int, limit: int) -> None:
        """Let the model fit its sampling density on training examples."""
        self.model.eval()
        device = str(self.engine.device)

        def batches() -> Iterator[Batch]:
            for batch in data.batches(BATCH, limit=limit, seed=seed, device=device):
                yield tell(self.model.spaces, batch)

        with self.engine.autocast():
            self.model.fit(batches(), Noise(seed, np.arange(1), device))


def merged(chosen: Options, asked: Options) -> Options:
    """The user's settings over the model's chosen ones."""
    changes = {f.name: getattr(asked, f.name) for f in fields(Options) if getattr(asked, f.name) is not None}
    return replace(chosen, **changes)
