"""What is kept of loans, owners' waits and what nodes were used for, over whole cycles on a Slurm in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from slurm_reserve.evidence import explain
from slurm_reserve.evidence.promise import measured, spread
from slurm_reserve.evidence.reading import reading
from slurm_reserve.facts import LoanFact, Use, UseFact, WaitFact

from tests.builders import NOW, job, nodes, site, spec
from tests.cycle.test_cycle import BORROWER, OWNERS, SECOND, Mortal, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    busy = job("90").of("carol").whole_nodes(2).on("n3", "n4")
    made = Rig(tmp_path, site(spec("physics", "n1")), Mortal(nodes("n1", "n3", "n4"), busy))
    yield made
    made.replay()


def loans(rig: Rig) -> list[LoanFact]:
    with reading(rig.folder / "journal.db") as reader:
        return reader.loans()


def waits(rig: Rig) -> list[WaitFact]:
    with reading(rig.folder / "journal.db") as reader:
        return reader.waits()


def uses(rig: Rig) -> list[UseFact]:
    with reading(rig.folder / "journal.db") as reader:
        return reader.uses()


def test_a_loan_is_kept_from_start_to_end_with_the_cause_of_its_end(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(5)
    (running,) = loans(rig)
    assert (running.job, running.user, running.nodes, running.is_open) == ("7", "bob", {"n1"}, True)
    assert running.started is not None
    rig.slurm.submit(OWNERS)
    rig.go_on(8)
    (over,) = loans(rig)
    assert over.cause == "evicted for job 9 of alice"
    assert over.ended is not None
    assert over.node_seconds == int((over.ended - running.started).total_seconds())
    (wait,) = waits(rig)
    assert (wait.job, wait.needed, wait.is_breach) == ("9", True, False)
    assert wait.seconds is not None
    assert sum(wait.parts().values()) == pytest.approx(wait.seconds)
    said = explain.about_wait(wait)
    assert "job 9 of alice, an owner's of physics" in said
    assert "lent nodes had to come back for it" in said


def test_a_loan_that_ends_by_itself_says_so_and_the_next_is_another(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(4)
    rig.slurm.finish("7")
    rig.slurm.submit(SECOND)
    rig.go_on(6)
    first, second = loans(rig)
    assert (first.job, first.cause) == ("7", "ended by itself")
    assert (second.job, second.is_open) == ("8", True)


def test_a_loan_goes_on_over_a_restart_of_the_daemon(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(4)
    rig.start()
    rig.go_on(3)
    rig.slurm.submit(OWNERS)
    rig.go_on(8)
    (loan,) = loans(rig)
    assert loan.cause == "evicted for job 9 of alice"


def test_an_evicted_borrower_that_takes_long_to_go_is_one_loan(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(4)
    rig.slurm.stuck.add("7")
    rig.slurm.submit(OWNERS)
    rig.go_on(8)
    left = rig.slurm.now
    rig.slurm.stuck.clear()
    rig.go_on(4)
    (loan,) = loans(rig)
    assert loan.cause == "evicted for job 9 of alice"
    assert loan.ended is not None
    assert loan.ended >= left


def test_what_nodes_are_used_for_is_kept_when_it_changes(rig: Rig) -> None:
    rig.go_on(3)
    rig.slurm.submit(BORROWER)
    rig.go_on(5)
    rig.slurm.submit(OWNERS)
    rig.go_on(8)
    seen = [use.use for use in uses(rig) if "n1" in use.nodes]
    assert seen[:2] == [Use.IDLE, Use.LENT]
    assert seen[-1] is Use.OWNER


def test_a_cycle_that_does_nothing_writes_nothing(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.slurm.submit(SECOND)
    rig.go_on()
    before = {path.name: path.read_bytes() for path in rig.folder.iterdir()}
    rig.go_on(20)
    assert {path.name: path.read_bytes() for path in rig.folder.iterdir()} == before


def test_an_owners_job_behind_her_own_is_not_late(rig: Rig) -> None:
    """Her second job waits for her first: the clock of the promise starts when it is its turn."""
    rig.slurm.submit(OWNERS)
    rig.go_on(3)
    rig.slurm.submit(job("10").of("alice").whole_nodes(1))
    rig.go_on(60, seconds=10)
    rig.slurm.finish("9")
    rig.go_on(4)
    late = waits(rig)[-1]
    assert late.job == "10"
    assert not late.is_breach
    assert late.started is not None
    assert (late.started - late.eligible) > timedelta(seconds=600)


def test_the_promise_is_measured_and_what_broke_it_is_listed() -> None:
    def wait(number: int, took: float, needed: bool = True) -> WaitFact:
        start = NOW + timedelta(seconds=took)
        return WaitFact(str(number), NOW, 0, "alice", "physics", NOW, 10.0, needed, NOW, NOW, None, NOW, start, start)

    (found,) = measured([wait(i, i / 10) for i in range(1, 101)] + [wait(101, 11), wait(102, 1, needed=False)])
    assert (found.taken_back.count, found.taken_back.median, found.taken_back.most) == (101, 5.1, 11)
    assert found.taken_back.p95 == 9.6
    assert [breach.job for breach in found.breaches] == ["101"]
    assert spread([]).count == 0
