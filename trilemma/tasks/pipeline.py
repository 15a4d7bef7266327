"""A run as a folder that `diffusers` loads, for programs that call its pipelines; it needs Trilemma beside that.

Our networks are not built of `UNet2DModel`'s blocks (patches at the mouth, skips that are added, conditions of their
own), so that no conversion of weights gives one of that library's own pipelines. What it gives is a pipeline whose code
is two small files that call this one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trilemma.errors import InputError
from trilemma.tasks.travel import check_travels, taken_along, without_places
from trilemma.training.card import card
from trilemma.training.run import disk_errors, write_json, write_text

PIPELINE = '''"""Pictures of a run of Trilemma as a pipeline: pip install trilemma diffusers."""

from diffusers import DiffusionPipeline, ImagePipelineOutput

from trilemma.tasks.pipeline import pictures


class TrilemmaPipeline(DiffusionPipeline):
    def __init__(self, run):
        super().__init__()
        self.register_modules(run=run)

    def __call__(
        self, batch_size=1, generator=None, num_inference_steps=None, class_labels=None, guidance_scale=None,
        output_type="pil", return_dict=True,
    ):
        images = pictures(
            self.run.loaded, batch_size, generator=generator, steps=num_inference_steps, labels=class_labels,
            guidance=guidance_scale,
        )
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)
'''
LOADING = '''"""The run beside this file, as a part of a pipeline."""

from diffusers import ConfigMixin, ModelMixin

import trilemma


class TrilemmaRun(ModelMixin, ConfigMixin):
    config_name = "part.json"

    @classmethod
    def from_pretrained(cls, folder, **kwargs):
        part = cls()
        part.loaded = trilemma.load(folder)
        part.network = part.loaded.model
        return part.eval()
'''
CODE = {"pipeline.py": PIPELINE, "run/loading.py": LOADING}


def export_pipeline(loaded: Any, folder: str | Path) -> list[Path]:
    """Write the run as a pipeline's folder: `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`.

    loaded: a run as `load` gives it; imports point downward.

    Raises:
        InputError: a run that makes no pictures out of nothing, one that needs Python of one's own, a folder that is
            there.
    """
    folder, run = Path(folder), loaded.run
    if loaded.modality.kind != "image":
        raise InputError(f"--to diffusers: a pipeline makes pictures, and this run makes {loaded.modality.kind} data")
    loaded.require("generate")
    check_travels(run)
    for one in taken_along(loaded):
        loaded.say(f"--to diffusers: {one}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"--out {folder} is there already; give a new or an empty folder")
    aside = folder.absolute().with_name(f".{folder.absolute().name}.part")
    with disk_errors(folder):
        shutil.rmtree(aside, ignore_errors=True)
        (aside / "run").mkdir(parents=True)
    try:
        write_json(aside / "run" / "config.json", without_places(run.config()))
        with disk_errors(folder):
            for file in (run.weights_file, run.choices_file):
                if file.is_file():
                    shutil.copyfile(file, aside / "run" / file.name)
        for name, text in CODE.items():
            write_text(aside / name, text)
        write_text(aside / "README.md", card(run.config(), run.choices(), tasks=loaded.can()))
        index: dict[str, Any] = {"_class_name": ["pipeline", "TrilemmaPipeline"], "_diffusers_version": "0.32.0"}
        write_json(aside / "model_index.json", {**index, "run": ["loading", "TrilemmaRun"]})
        with disk_errors(folder):
            os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def pictures(
    loaded: Any, n: int, *, generator: torch.Generator | list[torch.Generator] | None = None,
    steps: int | None = None, labels: Any = None, guidance: float | None = None,
) -> np.ndarray:  # fmt: skip
    """(n, H, W, C) float32 in 0 ... 1, as pipelines give them.

    generator: one for all, which goes on, or one for each picture. labels: one for all or one for each, by name or
    number. Without a generator each call makes other pictures.
    """
    import torch

    labels = labels if isinstance(labels, (list, tuple)) else [labels] * n
    if len(labels) != n:
        raise InputError(f"class_labels: {len(labels)} of them for {n} pictures")
    alone = isinstance(generator, (list, tuple))
    if isinstance(generator, (list, tuple)) and len(generator) != n:
        raise InputError(f"generator: {len(generator)} of them for {n} pictures")
    loaded.model.to(loaded.engine.device)  # a pipeline may have been moved elsewhere

    def seed(source: Any) -> int:
        where = source.device if source is not None else "cpu"
        return int(torch.randint(2**31 - 1, (1,), generator=source, device=where))

    seeds = [seed(one) for one in generator] if isinstance(generator, (list, tuple)) else [seed(generator)] * n
    rows: list[np.ndarray] = []
    # Neighbours of one seed and label are made together; each picture depends on its seed and number alone.
    start = 0
    while start < n:
        end = start + 1
        while end < n and seeds[end] == seeds[start] and labels[end] == labels[start] and not alone:
            end += 1
        number = 0 if alone else start
        rows.append(
            loaded.generate(
                end - start, seed=seeds[start], start=number, label=labels[start], steps=steps, guidance=guidance
            )
        )
        start = end
    made = np.concatenate(rows)
    made = made[..., None] if made.ndim == 3 else made
    return made.astype(np.float32) / np.iinfo(made.dtype).max if made.dtype.kind == "u" else made.astype(np.float32)
