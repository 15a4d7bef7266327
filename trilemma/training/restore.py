"""A trained model from its run folder: the final weights, or the averaged ones of an unfinished run."""

from __future__ import annotations

import copy

from safetensors.torch import load_file
from torch import nn

from trilemma.config import Training, from_json
from trilemma.errors import InputError
from trilemma.models.contract import Model, find
from trilemma.spaces import space_from
from trilemma.training.engine import Engine
from trilemma.training.run import Run


def restore(run: Run, engine: Engine, *, networks: dict[str, nn.Module] | None = None) -> Model:
    """The run's model on this engine, in evaluation mode."""
    config = run.config()
    model_class, _ = find(config["model"])
    spaces = {name: space_from(description) for name, description in config["spaces"].items()}
    missing = set(config["own"]["networks"]) - set(networks or {})
    if missing:
        raise InputError(
            f"{run.folder} was trained with your own networks ({', '.join(sorted(missing))}): hand them in"
        )
    extra = {"networks": copy.deepcopy(networks)} if networks else {}
    model = model_class(from_json(model_class.Config, config["config"]), spaces, **extra)  # type: ignore[call-arg]
    if run.finished:
        try:
            tensors = load_file(run.weights_file)
        except Exception as problem:
            raise InputError(f"{run.weights_file} is damaged ({problem}); train the run again") from None
    else:
        state = run.latest_state()
        if state is None:
            raise InputError(
                f"{run.folder} has no weights yet: training has not reached its first safe state; try again soon"
            )
        tensors = {name.removeprefix("model."): t for name, t in state[0].items() if name.startswith("model.")}
        training = from_json(Training, config["training"])
        if training.averages:
            middle = f"{training.averages[len(training.averages) // 2]:.2f}"
            prefix = f"average.{middle}."
            tensors |= {name.removeprefix(prefix): t for name, t in state[0].items() if name.startswith(prefix)}
    model.load_state_dict(tensors)
    model.to(engine.device)
    return model.eval()
