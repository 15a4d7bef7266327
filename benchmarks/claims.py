"""The claims of several comparisons in one table: what `trilemma compare DATA --claims --seeds 3` decided on each.

    .venv/bin/python benchmarks/claims.py NAME=REPORT [NAME=REPORT ...] > docs/claims-measured.md

REPORT is the folder of a comparison, finished or not; `--words FILE` goes below the table.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from trilemma.report.claims import CLAIMS, decide

SIGNS = {"holds": "**holds**", "does not hold": "*does not*", "cannot be told": "?"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", metavar="NAME=REPORT")
    parser.add_argument("--words", type=Path, help="what stands below the table: explanations by hand")
    arguments = parser.parse_args()
    found, facts = {}, []
    for each in arguments.reports:
        name, _, folder = each.partition("=")
        results = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
        found[name] = {one["key"]: one for one in decide(results)}
        settings, counts = results["settings"], results["data"]["counts"]
        command = re.sub(r" --out \S+", "", re.sub(r"\S*/(\S+)", r"\1", results["command"]))  # no place of this machine
        trained = sum(row["kind"] in ("model", "variant") and row["status"] == "ok" for row in results["rows"])
        facts.append(
            f"- **{name}**: {counts['train']:,} / {counts['choose']:,} / {counts['test']:,} examples, "
            f"{settings['budget_each']} a training, {settings['seeds']} seeds, {trained} trainings; "
            f"{results['machine']}; protocol `{results['protocol_key']}`; `{command}`"
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


if __name__ == "__main__":
    main()
