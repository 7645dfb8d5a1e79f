"""A ledger that cannot be written, or read, for a while loses nothing that was remembered or ordered."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from slurm_reserve import control
from slurm_reserve.ledger import Ledger
from slurm_reserve.memory import Memory, Orders

NOW = datetime(2030, 5, 6, 12, tzinfo=UTC)
LEND = {"do": "lend", "reservation": "physics", "enabled": False, "until": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def written(path: Path) -> Memory:
    """What the next process would know."""
    ledger = Ledger(path)
    try:
        return ledger.memory()
    finally:
        ledger.close()


def remember(path: Path, note: Callable[[Ledger], object]) -> None:
    ledger = Ledger(path)
    note(ledger)
    ledger.close()


def fill_the_disk(ledger: Ledger) -> None:
    ledger._db.execute("PRAGMA query_only=ON")


def try_again(ledger: Ledger) -> None:
    """As the next cycle does, some seconds later."""
    ledger._retry_at = 0.0
    ledger.replace("waiting_since", {})


@contextmanager
def held(path: Path) -> Iterator[None]:
    """By another process, against readers too."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("COMMIT")
    try:
        yield
    finally:
        other.close()


def test_orders_that_cannot_be_written_hold_and_are_written_later(path: Path) -> None:
    remember(path, lambda ledger: control.apply(ledger, LEND, NOW))
    ledger = Ledger(path)
    fill_the_disk(ledger)
    control.apply(ledger, {"do": "pause"}, NOW)
    ledger.drop("orders", "lend physics")
    assert not ledger.is_writable
    ledger.read_orders()  # as each cycle does
    assert ledger.memory().orders == Orders(paused=True)
    remember(path, lambda other: other.put("orders", "brake", "by hand"))  # given without the daemon meanwhile
    try_again(ledger)
    assert ledger.is_writable
    ledger.read_orders()
    assert ledger.memory().orders == written(path).orders == Orders(paused=True, brake="by hand")
    remember(path, lambda other: control.apply(other, {"do": "resume"}, NOW))
    ledger.read_orders()  # what was written is the file's again
    assert not ledger.memory().orders.paused
    ledger.close()


def test_a_sound_ledger_that_is_held_at_the_start_is_taken_in_later(path: Path) -> None:
    hour = timedelta(hours=1)

    def before(ledger: Ledger) -> None:
        for name in ("physics", "chemistry"):
            ledger.put("made", name, NOW)
        ledger.put("idle_since", "n1", NOW)
        control.apply(ledger, {"do": "pause"}, NOW)
        control.apply(ledger, LEND, NOW)

    remember(path, before)
    with held(path):
        ledger = Ledger(path, may_be_lost=True)
        assert "locked" in ledger.problem
        assert not ledger.memory().made
        ledger.put("made", "physics", NOW + hour)
        ledger.put("idle_since", "n2", NOW + hour)
        control.apply(ledger, {"do": "resume"}, NOW)  # of a pause that it knows nothing of
        try_again(ledger)
        assert not ledger.is_writable
    try_again(ledger)
    assert ledger.is_writable
    known = ledger.memory()
    assert known.made == {"physics": NOW + hour, "chemistry": NOW}
    assert known.idle_since == {"n2": NOW + hour}  # n1 may have been used since
    assert (known.orders.paused, set(known.orders.lend)) == (False, {"physics"})
    ledger.close()
    assert written(path) == known


def test_a_file_that_is_no_ledger_is_made_anew_once_it_is_away(path: Path) -> None:
    path.write_bytes(b"nonsense" * 1000)
    ledger = Ledger(path, may_be_lost=True)
    assert "not a database" in ledger.problem
    ledger.put("made", "physics", NOW)
    control.apply(ledger, {"do": "pause"}, NOW)
    try_again(ledger)
    assert not ledger.is_writable
    path.unlink()
    try_again(ledger)
    assert (written(path).made, written(path).orders.paused) == ({"physics": NOW}, True)
    ledger.close()
