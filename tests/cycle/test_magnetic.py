"""Lend reservations that draw borrowers in by themselves, on a Slurm in memory that has AllowedPartitions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from slurm_reserve import invariants, plan
from slurm_reserve.actions import AttachJob, CreateReservation, EvictJob, UpdateReservation
from slurm_reserve.memory import Attached, Memory
from slurm_reserve.model import Reservation
from slurm_reserve.site import BidBy, LendPolicy, Magnetic, ReservationSpec, Site
from slurm_reserve.view import View

from tests.builders import NOW, JobBuilder, cluster, job, nodes, reservation, site, spec, view
from tests.cycle.fake_slurm import FakeSlurm
from tests.cycle.test_cycle import Rig

FOUR = nodes("n1", "n2", "n3", "n4")
BUSY_ELSEWHERE = job("90").of("carol").whole_nodes(2).on("n3", "n4")
R = reservation("physics", "n1", "n2", can_name_partitions=True)
WAITS = job("5").borrower().whole_nodes(1)


def lend(*names: str, draws: bool = True, **changes: Any) -> Reservation:
    """A lend reservation as this release would print it."""
    made = reservation("physics.lend", *names, allowed_partitions=frozenset({"preempt"}), can_name_partitions=True)
    return replace(made, flags=made.flags | ({"MAGNETIC"} if draws else set()), **changes)


def seen(*parts: Reservation | JobBuilder, of: Site | None = None, memory: Memory | None = None) -> View:
    return view(of or site(), cluster(FOUR, BUSY_ELSEWHERE, *parts), memory)


def attached(built: JobBuilder, seconds: float, is_drawn: bool = True) -> Memory:
    sent = Attached("physics.lend", NOW - timedelta(seconds=seconds), is_drawn)
    return Memory(made={"physics": NOW, "physics.lend": NOW}, attached={built.job.key: sent})


def made(of: View) -> plan.Plan:
    """Plan, and hold every plan to the invariants."""
    found = plan.make(of)
    assert invariants.violations(of, found) == []
    return found


def creation(of: View) -> CreateReservation:
    (found,) = [each for each in made(of).actions if isinstance(each, CreateReservation)]
    return found


def lending(**changes: Any) -> Site:
    return site(lending=replace(site().lending, **changes))


def rig(folder: Path, *jobs: JobBuilder) -> Rig:
    fake = FakeSlurm(FOUR, BUSY_ELSEWHERE, *jobs, partitions=True)
    started = Rig(folder, site(), fake)
    for _ in range(2):
        started.cycle()
    return started


def test_a_borrower_is_drawn_in_without_being_attached() -> None:
    create, attach = made(seen(R, WAITS)).actions
    assert isinstance(create, CreateReservation)
    assert isinstance(attach, AttachJob)
    assert ("MAGNETIC" in create.flags, create.allowed_partitions) == (True, {"preempt"})
    assert attach.is_drawn


@pytest.mark.parametrize(
    ("declared", "parts", "why"),
    [
        (lending(magnetic=Magnetic.NO), (), "the site says no"),
        (lending(bid=BidBy.QOS), (), "Slurm knows no bids"),
        (lending(max_nodes_per_user=1), (), "nor caps"),
        (lending(qos=frozenset({"low"})), (), "borrowers are told by one of two lists, and Slurm wants both to hold"),
        (site(spec(max_time=timedelta(hours=2))), (), "nor the longest loan"),
        (site(spec(end=NOW + timedelta(days=9))), (), "the reservation ends"),
        (site(), (job("6").borrower().but(licenses="matlab:1"),), "a borrower with licences waits"),
        (site(), (job("6").borrower().but(het_job="6"),), "one of several components waits"),
        (site(), (job("6").of("alice").borrower().whole_nodes(1),), "the owner's own borrower comes first"),
    ],
)
def test_what_slurm_cannot_know_makes_the_daemon_attach(
    declared: Site, parts: tuple[JobBuilder, ...], why: str
) -> None:
    of = seen(R, WAITS, *parts, of=declared)
    assert "MAGNETIC" not in creation(of).flags, why
    attach = [each for each in made(of).actions if isinstance(each, AttachJob)]
    assert attach, why
    assert not any(each.is_drawn for each in attach), why


def test_without_allowed_partitions_nobody_is_drawn_in() -> None:
    assert "MAGNETIC" not in creation(seen(replace(R, can_name_partitions=False), WAITS)).flags


def test_where_borrowers_are_told_by_their_qos_it_is_the_qos_that_lets_them_in() -> None:
    by_qos = lending(partitions=frozenset(), qos=frozenset({"low"}))
    of = seen(R, WAITS.but(qos="low"), job("6").of("carol").whole_nodes(1), of=by_qos)
    config = replace(of.cluster.config, preempt_type="preempt/qos")
    normal = {"normal": frozenset({"low"}), "low": frozenset[str]()}
    of = replace(of, cluster=replace(of.cluster, config=config, qos_preempts=normal))
    create = creation(of)
    assert ("MAGNETIC" in create.flags, create.allowed_partitions, create.allowed_qos) == (True, set(), {"low"})
    assert [each.is_drawn for each in made(of).actions if isinstance(each, AttachJob)] == [True]
    there = lend("n1", allowed_partitions=frozenset(), allowed_qos=frozenset({"low", "normal"}))
    opened = replace(of, cluster=replace(of.cluster, reservations={**of.cluster.reservations, there.name: there}))
    shut = [each for each in made(opened).actions if isinstance(each, UpdateReservation)]
    assert shut[0].drop_flags == {"MAGNETIC"}


def test_without_a_net_nobody_is_drawn_in() -> None:
    of = seen(R, WAITS, of=site(daemon=replace(site().daemon, fail_safe=True)))
    without = replace(of, cluster=replace(of.cluster, config=replace(of.cluster.config, preempt_type="preempt/none")))
    assert "MAGNETIC" not in creation(without).flags


def test_one_that_slurm_passes_over_is_attached_and_one_without_a_limit_at_once() -> None:
    soon = seen(R, lend("n1"), WAITS, memory=attached(WAITS, 1))
    assert made(soon).actions == ()
    (attach,) = made(seen(R, lend("n1"), WAITS, memory=attached(WAITS, 60))).actions
    assert isinstance(attach, AttachJob)
    assert not attach.is_drawn
    endless = WAITS.but(time_limit=None)
    (attach,) = [each for each in made(seen(R, endless)).actions if isinstance(each, AttachJob)]
    assert not attach.is_drawn


@pytest.mark.behaviour("B21")
def test_nobody_more_is_drawn_in_before_a_borrower_is_evicted() -> None:
    runs = job("4").borrower().whole_nodes(2).on("n1", "n2").in_("physics.lend")
    wants = job("7").of("alice").whole_nodes(1)
    found = made(seen(R, lend("n1", "n2"), runs, wants))
    kinds = [type(each) for each in found.actions]
    first = found.actions[0]
    assert isinstance(first, UpdateReservation)
    assert first.drop_flags == {"MAGNETIC"}
    assert EvictJob in kinds


def test_a_plan_that_evicts_while_borrowers_are_drawn_in_is_no_plan() -> None:
    runs = job("4").borrower().whole_nodes(2).on("n1", "n2").in_("physics.lend")
    of = seen(R, lend("n1", "n2"), runs, job("7").of("alice").whole_nodes(1))
    found = plan.make(of)
    careless = replace(
        found, groups=tuple(replace(g, actions=tuple(a for a in g.actions if not _shuts(a))) for g in found.groups)
    )
    assert any(text.startswith("4:") for text in invariants.violations(of, careless))


def _shuts(action: object) -> bool:
    return isinstance(action, UpdateReservation) and "MAGNETIC" in action.drop_flags


def test_a_reservation_that_would_draw_in_anybody_is_no_plan() -> None:
    of = seen(R, WAITS)
    found = plan.make(of)
    open_to_all = [
        replace(each, allowed_partitions=frozenset()) if isinstance(each, CreateReservation) else each
        for each in found.actions
    ]
    careless = replace(found, groups=(replace(found.groups[0], actions=tuple(open_to_all)),))
    assert any(text.startswith("3:") for text in invariants.violations(of, careless))


def test_an_older_reservation_without_the_list_of_partitions_does_not_begin_to_draw() -> None:
    runs = job("4").borrower().whole_nodes(1).on("n1").in_("physics.lend")
    old = replace(lend("n1", draws=False), allowed_partitions=frozenset())
    actions = made(seen(R, old, runs, WAITS)).actions
    assert not any(isinstance(each, UpdateReservation) and each.add_flags for each in actions)
    assert [each.is_drawn for each in actions if isinstance(each, AttachJob)] == [False]


@pytest.mark.parametrize("orders", ["off", "paused"])
def test_what_is_not_to_be_lent_draws_nobody_in(orders: str) -> None:
    runs = job("4").borrower().whole_nodes(1).on("n1").in_("physics.lend")
    off: ReservationSpec = spec()
    if orders == "off":
        off = replace(off, lend=LendPolicy(enabled=False))
    of = seen(R, lend("n1"), runs, of=site(off))
    if orders == "paused":
        memory = replace(of.memory, orders=replace(of.memory.orders, paused=True))
        of = replace(of, memory=memory)
    assert any(_shuts(each) for each in made(of).actions)


def test_a_loan_is_one_change_where_slurm_draws_in_and_the_next_is_none(tmp_path: Path) -> None:
    begun = rig(tmp_path, WAITS, job("6").borrower().whole_nodes(1), job("7").borrower().whole_nodes(1))
    fake = begun.slurm
    fake.tick()
    assert [call for call in fake.calls if call.startswith("attach")] == []
    assert {fake.jobs[each].reservation for each in ("5", "6")} == {"physics.lend"}
    before = len(fake.calls)
    fake.finish("5")
    fake.tick()
    assert fake.jobs["7"].state == "RUNNING"
    begun.cycle()
    assert fake.calls[before:] == []
    begun.replay()


def test_the_owner_gets_a_node_back_from_one_that_was_drawn_in_and_nobody_takes_its_place(tmp_path: Path) -> None:
    begun = rig(tmp_path, WAITS, job("6").borrower().whole_nodes(1), job("7").borrower().whole_nodes(1))
    fake = begun.slurm
    fake.tick()
    begun.cycle()
    wants = job("8").of("alice").whole_nodes(2)
    fake.submit(wants)
    for _ in range(4):
        begun.cycle()
        fake.tick()
    assert fake.jobs["8"].state == "RUNNING"
    assert {fake.jobs[each].state for each in ("5", "6", "7")} == {"PENDING"}
    assert {fake.jobs[each].reservation for each in ("5", "6", "7")} == {""}
    begun.replay()
