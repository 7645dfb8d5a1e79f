"""The daemon's end of its socket: anybody may knock, nobody can hold it up.

Nothing here waits. What has come is read, what can be sent is sent, and between the two somebody else decides. Whoever
takes too long, says too much or comes too often is told so and shown out. Who asks is known from the system (peer
credentials of the socket), not from what is said.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm_reserve.errors import ReserveError

MOST_BYTES = 65_536  # of a request
MOST_SECONDS = 1.0  # for a whole request, and again for its answer
MOST_TALKS, MOST_TALKS_EACH = 32, 4  # at once, of others than root and the daemon's own user
MOST_REQUESTS, PER_SECONDS = 20, 10.0  # of one user
_AT_ONCE = 16  # new ones that are let in at a time
_DEAF = 0.1  # seconds for which nobody is let in after somebody had to be shown out
_PEER = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED

Request = dict[str, Any]
Decide = Callable[[int, Request], dict[str, Any]]  # uid and request -> what is answered; raises ReserveError


class DoorError(ReserveError):
    """A request that cannot be read."""


@dataclass(slots=True)
class _Talk:
    """One who has come in."""

    connection: socket.socket
    uid: int
    until: float
    received: bytes = b""
    to_send: bytes = b""


@dataclass(slots=True)
class _Visitors:
    """How often each user has come lately."""

    times: dict[int, deque[float]] = field(default_factory=dict)

    def is_too_often(self, uid: int, now: float) -> bool:
        seen = self.times.setdefault(uid, deque(maxlen=MOST_REQUESTS))
        is_full = len(seen) == MOST_REQUESTS and now - seen[0] < PER_SECONDS
        if not is_full:
            seen.append(now)
        for other in [uid for uid, when in self.times.items() if now - when[-1] > PER_SECONDS]:
            del self.times[other]
        return is_full


class Door:
    """The listening socket and everybody who has come in through it."""

    def __init__(self, path: Path) -> None:
        """Bind, replacing what a dead daemon left: the caller holds the daemon's lock."""
        path.unlink(missing_ok=True)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o111)  # anybody may ask; what they may do is decided for each request
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(old)
        self._socket.listen(64)
        self._socket.setblocking(False)
        self._talks: list[_Talk] = []
        self._visitors = _Visitors()
        self._deaf_until = 0.0

    def reading(self) -> list[int]:
        """What to wait for with select: somebody knocks, or says something."""
        heard = [talk.connection.fileno() for talk in self._talks if not talk.to_send]
        return heard if time.monotonic() < self._deaf_until else [self._socket.fileno(), *heard]

    def writing(self) -> list[int]:
        """What to wait for with select: somebody can be told more."""
        return [talk.connection.fileno() for talk in self._talks if talk.to_send]

    @property
    def patience(self) -> float | None:
        """How long select may wait at most, in seconds; None when nobody is inside and everybody may come."""
        now = time.monotonic()
        times = [talk.until for talk in self._talks] + ([self._deaf_until] if now < self._deaf_until else [])
        return max(min(times) - now, 0.0) if times else None

    def answer(self, decide: Decide) -> frozenset[str]:
        """Do what can be done without waiting; gives what was ordered and done.

        What is wrong with a request goes into the answer.
        """
        self._let_in()
        done: set[str] = set()
        for talk in self._talks:
            if not talk.to_send and (request := self._heard(talk)) is not None:
                done.add(self._tell(talk, request, decide))
        for talk in self._talks:
            if talk.to_send:
                self._send(talk)
        for talk in [talk for talk in self._talks if talk.to_send and talk.connection.fileno() >= 0]:
            if talk.until < time.monotonic():  # who has been told nothing yet is told first, at the next look
                talk.connection.close()
        self._talks = [talk for talk in self._talks if talk.connection.fileno() >= 0]
        return frozenset(done - {""})

    def close(self) -> None:
        """Let go and leave no file."""
        for talk in self._talks:
            talk.connection.close()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _let_in(self) -> None:
        now = time.monotonic()
        if now < self._deaf_until:
            return
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setblocking(False)
            _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            talk = _Talk(connection, uid, now + MOST_SECONDS)
            if why := self._unwelcome(uid, now):
                talk.to_send = _line({"ok": False, "text": why})
                self._send(talk)
                connection.close()
                self._deaf_until = now + _DEAF
            else:
                self._talks.append(talk)

    def _unwelcome(self, uid: int, now: float) -> str:
        """Why somebody is not let in; root and the daemon's own user always are."""
        if uid in (0, os.geteuid()):
            return ""
        inside = Counter(talk.uid for talk in self._talks)
        if inside[uid] >= MOST_TALKS_EACH or inside.total() >= MOST_TALKS or self._visitors.is_too_often(uid, now):
            return "too many requests; try again in a few seconds"
        return ""

    def _heard(self, talk: _Talk) -> Request | DoorError | None:
        """The whole request; None while it is not all there, or nobody is there any more."""
        try:
            while not talk.received.endswith(b"\n") and len(talk.received) <= MOST_BYTES:
                chunk = talk.connection.recv(65_536)
                if not chunk:
                    return DoorError("the request is cut off or too long")
                talk.received += chunk
        except BlockingIOError:
            is_late = time.monotonic() > talk.until
            return DoorError("the request is cut off or too long") if is_late else None
        except OSError:
            talk.connection.close()
            return None
        if len(talk.received) > MOST_BYTES:
            return DoorError("the request is cut off or too long")
        try:
            request = json.loads(talk.received)
        except (ValueError, RecursionError) as error:
            return DoorError(f"no request: {str(error)[:200]}")
        return request if isinstance(request, dict) else DoorError("a request is a JSON object")

    def _tell(self, talk: _Talk, request: Request | DoorError, decide: Decide) -> str:
        done = ""
        try:
            if isinstance(request, DoorError):
                raise request
            reply: dict[str, Any] = {"ok": True, **decide(talk.uid, request)}
            done = str(request.get("do", ""))
        except (ReserveError, ValueError, RecursionError) as error:
            reply = {"ok": False, "text": str(error)}
        talk.to_send, talk.until = _line(reply), time.monotonic() + MOST_SECONDS
        return done

    def _send(self, talk: _Talk) -> None:
        try:
            sent = talk.connection.send(talk.to_send)
        except BlockingIOError:
            return
        except OSError:  # the asker is gone; the order stands
            talk.connection.close()
            return
        talk.to_send = talk.to_send[sent:]
        if not talk.to_send:
            talk.connection.close()


def _line(reply: dict[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"
