"""Prints a line for each behaviour and release, from the last runs; ends 1 if one that is due was not shown.

behaviours.py [FILE ...]: what runs have noted, or what is found of `make test` and `make test-matrix`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOP = HERE.parent
LAST = 46
Shown = dict[str, list[dict[str, str]]]  # behaviour -> tests that showed it


def read(files: list[Path]) -> dict[str, Shown]:
    """What was shown on each release, by all runs on it."""
    releases: dict[str, Shown] = defaultdict(lambda: defaultdict(list))
    for file in files:
        run: dict[str, Any] = json.loads(file.read_text())
        for number, tests in run["behaviours"].items():
            releases[run["release"]][number] += tests
    return releases


def line(number: str, release: str, tests: list[dict[str, str]], is_due: bool) -> tuple[str, bool]:
    """What to print of a behaviour on a release, and whether it passed."""
    outcomes = ("failed", "passed", "skipped")
    of = {outcome: [each for each in tests if each["outcome"] == outcome] for outcome in outcomes}
    state = next((outcome for outcome, found in of.items() if found), "untested")
    shown = of.get(state) or [{"test": "-"}]
    test = shown[0]["test"].removeprefix("tests/")
    more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
    why = "".join(f"; skipped {each['test'].rpartition('::')[2]}: {each.get('why', '')}" for each in of["skipped"])
    return f"{number:<4}{state:<9}{'due' if is_due else '   '}  {release:<14}  {test}{more}{why}\n", state == "passed"


def main(words: list[str]) -> int:
    """Print the table; the exit status says whether all that is due passed on each release that was run."""
    found = [Path(word) for word in words]
    if not found:
        found = [*TOP.glob("behaviours.json"), *sorted(TOP.glob(".containers/results/*.json"))]
    if not found:
        sys.stderr.write("no tests have run yet: run make test first\n")
        return 1
    due = {text for text in (HERE / "behaviours.txt").read_text().splitlines() if text.startswith("B")}
    releases = read(found)
    bad = 0
    for number in (f"B{n}" for n in range(1, LAST + 1)):
        for release, shown in sorted(releases.items()):
            text, passed = line(number, release, shown.get(number, []), number in due)
            bad += number in due and not passed
            sys.stdout.write(text)
    if bad:
        sys.stderr.write(f"{bad} of {len(due) * len(releases)} behaviours that are due failed or were not tested\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
