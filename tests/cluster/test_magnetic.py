"""Lend reservations that draw borrowers in, on a Slurm that keeps other jobs out of them (from 25.11 on)."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
LEND = "physics.lend"


@pytest.fixture
def drawing(stage: Stage) -> Stage:
    """The daemon on two reserved nodes, all else full; skipped where Slurm has nothing to keep other jobs out with."""
    stage.start(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-2]"})
    if "AllowedPartitions" not in stage.reservations()["physics"]:
        pytest.skip(f"not offered here: Slurm {'.'.join(map(str, stage.release()))} has no AllowedPartitions")
    stage.fill("n3", "n4")
    return stage


@pytest.fixture
def by_qos() -> Iterator[Stage]:
    """Borrowers are told by their QOS, which every other QOS preempts."""
    conf = (QUICK, "PreemptType=preempt/qos", "AccountingStorageEnforce=associations,qos")
    qos = ("add qos low", "modify qos normal set preempt=low", "modify user bob set qos+=low")
    with Lab.boot(LabSpec(accounting=True, slurm_conf=conf, sacctmgr=qos)) as lab:
        made = Stage(lab, user="reserve")
        made.keys = {"lending": {"partitions": [], "qos": ["low"]}}
        yield made
        made.close()


def test_borrowers_by_qos_are_drawn_in_and_other_jobs_are_not(by_qos: Stage) -> None:
    by_qos.start(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-2]"})
    by_qos.fill("n3", "n4")
    ordinary = by_qos.submit("bob", "-t30", "--exclusive")
    borrower = by_qos.submit("bob", "-t30", "--exclusive", "--qos=low", "--nice=10")
    by_qos.runs(borrower)
    there = by_qos.reservations()[LEND]
    if "AllowedPartitions" in there:
        assert ("MAGNETIC" in there["Flags"], there.get("QOS")) == (True, "low")
        assert sent(by_qos) == []
    by_qos.never(lambda: by_qos.field(ordinary, "JobState") == "RUNNING", 2)
    by_qos.runs(by_qos.submit("alice", "-N2", "--exclusive", "-t30"), "n[1-2]")
    by_qos.waits(borrower)


def is_drawing(stage: Stage) -> bool:
    there = stage.reservations().get(LEND)
    return there is not None and "MAGNETIC" in there["Flags"] and there["AllowedPartitions"] == "preempt"


def sent(stage: Stage) -> list[str]:
    """What slurmctld logged of jobs that were sent to a reservation."""
    return [line for line in stage.log().splitlines() if "lend physics to" in line and "draws in" not in line]


def test_borrowers_start_on_lent_nodes_without_being_sent_there_and_follow_each_other(drawing: Stage) -> None:
    first = drawing.borrow("bob", "-t30", "--exclusive")
    second = drawing.borrow("bob", "-t30", "--exclusive")
    third = drawing.borrow("bob", "-t30", "--exclusive")
    drawing.runs(first)
    drawing.runs(second)
    assert is_drawing(drawing)
    assert {drawing.field(each, "Reservation") for each in (first, second)} == {LEND}
    drawing.cancel(first)
    drawing.runs(third)
    drawing.wait(lambda: drawing.field(third, "Reservation") == LEND, says="it is in the lend reservation")
    assert sent(drawing) == []


@pytest.mark.behaviour("B8")
def test_other_jobs_of_a_borrower_are_not_drawn_in(drawing: Stage) -> None:
    ordinary = drawing.submit("bob", "-t30", "--exclusive")
    both = drawing.submit("bob", "-p", "main,preempt", "-t30", "--exclusive")
    runs = drawing.borrow("bob", "-t30", "--exclusive", "--nice=10")
    drawing.runs(runs)
    assert is_drawing(drawing)
    drawing.never(lambda: [each for each in (ordinary,) if drawing.field(each, "JobState") == "RUNNING"], 2)
    there = drawing.field(both, "Partition") if drawing.field(both, "JobState") == "RUNNING" else "preempt"
    assert there == "preempt"  # what runs in the lendable one alone can be evicted


@pytest.mark.behaviour("B19", "B21")
def test_the_owner_gets_all_nodes_back_from_borrowers_that_were_drawn_in(drawing: Stage) -> None:
    borrowers = [drawing.borrow("bob", "-t30", "--exclusive") for _ in range(4)]
    drawing.wait(lambda: sum(drawing.field(b, "JobState") == "RUNNING" for b in borrowers) == 2, says="two are lent to")
    owners = drawing.submit("alice", "-N2", "--exclusive", "-t30")
    drawing.runs(owners, "n[1-2]")
    drawing.wait(lambda: LEND not in drawing.reservations(), says="nothing is lent any more")
    drawing.never(lambda: [b for b in borrowers if drawing.field(b, "JobState") == "RUNNING"], 2)
    drawing.cancel(owners)
    drawing.wait(lambda: sum(drawing.field(b, "JobState") == "RUNNING" for b in borrowers) == 2, says="lent again")


def test_a_site_that_does_not_want_it_has_its_borrowers_sent(stage: Stage) -> None:
    stage.keys = {"lending": {"partitions": ["preempt"], "magnetic": False}}
    stage.start(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-2]"})
    stage.fill("n3", "n4")
    borrower = stage.borrow("bob", "-t30", "--exclusive")
    stage.runs(borrower)
    assert "MAGNETIC" not in stage.reservations()[LEND]["Flags"]
    stage.wait(lambda: sent(stage), says="it says so")


def test_without_the_daemon_borrowers_follow_and_the_owner_comes_first(drawing: Stage) -> None:
    """Killed in the middle: what draws stays, Slurm itself takes the nodes back, and the next daemon finds its way."""
    first, second, third = (drawing.borrow("bob", "-t30", "--exclusive") for _ in range(3))
    drawing.runs(first)
    drawing.runs(second)
    assert is_drawing(drawing)
    drawing.end(signal.SIGKILL)
    drawing.cancel(first)
    drawing.runs(third)
    owners = drawing.submit("alice", "-N2", "--exclusive", "-t30", "--reservation=physics")
    drawing.runs(owners, "n[1-2]")
    drawing.restart()
    drawing.wait(lambda: LEND not in drawing.reservations(), says="nothing is lent any more")
    drawing.never(lambda: any(drawing.field(each, "JobState") == "RUNNING" for each in (second, third)), 2)
    drawing.cancel(owners)
    drawing.runs(second)
    # The other came and went while no daemon looked: it sits out Slurm's own two minutes after a requeue.
    assert (drawing.field(third, "JobState"), drawing.field(third, "Reason")) == ("PENDING", "BeginTime")


def test_who_bids_is_sent_for_slurm_knows_no_bids(drawing: Stage) -> None:
    drawing.keys = {"lending": {"partitions": ["preempt"], "bid": "nice"}}
    drawing.end()
    drawing.site(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-2]"})
    low, middle, high = (drawing.borrow("bob", "-t30", "--exclusive", f"--nice={nice}") for nice in (90, 50, 10))
    drawing.restart()
    drawing.runs(high)
    drawing.runs(middle)
    assert "MAGNETIC" not in drawing.reservations()[LEND]["Flags"]
    assert sent(drawing)
    assert drawing.field(low, "JobState") == "PENDING"
