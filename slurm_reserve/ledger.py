"""What must survive the daemon: in-flight actions, reservations made, clocks, standing orders. SQLite on disk.

What is held in memory is the truth of this process and is written through, row by row. When the disk refuses, the
process goes on with what it knows, says so by `is_writable`, and so lends nothing more; reclaim does not need it.
What could not be read at the start is read as soon as it can be, before anything is written over it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

from slurm_reserve.errors import ReserveError
from slurm_reserve.memory import (
    Attached,
    Corrected,
    Evicted,
    Forecast,
    LendOrder,
    Load,
    Memory,
    Notice,
    Orders,
    Pain,
    ReclaimOrder,
    Score,
    Tally,
)
from slurm_reserve.model import JobKey

T = TypeVar("T")

FILE_NAME = "ledger.db"
BUSY = 0.5  # seconds that another process may hold it
TRY_AGAIN = 5.0  # seconds after a failure
KINDS: Final = (
    "lease",  # which lease of several daemons is ours
    "made", "attached", "notices", "evicted", "waiting_since", "idle_since", "not_before", "eviction_times",
    "corrected", "tallies", "pains", "spells", "orders", "load", "unfit",
    "forecasts", "scores", "looked",
)  # fmt: skip
# What was noted by our own clock; the rest is Slurm's word or an admin's.
_BY_OUR_CLOCK = (
    "attached", "notices", "evicted", "waiting_since", "idle_since", "not_before", "eviction_times", "looked",
)  # fmt: skip
# What is not taken from a file that is read late: a node that was idle then may have been used since.
_NOT_LATE = ("idle_since",)
_SCHEMA = "CREATE TABLE IF NOT EXISTS facts (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key))"
_PUT = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)"
_DELETE = "DELETE FROM facts WHERE kind = ? AND key = ?"


class LedgerError(ReserveError):
    """The ledger cannot be opened or is damaged; nothing was changed."""


class Ledger:
    """The facts of :class:`~slurm_reserve.memory.Memory`, one row each."""

    def __init__(self, path: Path, may_be_lost: bool = False) -> None:
        """Open or make the ledger at `path`; raises LedgerError when that cannot be done.

        Where it `may_be_lost` one that is damaged or held by somebody is told of by `problem`, begun anew in memory,
        and tried again: owners are served without it. What a sound one holds is taken in then.
        """
        self._path = path
        self.problem = ""  # why it cannot be written; "" when it can
        self._retry_at = 0.0
        self._facts: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        self._is_read = False  # whether what was remembered before this process is known
        self._unwritten: dict[str, str | None] = {}  # orders that the file does not say yet; None: taken back
        try:
            self._db = self._opened()
            self.read()
        except (sqlite3.Error, OSError) as error:
            if not may_be_lost or isinstance(error, OSError):
                raise LedgerError(
                    f"{path}: {error}; give the daemon's user the folder, or remove a damaged file"
                ) from error
            self._db = sqlite3.connect(":memory:", isolation_level=None)
            self._has_failed(error)

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._path.touch(mode=0o640)
        db = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    @property
    def is_writable(self) -> bool:
        """Whether what is remembered outlives this process."""
        return not self.problem

    def _has_failed(self, error: Exception) -> None:
        self.problem = f"{self._path}: {error}"
        self._retry_at = time.monotonic() + TRY_AGAIN

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def read(self) -> None:
        """Read the facts again, for standing orders may have been written by another process."""
        self._facts = _rows(self._db)
        self._is_read = True

    def _read_late(self) -> None:
        """Take in what was remembered before this process; what it has noted itself since then wins."""
        if self._is_read:
            return
        try:
            before = _rows(self._db)
        except sqlite3.OperationalError:  # locked, or no room: it may be sound
            raise
        except sqlite3.DatabaseError:  # damaged: there is nothing to be lost
            before = {}
        for kind, rows in before.items():
            if kind not in _NOT_LATE:
                self._facts[kind] = rows | self._facts[kind]
        self._facts["orders"] = self._with_unwritten(self._facts["orders"])
        self._is_read = True

    def read_orders(self) -> None:
        """Read standing orders again; what this process knows stays where the file cannot be read.

        So does an order that could not be written: it was confirmed to whoever gave it all the same.
        """
        try:
            rows = self._db.execute("SELECT key, value FROM facts WHERE kind = 'orders'").fetchall()
        except sqlite3.Error as error:
            if not self.problem:
                self._has_failed(error)
            return
        self._facts["orders"] = self._with_unwritten(dict(rows))

    def _with_unwritten(self, orders: Mapping[str, str]) -> dict[str, str]:
        known: dict[str, str | None] = {**orders, **self._unwritten}
        return {key: text for key, text in known.items() if text is not None}

    def _note_order(self, kind: str, key: str, text: str | None) -> None:
        """Until it is written."""
        if kind == "orders":
            self._unwritten[key] = text

    def put(self, kind: str, key: str | JobKey, value: object) -> None:
        """Remember one fact."""
        text, name = json.dumps(value, default=_plain, sort_keys=True), _key(key)
        if self._facts[kind].get(name) != text:
            self._facts[kind][name] = text
            self._note_order(kind, name, text)
            self._write([(_PUT, (kind, name, text))])

    def get(self, kind: str, key: str) -> Any:
        """One fact, as plain values; None when it is not remembered."""
        text = self._facts[kind].get(key)
        return None if text is None else json.loads(text)

    def put_evicted(self, key: JobKey, evicted: Evicted) -> None:
        """Remember an eviction, or what has come of it."""
        self.put("evicted", key, asdict(evicted))

    def drop(self, kind: str, key: str | JobKey) -> None:
        """Forget one fact."""
        is_known, name = self._facts[kind].pop(_key(key), None) is not None, _key(key)
        if is_known or not self._is_read:  # it may stand in a file that could not be read yet
            self._note_order(kind, name, None)
            self._write([(_DELETE, (kind, name))])

    def replace(self, kind: str, facts: Mapping[Any, object]) -> None:
        """Remember just these facts of a kind."""
        wanted = {_key(key): json.dumps(value, default=_plain, sort_keys=True) for key, value in facts.items()}
        if wanted == self._facts[kind] and self.is_writable:
            return
        self._facts[kind] = wanted
        rows = [("INSERT INTO facts VALUES (?, ?, ?)", (kind, key, value)) for key, value in wanted.items()]
        self._write([("DELETE FROM facts WHERE kind = ?", (kind,)), *rows])

    def keep_only(self, job_ids: frozenset[str]) -> None:
        """Forget what is remembered of jobs that are over. A task may still be part of its array's record."""
        for kind in ("attached", "notices", "evicted", "not_before", "unfit"):
            for key in map(_job_key, tuple(self._facts[kind])):
                if not job_ids & {key.id, key.id.split("_")[0]}:
                    self.drop(kind, key)

    def forget(self, kind: str, prefix: str = "") -> None:
        """Forget the facts of a kind whose key begins so; all of them by default."""
        for key in [key for key in self._facts[kind] if key.startswith(prefix)]:
            self.drop(kind, key)

    def forget_evictions(self, before: datetime) -> None:
        """Forget when jobs were evicted, as far as it was so long ago that the brake takes no notice."""
        for key, value in tuple(self._facts["eviction_times"].items()):
            if _time(json.loads(value)) < before:
                self.drop("eviction_times", key)

    def move_times(self, by: timedelta) -> None:
        """The clock has jumped: what was noted by it is as long ago, or as far ahead, as it was before."""
        for kind in _BY_OUR_CLOCK:
            self.replace(kind, {key: _moved(json.loads(value), by) for key, value in self._facts[kind].items()})

    def latest(self) -> datetime | None:
        """The latest time at which anything was noted by our own clock; None when nothing is."""
        memory = self.memory()
        times = [*memory.waiting_since.values(), *memory.idle_since.values()]
        times += [each.at for each in memory.attached.values()] + [each.at for each in memory.notices.values()]
        return max(times + [each.at for each in memory.evicted.values()], default=None)

    def memory(self) -> Memory:
        """Everything remembered, as the planner takes it."""
        return _memory(self._facts, self.is_writable)

    def _write(self, statements: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """After a failure not at once again, so that nobody waits for a disk; then everything."""
        try:
            if self.problem:
                if time.monotonic() < self._retry_at:
                    return
                self._db.close()
                self._db = self._opened()
                self._read_late()
                statements = self._everything()
            self._db.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._db.execute(statement, values)
            self._db.execute("COMMIT")
            self.problem = ""
            self._unwritten.clear()
        except (sqlite3.Error, OSError) as error:
            self._has_failed(error)
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _everything(self) -> list[tuple[str, tuple[str, ...]]]:
        """All facts; of orders, which others may have given meanwhile, those that were not written yet."""
        wanted = [(kind, key, value) for kind in KINDS if kind != "orders" for key, value in self._facts[kind].items()]
        rows: list[tuple[str, tuple[str, ...]]] = [("DELETE FROM facts WHERE kind != 'orders'", ())]
        rows += [(_PUT, row) for row in wanted]
        for key, text in self._unwritten.items():
            rows.append((_DELETE, ("orders", key)) if text is None else (_PUT, ("orders", key, text)))
        return rows


def _rows(db: sqlite3.Connection) -> dict[str, dict[str, str]]:
    facts: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for kind, key, value in db.execute("SELECT kind, key, value FROM facts"):
        if kind in facts:
            facts[kind][key] = value
    return facts


def _memory(facts: Mapping[str, Mapping[str, str]], is_writable: bool) -> Memory:
    def jobs(kind: str, read: Callable[[Any], T]) -> dict[JobKey, T]:
        return {_job_key(key): read(json.loads(value)) for key, value in facts[kind].items()}

    return Memory(
        made={key: _time(json.loads(value)) for key, value in facts["made"].items()},
        attached=jobs("attached", _attached),
        notices=jobs("notices", lambda v: Notice(**v | {"at": _time(v["at"]), "deadline": _time(v["deadline"])})),
        evicted=jobs("evicted", lambda v: Evicted(**v | {"at": _time(v["at"])})),
        waiting_since=jobs("waiting_since", _time),
        idle_since={key: _time(json.loads(value)) for key, value in facts["idle_since"].items()},
        not_before=jobs("not_before", _time),
        unfit=jobs("unfit", str),
        eviction_times=tuple(_time(json.loads(value)) for value in facts["eviction_times"].values()),
        corrected={key: _corrected(json.loads(value)) for key, value in facts["corrected"].items()},
        tallies={key: _tally(json.loads(value)) for key, value in facts["tallies"].items()},
        pains={key: _pain(json.loads(value)) for key, value in facts["pains"].items()},
        forecasts=jobs("forecasts", lambda v: Forecast(**v)),
        scores={key: Score(**json.loads(value)) for key, value in facts["scores"].items()},
        spells={key: tuple(json.loads(value)) for key, value in facts["spells"].items()},
        orders=_orders(facts["orders"]),
        load=next((Load(**json.loads(value)) for value in facts["load"].values()), Load()),
        looked=next((_time(json.loads(value)) for value in facts["looked"].values()), None),
        is_writable=is_writable,
    )


def read_only(path: Path) -> Memory:
    """What a ledger holds, without touching it; raises LedgerError when there is none or it cannot be read."""
    return _memory(_read(path), is_writable=True)


def noted(path: Path, kind: str, key: str) -> Any:
    """One fact of it, as plain values, or None; raises LedgerError as well."""
    text = _read(path)[kind].get(key)
    return None if text is None else json.loads(text)


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        path.stat()
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
        try:
            return _rows(db)
        finally:
            db.close()
    except FileNotFoundError as error:
        raise LedgerError(f"{path} is not there yet") from error
    except OSError as error:  # to most users the daemon's folder is closed
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from error
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}") from error


def _corrected(value: dict[str, Any]) -> Corrected:
    return Corrected(value["wanted"], value["count"], _time(value["at"]))


def _attached(value: dict[str, Any]) -> Attached:
    bid = value.get("bid")  # an earlier version noted none
    noted = Decimal(bid) if bid is not None else None
    return Attached(value["reservation"], _time(value["at"]), bool(value.get("is_drawn")), noted)


def _tally(value: dict[str, Any]) -> Tally:
    since = value["since"]
    return Tally(value["user"], timedelta(seconds=value["total"]), _time(since) if since else None)


def _pain(value: dict[str, Any]) -> Pain:
    return Pain(timedelta(seconds=value["lost"]), _time(value["at"]))


def _orders(facts: Mapping[str, str]) -> Orders:
    lend, reclaim, paused, brake = {}, {}, False, ""
    for key, text in facts.items():
        kind, _, name = key.partition(" ")
        value = json.loads(text)
        if kind == "pause":
            paused = True
        elif kind == "brake":
            brake = str(value)
        elif kind == "lend":
            lend[name] = LendOrder(value["enabled"], _time(value["until"]) if value["until"] else None)
        elif kind == "reclaim":
            reclaim[name] = ReclaimOrder(frozenset(value["nodes"]), _time(value["until"]), value["by"])
    return Orders(paused, brake, lend, reclaim)


def _key(key: str | JobKey) -> str:
    return f"{key.id} {key.submitted.isoformat()} {key.restarts}" if isinstance(key, JobKey) else key


def _job_key(text: str) -> JobKey:
    job_id, submitted, restarts = text.split(" ")
    return JobKey(job_id, _time(submitted), int(restarts))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _moved(value: Any, by: timedelta) -> Any:
    if isinstance(value, dict):
        return {key: _moved(each, by) if key in ("at", "deadline") else each for key, each in value.items()}
    return _time(value) + by


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"{type(value).__name__} is not kept in the ledger")
