"""The chain of each borrowed interval, put together from a journal of any length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from slurm_reserve.evidence.explain import chains
from slurm_reserve.evidence.reading import Recorded
from slurm_reserve.facts import LoanFact, WaitFact
from slurm_reserve.journal import Entry

from tests.builders import NOW

MINUTE = timedelta(minutes=1)


def entry(number: int, minutes: float, kind: str, text: str, job: str = "", **data: Any) -> Recorded:
    return Recorded(number, Entry(NOW + minutes * MINUTE, kind, text, "physics", job, json.dumps(data)), number)


def loan(job: str, minutes: float, node: str, cause: str) -> LoanFact:
    at = NOW + minutes * MINUTE
    nodes = frozenset({node})
    return LoanFact(
        job, at, 0, "bob", "physics", nodes, lent_at=at, started=at + MINUTE, ended=at + 3 * MINUTE, cause=cause
    )


def wait(job: str, user: str, minutes: float | None) -> WaitFact:
    return WaitFact(job, NOW, 0, user, "physics", NOW, started=None if minutes is None else NOW + minutes * MINUTE)


CREATED = {"action": "CreateReservation"}


def test_each_loan_has_what_was_so_when_it_began_and_nothing_of_others() -> None:
    entries = [
        entry(1, 0, "decision", "make physics", name="physics", **CREATED),
        entry(2, 0, "outcome", "physics is made", name="physics", **CREATED),
        entry(3, 1, "decision", "make bio", name="bio", **CREATED),
        entry(4, 2, "idle", "n1 is idle, long ago", node="n1"),
        entry(5, 8, "idle", "n1 is idle", node="n1"),
        entry(6, 8, "idle", "n2 is idle", node="n2"),
        entry(7, 10, "decision", "lend n1 to 7", "7"),
        entry(8, 13, "decision", "requeue job 7", "7"),
        entry(9, 20, "decision", "make physics again", name="physics", **CREATED),
        entry(10, 20, "idle", "n1 is idle later", node="n1"),
        entry(11, 30, "decision", "lend n1 to 7 again", "7"),
    ]
    waits = [wait("9", "alice", None), wait("9", "alice", 14), wait("9", "alice", 40), wait("9", "al", 15)]
    loans = [loan("7", 10, "n1", "evicted for job 9 of alice"), loan("7", 30, "n1", "over")]
    first, second = chains(loans, entries, waits)
    assert [step.text for step in first.steps] == [
        "make physics", "n1 is idle", "lend n1 to 7", "job 7 began on n1", "requeue job 7",
        "job 7 evicted for job 9 of alice", "job 9 of alice began",
    ]  # fmt: skip
    assert first.steps[-1].at == NOW + 14 * MINUTE
    assert [step.text for step in second.steps] == [
        "make physics again", "n1 is idle later", "lend n1 to 7 again", "job 7 began on n1", "job 7 over",
    ]  # fmt: skip


@pytest.mark.parametrize("begin", [6, 10])
def test_after_the_clock_was_put_back_what_was_written_last_counts(begin: float) -> None:
    entries = [entry(1, 9, "idle", "idle, by a clock ahead", node="n1"), entry(2, 5, "idle", "idle", node="n1")]
    (found,) = chains([loan("7", begin, "n1", "over")], entries, [])
    assert found.steps[0].text == "idle"


class Counted(Recorded):
    """Counts how often its data is taken apart."""

    taken = 0

    @property
    def data(self) -> dict[str, Any]:
        Counted.taken += 1
        return {"node": "n1"}


@pytest.fixture
def counted() -> Iterator[type[Counted]]:
    Counted.taken = 0
    yield Counted
    Counted.taken = 0


def test_each_entry_is_taken_apart_once_however_many_loans_there_are(counted: type[Counted]) -> None:
    entries = [counted(n, Entry(NOW + n * MINUTE, "idle", f"{n}", "physics"), None) for n in range(100)]
    assert len(chains([loan(str(n), n, "n1", "over") for n in range(100)], entries, [])) == 100
    assert counted.taken <= len(entries)
