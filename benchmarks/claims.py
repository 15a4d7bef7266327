"""The claims of several comparisons in one table: what `trilemma compare DATA --claims --seeds 3` decided on each.

    .venv/bin/python benchmarks/claims.py NAME=REPORT[,REPORT ...] [NAME=REPORT ...] > docs/claims-measured.md

REPORT is the folder of a comparison, finished or not, or its results.json alone; several of one NAME are parts of one
comparison, such as `--seeds 1 --seed 2` made on another core. `--words FILE` goes below the table.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from trilemma.report.claims import CLAIMS, decide

SIGNS = {"holds": "**holds**", "does not hold": "*does not*", "cannot be told": "?"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", metavar="NAME=REPORT")
    parser.add_argument("--words", type=Path, help="what stands below the table: explanations by hand")
    arguments = parser.parse_args()
    found, facts = {}, []
    for each in arguments.reports:
        name, _, places = each.partition("=")
        results = joined([read(Path(place)) for place in places.split(",")])
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
    results: dict[str, Any] = json.loads((place / "results.json" if place.is_dir() else place).read_text("utf-8"))
    return results


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Parts of one comparison as one: the rows of all of them, baselines of the first."""
    first = parts[0]
    for part in parts[1:]:
        for key in ("protocol_key", "machine"):
            if part[key] != first[key]:
                sys.exit(f"{key}: {part[key]} and {first[key]} do not go into one column")
        for key in ("models", "budget_each", "set"):
            if part["settings"][key] != first["settings"][key]:
                sys.exit(f"settings.{key} of the parts differ")
    rows = {}
    for part in reversed(parts):  # the first one's stay
        rows |= {(row["name"], row["seed"]): row for row in part["rows"] if row["status"] != "pending"}
    seeds = {row["seed"] for row in rows.values() if row["kind"] == "model"}
    # No place of this machine in commands.
    commands = [re.sub(r" --out \S+", "", re.sub(r"\S*/(\S+)", r"\1", part["command"])) for part in parts]
    settings = {**first["settings"], "seeds": len(seeds)}
    return {**first, "rows": list(rows.values()), "settings": settings, "commands": list(dict.fromkeys(commands))}


if __name__ == "__main__":
    main()
