"""Slurm with its jobs, nodes and partitions read through pyslurm, and everything else through its commands.

What pyslurm cannot do as the contract wants it stays with the commands: reservations (no AllowedPartitions, flags that
raise), nodes with GRES (in use without type), single jobs (an array's task has no number of its own to ask for), and
every change: requeue knows no `incomplete`; create, cancel and signal judge by an errno that may be an older call's.
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
from slurm_reserve.model import Job, Node, Partition, SlurmConfig
from slurm_reserve.slurm import jobs, text
from slurm_reserve.slurm.cli import NODES, CliSlurm, terms
from slurm_reserve.slurm.port import SlurmUnavailableError

MODULE = "slurm_reserve.slurm.pyslurm_worker"
MOST_BY_NAME = 500  # with more jobs, or nodes, that pyslurm gives in part, all are read with the commands


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
        self._array_option = "-r"  # releases that pyslurm is made for have no other
        self._worker = Worker(
            lambda: self._commands.open(python, "-m", MODULE), self._commands.settings.timeout.total_seconds()
        )

    def close(self) -> None:
        """End the process that reads."""
        self._worker.close()

    def _read_nodes_and_jobs(self, config: SlurmConfig) -> tuple[dict[str, Node], tuple[Job, ...]]:
        """Through pyslurm, but for those that it does not give whole; one job, or a user's, is read with squeue."""
        nodes = self._read_nodes()
        self._terms = terms(config, nodes.values())
        return nodes, self._read_all_jobs()

    def _read_all_jobs(self) -> tuple[Job, ...]:
        end = self._token()
        said, numbers = self._ask(f"jobs {end} words" if self._words else f"jobs {end}", 1)
        if len(numbers) > MOST_BY_NAME:
            return self._read_jobs()
        with collected_later():
            found = jobs.parse_jobs([said], end, self._terms, self._words)
        return found + self._read_by_number(numbers)

    def _read_nodes(self) -> dict[str, Node]:
        said, names = self._ask("nodes", 2)  # it reads partitions besides, as scontrol does
        if len(names) > MOST_BY_NAME:
            return text.parse_nodes(self._commands.read(*NODES))
        found = text.parse_nodes(said) if said else {}
        for_these = self._commands.read(*NODES, ",".join(names)) if names else ""
        return found | (text.parse_nodes(for_these) if names else {})

    def _read_partitions(self, config: SlurmConfig) -> dict[str, Partition]:
        return text.parse_partitions(self._ask("partitions", 2)[0], config.preempt_mode or "OFF")

    def _ask(self, question: str, requests: int) -> tuple[str, list[str]]:
        """What the worker writes, and the names of what must be read otherwise."""
        self._commands.calls["pyslurm"] += 1
        self._commands.requests += requests
        try:
            answer = self._worker.ask(question)
        except SlurmUnavailableError:
            self._commands.outcomes["pyslurm", "no_answer"] += 1
            raise
        self._commands.outcomes["pyslurm", "ok"] += 1
        said, newline, partial = answer.rpartition("\n")
        return said + newline, partial.split(",") if partial else []

    def _read_by_number(self, numbers: list[str]) -> tuple[Job, ...]:
        """Those that pyslurm does not give whole; one that has ended since is no more."""
        if not numbers:
            return ()
        wanted = frozenset(map(int, numbers))
        try:
            return tuple(job for job in self._read_jobs("-j", ",".join(numbers)) if job.job_id in wanted)
        except SlurmUnavailableError as error:
            if "Invalid job id" in str(error):
                return ()
            raise
