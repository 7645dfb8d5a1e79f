"""What must be given back when no daemon is there, what may stay, and the brake."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from slurm_reserve import cycle, failsafe, plan
from slurm_reserve.actions import EvictJob, NotifyJob
from slurm_reserve.memory import LendOrder, Memory, Orders
from slurm_reserve.model import SlurmConfig
from slurm_reserve.site import DaemonSettings, Lending, Mode
from slurm_reserve.view import View

from tests.builders import NOW, cluster, job, nodes, reservation, site, spec, view

BORROWER = job("7").borrower().whole_nodes(1).in_("physics.lend").on("n1")
NO_NET = SlurmConfig(version="22.05.8", preempt_type="preempt/none", kill_wait=timedelta(seconds=5))


def seen(config: SlurmConfig | None = None, **changes: object) -> View:
    parts = (reservation("physics", "n1"), reservation("physics.lend", "n1"), BORROWER)
    of_site = site(spec("physics", "n1", notice=timedelta(seconds=30)), **changes)
    return view(of_site, cluster(nodes("n1", "n2"), *parts, config=config))


def evicted(made: plan.Plan) -> list[str]:
    return [action.job.id for action in made.actions if isinstance(action, EvictJob)]


def test_above_a_net_loans_stay() -> None:
    given = failsafe.giving_back(seen())
    assert failsafe.still_lent(seen()) == []
    assert evicted(plan.make(given)) == []


def test_without_a_net_they_go_at_once_and_nothing_is_lent() -> None:
    made = plan.make(failsafe.giving_back(seen(NO_NET)))
    assert evicted(made) == ["7"]
    assert not [action for action in made.actions if isinstance(action, NotifyJob)]
    assert not made.loans


def test_all_go_at_a_word_even_above_a_net() -> None:
    assert [job.id for job in failsafe.still_lent(seen(), is_all=True)] == ["7"]
    assert evicted(plan.make(failsafe.giving_back(seen(), is_all=True))) == ["7"]


def test_a_standing_order_to_lend_does_not_keep_them() -> None:
    was = seen(NO_NET)
    kept = View(was.site, was.cluster, replace(was.memory, orders=Orders(lend={"physics": LendOrder(enabled=True)})))
    assert evicted(plan.make(failsafe.giving_back(kept))) == ["7"]


@pytest.mark.parametrize("fail_safe", [True, False])
def test_without_a_net_nothing_is_lent_but_above_a_fail_safe(fail_safe: bool) -> None:
    waiting = job("8").borrower().whole_nodes(1)
    of_site = site(spec("physics", "n1"), daemon=DaemonSettings(fail_safe=fail_safe))
    busy = job("90").of("carol").whole_nodes(1).on("n2")
    made = plan.make(
        view(of_site, cluster(nodes("n1", "n2"), reservation("physics", "n1"), busy, waiting, config=NO_NET))
    )
    assert bool(made.loans) is fail_safe


def lend_with(memory: Memory, most: int = 3) -> plan.Plan:
    waiting = job("8").borrower().whole_nodes(1)
    busy = job("90").of("carol").whole_nodes(1).on("n2")
    of_site = site(spec("physics", "n1"), lending=Lending(frozenset({"preempt"}), max_evictions_per_hour=most))
    return plan.make(view(of_site, cluster(nodes("n1", "n2"), reservation("physics", "n1"), busy, waiting), memory))


def test_the_brake_goes_on_with_too_many_evictions_within_an_hour() -> None:
    times = tuple(NOW - timedelta(minutes=m) for m in (1, 20, 70))
    assert lend_with(Memory(made={"physics": NOW}, eviction_times=times)).loans
    held = lend_with(Memory(made={"physics": NOW}, eviction_times=(*times, NOW)))
    assert not held.loans
    assert "3 evictions within an hour" in held.brake
    assert "slurm-reserve resume" in held.withheld["physics"]


def test_the_brake_stays_on_until_somebody_has_looked() -> None:
    held = lend_with(Memory(made={"physics": NOW}, orders=Orders(brake="3 evictions within an hour")))
    assert not held.loans


def test_the_brake_does_not_keep_an_owner_waiting() -> None:
    was = seen()
    owners = job("9").of("alice").whole_nodes(1)
    full = job("90").of("carol").whole_nodes(1).on("n2")
    parts = (reservation("physics", "n1"), reservation("physics.lend", "n1"), BORROWER, full, owners)
    memory = replace(was.memory, orders=Orders(brake="too many"))
    made = plan.make(view(site(spec("physics", "n1")), cluster(nodes("n1", "n2"), *parts), memory))
    assert evicted(made) == ["7"]


def test_shadow_mode_says_what_it_would_lend_and_takes_back_what_is_lent() -> None:
    waiting = job("8").borrower().whole_nodes(1)
    busy = job("90").of("carol").whole_nodes(1).on("n3")
    parts = (reservation("physics", "n1", "n2"), reservation("physics.lend", "n1"), BORROWER, busy, waiting)
    of_site = site(spec("physics", "n1", "n2"), mode=Mode.SHADOW)
    result = cycle.decide(of_site, cluster(nodes("n1", "n2", "n3"), *parts), Memory(made={"physics": NOW}))
    assert evicted(result.plan) == ["7"]
    assert result.plan.reports["job 8"] == "shadow: would run on n2 of physics idle"
    assert not [group for group in result.plan.groups if group.is_loan and group.actions]


def test_shadow_mode_leaves_those_alone_that_it_never_lent_to() -> None:
    earlier = job("7").borrower().whole_nodes(1).on("n1")
    result = cycle.decide(
        site(spec("physics", "n1"), mode=Mode.SHADOW),
        cluster(nodes("n1", "n2"), reservation("physics", "n1"), earlier),
        Memory(made={"physics": NOW}),
    )
    assert evicted(result.plan) == []
