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
        self, prompt=None, batch_size=None, generator=None, num_inference_steps=None, class_labels=None,
        guidance_scale=None, negative_prompt=None, output_type="pil", return_dict=True,
    ):
        images = pictures(
            self.run.loaded, batch_size, generator=generator, steps=num_inference_steps, labels=class_labels,
            guidance=guidance_scale, prompts=prompt, negatives=negative_prompt,
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
    loaded: Any, n: int | None = None, *, generator: torch.Generator | list[torch.Generator] | None = None,
    steps: int | None = None, labels: Any = None, guidance: float | None = None, prompts: Any = None,
    negatives: Any = None,
) -> np.ndarray:  # fmt: skip
    """(n, H, W, C) float32 in 0 ... 1, as pipelines give them.

    n: None makes as many as there are prompts. generator: one for all, which goes on, or one for each picture. labels,
    prompts, negatives (what not to make): one for all or one for each; labels by name or number. Without a generator
    each call makes other pictures.
    """
    import torch

    count = n or (len(prompts) if isinstance(prompts, (list, tuple)) else 1)

    def each(name: str, given: Any) -> list[Any]:
        given = list(given) if isinstance(given, (list, tuple)) else [given] * count
        if len(given) != count:
            raise InputError(f"{name}: {len(given)} of them for {count} pictures")
        return given

    named = {"class_labels": labels, "prompt": prompts, "negative_prompt": negatives}
    told = list(zip(*(each(name, given) for name, given in named.items()), strict=True))
    alone, generators = isinstance(generator, (list, tuple)), each("generator", generator)
    loaded.model.to(loaded.engine.device)  # a pipeline may have been moved elsewhere

    def seed(source: Any) -> int:
        where = source.device if source is not None else "cpu"
        return int(torch.randint(2**31 - 1, (1,), generator=source, device=where))

    seeds = [seed(one) for one in generators] if alone else [seed(generator)] * count
    rows: list[np.ndarray] = []
    # Neighbours that are told the same are made together; each picture depends on that, its seed and its number alone.
    start = 0
    while start < count:
        end = start + 1
        while end < count and told[end] == told[start] and not alone:
            end += 1
        label, prompt, negative = told[start]
        rows.append(
            loaded.generate(
                end - start, seed=seeds[start], start=0 if alone else start, label=label, steps=steps,
                guidance=guidance, prompt=prompt, negative=negative,
            )
        )  # fmt: skip
        start = end
    made = np.concatenate(rows)
    made = made[..., None] if made.ndim == 3 else made
    return made.astype(np.float32) / np.iinfo(made.dtype).max if made.dtype.kind == "u" else made.astype(np.float32)
