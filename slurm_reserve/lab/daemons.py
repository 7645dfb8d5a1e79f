"""The daemons of a lab: how each is started, found, known to be ready, and ended."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from subprocess import DEVNULL, PIPE

import psutil

from slurm_reserve.lab import conf, files
from slurm_reserve.lab.errors import LabError
from slurm_reserve.lab.inside import Inside
from slurm_reserve.lab.spec import DIRECTORY, TMP, LabSpec

READY = 30.0  # seconds for a daemon to answer; each takes less than two
GONE = 15.0  # seconds for a daemon to end by itself after SIGTERM


@dataclass(frozen=True, slots=True)
class Daemon:
    """One daemon. It puts itself in the background, and is from then on a child of the lab's first process."""

    name: str
    argv: tuple[str, ...]
    is_ready: Callable[[Inside], bool]
    process: tuple[str, ...]  # these arguments tell its process from others
    log: PurePosixPath

    def is_in(self, argv: list[str]) -> bool:
        """Whether these are the arguments of this daemon's process."""
        return bool(argv) and argv[0].rsplit("/", 1)[-1] == self.process[0] and set(self.process[1:]) <= set(argv)


def known(spec: LabSpec) -> dict[str, Daemon]:
    """Give the daemons that a lab has, in the order in which they must start."""
    daemons = [_munged(), *([_mariadbd(), _slurmdbd()] if spec.accounting else []), _slurmctld()]
    daemons += [_slurmd(node.name) for node in spec.node_specs]
    return {daemon.name: daemon for daemon in daemons}


def _munged() -> Daemon:
    log = DIRECTORY / "munge" / "munged.log"  # munged wants the folder to be root's
    argv = (
        "munged",
        "--force",  # in a user namespace / belongs to nobody, which munged would not trust
        f"--key-file={files.MUNGE_KEY}",
        f"--socket={files.MUNGE_SOCKET}",
        f"--pid-file={DIRECTORY}/munge/munged.pid",
        f"--log-file={log}",
        f"--seed-file={DIRECTORY}/munge/munged.seed",
    )
    return Daemon("munged", argv, _succeeds("munge", "-n"), ("munged",), log)


def _mariadbd() -> Daemon:
    log = conf.LOG_DIRECTORY / "mariadbd.log"
    argv = (
        *("setsid", "--fork", "mariadbd", "--no-defaults", "--user=root", f"--datadir={files.DATABASE}"),
        *("--bind-address=127.0.0.1", "--socket=/run/mysqld/mysqld.sock", "--skip-name-resolve"),
        *(f"--pid-file={DIRECTORY}/mariadbd.pid", f"--log-error={log}"),
        *(f"--tmpdir={TMP}", f"--init-file={DIRECTORY}/mariadb.sql"),
        # Nothing of it shall outlive the lab, so nothing of it need reach a disk.
        *("--innodb-doublewrite=0", "--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=16M"),
    )
    ready = _succeeds("mariadb-admin", "--no-defaults", "--socket=/run/mysqld/mysqld.sock", "ping")
    return Daemon("mariadbd", argv, ready, ("mariadbd",), log)


def _slurmdbd() -> Daemon:
    ready = _succeeds("sacctmgr", "-n", "show", "cluster")
    return Daemon("slurmdbd", ("slurmdbd",), ready, ("slurmdbd",), conf.LOG_DIRECTORY / "slurmdbd.log")


def _slurmctld() -> Daemon:
    log = conf.LOG_DIRECTORY / "slurmctld.log"
    return Daemon("slurmctld", ("slurmctld",), _succeeds("scontrol", "ping"), ("slurmctld",), log)


def _slurmd(node: str) -> Daemon:
    argv = ("slurmd", "-N", node)
    log = conf.LOG_DIRECTORY / f"slurmd-{node}.log"
    return Daemon(f"slurmd@{node}", argv, lambda inside: _has_registered(inside, node), argv, log)


def _succeeds(*argv: str) -> Callable[[Inside], bool]:
    return lambda inside: inside.run(argv, check=False).returncode == 0


def _has_registered(inside: Inside, node: str) -> bool:
    """Whether slurmctld has heard of a slurmd; the node may be down or drained all the same."""
    state = inside.run(["sinfo", "-h", "-a", "-n", node, "-o", "%T"], check=False).stdout.split()
    return bool(state) and not state[0].endswith("*") and not state[0].startswith("unk")


def find(inside: Inside, *daemons: Daemon) -> dict[str, psutil.Process]:
    """Give the processes of those daemons that run, by the daemon's name."""
    found = {}
    for process in inside.init.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            argv = process.cmdline()  # a zombie has none
            found.update({daemon.name: process for daemon in daemons if daemon.is_in(argv)})
    return found


def start(inside: Inside, *daemons: Daemon) -> None:
    """Start daemons that do not run, all at the same time, and wait until each answers; raises LabError.

    One that was stopped in its tracks goes on.
    """
    running = find(inside, *daemons)
    for process in running.values():
        if process.status() == psutil.STATUS_STOPPED:
            process.resume()
    starting = [
        (daemon, inside.popen(daemon.argv, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE))
        for daemon in daemons
        if daemon.name not in running
    ]
    for daemon, launched in starting:
        _, err = launched.communicate()
        if launched.returncode:
            raise LabError(f"{daemon.name} does not start: {err.strip() or _last_words(inside, daemon)}")
    for daemon, _ in starting:
        _wait_until_ready(inside, daemon)


def kill(inside: Inside, daemon: Daemon, sig: signal.Signals) -> psutil.Process:
    """Send a signal to a daemon; raises LabError when it does not run."""
    process = find(inside, daemon).get(daemon.name)
    if process is None:
        raise LabError(f"{daemon.name} of lab {inside.name} does not run")
    process.send_signal(sig)
    return process


def stop(inside: Inside, daemon: Daemon) -> None:
    """End a daemon the clean way, or by force when that takes too long. Nothing happens when it does not run."""
    if not find(inside, daemon):
        return
    process = kill(inside, daemon, signal.SIGTERM)
    try:
        process.wait(GONE)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(GONE)


def _wait_until_ready(inside: Inside, daemon: Daemon) -> None:
    deadline = time.monotonic() + READY
    while not daemon.is_ready(inside):
        if time.monotonic() > deadline:
            raise LabError(f"{daemon.name} does not answer after {READY:g} s:\n{_last_words(inside, daemon)}")
        time.sleep(0.02)


def _last_words(inside: Inside, daemon: Daemon) -> str:
    return inside.run(["tail", "-n", "20", "--", daemon.log], check=False).stdout.strip()
