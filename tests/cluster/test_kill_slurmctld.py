"""slurmctld is killed with -9 shortly after each thing the daemon does to it, and forgets: the end is the same."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster.fate import LOAN, RECLAIM_WITH_NOTICE, Fated
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
DELAYS = (0, 1, 2, 3)  # seconds; slurmctld writes down what it knows every few seconds
QUICK = {("requeue", 1)}  # in the contributor's suite


@pytest.fixture(autouse=True)
def sane(stage: Stage) -> Iterator[None]:
    """What a crash left awry in slurmctld's memory (it may count the CPUs of a job that it lost) ends with the test."""
    yield
    stage.close()
    stage.lab.start("slurmctld")
    stage.lab.stop("slurmctld")
    stage.lab.start("slurmctld")


def cells(changes: tuple[str, ...]) -> list[object]:
    pairs = [(what, delay) for what in changes for delay in DELAYS]
    return [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.long) for pair in pairs]


@pytest.mark.behaviour("B11")
@pytest.mark.parametrize(("what", "delay"), cells(LOAN))
def test_killed_in_a_loan(stage: Stage, what: str, delay: int) -> None:
    play = Fated(stage)
    play.reserve()
    play.submitted = time.time()
    bob = stage.borrow("bob", "--exclusive", wrap="echo started >> $HOME/diary; sleep 1000")
    play.saved()
    play.run_daemon("slurmctld", "after", what, delay)
    play.struck("slurmctld")
    stage.runs(bob, "n1", 90)
    stage.wait(lambda: stage.reservations().get("physics.lend", {}).get("Nodes") == "n1", 30, "it is a loan")
    stage.wait(lambda: "started" in play.diary("bob"), 10, "bob's script runs")
    starts = play.diary("bob").count("started")  # a start that slurmctld has forgotten is one more, and Slurm's doing
    restarts = int(stage.field(bob, "Restarts"))
    alice = play.want()
    play.comes_to_the_same_end(bob, alice, starts, str(restarts + 1))


@pytest.mark.behaviour("B11", "B21")
@pytest.mark.parametrize(("what", "delay"), cells(RECLAIM_WITH_NOTICE))
def test_killed_in_a_reclaim(stage: Stage, what: str, delay: int) -> None:
    play = Fated(stage, notice=True)
    bob = play.lend()
    alice = play.want()
    play.saved()
    play.run_daemon("slurmctld", "after", what, delay)
    play.struck("slurmctld")
    play.comes_to_the_same_end(bob, alice, 1, "1", "2")
    if stage.field(bob, "Restarts") == "2":  # seen once, of a run without processes: nobody was evicted twice
        # slurmctld requeues by itself whom it takes for running and finds no processes of; or the daemon issued again
        # what was not seen in time.
        log = stage.lab.read("/run/slurm-lab/log/slurmctld.log")
        assert f"JobId={bob} missing from batch node" in log or play.done().count("requeue") > 1, log[-6000:]
