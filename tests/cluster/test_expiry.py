"""Borrowers that end for good: their time is over, or their user wants them no more."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ENDS = {"partitions": ["preempt"], "expires_in_comment": True}


def ended(stage: Stage, job: str, state: str = "CANCELLED") -> str:
    """Wait until a job has ended so; gives what scontrol says of it."""

    def over() -> str:
        said = stage.lab.run(["scontrol", "-o", "show", "job", job]).stdout
        return said if f"JobState={state}" in said else ""

    return stage.wait(over, 40, f"job {job} is {state}")


@pytest.mark.behaviour("B30")
def test_a_borrower_ends_for_good_once_it_has_run_for_its_time_over_evictions_and_restarts(stage: Stage) -> None:
    stage.keys["lending"] = ENDS
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", "--comment=my run, run_time=12s")
    stage.runs(borrower, "n1")
    stage.never(lambda: stage.jobs()[borrower].state != "RUNNING", 3)
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    assert stage.end() == 0  # what it has run is remembered
    stage.restart()
    stage.cancel(owners)
    stage.runs(borrower, "n1", 30)
    said = ended(stage, borrower)
    assert "Restarts=1" in said
    assert "Comment=my run, run_time=12s [slurm_reserve: ended for good" in said
    total = re.search(r"it has run for (\d+)s in all, and may for 12s", said)
    assert total is not None
    start, end = (datetime.fromisoformat(stage.field(borrower, name)) for name in ("StartTime", "EndTime"))
    assert (end - start).total_seconds() < int(total[1]) - 1  # the rest of it, not all of it anew: it had run for three
    stage.never(lambda: borrower in stage.jobs() and stage.jobs()[borrower].state == "RUNNING", 3)


@pytest.mark.behaviour("B30")
def test_a_borrower_expires_by_the_clock_whether_it_waits_or_runs(stage: Stage) -> None:
    stage.keys["lending"] = ENDS
    stage.start()
    stage.fill("n2", "n3", "n4")
    at = (datetime.now(UTC) + timedelta(seconds=15)).isoformat(timespec="seconds")
    runs, waits = (stage.borrow("bob", "--exclusive", f"--comment=expires={at}") for _ in range(2))
    without_zone = stage.borrow("bob", "--exclusive", "--comment=expires=2020-01-01T00:00", "--hold")
    stage.runs(runs, "n1")
    for job in (runs, waits):
        assert "slurm_reserve: ended for good, for it was to expire at" in ended(stage, job)
    assert stage.job(without_zone) is not None  # what is not exactly understood means nothing


@pytest.mark.behaviour("B30")
def test_slurms_own_deadline_ends_a_borrower_that_waits_for_good(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    stage.runs(stage.submit("alice", "--exclusive", "--reservation=physics"), "n1")
    borrower = stage.borrow("bob", "--exclusive", "--time=1", "--deadline=now+66")
    ended(stage, borrower, "DEADLINE")


@pytest.mark.behaviour("B30")
def test_what_a_site_allows_holds_for_every_borrower_and_for_nobody_else(stage: Stage) -> None:
    stage.keys["lending"] = {"partitions": ["preempt"], "max_run_time": "8s"}
    stage.start()
    stage.fill("n2", "n3")
    outside = stage.borrow("dave", "--exclusive", "-w", "n4")
    stage.runs(outside, "n4")
    lent = stage.borrow("bob", "--exclusive")
    stage.runs(lent, "n1")
    ordinary = next(job.id for job in stage.jobs().values() if job.user == "carol")
    for job in (outside, lent):
        assert "slurm_reserve: ended for good, for it has run for" in ended(stage, job)
    assert stage.jobs()[ordinary].state == "RUNNING"


@pytest.mark.behaviour("B31")
def test_a_borrower_that_its_user_cancels_is_gone_and_is_not_restarted(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    runs, waits, last = (stage.borrow("bob", "--exclusive") for _ in range(3))
    stage.runs(runs, "n1")
    stage.lab.run(["scancel", waits], user="bob")
    stage.lab.run(["scancel", runs], user="bob")
    stage.runs(last, "n1")  # the next one has the node
    owners = stage.submit("alice", "--exclusive")
    stage.waits(last)  # evicted just now, and cancelled before it is back in the queue
    stage.lab.run(["scancel", last], user="bob")
    stage.runs(owners, "n1")
    stage.cancel(owners)
    for job in (runs, waits, last):
        ended(stage, job)
    stage.never(lambda: {runs, waits, last} & stage.jobs().keys(), 4)
