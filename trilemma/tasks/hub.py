"""Runs on the Hugging Face Hub, or on any server that speaks its protocol (`HF_ENDPOINT`): `push` and `pull`.

What makes a run usable travels, and nothing else: settings, final weights, choices, the card, and of pictures a sheet
of samples. No work in progress, no training examples, no pickle, no code; paths of this machine stay here.
Of captions and attributes the weights hold those that samples are asked for: `push` says how many.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from trilemma.errors import InputError, first_line
from trilemma.modalities.download import checksum_of
from trilemma.tasks.load import Loaded
from trilemma.tasks.travel import check_code, check_travels, taken_along, without_places
from trilemma.training.card import card
from trilemma.training.run import FORMAT, Run, disk_errors, write_json, write_text

CARD, SHEET = "README.md", "samples.png"  # as they are called there
NEEDED = ("config.json", "weights.safetensors")
WANTED = ("choices.json", CARD, SHEET)
ENTRIES = {"format", "asked", "model", "config", "training", "data", "spaces", "own"}  # of every config.json of ours


def push(
    run: str | Path, repository: str, *, private: bool = False, licence: str = "other", message: str | None = None,
    dry_run: bool = False,
) -> str:  # fmt: skip
    """Put a finished run there as OWNER/NAME, in one commit; returns its address (dry_run: its card, and nothing more).

    The card has the measured figures where the run stands in a comparison. It replaces the one that is there.
    private: where the repository is made now. licence: of the weights, by its name on the Hub.

    Raises:
        InputError: a run that is unfinished or needs code of yours; no token, no right to write, no network.
    """
    own = Run.at(run)
    check_travels(own)
    name, revision = parted(repository)
    if revision:
        raise InputError(f"{repository}: `push` writes to the main branch; leave out @{revision}")
    loaded = Loaded(own.folder, device="cpu")
    for one in taken_along(loaded):
        loaded.say(f"push {name}: {one}")
    # Sheets of other kinds, and of what was translated, show real data beside the samples: those stay here.
    shown = loaded.modality.kind == "image" and not loaded.translates and own.samples_folder.is_dir()
    sheets = sorted(own.samples_folder.glob("*.png")) if shown else []
    words = card(
        own.config(), own.choices(), measured=measured(own), place=name, licence=licence,
        picture=SHEET if sheets else None, tasks=loaded.can(),
    )  # fmt: skip
    if dry_run:
        return words
    hub = library()
    if not hub.get_token():
        raise InputError(
            f"push {name}: no token. Make one with the right to write on the site's settings page, then `hf auth "
            "login`, or put it into the variable HF_TOKEN"
        )
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder)
        write_json(aside / "config.json", without_places(own.config()))
        write_text(aside / CARD, words)
        files = {one: aside / one for one in ("config.json", CARD)} | {"weights.safetensors": own.weights_file}
        files |= {"choices.json": own.choices_file} if own.choices_file.is_file() else {}
        files |= {SHEET: sheets[-1]} if sheets else {}
        interface = connected(hub)
        try:
            interface.create_repo(name, private=private or None, exist_ok=True)
            additions = [hub.CommitOperationAdd(path_in_repo=one, path_or_fileobj=str(files[one])) for one in files]
            interface.create_commit(
                name, operations=additions, commit_message=message or f"{own.config()['model']} by Trilemma"
            )
        except Exception as problem:
            raise in_words(problem, f"push {name}", interface.endpoint, writing=True) from problem
    return f"{interface.endpoint}/{name}"


def pull(repository: str, *, out: str | Path) -> Run:
    """Get OWNER/NAME[@revision] as a run; it appears in `out` whole and tried, or not at all.

    Raises:
        InputError: not there, no network, files that are damaged, no run, one that this version cannot read, or a
            folder `out` with things in it.
    """
    name, revision = parted(repository)
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out {out} is there already; give a new or an empty folder")
    hub = library()
    interface = connected(hub)
    aside = out.absolute().with_name(f".{out.absolute().name}.part")
    with disk_errors(out):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    try:
        try:
            _fetch(interface, name, revision, aside)
        except InputError:
            raise
        except Exception as problem:
            raise in_words(problem, f"pull {repository}", interface.endpoint) from problem
        shutil.rmtree(aside / ".cache", ignore_errors=True)  # the library's own notes
        _try(aside, repository)
        with disk_errors(out):
            os.rename(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Run(out)


def _fetch(interface: Any, name: str, revision: str | None, aside: Path) -> None:
    """The files of a run, each with the checksum that the server states; what is no run is told by its names."""
    info = interface.model_info(name, revision=revision, files_metadata=True)
    there = {one.rfilename: one for one in info.siblings or ()}
    for one in NEEDED:
        if one not in there:
            raise InputError(f"{name}: is no run of Trilemma: it has no {one}")
    for one in (*NEEDED, *(other for other in WANTED if other in there)):
        interface.hf_hub_download(name, one, revision=info.sha, local_dir=aside)
        if not _is_whole(aside / one, there[one]):
            raise InputError(f"{name}: {one} arrived damaged (its checksum is wrong); pull it again")
        if one == "config.json":
            _check_config(aside / one, name)
    if (aside / CARD).is_file():
        os.replace(aside / CARD, aside / "card.md")
    if (aside / SHEET).is_file():
        (aside / "samples").mkdir()
        os.replace(aside / SHEET, aside / "samples" / SHEET)


def _is_whole(path: Path, told: Any) -> bool:
    """Has the file the checksum that the server tells: SHA-256 of a large one, git's own of a small one?"""
    if told.lfs is not None:
        return checksum_of(path, "sha256") == told.lfs.sha256
    if told.blob_id is None:
        return True
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == told.blob_id


def _check_config(path: Path, name: str) -> None:
    """Is this the config.json of a run that can be used here? Asked before its weights are downloaded."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        config = None
    if not isinstance(config, dict) or not set(config) >= ENTRIES:
        raise InputError(f"{name}: is no run of Trilemma: its config.json is that of something else")
    if config["format"] != FORMAT:
        newer = isinstance(config["format"], int) and config["format"] > FORMAT
        raise InputError(
            f"{name}: was written by {'a newer' if newer else 'another'} version of Trilemma (format "
            f"{config['format']}, this one reads {FORMAT}); " + ("update it" if newer else "take the version it names")
        )
    check_code(config, name)


def _try(folder: Path, name: str) -> None:
    """Load it once: better an error now than a folder that looks like a run."""
    try:
        Loaded(folder, device="cpu")
    except (InputError, RuntimeError, KeyError, TypeError, ValueError) as problem:
        version = Run(folder).config().get("versions", {}).get("trilemma", "unknown")
        raise InputError(
            f"{name}: this version of Trilemma cannot load it ({first_line(problem)}); it was trained with {version}"
        ) from problem


def measured(run: Run) -> dict[str, Any] | None:
    """What a comparison that the run stands in has measured of it: {"row", "floor", "protocol", "seeds"}, or None.

    A run that has gone on since then, or was measured on other data, has no figures.
    """
    report = run.folder.absolute().parent.parent
    try:
        results = json.loads((report / "results.json").read_text(encoding="utf-8"))
        place, config = run.folder.absolute().relative_to(report).as_posix(), run.config()
        row = next(one for one in results["rows"] if one.get("run") == place and one["status"] == "ok")
        key, same = results["protocol_key"], results["data"]["hash"] == config["data"]["hash"]
        if not same or key != (row.get("beside") or row["column"]) or row.get("study"):
            return None
        if row["training"]["examples"] != config["training"]["examples"]:
            return None
        floor = next((one for one in results["rows"] if one["kind"] == "floor"), None)
        return {"row": row, "floor": floor, "protocol": results["protocol"], "seeds": results["settings"]["seeds"]}
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def parted(repository: str) -> tuple[str, str | None]:
    """'OWNER/NAME@revision' in two."""
    name, _, revision = repository.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or repository.endswith("@"):
        raise InputError(f"{repository}: write OWNER/NAME, or of a certain revision OWNER/NAME@REVISION")
    return name, revision or None


def library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(
            "push and pull need huggingface_hub: pip install 'trilemma[hub]' (or pip install huggingface_hub)"
        ) from None
    return huggingface_hub


def connected(hub: Any) -> Any:
    """The library's interface to the server that HF_ENDPOINT names, or to its usual one."""
    return hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="trilemma")


def in_words(problem: Exception, doing: str, endpoint: str, *, writing: bool = False) -> Exception:
    """What went wrong there as an InputError that says what to do; our own mistakes are returned as they are."""
    from huggingface_hub import errors

    status = getattr(getattr(problem, "response", None), "status_code", None)
    network = type(problem).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests", "urllib3")
    if isinstance(problem, errors.OfflineModeIsEnabled):
        return InputError(f"{doing}: HF_HUB_OFFLINE is set; unset it")
    if isinstance(problem, errors.GatedRepoError):
        return InputError(f"{doing}: its owner lets in whom they like; ask on its page, then `hf auth login`")
    if isinstance(problem, errors.RevisionNotFoundError):
        return InputError(f"{doing}: there is no such revision; leave out the @, or see its page for the names")
    if status in (401, 403) and writing:
        return InputError(
            f"{doing}: the server refuses this token ({status}); it needs the right to write there: make one on the "
            "site's settings page, then `hf auth login` or HF_TOKEN; the OWNER must be you or a group of yours"
        )
    if isinstance(problem, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return InputError(
            f"{doing}: not found on {endpoint}; check the spelling, and of a private one log in (`hf auth login`, or "
            "HF_TOKEN)"
        )
    if status is not None:
        again = "try again later" if status >= 500 or status == 429 else "check what it says"
        return InputError(f"{doing}: {endpoint} answers {status} ({first_line(problem)}); {again}")
    if network or isinstance(problem, (ConnectionError, TimeoutError, errors.LocalEntryNotFoundError)):
        return InputError(
            f"{doing}: {endpoint} cannot be reached ({first_line(problem)}); check the network, a proxy and HF_ENDPOINT"
        )
    if isinstance(problem, errors.HFValidationError):
        return InputError(f"{doing}: {first_line(problem)}")
    if isinstance(problem, OSError):
        return InputError(f"{doing}: {first_line(problem)}")
    return problem
