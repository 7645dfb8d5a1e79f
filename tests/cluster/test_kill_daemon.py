"""The daemon is killed with -9 between every two things it does to Slurm, and started again: the end is the same."""

from __future__ import annotations

import pytest

from tests.cluster.fate import LOAN, RECLAIM, RECLAIM_WITH_NOTICE, Fated
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
LONG = pytest.mark.long
QUICK = {("after", "create"), ("after", "requeue"), ("before", "hand_over")}  # in the contributor's suite


def cells(changes: tuple[str, ...]) -> list[object]:
    """Before and after each change; after one and before the next differ by what the daemon has noted in between."""
    pairs = [(when, what) for what in changes for when in ("before", "after")]
    return [pytest.param(*pair, marks=() if pair in QUICK else LONG) for pair in pairs]


def requeues(when: str, what: str) -> int:
    """One, whoever died; none where it was noted and not done, for Slurm itself preempts before it is due again."""
    return 0 if (when, what) == ("before", "requeue") else 1


def test_undisturbed_it_does_what_these_tests_are_about(stage: Stage) -> None:
    play = Fated(stage, notice=True)
    bob = play.lend()
    alice = play.want()
    play.run_daemon()
    play.comes_to_the_same_end(bob, alice)
    first = list(dict.fromkeys(play.done()))  # and the loan that follows, for bob comes back
    assert sorted(first) == sorted((*RECLAIM_WITH_NOTICE, *LOAN))
    assert first[:2] == ["signal", "requeue"]
    assert play.diary("bob").count("told") == 1


@pytest.mark.behaviour("B21")
@pytest.mark.parametrize(("when", "what"), cells(LOAN))
def test_killed_in_a_loan(stage: Stage, when: str, what: str) -> None:
    play = Fated(stage)
    play.reserve()
    bob = stage.borrow("bob", "--exclusive", wrap="echo started >> $HOME/diary; sleep 1000")
    play.run_daemon("daemon", when, what)
    play.struck("daemon")
    stage.runs(bob, "n1", 40)
    stage.wait(lambda: list(stage.reservations()) == ["physics", "physics.lend"], 10, "it is a loan")
    assert stage.reservations()["physics.lend"]["Nodes"] == "n1"
    alice = play.want()
    play.comes_to_the_same_end(bob, alice)
    assert play.done().count("requeue") == 1


@pytest.mark.behaviour("B21")
@pytest.mark.parametrize(("when", "what"), cells(RECLAIM))
def test_killed_in_a_reclaim(stage: Stage, when: str, what: str) -> None:
    play = Fated(stage)
    bob = play.lend()
    alice = play.want()
    play.run_daemon("daemon", when, what)
    play.struck("daemon")
    play.comes_to_the_same_end(bob, alice)
    assert play.done().count("requeue") == requeues(when, what)


@LONG
@pytest.mark.behaviour("B21")
@pytest.mark.parametrize(("when", "what"), cells(RECLAIM_WITH_NOTICE))
def test_killed_in_a_reclaim_with_a_notice(stage: Stage, when: str, what: str) -> None:
    play = Fated(stage, notice=True)
    bob = play.lend()
    alice = play.want()
    play.run_daemon("daemon", when, what)
    play.struck("daemon")
    play.comes_to_the_same_end(bob, alice)
    assert play.done().count("requeue") == requeues(when, what)
    told = play.diary("bob").count("told")
    assert told == 2 if (when, what) == ("after", "signal") else told == 1  # signalled, and died before it was noted
