"""After a while in which no daemon looked, what may have changed unseen is not taken for known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from slurm_reserve import expiry, outage
from slurm_reserve.memory import Memory, Tally
from slurm_reserve.site import Lending, LendPolicy
from slurm_reserve.view import View

from tests.builders import NOW, JobBuilder, cluster, job, nodes, site, spec
from tests.cycle.fake_slurm import FakeSlurm
from tests.cycle.test_cycle import Rig

MINUTE = timedelta(minutes=1)
BORROWER = job("1").borrower().whole_nodes(1)


@pytest.mark.parametrize(("minutes", "is_lent"), [(2, True), (30, False)])
def test_a_node_that_was_idle_before_an_outage_is_held_down_anew(minutes: int, is_lent: bool, tmp_path: Path) -> None:
    busy = job("90").of("carol").whole_nodes(2).on("n3", "n4")
    held = replace(spec("physics", "n1"), lend=LendPolicy(after_idle=2 * MINUTE))
    rig = Rig(tmp_path, site(held), FakeSlurm(nodes("n1", "n3", "n4"), busy))
    rig.go_on(3)
    rig.slurm.submit(job("7").borrower().whole_nodes(1))
    rig.ledger.close()
    rig.slurm.tick(minutes * 60)  # she may have been there, and gone a second ago
    rig.start()
    rig.go_on(5)
    assert (rig.slurm.jobs["7"].state == "RUNNING") is is_lent
    rig.go_on(150)
    assert rig.slurm.jobs["7"].state == "RUNNING"
    assert rig.ledger.memory().spells == {}  # nor is it learnt that the node was idle for so long
    assert rig.ledger.memory().unseen_since is None
    rig.replay()


def counted(known: Tally, *jobs: JobBuilder, looked: timedelta) -> Tally:
    """The tally at NOW, when the cluster was last looked at so long ago."""
    memory = outage.after(Memory(tallies={"1": known}, looked=NOW - looked), NOW, timedelta(seconds=5))
    of = site(lending=Lending(frozenset({"preempt"}), expires_in_comment=True))
    return expiry.tallies(View(of, cluster(nodes("n1"), *jobs), memory))["1"]


def test_a_run_that_ended_unseen_counts_until_it_was_last_seen_or_slurm_says_it_ended() -> None:
    began = Tally("bob", timedelta(0), NOW - 60 * MINUTE)
    rest = BORROWER.but(array_tasks=(2, 3), submitted=NOW - 90 * MINUTE)
    assert counted(began, rest, looked=MINUTE).total == 60 * MINUTE
    assert counted(began, rest, looked=40 * MINUTE).total == 20 * MINUTE
    requeued = BORROWER.but(restarts=1, submitted=NOW - 10 * MINUTE)
    assert counted(began, requeued, looked=40 * MINUTE).total == 50 * MINUTE
    goes_on = BORROWER.on("n1", for_minutes=60)
    assert counted(began, goes_on, looked=40 * MINUTE) == began


def test_a_look_is_noted_once_a_minute() -> None:
    assert outage.is_to_note(Memory(), NOW)
    assert not outage.is_to_note(Memory(looked=NOW - MINUTE / 2), NOW)
    assert outage.is_to_note(Memory(looked=NOW - MINUTE), NOW)
    assert outage.is_to_note(Memory(looked=NOW + MINUTE), NOW)  # the clock was put back
