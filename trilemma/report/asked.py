"""What a comparison is asked for, checked before anything is trained: models, budget, settings, other samples."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trilemma.config import Training, assign, parse_budget
from trilemma.errors import InputError, unknown
from trilemma.modalities.contract import Data
from trilemma.models.contract import Samples, configure, find, fitting_sets, model_files, sets_of
from trilemma.report.columns import amount
from trilemma.report.summary import number
from trilemma.training.captions import has_captions, worded
from trilemma.training.opening import seen_by
from trilemma.training.optimizers import KINDS
from trilemma.training.stages import chosen_stage

MODELS = ("autoencoder", "vae", "gan", "gan:wasserstein", "diffusion", "diffusion:ddpm")
WORDED = ("diffusion:text",)  # and these where data have captions
FIRST = ("bridge", "pix2pix", "cut", "cyclegan")  # of translators, in this order before all others
PREFERENCES = ("quality", "diversity", "speed")
FALL = 0.6  # of a budget in which the learning rate falls, about: what a branch is trained for
TOY_EXAMPLES = 10_000  # sets of at most so many examples with few numbers each get the short default budget

if TYPE_CHECKING:
    from trilemma.report.pipelines import Pipeline


def models_for(data: Data) -> list[str]:
    """What is compared when nobody names models: MODELS and, of data with captions, WORDED; or every family that learns
    from such pairs or sets."""
    sets = sets_of(data.spaces)
    if sets == "alone":
        return [*MODELS, *(WORDED if has_captions(data) else ())]
    able = [stem for stem in model_files() if sets in find(stem)[0].sets and issubclass(find(stem)[0], Samples)]
    return sorted(able, key=lambda stem: FIRST.index(stem) if stem in FIRST else len(FIRST))


@dataclass
class Included:
    """As many samples of another origin as the protocol takes: raw ones, or a pipeline that is to make them.

    `figures`: what only their source tells. `captions`: what each of them is of, in the words that came with it.
    """

    samples: np.ndarray | Pipeline
    figures: dict[str, Any] = field(default_factory=dict)
    captions: list[str] | None = None

    @property
    def reads(self) -> bool:
        """Were they asked for in words?"""
        return self.captions is not None if isinstance(self.samples, np.ndarray) else self.samples.reads


def samples_of(data: Data, name: str, given: Any, *, quiet: bool = True) -> Included:
    """What `--include NAME=...` brings; a pipeline is tried. InputError for too few samples: another protocol."""
    from trilemma.report.measure import count_for, drawn, read_samples, rules_of  # seconds that `inspect` need not wait
    from trilemma.report.of_text import captions_beside, held_out
    from trilemma.report.pipelines import pipeline_of

    notes: list[str] = []
    count = count_for(data)
    if (pipeline := pipeline_of(name, given)) is not None:
        pipeline.captions = held_out(data, count)[1] if has_captions(data) else []
        seconds = pipeline.check(data)
        if not quiet:
            print(f"{name}: {seconds:.1f} s for one sample, and {count} are to be made", file=sys.stderr)
        return Included(pipeline)
    x = read_samples(data, given, notes)
    if len(x) < count:
        raise InputError(
            f"--include {name}=...: {len(x)} samples, and this table measures {count} of each; give as many "
            "(trilemma measure takes fewer)"
        )
    places = drawn(len(x), count)
    captions = captions_beside(data, given, notes)
    chosen = None if captions is None else [captions[place] for place in places]
    result = Included(x[places], rules_of(data, given, notes), chosen)
    data.notes += [f"{name}: {note}" for note in notes]
    return result


def check_settings(names: list[str], data: Data, settings: dict[str, Any]) -> None:
    """A setting that one of the models does not know is found before anything is trained."""
    for key, value in settings.items():
        if key.startswith("training."):
            assign(Training(), key.removeprefix("training."), value, setting=key)
    others = ("training", "data")
    changes = {k.removeprefix("model."): v for k, v in settings.items() if k.split(".")[0] not in others}
    changes = {k: v for k, v in changes.items() if not k.startswith("autoencoder.")}
    for name in names:
        seen = worded(seen_by(name, data), name, changes)
        fitting_sets(name, seen.spaces)
        if not isinstance(data.spaces["x"], find(name)[0].accepts):
            continue  # that is no mistake in a setting: its row says so
        try:
            stage = chosen_stage(name, settings)
            if stage is not None and stage.to_train:
                configure(stage.name, seen.spaces, changes=stage.changes)
            kind = configure(name, seen.spaces, changes=changes).optimizer.kind
            if kind not in KINDS:
                raise unknown("setting optimizer.kind", kind, KINDS)
        except InputError as problem:
            raise InputError(
                f"model {name}: {problem}. Leave the setting out, or choose --models that have it"
            ) from None


def budget_for_each(data: Data, budget: str | None, budget_each: str | None, trainings: int) -> str:
    """The budget of one training, as `train` takes it."""
    if budget_each:
        if parse_budget(budget_each)[2]:
            raise InputError(f"--budget-each {budget_each!r}: a comparison starts anew; leave out the +")
        return budget_each
    toy = data.log_density is not None or (data.x[:1].size <= 256 and len(data.x) <= TOY_EXAMPLES)
    unit, amount, more = parse_budget(budget or ("3m" if toy else "30m"))
    if more:
        raise InputError(f"--budget {budget!r}: a comparison starts anew; leave out the +")
    share = amount / trainings
    if unit == "seconds" and share < 2:
        raise InputError(
            f"--budget {budget!r} is {share:.1f} s for each of {trainings} trainings; give more, or fewer --models"
        )
    if unit == "seconds":
        return f"{share:.0f}s" if share >= 1e5 else f"{share:g}s"  # not 1e+06s, which is no budget
    return str(max(int(share), 1))


def forecast(each: str, trainings: int, further: int, branches: tuple[float, ...] = (), *, at_once: int = 1) -> str:
    """How many trainings are still to be made and what they take, in words.

    Of branches the decay alone is trained, one after the other; all else `at_once`.
    """
    unit, amount_each, _ = parse_budget(each)
    words = [f"{trainings} {'training' if trainings == 1 else 'trainings'}"]
    if branches:
        words[0] += f" with {len(branches)} branches"
    if further:
        words.append(f"{further} of studies")
    decays, whole_ones = FALL * sum(branches) * trainings, trainings + further
    at_once = max(min(at_once, whole_ones), 1)
    rounds = -(-whole_ones // at_once) if unit == "seconds" else whole_ones
    total = amount_each * (rounds + decays)
    whole = amount(total, "seconds") if unit == "seconds" else f"{number(total)} examples"
    beside = f", {at_once} at once" if at_once > 1 else ""
    return f"to do: {' and '.join(words)}, {each} each{beside}: about {whole} of training, and the measuring"
