"""Runs the site's hook for events: an argument list, never a shell, beside the cycle and never in its way."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from slurm_reserve.alarms import Event
from slurm_reserve.words import printable

MOST_WAITING = 64  # events; a hook that is slower than they come loses some, and is told how many are lost by metrics
AT_THE_END = 2.0  # seconds that a daemon which stops leaves to a hook that runs
# What systemd told the daemon is not for its children: they would answer in its place.
_NOT_PASSED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Log(Protocol):
    """What is used of a structured logger."""

    def error(self, event: str, **values: Any) -> Any:
        """Say what went wrong."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """What is run, and for how long at most."""

    argv: tuple[str, ...]
    timeout: float  # seconds


@dataclass(slots=True)
class Hook:
    """A thread that runs the command for one event after the other."""

    command: Command
    cluster: str
    log: Log
    results: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=1000))  # (alarm, outcome), to count
    _waiting: queue.Queue[Event | None] = field(default_factory=lambda: queue.Queue(MOST_WAITING))
    _process: subprocess.Popen[bytes] | None = None  # that runs now
    _is_failing: bool = False
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._serve, name="hook", daemon=True)
        self._thread.start()

    def tell(self, event: Event) -> None:
        """Have the command run for it, when its turn comes; returns at once."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.results.append((event.alarm, "dropped"))

    def close(self) -> None:
        """What runs has a moment left; what waits is told no more."""
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put_nowait(None)
        self._thread.join(AT_THE_END)
        if (process := self._process) is not None:
            _end(process)
            self._thread.join(AT_THE_END)

    def _serve(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                problem = self._run(event)
            except Exception as error:  # the thread must live, whatever a hook does
                problem = str(error)
            self.results.append((event.alarm, "failed" if problem else "done"))
            if problem and not self._is_failing:
                self.log.error("the hook fails; this is said once, until it is well", cause=problem, told=event.text)
            self._is_failing = bool(problem)

    def _run(self, event: Event) -> str:
        """Run it to its end; returns what went wrong, or ""."""
        program = self.command.argv[0]
        # Its complaints go to memory and not to a pipe, which a child of its own could hold open.
        with os.fdopen(os.memfd_create("hook", os.MFD_CLOEXEC), "rb") as said:
            try:
                self._process = self._started(event, said)
            except (OSError, ValueError) as error:
                return f"{program}: {error}"
            with self._process as process:
                try:
                    process.communicate(json.dumps(message(event, self.cluster)).encode(), self.command.timeout)
                except subprocess.TimeoutExpired:
                    return f"{program}: not done within {self.command.timeout:g} s, and ended"
                finally:
                    _end(process)
                    self._process = None
            said.seek(0)
            complaint = printable(said.read(2000).decode(errors="replace").strip())
            return f"{program}: exit status {process.returncode}: {complaint}" if process.returncode else ""

    def _started(self, event: Event, said: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED} | {
            "SLURM_RESERVE_EVENT": str(event.alarm),
            "SLURM_RESERVE_CLUSTER": self.cluster,
            "SLURM_RESERVE_RESERVATION": event.reservation,
            "SLURM_RESERVE_TEXT": event.text,
        }
        return subprocess.Popen(
            self.command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=environment,
            cwd="/",
            start_new_session=True,  # so that it can be ended with all that it started
        )


def message(event: Event, cluster: str) -> dict[str, Any]:
    """What the command reads as JSON from its standard input."""
    return {
        "event": str(event.alarm),
        "cluster": cluster,
        "host": socket.gethostname(),
        "at": event.at.isoformat(timespec="seconds") if event.at else None,
        "reservation": event.reservation,
        "text": event.text,
        "held_back": event.held_back,
        "data": dict(event.data),
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started; nothing where it is over."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
