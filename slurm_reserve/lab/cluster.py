"""The cluster in a lab seen as a whole: waiting for it, showing it, cleaning it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psutil

from slurm_reserve.lab import conf, daemons
from slurm_reserve.lab.errors import LabError
from slurm_reserve.lab.inside import Inside

T = TypeVar("T")
POLL = 0.03  # seconds between two looks; one look takes about 20 ms itself

SNAPSHOT = (
    ("squeue", "-a", "-o", "%.10i %.9P %.12j %.8u %.12T %.10M %.6D %R %v"),
    ("sinfo", "-a", "-N", "-o", "%N %P %T %E"),
    ("scontrol", "-o", "show", "reservation"),
    ("tail", "-n", "40", str(conf.LOG_DIRECTORY / "slurmctld.log")),
)


def wait(inside: Inside, what: Callable[[], T], timeout: float, says: str) -> T:
    """Poll until `what` gives something true; raises LabError with a snapshot after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if value := what():
            return value
        if time.monotonic() > deadline:
            raise LabError(f"{says} (waited {timeout:g} s)\n{snapshot(inside)}")
        time.sleep(POLL)


def snapshot(inside: Inside) -> str:
    """Show jobs, nodes, reservations and the end of slurmctld's log."""
    shown = []
    for argv in SNAPSHOT:
        done = inside.run(argv, check=False, timeout=20)
        shown.append(f"$ {' '.join(argv)}\n{(done.stdout + done.stderr).rstrip()}")
    return "\n".join(shown)


def clean(inside: Inside, timeout: float) -> None:
    """End every job at once, delete every reservation, bring every daemon and node back."""
    daemons.start(inside, *daemons.known(inside.spec).values())
    wait(inside, lambda: _is_clean(inside), timeout, f"lab {inside.name} does not get clean")


def _is_clean(inside: Inside) -> bool:
    """Look; whatever is in the way is got rid of; say whether nothing was."""
    jobs = _lines(inside, "squeue", "-h", "-a", "-o", "%A")
    if jobs:
        inside.run(["scancel", *sorted(set(jobs))], check=False)
        _kill_processes_of_jobs(inside)
    reservations = [line for line in _lines(inside, "scontrol", "-o", "show", "reservation") if "=" in line]
    commands = [f"delete {line.split(maxsplit=1)[0]}" for line in reservations]
    nodes = dict(line.split() for line in _lines(inside, "sinfo", "-h", "-a", "-N", "-o", "%N %T"))
    marred = [node for node, state in nodes.items() if state.startswith(("drain", "down", "fail"))]
    commands += [f"update nodename={','.join(marred)} state=resume"] if marred and not jobs else []
    if commands:
        inside.run(["scontrol"], input="\n".join([*commands, "quit"]) + "\n", check=False)
    if not jobs and any(state.startswith("planned") for state in nodes.values()):
        _forget_plans(inside)
    _ask_to_register(inside, nodes)
    return not jobs and not commands and all(state == "idle" for state in nodes.values())


def _forget_plans(inside: Inside) -> None:
    """Have slurmctld forget what backfill planned nodes for: it does so when backfill runs again, or by a restart."""
    slurmctld = daemons.known(inside.spec)["slurmctld"]
    daemons.stop(inside, slurmctld)
    daemons.start(inside, slurmctld)


def _ask_to_register(inside: Inside, nodes: dict[str, str]) -> None:
    """Have slurmd report at once to a slurmctld that waits for it, rather than when it is asked, seconds later."""
    known = daemons.known(inside.spec)
    for node, state in nodes.items():
        if state.startswith("unk") or state.endswith("*"):
            # One that reads its configuration anew is another process afterwards, from 23.11 on: asked when next seen.
            with suppress(psutil.NoSuchProcess):
                daemons.kill(inside, known[f"slurmd@{node}"], signal.SIGHUP)


def _kill_processes_of_jobs(inside: Inside) -> None:
    """Kill what jobs run rather than wait for KillWait; their slurmstepd reports the end at once."""
    for step in inside.init.children():
        try:
            if step.name() == "slurmstepd":
                for process in step.children(recursive=True):
                    process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def _lines(inside: Inside, *argv: str) -> list[str]:
    return inside.run(argv).stdout.splitlines()
