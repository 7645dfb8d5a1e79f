"""How often Slurm is asked: reserves, the interval that follows the cost, looks in quick succession."""

from __future__ import annotations

import pytest
from slurm_reserve.pace import AHEAD, BURST, LOOKS, MEASURES, Looks, Pace, Reserve


def pace(calls: int = 7, cost: float = 0.0, limit: float = 2.0, poll: float = 5.0) -> Pace:
    """Half an hour of cycles of so many calls each, at so many seconds of slurmctld's time each."""
    found = Pace(poll, limit)
    now = spent = 0.0
    for _ in range(360):
        found.spend(calls, now)
        spent += calls * cost
        if found.is_to_measure(now):
            found.measured(spent, now)
        now += found.interval
    return found


def test_a_reserve_lets_a_burst_through_and_then_no_more_than_its_rate() -> None:
    reserve = Reserve(2.0)
    reserve.spend(2 * BURST, 100.0)
    assert reserve.wait(100.0) == 0.0
    reserve.spend(10, 100.0)
    assert reserve.wait(100.0) == 5.0
    assert reserve.wait(103.0) == 2.0
    assert reserve.wait(200.0) == 0.0
    assert reserve.left(10_000.0) == 2 * BURST


def test_the_declared_interval_holds_while_it_costs_little() -> None:
    assert pace().interval == 5.0


def test_the_interval_grows_with_the_calls_of_a_cycle() -> None:
    assert 14.2 < pace(calls=20).interval < 14.4  # 20 calls, of which 1.4 a second


def test_slurmctld_spends_no_more_than_two_percent_of_a_core_on_it() -> None:
    found = pace(calls=7, cost=0.1)  # as with many jobs: 0.7 s for one look
    assert found.cost == pytest.approx(0.7)
    assert 0.7 / found.interval <= 0.02
    assert found.load.share_of_core <= 0.021
    assert found.wait(1e9) == 0.0


def test_a_slurmctld_that_counts_anew_is_measured_anew() -> None:
    found = pace(cost=0.01)
    found.measured(0.0, 1e6)
    assert found.cost == pytest.approx(0.07)
    found.spend(7, 1e6)
    found.measured(0.5, 1e6 + 10)
    assert found.cost == pytest.approx(0.5)


def test_what_a_call_waits_for_locks_is_not_what_it_costs() -> None:
    found, now, spent = Pace(5.0, 2.0), 0.0, 0.0
    for number in range(60):
        found.spend(4, now)
        spent += 0.08 + (0.0 if number % 5 == 4 else 1.5)  # a pass holds the locks four times out of five
        found.measured(spent, now)
        now += 10.0
    assert found.cost == pytest.approx(0.08)
    assert found.interval == pytest.approx(0.08 / 0.014)
    assert found.load.share_of_core == pytest.approx(0.008)
    for _ in range(MEASURES):
        found.spend(4, now)
        spent += 0.8  # the queue has grown
        found.measured(spent, now)
        now += 10.0
    assert found.cost == pytest.approx(0.8)


def test_an_owner_does_not_wait_for_what_a_long_queue_has_cost() -> None:
    found = pace(calls=7, cost=0.3)  # 2.1 s for one look
    found.spend(7, 1e6)
    found.spend(7, 1e6)
    assert found.wait(1e6) > 60.0
    assert found.wait_for_owner(1e6) == 0.0


def test_what_is_spent_on_others_leaves_half_to_owners() -> None:
    found = Pace(5.0, 2.0)
    assert found.has_plenty(0.0)
    found.spend(61, 0.0, is_cycle=False)
    assert not found.has_plenty(0.0)
    assert found.wait(0.0) == 0.0
    assert found.has_plenty(2.0)


def test_a_submission_is_looked_for_several_times_and_then_left_to_polling() -> None:
    looks, alice = Looks(), frozenset({"alice"})
    looks.add(alice, 10.0)
    made = []
    while (at := looks.next_at()) is not None:
        assert looks.due(at - 0.001) == frozenset()
        assert looks.due(at) == alice
        made.append(at - 10.0)
        looks.seen_nothing(alice)
    assert [round(at, 3) for at in made] == list(LOOKS)


def test_what_was_found_is_no_longer_looked_for() -> None:
    looks = Looks()
    looks.add(frozenset({"alice", "dave"}), 10.0)
    looks.done(frozenset({"alice", "stranger"}))
    assert looks.due(11.0) == {"dave"}


def test_an_owner_may_spend_in_advance_and_polls_make_up_for_it() -> None:
    found = Pace(5.0, 2.0)
    found.spend(2 * BURST + 2 * AHEAD, 0.0, is_cycle=False)
    assert found.wait_for_owner(0.0) == 0.0
    assert found.wait(0.0) == AHEAD
    found.spend(2, 0.0, is_cycle=False)
    assert found.wait_for_owner(0.0) == 1.0


def test_cycles_that_failed_make_the_others_no_cheaper() -> None:
    found = Pace(5.0, 2.0)
    for number in range(3):
        found.spend(4, 10.0 * number)
        found.measured(0.8 * (number + 1), 10.0 * number)
    for number in range(100):
        found.spend(1, 30.0 + number)
        found.broke_off()
    for number in range(2):
        found.spend(4, 140.0 + 10 * number)
        found.measured(2.4 + 0.8 * (number + 1), 140.0 + 10 * number)
    assert found.cost == pytest.approx(0.8)
