"""Two stages in one run: an autoencoder is trained first, then a model on its codes (Rombach et al. 2022).

The first stage is a run of its own in the folder `autoencoder` of the second, or one that the user gives. Training
examples are coded once, before the second stage begins; its weights hold those of the autoencoder, so that nothing else
is needed to use it or to go on with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trilemma.batches import Arrays
from trilemma.config import to_json
from trilemma.errors import InputError, unknown
from trilemma.latent import Coder, Latent
from trilemma.mixed import space_from
from trilemma.modalities.contract import Data
from trilemma.models.contract import Model, configure, find, known_models
from trilemma.spaces import fit_continuous
from trilemma.training import outside
from trilemma.training.engine import Engine
from trilemma.training.progress import Bar
from trilemma.training.restore import build, described, restore, stored
from trilemma.training.run import Run

FIRST = "autoencoder"  # folder of the first stage
BATCH = 250
SOME = 500  # examples whose codes are enough for a plan
FEW = 2  # and for a check


@dataclass
class Stage:
    """What codes the data for a second stage: a run, or a model that is still to be trained."""

    name: str = ""  # of a model that is to be trained
    run: Run | None = None  # that holds the autoencoder: a first stage, or one of two stages (the run itself, `--from`)
    outside: Path | None = None  # folder of another library's autoencoder
    changes: dict[str, Any] = field(default_factory=dict)  # settings of the model that is to be trained
    size: str = "s"  # of it
    spent: float = 0.0  # of the budget, in its own unit

    @property
    def to_train(self) -> bool:
        return self.run is None and self.outside is None

    def coded(self, data: Data, *, few: int | None = None, quiet: bool = True) -> Data:
        """`coded`, by what there is: an autoencoder that has learned nothing, where it is still to be trained."""
        if self.run is not None:
            return coded_by(data, self.run, few=few, quiet=quiet)
        if self.outside is not None:
            check_codable(data)
            given = outside.opened(self.outside, data.spaces["x"])
            return coded(data, given, outside.NAME, given.config, few=few, quiet=quiet)
        return coded_untrained(data, self.name, self.size, changes=self.changes, few=few or SOME)


def first_stage(name: str, settings: dict[str, Any]) -> str:
    """What codes the data for this model: a model's name, a run's folder, or '' for nothing."""
    model, preset = find(name)
    if not hasattr(model.Config(), FIRST):
        return ""
    given = {**model.presets.get(preset, {}), **{key.removeprefix("model."): value for key, value in settings.items()}}
    chosen = str(given.get(FIRST, getattr(model.Config(), FIRST)) or "")
    if not chosen or is_run(chosen) or chosen.startswith(outside.HUB):
        return chosen
    coders = [one for one in known_models() if issubclass(find(one)[0], Coder)]
    if chosen not in coders and not _is_file(chosen):
        if len(Path(chosen).parts) > 1 or not get_close_matches(chosen, known_models()):
            raise InputError(
                f"setting {FIRST}: there is no run in the folder {chosen} (was it deleted or moved?), and no model of "
                f"that name; models: {', '.join(coders)}"
            )
        raise unknown(f"setting {FIRST}: a run's folder or a model,", chosen, coders)
    if not issubclass(find(chosen)[0], Coder):
        raise InputError(f"setting {FIRST}: {chosen} has no codes on a grid; take codec")
    return chosen


def is_run(chosen: str) -> bool:
    """Is this autoencoder a run's folder? A model's name means the model, whatever lies in the working directory."""
    return chosen not in known_models() and not _is_file(chosen) and Path(chosen).is_dir()


def _is_file(chosen: str) -> bool:
    return chosen.partition(":")[0].endswith(".py")


def inner_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Of a command's settings those of the autoencoder, as its own model knows them."""
    return {key.removeprefix(f"{FIRST}."): value for key, value in settings.items() if key.startswith(f"{FIRST}.")}


def chosen_stage(name: str, settings: dict[str, Any], start: Any = None) -> Stage | None:
    """What codes the data of a new run of this model, or None. `start`: the run whose weights it begins with.

    Raises:
        InputError: settings of an autoencoder that is not trained here; another one beside that of `start`.
    """
    inner = [key for key in settings if key.startswith(f"{FIRST}.")]
    named = [key for key in (FIRST, f"model.{FIRST}") if key in settings]
    may = hasattr(find(name)[0].Config(), FIRST)
    if may and start is not None and coded_in(Run.at(start)):
        for key in (*named, *inner):
            raise InputError(
                f"setting {key}: the weights of --from {start} know the codes of its own autoencoder, no others; "
                "leave the setting out"
            )
        return Stage(run=Run.at(start))
    coder = first_stage(name, settings)
    place = outside.place_of(coder) if coder.startswith(outside.HUB) or (coder and is_run(coder)) else None
    if inner and (not coder or is_run(coder) or place):
        why = f"the autoencoder of {coder} is trained already" if coder else f"{name} trains no autoencoder"
        raise InputError(f"setting {inner[0]}: {why}; leave it out, or take --model diffusion:latent")
    if not coder:
        return None
    if is_run(coder) and place is None:
        return Stage(run=Run.at(coder))
    if start is not None:
        raise InputError(
            f"--from {start}: that run has learned no codes, and its weights do not fit a model of codes; begin with "
            "a run that has, or without an autoencoder"
        )
    if place is not None:
        return Stage(outside=place)
    return Stage(coder, changes=inner_settings(settings))


def coded_in(run: Run) -> bool:
    """Has this run learned from codes?"""
    return run.config()["spaces"]["x"]["kind"] == "latent"


def stage_of(run: Run, unit: str) -> Stage | None:
    """What codes the data of a run that exists: the autoencoder within it. Its first stage's folder may be gone."""
    if not coded_in(run):
        return None
    return Stage(run=run, spent=spent_on(Run(run.folder / FIRST), unit))


def spent_on(first: Run, unit: str) -> float:
    """How much of the budget a first stage took, in its unit; 0 where there was none."""
    if not (first.exists and first.finished):
        return 0.0
    if unit != "seconds":
        return float(first.config()["training"]["examples"])
    return float((first.choices().get("seconds") or {}).get("total", 0.0))


def check_codable(data: Data) -> None:
    """InputError for what no autoencoder can code."""
    if "source" in data.spaces:
        raise InputError(f"setting {FIRST}: latent models do not learn pairs yet; leave the autoencoder out")
    if data.observed is not None or data.valid is not None:
        raise InputError(f"setting {FIRST}: these data have gaps, which codes cannot say; leave it out")


def coded(
    data: Data, autoencoder: Model | outside.Outside, name: str, config: dict[str, Any], *, threads: int | None = None,
    few: int | None = None, quiet: bool = True,
) -> Data:  # fmt: skip
    """The data as the second stage sees them: codes of training examples, and the Space that they live in.

    threads: with which to compute: the same number gives the same codes (None: as many as there are). few: code that
    many only, for a plan or a check.

    Raises:
        InputError: an autoencoder of examples of another shape, pairs, or data with gaps.
    """
    base = data.spaces["x"]
    if not isinstance(autoencoder, Coder):
        raise InputError(f"setting {FIRST}: {name} has no codes on a grid; take a run of codec")
    theirs = autoencoder.space.shape
    if tuple(theirs) != tuple(base.shape):
        raise InputError(
            f"setting {FIRST}: that run codes examples of {_size(theirs)}, these are {_size(base.shape)}; "
            "train another one, or give --resolution"
        )
    check_codable(data)
    autoencoder.eval()
    before = torch.get_num_threads()
    threads = threads or before
    shape = tuple(int(side) for side in autoencoder.code_shape)
    made_by = {
        "model": name,
        "config": config,
        "x": autoencoder.space.describe(),
        "threads": threads,
        "weights": hash_of(autoencoder),
    }
    space = Latent(autoencoder, base, shape, made_by=made_by)
    codes = np.zeros((len(data.x), *shape), dtype=np.float32)
    rows = np.sort(data.splits["train"][:few])
    bar = Bar(f"coding {data.name}", len(rows), quiet=quiet)
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                batch = Arrays(data.x, rows=some).gather(np.arange(len(some)))
                codes[some] = autoencoder.codes(batch.x).float().numpy()
                bar.update(start + len(some), {})
    finally:
        torch.set_num_threads(before)
        bar.close()
    fitted = fit_continuous(codes, rows=rows)
    space.mean.copy_(fitted.mean)
    space.deviation.copy_(fitted.deviation)
    return replace(data, spaces={**data.spaces, "x": space}, codes=codes)


def coded_by(data: Data, run: Run, *, few: int | None = None, quiet: bool = True) -> Data:
    """`coded`, by the autoencoder that this run is, or that is within it."""
    check_codable(data)
    autoencoder, made_by = autoencoder_of(run)
    threads = made_by.get("threads")
    return coded(data, autoencoder, made_by["model"], made_by["config"], threads=threads, few=few, quiet=quiet)


def coded_untrained(
    data: Data, name: str, size: str, *, seed: int = 0, changes: dict[str, Any] | None = None, few: int = SOME
) -> Data:
    """`coded`, by an autoencoder that has learned nothing: for plans and checks."""
    check_codable(data)
    settings = configure(name, data.spaces, size=size, count=len(data.splits["train"]), changes=changes)
    model = build(name, settings, {"x": data.spaces["x"]}, seed)
    return coded(data, model, name, to_json(settings), few=few)


def autoencoder_of(run: Run) -> tuple[Model | outside.Outside, dict[str, Any]]:
    """The autoencoder of a run of one or two stages, and how it was made: model, config and threads.

    A run of two stages holds its own copy from its first state on: what became of the other one is of no matter then.
    """
    config = run.config()
    if not coded_in(run):
        made_by = {"model": config["model"], "config": config["config"], "threads": config["training"]["threads"]}
        model = restore(run, Engine(device="cpu"))
        model.spaces = torch.nn.ModuleDict({"x": model.space})  # captions and numbers of its data are no part of it
        return model, made_by
    about = config["spaces"]["x"]
    tensors = stored(run)
    if tensors is None:
        return _from_outside(run, config)
    space = described(about)
    within = "spaces.x."
    space.load_state_dict({k.removeprefix(within): v for k, v in tensors.items() if k.startswith(within)})
    assert isinstance(space, Latent)
    return space.autoencoder.eval(), about["made_by"]


def _from_outside(run: Run, config: dict[str, Any]) -> tuple[Model | outside.Outside, dict[str, Any]]:
    """The autoencoder of a run that was stopped before its first state: that of its first stage, if it is the same."""
    asked, made_by = config["asked"], config["spaces"]["x"]["made_by"]
    stage = chosen_stage(asked["model"], asked["settings"], asked["from"])
    begin = f"{run.folder} was stopped before its first safe state: remove the folder and train it again"
    first = Run(run.folder / FIRST) if stage is None or stage.run is None else stage.run
    place = first.folder if stage is None or stage.outside is None else stage.outside
    autoencoder: Model | outside.Outside
    if stage is not None and stage.outside is not None:
        autoencoder = outside.opened(stage.outside, space_from(made_by["x"]))
    elif not first.exists:
        raise InputError(f"its first stage, {first.folder}, is not there any more, and {begin}")
    else:
        autoencoder, _ = autoencoder_of(first)
    if made_by.get("weights") not in (None, hash_of(autoencoder)):
        raise InputError(f"the autoencoder in {place} is another one than it was, and {begin}")
    return autoencoder, made_by


def hash_of(model: torch.nn.Module) -> str:
    """Of all its weights and statistics, by which another training is recognised."""
    found = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        found.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
