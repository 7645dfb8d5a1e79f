"""The daemon, with every change of Slurm noted, and somebody killed just before or after one of them.

Runs inside a lab in the daemon's place. Usage: mortal.py NOTES WHOM WHEN WHAT DELAY [argument of slurm-reserve ...].
WHOM is `daemon`, `slurmctld` or `nobody`; WHEN is `before` or `after`; WHAT is a change as `named` calls it, or the
number of one; DELAY is in seconds, for slurmctld only. The product knows nothing of this.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from slurm_reserve.cli.main import main
from slurm_reserve.slurm import cli


def named(method: str, arguments: tuple[Any, ...]) -> str:
    """What a change is called; a job that is sent to its owner's reservation is handed the nodes."""
    if method != "set_job_reservation":
        return {"set_job_start": "end_wait", "set_job_comment": "note"}.get(method, method.split("_", maxsplit=1)[0])
    name = arguments[1]
    return "detach" if not name else "attach" if name.endswith(".lend") else "hand_over"


class Fate:
    """Whom to kill, and when."""

    def __init__(self, notes: str, whom: str, when: str, what: str, delay: str) -> None:
        self.notes, self.whom, self.when, self.what, self.delay = Path(notes), whom, when, what, float(delay)
        self.number = 0

    def around(self, name: str, about: str, change: Callable[[], None]) -> None:
        """Make a change, and what belongs before and after it."""
        self.number += 1
        is_it = self.what in (name, str(self.number))
        if is_it and self.when == "before":
            self.strike(name)
        self.note(f"{name} {about}")
        change()
        if is_it and self.when == "after":
            self.strike(name)

    def strike(self, name: str) -> None:
        """Once only."""
        self.what = ""
        if self.whom == "daemon":
            self.note(f"killed daemon {self.when} {name}")
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.whom == "slurmctld" and self.delay:
            threading.Timer(self.delay, self.kill_slurmctld).start()
        elif self.whom == "slurmctld":
            self.kill_slurmctld()

    def kill_slurmctld(self) -> None:
        """As the daemon runs as SlurmUser in these tests, it may."""
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "slurmctld":
                process.kill()
        self.note("killed slurmctld")

    def note(self, text: str) -> None:
        """A line at once, for nothing is flushed by SIGKILL."""
        handle = os.open(self.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(handle, f"{text}\n".encode())
        os.close(handle)


def mortal(fate: Fate) -> type[cli.CliSlurm]:
    """The adapter, with each change in the hands of fate."""

    def wrapped(method: str) -> Callable[..., None]:
        change = getattr(cli.CliSlurm, method)

        def around(self: cli.CliSlurm, *arguments: Any) -> None:
            first = arguments[0]
            about = str(getattr(first, "id", getattr(first, "name", first)))
            fate.around(named(method, arguments), about, lambda: change(self, *arguments))

        return around

    begins = ("create_", "update_", "delete_", "set_", "signal_", "requeue_", "restore_", "cancel_", "hold_")
    changes = [name for name in vars(cli.CliSlurm) if name.startswith(begins)]
    return type("Mortal", (cli.CliSlurm,), {name: wrapped(name) for name in changes})


if __name__ == "__main__":
    cli.CliSlurm = mortal(Fate(*sys.argv[1:6]))  # type: ignore[misc]  # the adapter is wrapped for this process alone
    sys.argv[1:6] = []
    main()
