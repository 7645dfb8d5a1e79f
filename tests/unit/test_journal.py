"""The journal grows at its end and is forgotten from its beginning."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slurm_reserve.journal import Entry, Journal

NOW = datetime(2030, 5, 6, 12, 0, 0, tzinfo=UTC)


def filled(path: Path, *days_old: int) -> Journal:
    journal = Journal(path)
    assert journal.write(*(Entry(NOW - timedelta(days=days), "decision", f"{days} days old") for days in days_old))
    return journal


def texts(journal: Journal) -> list[str]:
    return [entry.text for _, entry in journal.entries()]


def test_what_is_too_old_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", 100, 91, 89, 0)
    assert journal.forget(NOW - timedelta(days=90)) == 2
    assert texts(journal) == ["89 days old", "0 days old"]
    assert journal.forget(NOW - timedelta(days=90)) == 0


def test_little_is_forgotten_at_once(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", *[100] * 2500, 0)
    assert [journal.forget(NOW - timedelta(days=90)) for _ in range(4)] == [1000, 1000, 500, 0]


def test_numbers_are_not_used_again_while_something_is_left(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", 100, 0)
    journal.forget(NOW - timedelta(days=90))
    journal.write(Entry(NOW, "decision", "new"))
    assert [number for number, _ in journal.entries()] == [2, 3]


def test_a_journal_that_cannot_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", 100)
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    journal._db.execute("PRAGMA busy_timeout=1")  # the writer would wait for five seconds
    assert journal.forget(NOW) == 0
    other.execute("ROLLBACK")
    assert texts(journal) == ["100 days old"]
