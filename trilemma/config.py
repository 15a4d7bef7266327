"""Settings: dataclasses <-> JSON <-> `--set a.b=3`. An unknown key is an error with a suggestion."""

from __future__ import annotations

import ast
import dataclasses
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trilemma.errors import InputError, unknown

SIZES = ("xs", "s", "m", "l", "xl")


@dataclass
class Optimizer:
    """How weights move. `rate` warms up, stays, and falls linearly to zero between `stay` and the end."""

    kind: str = "adam"  # adam, adamw, sgd, rmsprop
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    momentum: float = 0.9  # sgd only
    warm_up: int = 20_000  # examples; never more than 5 % of the budget
    stay: float = 0.5  # fraction of the budget at which the rate begins to fall
    clip: float = 0.0  # largest norm of a group's gradient; 0: none but the loop's own, ten usual ones
    batch: int = 128  # examples a step
    least_steps: int = 1500  # a budget of seconds for fewer gets smaller batches, where they cost few examples
    micro: int = 0  # examples at once in memory; 0: the whole batch


@dataclass
class Training:
    """What the loop needs to know beside the model. The probe fills in what is None before step 1."""

    examples: int = 0  # the budget
    dtype: str | None = None  # float32, bfloat16, float64
    threads: int | None = None
    compile: bool | None = None  # torch.compile of networks; None: on a GPU, for an hour or more, where it is faster
    averages: tuple[float, ...] = (0.05, 0.10, 0.16)  # relative deviations of the power averages
    average_every: int = 4  # steps
    save_every: int = 0  # steps between safe states
    previews: int = 8  # moments at which samples are shown
    preview_samples: int = 64
    choose_samples: int | None = None  # samples behind each choice; 0: defaults are taken; None: by the model's cost
    choose_few: bool = False  # the usual average and two or three ways to sample only: all that a short budget pays
    corrections: tuple[tuple[int, int], ...] = ()  # (step, examples): where a time budget's count was set right
    fit_examples: int = 20_000  # at most, for the density on an autoencoder's codes
    branches: tuple[float, ...] = ()  # shares of the budget at which a training of that length can branch off
    shard: bool = False  # networks, gradients, optimizer and averages in parts, one for each process of `torchrun`
    flip: bool = False  # mirror the last grid axis at random: photographs, not letters


@dataclass
class Tuning:
    """What learns of a run that `--from` names, the rest of it frozen; with none of these all of it learns."""

    lora: int = 0  # rank of what is added to the layers' weights
    lora_alpha: float = 0.0  # what is added counts alpha / rank; 0: once
    word: str = ""  # a new word of its vocabulary
    word_like: str = ""  # the word whose meaning it begins with; '': that of its pieces

    @property
    def asked(self) -> bool:
        return bool(self.lora or self.word)


LEAST: dict[str, float] = dict.fromkeys(
    ("batch", "latent", "width", "depth", "patch", "components", "condition", "style", "steps"), 1
)
LEAST |= dict.fromkeys(("micro", "warm_up", "clip", "weight_decay", "momentum", "previews", "rate", "beta", "gamma"), 0)
LEAST |= dict.fromkeys(("least_steps", "augment_over"), 0)
LEAST |= {
    "matching": 0,
    "prior_width": 1,
    "prior_depth": 1,
    "prior_steps": 1,
    "reading": 1,
    "penalty_every": 1,
    "critic_steps": 1,
    "gamma_end": 0,
    "free_bits": 0,
    "texture": 0,
    "eta": 0,
    "clusters": 0,
}
LEAST |= {"train_steps": 21, "embedding": 2, "preview_samples": 1, "save_every": 0, "average_every": 1, "threads": 1}
LEAST |= {"mapping": 1, "pace": 0.01, "mapping_pace": 0.01, "path_length": 0, "path_every": 1, "rise": 1e-6}
LEAST |= {"lora": 0, "lora_alpha": 0}
LEAST |= {"pool": 0, "patches": 1, "projection": 1, "temperature": 1e-3, "warp": 0.01}
MOST = {"warp": 10.0, "dropout": 0.95, "drop": 1.0, "augment": 1.0, "stay": 1.0, "mixing": 1.0, "target": 1.0}


def parse_value(text: str) -> Any:
    """'3' -> 3, 'true' -> True, '(0.9,0.99)' -> tuple; everything else stays text."""
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _fits(value: Any, hint: Any) -> tuple[bool, Any]:
    """Does the value fit the annotation? And the value, brought to its type."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(hint):
            fits, brought = _fits(value, option)
            if fits:
                return True, brought
        return False, value
    if hint is Any:
        return True, value
    if hint is type(None) or hint is None:
        return value is None, None
    if hint is bool:
        return isinstance(value, bool), value
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number, float(value) if number else value
    if hint is int:
        whole = isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer()
        return whole, int(value) if whole else value
    if hint is str:
        return isinstance(value, str), value
    if origin is typing.Literal:
        # The command line reads "none" as nothing, which is what these settings mean by it.
        value = "none" if value is None else value
        options = typing.get_args(hint)
        return value in options, next((option for option in options if option == value), value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            value = (value,)
        inner = typing.get_args(hint)
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        if len(kinds) != len(value):
            return False, value
        parts = [_fits(v, k) for v, k in zip(value, kinds, strict=True)]
        return all(ok for ok, _ in parts), tuple(v for _, v in parts)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, typing.cast(type, hint)), value
    return True, value


def _name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return re.sub(r"<class '(\w+)'>", r"\1", str(hint)).replace("typing.", "")


def assign(config: Any, path: str, value: Any, *, setting: str | None = None) -> None:
    """Set a dotted path in nested dataclasses; `network=mlp` on a nested dataclass sets its `kind`."""
    setting = setting or path
    head, _, rest = path.partition(".")
    hints = typing.get_type_hints(type(config))
    names = [f.name for f in dataclasses.fields(config)]
    if head not in names:
        raise unknown("setting", setting, [setting[: len(setting) - len(path)] + n for n in names])
    here = getattr(config, head)
    if rest:
        if not dataclasses.is_dataclass(here):
            raise InputError(f"setting {setting!r}: {head!r} has no settings of its own")
        assign(here, rest, value, setting=setting)
        return
    if dataclasses.is_dataclass(here) and not dataclasses.is_dataclass(value):
        assign(here, "kind", value, setting=setting + ".kind")
        return
    fits, brought = _fits(value, hints[head])
    if not fits:
        raise InputError(f"setting {setting}={value!r}: expected {_name(hints[head])}")
    if head in LEAST and isinstance(brought, (int, float)) and not brought >= LEAST[head]:
        raise InputError(f"setting {setting}={value!r}: must be at least {LEAST[head]}")
    if head in MOST and isinstance(brought, (int, float)) and not 0 <= brought <= MOST[head]:
        raise InputError(f"setting {setting}={value!r}: must be between 0 and {MOST[head]:g}")
    setattr(config, head, brought)


def to_json(config: Any) -> Any:
    """Nested dataclasses as plain JSON values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_json(v) for v in config]
    if isinstance(config, dict):
        return {k: to_json(v) for k, v in config.items()}
    return config


def from_json(kind: type, values: dict[str, Any], *, prefix: str = "") -> Any:
    """A dataclass from `to_json`'s output; unknown keys and wrong types are errors that name them."""
    config = kind()
    for name, value in values.items():
        nested = getattr(config, name, None)
        if dataclasses.is_dataclass(nested) and isinstance(value, dict):
            setattr(config, name, from_json(type(nested), value, prefix=f"{prefix}{name}."))
        else:
            assign(config, name, value, setting=prefix + name)
    return config


def names_of(given: Iterable[Any] | str | None) -> list[str]:
    """'vae, gan', ['vae', 'gan'] and ['vae,gan', ...] as names one by one."""
    parts = [given] if isinstance(given, str) else given or ()
    return [name.strip() for part in parts for name in str(part).split(",") if name.strip()]


def parse_budget(text: str | int | float) -> tuple[str, float, bool]:
    """'10m' -> ('seconds', 600, False), '40k' -> ('examples', 40000, False), '+10m' -> ('seconds', 600, True)."""
    wrong = InputError(
        f"budget {text!r} is not one: give a time (30s, 10m, 1h30m) or a number of training examples (40k, 2M); "
        "a leading + goes on with a finished run"
    )
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if not text >= 1 or text != int(text):
            raise wrong
        return "examples", float(int(text)), False
    text = str(text).strip()
    more = text.startswith("+")
    body = text.removeprefix("+")
    clock = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", body)
    if body and clock:
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        total = hours * 3600 + minutes * 60 + seconds
        if total <= 0:
            raise wrong
        return "seconds", total, more
    count = re.fullmatch(r"(\d+(?:\.\d+)?)([kKM]?)", body)
    if not count:
        raise wrong
    examples = float(count[1]) * {"": 1, "k": 1e3, "K": 1e3, "M": 1e6}[count[2]]
    if examples < 1:
        raise wrong
    return "examples", float(round(examples)), more


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """The dotted settings in which two JSON values differ, each with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found += differences(old.get(key), new.get(key), f"{prefix}{key}.")
        return found
    return [] if old == new else [f"{prefix[:-1]}: {old!r} -> {new!r}"]
