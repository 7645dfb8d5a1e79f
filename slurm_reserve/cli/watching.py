"""Showing something again and again until somebody has seen enough."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from slurm_reserve.cli.common import console
from slurm_reserve.errors import ReserveError
from slurm_reserve.words import printable

Draw = Callable[[], RenderableType]  # raises ReserveError
AWAKE = 0.2  # seconds between two looks at the keyboard and at the size of the terminal


class _EndedError(Exception):
    """Told to end by a signal."""


@dataclass(slots=True)
class Picture:
    """What is shown: the last that could be drawn, and what is wrong since."""

    drawn: RenderableType = field(default_factory=lambda: Text("looking"))
    trouble: str = ""
    failure: BaseException | None = None  # an error of ours, to be raised where it is seen

    def renew(self, draw: Draw) -> None:
        """Draw it again; where that fails what was drawn stays, with what is wrong above it."""
        try:
            self.drawn, self.trouble = draw(), ""
        except ReserveError as error:
            self.trouble = f"{datetime.now().astimezone():%H:%M:%S}: {printable(str(error), 400)}"
        except Exception as error:
            self.failure = error

    @property
    def whole(self) -> RenderableType:
        """With what is wrong."""
        if not self.trouble:
            return self.drawn
        return Group(Text(f"{self.trouble}; what is shown is older", style="red"), self.drawn)


def watch(draw: Draw, interval: float) -> None:
    """Show it until q, Ctrl-C or SIGTERM; on a terminal on a screen of its own, which is gone afterwards."""
    out = console()
    try:
        with _ending():
            if out.is_terminal and not out.is_dumb_terminal:
                _on_terminal(out, draw, interval)
            else:
                _as_text(out, draw, interval)
    except (KeyboardInterrupt, _EndedError):
        return
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _as_text(out: Console, draw: Draw, interval: float) -> None:
    picture = Picture()
    while True:
        picture.renew(draw)
        if picture.failure:
            raise picture.failure
        out.print(picture.whole, end="\n\n")
        sys.stdout.flush()
        time.sleep(interval)


def _on_terminal(out: Console, draw: Draw, interval: float) -> None:
    picture, enough = Picture(), threading.Event()

    def go_on() -> None:  # beside the keyboard: Slurm may take its time to answer
        while not enough.is_set() and not picture.failure:
            picture.renew(draw)
            enough.wait(interval)

    threading.Thread(target=go_on, daemon=True).start()
    shown: tuple[object, ...] = ()
    try:
        with _keys() as keys, Live(console=out, screen=True, auto_refresh=False) as live:
            while not _is_enough(keys):
                if picture.failure:
                    raise picture.failure
                now = (picture.drawn, picture.trouble, out.size)
                if now != shown:
                    shown = now
                    live.update(picture.whole, refresh=True)
    finally:
        enough.set()


def _is_enough(keys: list[int]) -> bool:
    """Wait a moment for a key; whether it was q. A keyboard that is gone is not looked at again."""
    ready, _, _ = select.select(keys, [], [], AWAKE)
    if not ready:
        return False
    pressed = os.read(keys[0], 64)
    if not pressed:
        keys.clear()
    return b"q" in pressed.lower()


@contextmanager
def _keys() -> Iterator[list[int]]:
    """The keyboard, if there is one, key by key and unseen; as it was before, afterwards."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield []
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)
        yield [handle]
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


@contextmanager
def _ending() -> Iterator[None]:
    """A signal to end leaves the terminal as it was, too."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise _EndedError

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
