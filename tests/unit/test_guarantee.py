"""What others do to reserved nodes: maintenance holds jobs back, everything else is told and left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from slurm_reserve import check, invariants, plan
from slurm_reserve.actions import AttachJob, EvictJob
from slurm_reserve.model import Reservation
from slurm_reserve.plan import Plan
from slurm_reserve.reclaim import Verdict
from slurm_reserve.view import View

from tests.builders import NOW, cluster, job, nodes, reservation, site, spec, view

FOUR = nodes("n1", "n2", "n3", "n4")
R = reservation("physics", "n1", "n2")
L = reservation("physics.lend", "n1", "n2")
BUSY_ELSEWHERE = job("90").of("carol").whole_nodes(2).on("n3", "n4")


def upkeep(*names: str, minutes: float = 30) -> Reservation:
    start = NOW + timedelta(minutes=minutes)
    flags = frozenset({"MAINT", "OVERLAP", "IGNORE_JOBS", "SPEC_NODES"})
    return reservation("upkeep", *names, flags=flags, start=start, end=start + timedelta(hours=8), is_active=False)


def make(seen: View) -> Plan:
    made = plan.make(seen)
    assert invariants.violations(seen, made) == []
    return made


@pytest.mark.parametrize(
    ("limit", "where"),
    [(timedelta(minutes=60), {"n2"}), (timedelta(minutes=20), {"n1"}), (timedelta(minutes=30), {"n1"}), (None, {"n2"})],
)
def test_a_node_is_lent_only_to_who_is_over_before_maintenance(limit: timedelta | None, where: set[str]) -> None:
    borrower = job("7").borrower().but(time_limit=limit)
    made = make(view(site(), cluster(FOUR, R, upkeep("n1"), BUSY_ELSEWHERE, borrower)))
    assert [set(loan.nodes) for loan in made.loans] == [where]


def test_a_borrower_that_maintenance_holds_back_is_told_so_and_not_sent() -> None:
    made = make(view(site(), cluster(FOUR, R, upkeep("n1", "n2"), BUSY_ELSEWHERE, job("7").borrower())))
    assert made.actions == ()
    assert "run into maintenance" in made.not_lent["7"]


@pytest.mark.parametrize("unproven", [(), ("contiguous nodes",)])
def test_nobody_is_evicted_for_an_owners_job_that_maintenance_holds_back(unproven: tuple[str, ...]) -> None:
    lent = [job(n).borrower().whole_nodes(1).on(node).in_("physics.lend") for n, node in [("5", "n1"), ("6", "n2")]]
    owners = job("8").of("alice").whole_nodes(1).wanting(unproven=unproven)
    made = make(view(site(), cluster(FOUR, R, L, upkeep("n1", "n2"), BUSY_ELSEWHERE, *lent, owners)))
    assert [d.verdict for d in made.decisions] == [Verdict.BLOCKED]
    assert "maintenance of n1,n2" in made.decisions[0].why
    assert not [a for a in made.actions if isinstance(a, EvictJob | AttachJob)]


def test_who_does_not_run_into_maintenance_gets_the_node_that_serves() -> None:
    lent = [job(n).borrower().whole_nodes(1).on(node).in_("physics.lend") for n, node in [("5", "n1"), ("6", "n2")]]
    owners = job("8").of("alice").whole_nodes(1)
    made = make(view(site(), cluster(FOUR, R, L, upkeep("n1"), BUSY_ELSEWHERE, *lent, owners)))
    assert [victim.job.id for victim in made.victims] == ["6"]


def test_free_nodes_that_are_reserved_soon_serve_nobody_for_longer() -> None:
    soon = replace(reservation("theirs", "n3", "n4"), start=NOW + timedelta(minutes=30), is_active=False)
    lent = [job(n).borrower().whole_nodes(1).on(node).in_("physics.lend") for n, node in [("5", "n1"), ("6", "n2")]]
    owners = job("8").of("alice").whole_nodes(1).seconds_old(1)
    seen = cluster(FOUR, R, L, soon, *lent, owners)
    assert [d.verdict for d in make(view(site(), seen)).decisions] == [Verdict.EVICT]
    short = cluster(FOUR, R, L, soon, *lent, owners.but(time_limit=timedelta(minutes=10)))
    assert [d.verdict for d in make(view(site(), short)).decisions] == [Verdict.ELSEWHERE]


def test_maintenance_and_overlays_are_told_of() -> None:
    theirs, later = reservation("theirs", "n2"), replace(R, name="after", start=R.end, end=R.end + timedelta(days=1))
    reports = make(view(site(), cluster(FOUR, R, upkeep("n1"), theirs, later))).reports
    assert reports.keys() == {"physics under upkeep", "physics under theirs"}
    assert "lies over n1 from 2030-05-06 12:30" in reports["physics under upkeep"]
    assert "maintenance" in reports["physics under upkeep"]
    assert "never start there" in reports["physics under theirs"]


def test_a_drained_node_breaks_the_guarantee_and_one_under_maintenance_is_no_surprise() -> None:
    some = [replace(node, states=frozenset({"IDLE", "DRAIN"})) if node.name == "n1" else node for node in FOUR]
    reports = make(view(site(), cluster(some, R))).reports
    assert reports["physics nodes"].startswith("guarantee broken: n1 cannot be used (drain+idle)")
    under = [replace(node, states=frozenset({"IDLE", "MAINT"})) if node.name == "n1" else node for node in FOUR]
    active = replace(upkeep("n1", minutes=-5), is_active=True)
    assert "physics nodes" not in make(view(site(), cluster(under, R, active))).reports


def test_an_ordinary_job_that_slipped_in_is_told_of_and_nothing_else() -> None:
    slipped = job("9").of("carol").whole_nodes(1).on("n1")
    made = make(view(site(), cluster(FOUR, R, BUSY_ELSEWHERE, slipped)))
    assert made.actions == ()
    assert "an ordinary job of carol runs on n1 of physics" in made.reports["job 9"]
    found = check.findings(view(site(), cluster(FOUR, R, BUSY_ELSEWHERE, slipped)))
    assert [f.remedy for f in found if "job 9" in f.text] == [
        "ask its user to submit without --signal=R:, or scancel 9"
    ]


def test_who_may_be_there_is_not_told_of() -> None:
    there = [
        job("1").of("alice").whole_nodes(1).on("n1"),  # the owner
        job("2").borrower().whole_nodes(1).on("n2"),  # a borrower whose loan was taken for another's
        job("3").of("carol").whole_nodes(1).on("n1", for_minutes=3 * 24 * 60),  # there before the reservation
        job("4").of("carol").whole_nodes(1).on("n3"),  # elsewhere
        job("5").of("carol").whole_nodes(1).on("n1").in_("theirs"),
        job("6").of("carol").whole_nodes(1).on("n1").completing(),
    ]
    seen = view(site(spec()), cluster(FOUR, R, *there))
    assert not [key for key in plan.make(seen).reports if key.startswith("job ")]
