"""Others at work on reserved nodes: maintenance, overlays, drains, jobs that slip in, users who cancel."""

from __future__ import annotations

import signal
import time

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}
TWO = {"owner": ALICE, "nodes": "n[1-2]"}
DEAF = "trap '' USR1; sleep 1000 & wait; wait"


def overlay(stage: Stage, name: str, nodes: str, *words: str) -> None:
    """An admin lays a reservation of somebody else's over nodes of ours."""
    given = dict(word.split("=", 1) for word in words)
    wanted = {"StartTime": "now", "Duration": "60", "Users": "root", **given, "Nodes": nodes}
    stage.lab.run(
        ["scontrol", "create", "reservation", f"ReservationName={name}", *(f"{k}={v}" for k, v in wanted.items())]
    )


def lent_nodes(stage: Stage) -> str:
    return stage.reservations().get("physics.lend", {}).get("Nodes", "")


def lent_two(stage: Stage, **policy: object) -> dict[str, str]:
    """Two borrowers on the owner's two nodes, all other nodes in use; node -> borrower."""
    stage.start(physics=TWO | policy)
    stage.fill("n3", "n4")
    borrowers = [stage.borrow("bob", "--exclusive", wrap=DEAF) for _ in range(2)]
    return {stage.runs(borrower).nodes: borrower for borrower in borrowers}


@pytest.mark.long
def test_nothing_is_lent_into_maintenance_and_nobody_is_evicted_for_a_job_that_it_holds_back(stage: Stage) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    overlay(stage, "upkeep", "n1", "StartTime=now+1800", "Flags=MAINT,OVERLAP,IGNORE_JOBS")
    stage.wait(lambda: "reservation upkeep lies over n1" in stage.log(), 10, "it is reported")
    short = stage.borrow("bob", "--exclusive", "-t", "10", "-w", "n1")
    stage.runs(short, "n1")  # it is over before
    long = [stage.borrow("dave", "--exclusive", "-t", "60") for _ in range(2)]
    stage.wait(lambda: any(stage.jobs()[job].nodes == "n2" for job in long), 15, "n2 is lent")
    stage.cancel(short)
    held = stage.submit("alice", "--exclusive", "-w", "n1", "-t", "60")
    stage.never(lambda: lent_nodes(stage) not in ("n2", "n[1-2]") or stage.jobs()[held].state != "PENDING", 5)
    stage.wait(lambda: lent_nodes(stage) == "n2", says="n1 is lent no more")
    assert f"job {held} of alice cannot start: would run into maintenance of n1" in stage.cli("plan").stdout
    either = stage.submit("alice", "--exclusive", "-t", "60", "-w", "n[1-2]")  # not without n1: nobody goes for it
    stage.never(lambda: not any(stage.jobs()[job].state == "RUNNING" for job in long), 4)
    stage.cancel(either)
    stage.runs(stage.submit("alice", "--exclusive", "-t", "10"), "n1")  # over before: nobody goes for that either
    assert any(stage.jobs()[job].state == "RUNNING" for job in long)


@pytest.mark.long
def test_borrowers_leave_before_maintenance_begins(stage: Stage) -> None:
    on = lent_two(stage, reclaim={"notice": "3s", "signal": "USR1"})
    begins = time.time() + 36  # KillWait, epilog, three looks, a pass and the notice before that: 15 s
    overlay(stage, "upkeep", "n1", "StartTime=now+36", "Flags=MAINT,OVERLAP,IGNORE_JOBS")
    stage.waits(on["n1"], 40)
    assert time.time() < begins
    stage.wait(
        lambda: "maintenance upkeep begins" in stage.log() or "for maintenance" in stage.log(), says="it is told"
    )
    assert "with USR1" in stage.log()
    stage.wait(lambda: lent_nodes(stage) == "n2", 10, "n1 is no longer lent")
    stage.never(lambda: stage.jobs()[on["n1"]].state == "RUNNING", 4)
    assert stage.jobs()[on["n2"]].state == "RUNNING"


@pytest.mark.long
def test_an_overlay_that_comes_and_goes_leaves_borrowers_alone(stage: Stage) -> None:
    on = lent_two(stage)
    overlay(stage, "theirs", "n1", "Flags=IGNORE_JOBS")  # without it Slurm refuses one over nodes in use
    stage.wait(lambda: "reservation theirs lies over n1" in stage.log(), 10, "it is reported")
    stage.cancel(on["n2"])
    again = stage.borrow("dave", "--exclusive")
    stage.runs(again, "n2")  # L is changed while theirs lies over it
    assert stage.jobs()[on["n1"]].state == "RUNNING"
    stage.cancel(on["n1"])
    waiting = stage.borrow("dave", "--exclusive")
    stage.never(lambda: stage.jobs()[waiting].state == "RUNNING", 4)  # n1 is not lent anew under it
    stage.lab.run(["scontrol", "delete", "reservation=theirs"])
    stage.runs(waiting, "n1")
    theirs = stage.log().count("reservation theirs lies over n1")
    assert theirs == 1
    stage.runs(stage.submit("alice", "--exclusive"))


@pytest.mark.long
def test_a_drained_lent_node_is_not_lent_anew_and_the_broken_guarantee_is_told(stage: Stage) -> None:
    on = lent_two(stage)
    stage.lab.run(["scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=disk"])
    stage.wait(lambda: "guarantee broken: n1" in stage.log(), 10, "it is reported")
    stage.wait(lambda: "guarantee broken" in " ".join(stage.cli("status").stdout.split()), says="the status says so")
    assert stage.jobs()[on["n1"]].state == "RUNNING"
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n2")  # and nobody goes from n1, which would not serve her
    assert stage.jobs()[on["n1"]].state == "RUNNING"
    stage.cancel(on["n1"])
    stage.cancel(on["n2"])
    waiting = stage.borrow("bob", "--exclusive")
    stage.never(lambda: stage.jobs()[waiting].state == "RUNNING", 4)
    stage.lab.run(["scontrol", "update", "NodeName=n1", "State=RESUME"])
    stage.runs(waiting, "n1")


@pytest.mark.each_release
@pytest.mark.behaviour("B3")
def test_a_job_that_slips_in_by_its_signal_option_is_reported_and_left_alone(stage: Stage) -> None:
    if stage.release() >= (24, 5):
        pytest.skip("Slurm 24.05 on lets no job slip in by its signal option: see the next test")
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    stage.runs(stage.borrow("bob", "-n1", "-w", "n2"), "n2")
    beside = stage.submit("carol", "-n1", "-w", "n2", "--signal=R:TERM@0")  # on a lent node
    stage.runs(beside, "n2")
    stage.wait(lambda: f"job {beside}: an ordinary job of carol runs on n2" in stage.log(), 10, "it is reported")
    stage.never(lambda: stage.jobs()[beside].state != "RUNNING", 3)
    stage.cancel(beside)
    stranger = stage.submit("carol", "--exclusive", "-w", "n1", "--signal=R:TERM@0")
    stage.runs(stranger, "n1")
    said = f"job {stranger}: an ordinary job of carol runs on n1 of physics without being in a reservation"
    stage.wait(lambda: said in stage.log(), 10, "it is reported")
    stage.wait(lambda: said in " ".join(stage.cli("status").stdout.split()), says="the status says so")
    assert f"job {stranger}: an ordinary job of carol" in " ".join(stage.cli("check", check=False).stdout.split())
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n2")  # the borrower goes, the stranger stays
    waits = stage.submit("alice", "--exclusive")
    stage.never(lambda: stage.jobs()[stranger].state != "RUNNING", 3)
    assert stage.log().count(said) == 1
    stage.cancel(stranger)
    stage.runs(waits, "n1")


@pytest.mark.each_release
@pytest.mark.behaviour("B3")
def test_newer_releases_keep_out_a_job_with_that_signal_option(stage: Stage) -> None:
    if stage.release() < (24, 5):
        pytest.skip("before Slurm 24.05 it gets in: see the test before")
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    stage.runs(stage.borrow("bob", "-n1", "-w", "n2"), "n2")
    kept_out = [stage.submit("carol", "-n1", "-w", node, "--signal=R:TERM@0") for node in ("n1", "n2")]

    def are_considered() -> bool:
        return all(stage.jobs()[job].reason not in ("None", "Priority") for job in kept_out)

    stage.wait(are_considered, 15, "they have been considered")
    stage.never(lambda: [job for job in kept_out if stage.jobs()[job].state == "RUNNING"], 5)


@pytest.mark.parametrize("who", [pytest.param("owner", marks=pytest.mark.long), "borrower"])
def test_a_cancel_in_the_middle_of_a_notice_leaves_nothing_behind(stage: Stage, who: str) -> None:
    notice = {"owner": "8s", "borrower": "100s"}[who]
    stage.start(physics={"owner": ALICE, "nodes": "n1", "reclaim": {"notice": notice, "signal": "USR1"}})
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", wrap=DEAF)
    stage.runs(borrower, "n1")
    stage.heeds(borrower, signal.SIGUSR1)
    owners = stage.submit("alice", "--exclusive")
    stage.wait(lambda: f"signal job {borrower}" in stage.log(), 10, "bob is told")
    if who == "owner":
        stage.cancel(owners)
        stage.never(lambda: stage.jobs()[borrower].state != "RUNNING", 10)  # past the deadline
        assert stage.field(borrower, "Restarts") == "0"
        assert lent_nodes(stage) == "n1"
        again = stage.submit("alice", "--exclusive")  # who comes later gives notice anew
        stage.wait(lambda: stage.log().count(f"signal job {borrower}") == 2, 10, "bob is told anew")
        stage.cancel(again)
        stage.cancel(borrower)
    else:
        stage.cancel(borrower)
        stage.runs(owners, "n1")  # long before the deadline
        assert stage.field(owners, "Reservation") == "physics"
        stage.cancel(owners)
    stage.wait(lambda: list(stage.reservations()) == ["physics"], 15, "nothing is left but the reservation")
    stage.wait(lambda: not [job for job in stage.jobs().values() if job.state == "PENDING"], says="nobody waits")
