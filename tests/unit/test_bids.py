"""What a comment says, and what it only seems to say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve import bids
from slurm_reserve.site import BidBy, Lending

from tests.builders import job


@pytest.mark.parametrize(
    ("comment", "bid"),
    [
        ("bid=0.08", "0.08"),
        ("for my thesis; bid=12", "12"),
        ("bid=0.08,expires=2030-01-01T00:00Z", "0.08"),
        ("bid=000001.500000", "1.5"),
        ("", "0"),
        ("mybid=7", "0"),
        ("bid=7bid=8", "0"),
        ("bid=7 bid=8", "0"),
        ("bid=-1", "0"),
        ("bid=1e9", "0"),
        ("bid=NaN", "0"),
        ("bid=٣", "0"),
        ("bid=1234567", "0"),
        ("bid=0.1234567", "0"),
        ("bid=0.08x", "0"),
        ("bid = 3", "0"),
    ],
)
def test_a_bid_is_exactly_one_well_formed_word(comment: str, bid: str) -> None:
    assert bids.bid_in(comment) == Decimal(bid)


def test_an_expiry_needs_a_zone() -> None:
    assert bids.expires_in("expires=2030-01-31T18:00+01:00") == datetime(2030, 1, 31, 17, 0, tzinfo=UTC)
    assert bids.expires_in("expires=2030-01-31T18:00Z") == datetime(2030, 1, 31, 18, 0, tzinfo=UTC)
    assert bids.expires_in("expires=2030-01-31T18:00") is None
    assert bids.expires_in("expires=tomorrow") is None


def test_a_run_time_has_a_unit() -> None:
    assert bids.run_time_in("run_time=90m bid=1") == timedelta(minutes=90)
    assert bids.run_time_in("run_time=90") is None
    assert bids.run_time_in("run_time=2h run_time=3h") is None


@given(st.text() | st.from_regex(r"(bid|expires|run_time)=.{0,20}"))
def test_nothing_that_is_written_does_any_harm(comment: str) -> None:
    assert 0 <= bids.bid_in(comment) < 1_000_000
    expires = bids.expires_in(comment)
    assert expires is None or expires.tzinfo is not None
    assert (bids.run_time_in(comment) or timedelta(0)) >= timedelta(0)


def test_each_site_chooses_where_bids_stand() -> None:
    bidder = job("7").borrower().but(qos="high", nice=-5, comment="bid=500").job
    assert bids.bid(Lending(), bidder) == 0
    assert bids.bid(Lending(bid=BidBy.QOS, bids={"high": Decimal("0.1")}), bidder) == Decimal("0.1")
    assert bids.bid(Lending(bid=BidBy.NICE), bidder) == 5
    assert bids.bid(Lending(bid=BidBy.COMMENT), bidder) == 100  # the most that counts
    assert bids.bid(Lending(bid=BidBy.COMMENT, max_bid=Decimal(1000)), bidder) == 500


@given(st.lists(st.tuples(st.sampled_from(["", "bid=1", "bid=2"]), st.integers(0, 3)), max_size=8))
def test_the_order_is_by_bid_then_priority_then_submission(said: list[tuple[str, int]]) -> None:
    lending = Lending(bid=BidBy.COMMENT)
    some = [
        job(str(n + 1)).borrower().seconds_old(100 - n).but(comment=comment, priority=priority).job
        for n, (comment, priority) in enumerate(said)
    ]
    keys = [
        (-bids.bid(lending, j), -j.priority, j.submitted) for j in sorted(some, key=lambda j: bids.by_bid(lending, j))
    ]
    assert keys == sorted(keys)
