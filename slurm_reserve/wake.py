"""Wake-ups: slurmctld's plugin notes in a file that somebody submitted, and the daemon sees it at once.

A hint, never a fact: what it says is looked up in Slurm, and without it everything works by polling. The file is the
daemon's; SlurmUser may write to it through its group. The plugin appends one line and never waits; what it writes while
nobody reads is bounded by itself.
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from inotify_simple import INotify, flags

from slurm_reserve.site import WAKE_NAME

FILE_NAME = WAKE_NAME
_MOST_BYTES = 65_536  # read at once; and the size at which the file is emptied
_MODE = 0o620  # read by the daemon, written by it and its group


@dataclass(frozen=True, slots=True)
class Wake:
    """What woke the daemon."""

    users: frozenset[str] = frozenset()  # they submitted something
    moved: bool = False  # some job has started or ended

    def __bool__(self) -> bool:
        return bool(self.users) or self.moved


class WakeFile:
    """The daemon's end of the file."""

    def __init__(self, path: Path) -> None:
        """Make the file, empty, and watch it. Raises OSError."""
        path.unlink(missing_ok=True)  # whatever it was before, it is a plain file of ours now
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        os.fchmod(self._handle, _MODE)
        self._read_to = 0
        self._watch = INotify(nonblocking=True)
        self._watch.add_watch(str(path), flags.MODIFY)

    def fileno(self) -> int:
        """For select."""
        return int(self._watch.fileno())

    def open_to(self, slurm_user: str) -> bool:
        """Let who runs slurmctld write to it; False when we may not: then nobody rings."""
        try:
            entry = pwd.getpwnam(slurm_user)
        except KeyError:
            return False
        if entry.pw_uid == os.geteuid():
            return True
        with suppress(PermissionError):
            os.fchown(self._handle, -1, entry.pw_gid)
            return True
        return False

    def take(self) -> Wake:
        """What was noted since the last time."""
        self._watch.read(timeout=0)
        size = os.fstat(self._handle).st_size
        start = max(min(self._read_to, size), size - _MOST_BYTES)
        noted = os.pread(self._handle, _MOST_BYTES, start)
        self._read_to = start + len(noted)
        if self._read_to >= _MOST_BYTES:
            os.ftruncate(self._handle, 0)
            self._read_to = 0
        return parse(noted)

    def close(self) -> None:
        """Let go and leave no file."""
        self._watch.close()
        os.close(self._handle)
        self._path.unlink(missing_ok=True)


def parse(noted: bytes) -> Wake:
    """Lines such as `submit 1000`, `start` and `end`; what is anything else is passed over, for it is only a hint."""
    users, moved = set(), False
    for line in set(noted.split(b"\n")):
        word, _, number = line.strip(b"\0 ").partition(b" ")
        if word in (b"start", b"end") and not number:
            moved = True
        elif word == b"submit" and number.isdigit() and len(number) <= 10:
            with suppress(KeyError, OverflowError):
                users.add(pwd.getpwuid(int(number)).pw_name)
    return Wake(frozenset(users), moved)
