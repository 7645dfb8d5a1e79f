"""Owners' jobs that cannot start yet, but will soon: behind a job of theirs, or behind the tasks of their own array."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
TURN = "while ! test -e {home}/go; do sleep 0.2; done; rm {home}/go"  # one task ends each time that it is there
HEEDS = "trap 'exit 0' USR1; while :; do sleep 0.1; done"
Expected = Callable[[Stage, int], tuple[str, str]]  # the job that it waits for, which runs so long at most, and itself


def comes_after(stage: Stage, minutes: int) -> tuple[str, str]:
    """A job of the owner's on n1, and one of two nodes that is to come after it."""
    first = hers(stage, "-w", "n1", f"-t{minutes}", wrap=turn(stage))
    stage.runs(first, "n1")
    return first, hers(stage, "-N2", f"--dependency=afterok:{first}")


def one_at_a_time(stage: Stage, minutes: int) -> tuple[str, str]:
    """Two tasks of the owner's array, of which one may run at once, on n1, which takes no further job."""
    array = hers(stage, "--array=1-2%1", f"-t{minutes}", wrap=turn(stage))
    first = stage.wait(lambda: next((j for j in stage.jobs().values() if j.nodes == "n1"), None), 20, "a task runs")
    assert first is not None
    stage.lab.run(["scontrol", "update", "nodename=n1", "state=drain", "reason=disk"])
    return first.id, f"{array}_2"


def hers(stage: Stage, *options: str, wrap: str = "sleep 1000") -> str:
    return stage.submit("alice", "--exclusive", "--reservation=physics", *options, wrap=wrap)


def turn(stage: Stage) -> str:
    return TURN.format(home=stage.lab.spec.home("alice"))


def start(stage: Stage) -> None:
    """n1 and n2 are the owner's, n3 and n4 are full."""
    stage.lab.run(["rm", "-f", f"{stage.lab.spec.home('alice')}/go"])
    told = {"notice": "46s", "signal": "USR1"}
    stage.start(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-2]", "reclaim": told})
    stage.fill("n3", "n4")


def said(stage: Stage, kind: str, *words: str) -> Sequence[dict[str, str]]:
    return [entry for entry in stage.journal(kind) if all(word in entry["text"] for word in words)]


@pytest.mark.behaviour("B20")
@pytest.mark.parametrize("expected", [comes_after, one_at_a_time])
def test_what_an_owners_job_waits_for_leads_to_notice_in_time(stage: Stage, expected: Expected) -> None:
    start(stage)
    borrower = stage.borrow("bob", "--exclusive", "-w", "n2", wrap=HEEDS)
    stage.runs(borrower, "n2")
    first, second = expected(stage, 1)
    (told,) = stage.wait(lambda: said(stage, "outcome", f"signal job {borrower} of bob"), 30, "the borrower is told")
    limit = timedelta(seconds=json.loads(stage.cli("--json", "show", "physics").stdout)["bound"]["total"])
    started = datetime.fromisoformat(stage.field(first, "StartTime")).replace(tzinfo=UTC)
    assert stage.jobs()[first].state == "RUNNING"
    assert datetime.fromisoformat(told["at"]) >= started + timedelta(minutes=1) - limit  # not sooner than needed
    assert said(stage, "decision", f"comes after {first}")
    stage.wait(lambda: borrower not in stage.jobs(), 20, "it heeds")
    goes_on(stage)
    stage.runs(second)


@pytest.mark.behaviour("B20")
@pytest.mark.parametrize("expected", [comes_after, one_at_a_time])
def test_long_borrowers_are_not_started_into_what_comes_after_a_job(stage: Stage, expected: Expected) -> None:
    start(stage)
    _, second = expected(stage, 10)
    endless = stage.borrow("bob", "--exclusive")
    stage.wait(lambda: "would run into an owner's job" in " ".join(stage.cli("plan").stdout.split()), 15, "it is kept")
    stage.runs(stage.borrow("dave", "--exclusive", "--time=2"), "n2")
    assert not stage.jobs()[endless].nodes
    goes_on(stage)
    stage.runs(second, timeout=60)  # the end was a surprise: the notice is given now
    assert not stage.jobs()[endless].nodes


def goes_on(stage: Stage) -> None:
    """What the owner's job waits for ends."""
    stage.lab.run(["touch", f"{stage.lab.spec.home('alice')}/go"], user="alice")
