"""What was decided and what came of it, in order, for people to read later. Append-only, but for its age; SQLite.

Nothing is ever decided by reading it. When it cannot be written, the log is the record, and the caller is told; it is
tried again every few seconds, so that nobody's eviction waits for a disk.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from slurm_reserve import hostlist, rows
from slurm_reserve.errors import ReserveError
from slurm_reserve.facts import LoanFact
from slurm_reserve.tracking import Changes

FILE_NAME = "journal.db"
BUSY = 0.25  # seconds that another process may hold it
TRY_AGAIN = 5.0  # seconds after a failure, during which the log alone is the record
MOST_KEPT_BACK = 10_000  # loans and waits that are kept for when it can be written again

# Each step takes the file from one version to the next; the number of the last one is written into it.
MIGRATIONS = (
    """CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, reservation TEXT NOT NULL,
        job TEXT NOT NULL, text TEXT NOT NULL, data TEXT NOT NULL)""",
    """ALTER TABLE entries ADD COLUMN decision INTEGER;
    CREATE INDEX entries_job ON entries (job);
    CREATE TRIGGER entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
    CREATE TABLE decisions (id INTEGER PRIMARY KEY, at TEXT NOT NULL, version TEXT NOT NULL, inputs BLOB NOT NULL,
        answer BLOB NOT NULL);
    CREATE TRIGGER decisions_stay BEFORE UPDATE ON decisions
        BEGIN SELECT RAISE(ABORT, 'decisions are never changed'); END;
    CREATE TABLE loans (id INTEGER PRIMARY KEY, job TEXT NOT NULL, submitted TEXT NOT NULL, restarts INTEGER NOT NULL,
        user TEXT NOT NULL, account TEXT NOT NULL, reservation TEXT NOT NULL, nodes TEXT NOT NULL, bid TEXT NOT NULL,
        lent_at TEXT, started TEXT, ended TEXT, cause TEXT NOT NULL, node_seconds INTEGER NOT NULL,
        UNIQUE (job, submitted, restarts, lent_at));
    CREATE INDEX loans_open ON loans (job) WHERE ended IS NULL;
    CREATE TABLE waits (id INTEGER PRIMARY KEY, job TEXT NOT NULL, submitted TEXT NOT NULL, restarts INTEGER NOT NULL,
        user TEXT NOT NULL, reservation TEXT NOT NULL, eligible TEXT NOT NULL, bound REAL NOT NULL,
        needed INTEGER NOT NULL, wanted TEXT, seen TEXT, told TEXT, evicted TEXT, freed TEXT, started TEXT, ended TEXT);
    CREATE TABLE uses (id INTEGER PRIMARY KEY, at TEXT NOT NULL, reservation TEXT NOT NULL, nodes TEXT NOT NULL,
        use TEXT NOT NULL)""",
    """CREATE INDEX entries_at ON entries (at);
    CREATE INDEX decisions_at ON decisions (at);
    CREATE INDEX loans_ended ON loans (ended) WHERE ended IS NOT NULL;
    CREATE INDEX waits_eligible ON waits (eligible);
    CREATE INDEX uses_at ON uses (at)""",
)
# By their time, not by their number: one that is dated ahead, or a loan that never ends, keeps no other. Entries last.
FORGET = (
    "DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE at < ? ORDER BY at LIMIT ?)",
    "DELETE FROM waits WHERE id IN (SELECT id FROM waits WHERE eligible < ? ORDER BY eligible LIMIT ?)",
    "DELETE FROM uses WHERE id IN (SELECT id FROM uses WHERE at < ? ORDER BY at LIMIT ?)",
    "DELETE FROM loans WHERE id IN (SELECT id FROM loans WHERE ended < ? ORDER BY ended LIMIT ?)",
    "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE at < ? ORDER BY at LIMIT ?)",
)
VERSION = len(MIGRATIONS)


class JournalError(ReserveError):
    """The journal cannot be used at all."""


class NewerJournalError(JournalError):
    """It was written by a newer release."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing decided, done or seen; `text` is a sentence."""

    at: datetime
    kind: str  # decision, outcome, idle, verdict
    text: str
    reservation: str = ""
    job: str = ""
    data: str = "{}"  # JSON


@dataclass(frozen=True, slots=True)
class Decided:
    """One plan: what it was made from (b"" where that was too large), and the actions that follow, both packed."""

    at: datetime
    version: str
    inputs: bytes
    answer: bytes


class Journal:
    """Entries in the order in which they were written; loans, waits and uses beside them."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Open or make the journal; one that cannot be opened is tried again later. Raises NewerJournalError."""
        self._path, self._clock = path, clock
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._retry_at = 0.0
        self._kept_back = Changes()
        self.problem = ""  # why it cannot be written; "" when it can
        self._is_open()

    def write(self, *entries: Entry, decided: Decided | None = None, changes: Changes | None = None) -> bool:
        """Append; False when it could not be written: then loans and waits are kept for later."""
        changes = self._with_kept_back(changes or Changes())
        is_news = bool(entries or decided or changes.loans or changes.waits or changes.uses)
        if not is_news and not self.problem:
            return True
        try:
            if self._is_open() and self._db is not None:
                gap = [Entry(datetime.now(UTC), "gap", _GAP, data=as_json(cause=self.problem))] if self.problem else []
                self._append(self._db, [*gap, *entries], decided, changes)
                self.problem = ""
                return True
        except (sqlite3.Error, JournalError) as error:
            self._has_failed(error)
        self._keep_back(changes)
        return False

    def _is_open(self) -> bool:
        """Whether there is a file to write to; one that was moved away is made anew."""
        if self._db is not None and self._is_still_there():
            return True
        if self._clock() < self._retry_at:
            return False
        self.close()
        try:
            self._db = _opened(self._path)
            self._inode = self._path.stat().st_ino
        except (sqlite3.Error, OSError, UnicodeError) as error:
            self._has_failed(error)
            return False
        return True

    def _is_still_there(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def _has_failed(self, error: Exception) -> None:
        self.problem = f"{self._path}: {error}"
        self._retry_at = self._clock() + TRY_AGAIN
        self.close()

    def _append(
        self, db: sqlite3.Connection, entries: Iterable[Entry], decided: Decided | None, changes: Changes
    ) -> None:
        db.execute("BEGIN IMMEDIATE")
        number = None
        if decided is not None:
            row = (decided.at.isoformat(), decided.version, decided.inputs, decided.answer)
            number = db.execute(
                "INSERT INTO decisions (at, version, inputs, answer) VALUES (?, ?, ?, ?)", row
            ).lastrowid
        db.executemany(
            "INSERT INTO entries (at, kind, reservation, job, text, data, decision) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    e.at.isoformat(),
                    e.kind,
                    e.reservation,
                    e.job,
                    e.text,
                    e.data,
                    number if e.kind == "decision" else None,
                )
                for e in entries
            ],
        )
        db.executemany(_PUT_LOAN, [rows.loan_row(loan) for loan in changes.loans])
        db.executemany(_PUT_WAIT, [rows.wait_row(wait) for wait in changes.waits])
        db.executemany(
            "INSERT INTO uses (at, reservation, nodes, use) VALUES (?, ?, ?, ?)",
            [(use.at.isoformat(), use.reservation, hostlist.fold(use.nodes), use.use) for use in changes.uses],
        )
        db.execute("COMMIT")

    def _with_kept_back(self, changes: Changes) -> Changes:
        kept, self._kept_back = self._kept_back, Changes()
        return Changes(kept.loans + changes.loans, kept.waits + changes.waits, kept.uses + changes.uses)

    def _keep_back(self, changes: Changes) -> None:
        most = MOST_KEPT_BACK
        self._kept_back = Changes(changes.loans[-most:], changes.waits[-most:], changes.uses[-most:])

    def forget(self, before: datetime, most: int = 1000) -> int:
        """Remove the oldest from before a time, so many at once; gives how many entries. Nothing when it cannot."""
        if self._db is None:
            return 0
        limit = before.isoformat()
        try:
            return [self._db.execute(statement, (limit, most)).rowcount for statement in FORGET][-1]
        except sqlite3.Error:
            return 0

    def open_loans(self) -> list[LoanFact]:
        """Loans that had not ended when they were last written; for the record alone. None where it cannot be read."""
        if self._db is None:
            return []
        try:
            found = self._db.execute("SELECT * FROM loans WHERE ended IS NULL ORDER BY id")
            names = [column[0] for column in found.description]
            return [rows.loan_of(dict(zip(names, row, strict=True))) for row in found]
        except (sqlite3.Error, ReserveError, ValueError):
            return []

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            try:
                self._db.close()
            finally:
                self._db = None


_GAP = "the journal could not be written for a while; what was decided then is in the system log alone"
_PUT_LOAN = """INSERT INTO loans (job, submitted, restarts, user, account, reservation, nodes, bid, lent_at, started,
    ended, cause, node_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (job, submitted, restarts, lent_at) DO UPDATE SET nodes = excluded.nodes, started = excluded.started,
    ended = excluded.ended, cause = excluded.cause, node_seconds = excluded.node_seconds"""
_PUT_WAIT = """INSERT INTO waits (job, submitted, restarts, user, reservation, eligible, bound, needed, wanted, seen,
    told, evicted, freed, started, ended) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    path.touch(mode=0o640)
    db = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise NewerJournalError(
                f"{path} was written by a newer release (version {version}, this one knows {VERSION}); "
                "install that release again, or move the file away"
            )
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if version < VERSION:
            _migrate(db, version)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, version: int) -> None:
    """Step by step, all or nothing."""
    steps = ";\n".join(MIGRATIONS[version:])
    db.executescript(f"BEGIN IMMEDIATE;\n{steps};\nPRAGMA user_version = {VERSION};\nCOMMIT")


def as_json(**values: object) -> str:
    """Structured data of an entry."""
    return json.dumps(values, default=_plain, sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
