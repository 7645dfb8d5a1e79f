"""The file by which slurmctld's plugins wake the daemon: what is read from it is a hint, whoever wrote it."""

from __future__ import annotations

import getpass
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_reserve.wake import Wake, WakeFile, parse

ME = frozenset({getpass.getuser()})
LINE = f"submit {os.getuid()}\n"


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[WakeFile]:
    made = WakeFile(tmp_path / "wake")
    yield made
    made.close()


def ring(path: Path, text: str) -> None:
    with path.open("r+") as file:
        file.seek(0, os.SEEK_END)
        file.write(text)


def hears(bell: WakeFile) -> bool:
    return bool(select.select([bell.fileno()], [], [], 0.5)[0])


def test_a_line_is_heard_once(bell: WakeFile, tmp_path: Path) -> None:
    assert not bell.take()
    ring(tmp_path / "wake", LINE)
    assert hears(bell)
    assert bell.take() == Wake(ME)
    assert bell.take() == Wake()
    for word in ("start", "end"):
        ring(tmp_path / "wake", f"{word}\n")
        assert bell.take() == Wake(moved=True)


def test_it_is_the_daemons_and_its_groups_alone_and_gone_with_it(tmp_path: Path) -> None:
    path = tmp_path / "wake"
    path.symlink_to(tmp_path / "elsewhere")  # whatever was there before
    made = WakeFile(path)
    assert path.stat().st_mode & 0o777 == 0o620
    assert not path.is_symlink()
    assert made.open_to(getpass.getuser())
    assert not made.open_to("nobody-of-that-name")
    made.close()
    assert not path.exists()
    assert not (tmp_path / "elsewhere").exists()


def test_a_flood_is_read_in_bounded_pieces_and_the_file_is_emptied(bell: WakeFile, tmp_path: Path) -> None:
    path = tmp_path / "wake"
    ring(path, "end\n" * 100_000 + LINE)
    assert bell.take() == Wake(ME, moved=True)
    assert path.stat().st_size == 0
    ring(path, LINE)
    assert bell.take() == Wake(ME)


def test_a_file_that_somebody_cut_is_read_on(bell: WakeFile, tmp_path: Path) -> None:
    ring(tmp_path / "wake", LINE * 10)
    bell.take()
    os.truncate(tmp_path / "wake", 3)
    assert not bell.take()
    ring(tmp_path / "wake", "\n" + LINE)
    assert bell.take() == Wake(ME)


RINGER = Path(__file__).parents[2] / "plugins/slurmctld/slurm-reserve-wake"


@pytest.mark.parametrize(("context", "word"), [("prolog_slurmctld", "start"), ("epilog_slurmctld", "end"), ("", "end")])
def test_the_hook_says_whether_a_job_started_or_ended(bell: WakeFile, tmp_path: Path, context: str, word: str) -> None:
    subprocess.run([RINGER, tmp_path / "wake"], env={"SLURM_SCRIPT_CONTEXT": context}, check=True)
    assert (tmp_path / "wake").read_text() == f"{word}\n"
    assert bell.take() == Wake(moved=True)


def test_the_hook_starts_no_program(tmp_path: Path) -> None:
    """It has to be over before the node's epilog: there is nothing that it could find on this PATH."""
    (tmp_path / "wake").touch()
    subprocess.run(["/bin/sh", RINGER, tmp_path / "wake"], env={"PATH": str(tmp_path)}, check=True)
    assert (tmp_path / "wake").read_text() == "end\n"


def test_the_hook_never_fails_or_waits_whatever_stands_where_the_daemon_listens(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # nobody reads it
    (tmp_path / "full").write_bytes(bytes(65_536))
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("absent", "no/folder", "fifo", "full", "link", "."):
        done = subprocess.run([RINGER, tmp_path / name], env={}, capture_output=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, b""), name
    assert (tmp_path / "full").stat().st_size == 65_536


GARBAGE = [b"", b"\n\n", b"submit\n", b"submit x\n", b"submit -1\n", b"submit 99999999999999\n", b"submit 4294967294\n"]


@pytest.mark.parametrize(
    "noted", [*GARBAGE, b"\0" * 5000, b"\xff\xfe end", bytes(range(256)), b"submit 1 2\nend of it"]
)
def test_garbage_wakes_nobody(noted: bytes) -> None:
    assert parse(noted) == Wake()


def test_a_line_after_a_hole_is_read() -> None:
    assert parse(b"\0\0\0" + LINE.encode()) == Wake(ME)
