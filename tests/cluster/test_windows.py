"""Windows on a real Slurm: a reservation that is in force in them only, and one that is lent in them only."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
LEAD = timedelta(seconds=5 + 1 + 3 * 1 + 3)  # KillWait, epilog, three looks, a pass
DAY = timedelta(days=1)


def daily(begin: datetime, end: datetime) -> str:
    return f"daily {begin:%H:%M:%S}-{end:%H:%M:%S} UTC"


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def shown(at: datetime) -> str:
    """A time as scontrol prints it in the lab, whose clock is in the zone of this machine."""
    return at.astimezone().strftime("%Y-%m-%dT%H:%M:%S")


@pytest.mark.behaviour("B37")
@pytest.mark.trap(10, 11)
def test_a_reservation_is_in_force_in_its_window_and_ends_as_declared(stage: Stage) -> None:
    def declared(begin: datetime, end: datetime) -> dict[str, dict[str, Any]]:
        def one(node: str, at_end: str) -> dict[str, Any]:
            window = daily(begin, end)
            return {"owner": {"users": ["alice"]}, "nodes": node, "windows": window, "at_end": at_end, "find": "name"}

        return {
            "physics": one("n1", "cancel"), "keep": one("n2", "keep"), "requeue": one("n3", "requeue"),
            "cancel": one("n4", "cancel"),
        }  # fmt: skip

    stage.start(**declared(now() + timedelta(hours=2), now() + timedelta(hours=3)))
    begin = now() + timedelta(seconds=20)  # once the daemon is there: a window that has not begun can be moved
    end = begin + LEAD + timedelta(seconds=30)
    stage.site(**declared(begin, end))
    stage.send(signal.SIGHUP)

    def is_moved() -> bool:
        made = stage.reservations().values()
        return {(r["StartTime"], r["EndTime"]) for r in made} == {(shown(begin), shown(end))}

    stage.wait(is_moved, says="the reservations are made ahead of the window")
    made = stage.reservations()
    assert {r["State"] for r in made.values()} == {"INACTIVE"} or now() >= begin
    owners = {name: stage.submit("alice", f"--reservation={name}", "--exclusive") for name in made if name != "physics"}
    borrower = stage.borrow("bob", "--exclusive", "-w", "n1")
    assert {stage.jobs()[job].state for job in (*owners.values(), borrower)} == {"PENDING"} or now() >= begin

    where = {"keep": "n2", "requeue": "n3", "cancel": "n4"}
    for name, job in owners.items():
        stage.runs(job, where[name])
    assert now() >= begin
    stage.runs(borrower, "n1")
    assert stage.jobs()[borrower].reservation == "physics.lend"
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 30, "what was lent is back")
    assert now() < end
    stage.waits(borrower)
    stage.waits(owners["requeue"])
    assert now() <= end

    def is_next() -> bool:
        there = stage.reservations()
        return len(there) == 4 and {r["StartTime"] for r in there.values()} == {shown(begin + DAY)}

    stage.wait(is_next, 40, "the reservations of the next window are made")
    assert now() >= end

    def states() -> dict[str, str]:
        jobs = stage.jobs()
        return {name: jobs[job].state for name, job in owners.items() if job in jobs}

    stage.wait(lambda: states() == {"keep": "RUNNING", "requeue": "PENDING"}, 60, "Slurm ended its job")
    assert stage.field(owners["cancel"], "JobState") == "TIMEOUT"
    assert stage.field(owners["requeue"], "Restarts") == "1"
    stage.runs(stage.submit("carol", "-t", "1", "-w", "n1"), "n1")  # outside it nothing is guaranteed
    said = stage.cli("show", "physics").stdout
    assert "next window from" in said


@pytest.mark.behaviour("B32")
def test_outside_its_windows_nothing_is_lent_and_borrowers_leave_in_time(stage: Stage) -> None:
    def lent_until(end: datetime) -> dict[str, Any]:
        lend = {"windows": daily(now() - timedelta(hours=1), end)}
        return {"owner": {"users": ["alice"]}, "nodes": "n1", "lend": lend}

    stage.start(physics=lent_until(now() + timedelta(hours=1)))
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    end = now() + LEAD + timedelta(seconds=8)
    stage.site(physics=lent_until(end))
    stage.reload()
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 30, "what was lent is back")
    assert now() < end
    assert stage.waits(borrower)
    assert "window of lending ends" in str([entry["text"] for entry in stage.journal("decision")])
    stage.cli("lend", "physics", "on")  # an order stands against the windows
    stage.runs(borrower, "n1")
