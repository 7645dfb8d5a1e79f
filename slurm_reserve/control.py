"""Standing orders that persist, and how the CLI gives them: to the daemon, at its socket.

Who may give which is decided there (:mod:`slurm_reserve.desk`). Without a daemon the same orders are written to the
ledger directly.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slurm_reserve import hostlist
from slurm_reserve.errors import ReserveError
from slurm_reserve.ledger import Ledger
from slurm_reserve.memory import ReclaimOrder
from slurm_reserve.model import Reservation
from slurm_reserve.site import ReservationSpec
from slurm_reserve.words import printable

SOCKET_NAME = "control.sock"
_MOST_BYTES = 16_777_216  # of an answer: the status of thousands of nodes
MOST_RECLAIMS = 100  # orders for different nodes of one reservation: each is looked at in every cycle
AT_THE_DOOR = timedelta(minutes=1)  # for so long an order may have waited for the daemon
_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")


class OrderError(ReserveError):
    """An order that is not understood or not allowed; nothing was changed."""


def apply(ledger: Ledger, order: dict[str, Any], now: datetime, is_owner: bool = False) -> str:
    """Write a standing order to the ledger; returns what it says now. Raises OrderError.

    An owner's order ends none sooner that somebody else gave.
    """
    match order:
        case {"do": "pause"}:
            ledger.put("orders", "pause", value=True)
            return "lending is paused; reclaim goes on"
        case {"do": "resume"}:
            ledger.drop("orders", "pause")
            ledger.drop("orders", "brake")
            ledger.forget("eviction_times")  # the brake counts anew
            return "lending goes on"
        case {"do": "restore", "reservation": str(name)}:
            ledger.forget("corrected", f"{_name(name)} ")
            return f"{name} is made what is declared again"
        case {"do": "adopt", "reservation": str(name)}:
            ledger.put("made", _name(name), now)
            return f"{name} is taken over"
        case {"do": "lend", "reservation": str(name), "enabled": bool(enabled), "until": str() | None as until}:
            ledger.put("orders", f"lend {_name(name)}", {"enabled": enabled, "until": until and _time(until, now)})
            return f"lending of {name} is {'on' if enabled else 'off'}" + (f" until {until}" if until else "")
        case {"do": "reclaim", "reservation": str(name), "nodes": list(nodes), "until": str(until), "by": str(by)}:
            these = frozenset(_name(node) for node in nodes)
            ends = datetime.fromisoformat(_time(until, now))
            return _reclaim(ledger, _name(name), ReclaimOrder(these, ends, printable(by, 64)), now, is_owner)
        case {"do": "wake"}:
            return "the daemon reads its configuration again and looks at once"
    raise OrderError(f"not an order: {str(order)[:200]}")


def _reclaim(ledger: Ledger, name: str, order: ReclaimOrder, now: datetime, is_owner: bool) -> str:
    """Each order holds by itself until its time; one for the very same nodes takes the place of the one before."""
    try:
        nodes = hostlist.fold(order.nodes)
    except ReserveError as error:
        raise OrderError(str(error)) from error
    key, orders = f"{name} {nodes}".strip(), ledger.memory().orders
    before = orders.reclaim.get(key)
    if is_owner and before is not None and before.by != order.by and before.until > order.until:
        order = before
    elif before is None and len(orders.reclaims(name, now)) >= MOST_RECLAIMS:
        raise OrderError(f"{MOST_RECLAIMS} orders for nodes of {name} hold already; order all of its nodes back")
    else:
        ledger.put("orders", f"reclaim {key}", asdict(order))
    by = f", as {order.by} ordered" if order is before else ""
    return f"{nodes or 'all nodes'} of {name} come back and are not lent before {order.until.isoformat()}{by}"


def nodes_of(spec: ReservationSpec, reservation: Reservation | None) -> frozenset[str] | None:
    """The nodes that are declared, and those that Slurm has; None where neither is known."""
    there = reservation.nodes if reservation is not None else None
    return spec.nodes | (there or frozenset()) if isinstance(spec.nodes, frozenset) else there


def refuse_unknown(name: str, nodes: Iterable[object], known: frozenset[str] | None) -> None:
    """Raise OrderError for nodes that are none of the reservation's, where its own are known."""
    if known is not None and (unknown := sorted({str(node) for node in nodes} - known)):
        listed = printable(",".join(unknown), 80)
        raise OrderError(f"{name} has no node {listed}; it has {hostlist.fold(known) or 'none'}")


def _name(text: object) -> str:
    """A name as reservations and nodes have it: what is written to the ledger is read in every cycle."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise OrderError(f"{printable(str(text), 80)!r} is no name of a reservation or a node")
    return text


def _time(text: str, now: datetime) -> str:
    """In UTC; a time that no zone can be found for, or that none can be told in, is refused before it is kept.

    So is one that is over: nobody gives an order for the past.
    """
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError("no zone")
        utc = found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        example = "2030-05-06T12:00:00+00:00"
        raise OrderError(f"{printable(text, 80)!r} is no time with its zone; write {example}") from error
    if utc < now - AT_THE_DOOR:
        raise OrderError(f"{printable(text, 80)} is over; write a time that is yet to come")
    return utc.isoformat()


def forget_past(ledger: Ledger, now: datetime) -> None:
    """Drop reclaim orders whose time is over."""
    for key, reclaim in ledger.memory().orders.reclaim.items():
        if reclaim.until <= now:
            ledger.drop("orders", f"reclaim {key}")


def give(run_dir: Path, order: dict[str, Any]) -> str | None:
    """Give an order to the running daemon; None when there is none. Raises OrderError when it refuses."""
    answer = ask(run_dir, order)
    return None if answer is None else str(answer["text"])


def ask(run_dir: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """All that the daemon answers; None when there is none. Raises OrderError when it refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60.0)  # the daemon answers between two cycles
        try:
            connection.connect(str(run_dir / SOCKET_NAME))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline(_MOST_BYTES) or b"{}")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (OSError, ValueError) as error:
            raise OrderError(f"the daemon does not answer on {run_dir / SOCKET_NAME}: {error}") from error
    if not isinstance(answer, dict) or not answer.get("ok"):
        raise OrderError(answer.get("text", "the daemon gave no answer") if isinstance(answer, dict) else "no answer")
    return answer
