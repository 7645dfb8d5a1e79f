"""A live view on a real terminal: it goes on through errors, follows the size, and leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever those who run the tests do with it
from slurm_reserve.cli.watching import watch
from slurm_reserve.errors import ReserveError
from rich.text import Text
looks = 0
def draw():
    global looks
    looks += 1
    if looks == 2:
        raise ReserveError("slurmctld is \\x1b[31m down")
    return Text(f"look-{min(looks, 3)} " + "wide " * 30, style="red")
watch(draw, 0.3)
"""
SHOWN, LEFT, VISIBLE = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@dataclass
class Terminal:
    """A program on a terminal of its own."""

    pid: int
    handle: int
    said: bytes = b""

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.handle, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, word: bytes, seconds: float = 30) -> bytes:
        end, begun = time.monotonic() + seconds, len(self.said)
        while word not in self.said[begun:] and time.monotonic() < end:
            if not self.read():
                break
        assert word in self.said[begun:], self.said[begun:]
        return self.said[begun:]

    def read(self) -> bool:
        if not select.select([self.handle], [], [], 0.2)[0]:
            return True
        try:
            more = os.read(self.handle, 65_536)
        except OSError:  # nobody is on it any more
            return False
        self.said += more
        return bool(more)

    def ended(self) -> int:
        end = time.monotonic() + 30
        while self.read() and time.monotonic() < end:
            pass
        if time.monotonic() >= end:
            os.kill(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    pid, handle = pty.fork()
    if pid == 0:  # pragma: no cover -- in the other process
        os.environ.update(TERM="xterm", COLUMNS="", LINES="")
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(0.3)\n" + PROGRAM])  # noqa: S606 -- a list of arguments
    made = Terminal(pid, handle)
    made.size(24, 80)
    yield made
    os.close(handle)


def lines(said: bytes) -> list[bytes]:
    return [part for line in said.split(b"\r\n") for part in line.split(b"\x1b[H")]


def test_errors_do_not_end_it_and_q_does_without_a_trace(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.handle)
    terminal.until(b"look-1")
    said = terminal.until(b"what is shown is older")
    assert b"slurmctld is ?[31m down" in said.replace(b"\r\n", b" ")
    assert b"look-1" in said or b"look-1" in terminal.said
    terminal.until(b"look-3")
    os.write(terminal.handle, b"q")
    assert terminal.ended() == 0
    assert SHOWN in terminal.said
    after = terminal.said.rpartition(LEFT)
    assert after[1]
    assert VISIBLE in terminal.said
    assert b"look" not in after[2]
    assert termios.tcgetattr(terminal.handle) == before


@pytest.mark.parametrize("how", ["ctrl-c", "term"])
def test_it_may_be_ended_in_other_ways(terminal: Terminal, how: str) -> None:
    before = termios.tcgetattr(terminal.handle)
    terminal.until(b"look-3")
    if how == "ctrl-c":
        os.write(terminal.handle, b"\x03")
    else:
        os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ended() == 0
    assert LEFT in terminal.said
    assert VISIBLE in terminal.said
    assert b"Traceback" not in terminal.said
    assert termios.tcgetattr(terminal.handle) == before


def test_it_follows_the_size_of_the_terminal(terminal: Terminal) -> None:
    said = terminal.until(b"look-3")
    terminal.size(10, 40)
    said = terminal.until(b"look-3")
    while terminal.read() and len(said) < 200:
        said = terminal.said
    shown = terminal.said.rpartition(b"look-3")[2].split(b"\r\n")
    assert len(shown) > 2
    assert max(len(line.replace(b"\x1b[31m", b"").replace(b"\x1b[0m", b"")) for line in shown[1:]) <= 40


def test_where_there_is_no_terminal_there_are_no_colours() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        said = b""
        while b"look-3" not in said:
            said += os.read(process.stdout.fileno(), 65_536)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert b"\x1b" not in said
    assert max(map(len, said.decode().splitlines())) <= 80
    assert b"what is shown is older" in said.replace(b"\n", b" ")
