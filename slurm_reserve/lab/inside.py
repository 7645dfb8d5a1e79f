"""Doing things inside a lab: as whom, with what environment, and how to end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import psutil

from slurm_reserve.lab import conf
from slurm_reserve.lab.errors import LabError
from slurm_reserve.lab.requirements import find, search_path
from slurm_reserve.lab.spec import DIRECTORY, TMP, LabSpec

# What of the caller's environment reaches into the lab; nothing of a job or a Slurm outside it does.
PASSED_ON = ("TZ", "LANG", "LC_ALL", "TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR")


class InsideProcess(subprocess.Popen[str]):
    """A process inside a lab. Signals reach the process itself rather than the nsenter in front of it."""

    def send_signal(self, sig: int) -> None:
        """Signal the process; nsenter ends as it ends, so the return code is the process's own."""
        inner = _children(self.pid) if self.returncode is None else []
        if not inner:
            super().send_signal(sig)
            return
        for pid in inner:
            os.kill(pid, sig)
        if sig not in (signal.SIGSTOP, signal.SIGTSTP):
            super().send_signal(signal.SIGCONT)  # nsenter stops itself when its child is stopped


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Inside:
    """The inside of one running lab."""

    directory = DIRECTORY  # where all of the lab's files are, inside
    conf = conf.SLURM_CONF
    python = sys.executable  # runs this package there

    def __init__(self, name: str, spec: LabSpec, init: psutil.Process) -> None:
        self.name = name
        self.spec = spec
        self.init = init
        self._enter = [
            *(find("nsenter"), f"--target={init.pid}", "--mount", "--uts", "--ipc", "--net", "--pid"),
            *(["--user"] if os.geteuid() != 0 else []),
            # What runs inside goes with whoever runs it, however that one ends.
            *("--", find("setpriv"), "--pdeathsig=KILL"),
        ]
        self._env = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        self._env |= {
            "PATH": ":".join(dict.fromkeys([*search_path().split(":"), str(Path(sys.executable).parent)])),
            "SLURM_CONF": str(self.conf),
            "TMPDIR": str(TMP),
            "SHELL": "/bin/bash",
        }

    @property
    def is_up(self) -> bool:
        """Whether the lab still runs."""
        return self.init.is_running() and self.init.status() != psutil.STATUS_ZOMBIE

    def command(
        self,
        argv: Sequence[str | PurePath],
        user: str = "root",
        env: Mapping[str, str] | None = None,
        cwd: str | PurePath | None = None,
    ) -> list[str]:
        """Give the arguments that run `argv` inside the lab as `user`, for whoever starts it outside.

        The environment is a clean one and `env`; the folder is `cwd`, or the user's home. Raises LabError when the
        lab is down or has no such user.
        """
        if not self.init.is_running():
            raise LabError(f"lab {self.name} is down")
        home = self.spec.home(user)
        values = self._env | {"HOME": str(home), "USER": user, "LOGNAME": user} | dict(env or {})
        settings = [f"{key}={value}" for key, value in values.items()]
        # env finds the program, on the PATH that it sets itself.
        run = [find("env"), "-i", f"--chdir={cwd or home}", *settings, *map(str, argv)]
        return [*self._enter, *self._identity(user), "--", *run]

    def _identity(self, user: str) -> list[str]:
        try:
            uid = self.spec.uid(user)
        except KeyError:
            raise LabError(f"lab {self.name} has no user {user}") from None
        gids = [str(gid) for gid, who in self.spec.groups().values() if user in who]
        groups = f"--groups={','.join(gids)}" if gids else "--clear-groups"
        return [f"--reuid={uid}", f"--regid={uid}", groups]

    def popen(
        self,
        argv: Sequence[str | PurePath],
        user: str = "root",
        env: Mapping[str, str] | None = None,
        cwd: str | PurePath | None = None,
        **options: Any,
    ) -> InsideProcess:
        """Start something inside; `options` are subprocess.Popen's."""
        return InsideProcess(self.command(argv, user, env, cwd), **{"text": True, **options})

    def run(
        self,
        argv: Sequence[str | PurePath],
        user: str = "root",
        check: bool = True,
        timeout: float = 60,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | PurePath | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run something inside to its end, within `timeout` seconds.

        Raises LabError with its last words when it fails and `check` is set, or when it takes too long.
        """
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        pipe = subprocess.PIPE
        with self.popen(argv, user, env, cwd, stdin=stdin, stdout=pipe, stderr=pipe) as process:
            try:
                out, err = process.communicate(input, timeout=timeout)
            except subprocess.TimeoutExpired as error:
                process.kill()
                process.communicate()
                raise LabError(f"{_shown(argv)} took longer than {timeout:g} s") from error
            except BaseException:
                process.kill()
                raise
        if check and process.returncode:
            words = err.strip() or out.strip() or f"exit {process.returncode}"
            raise LabError(f"{_shown(argv)}, as {user}: {words}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def put(self, path: str | PurePath, text: str, mode: int = 0o644, user: str = "root") -> None:
        """Write a file inside that belongs to `user`, and the folders above it."""
        owner = str(self.spec.uid(user))
        options = [f"--mode={mode:o}", f"--owner={owner}", f"--group={owner}"]
        self.run(["install", "-D", *options, "/dev/stdin", path], input=text)

    def read(self, path: str | PurePath) -> str:
        """Read a file inside; raises LabError when it cannot be read."""
        return self.run(["cat", "--", path]).stdout


def _shown(argv: Sequence[str | PurePath]) -> str:
    return " ".join(map(str, argv))
