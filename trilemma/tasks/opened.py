"""A run folder opened: its model, its data and what it can do; how the tasks read their inputs."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trilemma.batches import Arrays, Batch, Options, Request
from trilemma.conditions import tell
from trilemma.errors import InputError
from trilemma.latent import Coder, Latent
from trilemma.modalities.attributes import NAME as ATTRIBUTES
from trilemma.modalities.contract import Data, Modality, Opening
from trilemma.modalities.door import modality, open_data
from trilemma.models.contract import (
    CAPABILITIES,
    Decodes,
    Draws,
    Encodes,
    Fills,
    Inverts,
    Model,
    Redraws,
    Styles,
    Translates,
    find,
)
from trilemma.numbered import Clusters
from trilemma.tasks.abilities import ONLY, TASKS, TRANSLATORS, models_that, needs, works
from trilemma.training.engine import Engine, bf16_possible
from trilemma.training.restore import restore
from trilemma.training.run import Run
from trilemma.training.sampling import BATCH, Prompt, Sampler, merged
from trilemma.words import Words


@dataclass
class Inputs:
    """Files or arrays as a model takes them, read once."""

    x: np.ndarray  # (n, channels, *grid) raw
    names: list[str]


# What a model of codes cannot do, and why.
OF_DATA = {
    "score": "this model knows codes, and codes have no likelihood of the data themselves",
    "denoise": "this model takes noise off codes; it knows nothing of noise on the data themselves",
}


class Opened:
    """A trained model with all that its tasks need, and what it can do."""

    def __init__(
        self, folder: str | Path | Run, *, networks: dict[str, nn.Module] | None = None, device: str | None = None
    ):
        self.run = Run.at(folder)
        self.config = self.run.config()
        training = self.config["training"]
        # A state trained in bf16 was chosen in bf16; a machine that would have to emulate it computes in float32.
        possible = training["dtype"] != "bfloat16" or bf16_possible(device)
        dtype = training["dtype"] if possible else "float32"
        self.engine = Engine(dtype=dtype, threads=training["threads"], device=device)
        self._said: set[str] = set()
        self.model: Model = restore(self.run, self.engine, networks=networks)
        data = self.config["data"]
        self.modality = modality(data["kind"]).from_description(data["modality"])
        self.space = self.model.space  # with the statistics that were fitted: they are saved with the weights
        self.label_names: list[str] = data["label_names"]
        self.attributes: list[Any] = columns_from(data.get("attributes") or [])
        self.options = Options(**{k: as_tuple(v) for k, v in (self.run.choices().get("options") or {}).items()})
        self.sampler = Sampler(self.model, self.engine, frequencies=data["frequencies"], dtype=np.dtype(data["dtype"]))

    @property
    def lawful(self) -> Options:
        """The run's options without those that were chosen by how samples look: as likely as the model has them."""
        return replace(self.options, guidance=1.0, steps=None)

    def can(self) -> list[str]:
        """Names of the tasks that this run can do."""
        tasks = [task for task in TASKS if works(type(self.model), self.modality.kind, task)]
        tasks = [task for task in tasks if not (task in OF_DATA and self.space is not self.space.outer)]
        tasks = [task for task in tasks if Fills not in TASKS[task] or self.fills]
        return [task for task in tasks if (task in TRANSLATORS if self.translates else task != "translate")]

    def capabilities(self) -> list[str]:
        """Of this run's model, by the names of their classes; without those that it was not trained for."""
        untrained = {Translates: not self.translates, Fills: not self.fills}
        return [kind.__name__ for kind in CAPABILITIES if isinstance(self.model, kind) and not untrained.get(kind)]

    @property
    def translates(self) -> bool:
        """Has this run learned from sources?"""
        return isinstance(self.model, Translates) and self.model.can_translate()

    @property
    def fills(self) -> bool:
        """Has this run learned to fill in what is missing?"""
        return isinstance(self.model, Fills) and self.model.can_fill()

    @property
    def reads(self) -> bool:
        """Has this run learned from captions?"""
        return any(isinstance(space, Words) for space in self.model.spaces.values())

    def _fills(self, task: str, needed: str | None = None) -> None:
        self.require(needed or task)
        if not self.fills:
            raise InputError(f"{task}: this run has not learned to fill in; train it with --set model.given=0.25")

    def _instead(self, task: str) -> str:
        """What else of that name a run can do whose model knows no directions: draw a picture anew."""
        if task != "edit" or not isinstance(self.model, Redraws):
            return ""
        if self.reads:
            return "; it can turn a picture into what you say: edit RUN FILE --prompt '...'"
        return "; it can turn a picture into what you say: edit RUN FILE --where '...'" if self.attributes else ""

    def require(self, task: str) -> None:
        """InputError where this run's model or kind of data cannot do the task."""
        if self.translates and task not in TRANSLATORS:
            raise InputError(f"{task}: this run has learned to translate; it can {' and '.join(TRANSLATORS)}")
        if not needs(type(self.model), task):
            able = ", ".join(models_that(task))
            raise InputError(f"{self.config['model']} cannot {task}; models that can: {able}{self._instead(task)}")
        if not works(type(self.model), self.modality.kind, task):
            if task not in ONLY:
                others = [one for one in models_that(task) if works(find(one)[0], self.modality.kind, task)]
                raise InputError(
                    f"{task}: {self.config['model']} codes a series as noise, which does not tell of the calendar that "
                    f"it is given; models that can: {', '.join(others)}"
                )
            raise InputError(f"{task}: is for data of kind {' or '.join(ONLY[task])}, not {self.modality.kind}")
        if task in OF_DATA and self.space is not self.space.outer:
            raise InputError(f"{task}: {OF_DATA[task]}; take a run that was trained without an autoencoder")
        if task == "translate" and not self.translates:
            raise InputError("translate: this run was trained on one set; train one on two: trilemma train DATA DATA2")

    def info(self) -> dict[str, Any]:
        """What this run is: data, model, budget, choices, what it can do."""
        seen = [row["seen"] for row in self.run.stats() if "seen" in row and "event" not in row]
        if not seen and self.run.finished:  # one that was pulled has no history with it
            seen = [self.config["training"]["examples"]]
        return {
            "model": self.config["model"],
            "size": self.config["size"],
            "data": self.config["data"]["name"],
            "shape": list(self.space.outer.shape),
            "labels": self.label_names,
            **({"attributes": {one.name: one.said() for one in self.attributes}} if self.attributes else {}),
            "finished": self.run.finished,
            "examples": f"{max(seen, default=0):,} of {self.config['training']['examples']:,}",
            "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            "dtype": self.config["training"]["dtype"],
            "seed": self.config["seed"],
            **self._coding(),
            "capabilities": self.capabilities(),
            "tasks": self.can(),
            "choices": self.run.choices(),
        }

    def _coding(self) -> dict[str, Any]:
        """Of an autoencoder with codes on a grid, or of one within this model: their shape, and how many there are."""
        coder = self.space.autoencoder if isinstance(self.space, Latent) else self.model
        if not isinstance(coder, Coder):
            return {}
        codes: dict[str, Any] = {"shape": list(coder.code_shape)}
        if coder.token_count:
            places = math.prod(coder.code_shape[1:])
            codes |= {"entries": coder.token_count, "bits an example": round(places * math.log2(coder.token_count), 1)}
        return {"codes": codes}

    def read(self, source: Any) -> Inputs:
        """Files, arrays or images as inputs of the tasks below, with a name for each: rows keep this order."""
        return source if isinstance(source, Inputs) else Inputs(*self.modality.read(source, self.space.outer))

    def data(self, what: str, instead: str) -> Data:
        """What the run was trained on, opened anew. InputError, in words for `what`, where it is not there any more."""
        source, data2 = (self.config["asked"].get(key) for key in ("source", "data2"))
        if "array" in (source, data2):
            raise InputError(f"{what}: this run was trained on an array, which is not here; {instead}")
        opening = Opening(**{key: as_tuple(value) for key, value in self.config["data"]["opening"].items()})
        data = open_data(source, opening=opening, data2=data2)
        if data.hash != self.config["data"]["hash"]:
            raise InputError(
                f"{what}: {source} is not what the run was trained on (or this version reads it otherwise); {instead}"
            )
        return data

    def label(self, given: str | int | None) -> int | None:
        """A label's number from its name or number."""
        if given is None:
            return None
        space = self.config["spaces"].get("label")
        if space is None:
            raise InputError("--label: this model was trained on data without labels")
        if str(given) in self.label_names:
            return self.label_names.index(str(given))
        if str(given).lstrip("-").isdigit() and 0 <= int(given) < space["count"]:
            return int(given)
        known = ", ".join(self.label_names[:20]) or f"0 ... {space['count'] - 1}"
        raise InputError(f"--label {given!r}: unknown. Known: {known}")

    def say(self, words: str) -> None:
        """Once, on stderr."""
        if words not in self._said:
            self._said.add(words)
            print(words, file=sys.stderr)

    def prompted(self, prompt: str | None, negative: str | None = None) -> Prompt | None:
        """Words as the model reads them; what it does not know or cuts off is said on stderr."""
        from trilemma.tasks.prompts import prompted

        return prompted(self, prompt, negative)

    def asked(
        self, prompt: str | None, negative: str | None, where: str | None, label: str | int | None, *,
        alone: bool = False,
    ) -> Prompt | None:  # fmt: skip
        """What is asked for in words or as attributes: no model reads both."""
        told = self.prompted(prompt, negative)
        if told is not None and where is not None:
            raise InputError("--where goes without --prompt: this run reads captions; say it all in the prompt")
        return told if where is None else self.pooled(where, label, alone=alone)

    def pooled(self, where: str, label: str | int | None = None, *, alone: bool = False) -> Prompt:
        """Attributes to ask for, of data that were learned with some: rows that meet the conditions.

        alone: nothing is said of attributes that the conditions do not name.
        """
        from trilemma.tasks.prompts import pooled

        if not self.attributes:
            raise InputError(
                "--where is for tables, for pictures with attributes (columns of a metadata.csv), and for several "
                "series with columns that never change within one"
                + ("; this run reads captions: say it with --prompt" if self.reads else "")
            )
        return pooled(self, where, self.label(label), alone=alone)

    def shown(self, label: str | int | None) -> Modality:
        """The modality as it writes what was made for a label: of a series, from that entity's levels on."""
        if self.modality.kind != "series" or label is None:
            return self.modality
        from trilemma.tasks.series import series_of

        return series_of(self.modality, "generate").of(self.label(label))

    def check_options(self, asked: Options, prompt: Prompt | None = None) -> None:
        """A setting that this model does not have, or that does nothing beside the others, is an error, not a wish that
        is passed over. prompt: what is asked for in words."""
        steps, guidance, eta, interval = asked.steps, asked.guidance, asked.eta, asked.interval
        for name, told in (("truncation", asked.truncation), ("noise-seed", asked.noise_seed)):
            if told is not None and not isinstance(self.model, Styles):
                raise InputError(f"--{name} {told:g}: {self.config['model']} has no styles; leave it out")
        if asked.noise_seed is not None and isinstance(self.model, Styles) and not self.model.noise_sides():
            raise InputError(
                f"--noise-seed {asked.noise_seed}: {self.config['model']} has no noise in its layers; leave it out"
            )
        if asked.truncation is not None and not np.isfinite(asked.truncation):
            raise InputError(f"--truncation {asked.truncation}: give a number, such as 0.7")
        for name in ("guidance", "steps", "sampler", "eta", "interval"):
            value = getattr(asked, name)
            if value is not None and name not in self.config["config"]:
                raise InputError(f"--{name} {value}: {self.config['model']} has no such setting; leave it out")
        if steps is not None and steps < 1:
            raise InputError(f"--steps {steps}: a sampler needs at least one step")
        worded = any(isinstance(space, Words) for space in self.model.spaces.values())
        for name, shown in (("guidance", guidance), ("interval", interval and "{:g},{:g}".format(*interval))):
            if shown is not None and not (self.shares() or worded or self.attributes):
                raise InputError(f"--{name} {shown}: this model was trained without any condition; leave it out")
        if guidance is not None and not np.isfinite(guidance):
            raise InputError(f"--guidance {guidance}: give a number, such as 1.5")
        if eta is not None and not 0 <= eta <= 1:
            raise InputError(f"--eta {eta:g}: give a number from 0 (no fresh noise) to 1 (as much as ddpm)")
        if interval is not None and not 0 <= interval[0] < interval[1]:
            raise InputError(f"--interval {interval[0]:g},{interval[1]:g}: give two noise levels, the lower one first")
        chosen, own = merged(self.options, asked), self.config["config"]
        sampler = chosen.sampler or own.get("sampler", "ddim")
        if eta is not None and sampler != "ddim":
            raise InputError(
                f"--eta {eta:g}: is noise that ddim adds, and this run samples by {sampler}: add --sampler ddim"
            )
        strength = own.get("guidance") if chosen.guidance is None else chosen.guidance
        wishes = {"--interval": interval is not None, "--negative": prompt is not None and prompt.negative is not None}
        for option in (option for option, wished in wishes.items() if wished and strength == 1):
            how = "this run's is 1: add" if guidance is None else "it is 1: give"
            raise InputError(f"{option}: needs guidance above 1, and {how} --guidance 3")

    def prepared(self, source: Any, seed: int) -> list[Batch]:
        """Files or arrays as batches with all that this model is to be told beside them."""
        arrays = Arrays(self.read(source).x)
        batches = list(arrays.batches(BATCH, seed=seed, device=str(self.engine.device)))
        for batch in batches:
            tell(self.model.spaces, batch)
            if self.attributes:
                batch.raw[ATTRIBUTES] = torch.full((len(batch), len(self.attributes)), torch.nan).to(batch.x.device)
                batch.present[ATTRIBUTES] = torch.zeros(len(batch), dtype=torch.bool, device=batch.x.device)
            if "label" in self.config["spaces"]:
                self._fill_label(batch)
        return batches

    def shares(self) -> dict[str, Tensor]:
        """Of each condition that has values: their shares in the training data."""
        found = {}
        if self.sampler.frequencies:
            found["label"] = torch.tensor(self.sampler.frequencies, device=self.engine.device)
        return found | {n: space.shares for n, space in self.model.spaces.items() if isinstance(space, Clusters)}

    def _fill_label(self, batch: Batch) -> None:
        """Inputs of a task come without labels. A model with codes learned under labels only, so that the one under
        which it repeats the input best stands in; the others have learned without labels too, and get none."""
        model, frequencies, device = self.model, self.sampler.frequencies or [], batch.x.device
        batch.raw["label"] = torch.zeros(len(batch), 1, dtype=torch.long, device=device)
        batch.present["label"] = torch.zeros(len(batch), dtype=torch.bool, device=device)
        if not (isinstance(model, Encodes) and isinstance(model, Decodes)):
            return
        batch.present["label"] = ~batch.present["label"]
        x, errors = self.space.embed(batch.x).flatten(1), []
        with torch.no_grad(), self.engine.autocast():
            for label, share in enumerate(frequencies):
                batch.raw["label"] = torch.full_like(batch.raw["label"], label)
                again = model.decode(model.encode(batch), Request(batch.noise, batch.raw, batch.present))
                error = (self.space.embed(again).flatten(1) - x).float().square().mean(1)
                errors.append(error if share > 0 else torch.full_like(error, np.inf))
        batch.raw["label"] = torch.stack(errors).argmin(0).unsqueeze(1)

    def _codes(
        self, source: Any, *, random: bool = False, seed: int = 0, options: Options | None = None
    ) -> list[tuple[Tensor, Request]]:
        """Codes (B, D), a batch at a time, with the request that decodes them. random: a draw of the posterior."""
        assert isinstance(self.model, Encodes | Inverts)
        pairs = []
        for batch in self.prepared(source, seed):
            request = Request(batch.noise, batch.raw, batch.present, options or Options())
            with torch.no_grad(), self.engine.autocast():
                if isinstance(self.model, Inverts):
                    codes = self.model.invert(batch.x, request)
                else:
                    codes = self.model.encode(batch, random=random)
            pairs.append((codes, request))
        return pairs

    def _decoded(self, codes: Tensor, request: Request) -> np.ndarray:
        assert isinstance(self.model, Draws)
        with torch.no_grad(), self.engine.autocast():
            return self.sampler.array(self.model.decode(codes.to(self.engine.device), request))

    def _ends(self, first: Any, second: Any, seed: int, asked: Options) -> tuple[Tensor, Request]:
        """Codes (2, D) of the two ends: of files where the model has some, of sample numbers otherwise."""
        if not samples_named(first, second):
            if not isinstance(self.model, Encodes | Inverts):
                styles = " add --space w," if isinstance(self.model, Styles) else ""
                able = ", ".join(models_that("reconstruct"))
                raise InputError(
                    f"interpolate: {self.config['model']} has no codes of files; give samples' numbers,{styles} or "
                    f"take {able}"
                )
            options = merged(self.lawful, asked)
            ends = [self._codes(end, seed=seed, options=options)[0] for end in (first, second)]
            one, two = (request for _, request in ends)
            raw = {name: torch.cat([one.raw[name][:1], two.raw[name][:1]]) for name in one.raw}
            present = {name: torch.cat([one.present[name][:1], two.present[name][:1]]) for name in one.present}
            return torch.cat([codes[:1] for codes, _ in ends]), Request(one.noise, raw, present, options)
        assert isinstance(self.model, Draws)
        request = self.sampler.request(seed, np.array([int(first), int(second)]), options=merged(self.options, asked))
        with torch.no_grad():
            return self.model.draw(request), request


def samples_named(first: Any, second: Any) -> bool:
    """Are both ends numbers of samples, not files or arrays?"""
    return all(isinstance(end, int) or str(end).isdigit() for end in (first, second))


def columns_from(described: list[dict[str, Any]]) -> list[Any]:
    """Attributes as a run's config.json has them."""
    if not described:
        return []
    from trilemma.modalities.columns import Column  # pandas is for data with attributes only

    return [Column.from_json(each) for each in described]


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
