"""The shell around the cycle: one at a time, signals, cadence, wake-ups. It decides nothing about the cluster."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from slurm_reserve import control, cycle
from slurm_reserve.errors import ReserveError
from slurm_reserve.execute import Clock
from slurm_reserve.giveback import GiveBack
from slurm_reserve.ledger import Ledger
from slurm_reserve.record import Recorder
from slurm_reserve.site import Site
from slurm_reserve.slurm.port import Slurm

LOCK_NAME = "daemon.lock"
# While a node is on its way back the cluster is looked at more often, ever less so as it takes longer.
SOONEST, LATER = timedelta(milliseconds=200), 1.5
# Within this a daemon that stops gives back what nobody would take back after it; systemd waits 60 s by default.
GIVE_BACK_WITHIN = timedelta(seconds=45)


class AlreadyRunningError(ReserveError):
    """Another daemon holds the lock."""


class Log(Protocol):
    """What is used of a structured logger."""

    def info(self, event: str, **values: Any) -> Any:
        """Say what happened."""
        ...

    def error(self, event: str, **values: Any) -> Any:
        """Say what went wrong."""
        ...


@contextmanager
def only_one(run_dir: Path) -> Iterator[None]:
    """Hold the daemon's lock; the system drops it with the process, however that ends."""
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
    handle = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunningError(f"a daemon runs already (process {holder}); stop it first") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


@dataclass(slots=True)
class Daemon:
    """Runs cycles until it is told to stop."""

    site: Site
    load: Callable[[], Site]  # reads the site file again; raises ReserveError
    slurm: Slurm
    ledger: Ledger
    recorder: Recorder
    clock: Clock
    log: Log
    _stop: bool = False
    _reload: bool = False
    _ailing: str = ""
    _pause: timedelta = field(default=SOONEST)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; a cycle that has begun is finished, and unprotected loans are given back."""
        self.site = self._as_watched(self.site)
        waker, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        door = control.ControlSocket(self.site.daemon.run_dir / control.SOCKET_NAME)
        self.log.info("started", site=str(self.site.path), reservations=len(self.site.reservations))
        _notify("READY=1")
        try:
            while not self._stop:
                self._wait(self._cycle(), door, waker)
        finally:
            _notify("STOPPING=1")
            door.close()
            self._leave()

    def _leave(self) -> None:
        """Loans stay where Slurm itself gives the nodes back; the others end now."""
        try:
            result = self._giving_back().run(GIVE_BACK_WITHIN)
        except ReserveError as error:
            self.log.error("stopped; what was lent without a net could not be given back", cause=str(error))
            return
        given = f"{len(result)} actions gave back what nobody else would" if result else "nothing had to be given back"
        self.log.info(f"stopped; {given}; other loans stay, for Slurm itself gives them back")

    def _giving_back(self) -> GiveBack:
        return GiveBack(self.site, self.slurm, self.ledger, self.recorder, self.clock)

    def _as_watched(self, site: Site) -> Site:
        """A declared fail-safe is believed only where a service watches this process: sd_watchdog_enabled(3)."""
        if not site.daemon.fail_safe or os.environ.get("WATCHDOG_USEC"):
            return site
        self.log.error(
            "daemon.fail_safe is declared, but no service watches this process: where Slurm would not take nodes back "
            "by itself nothing is lent; start it by plugins/systemd/slurm-reserve.service"
        )
        return replace(site, daemon=replace(site.daemon, fail_safe=False))

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stop = True

    def _cycle(self) -> timedelta:
        """One cycle; returns how long to wait for the next."""
        self._read_again()
        self.ledger.read_orders()
        control.forget_past(self.ledger, self.clock())
        try:
            result = cycle.run_once(self.site, self.slurm, self.ledger, self.recorder, self.clock)
        except ReserveError as error:
            self._ail(f"{type(error).__name__}: {error}")
            return self.site.daemon.poll
        if self._ailing:
            self.log.info("the cluster can be read again")
            self._ailing = ""
        return self._until(result.plan.wake_at)

    def _ail(self, text: str) -> None:
        """Say what is wrong once, not every few seconds."""
        if text != self._ailing:
            self.log.error("no action is taken", cause=text)
        self._ailing = text

    def _until(self, due: datetime | None) -> timedelta:
        poll = self.site.daemon.poll
        if due is None:
            self._pause = SOONEST
            return poll
        wait = due - self.clock()
        if wait <= timedelta(0):
            wait, self._pause = self._pause, min(self._pause * LATER, poll)
        return min(wait, poll)

    def _read_again(self) -> None:
        """SIGHUP: a bad new file keeps the old configuration."""
        if not self._reload:
            return
        self._reload = False
        try:
            self.site = self._as_watched(self.load())
            self.log.info("read the site file again", reservations=len(self.site.reservations))
        except ReserveError as error:
            self.log.error("the site file is not taken over; the old configuration stays", cause=str(error))

    def _wait(self, longest: timedelta, door: control.ControlSocket, waker: int) -> None:
        """Until the time is over, a signal comes or somebody asks something."""
        _notify("WATCHDOG=1")
        if self._stop or self._reload:
            return
        ready, _, _ = select.select([door.fileno(), waker], [], [], max(longest.total_seconds(), 0.0))
        if waker in ready:
            os.read(waker, 512)
        if door.fileno() in ready:
            self._reload |= door.answer(self.ledger) == "wake"


def _notify(state: str) -> None:
    """Tell systemd, where it asked to be told: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(state.encode(), target)
        except OSError:
            return  # systemd will find out by its watchdog
