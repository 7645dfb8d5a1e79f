"""From `sbatch` to RUNNING: on idle nodes, by the daemon, by Slurm's own preemption, by polling; and with a notice."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from bench.ground import KILL_WAIT, NOTICE, THEIRS, Ground, ground, settle

Times = dict[str, list[float]]
TITLES = {
    "idle, with the daemon": "i    idle nodes, daemon running",
    "idle, without": "i    idle nodes, no daemon",
    "woken": "ii   lent, daemon, woken",
    "net": "iii  lent, Slurm's own preemption",
    "polled": "iv   lent, daemon, polling",
    "borrower": "     node idle to borrower running",
}
STEPS = ("sbatch to slurmctld", "wake, look, plan, requeue", "victim gone, job started")


def measure(rounds: int, strangers: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All of one load, in one lab; the kinds take turns in each round, in a random order."""
    times: Times = defaultdict(list)
    with ground(strangers) as here:
        for number in range(rounds):
            say(f"{strangers} strangers: round {number + 1} of {rounds}")
            _round(here, times)
    return {"rounds": rounds, "strangers": strangers, "seconds": times}


def _round(here: Ground, times: Times) -> None:
    for name in ("woken", "net", "polled"):
        here.lent(name)
    for name in random.sample(list(KINDS), len(KINDS)):
        settle()
        KINDS[name](here, times)
    leave = [job.id for job in here.stage.jobs().values() if job.user in ("net", "polled", "idle")]
    here.lab.run(["scancel", *leave], check=False)
    here.stage.wait(lambda: not [j for j in here.stage.jobs().values() if j.id in leave], 60, "the round's jobs end")


def _idle(here: Ground, times: Times, title: str) -> None:
    job, begun = here.submit("idle")
    times[title].append(here.watch.at("started", job, begun) - begun)
    here.stage.cancel(job)
    here.stage.wait(lambda: job not in here.stage.jobs(), 30, "the owner's job is gone")


def _with_daemon(here: Ground, times: Times) -> None:
    _idle(here, times, "idle, with the daemon")


def _without_daemon(here: Ground, times: Times) -> None:
    with here.stopped():
        _idle(here, times, "idle, without")


def _woken(here: Ground, times: Times) -> None:
    """And back: from the end of the owner's job to the borrower running again."""
    victim = here.lent("woken")
    job, begun = here.submit("woken")
    started = here.watch.at("started", job, begun)
    times["woken"].append(started - begun)
    marks = [begun, here.watch.at("submitted", job, begun), here.watch.at("requeued", victim, begun), started]
    for step, before, after in zip(STEPS, marks, marks[1:], strict=False):
        times[step].append(after - before)
    settle(3.0)  # the victim's two seconds are over: it waits for a node and nothing else
    ended = time.time()
    here.stage.cancel(job)
    times["borrower"].append(here.watch.at("started", victim, ended) - ended)


def _by_slurm(here: Ground, times: Times) -> None:
    with here.stopped():
        job, begun = here.submit("net")
        times["net"].append(here.watch.at("started", job, begun) - begun)


def _polled(here: Ground, times: Times) -> None:
    with here.unheard():
        job, begun = here.submit("polled")
        times["polled"].append(here.watch.at("started", job, begun) - begun)


KINDS = {
    "idle": _with_daemon, "without": _without_daemon, "woken": _woken, "net": _by_slurm, "polled": _polled,
}  # fmt: skip

VICTIMS = {
    "heeds": "srun bash -c \"trap 'exit 0' USR1; sleep 1000 & wait\"",
    "ignores": "trap '' USR1 TERM; srun bash -c \"trap '' USR1 TERM; while :; do sleep 1; done\"",
}


def with_notice(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A notice of ten seconds, by the daemon and by Slurm's MaxStartDelay lending, all four at a time."""
    times: Times = defaultdict(list)
    with ground(0) as here:
        for name, node in THEIRS.items():
            here.lab.run(
                ["scontrol", "create", f"reservation={name}", f"nodes={node}", "starttime=now", "duration=UNLIMITED",
                 f"users={name.removeprefix('slurm-')}", "MaxStartDelay=20", "flags=IGNORE_JOBS"]
            )  # fmt: skip
        for number in range(rounds):
            say(f"notice: round {number + 1} of {rounds}")
            _notice_round(here, times)
    return {"rounds": rounds, "notice": NOTICE, "kill_wait": KILL_WAIT, "seconds": times}


def _notice_round(here: Ground, times: Times) -> None:
    for manner, script in VICTIMS.items():
        here.lent(manner, wrap=script)
        theirs = here.lab.sbatch("dave", "--exclusive", "-t30", "-w", THEIRS[f"slurm-{manner}"],
                                 f"--signal=R:USR1@{NOTICE}", wrap=script)  # fmt: skip
        here.stage.runs(theirs, timeout=60)
    settle(2.0)
    begun: dict[str, tuple[str, float]] = {}
    for manner in VICTIMS:
        begun[f"daemon, {manner}"] = here.submit(manner)
        at = time.time()
        job = here.lab.sbatch(manner, "--exclusive", "-t30", f"--reservation=slurm-{manner}")
        begun[f"slurm, {manner}"] = (job, at)
    for title, (job, at) in begun.items():
        times[title].append(here.watch.at("started", job, at, timeout=120) - at)
    here.lab.run(["scancel", *(job.id for job in here.stage.jobs().values() if job.user != "carol")], check=False)
    here.stage.wait(lambda: all(j.user == "carol" for j in here.stage.jobs().values()), 60, "the round's jobs end")


def summary(values: list[float]) -> tuple[float, float, float]:
    """Median, 95th percentile, maximum."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)], ordered[-1]


def table(found: dict[str, Any]) -> list[str]:
    """Lines to print for one load."""
    times: Times = found["seconds"]
    lines = [f"{found['strangers']} strangers' jobs waiting, {found['rounds']} rounds; seconds"]
    lines.append(f"{'':40}{'median':>9}{'95th':>9}{'max':>9}")
    for key, title in TITLES.items():
        lines.append(f"{title:40}" + "".join(f"{value:>9.3f}" for value in summary(times[key])))
    for over, under in (("woken", "net"), ("woken", "polled"), ("idle, with the daemon", "idle, without")):
        of, to = summary(times[over]), summary(times[under])
        ratios = "".join(f"{a / b:>9.2f}" for a, b in zip(of, to, strict=True))
        lines.append(f"{over + ' / ' + under:40}" + ratios)
    lines.append("of a woken one's time, median in ms:")
    lines += [f"  {step:38}{1000 * statistics.median(times[step]):>9.0f}" for step in STEPS]
    return lines


def notice_table(found: dict[str, Any]) -> list[str]:
    """Lines to print for what a notice takes."""
    bound = found["notice"] + found["kill_wait"] + 1
    waits = f"a notice of {found['notice']} s, KillWait {found['kill_wait']} s"
    lines = [f"v    {waits}, {found['rounds']} rounds; seconds"]
    lines.append(f"{'':40}{'median':>9}{'95th':>9}{'max':>9}")
    for title, values in sorted(found["seconds"].items()):
        lines.append(f"     {title:35}" + "".join(f"{value:>9.2f}" for value in summary(values)))
    return [*lines, f"     aim: {bound} s at most, and at once when the victim ends"]


def say(text: str) -> None:
    """Progress, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text:70}")
