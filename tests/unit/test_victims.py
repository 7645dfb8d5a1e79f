"""Who goes: what each of the site's words means, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slurm_reserve import bids, victims
from slurm_reserve.memory import Pain
from slurm_reserve.model import Job, JobKey
from slurm_reserve.site import BidBy, Lending, Victims
from slurm_reserve.victims import RATES, Look

from tests.builders import NOW, job


def by_comment(each: Job) -> Decimal:
    return bids.bid(Lending(bid=BidBy.COMMENT), each)


def on(job_id: str, *nodes: str, minutes: float, cpus: int = 1, bid: str = "", user: str = "bob") -> Job:
    return job(job_id).borrower().but(user=user, comment=bid).wanting(cpus=cpus).on(*nodes, for_minutes=minutes).job


def frees(some: list[Job], count: int) -> victims.Fits:
    """The owner's job needs so many whole nodes."""

    def fits(gone: frozenset[JobKey]) -> bool:
        nodes = {node for each in some for node in each.nodes}
        return sum(all(each.key in gone for each in some if node in each.nodes) for node in nodes) >= count

    return fits


def ids(chosen: tuple[Job, ...] | None) -> set[str]:
    return {each.id for each in chosen or ()}


OLD = on("1", "n1", minutes=60, bid="bid=0.05", user="dave")
YOUNG = on("2", "n2", minutes=1, bid="bid=0.08")
WIDE = on("3", "n3", "n4", minutes=2, cpus=8, bid="bid=0.06")
BUSY = on("4", "n5", minutes=5, cpus=64, bid="bid=0.05")
ALL = [OLD, YOUNG, WIDE, BUSY]


@pytest.mark.parametrize(
    ("order", "victim"),
    [
        (Victims.LEAST_LOSS, "1"),  # the lowest bid, and of these what loses less
        (Victims.YOUNGEST, "2"),
        (Victims.LOWEST_BID, "1"),
        (Victims.FEWEST_JOBS, "1"),
        (Victims.FEWEST_NODES, "1"),
    ],
)
def test_each_order_has_its_victim(order: Victims, victim: str) -> None:
    assert ids(victims.choose(ALL, frees(ALL, 1), Look(NOW, bid=by_comment), RATES[order])) == {victim}


def test_without_bids_the_least_lost_work_goes_first() -> None:
    assert ids(victims.choose(ALL, frees(ALL, 1), Look(NOW))) == {"2"}


def test_work_that_was_saved_is_not_lost() -> None:
    jobs = [
        replace(job, comment=f"bid=1 saved={NOW - timedelta(seconds=5):%FT%TZ}") if job is OLD else job for job in ALL
    ]
    assert ids(victims.choose(jobs, frees(jobs, 1), Look(NOW))) == {"1"}
    nonsense = [replace(job, comment="saved=soon saved=now") if job is OLD else job for job in ALL]
    assert ids(victims.choose(nonsense, frees(nonsense, 1), Look(NOW))) != {"1"}


def test_pain_is_spread_over_users() -> None:
    look = Look(NOW, pains={"bob": Pain(timedelta(hours=9), NOW - timedelta(days=1))})
    assert ids(victims.choose(ALL, frees(ALL, 1), look, RATES[Victims.SPREAD])) == {"1"}
    long_ago = Look(NOW, pains={"bob": Pain(timedelta(hours=9), NOW - timedelta(days=30))})
    assert ids(victims.choose(ALL, frees(ALL, 1), long_ago, RATES[Victims.SPREAD])) == {"2"}


def test_a_wide_job_goes_alone_where_as_few_as_possible_are_to_go() -> None:
    assert ids(victims.choose(ALL, frees(ALL, 2), Look(NOW), RATES[Victims.FEWEST_JOBS])) == {"3"}
    assert ids(victims.choose(ALL, frees(ALL, 2), Look(NOW, bid=by_comment), RATES[Victims.LOWEST_BID])) == {"1", "4"}


def test_every_word_of_the_site_has_its_order() -> None:
    assert set(RATES) == set(Victims)


@st.composite
def lent(draw: st.DrawFn) -> list[Job]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        nodes = draw(st.frozensets(st.sampled_from(["n1", "n2", "n3", "n4"]), min_size=1, max_size=2))
        bid = draw(st.sampled_from(["", "bid=1", "bid=2"]))
        found.append(on(str(number), *nodes, minutes=draw(st.integers(0, 300)), cpus=draw(st.integers(1, 4)), bid=bid))
    return found


@settings(deadline=None)
@given(lent(), st.integers(1, 3), st.sampled_from(Victims))
def test_whoever_goes_is_needed_and_is_enough(some: list[Job], count: int, order: Victims) -> None:
    fits = frees(some, count)
    chosen = victims.choose(some, fits, Look(NOW, bid=by_comment), RATES[order])
    if chosen is None:
        assert not fits(frozenset(each.key for each in some))
        return
    keys = frozenset(each.key for each in chosen)
    assert fits(keys)
    assert not any(fits(keys - {key}) for key in keys)


@settings(deadline=None)
@given(lent())
def test_the_highest_bid_that_goes_for_one_node_is_the_lowest_possible(some: list[Job]) -> None:
    chosen = victims.choose(some, frees(some, 1), Look(NOW, bid=by_comment))
    assert chosen is not None
    look = Look(NOW, bid=by_comment)
    possible = [
        max(map(look.bid, each))
        for size in range(1, len(some) + 1)
        for each in combinations(some, size)
        if frees(some, 1)(frozenset(j.key for j in each))
    ]
    assert max(map(look.bid, chosen), default=Decimal(0)) == min(possible)
