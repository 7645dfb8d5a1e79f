"""Whole cycles on a Slurm in memory: the story, what happens when Slurm is unreadable, and crashes at every step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from slurm_reserve import cycle, plan
from slurm_reserve.actions import EvictJob, NotifyJob
from slurm_reserve.cycle import UnsoundPlanError
from slurm_reserve.evidence.reading import reading
from slurm_reserve.journal import Journal
from slurm_reserve.ledger import Ledger
from slurm_reserve.plan import Plan
from slurm_reserve.record import Recorder
from slurm_reserve.site import Site
from slurm_reserve.slurm.port import SlurmRefusedError, SlurmUnavailableError, SlurmUnreadableError
from slurm_reserve.view import View

from tests.builders import job, nodes, site, spec
from tests.cycle.fake_slurm import READS, FakeSlurm


class CrashError(Exception):
    """The daemon is killed."""


class Mortal(FakeSlurm):
    """Kills the daemon just before its change number `lives`."""

    lives: int | None = None

    def _reach(self, call: str) -> None:
        super()._reach(call)
        if call not in READS and self.lives is not None:
            if self.lives == 0:
                self.lives = None
                self.calls.pop()
                raise CrashError(call)
            self.lives -= 1


class FadingSlurm(FakeSlurm):
    """Out of reach when a second job is to be requeued."""

    def _reach(self, call: str) -> None:
        if call.startswith("requeue ") and any(each.startswith("requeue ") for each in self.calls):
            raise SlurmUnavailableError("Socket timed out")
        super()._reach(call)


class Rig:
    """A daemon's parts on a fake cluster, to be killed and started again."""

    def __init__(self, folder: Path, of_site: Site, slurm: FakeSlurm) -> None:
        self.folder, self.site, self.slurm = folder, of_site, slurm
        self.said: list[str] = []
        self.start()

    def start(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.db")
        self.journal = Journal(self.folder / "journal.db")
        self.recorder = Recorder(self.journal, self.ledger, self._log)

    def _log(self, sentence: str, **_: Any) -> None:
        self.said.append(sentence)

    def entries(self, kind: str) -> list[str]:
        with reading(self.folder / "journal.db") as reader:
            return [each.entry.text for each in reader.entries() if each.entry.kind == kind]

    def replay(self) -> None:
        """Every decision that was recorded follows from what was recorded with it."""
        with reading(self.folder / "journal.db") as reader:
            for replayed in map(reader.replay, reader.decisions()):
                assert replayed.again is not None
                assert replayed.again == replayed.recorded

    def cycle(self) -> cycle.Result:
        return cycle.run_once(self.site, self.slurm, self.ledger, self.recorder, lambda: self.slurm.now)

    def go_on(self, cycles: int = 12, seconds: float = 1) -> None:
        for _ in range(cycles):
            try:
                self.cycle()
            except CrashError:
                self.start()
            self.slurm.tick(seconds)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    busy = job("90").of("carol").whole_nodes(2).on("n3", "n4")
    made = Rig(tmp_path, site(spec("physics", "n1")), Mortal(nodes("n1", "n3", "n4"), busy))
    yield made
    made.replay()


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Rig]:
    """With two reserved nodes."""
    busy = job("90").of("carol").whole_nodes(2).on("n3", "n4")
    made = Rig(tmp_path, site(spec("physics", "n1", "n2")), Mortal(nodes("n1", "n2", "n3", "n4"), busy))
    yield made
    made.replay()


BORROWER = job("7").borrower().whole_nodes(1)
SECOND = job("8").borrower().whole_nodes(1)
OWNERS = job("9").of("alice").whole_nodes(1)


def test_idle_nodes_are_lent_and_given_back(wide: Rig) -> None:
    rig = wide
    rig.slurm.submit(BORROWER.whole_nodes(2))
    rig.go_on()
    assert rig.slurm.jobs["7"].nodes == {"n1", "n2"}
    rig.slurm.submit(OWNERS)
    rig.go_on()
    assert rig.slurm.jobs["9"].state == "RUNNING"
    assert rig.slurm.jobs["7"].state == "PENDING"
    assert rig.slurm.jobs["7"].restarts == 1
    assert rig.slurm.jobs["7"].reason != "BeginTime"


def test_a_quiet_cluster_is_left_alone(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on()
    before = list(rig.slurm.calls)
    rig.go_on()
    assert rig.slurm.calls == before


def test_an_unreadable_cluster_is_no_empty_one(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on()
    before = list(rig.slurm.calls)
    rig.slurm.is_reachable = False
    with pytest.raises(SlurmUnavailableError):
        rig.cycle()
    assert rig.slurm.calls == before


def test_after_each_action_it_is_told_that_it_goes_on(wide: Rig) -> None:
    beats: list[int] = []
    wide.slurm.submit(BORROWER)
    wide.slurm.submit(SECOND)
    parts = (wide.site, wide.slurm, wide.ledger, wide.recorder, lambda: wide.slurm.now)
    for _ in range(3):
        before = len(beats)
        made = cycle.run_once(*parts, beat=lambda: beats.append(0))
        assert len(beats) - before == len(made.outcomes)
        wide.slurm.tick()
    assert len(beats) >= 4


def test_what_was_done_before_slurm_went_out_of_reach_is_written_down(tmp_path: Path) -> None:
    busy = job("90").of("carol").whole_nodes(2).on("n3", "n4")
    rig = Rig(tmp_path, site(spec("physics", "n1", "n2")), FadingSlurm(nodes("n1", "n2", "n3", "n4"), busy))
    rig.slurm.submit(BORROWER)
    rig.slurm.submit(SECOND)
    rig.go_on()
    rig.slurm.submit(OWNERS.whole_nodes(2))
    with pytest.raises(SlurmUnavailableError):
        rig.cycle()
    requeued = [text for text in rig.entries("outcome") if text.startswith("requeue job")]
    assert len(requeued) == 1


def test_a_decision_is_written_down_before_it_is_carried_out(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on()
    rig.slurm.submit(OWNERS)
    assert isinstance(rig.slurm, Mortal)
    rig.slurm.lives = 0
    with pytest.raises(CrashError):
        rig.cycle()
    texts = rig.entries("decision")
    assert any("requeue job 7 of bob on n1" in text and "job 9 of alice" in text for text in texts)
    assert rig.slurm.jobs["7"].state == "RUNNING"


@pytest.mark.parametrize("notice", [0, 3])
@pytest.mark.parametrize("lives", range(14))
def test_a_crash_before_any_change_comes_to_the_same_end(wide: Rig, lives: int, notice: int) -> None:
    rig = wide
    rig.site = site(spec("physics", "n1", "n2", notice=timedelta(seconds=notice)))
    assert isinstance(rig.slurm, Mortal)
    rig.slurm.lives = lives
    rig.slurm.submit(BORROWER)
    rig.slurm.submit(SECOND)
    rig.go_on()
    rig.slurm.submit(OWNERS)
    rig.go_on(30)
    jobs = rig.slurm.jobs
    assert jobs["9"].state == "RUNNING"
    assert sorted(jobs[j].restarts for j in ("7", "8")) == [0, 1]
    assert sorted(jobs[j].state for j in ("7", "8")) == ["PENDING", "RUNNING"]
    waiting = next(jobs[j] for j in ("7", "8") if jobs[j].state == "PENDING")
    assert waiting.reservation == ""
    lend = rig.slurm.reservations.get("physics.lend")  # none when they ran there before it was reserved
    assert lend is None or lend.nodes == next(jobs[j].nodes for j in ("7", "8") if jobs[j].state == "RUNNING")


def test_a_planned_crash_unsafe_order_would_be_noticed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that evicts before it closes is refused as a whole."""
    rig.slurm.submit(BORROWER)
    rig.go_on()
    rig.slurm.jobs["8"] = replace(SECOND.in_("physics.lend").job, submitted=rig.slurm.now, eligible=rig.slurm.now)
    rig.slurm.submit(OWNERS)
    sound = plan.make

    def planted(view: View) -> Plan:
        made = sound(view)
        late = [
            replace(g, actions=tuple(sorted(g.actions, key=lambda a: not isinstance(a, EvictJob)))) for g in made.groups
        ]
        return replace(made, groups=tuple(late))

    monkeypatch.setattr(plan, "make", planted)
    before = list(rig.slurm.calls)
    with pytest.raises(UnsoundPlanError, match="4: job 7 is evicted while job 8 waits"):
        rig.cycle()
    assert rig.slurm.calls == before


def test_a_borrower_keeps_its_node_when_the_demand_goes_during_the_notice(rig: Rig) -> None:
    rig.site = site(spec("physics", "n1", notice=timedelta(seconds=5)))
    rig.slurm.submit(BORROWER)
    rig.go_on()
    rig.slurm.submit(OWNERS)
    assert any(isinstance(a, NotifyJob) for a in rig.cycle().plan.actions)
    del rig.slurm.jobs["9"]
    rig.go_on(20)
    assert rig.slurm.jobs["7"].state == "RUNNING"
    assert rig.slurm.jobs["7"].restarts == 0


def test_a_cycle_that_did_something_is_one_sentence_and_one_that_did_not_is_none(rig: Rig) -> None:
    rig.slurm.submit(job("7").borrower())
    rig.go_on()
    assert len([said for said in rig.said if "job 7" in said]) == 1
    before = list(rig.said)
    rig.go_on()
    assert rig.said == before


def test_a_full_disk_stops_lending_and_nothing_else(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on()
    rig.ledger._db.execute("PRAGMA query_only=ON")
    rig.slurm.submit(SECOND)
    rig.slurm.submit(OWNERS)
    rig.go_on()
    assert rig.slurm.jobs["9"].state == "RUNNING"
    assert rig.slurm.jobs["8"].state == "PENDING"


def test_a_journal_that_cannot_be_written_stops_lending_and_nothing_else(wide: Rig) -> None:
    wide.slurm.submit(BORROWER.whole_nodes(2))
    wide.go_on()
    other = sqlite3.connect(wide.folder / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    wide.slurm.submit(OWNERS)
    wide.go_on()
    assert wide.slurm.jobs["9"].state == "RUNNING"
    wide.slurm.submit(SECOND)
    wide.go_on()
    assert wide.slurm.jobs["8"].state == "PENDING"
    assert any("requeue job 7" in said for said in wide.said)


def test_a_victim_that_slurmctld_lost_in_a_crash_is_put_back_into_the_queue(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on()
    rig.slurm.submit(OWNERS)
    rig.cycle()
    assert rig.slurm.jobs["7"].state == "COMPLETING"
    rig.slurm.crash_forgetting("7")
    rig.go_on()
    assert rig.slurm.jobs["9"].state == "RUNNING"
    back = rig.slurm.jobs["7"]
    assert (back.state, back.restarts, back.reason != "BeginTime") == ("PENDING", 1, True)
    assert rig.slurm.calls.count("restore 7") == 1


def test_a_victim_that_failed_by_itself_is_not_run_again(rig: Rig) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on()
    rig.slurm.submit(OWNERS)
    rig.cycle()
    rig.slurm.crash_forgetting("7")
    rig.slurm.jobs["7"] = replace(rig.slurm.jobs["7"], reason="NonZeroExitCode")
    rig.go_on()
    assert rig.slurm.jobs["7"].state == "FAILED"
    assert "restore 7" not in rig.slurm.calls


def test_a_borrower_that_cannot_be_told_goes_at_its_deadline_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise SlurmRefusedError("Job is in transitional state")

    monkeypatch.setattr(rig.slurm, "signal_job", refuse)
    rig.site = site(spec("physics", "n1", notice=timedelta(seconds=3)))
    rig.slurm.submit(BORROWER)
    rig.go_on()
    rig.slurm.submit(OWNERS)
    rig.go_on(2)
    assert rig.slurm.jobs["7"].state == "RUNNING"
    rig.go_on(10)
    assert rig.slurm.jobs["9"].state == "RUNNING"


def test_an_interactive_borrower_is_cancelled_for_it_cannot_be_requeued(rig: Rig) -> None:
    rig.slurm.submit(BORROWER.but(batch=False))
    rig.go_on()
    assert rig.slurm.jobs["7"].state == "RUNNING"
    rig.slurm.submit(OWNERS)
    rig.go_on()
    assert "7" not in rig.slurm.jobs
    assert rig.slurm.jobs["9"].state == "RUNNING"


@pytest.mark.parametrize("how", ["unreadable", "unknown"])
def test_a_comment_that_cannot_be_read_is_not_overwritten_and_stops_no_reclaim(
    rig: Rig, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(job_ids: Sequence[str]) -> dict[str, str]:
        if how == "unreadable":
            raise SlurmUnreadableError("a comment: incomplete")
        return {}

    monkeypatch.setattr(rig.slurm, "read_comments", read)
    rig.slurm.submit(BORROWER.but(batch=False))  # it is cancelled, and told why just before
    rig.go_on()
    rig.slurm.submit(OWNERS)
    rig.go_on()
    assert "7" not in rig.slurm.jobs
    assert rig.slurm.jobs["9"].state == "RUNNING"
    assert not rig.slurm.comments


def test_idleness_is_written_down_with_its_evidence(rig: Rig) -> None:
    rig.go_on(2)
    rig.slurm.submit(OWNERS)
    rig.go_on(4)
    rig.slurm.finish("9")
    rig.go_on(3)
    idle = rig.entries("idle")
    assert len(idle) == 2
    assert "no owner's job holds it; node IDLE" in idle[-1]
