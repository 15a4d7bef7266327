"""The claims of several comparisons in one table: what `trilemma compare DATA --claims --seeds 3` decided on each.

    .venv/bin/python benchmarks/claims.py NAME=REPORT[,REPORT ...] [NAME=REPORT ...] > docs/claims-measured.md

REPORT is the folder of a comparison, finished or not, or a file that `--keep FOLDER` wrote: what claims are decided
by, of each report (`benchmarks/claims/`). Several of one NAME are parts of one comparison, such as `--seeds 1 --seed 2`
made on another core. `--words FILE` goes below the table.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

from trilemma.report.claims import CLAIMS, decide

LONG = ("losses", "choices", "config", "series", "events")  # of a row; no claim asks for them
SIGNS = {"holds": "**holds**", "does not hold": "*does not*", "cannot be told": "?"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", metavar="NAME=REPORT")
    parser.add_argument("--words", type=Path, help="what stands below the table: explanations by hand")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the reports into it, in short")
    arguments = parser.parse_args()
    found, facts = {}, []
    for each in arguments.reports:
        name, _, places = each.partition("=")
        parts = [read(Path(place)) for place in places.split(",")]
        if arguments.keep:
            for part in parts:
                keep(part, arguments.keep / f"{name}-{part['settings']['seed']}.json.gz")
        results = joined(parts)
        found[name] = {one["key"]: one for one in decide(results)}
        settings, counts = results["settings"], results["data"]["counts"]
        trained = sum(row["kind"] in ("model", "variant") and row["status"] == "ok" for row in results["rows"])
        facts.append(
            f"- **{name}**: {counts['train']:,} / {counts['choose']:,} / {counts['test']:,} examples, "
            f"{settings['budget_each']} a training, {settings['seeds']} seeds, {trained} trainings; "
            f"{results['machine']}; protocol `{results['protocol_key']}`; "
            + " and ".join(f"`{command}`" for command in results["commands"])
        )
    print("# The textbooks' claims, measured\n")
    print(
        "What each claim and its test are: [claims.md](claims.md). **holds**, *does not* hold, or cannot be told (?),\n"
        "with the figures; written by `benchmarks/claims.py` from the comparisons below.\n"
    )
    print("\n".join(facts) + "\n")
    print("| Claim | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
    for claim in CLAIMS:
        cells = [f"{SIGNS[one[claim.key]['verdict']]}: {one[claim.key]['figures']}" for one in found.values()]
        print(f"| {claim.sentence} | " + " | ".join(cells) + " |")
    if arguments.words is not None:
        print("\n" + arguments.words.read_text(encoding="utf-8").strip())


def read(place: Path) -> dict[str, Any]:
    if place.suffix == ".gz":
        results: dict[str, Any] = json.loads(gzip.decompress(place.read_bytes()))
        return results
    results = json.loads((place / "results.json").read_text("utf-8"))
    # No place of this machine.
    results["command"] = re.sub(r" --out \S+", "", re.sub(r"\S*/(\S+)", r"\1", results["command"]))
    results["data"]["source"] = Path(results["data"]["source"]).name
    return results


def keep(results: dict[str, Any], file: Path) -> None:
    """What claims are decided by: rows without the courses of losses, and settings."""
    rows = [{key: value for key, value in row.items() if key not in LONG} for row in results["rows"]]
    short = {key: value for key, value in results.items() if key not in ("claims", "answer")} | {"rows": rows}
    if decide(short) != decide(results):
        sys.exit(f"{file}: claims need more than what is kept")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(json.dumps(short).encode(), mtime=0))


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Parts of one comparison as one: the rows of all of them, baselines of the first."""
    first = parts[0]
    for part in parts[1:]:
        for key in ("protocol_key", "machine", "data"):
            if part[key] != first[key]:
                sys.exit(f"{key}: {part[key]} and {first[key]} do not go into one column")
        for key in ("models", "budget_each", "set"):
            if part["settings"][key] != first["settings"][key]:
                sys.exit(f"settings.{key} of the parts differ")
    if len({part["settings"]["seed"] for part in parts}) < len(parts):
        sys.exit("two parts have the same --seed")
    rows = {}
    for part in reversed(parts):  # the first one's baselines stay
        rows |= {(row["name"], row["seed"]): row for row in part["rows"] if row["status"] != "pending"}
    seeds = {row["seed"] for row in rows.values() if row["kind"] == "model"}
    settings = {**first["settings"], "seeds": len(seeds)}
    return {
        **first,
        "rows": list(rows.values()),
        "settings": settings,
        "commands": list(dict.fromkeys(part["command"] for part in parts)),
    }


if __name__ == "__main__":
    main()
