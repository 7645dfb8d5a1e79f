"""The cycle of a loan and its reclaim over and over, slurmctld and the daemon started again at every step (B22)."""

from __future__ import annotations

import signal

import pytest

from tests.cluster.fate import Fated
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster


def start_again(stage: Stage, number: int) -> None:
    """Both, the daemon as by a crash every other time; slurmctld as an admin does."""
    stage.end(signal.SIGKILL if number % 2 else signal.SIGTERM)
    stage.lab.stop("slurmctld")
    stage.lab.start("slurmctld")
    stage.restart()


@pytest.mark.behaviour("B22")
@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.long)])
def test_the_cycle_repeats_and_leaves_nothing_behind(stage: Stage, rounds: int) -> None:
    play = Fated(stage)
    stage.restart()
    stage.wait(lambda: "physics" in stage.reservations(), 15, "it is made")
    bob = stage.borrow("bob", "--exclusive")
    for number in range(1, rounds + 1):
        stage.runs(bob, "n1", 60)
        start_again(stage, number)
        alice = stage.submit("alice", "--exclusive")
        stage.wait(lambda n=number: stage.field(bob, "Restarts") == str(n), 40, "bob is evicted")
        start_again(stage, number + 1)
        stage.runs(alice, "n1", 60)
        assert stage.field(alice, "Restarts") == "0"
        start_again(stage, number)
        stage.waits(bob, 40)
        stage.wait(lambda: "physics.lend" not in stage.reservations(), 30, "nothing is lent")
        assert stage.jobs()[alice].state == "RUNNING"
        stage.cancel(alice)
    stage.runs(bob, "n1", 60)
    assert stage.field(bob, "Restarts") == str(rounds)  # as often as alice came
    play.touched_nobody_else()
    assert list(stage.reservations()) == ["physics", "physics.lend"]
    stage.cancel(bob)
    play.leaves_nothing()
