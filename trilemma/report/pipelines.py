"""Pipelines of the library `diffusers` as rows of a comparison: each makes its samples with its own scheduler."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trilemma.errors import InputError, first_line
from trilemma.modalities.contract import Data
from trilemma.report.measure import SEED, read_samples
from trilemma.training import outside
from trilemma.training.progress import Bar
from trilemma.training.run import disk_errors, write_json

INDEX = "model_index.json"  # by which a folder says that it is a pipeline
PLACES = 2**18  # pixels of a batch: 64 pictures of 64 x 64, one of 512 x 512
LIBRARIES = ("diffusers", "transformers", None)  # whose parts are loaded; others would be code from the folder
HASHED = 2**26  # bytes; of larger files their size and time stand for their contents


@dataclass
class Made:
    """What a pipeline made: pictures (n, H, W, C) uint8, and how fast."""

    pictures: np.ndarray
    speed: dict[str, Any]


@dataclass
class Pipeline:
    """One folder of a pipeline, checked, and how many steps its scheduler is to take (None: its own default).

    captions: for one that asks for a prompt: picture i is made for caption i, over and over again.
    """

    name: str
    folder: Path
    steps: int | None = None
    captions: list[str] = field(default_factory=list)

    def _index(self) -> dict[str, Any]:
        return json.loads((self.folder / INDEX).read_text(encoding="utf-8"))

    def _known(self) -> Mapping[str, inspect.Parameter]:
        """What it can be asked for."""
        kind = getattr(outside.library("--include of a pipeline"), self._index()["_class_name"])
        return inspect.signature(kind.__call__).parameters

    @property
    def reads(self) -> bool:
        """Is it asked for pictures in words?"""
        return bool(self.captions) and "prompt" in self._known()

    def facts(self) -> dict[str, Any]:
        """What it is, in words for the row."""
        index, call = self._index(), self._known()
        usual = call["num_inference_steps"].default if "num_inference_steps" in call else None
        return {
            "pipeline": index["_class_name"], "scheduler": (index.get("scheduler") or [None, None])[1],
            "steps": self.steps or usual, "seed": SEED,
        }  # fmt: skip

    def check(self, data: Data) -> float:
        """Make one picture; returns its seconds. InputError for what cannot be loaded or asks for what is not there."""
        if data.modality.kind != "image":
            raise InputError(
                f"--include {self.name}=...: a pipeline makes pictures, and these are {data.modality.kind} data"
            )
        with self._working() as (pipeline, _):
            start = time.perf_counter()
            made = self._pictures(pipeline, np.arange(1))
            seconds = time.perf_counter() - start
        data.modality.read(made, data.spaces["x"])
        return seconds

    def samples(self, data: Data, count: int, kept: Path, *, quiet: bool) -> tuple[np.ndarray, dict[str, Any]]:
        """`count` samples in the raw form of the data, and their speed; what lies in `kept` is not made again."""
        told, key = kept.with_suffix(".json"), self._key(count)
        if kept.is_file() and told.is_file() and (old := json.loads(told.read_text()))["key"] == key:
            made = Made(np.load(kept), old["speed"])
        else:
            made = self._make(count, quiet=quiet)
            with disk_errors(kept):
                np.save(kept, made.pictures)
            write_json(told, {"key": key, "speed": made.speed, **self.facts()})
        notes: list[str] = []
        x = read_samples(data, made.pictures, notes)
        data.notes += [one for one in (f"{self.name}: {note}" for note in notes) if one not in data.notes]
        return x, made.speed

    def _make(self, count: int, *, quiet: bool) -> Made:
        with self._working() as (pipeline, calls):
            self._pictures(pipeline, np.arange(1))  # the very first pays for what is loaded on demand
            calls.clear()
            start = time.perf_counter()
            first = self._pictures(pipeline, np.arange(1))
            first_seconds, called = time.perf_counter() - start, len(calls)
            size = max(min(PLACES // max(first[0, ..., 0].size, 1), 64), 1)
            bar, parts = Bar(f"sampling {self.name}", count, quiet=quiet), []
            start = time.perf_counter()
            for begin in range(0, count, size):
                parts.append(self._pictures(pipeline, np.arange(begin, min(begin + size, count))))
                bar.update(begin + len(parts[-1]), {})
            seconds = time.perf_counter() - start
            bar.close()
            networks = [one for one in pipeline.components.values() if isinstance(one, torch.nn.Module)]
        return Made(
            np.concatenate(parts),
            {
                "samples_per_second": count / seconds,
                "first_sample_seconds": first_seconds,
                **({"calls": called} if called else {}),
                "parameters": sum(p.numel() for network in networks for p in network.parameters()),
                "model_bytes": sum(file.stat().st_size for file in self.folder.rglob("*.safetensors")),
            },
        )

    @contextmanager
    def _working(self) -> Iterator[tuple[Any, list[int]]]:
        """The pipeline where it computes fastest, and a list that grows with each call of its denoising network."""
        diffusers, calls = outside.library("--include of a pipeline"), list[int]()
        diffusers.utils.logging.disable_progress_bar()
        try:
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                str(self.folder), use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as problem:
            raise InputError(
                f"--include {self.name}=...: {self.folder} cannot be loaded as a pipeline with safetensors "
                f"({first_line(problem)})"
            ) from problem
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
        self._check_call()
        network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        hook = network.register_forward_hook(lambda *_: calls.append(1)) if network is not None else None
        try:
            yield pipeline, calls
        finally:
            if hook is not None:
                hook.remove()

    def _check_call(self) -> None:
        """InputError for a pipeline that makes nothing out of a count or captions alone."""
        known, kind = self._known(), self._index()["_class_name"]
        asked = [one for one, each in known.items() if each.default is inspect.Parameter.empty and one != "self"]
        asked = [one for one in asked if known[one].kind not in (inspect.Parameter.VAR_KEYWORD,) and one != "prompt"]
        if "prompt" in known and not self.captions:
            asked.append("prompt")
        if asked or not {"batch_size", "prompt"} & known.keys():
            what = ", ".join(asked) or "something else than a count"
            raise InputError(
                f"--include {self.name}=...: {kind} asks for {what}, which a comparison of these data does not have; "
                "make the pictures with it and include their folder"
            )
        if self.steps is not None and "num_inference_steps" not in known:
            raise InputError(f"--include {self.name}=...: {kind} takes no number of steps")

    def _pictures(self, pipeline: Any, index: np.ndarray) -> np.ndarray:
        """Pictures number `index` of the protocol's seed, each by a generator of its own: (n, H, W, C) uint8."""
        generators = [torch.Generator("cpu").manual_seed(SEED % 2**40 + int(one)) for one in index]
        told: dict[str, Any] = {} if self.steps is None else {"num_inference_steps": self.steps}
        if self.reads:
            told["prompt"] = [self.captions[one % len(self.captions)] for one in index]
        else:
            told["batch_size"] = len(index)
        made = pipeline(generator=generators, output_type="np", **told).images
        made = np.asarray(made, dtype=np.float32)
        if made.ndim != 4 or len(made) != len(index) or not np.isfinite(made).all():
            raise InputError(f"--include {self.name}=...: its pictures have odd shapes {made.shape} or holes")
        return (made * 255).round().clip(0, 255).astype(np.uint8)

    def _key(self, count: int) -> str:
        """Of its files and of what is asked: by it samples that were made before are known again."""
        found = hashlib.sha256(
            "\n".join([f"{count} {self.steps} {SEED} ", *(self.captions if self.reads else [])]).encode(
                errors="replace"
            )
        )
        for file in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            about = file.stat()
            content = file.read_bytes() if about.st_size <= HASHED else f"{about.st_size} {about.st_mtime_ns}".encode()
            found.update(str(file.relative_to(self.folder)).encode() + hashlib.sha256(content).digest())
        return found.hexdigest()


def pipeline_of(name: str, given: Any) -> Pipeline | None:
    """The pipeline that `--include NAME=FOLDER[:STEPS]` or `NAME=hub:OWNER/NAME[:STEPS]` means; None for samples.

    InputError for one that brings code of its own, and for one of the Hub that is not in the cache of this machine.
    """
    if not isinstance(given, (str, Path)):
        return None
    text, steps = str(given), None
    if not Path(text).exists() and (ending := re.fullmatch(r"(.+):(\d+)", text)):
        text, steps = ending[1], int(ending[2])
    if text.startswith(outside.HUB):
        folder = outside.cached(text.removeprefix(outside.HUB), f"--include {name}")
    else:
        folder = Path(text).expanduser()
        if not (folder / INDEX).is_file():
            return None
    if steps == 0:
        raise InputError(f"--include {name}={given}: a scheduler needs at least one step")
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        parts = [one[0] for key, one in index.items() if key[0] != "_" and isinstance(one, list)]
        whole = isinstance(index["_class_name"], str)
    except (OSError, ValueError, KeyError, IndexError, AttributeError):
        raise InputError(f"--include {name}=...: {folder / INDEX} is damaged") from None
    strange = [str(one) for one in parts if one not in LIBRARIES]
    if strange or not whole:
        raise InputError(
            f"--include {name}=...: {folder} brings code of its own ({', '.join(strange) or index['_class_name'][0]}), "
            "which is not run; make the pictures with it and include their folder"
        )
    return Pipeline(name, folder, steps)
