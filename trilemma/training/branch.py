"""A shorter training out of a longer one: from the state before its own decay, with that decay, to its own end.

With `training.branches` (shares of the budget) a training keeps the state at which a training of that length would let
its learning rate fall. A branch goes on from there: what it gives is what a training of that length would have given,
up to the settings that follow the budget before the fall (a GAN's penalty), for the cost of the decay alone.
"""

from __future__ import annotations

import shutil
import time

from trilemma.config import parse_budget
from trilemma.errors import InputError
from trilemma.impressions import GUIDE
from trilemma.mixed import space_from
from trilemma.modalities.contract import Data
from trilemma.training.captions import CAPTION, worded
from trilemma.training.carry import Say, carry_out
from trilemma.training.guides import Guide
from trilemma.training.plan import FEW, FIT_OF_FEW
from trilemma.training.run import Run, branch_state, claimed, write_json
from trilemma.training.stages import coded_by, coded_in


def branch(data: Data, of: Run, share: float, *, quiet: bool = False) -> Run:
    """The run that ends at this share of the finished run's budget, under its folder; resumed or found if it is there.

    data: what `of` was trained on. InputError where no state was kept for this share.
    """
    run = Run(of.folder / "branches" / f"{share:g}")
    if run.exists and run.finished:
        return run
    if not run.exists:
        _prepare(run, of, share)
    config = of.config()
    words = config["spaces"].get(CAPTION)
    data = worded(data, config["asked"]["model"], config["asked"]["settings"], space_from(words) if words else None)
    if GUIDE in config["spaces"]:
        data = Guide(held=config["spaces"][GUIDE]).coded(data)
    if coded_in(of):
        data = coded_by(data, of, quiet=quiet)
    with claimed(run.folder):
        carry_out(
            run, data, run.config(), networks=None, make=None, said=Say(quiet), begun=time.monotonic(), limit=None
        )  # fmt: skip
    # It is there to be measured; whoever wants to go on has the long run.
    shutil.rmtree(run.state_folder, ignore_errors=True)
    shutil.rmtree(of.state_folder / branch_state(share), ignore_errors=True)
    return run


def _prepare(run: Run, of: Run, share: float) -> None:
    """The branch's folder: the state, then its config.json, which makes it a run."""
    name = branch_state(share)
    if name not in of.states():
        raise InputError(
            f"{of.folder} has no state/{name}: train it with --set training.branches={share:g}, or compare with --curve"
        )
    tensors, facts = of.load_state(name)
    config = of.config()
    optimizer = config["config"]["optimizer"]
    batch = optimizer["batch"]
    steps = max(round(facts["seen"] / optimizer["stay"] / batch) if optimizer["stay"] else 0, facts["step"] + 1)
    config["training"] |= {"examples": steps * batch, "corrections": [], "branches": [], "previews": 1}
    planned = parse_budget(config["asked"]["budget"])[0] == "examples"  # and so would a training of that length be
    if planned and steps * batch < FEW and "training.fit_examples" not in config["asked"]["settings"]:
        config["training"]["fit_examples"] = min(config["training"]["fit_examples"], FIT_OF_FEW)
    config["plan"]["examples"] = steps * batch
    config["asked"]["budget"], config["extended"] = str(steps * batch), []
    shutil.rmtree(run.folder, ignore_errors=True)
    run.save_state(f"step-{facts['step']:09d}", tensors, facts)
    write_json(run.config_file, config)


def shares_of(run: Run) -> list[float]:
    """The shares of its budget at which this run has branched or can, smallest first.

    A training of a few steps, or one whose count was set right on the way, may have passed some without a state.
    """
    states, folder = run.states(), run.folder / "branches"
    asked = sorted(run.config()["training"].get("branches", ()))
    return [share for share in asked if branch_state(share) in states or Run(folder / f"{share:g}").exists]
