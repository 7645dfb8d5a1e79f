"""Measure and print: `python -m bench [--quick] [--rounds N] [--json FILE] [planner|victims|reading|notice|...]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import latency, planner, reading, victims

HURRIED = "batch_sched_delay=0"
BESIDE = ("notice", "hurried")  # measured while "quiet" is: in labs of their own, which wait most of the time
Part = tuple[Callable[[], Any], Callable[[Any], list[str]]]


def parts(options: argparse.Namespace) -> dict[str, Part]:
    """What can be measured, and how it is shown, in the order in which it is."""
    rounds, say = options.rounds, latency.say
    few = few_of(rounds)
    return {
        "planner": (planner.measure, planner.table),
        "victims": (lambda: victims.measure(options.seeds), victims.table),
        "reading": (lambda: reading.measure(options.pending, options.steady, say), reading.table),
        "notice": (lambda: latency.with_notice(few, say), latency.notice_table),
        "hurried": (lambda: latency.measure(few, 0, say, HURRIED), latency.table),
        "quiet": (lambda: latency.measure(rounds, 0, say), latency.table),
        "busy": (lambda: latency.measure(rounds, options.strangers, say), latency.table),
    }


def main() -> int:
    """Run what is asked for; all of it by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="*", help="planner, victims, reading, notice, hurried, quiet, busy; default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds, a smaller queue: does it still work?")
    parser.add_argument("--rounds", type=int, help="of each latency (60); a sixth of it with a notice")
    parser.add_argument("--strangers", type=int, help="waiting jobs on the busy cluster (20,000)")
    parser.add_argument("--pending", type=int, help="waiting jobs when reading is measured (50,000)")
    parser.add_argument("--steady", type=float, help="seconds for which the daemon is watched (100)")
    parser.add_argument("--seeds", type=int, help="of the demand on which victims are chosen (5)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    usual = {
        "rounds": (60, 5),
        "strangers": (20_000, 2_000),
        "pending": (50_000, 5_000),
        "steady": (100.0, 20.0),
        "seeds": (5, 1),
    }
    for name, (whole, quick) in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else whole)
    known = parts(options)
    if unknown := set(options.what) - known.keys():
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    begun, found = time.monotonic(), {"machine": machine()}
    sys.stdout.write(f"{found['machine']}\n")
    asked = [*(options.what or known)]
    beside = [name for name in BESIDE if name in asked and "quiet" in asked]
    for name in asked:
        if name in beside:
            continue
        measure, _ = known[name]
        children = [Child(each, few_of(options.rounds)) for each in beside] if name == "quiet" else []
        found[name] = measure()
        found |= {child.name: child.found() for child in children}
        for each in (*(child.name for child in children), name):
            sys.stdout.write("\n".join(["", *known[each][1](found[each])]) + "\n")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"\ntook {(time.monotonic() - begun) / 60:.1f} minutes\n")
    return 0


def few_of(rounds: int) -> int:
    """Rounds of what is measured less often."""
    return max(rounds // 6, 1)


class Child:
    """A part that is measured by a process of its own, beside another part."""

    def __init__(self, name: str, few: int) -> None:
        self.name, self._folder = name, tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / "found.json"
        argv = [sys.executable, "-m", "bench", name, "--rounds", str(few * 6), "--json", str(self._file)]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)

    def found(self) -> Any:
        """Wait for it; raises CalledProcessError when it failed."""
        status = self._process.wait()
        if status:
            raise subprocess.CalledProcessError(status, self._process.args)
        with self._folder:
            return json.loads(self._file.read_text(encoding="utf-8"))[self.name]


def machine() -> str:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, {cpu}; Python {platform.python_version()}; load when begun {load:.1f}"


if __name__ == "__main__":
    sys.exit(main())
