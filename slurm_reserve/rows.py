"""Loans, waits and uses as rows of the journal, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from slurm_reserve import hostlist
from slurm_reserve.facts import LoanFact, Use, UseFact, WaitFact

Row = Mapping[str, Any]
_TIMES = ("wanted", "seen", "told", "evicted", "freed", "started", "ended")


def loan_row(loan: LoanFact) -> tuple[object, ...]:
    """In the order of the journal's statement."""
    return (
        loan.job, loan.submitted.isoformat(), loan.restarts, loan.user, loan.account, loan.reservation,
        hostlist.fold(loan.nodes) if loan.nodes else "", loan.bid, _iso(loan.lent_at), _iso(loan.started),
        _iso(loan.ended), loan.cause, loan.node_seconds,
    )  # fmt: skip


def wait_row(wait: WaitFact) -> tuple[object, ...]:
    """In the order of the journal's statement."""
    return (
        wait.job, wait.submitted.isoformat(), wait.restarts, wait.user, wait.reservation, wait.eligible.isoformat(),
        wait.bound, int(wait.needed), *(_iso(getattr(wait, name)) for name in _TIMES),
    )  # fmt: skip


def loan_of(row: Row) -> LoanFact:
    """Raises ValueError or HostlistError for a row that is not ours."""
    known = ("job", "restarts", "user", "account", "reservation", "bid", "cause")
    return LoanFact(
        **{name: row[name] for name in known},
        submitted=datetime.fromisoformat(row["submitted"]),
        nodes=hostlist.expand(row["nodes"]),
        lent_at=_time(row["lent_at"]),
        started=_time(row["started"]),
        ended=_time(row["ended"]),
    )


def wait_of(row: Row) -> WaitFact:
    """Raises ValueError for a row that is not ours."""
    known: dict[str, Any] = {name: row[name] for name in ("job", "restarts", "user", "reservation", "bound")}
    times: dict[str, Any] = {name: _time(row[name]) for name in _TIMES}
    return WaitFact(
        **known,
        submitted=datetime.fromisoformat(row["submitted"]),
        eligible=datetime.fromisoformat(row["eligible"]),
        needed=bool(row["needed"]),
        **times,
    )


def use_of(row: Row) -> UseFact:
    """Raises ValueError or HostlistError for a row that is not ours."""
    nodes = hostlist.expand(row["nodes"])
    return UseFact(datetime.fromisoformat(row["at"]), row["reservation"], nodes, Use(row["use"]))


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
