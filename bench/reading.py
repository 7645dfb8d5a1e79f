"""What reading a cluster with many waiting jobs costs: our time, slurmctld's, and how the daemon adapts to it."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
from slurm_reserve.lab import Lab, LabSpec
from slurm_reserve.pace import MOST_OF_A_CORE
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from tests.cluster.stage import Stage

NODES, ROUNDS = 500, 5  # nodes are configured and need not be up
STEADY = 100.0  # seconds over which the daemon is watched: it measures once a minute


def measure(pending: int, say: Callable[[str], None]) -> dict[str, Any]:
    """One whole observation, and a minute of the daemon in steady state."""
    lines = (f"MaxJobCount={pending + 20_000}", "MaxArraySize=2000", "SchedulerParameters=bf_max_job_test=100")
    with Lab.boot(LabSpec(nodes=4, slurm_conf=lines)) as lab:
        say(f"submitting {pending} jobs")
        stage = Stage(lab)
        stage.keys = {"slurm": {"max_calls_per_second": 2}, "daemon": {"poll": "5s"}}
        stage.start()
        for user in ("bob", "carol"):
            _submit(lab, user, pending // 2)
        say("reading")
        found = _observe(lab)
        say("the daemon in steady state")
        return found | {"pending": pending} | _steady(lab, stage)


def _submit(lab: Lab, user: str, count: int) -> None:
    """Jobs of their own, not arrays: each is a record to read."""
    loop = f"i=0; while [ $i -lt {count // 4} ]; do sbatch -Q -H -o /dev/null -t10 --wrap true; i=$((i+1)); done"
    several = [lab.popen(["sh", "-c", loop], user=user, stdout=-3) for _ in range(4)]
    for each in several:
        each.wait()


def _observe(lab: Lab) -> dict[str, Any]:
    slurm = CliSlurm(SlurmSettings(), lab.command)
    server = _slurmctld(lab)
    walls, servers = [], []
    slurm.observe()
    for _ in range(ROUNDS):
        begun, spent = time.perf_counter(), sum(server.cpu_times()[:2])
        seen = slurm.observe()
        walls.append(time.perf_counter() - begun)
        servers.append(sum(server.cpu_times()[:2]) - spent)
    return {
        "jobs": len(seen.jobs), "observe_s": round(statistics.median(walls), 3),
        "slurmctld_cpu_s": round(statistics.median(servers), 3),
        "memory_mb": round(psutil.Process().memory_info().rss / 1e6),
    }  # fmt: skip


def _slurmctld(lab: Lab) -> psutil.Process:
    below = psutil.Process(lab.init.pid).children(recursive=True)
    return max((p for p in below if p.name() == "slurmctld"), key=lambda p: p.memory_info().rss)


def _steady(lab: Lab, stage: Stage) -> dict[str, Any]:
    """As sdiag tells it, after the daemon has had the time to measure."""
    time.sleep(STEADY)  # it measures once a minute, and has saved up a minute's calls
    before, since = _of_daemon(lab), time.monotonic()
    time.sleep(STEADY)
    after, seconds = _of_daemon(lab), time.monotonic() - since
    shown = stage.cli("--json", "status").stdout
    interval = re.search(r'"interval": ([\d.]+)', shown)
    return {
        "calls_per_second": round((after[0] - before[0]) / seconds, 2),
        "share_of_core": round((after[1] - before[1]) / seconds, 4),
        "interval_s": round(float(interval[1]), 1) if interval else None,
    }


def _of_daemon(lab: Lab) -> tuple[int, float]:
    text = lab.run(["sdiag"]).stdout.partition("statistics by user")[2]
    line = next(line for line in text.splitlines() if line.strip().startswith("slurm "))
    count, total = re.search(r"count:(\d+).*total_time:(\d+)", line).groups()  # type: ignore[union-attr]
    return int(count), int(total) / 1e6


def table(found: dict[str, Any]) -> list[str]:
    """Lines to print."""
    return [
        f"reading a cluster with {found['jobs']} jobs",
        f"  one whole observation, s               {found['observe_s']:>9.3f}",
        f"  of slurmctld's CPU, s                  {found['slurmctld_cpu_s']:>9.3f}",
        f"  memory of the reader, MB               {found['memory_mb']:>9}",
        f"  in steady state, calls a second        {found['calls_per_second']:>9.2f}      aim: <= 2",
        f"  of slurmctld's time, share of a core   {found['share_of_core']:>9.2%}      aim: <= {MOST_OF_A_CORE:.0%}",
        f"  seconds between two looks              {found['interval_s'] or 0:>9.1f}",
    ]
