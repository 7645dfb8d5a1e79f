"""Measure and print: `python -m bench [--quick] [--rounds N] [--json FILE] [planner|victims|reading|notice|...]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import drawing, latency, planner, reading, victims
from bench.apart import shares, side_by_side

HURRIED = "batch_sched_delay=0"
IN_LABS = ("quiet", "busy")  # their rounds are shared out among several labs, side by side
BESIDE = ("notice", "hurried")  # measured while "quiet" is
FEW = 6  # what is measured less often has so many times fewer rounds
USUAL: dict[str, tuple[float, float]] = {  # and with --quick
    "rounds": (60, 6), "strangers": (20_000, 2_000), "pending": (50_000, 5_000), "steady": (100.0, 20.0),
    "seeds": (5, 1),
}  # fmt: skip
Part = tuple[Callable[[], Any], Callable[[Any], list[str]]]


def parts(options: argparse.Namespace) -> dict[str, Part]:
    """What can be measured, and how it is shown, in the order in which it is."""
    rounds, say = options.rounds, latency.say
    few = max(rounds // FEW, 1)
    return {
        "planner": (planner.measure, planner.table),
        "victims": (lambda: victims.measure(options.seeds), victims.table),
        "reading": (lambda: reading.measure(options.pending, options.steady, say), reading.table),
        "drawing": (lambda: drawing.measure(say), drawing.table),
        "notice": (lambda: latency.with_notice(few, say), latency.notice_table),
        "hurried": (lambda: latency.measure(few, 0, say, HURRIED), latency.table),
        "quiet": (lambda: latency.measure(rounds, 0, say), latency.table),
        "busy": (lambda: latency.measure(rounds, options.strangers, say), latency.table),
    }


def asked(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "what", nargs="*", help="planner, victims, reading, drawing, notice, hurried, quiet, busy; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, a smaller queue: does it still work?")
    parser.add_argument("--rounds", type=int, help=f"of each latency (60); a {FEW}th of it with a notice, and hurried")
    parser.add_argument("--labs", type=int, default=2, help="in which these are measured, side by side (2)")
    parser.add_argument("--strangers", type=int, help="waiting jobs on the busy cluster (20,000)")
    parser.add_argument("--pending", type=int, help="waiting jobs when reading is measured (50,000)")
    parser.add_argument("--steady", type=float, help="seconds for which the daemon is watched (100)")
    parser.add_argument("--seeds", type=int, help="of the demand on which victims are chosen (5)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(argv)
    for name, (whole, quick) in USUAL.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else whole)
    known = parts(options)
    if unknown := set(options.what) - known.keys():
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    options.what = options.what or [*known]
    return options


def main() -> int:
    """Run what is asked for; all of it by default."""
    options = asked()
    known, begun = parts(options), time.monotonic()
    found: dict[str, Any] = {"machine": machine()}
    sys.stdout.write(f"{found['machine']}\n")
    for name in options.what:
        for each, figures in measured(name, known, options):
            found[each] = figures
            sys.stdout.write("\n".join(["", *known[each][1](figures)]) + "\n")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"\ntook {(time.monotonic() - begun) / 60:.1f} minutes\n")
    return 0


def measured(name: str, known: dict[str, Part], options: argparse.Namespace) -> list[tuple[str, Any]]:
    """The figures of a part; and of those that are measured beside it."""
    are_beside = "quiet" in options.what and options.labs > 1
    if name in BESIDE and are_beside:
        return []
    if name not in IN_LABS or options.labs == 1:
        return [(name, known[name][0]())]
    beside = [(each, options.rounds) for each in BESIDE if each in options.what] if name == "quiet" else []
    wanted = [*shares(name, options.rounds, options.labs), *beside]
    found = side_by_side(wanted, [f"--strangers={options.strangers}"])
    same = [figures for each, figures in found if each == name]
    return [*((each, figures) for each, figures in found if each != name), (name, latency.joined(same))]


def machine() -> str:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, {cpu}; Python {platform.python_version()}; load when begun {load:.1f}"


if __name__ == "__main__":
    sys.exit(main())
