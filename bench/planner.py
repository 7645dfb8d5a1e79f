"""Reading and planning on a large cluster that is made up: seconds and memory, and how they grow."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from slurm_reserve import cycle
from slurm_reserve.memory import Memory

from bench.generated import NOW, Size, answers, site

LARGE = Size(nodes=10_000, reservations=200, jobs=100_000)
SMALL = Size(nodes=1_000, reservations=20, jobs=10_000)
AIMS = {"plan_s": 0.25, "parse_s": 2.0, "memory_mb": 500.0}


def measure(rounds: int = 9) -> dict[str, Any]:
    """Each size in a process of its own, so that its memory is its own."""
    return {name: _apart(size, rounds) for name, size in (("small", SMALL), ("large", LARGE))}


def _apart(size: Size, rounds: int) -> dict[str, Any]:
    argv = [sys.executable, "-m", "bench.planner", str(size.nodes), str(size.reservations), str(size.jobs), str(rounds)]
    found: dict[str, Any] = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    return found


def one(size: Size, rounds: int) -> dict[str, Any]:
    """Medians of parsing what is printed and of planning on it, invariants included."""
    printed = answers(size)
    parse = [_timed(printed.parse)[0] for _ in range(3)]
    _, cluster = _timed(printed.parse)
    declared = site(size)
    memory = Memory(made={spec.name: NOW for spec in declared.reservations})
    decided = []
    for _ in range(rounds):
        seconds, result = _timed(lambda: cycle.decide(declared, cluster, memory))
        decided.append(seconds)
    made = result.plan
    return {
        "nodes": size.nodes, "reservations": size.reservations, "jobs": len(cluster.jobs),
        "printed_mb": round(printed.megabytes, 1),
        "parse_s": round(statistics.median(parse), 3),
        "plan_s": round(statistics.median(decided), 4), "plan_least_s": round(min(decided), 4),
        "reasons": len(made.not_lent), "loans": len(made.loans), "evictions": len(made.victims),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip


def _timed(what: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = what()
    return time.perf_counter() - begun, result


def table(found: dict[str, Any]) -> list[str]:
    """Lines to print."""
    lines = [f"{'':24}{'small':>10}{'large':>10}{'growth':>9}{'aim':>9}"]
    for key, title in (
        ("nodes", "nodes"),
        ("reservations", "reservations"),
        ("jobs", "jobs"),
        ("printed_mb", "printed, MB"),
        ("parse_s", "parsing it, s"),
        ("plan_s", "plan and invariants, s"),
        ("plan_least_s", "  the fastest, s"),
        ("loans", "loans made"),
        ("evictions", "borrowers evicted"),
        ("reasons", "reasons given"),
        ("memory_mb", "memory of all this, MB"),
    ):
        small, large = found["small"][key], found["large"][key]
        aim = f"< {AIMS[key]:g}" if key in AIMS else ""
        lines.append(f"{title:24}{small:>10g}{large:>10g}{'x ' + format(large / small, '.1f'):>9}{aim:>9}")
    return lines


if __name__ == "__main__":
    sys.stdout.write(json.dumps(one(Size(*map(int, sys.argv[1:4])), int(sys.argv[4]))))
