"""What it saves where lend reservations draw borrowers in by themselves (MAGNETIC), from Slurm 25.11 on.

Short borrowers follow each other on one lent node, once drawn in and once sent there one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from slurm_reserve.lab import Lab, LabSpec
from tests.cluster.stage import Stage

from bench.figures import median, row, titles
from bench.ground import Watch

EVER = 1.0  # since when
LOANS, LASTS = 12, 2  # jobs that follow each other; seconds that each runs
CHANGES = (
    "REQUEST_UPDATE_JOB",
    "REQUEST_CREATE_RESERVATION",
    "REQUEST_UPDATE_RESERVATION",
    "REQUEST_DELETE_RESERVATION",
)


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Both ways, one after the other; nothing but the release where it cannot be had."""
    with Lab.boot(LabSpec(nodes=2, slurm_conf=("DebugFlags=Protocol",))) as lab:
        found: dict[str, Any] = {"release": ".".join(map(str, Stage(lab).release())), "loans": LOANS, "ways": {}}
        for way, is_drawn in (("drawn in", True), ("sent", False)):
            say(f"borrowers that are {way}")
            lab.clean()
            stage = Stage(lab)
            try:
                figures = _follow(stage, is_drawn)
            finally:
                stage.close()
            if figures is None:
                break
            found["ways"][way] = figures
    return found


def _follow(stage: Stage, is_drawn: bool) -> dict[str, Any] | None:
    """From the end of each to the start of the next, and what the daemon had Slurm change for it."""
    stage.keys = {"lending": {"partitions": ["preempt"], "magnetic": "auto" if is_drawn else False}}
    stage.start()
    if is_drawn and "AllowedPartitions" not in stage.reservations()["physics"]:
        return None
    stage.fill("n2")
    watch = Watch(stage.lab)
    jobs = [stage.borrow("bob", "--exclusive", "-t5", wrap=f"sleep {LASTS}") for _ in range(LOANS)]
    started = [watch.at("started", job, EVER) for job in jobs]
    ended = [watch.at("ended", job, EVER) for job in jobs[:-1]]
    uid = stage.lab.spec.uid(stage.user)
    calls = [call for call in watch.calls(started[0], started[-1]) if call.uid == uid and call.name in CHANGES]
    watch.close()
    waits = [start - end for end, (_, start) in zip(ended, pairwise(started), strict=True)]
    return {"waits": [round(each, 3) for each in waits], "changes_per_loan": round(len(calls) / (LOANS - 1), 2)}


def table(found: dict[str, Any]) -> list[str]:
    """Lines to print."""
    lines = titles(f"borrowers that follow each other on a lent node, {found['loans']} of them; seconds")
    if not found["ways"]:
        return [*lines, f"     not offered: Slurm {found['release']} has no AllowedPartitions"]
    lines += [row(f"     {way}: end of one to start of the next", f["waits"]) for way, f in found["ways"].items()]
    drawn, sent = (found["ways"][way] for way in ("drawn in", "sent"))
    lines.append(f"     of the one way to the other: {median(drawn['waits']) / median(sent['waits']):.2f}")
    changes = ", ".join(f"{way} {figures['changes_per_loan']:g}" for way, figures in found["ways"].items())
    return [*lines, f"     calls that change something, per loan: {changes}"]
