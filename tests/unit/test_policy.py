"""Whom idle nodes are lent to, which of them first, what is expected, and whose time is over: as sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve import expiry, idleness, invariants, plan
from slurm_reserve.actions import EvictJob, ExpireJob, NotifyJob, UpdateReservation
from slurm_reserve.memory import Attached, Evicted, Memory, Notice, Orders, ReclaimOrder, Tally
from slurm_reserve.plan import Plan
from slurm_reserve.reclaim import Verdict
from slurm_reserve.site import BidBy, EvictBy, Lending, Site
from slurm_reserve.view import View

from tests.builders import NOW, JobBuilder, cluster, job, nodes, reservation, site, spec

FOUR = nodes("n1", "n2", "n3", "n4")
R = reservation("physics", "n1", "n2")
L = reservation("physics.lend", "n1", "n2")
FULL = job("90").of("carol").whole_nodes(2).on("n3", "n4")
MADE = {"physics": NOW, "physics.lend": NOW, "chemistry": NOW}
BIDS = Lending(frozenset({"preempt"}), bid=BidBy.COMMENT)


def make(of_site: Site, *parts: object, **memory: object) -> Plan:
    """Plan, and hold every plan to the invariants."""
    seen = View(of_site, cluster(FOUR, *parts), Memory(made=MADE, **memory))  # type: ignore[arg-type]  # as it says
    made = plan.make(seen)
    assert invariants.violations(seen, made) == []
    return made


def lent(made: Plan) -> list[str]:
    return [loan.job.id for loan in made.loans]


def evicted(made: Plan) -> list[str]:
    return [action.job.id for action in made.actions if isinstance(action, EvictJob)]


def borrower(job_id: str, comment: str = "", user: str = "bob") -> JobBuilder:
    return job(job_id).borrower().but(user=user, comment=comment).whole_nodes(1)


def test_one_whose_name_cannot_be_given_to_slurm_keeps_no_other_from_being_lent_to() -> None:
    strange, plain = borrower("7", user=r"CORP\alice"), borrower("8")
    made = make(site(), R, FULL, strange, plain)
    assert lent(made) == ["8"]
    assert "name cannot be given to Slurm" in made.not_lent["7"]
    there = strange.in_("physics.lend").on("n1")  # an admin sent it
    made = make(site(), R, replace(L, nodes=frozenset({"n1"}), users=frozenset({"dave"})), FULL, there, plain)
    (change,) = [action for action in made.actions if isinstance(action, UpdateReservation)]
    assert change.users == {"bob"}


# Bids


def test_the_higher_bid_is_lent_to_first() -> None:
    waiting = [borrower("7", "bid=0.05"), borrower("8", "bid=0.1"), borrower("9", "bid=0.08")]
    assert lent(make(site(lending=BIDS), R, FULL, *waiting)) == ["8", "9"]
    assert lent(make(site(), R, FULL, *waiting)) == ["7", "8"]


DISPLACE = replace(BIDS, displace=True)
RUNNING = [
    borrower("1", "bid=0.05").in_("physics.lend").on("n1"),
    borrower("2", "bid=0.08").in_("physics.lend").on("n2"),
]


@pytest.mark.parametrize(("comment", "goes"), [("bid=0.05", []), ("bid=0.06", ["1"]), ("bid=9", ["1"]), ("", [])])
def test_only_a_lower_bid_gives_way(comment: str, goes: list[str]) -> None:
    assert evicted(make(site(lending=DISPLACE), R, L, FULL, *RUNNING, borrower("7", comment))) == goes
    assert evicted(make(site(lending=BIDS), R, L, FULL, *RUNNING, borrower("7", comment))) == []


def test_a_bid_that_is_raised_after_the_loan_keeps_nobody_from_giving_way() -> None:
    runs = borrower("1", "bid=99").in_("physics.lend").on("n1")  # its user changed the comment
    waits = borrower("8", "bid=0.08")
    one = [reservation("physics", "n1"), reservation("physics.lend", "n1"), FULL, job("91").whole_nodes(1).on("n2")]
    of = site(spec("physics", "n1"), lending=Lending(frozenset({"preempt"}), bid=BidBy.COMMENT, displace=True))
    lent_for = {runs.job.key: Attached("physics.lend", NOW, bid=Decimal("0.05"))}
    assert evicted(make(of, *one, runs, waits)) == []
    assert evicted(make(of, *one, runs, waits, attached=lent_for)) == ["1"]
    lowered = borrower("1", "bid=0.01").in_("physics.lend").on("n1")
    assert View(of, cluster(FOUR, lowered), Memory(attached=lent_for)).bid(lowered.job) == Decimal("0.01")


def test_a_wide_bidder_displaces_as_many_as_it_needs() -> None:
    wide = borrower("7", "bid=1").whole_nodes(2)
    assert evicted(make(site(lending=DISPLACE), R, L, FULL, *RUNNING, wide)) == ["1", "2"]


def test_one_eviction_is_enough_while_its_node_is_being_freed() -> None:
    leaving = {RUNNING[0].job.key: Evicted(NOW, "bid of job 7 of bob", "physics")}
    seen = [R, L, FULL, *RUNNING, borrower("7", "bid=1")]
    assert evicted(make(site(lending=DISPLACE), *seen, evicted=leaving)) == []


def test_who_gives_way_is_told_first_where_there_is_a_notice() -> None:
    of_site = site(spec(notice=timedelta(seconds=30)), lending=DISPLACE)
    seen = [R, L, FULL, *RUNNING, borrower("7", "bid=1")]
    assert [a.job.id for a in make(of_site, *seen).actions if isinstance(a, NotifyJob)] == ["1"]
    told = {RUNNING[0].job.key: Notice(NOW - timedelta(seconds=31), NOW - timedelta(seconds=1), "bid of job 7 of bob")}
    assert evicted(make(of_site, *seen, notices=told)) == ["1"]


def test_nobody_gives_way_to_a_bidder_while_an_owner_is_about_to_use_the_nodes() -> None:
    hers = job("3").of("alice").whole_nodes(1)
    assert evicted(make(site(lending=DISPLACE), R, L, FULL, *RUNNING, borrower("7", "bid=1"), hers)) == ["1"]
    assert make(site(lending=DISPLACE), R, L, FULL, *RUNNING, borrower("7", "bid=1"), hers).victims[0].outbid_by is None


def test_one_that_did_not_start_where_it_was_sent_puts_nobody_out() -> None:
    bidder = borrower("7", "bid=1")
    before = {bidder.job.key: NOW - timedelta(seconds=1)}
    assert evicted(make(site(lending=DISPLACE), R, L, FULL, *RUNNING, bidder, not_before=before)) == []


def test_evictions_by_slurm_alone_are_for_owners_not_for_bids() -> None:
    of_site = site(spec(evict_by=EvictBy.SLURM), lending=DISPLACE)
    assert evicted(make(of_site, R, L, FULL, *RUNNING, borrower("7", "bid=1"))) == ["1"]


# Whose turn it is


def test_the_owners_own_borrowers_come_first_on_her_nodes_alone() -> None:
    chemistry = replace(spec("chemistry", "n3"), owner=spec().owner.__class__(users=frozenset({"dave"})))
    of_site = site(chemistry, spec("physics", "n1"))
    parts = [reservation("physics", "n1"), reservation("chemistry", "n3"), job("90").whole_nodes(2).on("n2", "n4")]
    waiting = [borrower("5"), borrower("6"), borrower("7", user="alice"), borrower("8", user="alice")]
    made = make(of_site, *parts, *waiting)
    assert {(loan.job.id, loan.reservation) for loan in made.loans} == {("7", "physics"), ("5", "chemistry")}


def test_tasks_of_an_owners_array_are_lent_to_once() -> None:
    own = borrower("7", user="alice").but(array_tasks=(1, 2, 3), id="7")
    assert lent(make(site(), R, FULL, own, borrower("5"))) == ["7_1", "7_2"]
    limited = borrower("7", user="alice").but(array_tasks=(1, 2, 3), array_limit=1)
    assert lent(make(site(), R, FULL, limited, borrower("8"))) == ["7_1", "8"]


def test_a_range_is_widened_with_what_nobody_else_was_lent() -> None:
    range_ = borrower("7").wanting(min_nodes=1, max_nodes=3)
    (loan,) = make(site(), R, FULL, range_).loans
    assert loan.nodes == {"n1", "n2"}
    assert {frozenset(each.nodes) for each in make(site(), R, FULL, range_, borrower("8")).loans} == {
        frozenset({"n1"}),
        frozenset({"n2"}),
    }
    (kept,) = make(site(spec(keep_idle_nodes=1)), R, FULL, range_).loans
    assert len(kept.nodes) == 1
    (capped,) = make(site(spec(max_nodes=1)), R, FULL, range_).loans
    assert len(capped.nodes) == 1


def test_caps_count_what_is_lent_already() -> None:
    capped = site(lending=Lending(frozenset({"preempt"}), max_nodes_per_user=1))
    made = make(
        capped, R, L, FULL, borrower("1").in_("physics.lend").on("n1"), borrower("7"), borrower("8", user="dave")
    )
    assert lent(made) == ["8"]
    assert "a user is lent 1 nodes at most" in made.not_lent["7"]


# Which nodes


def spells(**counts: int) -> tuple[int, ...]:
    """How often idle for less than a minute, and for more than a week."""
    return (counts.get("short", 0), *[0] * 10, counts.get("long", 0))


@pytest.mark.parametrize(
    ("remembered", "last", "first"),
    [
        ({}, False, "chemistry"),
        ({}, True, "physics"),
        ({"chemistry": spells(short=9)}, False, "physics"),
        ({"physics": spells(long=9)}, False, "physics"),
        ({"chemistry": spells(long=9), "physics": spells(short=9)}, True, "physics"),  # what is declared comes first
        ({"chemistry": spells(short=4)}, False, "chemistry"),  # too few to say anything
    ],
)
def test_what_is_likely_to_be_wanted_soon_is_lent_last(
    remembered: dict[str, tuple[int, ...]], last: bool, first: str
) -> None:
    chemistry = replace(spec("chemistry", "n1", last=last), owner=spec().owner.__class__(users=frozenset({"dave"})))
    of_site = site(chemistry, spec("physics", "n2"))
    parts = [reservation("chemistry", "n1"), reservation("physics", "n2"), FULL]
    (loan,) = make(of_site, *parts, borrower("7"), spells=remembered).loans
    assert loan.reservation == first


@given(st.lists(st.integers(0, 10**6), min_size=5, max_size=400), st.integers(0, 10**6))
def test_what_is_said_of_idle_times_lies_within_them(seconds: list[int], idle: int) -> None:
    counts = idleness.counted((), (timedelta(seconds=s) for s in seconds))
    assert sum(counts) <= idleness.MOST + len(seconds) // 2
    likely = idleness.likely_left(counts, timedelta(seconds=idle))
    assert likely is None or timedelta(0) <= likely <= 2 * idleness.ENDS[-1]


@given(st.integers(0, 10**6))
def test_the_longer_a_short_idler_has_been_idle_the_less_is_known(idle: int) -> None:
    assert idleness.likely_left(spells(short=100), timedelta(seconds=60 + idle)) is None


def test_a_short_job_goes_where_the_owner_is_likely_back_soon_and_a_long_one_where_not() -> None:
    chemistry = replace(spec("chemistry", "n2"), owner=spec().owner.__class__(users=frozenset({"dave"})))
    both = (reservation("physics", "n1"), reservation("chemistry", "n2"), FULL)
    of_site = site(chemistry, spec("physics", "n1"))
    soon, late = ([timedelta(minutes=minutes)] * 9 for minutes in (20, 2880))
    past = {"physics": idleness.counted((), soon), "chemistry": idleness.counted((), late)}
    for minutes, name in ((10, "physics"), (60, "chemistry"), (None, "chemistry")):
        waits = borrower("7").but(time_limit=timedelta(minutes=minutes) if minutes else None)
        (loan,) = make(of_site, *both, waits, spells=past).loans
        assert (minutes, loan.reservation) == (minutes, name)
    interactive = borrower("7").but(time_limit=timedelta(minutes=10), batch=False)  # it would be lost
    (loan,) = make(of_site, *both, interactive, spells=past).loans
    assert loan.reservation == "chemistry"


def test_a_node_that_is_lent_already_is_filled_before_another_is_opened() -> None:
    half = borrower("1").in_("physics.lend").wanting(exclusive=False, cpus=1, memory_per_node=1000).on("n1")
    past = {"physics": idleness.counted((), [timedelta(minutes=20)] * 9)}
    small = borrower("7").but(time_limit=timedelta(minutes=10)).wanting(exclusive=False, cpus=1, memory_per_node=1000)
    (loan,) = make(site(), R, reservation("physics.lend", "n1"), FULL, half, small, spells=past).loans
    assert loan.nodes == {"n1"}


def test_an_idle_time_is_counted_when_an_owners_job_ends_it() -> None:
    since = {"n1": NOW - timedelta(minutes=20), "n2": NOW - timedelta(minutes=20)}
    seen = cluster(FOUR, R, job("1").of("alice").whole_nodes(1).on("n1"), borrower("2").on("n2"))
    view = View(site(), seen, Memory(made=MADE, idle_since=since))
    assert idleness.over(view, [R], ["n2"]) == {"physics": [timedelta(minutes=20)]}


# What is expected


def hers(job_id: str = "7") -> JobBuilder:
    return job(job_id).of("alice").whole_nodes(1).in_("physics")


def begins(seconds: int) -> JobBuilder:
    return hers().waiting_for("BeginTime").but(eligible=NOW + timedelta(seconds=seconds))


LENT = [borrower("1").in_("physics.lend").on("n1"), borrower("2").in_("physics.lend").on("n2", for_minutes=30)]


def test_borrowers_go_in_time_for_an_owners_job_that_begins_soon() -> None:
    # poll 5 s, KillWait 5 s and slurmd's looks 3 s, epilog 2 s, pass 3 s
    assert evicted(make(site(), R, L, FULL, *LENT, begins(19))) == []
    made = make(site(), R, L, FULL, *LENT, begins(18))
    assert evicted(made) == ["1"]
    assert made.decisions[0].verdict is Verdict.EVICT
    assert made.waiting_since == {}  # Slurm is not late, for it may not start yet


def test_nobody_goes_for_one_that_begins_soon_and_fits_on_idle_nodes_which_are_kept_for_it() -> None:
    made = make(site(), R, L, FULL, LENT[0], begins(10), borrower("8"))
    assert (evicted(made), lent(made)) == ([], [])
    assert made.decisions[0].verdict is Verdict.AHEAD


@pytest.mark.parametrize(("limit", "ids"), [(timedelta(minutes=5), ["8"]), (timedelta(minutes=11), []), (None, [])])
def test_long_borrowers_are_not_started_into_what_is_expected(limit: timedelta | None, ids: list[str]) -> None:
    one = reservation("physics", "n1")
    made = make(
        site(spec("physics", "n1")),
        one,
        FULL,
        job("91").whole_nodes(1).on("n2"),
        begins(600),
        borrower("8").but(time_limit=limit),
    )
    assert lent(made) == ids


def test_what_begins_later_than_the_site_looks_ahead_keeps_nobody_off() -> None:
    assert lent(make(site(), R, FULL, begins(3600), borrower("8").but(time_limit=None))) == ["8"]
    assert lent(
        make(site(spec(look_ahead=timedelta(0))), R, FULL, begins(600), borrower("8").but(time_limit=None))
    ) == ["8"]


def after(other: str) -> JobBuilder:
    return hers().waiting_for("Dependency").but(eligible=None, dependency=f"afterok:{other}(unfulfilled)")


def test_a_job_that_comes_after_another_is_expected_at_its_end() -> None:
    first = job("5").of("alice").whole_nodes(1).but(ends=NOW + timedelta(seconds=10)).on("n3")
    made = make(site(), R, L, job("90").whole_nodes(1).on("n4"), first, *LENT, after("5"))
    assert evicted(made) == ["1"]
    later = first.but(ends=NOW + timedelta(hours=1))
    assert evicted(make(site(), R, L, job("90").whole_nodes(1).on("n4"), later, *LENT, after("5"))) == []
    waits = job("5").of("alice").whole_nodes(1).waiting_for("Licenses")
    assert evicted(make(site(), R, L, FULL, waits, *LENT, after("5"))) == []


def test_a_job_whose_predecessor_holds_her_own_node_needs_no_eviction() -> None:
    first = job("5").of("alice").whole_nodes(1).in_("physics").but(ends=NOW + timedelta(seconds=10)).on("n1")
    made = make(site(), R, L, FULL, first, LENT[1], after("5"))
    assert evicted(made) == []
    assert made.decisions[0].verdict is Verdict.AHEAD


def test_what_else_a_job_may_depend_on_tells_nothing() -> None:
    for dependency in (
        "singleton(unfulfilled)",
        "after:5(unfulfilled)",
        "afterok:5(unfulfilled)?afterok:6(unfulfilled)",
    ):
        odd = hers().waiting_for("Dependency").but(eligible=None, dependency=dependency)
        assert evicted(make(site(), R, L, FULL, *LENT, odd)) == []


@pytest.mark.parametrize("limit", [1, 0])  # 23.11 and later do not say it
def test_the_next_task_of_an_owners_array_comes_when_one_has_ended(limit: int) -> None:
    def ends_in(seconds: int) -> JobBuilder:
        task = job("7_1").of("alice").whole_nodes(1).but(job_id=7, ends=NOW + timedelta(seconds=seconds))
        return task.on("n3")

    rest = hers().waiting_for("JobArrayTaskLimit").but(array_tasks=(2, 3), array_limit=limit, eligible=None)
    seen = [R, L, job("90").whole_nodes(1).on("n4"), *LENT, rest]
    assert evicted(make(site(), *seen, ends_in(10))) == ["1"]
    assert evicted(make(site(), *seen, ends_in(3600))) == []


@pytest.mark.parametrize("limit", [1, 0])
def test_the_next_task_of_an_owners_array_has_its_node_kept(limit: int) -> None:
    rest = hers().waiting_for("JobArrayTaskLimit").but(array_tasks=(2, 3), array_limit=limit, eligible=None)
    one = reservation("physics", "n1")
    seen = [one, FULL, job("91").whole_nodes(1).on("n2"), rest, borrower("8")]
    made = make(site(spec("physics", "n1")), *seen)
    assert lent(made) == []
    assert made.decisions[0].verdict is Verdict.AHEAD


# Whose time is over


def ends(**keys: object) -> Site:
    return site(lending=Lending(frozenset({"preempt"}), expires_in_comment=True, **keys))  # type: ignore[arg-type]  # as named


def ended(made: Plan) -> list[str]:
    return [action.job.id for action in made.actions if isinstance(action, ExpireJob)]


def test_a_borrower_ends_when_all_its_runs_together_were_long_enough() -> None:
    runs = borrower("1", "run_time=30m").in_("physics.lend").on("n1", for_minutes=10)
    fresh = make(ends(), R, L, FULL, runs)
    assert ended(fresh) == []
    assert fresh.tallies == {"1": Tally("bob", timedelta(0), NOW - timedelta(minutes=10))}
    before = {"1": Tally("bob", timedelta(minutes=20), NOW - timedelta(minutes=10))}
    made = make(ends(), R, L, FULL, runs, tallies=before)
    assert ended(made) == ["1"]
    assert "30m in all" in next(a.reason for a in made.actions if isinstance(a, ExpireJob))
    assert ended(make(ends(max_run_time=timedelta(minutes=9)), R, L, FULL, runs)) == ["1"]
    assert ended(make(site(), R, L, FULL, runs, tallies=before)) == []  # the site does not go by comments


def test_when_the_next_one_will_be_over_is_known() -> None:
    runs = borrower("1", "run_time=11m").in_("physics.lend").on("n1", for_minutes=10)
    assert make(ends(), R, L, FULL, runs).wake_at == NOW + timedelta(minutes=1)


def test_another_users_job_of_the_same_number_begins_at_nothing() -> None:
    before = {"1": Tally("dave", timedelta(hours=20), None)}
    assert ended(make(ends(), R, FULL, borrower("1", "run_time=30m"), tallies=before)) == []


@pytest.mark.parametrize("when", ["2030-05-06T12:00Z", "2020-01-01T00:00+02:00"])
def test_a_borrower_whose_time_has_come_is_ended_and_not_lent_to(when: str) -> None:
    made = make(ends(), R, FULL, borrower("7", f"expires={when}"), job("8").of("carol").but(comment=f"expires={when}"))
    assert (ended(made), lent(made)) == (["7"], [])


def test_nothing_ends_for_good_in_shadow_mode() -> None:
    shadow = replace(ends(), mode=plan.Mode.SHADOW)
    assert ended(make(shadow, R, FULL, borrower("7", "expires=2020-01-01T00:00Z"))) == []


RUNS = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1, max_size=6)


@given(RUNS, st.lists(st.floats(0, 1), max_size=20))
def test_run_times_are_added_up_whenever_the_daemon_looks(runs: list[tuple[int, int]], looks: Iterable[float]) -> None:
    """Seconds of each run, and of the wait before it. Exact, as long as every run is seen once, and every wait."""
    clock, edges, truth = 0, [], 0
    for wait, length in runs:
        edges.append((clock + wait, clock + wait + length))
        clock, truth = clock + wait + length, truth + length
    times = sorted({int(clock * look) for look in looks} | {t for edge in edges for t in edge} | {clock + 1})
    known: dict[str, Tally] = {}
    for at in times:
        restarts = sum(end <= at for _, end in edges)
        built = borrower("1", "run_time=9d").but(restarts=restarts)
        current = next((edge for edge in edges if edge[0] <= at < edge[1]), None)
        last_end = max((end for _, end in edges if end <= at), default=-1)
        built = built.but(submitted=NOW + timedelta(seconds=last_end))
        if current:
            built = built.on("n1").but(started=NOW + timedelta(seconds=current[0]))
        seen = cluster(FOUR, R, built, at=NOW + timedelta(seconds=at))
        known = dict(expiry.tallies(View(ends(), seen, Memory(tallies=known))))
    assert known["1"].total == timedelta(seconds=truth)


def test_an_order_for_one_reservation_reaches_no_node_of_another() -> None:
    two = site(spec("physics", "n1"), spec("chemistry", "n2"))
    parts = [reservation("physics", "n1"), reservation("chemistry", "n2"), reservation("chemistry.lend", "n2")]
    runs = borrower("1").in_("chemistry.lend").on("n2")
    order = ReclaimOrder(frozenset({"n2"}), NOW + timedelta(hours=1), "alice")
    made = make(two, *parts, FULL, runs, orders=Orders(reclaim={"physics": order}))
    assert evicted(made) == []
    assert evicted(make(two, *parts, FULL, runs, orders=Orders(reclaim={"chemistry": order}))) == ["1"]


def test_orders_for_different_nodes_of_one_reservation_all_hold() -> None:
    of_site = site(spec("physics", "n1", "n2", "n3"))
    parts = [reservation("physics", "n1", "n2", "n3"), reservation("physics.lend", "n1", "n2", "n3")]
    run = [borrower(number).in_("physics.lend").on(f"n{number}") for number in ("1", "2", "3")]
    soon, over = NOW + timedelta(hours=1), NOW - timedelta(hours=1)
    orders = {
        "physics n1": ReclaimOrder(frozenset({"n1"}), soon),
        "physics n2": ReclaimOrder(frozenset({"n2"}), soon, "alice"),
        "physics": ReclaimOrder(frozenset(), over),
    }
    assert sorted(evicted(make(of_site, *parts, *run, orders=Orders(reclaim=orders)))) == ["1", "2"]
