"""`train`: from a source and a budget to a run folder. Run again to resume; nothing is lost by a kill."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from trilemma.config import Training, assign, differences, parse_budget, to_json
from trilemma.errors import InputError, unknown
from trilemma.impressions import GUIDE
from trilemma.metrics.protocol import current_versions
from trilemma.modalities.contract import Data, Opening, opening_of
from trilemma.modalities.door import named_sets
from trilemma.modalities.splits import LEAST
from trilemma.models.contract import (
    TRAINED,
    configure,
    find,
    known_models,
)
from trilemma.training.captions import check_same, text_of
from trilemma.training.carry import Say, begun_with, carry_out, fresh_model
from trilemma.training.clusters import clustered
from trilemma.training.engine import agreed, first, forget_peak, join, prepare
from trilemma.training.guides import CLIP, Guide, clip_of, guide_of, inherited
from trilemma.training.guides import SHARE as CLIP_SHARE
from trilemma.training.opening import opened, scale_of, usual_model
from trilemma.training.optimizers import MakeOptimizer
from trilemma.training.plan import Plan, choose_size, frequencies_of, plan
from trilemma.training.restore import build
from trilemma.training.run import FORMAT, Run, claimed, write_json
from trilemma.training.stages import FEW, FIRST, Stage, chosen_stage, spent_on, stage_of
from trilemma.training.tuning import FEWEST, KEYS, continued, read_as, tuning_of

FIRST_SHARE = 0.35  # of the budget, for an autoencoder that codes the data first
Stages = Sequence[Stage | Guide]  # what was trained before
LEAST_SECOND = 0.2  # of it, for what comes after that, however long the first stage took


def train(
    source: Any,
    data2: Any = None,
    *,
    model: str | None = None,
    out: str | Path,
    size: str | None = None,
    budget: str | int | float = "10m",
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    start: str | Path | None = None,
    kind: str | None = None,
    resolution: Any = None,
    skip_bad: bool = False,
    networks: dict[str, nn.Module] | None = None,
    optimizer: MakeOptimizer | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> Run | Plan:
    """Train one model on the source until the budget is spent; return its Run (or, with `dry_run`, the Plan).

    data2: the targets, where `source` holds what they are to be made from (pairs by file name, or two sets). model:
    None takes diffusion, of pairs the bridge, of two sets cut.
    budget: a time ('10m': wall-clock with probe, previews and choices) or training examples ('40k', 40000); '+10m' goes
    on with a finished run from its state before the learning rate fell. settings: dotted, {'model.beta': 4}.
    start: a run whose weights to begin with; with settings `lora` or `word` they stay, and what is added learns
    (training/tuning.py). networks, optimizer: your own modules by name ('encoder', 'generator',
    'network', ...) and a function from parameters to a torch optimizer. Raises InputError for everything you can mend.
    """
    join()
    prepare()
    forget_peak()
    said = Say(quiet or not first())
    tuning = tuning_of(settings or {}, start)
    size_of = agreed(lambda: read_as(start, resolution)) if tuning.asked else resolution  # type: ignore[arg-type]
    opening, own = opening_of(settings, kind, size_of, skip_bad), {"networks": networks, "make": optimizer}
    opening = replace(opening, fewest=FEWEST) if tuning.asked else opening
    both, looked = (source, data2), list[Data]()
    model = model or agreed(lambda: _model_of(start, out) or usual_model(both, opening, looked))
    both = (looked[0], None) if looked else both
    asked = _asked(source, data2, model, size, budget, seed, settings, start, kind, resolution, skip_bad)
    held: list[Data] = []
    stage = agreed(lambda: _stage(Run(out), both, asked, opening, settings or {}, dry_run=dry_run))
    if stage is not None and stage.to_train and not dry_run:
        stage = _first(Run(out), stage, both, asked, opening, settings or {}, quiet=quiet)
    guide = agreed(lambda: _guide(Run(out), both, asked, opening, networks, dry_run=dry_run))
    if guide is not None and guide.name and guide.run is None and not dry_run:
        guide = _clip(Run(out), guide, both, asked, opening, settings or {}, quiet=quiet)
    stages = [one for one in (stage, guide) if one is not None]

    with ExitStack() as alone:

        def ready() -> Ready:
            return _ready(
                Run(out), asked, both, opening, budget, settings or {}, own, said, held, stages, alone, dry_run=dry_run
            )

        # Where `torchrun` started several processes, the first one checks, claims the folder and plans, and the others
        # follow.
        made = agreed(ready)
        if made.config is None:
            return made.plan or Run(out)
        data = held[0] if held else _coded(opened(both, opening, asked, Run(out)), stages, said)
        carry_out(
            Run(out), data, made.config, networks=networks, make=optimizer, said=said, begun=made.begun,
            limit=made.limit,
        )  # fmt: skip
    return Run(out)


@dataclass
class Ready:
    """A checked command: what to carry out, or nothing more (config None), for a plan or a finished run."""

    config: dict[str, Any] | None
    plan: Plan | None = None
    begun: float = 0.0  # time.monotonic() of the first process
    limit: float | None = None  # seconds that the clock is to keep


def _ready(
    run: Run, asked: dict[str, Any], sources: tuple[Any, Any], opening: Opening, budget: str | int | float,
    settings: dict[str, Any], brought: dict[str, Any], said: Say, held: list[Data], stages: Stages, alone: ExitStack,
    *, dry_run: bool,
) -> Ready:  # fmt: skip
    """Check the command against what is there, plan a new run and write its config.json.

    `held` gets the data, `alone` the folder for this process.
    """
    unit, amount, more = parse_budget(budget)
    networks, optimizer, start = brought["networks"], brought["make"], asked["from"]
    if dry_run and run.exists:
        raise InputError(f"--dry-run: {run.folder} is a run already; its plan is in {run.config_file}")
    run.check()
    find(asked["model"])
    if start is not None and not run.exists:
        Run.at(start)
    if run.exists:
        config = run.config()
        _check_same(run, config, asked, more)
        data = opened(sources, opening, asked, run)
        if data.hash != config["data"]["hash"]:
            raise InputError(
                f"{run.folder} was trained on other data than {sources[0]} is now (or as this version reads it); "
                "give a new --out"
            )
        if run.finished and not more:
            said(f"{run.folder} is finished: nothing to do ({config['training']['examples']:,} examples seen)")
            return Ready(None)
        own = _own(networks, optimizer)
        if own != config["own"]:
            raise InputError(
                f"{run.folder} was trained with your own {_named(config['own'])}, this call brings {_named(own)}: "
                "hand in the same ones from Python to go on"
            )
        check_same(data, config["spaces"], run.folder)
        if more and not run.finished and config["extended"][-1:] != [str(budget)]:
            raise InputError(
                f"budget {budget!r} goes on with a finished run; {run.folder} is not finished yet: "
                f"repeat its command with --budget {(config['extended'] or [config['asked']['budget']])[-1]} first"
            )
        alone.enter_context(claimed(run.folder))
        begun = time.monotonic()
        data = _coded(data, stages, said)
        amount = amount if more else _left(amount, stages)
    elif more:
        raise _nothing_finished(run, budget)
    else:
        data = opened(sources, opening, asked)
        begun = time.monotonic()
        data = _coded(data, stages, said)
        amount = _left(amount, stages)
        config, planned, data = _plan(data, asked, unit, amount, begun, networks, optimizer, settings, measure=dry_run)
        if start is not None:  # do its weights fit? Better known before anything is written
            fresh_model(config, data, networks, begun_with(asked, networks))
        if dry_run:
            return Ready(None, planned)
        alone.enter_context(claimed(run.folder))
        write_json(run.config_file, config)
    if unit == "examples" and isinstance(budget, str) and budget.isdigit() and amount < 256:  # a forgotten s?
        said(f"--budget {budget}: that many training examples; seconds are {budget}s")
    paced = unit == "seconds" and not run.states()  # a resumed training does what it did: no more corrections
    if more and run.finished:
        _extend(run, config, unit, amount, str(budget))
        said(f"{run.folder} goes on from its state before the learning rate fell: what followed is done again")
        paced = unit == "seconds"
    held.append(data)
    return Ready(config, None, begun, amount if paced else None)


def _coded(data: Data, stages: Stages, said: Say) -> Data:
    for stage in stages:
        data = stage.coded(data, quiet=said.quiet)
    return data


def _left(amount: float, stages: Stages) -> float:
    """Of a budget, what first stages have left."""
    return max(amount - sum(stage.spent for stage in stages), LEAST_SECOND * amount) if stages else amount


def _nothing_finished(run: Run, budget: Any) -> InputError:
    return InputError(f"budget {str(budget)!r} goes on with a finished run; {run.folder} has none. Leave out the +")


def _stage(
    run: Run, sources: tuple[Any, Any], asked: dict[str, Any], opening: Opening, settings: dict[str, Any], *,
    dry_run: bool,
) -> Stage | None:  # fmt: skip
    """What codes the data first, if anything does. Of a new run all that can be is checked before it is trained."""
    unit, amount, more = parse_budget(asked["budget"])
    if run.exists:
        return stage_of(run, unit)
    stage = chosen_stage(asked["model"], settings, asked["from"])
    if stage is None:
        return None
    if more:
        raise _nothing_finished(run, asked["budget"])
    if clip_of(asked["model"], settings):  # before any of them is trained
        raise InputError(f"setting {CLIP}: a CLIP sees examples, not codes; leave it or the autoencoder out")
    run.check()
    data = opened(sources, opening, asked)
    if stage.to_train:
        share = FIRST_SHARE * amount
        size = asked["size"] or choose_size(data, unit, share, find(stage.name)[0])
        stage = replace(stage, size=size, spent=share)
    seen = stage.coded(data, few=FEW)
    _, changes = _sorted(settings, coded=True)
    configure(asked["model"], seen.spaces, size=asked["size"] or "s", count=len(seen.splits["train"]), changes=changes)
    own = Run(run.folder / FIRST)
    if stage.to_train and not dry_run and own.exists and own.config()["data"]["hash"] != data.hash:
        raise InputError(
            f"{own.folder} is the first stage of a run on other data than {sources[0]} is now; remove {run.folder}, or "
            "give a new --out"
        )
    return stage


def _first(
    run: Run, stage: Stage, sources: tuple[Any, Any], asked: dict[str, Any], opening: Opening, settings: dict[str, Any],
    *, quiet: bool,
) -> Stage:  # fmt: skip
    """The first stage, trained now, gone on with or found: a share of the budget, in a folder of the run's own."""
    unit, amount, _ = parse_budget(asked["budget"])
    theirs = {f"model.{key}": value for key, value in stage.changes.items()}
    theirs |= {k: v for k, v in settings.items() if k.startswith("training.") and k != "training.branches"}
    share: str | int = f"{FIRST_SHARE * amount:.2f}s" if unit == "seconds" else max(int(FIRST_SHARE * amount), 1)
    own = Run(run.folder / FIRST)
    train(
        opened(sources, opening, asked), model=stage.name, out=own.folder, size=asked["size"], budget=share,
        seed=asked["seed"], settings=theirs, quiet=quiet,
    )  # fmt: skip
    return replace(stage, run=own, spent=spent_on(own, unit))


def _guide(
    run: Run, sources: tuple[Any, Any], asked: dict[str, Any], opening: Opening,
    networks: dict[str, nn.Module] | None, *, dry_run: bool,
) -> Guide | None:  # fmt: skip
    """The CLIP that this model looks at, if it does at any; of a new run it is known before anything is trained."""
    unit, amount, more = parse_budget(asked["budget"])
    if run.exists:
        return guide_of(run, unit)
    if tuning_of(asked["settings"], asked["from"]).asked:  # the CLIP comes with the weights of that run
        about = Run.at(asked["from"]).config()["spaces"].get(GUIDE)
        return Guide(held=about) if about else None
    chosen = clip_of(asked["model"], asked["settings"])
    if not chosen:
        return None
    if more:
        raise _nothing_finished(run, asked["budget"])
    run.check()
    theirs = inherited(asked)
    if theirs is not None:
        return theirs
    data = opened(sources, opening, asked)
    if chosen not in known_models():
        return Guide(run=Run.at(chosen))
    made = Guide(chosen, spent=CLIP_SHARE * amount)
    _, changes = _sorted(asked["settings"], coded=False)
    seen = made.coded(data)
    size = asked["size"] or (Run.at(asked["from"]).config()["size"] if asked["from"] else "s")
    config = configure(asked["model"], seen.spaces, size=size, count=len(seen.splits["train"]), changes=changes)
    if asked["from"]:  # do its weights fit? Better known before a CLIP is trained
        build(asked["model"], config, seen.spaces, 0, networks=networks, start=begun_with(asked, networks))
    own = Run(run.folder / CLIP)
    if not dry_run and own.exists and own.config()["data"]["hash"] != data.hash:
        raise InputError(f"{own.folder} was trained on other data than {sources[0]} is now; remove {run.folder}")
    return made


def _clip(
    run: Run, guide: Guide, sources: tuple[Any, Any], asked: dict[str, Any], opening: Opening, settings: dict[str, Any],
    *, quiet: bool,
) -> Guide:  # fmt: skip
    """The CLIP, trained now, gone on with or found: a share of the budget, in a folder of the run's own.

    It reads captions as the model does.
    """
    unit, amount, _ = parse_budget(asked["budget"])
    own_only = ("training.branches", "training.shard")
    theirs = {k: v for k, v in settings.items() if k.startswith("training.") and k not in own_only}
    theirs["model.text"] = text_of(asked["model"], settings)
    share: str | int = f"{CLIP_SHARE * amount:.2f}s" if unit == "seconds" else max(int(CLIP_SHARE * amount), 1)
    own = Run(run.folder / CLIP)
    train(
        opened(sources, opening, asked), model=guide.name, out=own.folder, size=asked["size"], budget=share,
        seed=asked["seed"], settings=theirs, quiet=quiet,
    )  # fmt: skip
    return replace(guide, run=own, spent=spent_on(own, unit))


def _model_of(start: Any, out: str | Path) -> str | None:
    """The model of the run to begin with; where that is gone, of the run itself."""
    found = next((Run(place) for place in (start, out) if Run(place).exists), None) if start else None
    return found.config()["model"] if found else None


def _asked(
    source: Any, data2: Any, model: str, size: Any, budget: Any, seed: int, settings: Any, start: Any, kind: Any,
    resolution: Any, skip_bad: bool,
) -> dict[str, Any]:  # fmt: skip
    """The user's own words, by which a second call is recognised."""

    def shown(one: Any) -> str:
        if isinstance(one, str) and one in named_sets():  # whatever files there are of that name, --out among them
            return one
        place = Path(one).resolve() if isinstance(one, (str, Path)) and Path(one).exists() else one
        return str(place) if isinstance(place, (str, Path)) else "array"

    if isinstance(source, Data):
        source, data2 = [*(source.places or (source.source,)), None][:2]
    two = {} if data2 is None else {"data2": shown(data2)}
    return {
        "source": shown(source),
        **two,
        "model": model,
        "size": size,
        "budget": str(budget),
        "seed": seed,
        # The command line reads "none" as nothing; of pairs and classes it is a way of its own, and a change.
        "settings": {
            k: "none" if k in ("data.pairs", "data.classes") and v is None else v
            for k, v in to_json(settings or {}).items()
        },
        "from": None if start is None else str(start),
        "kind": kind,
        "resolution": to_json(resolution),
        "skip_bad": skip_bad,
    }


def _own(networks: dict[str, nn.Module] | None, make: MakeOptimizer | None) -> dict[str, Any]:
    """What the user brought along that config.json cannot hold."""
    return {"networks": sorted(networks or {}), "optimizer": make is not None}


def _named(own: dict[str, Any]) -> str:
    parts = [f"network {name!r}" for name in own["networks"]] + ["optimizer"] * own["optimizer"]
    return " and ".join(parts) or "nothing"


def _check_same(run: Run, config: dict[str, Any], asked: dict[str, Any], more: bool) -> None:
    """Changed settings on an existing run are an error that names them; where the data lie now is none of them."""
    old = dict(config["asked"])
    apart = {"source", "data2", *(("budget",) if more or config["extended"] else ())}
    new = {key: value for key, value in asked.items() if key not in apart}
    changed = differences({key: old[key] for key in new if key in old}, new)
    if changed:
        longer = "; to train a finished run longer, --budget +10m" if "budget" in " ".join(changed) else ""
        raise InputError(
            f"{run.folder} is a run with other settings ({'; '.join(changed)}). "
            f"Repeat its command to resume it, or give a new --out{longer}"
        )


def _sorted(settings: dict[str, Any], *, coded: bool) -> tuple[Training, dict[str, Any]]:
    """The user's settings of the training, and those of the model; of an autoencoder's none."""
    training, changes = Training(), {}
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        if key == FIRST:
            changes[FIRST] = value
        elif head == "training" and rest:
            assign(training, rest, value, setting=key)
        elif head not in ("data", FIRST, *KEYS):
            changes[key.removeprefix("model.")] = value
    if training.flip and coded:
        raise InputError("setting training.flip: a mirrored picture has other codes; leave it out with an autoencoder")
    return training, changes


def _plan(
    data: Data, asked: dict[str, Any], unit: str, amount: float, begun: float, networks: Any, make: Any,
    settings: dict[str, Any], *, measure: bool,
) -> tuple[dict[str, Any], Plan, Data]:  # fmt: skip
    """The whole config.json of a new run, and the data with the Spaces of its model."""
    name, count = asked["model"], len(data.splits["train"])
    model_class, _ = find(name)
    if not issubclass(model_class, TRAINED):
        raise unknown("model", name, known_models())
    usual = Run.at(asked["from"]).config()["size"] if asked["from"] else None  # no other one would fit
    size = asked["size"] or usual or choose_size(data, unit, amount, model_class)
    training, changes = _sorted(settings, coded=data.codes is not None)
    tuning = tuning_of(settings, asked["from"])
    start = begun_with(asked, networks)
    start = start if isinstance(start, model_class) else None  # another model has no clusters to take over
    if start is not None and model_class.finds_clusters:
        # As many as the run to begin with has, however many examples there are now.
        theirs = Run.at(asked["from"]).config()["spaces"].get("cluster", {"count": 0})
        changes.setdefault("clusters", theirs["count"])
    if tuning.asked:
        if training.choose_samples is None and len(data.splits["choose"]) < LEAST:
            training.choose_samples = 0  # so few choose by chance
        config = continued(name, asked["size"], asked["from"], tuning, changes)
    else:
        config = configure(name, data.spaces, size=size, count=count, changes=changes)
    data = clustered(data, model_class, config, start)
    if unit == "examples":
        training.examples = int(amount)
    planned = plan(
        name, config, data, training, kind=unit, amount=amount, seed=asked["seed"], begun=begun,
        networks=networks, make=make, measure=measure, asked={*settings, *changes}, tuning=tuning,
    )  # fmt: skip
    whole = {
        "format": FORMAT,
        "asked": asked,
        "extended": [],
        "model": name,
        "size": size,
        "seed": asked["seed"],
        "config": to_json(config),
        "training": to_json(training),
        "tuning": to_json(tuning),
        "plan": asdict(planned),
        "data": {
            "name": data.name,
            "hash": data.hash,
            "kind": data.modality.kind,
            "modality": data.modality.describe(),
            "opening": to_json(data.opening),
            "dtype": str(data.x.dtype),
            "scale": scale_of(data),
            "scale_back": scale_of(data, "target"),
            "counts": {split: len(rows) for split, rows in data.splits.items()},
            "label_names": data.label_names,
            **({"attributes": [vars(column) for column in data.attributes]} if data.attributes else {}),
            "frequencies": frequencies_of(data),
        },
        "spaces": {key: space.describe() for key, space in data.spaces.items()},
        "own": _own(networks, make),
        "versions": current_versions(),
    }
    return whole, planned, data


def _extend(run: Run, config: dict[str, Any], unit: str, amount: float, budget: str) -> None:
    """Turn a finished run into one that goes on from its state before the decay, with a larger budget."""
    if "before-decay" not in run.states():
        raise InputError(
            f"{run.folder} has no state/before-decay to go on from; start a new run with --from {run.folder}"
        )
    tensors, facts = run.load_state("before-decay")
    old, batch = config["training"]["examples"], config["config"]["optimizer"]["batch"]
    step_seconds = (run.choices().get("seconds") or {}).get("step") or config["plan"]["step_seconds"]
    if unit == "seconds" and not step_seconds:
        raise InputError(f"budget {budget!r}: this run was given in examples and knows no speed; give examples (+40k)")
    extra = int(amount) if unit == "examples" else int(amount * 0.93 / step_seconds) * batch
    total = -(-(facts["seen"] + extra) // batch) * batch
    if total <= old:
        least = old - facts["seen"]
        raise InputError(
            f"budget {budget!r} is too small: it must repeat the part in which the learning rate fell, "
            f"{least:,} examples; give more than that"
        )
    config["training"] |= {"examples": total, "corrections": []}
    config["plan"] |= {"examples": total, "least": old + batch}  # whatever the machine does: more than before
    config["extended"] = [*config["extended"], budget]
    run.drop_states(keep=0)  # a kill may have left the last one: it is newer, and decayed
    run.save_state(f"step-{facts['step']:09d}", tensors, facts)
    write_json(run.config_file, config)  # from here on the old weights do not count as finished: a kill loses nothing
    run.forget_after(facts["seen"])
    run.weights_file.unlink()
