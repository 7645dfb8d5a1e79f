"""Standing orders that persist, and how the CLI gives them: to the daemon, at its socket.

Who may give which is decided there (:mod:`slurm_reserve.desk`). Without a daemon the same orders are written to the
ledger directly.
"""

from __future__ import annotations

import json
import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurm_reserve.errors import ReserveError
from slurm_reserve.ledger import Ledger
from slurm_reserve.words import printable

SOCKET_NAME = "control.sock"
_MOST_BYTES = 16_777_216  # of an answer: the status of thousands of nodes
_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")


class OrderError(ReserveError):
    """An order that is not understood or not allowed; nothing was changed."""


def apply(ledger: Ledger, order: dict[str, Any]) -> str:
    """Write a standing order to the ledger; returns what it says now. Raises OrderError."""
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
            ledger.put("made", _name(name), datetime.now(UTC))
            return f"{name} is taken over"
        case {"do": "lend", "reservation": str(name), "enabled": bool(enabled), "until": str() | None as until}:
            ledger.put("orders", f"lend {_name(name)}", {"enabled": enabled, "until": until and _time(until)})
            return f"lending of {name} is {'on' if enabled else 'off'}" + (f" until {until}" if until else "")
        case {"do": "reclaim", "reservation": str(name), "nodes": list(nodes), "until": str(until), "by": str(by)}:
            these = [_name(node) for node in nodes]
            ledger.put(
                "orders", f"reclaim {_name(name)}", {"nodes": these, "until": _time(until), "by": printable(by, 64)}
            )
            return f"{','.join(nodes) or 'all nodes'} of {name} come back and are not lent before {until}"
        case {"do": "wake"}:
            return "the daemon reads its configuration again and looks at once"
    raise OrderError(f"not an order: {str(order)[:200]}")


def _name(text: object) -> str:
    """A name as reservations and nodes have it: what is written to the ledger is read in every cycle."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise OrderError(f"{printable(str(text), 80)!r} is no name of a reservation or a node")
    return text


def _time(text: str) -> str:
    """In UTC; a time that no zone can be found for, or that none can be told in, is refused before it is kept."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError("no zone")
        return found.astimezone(UTC).isoformat()
    except (ValueError, OverflowError) as error:
        example = "2030-05-06T12:00:00+00:00"
        raise OrderError(f"{printable(text, 80)!r} is no time with its zone; write {example}") from error


def forget_past(ledger: Ledger, now: datetime) -> None:
    """Drop reclaim orders whose time is over."""
    for name, reclaim in ledger.memory().orders.reclaim.items():
        if reclaim.until <= now:
            ledger.drop("orders", f"reclaim {name}")


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
