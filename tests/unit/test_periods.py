"""Windows of a reservation and of lending: what is made in Slurm, when borrowers go, what becomes of owners' jobs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from slurm_reserve import codec, demand, periods, plan, windows
from slurm_reserve.actions import (
    AttachJob,
    CreateReservation,
    DeleteReservation,
    DetachJob,
    EvictJob,
    RequeueJob,
    UpdateReservation,
)
from slurm_reserve.memory import LendOrder, Memory, Orders
from slurm_reserve.model import Reservation
from slurm_reserve.periods import Period
from slurm_reserve.site import AtEnd, LendPolicy, ReservationSpec

from tests.builders import NOW, cluster, job, nodes, reservation, site, spec, view

FOUR = nodes("n1", "n2", "n3", "n4")
LEAD = timedelta(seconds=5 + 2 + 3 * 5 + 3)  # KillWait, epilog, three looks, a pass


def window(begin: timedelta, end: timedelta) -> windows.Window:
    """A daily window around noon, which is now."""
    return windows.parse(f"{NOW + begin:%H:%M:%S}-{NOW + end:%H:%M:%S} UTC")


def hours(begin: float, end: float) -> tuple[windows.Window, ...]:
    return (window(timedelta(hours=begin), timedelta(hours=end)),)


def at(hours_: float) -> datetime:
    return NOW + timedelta(hours=hours_)


def physics(begin: float, end: float, **changes: object) -> ReservationSpec:
    return replace(spec("physics", "n1", "n2"), windows=hours(begin, end), **changes)  # type: ignore[arg-type]


def in_slurm(begin: float, end: float) -> Reservation:
    return reservation("physics", "n1", "n2", start=at(begin), end=at(end), is_active=begin <= 0 < end)


def test_a_period_is_the_window_that_holds_or_the_next_one_within_start_and_end() -> None:
    assert periods.of(physics(-2, 3), NOW) == Period(at(-2), at(3))
    assert periods.of(physics(1, 3), NOW) == Period(at(1), at(3))
    assert periods.of(physics(-3, -1), NOW) == Period(at(21), at(23))
    assert periods.of(replace(physics(-2, 3), start=at(-1), end=at(2)), NOW) == Period(at(-1), at(2))
    assert periods.of(replace(physics(-3, -1), end=at(5)), NOW) is None
    assert periods.of(spec(end=at(-1)), NOW) is None
    assert periods.of(spec(), NOW) == Period(NOW, None)


def test_the_reservation_is_made_ahead_of_its_window_for_that_window_alone() -> None:
    made = plan.make(view(site(physics(1, 3)), cluster(FOUR), Memory())).actions
    assert [(a.start, a.end) for a in made if isinstance(a, CreateReservation)] == [(at(1), at(3))]
    within = plan.make(view(site(physics(-1, 3)), cluster(FOUR), Memory())).actions
    assert [(a.start, a.end) for a in within if isinstance(a, CreateReservation)] == [(None, at(3))]
    assert not plan.make(view(site(physics(1, 3)), cluster(FOUR, in_slurm(1, 3)))).actions


def test_two_reservations_may_take_turns_on_the_same_nodes() -> None:
    day, night = physics(-6, 6), replace(physics(6, -6), name="night")
    made = plan.make(view(site(day, night), cluster(FOUR, in_slurm(-6, 6)), Memory(made={"physics": NOW})))
    assert not made.unmet
    assert [(a.name, a.start, a.end) for a in made.actions if isinstance(a, CreateReservation)] == [
        ("night", at(6), at(18))
    ]


def test_a_window_that_was_moved_moves_what_has_not_begun_and_retires_what_has() -> None:
    moved = plan.make(view(site(physics(2, 4)), cluster(FOUR, in_slurm(1, 3)))).actions
    assert [(a.start, a.end) for a in moved if isinstance(a, UpdateReservation)] == [(at(2), at(4))]
    over = plan.make(view(site(physics(2, 4)), cluster(FOUR, in_slurm(-1, 3)))).actions
    assert [type(a) for a in over] == [DeleteReservation]


def test_an_admin_who_deletes_it_in_a_window_has_it_back_twice_and_each_window_anew() -> None:
    memory = Memory(made={"physics": NOW})
    made = plan.make(view(site(physics(-1, 3)), cluster(FOUR), memory)).actions
    assert isinstance(made[0], CreateReservation)
    assert made[0].corrections[0].count == 0


def test_borrowers_leave_in_time_before_a_window_ends_and_no_sooner() -> None:
    lent = (reservation("physics.lend", "n1"), job("7").borrower().on("n1").in_("physics.lend"))
    for left, goes in ((LEAD - timedelta(seconds=1), True), (LEAD + timedelta(seconds=1), False)):
        there = replace(in_slurm(-1, 1), end=NOW + left)
        ends = (window(timedelta(hours=-1), left),)
        made = plan.make(view(site(replace(spec(), windows=ends)), cluster(FOUR, there, *lent)))
        assert any(isinstance(a, EvictJob) for a in made.actions) is goes


def test_outside_the_windows_of_lending_nothing_is_lent_and_borrowers_go_in_time() -> None:
    def lending(begin: timedelta, end: timedelta) -> ReservationSpec:
        return replace(spec(), lend=LendPolicy(windows=(window(begin, end),)))

    def why(declared: ReservationSpec, memory: Memory | None = None) -> str:
        return demand.why_not_lending(view(site(declared), cluster(FOUR), memory), declared)

    hour = timedelta(hours=1)
    assert not why(lending(-hour, hour))
    assert "outside its windows of lending; again from" in why(lending(hour, 2 * hour))
    assert "its window of lending ends" in why(lending(-hour, LEAD - timedelta(seconds=1)))
    assert not why(lending(-hour, LEAD + timedelta(seconds=1)))
    ordered = Memory(orders=Orders(lend={"physics": LendOrder(enabled=True)}))
    assert not why(lending(hour, 2 * hour), ordered)  # an order stands against it


def test_an_owners_running_job_is_treated_as_declared_at_the_end() -> None:
    runs = job("5").of("alice").on("n1").in_("physics")
    short = job("6").of("alice").on("n2").in_("physics").but(ends=NOW + timedelta(seconds=5))
    soon = (window(timedelta(hours=-1), LEAD - timedelta(seconds=8)),)

    def done(how: AtEnd, of: tuple[windows.Window, ...], end: datetime) -> list[type]:
        declared = replace(spec(), windows=of, at_end=how)
        seen = cluster(FOUR, replace(in_slurm(-1, 1), end=end), runs, short)
        made = plan.make(view(site(declared), seen))
        about = "may take longer" in made.reports.get("job 5", "")
        assert about is (how is not AtEnd.KEEP)
        assert "job 6" not in made.reports
        return [type(a) for a in made.actions]

    assert done(AtEnd.CANCEL, hours(-1, 1), at(1)) == []
    assert done(AtEnd.KEEP, hours(-1, 1), at(1)) == [DetachJob]  # at once: the daemon need not be there at the end
    assert done(AtEnd.REQUEUE, hours(-1, 1), at(1)) == []
    assert done(AtEnd.REQUEUE, soon, NOW + LEAD - timedelta(seconds=8)) == [RequeueJob]
    assert done(AtEnd.CANCEL, soon, NOW + LEAD - timedelta(seconds=8)) == []


def test_a_job_that_names_nothing_is_not_sent_where_it_would_be_ended() -> None:
    full = [job(str(n)).on(f"n{n}").wanting(exclusive=True) for n in (3, 4)]
    for how, minutes, is_sent in (
        (AtEnd.CANCEL, 50, True), (AtEnd.CANCEL, 70, False), (AtEnd.KEEP, 70, True), (AtEnd.REQUEUE, 70, True),
    ):  # fmt: skip
        owners = job("9").of("alice").but(time_limit=timedelta(minutes=minutes))
        made = plan.make(view(site(physics(-1, 1, at_end=how)), cluster(FOUR, in_slurm(-1, 1), *full, owners)))
        assert any(isinstance(a, AttachJob) for a in made.actions) is is_sent
        if not is_sent:
            assert "name it to start it anyhow" in made.decisions[0].why


def test_where_it_stands_is_told() -> None:
    assert "in its window until 2030-05-06 15:00:00" in periods.describe(physics(-1, 3), NOW)
    assert "next window from 2030-05-06 13:00:00" in periods.describe(physics(1, 3), NOW)
    assert periods.describe(spec(), NOW) == ""


def test_one_that_has_ended_and_is_still_there_is_not_moved_to_the_next_window() -> None:
    ended = replace(in_slurm(-3, -1), is_active=False)  # so Slurm prints it for a moment, while its jobs are killed
    made = plan.make(view(site(physics(-3, -1)), cluster(FOUR, ended))).actions
    assert [type(a) for a in made] == [DeleteReservation]


def test_nobody_is_sent_to_a_reservation_that_is_not_in_force_nor_told_of_its_end() -> None:
    full = [job(str(n)).on(f"n{n}").wanting(exclusive=True) for n in (3, 4)]
    named, plain = job("8").of("alice").in_("physics").but(time_limit=None), job("9").of("alice")
    made = plan.make(view(site(physics(1, 3)), cluster(FOUR, in_slurm(1, 3), *full, named, plain)))
    assert not made.actions
    assert not made.reports


def test_a_reservation_with_windows_can_be_written_down_and_read_again() -> None:
    declared = physics(1, 3, lend=LendPolicy(windows=hours(-3, 2)))
    assert codec.decode(ReservationSpec, codec.encode(declared)) == declared
