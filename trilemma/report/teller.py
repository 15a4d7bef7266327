"""What a row of the table says: its samples measured, and of a run also what it can do, cost and has shown."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.errors import DiskError
from trilemma.metrics.protocol import records
from trilemma.modalities.contract import Data
from trilemma.report.judges import taught_by
from trilemma.report.measure import SEED, Ruler, asked_of, history, of_run, write_samples
from trilemma.report.of_styles import has_control, of_styles, sheet
from trilemma.report.of_tables import drawn as table_drawn
from trilemma.report.of_text import words_of
from trilemma.report.pictures import THRIFTS
from trilemma.report.probes import guided, ladder, probes, quick
from trilemma.report.quiz import MOST
from trilemma.tasks.load import Loaded
from trilemma.training.branch import branch, shares_of
from trilemma.training.opening import seen_by

SHOWN = THRIFTS[0].samples  # samples of each row kept for the page, besides those of its quiz


class Teller:
    """Fills in rows of a comparison in `folder`; `real` are test examples of its data, `count` samples measured."""

    def __init__(self, folder: Path, data: Data, real: np.ndarray, *, count: int, claims: bool, quiet: bool):
        self.folder, self.data, self.real = folder, data, real
        self.count, self.claims, self.quiet = count, claims, quiet

    @contextmanager
    def beside(self, row: dict[str, Any], what: str) -> Iterator[None]:
        """What goes wrong beside the training and its samples is no failure of the model: it is noted."""
        try:
            yield
        except (KeyboardInterrupt, OSError, DiskError):  # the next training would meet it, too
            raise
        except Exception as problem:
            row["problems"].append(f"{what}: {type(problem).__name__}: {problem}")
            self.log(row)
            if not self.quiet:
                print(f"{row['name']}: not measured: {row['problems'][-1]}", file=sys.stderr)

    def log(self, row: dict[str, Any]) -> None:
        """The traceback of what is being handled, for whoever looks for the cause."""
        with open(self.folder / "errors.log", "a", encoding="utf-8") as file:
            file.write(f"{row['name']} seed {row['seed']}\n{traceback.format_exc()}\n")

    def of_run(self, row: dict[str, Any], loaded: Loaded, ruler: Ruler, name: str, data: Data | None = None) -> None:
        """Everything that a finished run's row says; `data`: what it was trained on, where that is a part of them."""
        samples, extra, row["speed"] = of_run(loaded, self.data, self.count)
        known = None if data is None else len(data.splits["train"])
        self.measured(row, ruler, samples, name, asked_of(loaded, self.count), known)
        row["metrics"] |= extra
        for judge in taught_by(loaded.config):
            own = [key for key in row["metrics"] if key.endswith(f"@{judge}")]
            row["metrics"] = {key: entry for key, entry in row["metrics"].items() if key not in own}
            if own:
                row["problems"].append(f"figures by {judge}: its loss has looked at this judge's network")
        if ruler.series is not None and "forecast" in loaded.can():
            with self.beside(row, "what its forecasts are worth"):
                row["metrics"] |= records(ruler.series.forecasts.of_model(loaded))
        if ruler.text is not None:
            with self.beside(row, "whether its samples are of what their captions say"):
                told = ruler.text.of_model(loaded, samples, SEED)
                row["metrics"] |= records(told)
        if ruler.attributes is not None:
            with self.beside(row, "whether its samples have the attributes that were asked for"):
                told = ruler.attributes.of_model(loaded, ruler.network(samples), SEED)
                row["metrics"] |= records(told)
        if ruler.translation is not None:
            with self.beside(row, "how varied its outputs are"):
                more, draws = ruler.translation.of_model(loaded, samples)
                row["metrics"] |= more
                row["draws"] = None if draws is None else write_samples(self.folder, f"{name}-draws", draws)
        with self.beside(row, "what its codes and likelihood are worth"):
            row["metrics"] |= probes(loaded, self.data, ruler, samples)
        if row["kind"] == "model" and has_control(loaded):
            with self.beside(row, "what its styles control"):
                row["metrics"] |= of_styles(loaded, ruler)
                names, moved = sheet(loaded)
                row["directions"] = {"names": names, "samples": write_samples(self.folder, f"{name}-directions", moved)}
        if self.claims and row["kind"] == "model":
            with self.beside(row, "quality over steps and guidance"):
                self._climb(row, loaded, ruler)
        row["budgets"] = []
        for share in shares_of(loaded.run):
            with self.beside(row, f"quality at {share:g} of the budget"):
                seen = seen_by(loaded.config["model"], data or self.data)
                short = branch(seen, loaded.run, share, quiet=self.quiet)
                at, made = short.config()["training"]["examples"], ruler.of_test(Loaded(short.folder))
                x = made.sampler.samples(self.count, seed=SEED, options=made.options)
                spent, whole = short.choices()["seconds"]["total"], loaded.config["training"]["examples"]
                point = {"share": share, "reached": at / whole, "examples": at, "seconds": spent}
                row["budgets"].append({**point, "metrics": quick(ruler, x)})
        row |= history(loaded.run)
        row["config"], row["training"] = loaded.config["config"], loaded.config["training"]
        row["size"] = loaded.config["size"]
        film = loaded.run.samples_folder / "film.gif"
        row["film"] = str(film.relative_to(self.folder)) if film.is_file() else None
        strip = loaded.film(8 if self.real.ndim > 2 else len(self.real))
        if len(strip) > 2:
            row["strip"] = write_samples(self.folder, f"{name}-film", strip)
            if "denoise" in loaded.can():
                shown = loaded.noised(self.data.modality.export(self.real[:8] if self.real.ndim > 2 else self.real))
                row["noised"] = write_samples(self.folder, "real-noised", shown)

    def _climb(self, row: dict[str, Any], loaded: Loaded, ruler: Ruler) -> None:
        """Quality over steps, where a sampler takes any, and over guidance, where there are conditions."""
        config = loaded.config["config"]
        if "steps" in config:
            samplers = ("ddpm", "ddim") if config.get("path") == "ddpm" else (config["sampler"],)
            row["ladder"] = ladder(loaded, ruler, samplers)
        if "guidance" in config and (loaded.sampler.frequencies or loaded.attributes or words_of(loaded)):
            row["guided"] = guided(loaded, ruler)

    def measured(
        self, row: dict[str, Any], ruler: Ruler, samples: np.ndarray, name: str, asked: np.ndarray | None = None,
        known: int | None = None,
    ) -> None:  # fmt: skip
        if not self.quiet:
            print(f"measuring {row['name']}", file=sys.stderr)
        in_order = row["kind"] != "included"  # nobody knows which source another tool's samples are made from
        measured = ruler.floor(samples) if row["kind"] == "floor" else None
        found = measured or ruler.measure(samples, asked, known, in_order=in_order)
        metrics, row["verdicts"], order, nearest = found
        row["metrics"], row["column"] = metrics, ruler.protocol.key()
        row["series"] = ruler.series.drawn(samples) if ruler.series else None
        row["table"] = table_drawn(self.data, samples)
        row["samples"] = write_samples(self.folder, name, samples[: SHOWN + MOST if samples.ndim > 2 else 500])
        if samples.ndim > 2:
            row["nearest"] = {
                "samples": write_samples(self.folder, f"{name}-nearest", samples[order]),
                "training": write_samples(self.folder, f"{name}-nearest-train", ruler.train[nearest]),
            }
