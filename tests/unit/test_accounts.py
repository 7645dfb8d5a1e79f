"""Node-seconds by hand: who owned, used, lent and lost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve.accounts import Ran, length, merged, minus, statement, within
from slurm_reserve.facts import LoanFact, Use, UseFact
from slurm_reserve.gaps import idleness

from tests.builders import NOW

HOUR = timedelta(hours=1)
SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


def loan(
    job: str, *nodes: str, begin: float, end: float | None, cause: str = "ended by itself", bid: str = ""
) -> LoanFact:
    ended = None if end is None else NOW + end * HOUR
    started = NOW + begin * HOUR
    return LoanFact(job, NOW, 0, "bob", "physics", frozenset(nodes), "", bid, started, started, ended, cause)


def use(at: float, what: Use, *nodes: str) -> UseFact:
    return UseFact(NOW + at * HOUR, "physics", frozenset(nodes), what)


def ran(job: str, node: str, begin: float, end: float, is_borrower: bool = False, state: str = "COMPLETED") -> Ran:
    who = "bob" if is_borrower else "alice"
    return Ran(job, who, frozenset({node}), NOW + begin * HOUR, NOW + end * HOUR, state, is_borrower)


def test_a_nodes_time_is_cut_into_owner_lent_down_and_idle() -> None:
    uses = [use(0, Use.IDLE, "n1", "n2"), use(8, Use.DOWN, "n2")]
    runs = [ran("1", "n1", 1, 3), ran("2", "n1", 2, 4), ran("7", "n1", 4, 6, True), ran("8", "n2", 0, 2, True)]
    made = statement(uses, [loan("7", "n1", begin=4, end=6.01)], runs, NOW, NOW + 10 * HOUR, Decimal(2))
    (physics,) = made.reservations
    hours = [seconds / 3600 for seconds in (physics.owned, physics.used, physics.lent, physics.down, physics.idle)]
    assert hours == [20, 3, 4, 2, 11]
    assert physics.loans == 2  # also the one that nobody saw
    assert physics.credit == Decimal(8)
    assert made.source == "Slurm's database"


def test_a_borrower_loses_what_was_ended_for_others() -> None:
    loans = [
        loan("7", "n1", "n2", begin=0, end=2, cause="evicted for job 9 of alice", bid="0.5"),
        loan("8", "n1", begin=3, end=4),
        loan("9", "n2", begin=3, end=None, cause=""),
    ]
    made = statement([use(0, Use.IDLE, "n1", "n2")], loans, None, NOW, NOW + 5 * HOUR, Decimal(1))
    (bob,) = made.borrowers
    assert (bob.received / 3600, bob.lost / 3600, bob.loans, bob.evictions) == (7, 4, 3, 1)
    assert made.reservations[0].credit == Decimal(5)  # two nodes, two hours at a half; three at the site's rate
    assert made.source == "what the daemon saw"


def test_what_lies_outside_the_period_does_not_count() -> None:
    uses = [use(-5, Use.IDLE, "n1"), use(2, Use.GONE, "n1")]
    made = statement(uses, [loan("7", "n1", begin=-2, end=1)], None, NOW, NOW + 4 * HOUR, Decimal(1))
    (physics,) = made.reservations
    assert (physics.owned, physics.lent, physics.idle) == (7200, 3600, 3600)
    assert made.loans[0].node_seconds == 3600


@given(SPANS, SPANS)
def test_what_is_taken_away_and_what_is_left_make_the_whole(
    some: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    one, two = merged(some), merged(others)
    seconds = {at for a, b in one for at in range(a, b)}
    taken = {at for a, b in two for at in range(a, b)}
    assert length(minus(one, two)) == len(seconds - taken)
    assert length(within(one, two)) == len(seconds & taken)
    assert length(merged([*one, *two])) == len(seconds | taken)


def test_gaps_are_sorted_by_what_a_job_could_have_used() -> None:
    found = idleness("r", [("n1", (0, 10_000)), ("n2", (0, 300))], [("n1", (4_000, 5_000)), ("n9", (0, 9))], (0, 9_000))
    assert (found.nodes, found.reserved, found.used, found.idle) == (2, 9300, 1000, 8300)
    assert [(words, count) for words, count, _ in found.gaps if count] == [("up to 10 min", 1), ("up to 4 h", 2)]
