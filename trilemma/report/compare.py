"""The main job: train the families on the user's data under one budget, measure them alike, say which to use and why.

Everything is written as it is done: results.json and index.html after each row, so that an interrupted comparison
shows what it has and goes on where it stopped.
"""

from __future__ import annotations

import datetime
import json
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.config import differences, names_of, to_json
from trilemma.errors import DiskError, InputError, unknown
from trilemma.metrics.protocol import current_versions, records
from trilemma.modalities.contract import Data, opening_of
from trilemma.modalities.door import open_data
from trilemma.models.contract import Samples, find, known_models, sets_of
from trilemma.report.advise import advise
from trilemma.report.asked import (
    PREFERENCES,
    Included,
    budget_for_each,
    check_settings,
    forecast,
    models_for,
    samples_of,
)
from trilemma.report.baselines import FLOOR, baselines_for, real
from trilemma.report.claims import decide
from trilemma.report.columns import KINDS as KINDS_OF_ROWS
from trilemma.report.columns import amount, as_csv
from trilemma.report.measure import (
    Ruler,
    count_for,
    file_name,
    new_row,
    write_samples,
)
from trilemma.report.needs import check_needs
from trilemma.report.of_tables import drawn as table_drawn
from trilemma.report.of_text import CAPTIONS
from trilemma.report.page import write_page
from trilemma.report.pictures import drawn_once
from trilemma.report.pipelines import Pipeline
from trilemma.report.places import Here, Job, place_for
from trilemma.report.probes import drifted
from trilemma.report.quiz import MOST_REAL, REAL
from trilemma.report.teller import SHOWN, Teller
from trilemma.report.variants import (
    CURVE,
    Studies,
    Variant,
    check,
    data_of,
    later,
    parse_shares,
    planned,
    remembered,
    settings_of,
)
from trilemma.tasks.load import Loaded
from trilemma.training.captions import has_captions, text_of
from trilemma.training.engine import prepare
from trilemma.training.probe import machine
from trilemma.training.published import Given, open_given, read_wanted
from trilemma.training.run import Run, claimed, disk_errors, write_json, write_text

ASIDE = ("prefer", "need", "studies", "price")  # settings with which the same comparison may go on


def compare(
    source: Any,
    data2: Any = None,
    *,
    models: Sequence[str] | str | None = None,
    budget: str | None = None,
    budget_each: str | None = None,
    seeds: int = 1,
    prefer: str | None = None,
    need: Sequence[str] | str = (),
    include: Mapping[str, Any] | None = None,
    features: Iterable[str | Path] | str | Path = (),
    remeasure: bool = False,
    curve: bool = False,
    claims: bool = False,
    sensitivity: bool = False,
    subsample: str | Sequence[str | float] | None = None,
    drift: str | None = None,
    price: float | None = None,
    seed: int = 0,
    kind: str | None = None,
    resolution: Any = None,
    skip_bad: bool = False,
    settings: dict[str, Any] | None = None,
    out: str | Path | None = None,
    on: str | None = None,
    cpus_each: int | None = None,
    quiet: bool = False,
) -> Path:
    """Train, measure and compare models on the source; returns the path of the report's index.html.

    data2: the targets, where the source holds what they are made from: then translators are compared.
    models, need, subsample: in a list, or between commas ('vae,gan').
    budget: in total over models and seeds; budget_each: for each training (also in examples). Default: 30 minutes in
    total, 3 for toy sets. need: what the winner must be able to do ('encode', 'likelihood', ...). include: samples of
    other origin (another tool's), name -> folder, file or array, or a pipeline of diffusers that makes them (its
    folder, or 'hub:OWNER/NAME', and ':STEPS'), measured alike. features: further feature networks
    that judge pictures: 'inception', 'dinov2', 'clip', or a TorchScript or ONNX file, FILE[:SIZE] or NAME=FILE[:SIZE].
    remeasure: take all figures of the folder anew, from the runs in it. Interrupted, the same call goes on where it
    stopped. Raises InputError for everything you can mend.

    Studies, each for further time beyond the budget: curve: quality after 1/8, 1/4 and 1/2 of it; claims: what the
    textbooks' statements need, curve included; sensitivity: other learning rates and batches; subsample: shares of the
    training data ('10%,30%'); drift: 'order' or a condition, trained on the earlier half and measured on the later.
    price: of an hour of this machine, for the costs.

    on: train elsewhere, several at once: 'processes[:NUMBER]' of this machine, 'ray[:ADDRESS]', a Ray cluster; each
    with `cpus_each` cores. All are measured here, when the last one is trained. Processes read the calling script anew:
    call it under `if __name__ == "__main__":`.
    """
    prepare()
    begun = time.monotonic()
    chosen = names_of(models)
    for name in chosen:
        if not issubclass(find(name)[0], Samples):
            raise unknown("model", name, known_models(Samples))
    if prefer is not None and prefer not in PREFERENCES:
        raise unknown("--prefer", prefer, PREFERENCES)
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: at least one training of each model is needed")
    if budget and budget_each:
        raise InputError("--budget is the total and --budget-each is for each training: give one of them")
    need = check_needs(need)
    wanted = read_wanted(features)
    data = open_data(source, opening=opening_of(settings, kind, resolution, skip_bad), data2=data2)
    names = list(dict.fromkeys(chosen or models_for(data)))
    others = {name: samples_of(data, name, given, quiet=quiet) for name, given in (include or {}).items()}
    for name in others:
        if name in (*names, *baselines_for(data), FLOOR, REAL):
            what = "the held-out pictures of the quiz have" if name == REAL else "the table has a row of"
            raise InputError(f"--include {name}=...: {what} that name; choose another one")
    each = budget_for_each(data, budget, budget_each, len(names) * seeds)
    check_settings(names, data, settings or {})
    studies = Studies(curve, claims, sensitivity, parse_shares(subsample), drift)
    check(studies, data)
    if price is not None and not price >= 0:
        raise InputError(f"--price {price:g}: give what an hour of this machine costs, such as 0.35")
    given = open_given(wanted, data)
    if not quiet:
        for name, reason in given.left_out.items():
            print(f"no figures by {name}: {reason}", file=sys.stderr)
    folder = Path(out) if out is not None else Path("report") / data.name
    place = place_for(on, cpus_each)
    comparison = Comparison(
        data, folder, names, each, seeds, seed, dict(settings or {}), prefer, list(need), others, given, studies,
        place, quiet,
    )  # fmt: skip
    comparison.results["settings"]["price"], comparison.since = price, begun
    with comparison.alone:
        comparison.start(remeasure=remeasure)
        try:
            comparison.go()
        finally:
            if not comparison.results["finished"]:  # what the row took that is not done
                comparison.results["seconds"] += time.monotonic() - comparison.since
            comparison.write()
    return folder / "index.html"


class Comparison:
    """The rows of one report folder, in the order in which they are done."""

    def __init__(
        self, data: Data, folder: Path, names: list[str], each: str, seeds: int, seed: int,
        settings: dict[str, Any], prefer: str | None, need: list[str], others: dict[str, Included], given: Given,
        studies: Studies, place: Here, quiet: bool,
    ):  # fmt: skip
        self.data, self.folder, self.each, self.place, self.quiet = data, folder, each, place, quiet
        self.settings, self.prefer, self.need, self.included, self.given = settings, prefer, need, others, given
        self.studies, self.names, self.seeds = studies, names, [seed + number for number in range(seeds)]
        self.trainings = [(name, one) for one in self.seeds for name in names]
        self.paces: list[float] = []  # seconds of each training and what is measured of it, of this session
        self.since = time.monotonic()  # when the work on the next row began
        self.known: set[tuple[str, int | None]] = set()  # rows that are done: taken anew, they are no further work
        self.stale: set[tuple[str, int | None]] = set()  # rows that are to be measured anew
        self.past: dict[tuple[str, int], Variant] = {}  # variants that this folder has rows of
        self.count, self.alone = count_for(data), ExitStack()  # which holds the folder for this process
        self.real = data.rows("test", SHOWN + MOST_REAL if data.x.ndim > 2 else 500)
        self.pictures = drawn_once(partial(data.modality.picture, reference=self.real))
        self.teller = Teller(folder, data, self.real, count=self.count, claims=studies.claims, quiet=quiet)
        self.results: dict[str, Any] = {
            "title": data.name,
            "finished": False,
            "command": "trilemma " + shlex.join(word for word in sys.argv[1:] if word != "--remeasure")
            if sys.argv[0].endswith(("trilemma", "__main__.py"))
            else "trilemma.compare(...)",
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "seconds": 0.0,
            "settings": {
                "models": names,
                "budget_each": each,
                "seeds": seeds,
                "seed": seed,
                "prefer": prefer,
                "need": need,
                "set": to_json(settings),
                "branches": studies.branches,
                "studies": to_json(asdict(studies)),
            },
            "versions": current_versions(),
            "machine": f"{machine()}, {platform.system()}",
            "data": {
                "name": data.name,
                "source": data.source,
                "opening": to_json(data.opening),
                "kind": data.modality.kind,
                "counts": {split: len(rows) for split, rows in data.splits.items()},
                "shape": list(data.x.shape[1:]),
                "labels": data.label_names,
                "sides": sets_of(data.spaces),
                "sources": {split: len(data.sources(split) or ()) for split in data.splits},
                "notes": data.notes,
                "hash": data.hash,
            },
            "protocol": {},
            "protocol_key": "",
            "other_protocols": {},
            "judges_left_out": given.left_out,
            "rows": [],
            "real": None,
            "sources": None,
            "drift": {},
            "preferences": prefer,
            "answer": {},
        }

    # --- before and after ---

    def start(self, *, remeasure: bool = False) -> None:
        """Take the folder, or go on with the comparison that is in it."""
        file = self.folder / "results.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"--out {self.folder} is a file; give a folder")
        if file.is_file():
            try:
                old = json.loads(file.read_text(encoding="utf-8"))
                changed = differences(
                    {"branches": False} | {key: value for key, value in old["settings"].items() if key not in ASIDE},
                    {key: value for key, value in self.results["settings"].items() if key not in ASIDE},
                )
                other = old["data"]["hash"] != self.data.hash
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{file} is damaged; give another --out or remove the folder") from None
            if changed or other:
                what = "; ".join(changed) or "other data"
                if any(change.startswith("branches") for change in changed):
                    what += ": with --curve or --claims trainings keep states to branch off from"
                raise InputError(
                    f"{self.folder} holds another comparison ({what}). Give a new --out, or repeat its command"
                )
            for key in ("rows", "started", "seconds", "drift", "other_protocols"):
                self.results[key] = old.get(key, self.results[key])
            # Samples from elsewhere may have been added, changed or left out since then: they cost no training.
            self.results["rows"] = [row for row in old["rows"] if row["status"] == "ok" and row["kind"] != "included"]
            self.past = {(r["name"], r["seed"]): remembered(r["variant"]) for r in old["rows"] if r.get("variant")}
            self.known = {(row["name"], row["seed"]) for row in old["rows"] if row["status"] == "ok"}
            if remeasure:
                self.stale = {(row["name"], row["seed"]) for row in self.results["rows"]}
        elif remeasure:
            raise InputError(f"--remeasure: {self.folder} holds no comparison; give the --out of one")
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError(f"--out {self.folder} is a folder with other things in it; give a new or empty one")
        self.alone.enter_context(claimed(self.folder))
        with disk_errors(self.folder):
            (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        with disk_errors(self.folder):
            self.results["real"] = write_samples(self.folder, "real", self.real)
            sources = self.data.sources("test")
            if sources is not None:
                kept = self.data.pictured(sources[np.arange(min(len(sources), len(self.real)))], colour=True)
                self.results["sources"] = write_samples(self.folder, "sources", kept)
        self.write()

    def write(self) -> None:
        """results.json, results.csv and the page, with rows in the order people expect."""
        done = {row["name"] + str(row["seed"]) for row in self.results["rows"]}
        waiting = [
            new_row(name, seed, "model", "pending") for name, seed in self.trainings if f"{name}{seed}" not in done
        ]
        rows = [*sorted(self.results["rows"], key=self._order), *waiting]
        to_come = [{"name": name, "seed": seed} for name, seed in self._planned() if not self._done(name, seed)]
        results = {**self.results, "rows": rows, "studies_to_come": to_come}
        others, columns = self.results["other_protocols"], {row["column"] for row in rows}
        results["other_protocols"] = {key: record for key, record in others.items() if key in columns}
        results["answer"] = advise(results, prefer=self.prefer, need=self.need, folder=self.folder)
        ready = any(row["status"] == "ok" and row["kind"] == "model" for row in rows)
        results["claims"] = decide(results) if ready else []
        write_json(self.folder / "results.json", results)
        write_text(self.folder / "results.csv", as_csv(rows))
        write_page(self.folder, results, self.pictures)

    def _planned(self) -> dict[tuple[str, int], Variant]:
        """All variants that were asked for, now or before, as long as their bases have not failed."""
        rows = {(r["name"], r["seed"]): r["status"] for r in self.results["rows"] if r["kind"] == "model"}
        ends = {(name, seed): rows.get((name, seed), "pending") for seed in self.seeds for name in self.names}
        return planned(
            self.studies, ends, self.past,
            settings=self.settings, examples=len(self.data.splits["train"]), grid=self.data.x.ndim > 2,
        )  # fmt: skip

    def _order(self, row: dict[str, Any]) -> tuple[int, int, int]:
        place = [(name, seed) for name, seed in self.trainings]
        kinds = list(KINDS_OF_ROWS)
        key = (row["name"], row["seed"])
        return kinds.index(row["kind"]), place.index(key) if key in place else 0, row["seed"] or 0

    # --- the work ---

    def go(self) -> None:
        """All rows that are not done yet: first the trainings, so that the first samples come early."""
        ruler: Ruler | None = None
        jobs = [self._job(name, seed) for name, seed in self.trainings if not self._done(name, seed)]
        further = sum(not self._done(*key) for key in self._planned())
        if (jobs or further) and not self.quiet:
            new, shares = sum(not Run(job.out).finished for job in jobs), CURVE * self.studies.branches
            print(forecast(self.each, new, further, shares, at_once=self.place.at_once), file=sys.stderr)
        self.place.ahead(jobs, quiet=self.quiet)
        for name, seed in self.trainings:
            if not self._done(name, seed):
                ruler = self._training(name, seed, ruler)
        ruler = ruler or self._ruler()
        for name, seed in self.trainings:
            # Done in an earlier session under another protocol: what the ruler has put aside is measured again.
            if not self._done(name, seed):
                self._training(name, seed, ruler)
        self._studied(ruler)
        for number, (name, other) in enumerate(self.included.items()):
            row, file = new_row(name, None, "included", "ok"), f"included-{number}-{file_name(name)}"
            try:
                samples = other.samples
                if isinstance(samples, Pipeline):
                    row["config"], kept = samples.facts(), self.folder / "samples" / f"{file}-made.npy"
                    samples, row["speed"] = samples.samples(self.data, self.count, kept, quiet=self.quiet)
                self.teller.measured(row, ruler, samples, file)
                if ruler.text is not None and other.reads:
                    row["metrics"] |= records(ruler.text.of_samples(samples, other.captions))
            except DiskError:
                raise
            except (InputError, RuntimeError, TypeError, ValueError) as problem:  # of a pipeline: code of others
                row["status"], row["error"] = "failed", f"{type(problem).__name__}: {problem}"
                self.teller.log(row)
            row["metrics"] |= other.figures
            self._keep(row)
        for name, make in {**baselines_for(self.data, quiet=self.quiet), FLOOR: real}.items():
            if not self._done(name, None):
                row = new_row(name, None, "floor" if name == FLOOR else "baseline", "ok")
                samples = make(self.data, self.count, seed=self.results["settings"]["seed"])
                self.teller.measured(row, ruler, samples, file_name(name))
                self._keep(row)
        self.results["finished"] = True

    def _done(self, name: str, seed: int | None) -> bool:
        known = any(row["name"] == name and row["seed"] == seed for row in self.results["rows"])
        return known and (name, seed) not in self.stale

    def _pace(self, begun: float) -> None:
        """What is left of the trainings, for whoever waits: measuring takes its time, too."""
        self.paces.append(time.monotonic() - begun)
        wanted = {*self.trainings, *self._planned()}
        left = sum(not self._done(*one) for one in wanted)
        if left and not self.quiet:
            seconds = amount(left * sum(self.paces) / len(self.paces), "seconds")
            print(f"{len(wanted) - left} of {len(wanted)} trainings done, about {seconds} left", file=sys.stderr)

    def _keep(self, row: dict[str, Any]) -> None:
        """A new row; one that it replaces was kept until now, and stays where nothing could be measured anew."""
        key = row["name"], row["seed"]
        before = next((old for old in self.results["rows"] if (old["name"], old["seed"]) == key), row)
        if row["status"] == "failed" and before["status"] == "ok":
            row = {**before, "problems": [*dict.fromkeys([*before["problems"], f"its figures anew: {row['error']}"])]}
        self.results["rows"] = [old for old in self.results["rows"] if (old["name"], old["seed"]) != key] + [row]
        self.stale.discard(key)
        now = time.monotonic()
        if key not in self.known:
            self.results["seconds"] += now - self.since
        self.since = now
        self.known.add(key)
        self.write()

    def _ruler(self) -> Ruler:
        worded = has_captions(self.data) and any(text_of(name, self.settings) for name in self.names)
        worded = worded or any(other.reads for other in self.included.values())
        ruler = Ruler(self.data, self.count, given=self.given.networks, worded=worded, quiet=self.quiet)
        if ruler.text is not None:
            write_text(self.folder / CAPTIONS, ruler.text.lines())
        before = (
            (self.results.get("series") or {}).get("forecasts")
            if self.results.get("protocol_key") == ruler.protocol.key()
            else None
        )
        self.results["protocol"], self.results["protocol_key"] = ruler.protocol.record(), ruler.protocol.key()
        self.results["series"], self.results["table"] = None, table_drawn(self.data, ruler.test)
        if ruler.series is not None:
            plain = before or ruler.series.forecasts.plain(quiet=self.quiet)
            self.results["series"] = {**ruler.series.drawn(), "forecasts": plain}
        kept = []
        for row in self.results["rows"]:
            # A row of an earlier session was measured under this protocol, or it is measured again; what failed in this
            # one is not tried a second time.
            if row["status"] == "failed" or (row.get("beside") or row.get("column")) == ruler.protocol.key():
                kept.append(row)
        self.results["rows"] = kept
        return ruler

    def _training(self, name: str, seed: int, ruler: Ruler | None) -> Ruler | None:
        """Train one model and measure it; a failure becomes a row that says so, and the others go on."""
        row, begun = new_row(name, seed, "model", "ok"), time.monotonic()
        label = f"{file_name(name)}-s{seed}"
        with self._recorded(row, label) as run:
            job = self._job(name, seed)
            self.place.finish(job, quiet=self.quiet)
            ruler = ruler or self._ruler()
            if self._done(name, seed):
                return ruler
            self.teller.of_run(row, ruler.of_test(Loaded(run)), ruler, label)
        self._keep(row)
        self._pace(begun)
        return ruler

    def _job(self, name: str, seed: int) -> Job:
        settings = {**self.settings, **({"training.branches": CURVE} if self.studies.branches else {})}
        return Job(self.data, name, self.each, seed, self.folder / "runs" / f"{file_name(name)}-s{seed}", settings)

    def _variation(self, variant: Variant, seed: int) -> Job:
        """The training of a variant, of the size that its base has."""
        runs = self.folder / "runs"
        base = Run.at(runs / f"{file_name(variant.of)}-s{seed}").config()
        out, settings = runs / f"variant-{file_name(variant.name)}-s{seed}", settings_of(variant, self.settings, base)
        return Job(data_of(variant, self.data), variant.model, self.each, seed, out, settings, base["size"])

    @contextmanager
    def _recorded(self, row: dict[str, Any], label: str) -> Iterator[Path]:
        """The folder of a row's run; what goes wrong with it becomes the row's error, and the others go on."""
        run = self.folder / "runs" / label
        try:
            yield run
        except (KeyboardInterrupt, OSError, DiskError):  # the next training would meet it, too
            raise
        except Exception as problem:  # whatever a model does wrong, the comparison goes on and says so
            row["status"], row["error"] = "failed", f"{type(problem).__name__}: {problem}"
            self.teller.log(row)
            if not self.quiet:
                print(f"{row['name']}: failed: {problem}", file=sys.stderr)
        row["run"] = str(run.relative_to(self.folder))

    def _studied(self, ruler: Ruler) -> None:
        """The variants that were asked for, now or before, each beside its base of the same seed."""
        todo = {key: one for key, one in self._planned().items() if not self._done(*key)}
        self.place.ahead([self._variation(variant, seed) for (_, seed), variant in todo.items()], quiet=self.quiet)
        rulers: dict[str | None, Ruler] = {None: ruler}
        for (_, seed), variant in todo.items():
            if variant.drift not in rulers:
                part = later(self.data, variant.drift or "")
                after = rulers[variant.drift] = Ruler(part, self.count, given=self.given.networks, quiet=self.quiet)
                self.results["drift"][variant.drift] = drifted(after, self.data, variant, seed=self.seeds[0])
                self.results["other_protocols"][after.protocol.key()] = after.protocol.record()
            self._vary(variant, seed, rulers[variant.drift], ruler.protocol.key())

    def _vary(self, variant: Variant, seed: int, ruler: Ruler, beside: str) -> None:
        row, begun = new_row(variant.model, seed, "variant", "ok"), time.monotonic()
        row |= {"name": variant.name, "of": variant.of, "study": variant.study, "what": variant.what}
        row |= {"variant": to_json(asdict(variant)), "beside": beside}
        label = f"variant-{file_name(variant.name)}-s{seed}"
        with self._recorded(row, label) as run:
            job = self._variation(variant, seed)
            self.place.finish(job, quiet=self.quiet)
            self.teller.of_run(row, ruler.of_test(Loaded(run)), ruler, label, job.data)
            if variant.half:  # what it has seen is no first part of the training split: nothing is said of copies
                row["verdicts"] = {}
                row["metrics"] = {k: v for k, v in row["metrics"].items() if k not in ("memorisation", "near_copies")}
        self._keep(row)
        self._pace(begun)
