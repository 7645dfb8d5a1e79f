"""`status`: whether a daemon runs, told apart from who only looks, and from what cannot be seen."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from slurm_reserve import cycle, daemon
from slurm_reserve.cli import board
from slurm_reserve.cli.common import Setting
from slurm_reserve.cli.status import is_running, status
from slurm_reserve.control import SOCKET_NAME, OrderError
from slurm_reserve.memory import Memory
from slurm_reserve.site import DaemonSettings, Site

from tests.builders import NOW, cluster, nodes, reservation, site


@pytest.fixture
def here(tmp_path: Path) -> Site:
    return site(daemon=DaemonSettings(state_dir=tmp_path, run_dir=tmp_path))


@contextmanager
def looking(folder: Path) -> Iterator[Callable[[], None]]:
    """Somebody is just seeing whether a daemon runs; gives what ends that."""
    handle = os.open(folder / daemon.LOCK_NAME, os.O_RDONLY | os.O_CREAT, 0o640)
    fcntl.flock(handle, fcntl.LOCK_SH)
    try:
        yield lambda: fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def test_a_daemon_starts_though_somebody_looks_for_it(tmp_path: Path) -> None:
    with looking(tmp_path) as end:
        threading.Timer(0.15, end).start()
        with daemon.only_one(tmp_path, tmp_path):
            pass


def test_whether_a_daemon_runs_is_seen_by_its_lock(here: Site) -> None:
    folder = here.daemon.run_dir
    assert is_running(here) is False
    with daemon.only_one(folder, folder):
        assert is_running(here) is True
    with looking(folder):  # no daemon
        assert is_running(here) is False


def test_a_lock_that_cannot_be_read_says_nothing(here: Site) -> None:
    (here.daemon.run_dir / daemon.LOCK_NAME).mkdir()
    assert is_running(here) is None
    seen = cycle.decide(here, cluster(nodes("n1", "n2"), reservation("physics", "n1", "n2")), Memory(made={"R": NOW}))
    shown = {"daemon_runs": None, "paused": False, "problems": {}, "remark": "", "brake": "", "reservations": {}}
    out = Console(width=120)
    with out.capture() as said:
        out.print(board.page(seen, shown | {"reports": {}, "waiting_borrowers": {}}))
    assert "whether the daemon runs cannot be seen" in said.get()


def test_a_folder_that_knows_no_locks_is_not_taken_for_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("slurm_reserve.daemon.fcntl.flock", refuses)
    with pytest.raises(daemon.LockError, match="cannot be locked: No locks"), daemon.only_one(tmp_path, tmp_path):
        raise AssertionError


@pytest.mark.parametrize("as_json", [True, False])
def test_a_user_is_told_that_no_daemon_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    """One that was killed leaves its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(tmp_path / SOCKET_NAME))
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(Setting, "run_dir", lambda _: tmp_path)
    done = CliRunner().invoke(status, [], obj=Setting(tmp_path / "site.yaml", as_json), standalone_mode=False)
    assert isinstance(done.exception, OrderError)
    assert "no daemon answers" in str(done.exception)
    assert done.stdout == ""
