"""The journal, read without touching it."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from slurm_reserve import inputs, rows
from slurm_reserve.errors import ReserveError
from slurm_reserve.facts import LoanFact, UseFact, WaitFact
from slurm_reserve.inputs import InputsError
from slurm_reserve.journal import VERSION, Entry, JournalError
from slurm_reserve.words import printable

T = TypeVar("T")
_LARGEST = 2**63 - 1  # SQLite has no larger number
# What old or damaged records do to whoever reads them, or makes a plan from them.
_UNREADABLE = (
    ReserveError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, zlib.error
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry with its number, and the number of the decision that it is part of."""

    number: int
    entry: Entry
    decision: int | None

    @property
    def data(self) -> dict[str, Any]:
        """The structured part."""
        found = json.loads(self.entry.data)
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Replayed:
    """A decision made again on what was recorded of it."""

    number: int
    at: datetime
    recorded: list[Any]
    again: list[Any] | None  # None: it cannot be made again
    version: str
    problem: str = ""  # why not

    @property
    def is_same(self) -> bool | None:
        """Whether the same actions follow; None where that cannot be known."""
        return None if self.again is None else self.again == self.recorded


class Reader:
    """Queries of one journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def entries(self, job: str = "", since: datetime | None = None) -> list[Recorded]:
        """Oldest first; of one job those about it and those that went for it."""
        where, values = "1", list[object]()
        if job:
            where, values = "(job = ? OR instr(json_extract(data, '$.cause'), ?) = 1)", [job, f"job {job} of "]
        if since is not None:
            where, values = f"{where} AND at >= ?", [*values, since.isoformat()]
        query = f"SELECT id, at, kind, text, reservation, job, data, decision FROM entries WHERE {where} ORDER BY id"  # noqa: S608 - only words of ours
        return [
            Recorded(number, Entry(datetime.fromisoformat(at), *rest), decision)
            for number, at, *rest, decision in self._db.execute(query, values)
        ]

    def latest(self, most: int) -> list[Entry]:
        """What was decided, and came out otherwise than meant, last; oldest first."""
        found = self._db.execute(
            "SELECT at, kind, text, reservation, job, data FROM entries WHERE kind = 'decision' "
            "OR (kind = 'outcome' AND json_extract(data, '$.status') != 'done') ORDER BY id DESC LIMIT ?",
            (most,),
        ).fetchall()
        return [Entry(datetime.fromisoformat(at), *rest) for at, *rest in reversed(found)]

    def loans(self, reservation: str = "", job: str = "") -> list[LoanFact]:
        """In the order in which they were lent."""
        return self._facts("loans", rows.loan_of, reservation, job)

    def waits(self, reservation: str = "", job: str = "") -> list[WaitFact]:
        """In the order in which they were over."""
        return self._facts("waits", rows.wait_of, reservation, job)

    def uses(self, reservation: str = "") -> list[UseFact]:
        """In the order of time."""
        return self._facts("uses", rows.use_of, reservation, "")

    def _facts(self, table: str, read: Callable[[rows.Row], T], reservation: str, job: str) -> list[T]:
        wanted = {"reservation": reservation, "job": job}
        given = {name: value for name, value in wanted.items() if value}
        where = " AND ".join(f"{name} = :{name}" for name in given) or "1"
        found = self._db.execute(f"SELECT * FROM {table} WHERE {where} ORDER BY id", given)  # noqa: S608 - only words of ours
        names = [column[0] for column in found.description]
        return [read(dict(zip(names, row, strict=True))) for row in found]

    def decisions(self) -> list[int]:
        """Numbers of all decisions."""
        return [number for (number,) in self._db.execute("SELECT id FROM decisions ORDER BY id")]

    def replay(self, number: int) -> Replayed:
        """Run the planner on what was recorded, where that can be read; raises JournalError when nothing was."""
        row = self._decision(number)
        if row is None:
            raise JournalError(f"there is no decision {number} in the journal; `history` and `explain` name them")
        at, version, packed, answer = row
        recorded: list[Any] = []
        again, problem = None, "" if packed else "its inputs were too large to be kept"
        try:
            recorded = json.loads(zlib.decompress(answer))
            again = json.loads(json.dumps(inputs.unpack(packed).answer())) if packed else None
        except _UNREADABLE as error:
            why = f"what was recorded of it cannot be read: {error or type(error).__name__}"
            problem = printable(str(error) if isinstance(error, InputsError) else why, 200)
        return Replayed(number, datetime.fromisoformat(at), recorded, again, version, problem)

    def _decision(self, number: int) -> Any:
        query = "SELECT at, version, inputs, answer FROM decisions WHERE id = ?"
        return self._db.execute(query, (number,)).fetchone() if number <= _LARGEST else None


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open a journal for looking; raises JournalError when there is none, or none that can be read."""
    try:
        path.stat()
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
    except FileNotFoundError as error:
        raise JournalError(f"{path} is not there yet: nothing was recorded") from error
    except OSError as error:  # to most users the daemon's folder is closed
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    except sqlite3.Error as error:
        raise JournalError(f"{path}: {error}") from error
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            which = "a newer release" if version > VERSION else "an older release; the daemon brings it up to date"
            raise JournalError(f"{path} was written by {which} (version {version}, this one reads {VERSION})")
        yield Reader(db)
    except (sqlite3.Error, ValueError, ReserveError) as error:
        raise error if isinstance(error, ReserveError) else JournalError(f"{path}: {error}") from error
    finally:
        db.close()
