"""Prints a line for each behaviour, from the last run of the tests; ends 1 if one that is due was not shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parent / "behaviours.json"
LAST = 46


def main() -> int:
    """Print the table; the exit status says whether all that is due passed."""
    if not RESULTS.exists():
        sys.stderr.write("no tests have run yet: run make test first\n")
        return 1
    due = {line for line in (HERE / "behaviours.txt").read_text().splitlines() if line.startswith("B")}
    run = json.loads(RESULTS.read_text())
    bad = 0
    for number in (f"B{n}" for n in range(1, LAST + 1)):
        shown = run["behaviours"].get(number, [])
        outcomes = {entry["outcome"] for entry in shown}
        state = "untested" if not shown else "failed" if outcomes != {"passed"} else "passed"
        bad += number in due and state != "passed"
        failed = [entry for entry in shown if entry["outcome"] != "passed"]
        test = (failed or shown or [{"test": "-"}])[0]["test"].removeprefix("tests/")
        more = f" and {len(shown) - 1} more" if len(shown) > 1 else ""
        mark = "due" if number in due else "   "
        sys.stdout.write(f"{number:<4}{state:<9}{mark}  {run['release']:<14}  {test}{more}\n")
    if bad:
        sys.stderr.write(f"{bad} of {len(due)} behaviours that are due failed or were not tested\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
