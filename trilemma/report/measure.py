"""One row of the table: samples of any origin measured on the test split under one recorded protocol."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.batches import Batch, Options
from trilemma.conditions import tell
from trilemma.errors import InputError
from trilemma.metrics.classes import class_reader, class_shares, control
from trilemma.metrics.classifier import two_sample_test
from trilemma.metrics.fidelity import frechet_distance, frechet_extrapolated, kernel_distance
from trilemma.metrics.given_features import PictureFeatures
from trilemma.metrics.memorisation import Unseen, memorisation, unseen_distances, values, without_place
from trilemma.metrics.neighbours import precision_recall_density_coverage
from trilemma.metrics.pixels import (
    mean_distance_between_pairs,
    modes_found,
    reconstruction_error,
    sharpness,
    spectrum_distance,
)
from trilemma.metrics.privacy import attribute_gain, closer_to_train, exact_copies, membership
from trilemma.metrics.protocol import Measure, Protocol, over_examples, records
from trilemma.metrics.tables import column_shapes, pair_trends, rules_broken
from trilemma.metrics.translation import both
from trilemma.metrics.usefulness import usefulness
from trilemma.metrics.variety import alpha_precision_beta_recall, vendi_score
from trilemma.mixed import Mixed, plain
from trilemma.modalities.contract import Data
from trilemma.modalities.series import Series
from trilemma.modalities.table import Table
from trilemma.models.contract import CAPABILITIES, Decodes, Encodes, Samples, Scores, find
from trilemma.report.judges import judges_for
from trilemma.report.of_attributes import AttributeRuler
from trilemma.report.of_series import SeriesRuler
from trilemma.report.of_text import TextRuler
from trilemma.report.of_translation import TranslationRuler, given_sources
from trilemma.spaces import Categorical
from trilemma.tasks.load import Loaded
from trilemma.training.engine import forget_peak, peak_memory
from trilemma.training.features import feature_network
from trilemma.training.run import Run

REFERENCE = 10_000  # most test examples
TRAIN = 10_000  # most training examples in the search for copies
OF_COPIES = ("memorisation", "near_copies", "exact_copies", "closer_to_train", "membership", "attribute_gain")
WHOLE = 200_000  # of a table's
CLOSE = 2000  # made rows whose closest record is looked for
MOVED, PLACES = 250, 500_000  # most samples that are moved along directions of styles; most places of all of them
FEWEST = 10  # test examples for measures that count neighbours or fit a classifier
SMALL = 20  # rows a feature: with fewer, much of a Frechet distance is bias
SEED = 0x6D656173757265


def count_for(data: Data) -> int:
    """How many samples of each model the protocol takes for these data."""
    places, enough = int(np.prod(data.x.shape[1:])), len(data.splits["test"]) >= 1000
    count = 500 if places <= 256 and not enough else 2000 if places <= 4096 and enough else 1000
    sources = data.sources("test")
    if sources is not None:  # the output for a source twice is no second sample
        count = min(count, len(sources))
    count = 5000 if enough and isinstance(data.spaces["x"], Mixed) else count  # rows are cheap
    # Never more than the floor has real examples to show: repeated ones would spoil its recall.
    return max(min(count, len(data.splits["train"])), FEWEST)


def moved_for(data: Data) -> int:
    """How many samples of a model with styles the protocol moves along directions: fewer of large ones, never few."""
    places = int(np.prod(data.x.shape[2:]))
    return max(min(PLACES // places, MOVED), 40) if data.x.ndim > 2 else 0


def read_samples(data: Data, given: Any, notes: list[str]) -> np.ndarray:
    """Samples of any origin in the raw form of the data (n, ...); how they were read is added to the notes.

    InputError for too few of them, or for samples of another kind.
    """
    x, _ = data.modality.read(given, data.spaces["x"], notes)
    if len(x) < FEWEST:
        shown = given if isinstance(given, (str, Path)) else "samples"
        raise InputError(f"{shown}: {len(x)} samples are too few to measure; give at least {FEWEST}, better 1,000")
    return x.astype(data.x.dtype, copy=False)


def rules_of(data: Data, given: Any, notes: list[str]) -> dict[str, dict[str, Any]]:
    """How many rows of any origin break the rules of `--keep`: read from the rows as they are, for what was learned of
    them keeps the rules. Empty where there are none."""
    if not (isinstance(data.modality, Table) and data.opening.keep):
        return {}
    broken = data.modality.broken(given)
    notes += [f"{own.sum():,} of {len(own):,} rows break {rule!r}" for rule, own in broken.items() if own.any()]
    return {"rules_broken": rules_broken(np.any(list(broken.values()), axis=0)).record()}


def drawn(among: int, count: int) -> np.ndarray:
    """The places of `count` of so many samples, drawn at random (always the same ones) and in their order."""
    return np.sort(np.random.default_rng(SEED).permutation(among)[:count])


class Ruler:
    """The reference side of all metrics, computed once: features of the test and the training split.

    worded: also whether samples are of what their captions say.
    """

    def __init__(
        self,
        data: Data,
        count: int,
        *,
        given: list[PictureFeatures] | None = None,
        worded: bool = False,
        quiet: bool = False,
    ):
        self.data, self.count, self.seen = data, count, data.modality.seen
        self.network = feature_network(data, "measure", quiet=quiet)
        self.test = data.rows("test", REFERENCE)
        self.train = data.rows("train", TRAIN)
        self.features = self.network(self.test)
        self.shaped = self.network.shaped(self.features)  # for distances by means and covariances
        self.train_features = self.network(self.train)
        self.judges = judges_for(data, self.seen(self.test), self.seen(self.train), given or [])
        self.unseen: dict[int | None, list[Unseen]] = {}  # for each view of `copies`, by how much the model has seen
        self.series = SeriesRuler(data) if isinstance(data.modality, Series) else None
        self.text = TextRuler(data, self.network, count, quiet=quiet) if worded else None
        self.attributes = AttributeRuler(data, self.train_features, self.features) if data.attributes else None
        self.translation = None
        if data.sources("test") is not None:
            self.translation = TranslationRuler(data, self.network, count, quiet=quiet)
        # What copies are looked for among, and unseen data to hold them against: of a series some of the same time.
        self.searched, self.held = np.arange(len(self.train)), (self.test, self.features)
        if self.series is not None:
            self.searched, held = self.series.set_aside(TRAIN)
            self.held = held, self.network(held)
        self.reader: Any = None
        self.whole: np.ndarray | None = None  # a table's training rows among which exact copies are looked for
        label = data.spaces.get("label")
        if isinstance(label, Categorical):
            labels, known = self._labels("train", TRAIN)
            if len(np.unique(labels[known])) > 1:
                self.reader = class_reader(self.train_features[known], labels[known])
                self.read = self.reader.predict(self.features)
        self.protocol = Protocol(
            features=self.network.name,
            features_hash=self.network.hash,
            split="test",
            reference_count=len(self.test),
            sample_count=count,
            resize="x".join(map(str, data.x.shape[1:])),
            seeds={"samples": SEED},
            data_hash=data.hash,
            judges={judge.name: judge.record for judge in self.judges}
            | ({"captions": self.text.record} if self.text else {}),
            moved_count=moved_for(data),
        )

    def of_test(self, loaded: Loaded) -> Loaded:
        """The run with what its samples are made from or asked for: sources and captions of the test split."""
        if self.text is not None:
            self.text.ask(loaded)
        return given_sources(loaded, self.data)

    def _labels(self, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels (n,) of the first examples of a split, and which of them are known."""
        rows, data = self.data.splits[split][:limit], self.data
        known = np.asarray(data.present["label"])[rows] if "label" in data.present else np.ones(len(rows), dtype=bool)
        return np.asarray(data.conditions["label"])[rows, 0], known

    def copies(self, samples: np.ndarray, features: np.ndarray, known: int | None = None) -> tuple[dict[str, Any], str]:
        """`memorisation` in features, and the verdict of all views: features, values, values without their place.

        Features miss a copy under noise, values miss one that was moved or mirrored: each view may raise the alarm.
        """
        looks = [values, without_place] if samples.ndim > 2 else [values]
        if isinstance(self.data.spaces["x"], Mixed):  # its features are its values
            looks = []
        places = self.searched[self.searched < (known or len(self.train))]
        places = places if len(places) > 1 else np.arange(len(self.train[:known]))
        train, train_features = self.seen(self.train[places]), self.train_features[places]
        (held, held_features), samples = self.held, self.seen(samples)
        held = self.seen(held)
        if known not in self.unseen:
            self.unseen[known] = [unseen_distances(train_features, held_features)]
            self.unseen[known] += [unseen_distances(look(train), look(held)) for look in looks]
        in_features, *others = self.unseen[known]
        found = memorisation(train_features, held_features, features, unseen=in_features)
        found["nearest"] = places[found["nearest"]]
        alarms = {found["verdict"]}
        for look, unseen in zip(looks, others, strict=True):
            alarms.add(memorisation(look(train), look(held), look(samples), unseen=unseen)["verdict"])
        return found, next(word for word in ("copies", "none", "cannot tell") if word in alarms)

    def floor(self, samples: np.ndarray) -> tuple[dict[str, Any], dict[str, str], np.ndarray, np.ndarray]:
        """`measure` of real data; and how often the class of unseen real data is read right."""
        metrics, verdicts, *rest = self.measure(samples)
        # Real data are what copies are measured against.
        metrics = {key: entry for key, entry in metrics.items() if key not in OF_COPIES}
        verdicts = {key: word for key, word in verdicts.items() if key != "memorisation"}
        if self.translation is not None:
            metrics |= records(self.translation.floor())
        if self.text is not None:
            metrics |= records(self.text.floor())
        if self.attributes is not None:
            metrics |= records(self.attributes.real)
        if self.reader is not None:
            labels, known = self._labels("test", REFERENCE)
            if known.any():
                metrics["control"] = control(labels[known], self.read[known]).record()
        return (metrics, verdicts, *rest)  # type: ignore[return-value]

    def measure(
        self,
        samples: np.ndarray,
        asked: np.ndarray | None = None,
        known: int | None = None,
        *,
        in_order: bool = False,
    ) -> tuple[dict[str, Any], dict[str, str], np.ndarray, np.ndarray]:
        """(metrics, verdicts, order of samples by nearness to the training set, their nearest training rows).

        asked: the labels (n,) of which samples were asked for, where the model was told them. known: how many of the
        training examples, the first ones, the model has seen; None for all. in_order: sample i is made from test source
        i; without that a translator's samples have distances as a set only.
        """
        features = self.network(samples)
        shaped = self.network.shaped(features)
        found: dict[str, Measure] = {
            "frechet": frechet_distance(self.shaped, shaped),
            "kernel": kernel_distance(self.shaped, shaped),
            "diversity": mean_distance_between_pairs(self.features, features),
        }
        few = min(len(self.features), len(features))
        if max(20, 2 * shaped.shape[1]) <= few < SMALL * shaped.shape[1]:  # with fewer, half of them bend the line
            found["frechet_extrapolated"] = frechet_extrapolated(self.shaped, shaped)
        if few >= FEWEST:
            found |= precision_recall_density_coverage(self.features, features)
            if not isinstance(self.data.modality, (Table, Series)):  # they have their own
                found["classifier"] = two_sample_test(self.features, features)
            found["vendi"] = vendi_score(self.features, features)
            found |= alpha_precision_beta_recall(self.features, features)
        if self.reader is not None:
            read = self.reader.predict(features)
            found |= class_shares(self.read, read, count=self.data.spaces["label"].count)  # type: ignore[arg-type]
            if asked is not None:
                found["control"] = control(asked, read)
        for judge in self.judges:
            found |= judge.measure(self.seen(samples))
        if samples.ndim > 2:
            # Of a series what is the user's: its calendar is no detail.
            own = slice(len(self.data.modality.channels) if isinstance(self.data.modality, Series) else None)
            if max(samples.shape[2:]) >= 3:
                found["sharpness"] = sharpness(*(self.seen(x)[:, own] for x in (self.test, samples)))
                if self.series is None:
                    found["spectrum"] = spectrum_distance(self.test, samples)
        verdicts: dict[str, str] = {}
        if self.series is not None:
            more, verdicts = self.series.measure(samples)
            found |= more
        if self.translation is not None and in_order:
            found |= self.translation.measure(samples)
            if "perceptual" in found:
                found["translation"] = both(found["perceptual"], found["frechet"], float(self.features.var(0).sum()))
        if isinstance(self.data.modality, Table) and few >= FEWEST:
            found |= self.of_table(samples, features, known)
        if self.data.centres is not None:
            spread = float(np.median(_to_centres(self.test, self.data.centres)))
            # The distance to the nearest of K round modes in D dimensions is about spread times a chi variable.
            found |= modes_found(samples, self.data.centres, spread / max(self.data.centres.shape[1] - 0.6, 0.5) ** 0.5)
        copies, verdict = self.copies(samples, features, known)
        found["memorisation"], found["near_copies"] = copies["ratio"], copies["near_copies"]
        order = np.argsort(copies["distances"])[:8]
        nearest = np.asarray(copies["nearest"])[order]
        metrics = records(found)
        return metrics, {"memorisation": verdict, **verdicts}, order, nearest

    def of_table(self, samples: np.ndarray, features: np.ndarray, known: int | None) -> dict[str, Measure]:
        """What is measured of tables alone, on cells in the user's units."""
        modality = self.data.modality
        assert isinstance(modality, Table)
        made, real, train = (modality.cells(x) for x in (samples, self.test, self.train[:known]))
        if self.whole is None:
            self.whole = modality.cells(self.data.rows("train", WHOLE)).values
        cells, numbers, target = made.values, made.numbers, made.target
        found = {
            "shapes": column_shapes(real.values, cells, numbers),
            "trends": pair_trends(real.values, cells, numbers),
            "classifier": two_sample_test(filled(real.values), filled(cells)),
            "usefulness": usefulness(cells, real.values, target=target, numbers=numbers),
            "usefulness@linear": usefulness(cells, real.values, target=target, numbers=numbers, kind="linear"),
            "exact_copies": exact_copies(self.whole[:known], cells),
        }
        if self.data.opening.keep:  # as they are written: the promise is kept there or nowhere
            rows = modality.export(samples)
            found["rules_broken"] = rules_broken(np.any(list(modality.broken(rows).values()), axis=0))
        both = np.concatenate([cells, train.values[: len(cells)]])
        found["augmented"] = usefulness(both, real.values, target=target, numbers=numbers)
        # Members and others of equal number, so that chance is alike for both.
        count = min(len(train.values), len(real.values))
        near = self.train_features[:known][:count], self.features[:count]
        found["membership"] = membership(*near, features)
        found["closer_to_train"] = closer_to_train(self.whole[:known], real.values, cells[:CLOSE], numbers)
        space = self.data.spaces["x"]
        assert isinstance(space, Mixed)
        rest = np.repeat(np.arange(len(space.widths)) != target, space.widths)
        answers = train.values[:count, target], real.values[:count, target], cells[:, target]
        if rest.any():
            found["attribute_gain"] = attribute_gain(
                near[0][:, rest], near[1][:, rest], features[:, rest], answers, number=numbers[target]
            )
        return {name: replace(measure, name=name) for name, measure in found.items() if measure is not None}


def filled(cells: np.ndarray) -> np.ndarray:
    """Cells with those that are missing below all others: a tree tells them by that."""
    low = np.nanmin(np.where(np.isnan(cells), np.inf, cells)) if cells.size else 0.0
    return np.where(np.isnan(cells), min(low, 0.0) - 1e6, cells)


def _to_centres(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None] - centres[None]) ** 2).sum(-1)).min(1)


def asked_of(loaded: Loaded, count: int) -> np.ndarray | None:
    """The labels (count,) that the samples of `of_run` were asked for; None where the model knows none."""
    labels = loaded.sampler.labels(SEED, np.arange(count))
    return None if labels is None else labels[:, 0]


def of_run(loaded: Loaded, data: Data, count: int) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Samples (count, ...) of a run, its extra metrics (reconstruction, likelihood) and its speed."""
    model = loaded.model
    assert isinstance(model, Samples)
    loaded.sampler.samples(1, seed=SEED, options=loaded.options)  # the very first pays for what is loaded on demand
    before = forget_peak()
    start = time.perf_counter()
    loaded.sampler.samples(1, seed=SEED, options=loaded.options)
    first = time.perf_counter() - start
    start = time.perf_counter()
    samples = loaded.sampler.samples(count, seed=SEED, options=loaded.options)
    seconds = time.perf_counter() - start
    config, choices = loaded.config, loaded.run.choices()
    spent = choices.get("seconds", {})
    examples = config["training"]["examples"]
    speed = {
        "samples_per_second": count / seconds,
        "first_sample_seconds": first,
        "calls": model.calls(loaded.options or Options()),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "model_bytes": loaded.run.weights_file.stat().st_size,
        "train_seconds": spent.get("total"),
        "examples": examples,
        "examples_per_second": examples / spent["loop"] if spent.get("loop") else None,
        "train_memory_bytes": choices.get("memory_bytes"),
        "sample_memory_bytes": None if before is None else max((peak_memory() or 0) - before, 0),
    }
    if choices.get("energy_joules"):  # few machines let it be read
        speed["train_joules"] = choices["energy_joules"]
    found: dict[str, Measure] = {}
    rows = data.splits["test"][:500]
    arrays, where = data.split("test"), str(loaded.engine.device)
    places = np.arange(len(rows))

    def told(part: np.ndarray) -> Batch:
        return tell(model.spaces, arrays.gather(part, seed=SEED, device=where))

    if isinstance(model, Encodes) and isinstance(model, Decodes):
        parts = np.array_split(places, -(-len(places) // 250))
        again = np.concatenate([loaded.sampler.reconstruct(told(part)) for part in parts])
        space = data.spaces["x"]
        found["reconstruction"] = reconstruction_error(plain(space, data.x[rows]), plain(space, again))["mse"]
    if isinstance(model, Scores) and data.x.ndim == 2 and not isinstance(data.spaces["x"], Mixed):
        found["log_likelihood"] = _likelihood(model, told(places))
    return samples, records(found), speed


def history(run: Run) -> dict[str, Any]:
    """The entries of a row that tell of its training: events, stability, the curve of previews, losses, choices."""
    stats, choices = run.stats(), run.choices()
    events = [r for r in stats if "event" in r and r["event"] not in ("start", "end")]
    losses = [r for r in stats if "event" not in r and "kernel@random" not in r]
    seconds = {r["seen"]: r["seconds"] for r in losses}

    def at(seen: int) -> float | None:
        return seconds[min(seconds, key=lambda moment: abs(moment - seen))] if seconds else None

    return {
        "events": events,
        "stability": {
            "events": choices.get("events", {}),
            "rollbacks": sum("rolled back" in r.get("action", "") for r in events),
        },
        "curve": [{**r, "seconds": at(r["seen"])} for r in stats if r.get("kernel@random") is not None],
        "losses": losses[:: max(len(losses) // 100, 1)],
        "choices": choices,
    }


def _likelihood(model: Scores, batch: Batch) -> Measure:
    """Mean log-likelihood of these examples, nats an example."""
    scores = model.score(batch).detach().double().cpu().numpy()
    return over_examples(scores, "log_likelihood", "higher", "nats an example")


def new_row(name: str, seed: int | None, kind: str, status: str) -> dict[str, Any]:
    """A row of results.json in which nothing is measured yet."""
    trained = kind in ("model", "variant")
    family = find(name)[0].__module__.rpartition(".")[2] if trained else "other" if kind == "included" else kind
    can = [c.__name__ for c in CAPABILITIES if issubclass(find(name)[0], c)] if trained else []
    return {
        "name": name, "family": family, "kind": kind, "seed": seed, "status": status, "error": None, "run": None,
        "problems": [],
        "can": can, "column": None, "metrics": {}, "verdicts": {}, "speed": {},
        "stability": {"events": {}, "rollbacks": 0},
        "events": [], "curve": [], "losses": [], "choices": {}, "config": {}, "training": {}, "samples": None,
        "film": None, "strip": None, "noised": None, "nearest": None, "series": None, "draws": None,
        "directions": None,
    }  # fmt: skip


def write_samples(folder: Path, name: str, x: np.ndarray) -> str:
    """Raw samples under the report folder; returns the path relative to it."""
    path = folder / "samples" / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, x)
    return str(path.relative_to(folder))


def file_name(name: str) -> str:
    """Of a row's files: a model may be a path of its own."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-")
