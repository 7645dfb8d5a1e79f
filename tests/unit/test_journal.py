"""The journal grows at its end and is forgotten from its beginning."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from slurm_reserve.evidence.reading import reading
from slurm_reserve.facts import LoanFact
from slurm_reserve.journal import FORGET, Decided, Entry, Journal, JournalError, NewerJournalError
from slurm_reserve.tracking import Changes

NOW = datetime(2030, 5, 6, 12, 0, 0, tzinfo=UTC)


def filled(path: Path, *days_old: int) -> Journal:
    journal = Journal(path)
    assert journal.write(*(Entry(NOW - timedelta(days=days), "decision", f"{days} days old") for days in days_old))
    return journal


def texts(path: Path) -> list[str]:
    with reading(path) as reader:
        return [each.entry.text for each in reader.entries()]


def test_what_is_too_old_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", 100, 91, 89, 0)
    assert journal.forget(NOW - timedelta(days=90)) == 2
    assert texts(tmp_path / "journal.db") == ["89 days old", "0 days old"]
    assert journal.forget(NOW - timedelta(days=90)) == 0


def test_what_is_dated_ahead_keeps_nothing_that_is_too_old(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", -365, *[100] * 1500, 0)
    assert [journal.forget(NOW - timedelta(days=90)) for _ in range(3)] == [1000, 500, 0]
    assert texts(tmp_path / "journal.db") == ["-365 days old", "0 days old"]


def test_looking_for_what_is_too_old_reads_no_whole_table(tmp_path: Path) -> None:
    """It is done in every cycle."""
    filled(tmp_path / "journal.db", 0)
    with sqlite3.connect(tmp_path / "journal.db") as db:
        for statement in FORGET:
            steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", (NOW.isoformat(), 1000))]
            assert not [step for step in steps if step.startswith("SCAN") and "INDEX" not in step], statement


def test_little_is_forgotten_at_once(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", *[100] * 2500, 0)
    assert [journal.forget(NOW - timedelta(days=90)) for _ in range(4)] == [1000, 1000, 500, 0]


def test_numbers_are_not_used_again_while_something_is_left(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", 100, 0)
    journal.forget(NOW - timedelta(days=90))
    journal.write(Entry(NOW, "decision", "new"))
    with reading(tmp_path / "journal.db") as reader:
        assert [each.number for each in reader.entries()] == [2, 3]


def test_a_journal_that_cannot_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.db", 100)
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert journal.forget(NOW) == 0
    other.execute("ROLLBACK")
    assert texts(tmp_path / "journal.db") == ["100 days old"]


OLD = """CREATE TABLE entries (id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, reservation TEXT NOT NULL,
    job TEXT NOT NULL, text TEXT NOT NULL, data TEXT NOT NULL)"""


def test_an_old_journal_is_brought_up_to_date_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as db:
        db.execute(OLD)
        db.execute("INSERT INTO entries VALUES (1, ?, 'decision', 'physics', '7', 'old', '{}')", (NOW.isoformat(),))
    journal = Journal(path)
    assert journal.write(Entry(NOW, "decision", "new"), decided=Decided(NOW, "1", b"x", b"y"))
    assert texts(path) == ["old", "new"]
    with reading(path) as reader:
        assert [each.decision for each in reader.entries()] == [None, 1]


def test_a_newer_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(NewerJournalError, match="newer release"):
        Journal(path)
    with pytest.raises(JournalError, match="newer release"), reading(path):
        pass
    assert path.read_bytes() == before


def test_nothing_that_was_written_can_be_changed(tmp_path: Path) -> None:
    filled(tmp_path / "journal.db", 1).write(Entry(NOW, "decision", "x"), decided=Decided(NOW, "1", b"x", b"y"))
    with sqlite3.connect(tmp_path / "journal.db") as db:
        for change in ("UPDATE entries SET at = ''", "UPDATE decisions SET at = ''"):
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                db.execute(change)


def test_loans_that_could_not_be_written_are_kept_for_later_and_the_gap_is_told(tmp_path: Path) -> None:
    path, now = tmp_path / "journal.db", [0.0]
    journal = Journal(path, clock=lambda: now[0])
    loan = LoanFact("7", NOW, 0, "bob", "physics", frozenset({"n1"}), lent_at=NOW, started=NOW)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert not journal.write(Entry(NOW, "decision", "lost"), changes=Changes(loans=[loan]))
    assert "locked" in journal.problem
    other.execute("ROLLBACK")
    assert not journal.write(Entry(NOW, "decision", "lost too"))  # not tried again at once: nobody waits for a disk
    now[0] += 6
    assert journal.write()
    assert journal.problem == ""
    with reading(path) as reader:
        assert reader.loans() == [loan]
        assert [each.entry.kind for each in reader.entries()] == ["gap"]
    assert journal.open_loans() == [loan]


def test_a_loan_is_one_row_from_start_to_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    loan = LoanFact("7", NOW, 0, "bob", "physics", lent_at=NOW)
    started = replace(loan, nodes=frozenset({"n1", "n2"}), started=NOW)
    ended = replace(started, ended=NOW + timedelta(seconds=30), cause="evicted for job 9 of alice")
    for fact in (loan, started, ended):
        journal.write(changes=Changes(loans=[fact]))
    with reading(tmp_path / "journal.db") as reader:
        assert reader.loans() == [ended]
    assert ended.node_seconds == 60
    assert journal.open_loans() == []


def test_a_file_that_is_no_journal_is_told_of_and_made_anew_when_it_is_moved_away(tmp_path: Path) -> None:
    path, now = tmp_path / "journal.db", [0.0]
    path.write_bytes(b"nonsense" * 1000)
    journal = Journal(path, clock=lambda: now[0])
    assert "not a database" in journal.problem
    assert not journal.write(Entry(NOW, "decision", "x"))
    path.rename(tmp_path / "away")
    now[0] += 6
    assert journal.write(Entry(NOW, "decision", "y"))
    assert texts(path)[-1] == "y"
    path.unlink()  # also while it is open
    assert journal.write(Entry(NOW, "decision", "z"))
    assert texts(path) == ["z"]


def test_what_went_for_a_job_is_told_apart_from_what_went_for_others(tmp_path: Path) -> None:
    """An underscore stands for itself: the tasks of an array are not jobs with a digit there."""
    causes = ("job 12_3 of alice needs n1", "job 1203 of alice needs n1", "job 12_30 of alice needs n1")
    entries = [Entry(NOW, "decision", cause, data=json.dumps({"cause": cause})) for cause in causes]
    Journal(tmp_path / "journal.db").write(*entries)
    with reading(tmp_path / "journal.db") as reader:
        assert [each.entry.text for each in reader.entries(job="12_3")] == [causes[0]]
