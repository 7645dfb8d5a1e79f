"""Slurm with its jobs read through pyslurm, and everything else through its commands.

What pyslurm cannot do as the contract wants it stays with the commands: nodes (their state is put together otherwise,
GRES in use are without type), reservations (no QOS, no AllowedPartitions, flags that raise), single jobs (an array's
task has no number of its own to ask for), and every change: requeue knows no `incomplete`; create, cancel and signal
judge by an errno that may be an older call's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import subprocess
import sys
from collections.abc import Callable
from time import monotonic
from typing import IO, Any, cast

from slurm_reserve.garbage import collected_later
from slurm_reserve.model import Job
from slurm_reserve.slurm import jobs
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.port import SlurmUnavailableError

MODULE = "slurm_reserve.slurm.pyslurm_worker"
MOST_BY_NUMBER = 500  # with more jobs that pyslurm gives in part, all are read with squeue


def is_installed() -> bool:
    """Whether pyslurm can be imported; whether it fits this Slurm shows when it is."""
    return importlib.util.find_spec("pyslurm") is not None


class Worker:
    """The process that imports pyslurm: started when it is needed, killed when it does not answer in time."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], timeout: float) -> None:
        self._start = start
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: str) -> str:
        """Raises SlurmUnavailableError when there is no answer; the next question starts another process then."""
        deadline = monotonic() + self._timeout
        try:
            process = self._process = self._process or self._start()
            pipe = cast("IO[bytes]", process.stdin)
            pipe.write(f"{question}\n".encode())
            pipe.flush()
            said = self._read(process, int(self._line(process, deadline)), deadline)
        except (OSError, ValueError) as error:
            self.close()
            raise SlurmUnavailableError(f"pyslurm: {error}") from error
        except BaseException:
            self.close()
            raise
        if said.startswith("!"):
            raise SlurmUnavailableError(f"pyslurm: {said[1:300]}")
        return said

    def close(self) -> None:
        """End the process, however it is."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError), process:  # closes its pipes, and waits for it
                pass

    def _line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        found = b""
        while not found.endswith(b"\n"):
            found += self._some(process, 1, deadline)
        return found

    def _read(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> str:
        found = bytearray()
        while len(found) < size:
            found += self._some(process, size - len(found), deadline)
        return found.decode(errors="replace")

    def _some(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        pipe = cast("IO[bytes]", process.stdout)
        ready, _, _ = select.select([pipe], [], [], max(deadline - monotonic(), 0))
        if not ready:
            raise OSError(f"no answer within {self._timeout:g} s")
        some = os.read(pipe.fileno(), min(size, 1 << 20))
        if not some:
            raise OSError("it ended; is it made for this release of Slurm, and is there a slurm.conf?")
        return some


class PyslurmSlurm(CliSlurm):
    """Implements :class:`slurm_reserve.slurm.port.Slurm`; `python` is the one that has pyslurm."""

    def __init__(self, *args: Any, python: str = sys.executable, **named: Any) -> None:
        super().__init__(*args, **named)
        self._knows_excluded = True  # pyslurm gives them on every release
        self._worker = Worker(
            lambda: self._commands.open(python, "-m", MODULE), self._commands.settings.timeout.total_seconds()
        )

    def close(self) -> None:
        """End the process that reads."""
        self._worker.close()

    def _read_jobs(self, *options: str) -> tuple[Job, ...]:
        """All jobs through pyslurm; one job's, or a user's, with squeue."""
        if options:
            return super()._read_jobs(*options)
        end = self._token()
        self._commands.calls["pyslurm"] += 1
        self._commands.requests += 1
        try:
            said = self._worker.ask(f"{end} words" if self._words else end)
        except SlurmUnavailableError:
            self._commands.outcomes["pyslurm", "no_answer"] += 1
            raise
        self._commands.outcomes["pyslurm", "ok"] += 1
        text, _, partial = said.rpartition("\n")
        numbers = partial.split(",") if partial else []
        if len(numbers) > MOST_BY_NUMBER:
            return super()._read_jobs()
        with collected_later():
            found = jobs.parse_jobs(text + "\n", end, self._terms, self._words)
        return found + self._read_by_number(numbers)

    def _read_by_number(self, numbers: list[str]) -> tuple[Job, ...]:
        """Those that pyslurm does not give whole; one that has ended since is no more."""
        if not numbers:
            return ()
        wanted = frozenset(map(int, numbers))
        try:
            return tuple(job for job in super()._read_jobs("-j", ",".join(numbers)) if job.job_id in wanted)
        except SlurmUnavailableError as error:
            if "Invalid job id" in str(error):
                return ()
            raise
