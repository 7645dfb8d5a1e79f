"""The shell around the cycle: one at a time, signals, cadence, wake-ups. It decides nothing about the cluster."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from slurm_reserve import control, wake
from slurm_reserve.desk import Desk, Members
from slurm_reserve.door import Door
from slurm_reserve.errors import ReserveError
from slurm_reserve.giveback import GiveBack
from slurm_reserve.lease import Lease
from slurm_reserve.rounds import Log, Rounds
from slurm_reserve.site import Site
from slurm_reserve.wake import WakeFile

LOCK_NAME = "daemon.lock"
RUN_MODE, STATE_MODE = 0o755, 0o750  # of folders that are made: slurmctld passes through the one to ring
# Seconds until a lock that is held is taken for a daemon's: `status` holds it for a moment, to see whether one runs.
LOOKED_AT, ASK_AGAIN = 0.5, 0.02
# Within this a daemon that stops gives back what nobody would take back after it; systemd waits 60 s by default.
GIVE_BACK_WITHIN = timedelta(seconds=45)


class AlreadyRunningError(ReserveError):
    """Another daemon holds the lock."""


class LockError(ReserveError):
    """The lock cannot be made."""


@contextmanager
def only_one(run_dir: Path, state_dir: Path) -> Iterator[None]:
    """Hold the daemon's lock in each folder; the system drops it with the process, however that ends.

    Both where it is spoken to and where it remembers: two site files may share either.
    """
    modes = {state_dir.resolve(): STATE_MODE} | {run_dir.resolve(): RUN_MODE}
    with ExitStack() as held:
        for folder, mode in modes.items():
            held.enter_context(_locked(folder, mode))
        yield


@contextmanager
def _locked(folder: Path, mode: int) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
        handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise LockError(f"{folder / LOCK_NAME}: {error.strerror}; give the daemon's user the folder") from error
    try:
        try:
            _lock(handle)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"a daemon runs already (process {holder}, {folder / LOCK_NAME}); stop it first"
            ) from error
        except OSError as error:
            raise LockError(f"{folder / LOCK_NAME} cannot be locked: {error.strerror}") from error
        with suppress(OSError):  # who holds it is said for people; a full disk keeps no daemon from serving
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Raises BlockingIOError where somebody holds it who does not only look."""
    end = time.monotonic() + LOOKED_AT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        else:
            return
        time.sleep(ASK_AGAIN)


@dataclass(slots=True)
class Daemon:
    """Goes its rounds until it is told to stop."""

    rounds: Rounds
    load: Callable[[], Site]  # reads the site file again; raises ReserveError
    lease: Lease | None = None  # where daemons on several hosts take turns
    read_members: Callable[[frozenset[str]], Members] = lambda _: {}  # accounts -> users; raises ReserveError
    _stop: bool = False
    _reload: bool = False
    _bell: WakeFile | None = None
    _rung_by: str = ""  # who was let ring it

    @property
    def log(self) -> Log:
        """Where it is told what happens."""
        return self.rounds.log

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; a cycle that has begun is finished, and unprotected loans are given back."""
        site = self._as_watched(self.rounds.site)
        self.rounds.take_over(site)
        self.rounds.beat = _feed
        waker, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        door = Door(site.daemon.run_dir / control.SOCKET_NAME)
        desk = Desk(self.rounds, self.read_members)
        self._bell = self._make_bell(site)
        self.log.info("started", site=str(site.path), reservations=len(site.reservations))
        _notify("READY=1")
        try:
            while not self._stop:
                self._read_again()
                self.rounds.step()
                self._open_bell()
                self._wait(door, desk, waker)
        finally:
            _notify("STOPPING=1")
            door.close()
            if self._bell is not None:
                self._bell.close()
            self._leave()
            if self.rounds.watch is not None:
                self.rounds.watch.close()

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stop = True

    def _make_bell(self, site: Site) -> WakeFile | None:
        """The file by which slurmctld's plugin wakes us; without it everything works by polling."""
        path = site.daemon.run_dir / wake.FILE_NAME
        try:
            return WakeFile(path)
        except OSError as error:
            self.log.error("no wake-ups, only polling", cause=f"{path}: {error}")
            return None

    def _open_bell(self) -> None:
        """Once it is known who runs slurmctld."""
        who = self.rounds.seen.config.slurm_user if self.rounds.seen else ""
        if self._bell is None or not who or who == self._rung_by:
            return
        self._rung_by = who
        if not self._bell.open_to(who):
            self.log.info(
                f"no wake-ups, only polling: {who} may not ring; put the daemon's user into the group of {who}"
            )

    def _read_again(self) -> None:
        """SIGHUP: a bad new file keeps the old configuration."""
        if not self._reload:
            return
        self._reload = False
        try:
            site = self._as_watched(self.load())
        except ReserveError as error:
            self.log.error("the site file is not taken over; the old configuration stays", cause=str(error))
            return
        self.rounds.take_over(site)
        self.log.info("read the site file again", reservations=len(site.reservations))

    def _wait(self, door: Door, desk: Desk, waker: int) -> None:
        """Until something is due, a signal comes, somebody asks something or submits something."""
        _feed()
        if self._stop or self._reload:
            return
        ears = [*door.reading(), waker, *([self._bell.fileno()] if self._bell else [])]
        due = max(self.rounds.due - time.monotonic(), 0.0)
        patience = min(due, _fed_within(), due if door.patience is None else door.patience)
        ready, _, _ = select.select(ears, door.writing(), [], patience)
        if waker in ready:
            os.read(waker, 512)
        if ordered := door.answer(desk.decide) - {"status", "health"}:
            self.rounds.hurry()
            self._reload |= "wake" in ordered
        if self._bell and self._bell.fileno() in ready:
            self.rounds.rung(self._bell.take())

    def _leave(self) -> None:
        """Loans stay where Slurm itself gives the nodes back; the others end now."""
        rounds = self.rounds
        if self.lease is not None and not self.lease.is_held:
            self.log.info("stopped; it stood by")
            return
        try:
            giving = GiveBack(rounds.site, rounds.slurm, rounds.ledger, rounds.recorder, rounds.clock)
            done = giving.run(GIVE_BACK_WITHIN)
        except (ReserveError, ValueError) as error:
            self.log.error("stopped; what was lent without a net could not be given back", cause=str(error))
            return
        given = f"{len(done)} actions gave back what nobody else would" if done else "nothing had to be given back"
        self.log.info(f"stopped; {given}; other loans stay, for Slurm itself gives them back")
        if self.lease is not None:
            with suppress(ReserveError):  # then it runs out
                self.lease.release()

    def _as_watched(self, site: Site) -> Site:
        """A declared fail-safe is believed only where a service watches this process: sd_watchdog_enabled(3)."""
        if not site.daemon.fail_safe or os.environ.get("WATCHDOG_USEC"):
            return site
        self.log.error(
            "daemon.fail_safe is declared, but no service watches this process: where Slurm would not take nodes back "
            "by itself nothing is lent; start it by plugins/systemd/slurm-reserve.service"
        )
        return replace(site, daemon=replace(site.daemon, fail_safe=False))


def _feed() -> None:
    """The watchdog: between two cycles, and after each action, for a plan may have many that take their time."""
    _notify("WATCHDOG=1")


def _fed_within() -> float:
    """Seconds within which the watchdog is fed again, half of its patience: sd_watchdog_enabled(3)."""
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 2_000_000 or float("inf")


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
