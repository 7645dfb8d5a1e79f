"""A cycle of narrow scope: what one user has just submitted, on what was seen a moment ago."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from slurm_reserve import cycle, scope
from slurm_reserve.cycle import Result, StaleError
from slurm_reserve.model import Cluster
from slurm_reserve.site import Owner

from tests.builders import cluster, job, nodes, site, spec
from tests.cycle.fake_slurm import FakeSlurm
from tests.cycle.test_cycle import Rig

ALICE = frozenset({"alice"})


class Watched(FakeSlurm):
    """Notes what is read as well."""

    reads: list[str]

    def _reach(self, call: str) -> None:
        super()._reach(call)
        if call not in self.calls[-1:]:
            self.reads = [*getattr(self, "reads", []), call]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Two nodes of alice's lent to bob and dave, seen by a whole cycle."""
    slurm = Watched(nodes("n1", "n2"))
    made = Rig(tmp_path, site(spec(nodes=frozenset({"n1", "n2"}))), slurm)
    made.cycle()
    for number, user in (("11", "bob"), ("12", "dave")):
        slurm.submit(job(number).of(user).borrower().whole_nodes(1))
    for _ in range(3):
        slurm.tick()
        made.cycle()
    assert {slurm.jobs[number].state for number in ("11", "12")} == {"RUNNING"}
    return made


def look(rig: Rig, seen: Cluster, users: frozenset[str] = ALICE) -> Result | None:
    known = frozenset(j.key for j in seen.jobs)
    return cycle.look_at(rig.site, rig.slurm, rig.ledger, rig.recorder, lambda: rig.slurm.now, seen, users, known)


def test_what_is_given_back_counts_as_idle_no_more(rig: Rig) -> None:
    assert set(rig.ledger.memory().idle_since) == {"n1", "n2"}
    seen = rig.slurm.observe()
    rig.slurm.submit(job("20").of("alice").whole_nodes(1))
    found = look(rig, seen)
    assert found is not None
    (decision,) = found.plan.decisions
    assert set(rig.ledger.memory().idle_since) == {"n1", "n2"} - decision.nodes


def test_a_node_comes_back_at_once_and_nothing_else_is_done(rig: Rig) -> None:
    seen = rig.slurm.observe()
    rig.slurm.submit(job("13").of("bob").borrower().whole_nodes(1))
    rig.slurm.submit(job("20").of("alice").whole_nodes(1))
    rig.slurm.calls.clear()
    found = look(rig, seen)
    assert found is not None
    assert [call.split()[0] for call in rig.slurm.calls if "requeue" in call] == ["requeue"]
    assert not any(call.startswith(("attach 13", "create")) for call in rig.slurm.calls)
    rig.slurm.tick()
    rig.slurm.tick()
    assert rig.slurm.jobs["20"].state == "RUNNING"
    rig.cycle()
    assert sum(j.restarts for j in rig.slurm.jobs.values()) == 1


def test_only_the_users_jobs_and_the_reservations_nodes_are_read(rig: Rig) -> None:
    assert isinstance(rig.slurm, Watched)
    seen = rig.slurm.observe()
    rig.slurm.submit(job("20").of("alice").whole_nodes(1))
    rig.slurm.reads = []
    look(rig, seen)
    assert rig.slurm.reads[0] == "read_submission"
    assert "read_nodes" not in rig.slurm.reads


def test_before_the_job_is_there_nothing_is_found(rig: Rig) -> None:
    assert look(rig, rig.slurm.observe()) is None
    rig.slurm.submit(job("21").of("carol"))
    assert look(rig, rig.slurm.observe(), frozenset({"carol"})) is None


def test_a_borrower_that_started_since_is_found_and_evicted_at_once(tmp_path: Path) -> None:
    slurm = Watched(nodes("n1"))
    rig = Rig(tmp_path, site(spec(nodes=frozenset({"n1"}))), slurm)
    rig.cycle()
    slurm.submit(job("11").of("bob").borrower().whole_nodes(1))
    rig.cycle()
    seen = scope.base(rig.site, slurm.observe())  # sent there, and not started yet
    assert not slurm.jobs["11"].nodes
    slurm.tick()
    assert slurm.jobs["11"].nodes
    slurm.submit(job("20").of("alice").whole_nodes(1))
    slurm.calls.clear()
    found = look(rig, seen)
    assert found is not None
    assert [call for call in slurm.calls if call.startswith("requeue")] == ["requeue 11"]


def test_reservations_are_those_of_now(rig: Rig) -> None:
    """Laid over since: maintenance holds the owner's job back, and nobody is evicted for it."""
    seen = rig.slurm.observe()
    rig.slurm.submit(job("20").of("alice").whole_nodes(1))
    physics = rig.slurm.reservations["physics"]
    soon = rig.slurm.now + timedelta(minutes=30)
    rig.slurm.reservations["maint"] = replace(physics, name="maint", start=soon, flags=frozenset({"MAINT"}))
    rig.slurm.calls.clear()
    look(rig, seen)
    assert not [call for call in rig.slurm.calls if call.startswith(("requeue", "cancel", "signal"))]


def test_it_does_nothing_when_a_node_is_not_used_as_it_was_seen(rig: Rig) -> None:
    seen = rig.slurm.observe()
    rig.slurm.submit(job("20").of("alice").whole_nodes(1))
    rig.slurm.finish("12")
    rig.slurm.tick()
    rig.slurm.calls.clear()
    with pytest.raises(StaleError):
        look(rig, seen)
    assert rig.slurm.calls == []


def test_it_does_nothing_on_an_unreachable_slurm(rig: Rig) -> None:
    seen = rig.slurm.observe()
    rig.slurm.is_reachable = False
    with pytest.raises(Exception, match="Unable to contact"):
        look(rig, seen)


def test_who_may_be_an_owner_is_looked_for() -> None:
    seen = replace(cluster(nodes("n1")), groups={"physics": frozenset({"erin"})})
    by_group = spec("group", owner=Owner(groups=frozenset({"physics"})))
    of_both = site(spec(), by_group)
    owners = scope.Owners(of_both, seen)
    assert [user for user in ("alice", "bob", "erin") if owners.may_have(user)] == ["alice", "erin"]
    by_account = site(spec("account", owner=Owner(accounts=frozenset({"chemistry"}))))
    assert scope.Owners(by_account, seen).may_have("anybody")


def test_waiting_jobs_of_strangers_are_left_out_of_what_is_kept() -> None:
    seen = cluster(
        nodes("n1"),
        job("1").of("alice"),
        job("2").of("carol"),
        job("3").of("carol").on("n1"),
        job("4").of("bob").borrower().in_("physics.lend"),
    )
    assert {j.id for j in scope.base(site(), seen).jobs} == {"1", "3", "4"}


def test_an_observation_older_than_the_submission_gives_way_to_what_is_read() -> None:
    seen = cluster(nodes("n1"), job("1").of("alice"), job("2").of("bob"))
    fresh = (job("3").of("alice").job,)
    assert {j.id for j in scope.with_jobs(seen, ALICE, fresh, {}).jobs} == {"2", "3"}
