"""What reading a large cluster costs, by each backend: our time, slurmctld's, bytes, memory; and how the daemon adapts.

A backend is measured by a process of its own inside the lab: `python -m bench.reading NAME ROUNDS`. To put another
beside those here, add it to BACKENDS; pyslurm is among them where it is installed.
"""

from __future__ import annotations

import json
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from slurm_reserve.lab import Lab, LabSpec
from slurm_reserve.pace import MOST_OF_A_CORE
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.pyslurm import PyslurmSlurm, is_installed
from tests.cluster.stage import Stage

from bench.ground import queue_up

NODES, ROUNDS = 5_000, 7  # nodes are configured; all but four are never up
PATIENCE = timedelta(minutes=1)  # the machine may be slow, and that is to be measured
AIMS = {"wall_s": 2.0, "memory_mb": 300.0}
BACKENDS: dict[str, Callable[[], CliSlurm]] = {"cli": lambda: CliSlurm(SlurmSettings(timeout=PATIENCE))}
if is_installed():
    BACKENDS["pyslurm"] = lambda: PyslurmSlurm(SlurmSettings(timeout=PATIENCE))
ROWS = {
    "wall_s": "one whole observation, s", "own_cpu_s": "  our CPU, commands included, s",
    "slurmctld_cpu_s": "  slurmctld's CPU, s", "received_mb": "  over the network, MB", "memory_mb": "  memory, MB",
}  # fmt: skip


def measure(pending: int, steady: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Whole observations, and so many seconds of the daemon in steady state."""
    down = f"NodeName=d[5-{NODES}] NodeAddr=10.99.0.1 Port=[20005-{20_000 + NODES}] CPUs=4 RealMemory=4000 State=DOWN"
    lines = (
        f"MaxJobCount={pending + 20_000}", "MaxArraySize=2000", "SchedulerParameters=bf_max_job_test=100",
        "SlurmdTimeout=0", down,
    )  # fmt: skip
    with Lab.boot(LabSpec(nodes=4, slurm_conf=lines)) as lab:
        stage = Stage(lab)
        stage.keys = {"slurm": {"max_calls_per_second": 2}, "daemon": {"poll": "5s"}}
        stage.start()
        say(f"submitting {pending} jobs")
        for user in ("bob", "carol"):
            queue_up(lab, user, pending // 2)
        found: dict[str, Any] = {"pending": pending, "nodes": NODES, "backends": {}}
        for name in BACKENDS:
            say(f"reading by {name}")
            argv = [sys.executable, "-m", "bench.reading", name, str(ROUNDS)]
            # Not as the daemon's user, whose calls the daemon takes for its own.
            done = lab.run(argv, timeout=300, cwd=Path(__file__).parents[1])
            found["backends"][name] = json.loads(done.stdout)
        say("the daemon in steady state")
        return found | _steady(lab, stage, steady)


def observe(name: str, rounds: int) -> dict[str, Any]:
    """Medians of that backend's observations; run inside the lab."""
    slurm = BACKENDS[name]()
    server = max((p for p in psutil.process_iter() if p.name() == "slurmctld"), key=lambda p: p.memory_info().rss)
    spent: dict[str, list[float]] = {key: [] for key in ROWS if key != "memory_mb"}
    seen = slurm.observe()  # the first finds out what this release knows
    for _ in range(rounds):
        before = _now(server)
        seen = slurm.observe()
        for key, was, now in zip(spent, before, _now(server), strict=True):
            spent[key].append(now - was)
    slurm.close()  # a process that has ended tells its memory
    both = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "jobs": len(seen.jobs), "nodes": len(seen.nodes), "memory_mb": round(sum(both) / 1024),
        **{key: round(statistics.median(values), 3) for key, values in spent.items()},
    }  # fmt: skip


def _now(server: psutil.Process) -> tuple[float, float, float, float]:
    """Wall clock, our CPU with that of commands, slurmctld's CPU, and MB received: all goes over the lab's loopback."""
    ours = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ours += sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())
    return time.perf_counter(), ours, sum(server.cpu_times()[:2]), psutil.net_io_counters().bytes_recv / 1e6


def _steady(lab: Lab, stage: Stage, seconds: float) -> dict[str, Any]:
    """As sdiag tells it, once the daemon has had the time to measure and has spent what it had saved up."""
    time.sleep(max(seconds, 70.0))
    before, since = _of_daemon(lab), time.monotonic()
    time.sleep(seconds)
    after, passed = _of_daemon(lab), time.monotonic() - since
    interval = re.search(r'"interval": ([\d.]+)', stage.cli("--json", "status").stdout)
    return {
        "seconds": seconds,
        "calls_per_second": round((after[0] - before[0]) / passed, 2),
        "share_of_core": round((after[1] - before[1]) / passed, 4),
        "interval_s": round(float(interval[1]), 1) if interval else None,
    }


def _of_daemon(lab: Lab) -> tuple[int, float]:
    text = lab.run(["sdiag"]).stdout.partition("statistics by user")[2]
    line = next(line for line in text.splitlines() if line.strip().startswith("slurm "))
    found = re.search(r"count:(\d+).*total_time:(\d+)", line)
    if found is None:
        raise ValueError(f"sdiag prints no count or no time: {line}")
    return int(found[1]), int(found[2]) / 1e6


def table(found: dict[str, Any]) -> list[str]:
    """Lines to print."""
    backends = found["backends"]
    lines = [
        f"{found['nodes']} nodes, {found['pending']} jobs waiting",
        " " * 43 + "".join(f"{n:>9}" for n in backends),
    ]
    for key, title in ROWS.items():
        aim = f"      aim: < {AIMS[key]:g}" if key in AIMS else ""
        lines.append(f"{title:43}" + "".join(f"{each[key]:>9g}" for each in backends.values()) + aim)
    return [
        *lines,
        f"the daemon in steady state, {found['seconds']:g} s",
        f"{'  calls a second':43}{found['calls_per_second']:>9.2f}      aim: <= 2",
        f"{'  seconds between two looks':43}{found['interval_s'] or 0:>9.1f}",
        f"{'  slurmctld, share of a core (sdiag)':43}{found['share_of_core']:>9.2%}      aim: <= {MOST_OF_A_CORE:.0%}",
    ]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(observe(sys.argv[1], int(sys.argv[2]))))
