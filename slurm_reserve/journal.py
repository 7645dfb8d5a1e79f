"""What was decided and what came of it, in order, for people to read later. Append-only, but for its age; SQLite.

Nothing is ever decided by reading it. When it cannot be written, the log is the record, and the caller is told.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

FILE_NAME = "journal.db"
_SCHEMA = """CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, reservation TEXT NOT NULL,
    job TEXT NOT NULL, text TEXT NOT NULL, data TEXT NOT NULL)"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing decided, done or seen; `text` is a sentence."""

    at: datetime
    kind: str  # decision, outcome, idle, report
    text: str
    reservation: str = ""
    job: str = ""
    data: str = "{}"  # JSON


class Journal:
    """Entries in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        """Open or make the journal; raises OSError or sqlite3.Error when that cannot be done."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        path.touch(mode=0o640)
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(_SCHEMA)

    def write(self, *entries: Entry) -> bool:
        """Append; False when it could not be written."""
        rows = [(e.at.isoformat(), e.kind, e.reservation, e.job, e.text, e.data) for e in entries]
        try:
            self._db.execute("BEGIN")
            self._db.executemany(
                "INSERT INTO entries (at, kind, reservation, job, text, data) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return False
        return True

    def forget(self, before: datetime, most: int = 1000) -> int:
        """Remove the oldest entries from before a time, so many at once; gives how many. Nothing when it cannot."""
        rows = "SELECT id FROM entries WHERE id <= (SELECT min(id) + ? FROM entries) AND at < ?"
        try:
            done = self._db.execute(f"DELETE FROM entries WHERE id IN ({rows})", (most - 1, before.isoformat()))  # noqa: S608 - no value in it
        except sqlite3.Error:
            return 0
        return done.rowcount

    def entries(self, after: int = 0) -> Iterator[tuple[int, Entry]]:
        """Entries with a number above `after`, oldest first, each with its number."""
        rows = self._db.execute(
            "SELECT id, at, kind, text, reservation, job, data FROM entries WHERE id > ? ORDER BY id", (after,)
        )
        for number, at, *rest in rows:
            yield number, Entry(datetime.fromisoformat(at), *rest)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def as_json(**values: object) -> str:
    """Structured data of an entry."""
    return json.dumps(values, default=_plain, sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
