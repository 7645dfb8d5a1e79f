"""Standing orders that persist, and the socket by which the CLI gives them.

Who asks is known from the system (peer credentials of the socket), not from what is said. Root and the daemon's own
user may give orders. Without a daemon the same orders are written to the ledger directly.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurm_reserve.errors import ReserveError
from slurm_reserve.ledger import Ledger
from slurm_reserve.words import printable

SOCKET_NAME = "control.sock"
_MOST_BYTES = 65_536
_MOST_SECONDS = 1.0  # for a whole request
_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")
_PEER = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


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
    try:
        aware = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise OrderError(f"{printable(text, 80)!r} is no time with its zone; write 2030-05-06T12:00:00+00:00")
    return text


def forget_past(ledger: Ledger, now: datetime) -> None:
    """Drop reclaim orders whose time is over."""
    for name, reclaim in ledger.memory().orders.reclaim.items():
        if reclaim.until <= now:
            ledger.drop("orders", f"reclaim {name}")


class ControlSocket:
    """The daemon's end; it is asked between two cycles and never blocks for long."""

    def __init__(self, path: Path) -> None:
        """Bind, replacing what a dead daemon left: the caller holds the daemon's lock."""
        path.unlink(missing_ok=True)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o117)  # the owner and its group only
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(old)
        self._socket.listen(8)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def answer(self, ledger: Ledger) -> str:
        """Take one request and answer it; returns what was ordered, "" when nothing was.

        What is wrong with a request goes into the answer.
        """
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return ""
        with connection:
            try:
                order = _request(connection)
                reply = {"ok": True, "text": apply(ledger, order)}
            except (ReserveError, OSError, ValueError, RecursionError) as error:
                order, reply = {}, {"ok": False, "text": str(error)}
            with contextlib.suppress(OSError):  # the asker may be gone; the order stands
                connection.sendall(json.dumps(reply).encode() + b"\n")
        return str(order.get("do", ""))

    def close(self) -> None:
        """Let go and leave no file."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _request(connection: socket.socket) -> dict[str, Any]:
    received, end = b"", time.monotonic() + _MOST_SECONDS
    while not received.endswith(b"\n"):
        connection.settimeout(max(end - time.monotonic(), 0.001))  # for all of it: no cycle is kept waiting for long
        chunk = connection.recv(4096)
        received += chunk
        if not chunk or len(received) > _MOST_BYTES:
            raise OrderError("the request is cut off or too long")
    # Read before it is refused: who is cut off while it sends never gets to read why.
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if uid not in (0, os.geteuid()):
        raise OrderError(f"user id {uid} may not give orders; use root or the daemon's own user")
    request = json.loads(received)
    if not isinstance(request, dict):
        raise OrderError("a request is a JSON object")
    return request


def give(run_dir: Path, order: dict[str, Any]) -> str | None:
    """Give an order to the running daemon; None when there is none. Raises OrderError when it refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60.0)  # the daemon answers between two cycles
        try:
            connection.connect(str(run_dir / SOCKET_NAME))
            connection.sendall(json.dumps(order).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline(_MOST_BYTES) or b"{}")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (OSError, ValueError) as error:
            raise OrderError(f"the daemon does not answer on {run_dir / SOCKET_NAME}: {error}") from error
    if not answer.get("ok"):
        raise OrderError(answer.get("text", "the daemon gave no answer"))
    return str(answer["text"])
