"""From `sbatch` to RUNNING: on idle nodes, by the daemon, by Slurm's own preemption, by polling; and with a notice."""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from bench.figures import Times, comparison, median, row, titles
from bench.ground import KILL_WAIT, NOTICE, SLOWEST, THEIRS, Call, Ground, ground, settle

TITLES = {
    "idle": "i    idle nodes, daemon running",
    "without": "i    idle nodes, no daemon",
    "woken": "ii   lent, daemon, woken",
    "net": "iii  lent, Slurm's own preemption",
    "polled": "iv   lent, daemon, polling",
    "borrower": "     node left to borrower running",
}
RATIOS = (
    ("woken", "net", "<= 0.25, 0.15"), ("woken", "polled", ""), ("idle", "without", "<= 1"), ("woken", "without", ""),
)  # fmt: skip
STEPS = {  # of a woken reclaim: what ends each
    "sbatch starts and asks": "REQUEST_SUBMIT_BATCH_JOB",
    "slurmctld takes it, rings; daemon's first squeue": "REQUEST_JOB_USER_INFO",
    "look, plan, record, read the victim again": "REQUEST_JOB_REQUEUE",
    "SIGTERM, until the victim has ended": "REQUEST_COMPLETE_BATCH_SCRIPT",
    "epilog of the node": "MESSAGE_EPILOG_COMPLETE",
    "slurmctld's pass, owner's job started": "",
}


def measure(rounds: int, strangers: int, say: Callable[[str], None], scheduler: str | None = None) -> dict[str, Any]:
    """All of one load, in one lab; the kinds take turns in each round, in a random order."""
    times: Times = defaultdict(list)
    begun = time.monotonic()
    with ground(strangers, scheduler) as here:
        for number in range(rounds):
            say(f"{strangers} strangers: round {number + 1} of {rounds}")
            _round(here, times)
    return {
        "rounds": rounds, "strangers": strangers, "scheduler": here.scheduler,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "seconds": {key: [round(each, 4) for each in values] for key, values in times.items()},
    }  # fmt: skip


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was measured of one load in several labs side by side; what is compared was measured in the same rounds."""
    times: Times = defaultdict(list)
    for part in parts:
        for key, values in part["seconds"].items():
            times[key] += values
    most = max(part["minutes"] for part in parts)
    total = sum(part["rounds"] for part in parts)
    return {**parts[0], "rounds": total, "labs": len(parts), "minutes": most, "seconds": dict(times)}


def _round(here: Ground, times: Times) -> None:
    """The borrower's return is measured last, so that its own wait after the requeue is over by then."""
    (victim,) = here.lent("woken")
    settle()
    owners = _woken(here, times)
    here.renew("net", "polled")
    requeued = time.monotonic()
    for lent, kind in random.sample(KINDS, len(KINDS)):
        here.lent(*lent)
        settle()
        kind(here, times)
    settle(max(3.0 - (time.monotonic() - requeued), 0.0))
    ended = time.time()
    here.stage.cancel(owners)
    started = here.watch.at("started", victim, ended)
    left = next(call.at for call in here.watch.calls(ended, started) if call.name == "MESSAGE_EPILOG_COMPLETE")
    times["borrower"].append(started - left)
    leave = [job.id for job in here.stage.jobs().values() if job.user in ("net", "polled", "idle")]
    here.lab.run(["scancel", *leave], check=False)
    here.stage.wait(lambda: not [j for j in here.stage.jobs().values() if j.id in leave], 60, "the round's jobs end")


def _woken(here: Ground, times: Times) -> str:
    """Gives the owner's job."""
    job, begun = here.submit("woken")
    started = here.watch.at("started", job, begun)
    times["woken"].append(started - begun)
    calls = here.watch.calls(begun, started)
    marks = marks_of(calls, here.daemon_uid)
    if marks is None:  # Slurm's own preemption was first, or the daemon had to look twice
        times["other ways"].append(started - begun)
    else:
        at = [begun, *marks, started]
        for step, before, after in zip(STEPS, at, at[1:], strict=False):
            times[step].append(after - before)
        asked = [call for call in calls if call.uid == here.daemon_uid and call.at < marks[2]]
        times["calls"].append(len(asked))
    return job


def marks_of(calls: list[Call], daemon: int) -> list[float] | None:
    """When each step but the last ended; None where they did not follow each other so."""
    found: list[float] = []
    for name in filter(None, STEPS.values()):
        ours = name in ("REQUEST_JOB_USER_INFO", "REQUEST_JOB_REQUEUE")
        since = found[-1] if found else 0.0
        at = next((c.at for c in calls if c.name == name and c.at >= since and (c.uid == daemon or not ours)), None)
        if at is None:
            return None
        found.append(at)
    return found


def _idle(here: Ground, times: Times, title: str) -> None:
    job, begun = here.submit("idle")
    times[title].append(here.watch.at("started", job, begun) - begun)
    here.stage.cancel(job)
    here.stage.wait(lambda: job not in here.stage.jobs(), 30, "the owner's job is gone")


def _with_daemon(here: Ground, times: Times) -> None:
    _idle(here, times, "idle")


def _without_daemon(here: Ground, times: Times) -> None:
    with here.stopped():
        _idle(here, times, "without")


def _by_slurm(here: Ground, times: Times) -> None:
    with here.stopped():
        job, begun = here.submit("net")
        times["net"].append(here.watch.at("started", job, begun) - begun)


def _polled(here: Ground, times: Times) -> None:
    with here.unheard():
        job, begun = here.submit("polled")
        times["polled"].append(here.watch.at("started", job, begun) - begun)


# Each with the nodes that must be lent before. That takes a pass or two: what comes first makes use of the time.
KINDS: list[tuple[tuple[str, ...], Callable[[Ground, Times], None]]] = [
    ((), _with_daemon), ((), _without_daemon), (("net",), _by_slurm), (("polled",), _polled),
]  # fmt: skip

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
    return {"rounds": rounds, "notice": NOTICE, "kill_wait": KILL_WAIT, "seconds": dict(times)}


def _notice_round(here: Ground, times: Times) -> None:
    for manner, script in VICTIMS.items():
        here.lent(manner, wrap=script)
        # Slurm spares what runs in a partition with PreemptMode=OFF even then.
        theirs = here.lab.sbatch("dave", "-p", "preempt", "--exclusive", "-t30", "-w", THEIRS[f"slurm-{manner}"],
                                 f"--signal=R:USR1@{NOTICE}", wrap=script)  # fmt: skip
        here.stage.runs(theirs, timeout=60)
    settle(2.0)
    begun: dict[str, tuple[str, float]] = {}
    for manner in VICTIMS:
        # One that names the reservation is Slurm's own to preempt for, which cuts the notice short.
        at = time.time()
        begun[f"daemon, {manner}"] = (here.lab.sbatch(manner, "--exclusive", "-t30"), at)
        at = time.time()
        job = here.lab.sbatch(manner, "--exclusive", "-t30", f"--reservation=slurm-{manner}")
        begun[f"slurm, {manner}"] = (job, at)
    for title, (job, at) in begun.items():
        try:
            times[title].append(here.watch.at("started", job, at) - at)
        except TimeoutError:  # counts as that long; its wait is no reason to lose the rest
            times[title].append(SLOWEST)
    here.lab.run(["scancel", *(job.id for job in here.stage.jobs().values() if job.user != "carol")], check=False)
    here.stage.wait(lambda: all(j.user == "carol" for j in here.stage.jobs().values()), 60, "the round's jobs end")


def table(found: dict[str, Any]) -> list[str]:
    """Lines to print for one load."""
    times: Times = found["seconds"]
    labs = f" in {found['labs']} labs" if "labs" in found else ""
    lines = titles(f"{found['strangers']} strangers' jobs waiting, {found['rounds']} rounds{labs}; seconds")
    lines.append(f"SchedulerParameters={found['scheduler'] or ', all default'}")
    lines += [row(title, times[key]) for key, title in TITLES.items()]
    lines += ["ratios", *(comparison(times, over, under, aim) for over, under, aim in RATIOS)]
    known = {step: times[step] for step in STEPS if times.get(step)}
    other = len(times.get("other ways", []))
    lines.append(f"a woken one's time, in ms ({other} of {len(times['woken'])} went another way)")
    lines += [row(f"  {step}", [1000 * each for each in values], digits=0) for step, values in known.items()]
    if times.get("calls"):
        lines.append(f"  calls to slurmctld until the requeue: {median(times['calls']):.0f}")
    return lines


def notice_table(found: dict[str, Any]) -> list[str]:
    """Lines to print for what a notice takes."""
    bound = found["notice"] + found["kill_wait"] + 1
    waits = f"a notice of {found['notice']} s, KillWait {found['kill_wait']} s"
    lines = titles(f"v    {waits}, {found['rounds']} rounds; seconds")
    lines += [row(f"     {title}", values, digits=2) for title, values in sorted(found["seconds"].items())]
    return [
        *lines,
        f"     aim: {bound} s at most, and at once when the victim ends; {SLOWEST:.0f} means not in that time",
        "     slurmd itself takes 2.5 s longer than KillWait, for whoever asks it to end a job that ignores SIGTERM",
    ]


def say(text: str) -> None:
    """Progress, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text:70}")
