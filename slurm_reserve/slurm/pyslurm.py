"""Slurm with its jobs, nodes and partitions read through pyslurm, and everything else through its commands.

What pyslurm cannot do as the contract wants it stays with the commands: reservations (no AllowedPartitions, flags that
raise), nodes and jobs where there are GRES (who asks for them, or has them, is not told in full), single jobs (an
array's task has no number of its own to ask for), and every change: requeue knows no `incomplete`; create, cancel and
signal judge by an errno that may be an older call's.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib.util
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from time import monotonic
from typing import IO, Any, cast

from slurm_reserve.garbage import collected_later
from slurm_reserve.model import Job, Node, Partition, SlurmConfig
from slurm_reserve.slurm import jobs, text
from slurm_reserve.slurm.cli import CliSlurm, terms
from slurm_reserve.slurm.command import AHEAD, widen
from slurm_reserve.slurm.port import SlurmUnavailableError

MODULE = "slurm_reserve.slurm.pyslurm_worker"
_SHOWN = 300
MOST_BY_NAME = 500  # with more jobs that pyslurm does not give all are read with the commands


def is_installed() -> bool:
    """Whether pyslurm can be imported; whether it fits this Slurm shows when it is."""
    return importlib.util.find_spec("pyslurm") is not None


class Worker:
    """The process that imports pyslurm: started when it is needed, killed when it does not answer in time."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], timeout: float) -> None:
        self._start = start
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def asked(self, question: str) -> Iterator[tuple[Iterator[str], list[str]]]:
        """Give what is answered part by part, while it is being made, and what is to be read otherwise, once all came.

        Raises SlurmUnavailableError when there is no answer, after the last part at the latest: then nothing of what
        was given is known. The next question starts another process then, as after an answer that was not taken whole.
        """
        deadline, partial, is_whole = monotonic() + self._timeout, list[str](), False

        def parts() -> Iterator[str]:
            nonlocal is_whole
            decode = codecs.getincrementaldecoder("utf-8")("replace").decode
            with _or_no_answer():
                for some in self._text(process, deadline, partial):
                    yield decode(some)
                is_whole = True

        try:
            with _or_no_answer():
                process = self._process = self._process or self._started()
                pipe = cast("IO[bytes]", process.stdin)
                pipe.write(f"{question}\n".encode())
                pipe.flush()
            yield parts(), partial
        finally:
            if not is_whole:
                self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        process = self._start()
        widen(cast("IO[bytes]", process.stdout))
        return process

    def close(self) -> None:
        """End the process, however it is."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError), process:  # closes its pipes, and waits for it
                pass

    def _text(self, process: subprocess.Popen[bytes], deadline: float, partial: list[str]) -> Iterator[bytes]:
        """The text, as it comes; raises OSError or ValueError when it does not come whole."""
        while True:
            kind, size = self._line(process, deadline)
            if kind == "t":
                while size:
                    some = self._some(process, size, deadline)
                    size -= len(some)
                    yield some
                continue
            said = b""
            while len(said) < size:
                said += self._some(process, size - len(said), deadline)
            if kind != "p":
                raise OSError(said.decode(errors="replace")[:_SHOWN])
            partial.extend(filter(None, said.decode().split(",")))
            return

    def _line(self, process: subprocess.Popen[bytes], deadline: float) -> tuple[str, int]:
        found = b""
        while not found.endswith(b"\n"):
            found += self._some(process, 1, deadline)
        return chr(found[0]), int(found[1:])

    def _some(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        pipe = cast("IO[bytes]", process.stdout)
        ready, _, _ = select.select([pipe], [], [], max(deadline - monotonic(), 0))
        if not ready:
            raise OSError(f"no answer within {self._timeout:g} s")
        some = os.read(pipe.fileno(), min(size, AHEAD))
        if not some:
            raise OSError("it ended; is it made for this release of Slurm, and is there a slurm.conf?")
        return some


@contextlib.contextmanager
def _or_no_answer() -> Iterator[None]:
    """What goes wrong inside is that no answer came."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise SlurmUnavailableError(f"pyslurm: {error}") from error


class PyslurmSlurm(CliSlurm):
    """Implements :class:`slurm_reserve.slurm.port.Slurm`; `python` is the one that has pyslurm."""

    def __init__(self, *args: Any, python: str = sys.executable, **named: Any) -> None:
        super().__init__(*args, **named)
        self._knows_excluded = True  # pyslurm gives them on every release
        self._has_gres = False  # once there were some it stays so: pyslurm is not asked for nodes and jobs any more
        self._array_option = "-r"  # releases that pyslurm is made for have no other
        self._worker = Worker(
            lambda: self._commands.open(python, "-m", MODULE), self._commands.settings.timeout.total_seconds()
        )

    def close(self) -> None:
        """End the process that reads."""
        self._worker.close()

    def _read_nodes_and_jobs(self, config: SlurmConfig) -> tuple[dict[str, Node], tuple[Job, ...]]:
        """Through pyslurm, but where there are GRES; one job, or a user's, is read with squeue.

        What was said of the nodes is understood while pyslurm is at the jobs.
        """
        printed, nodes = "", dict[str, Node]()
        if not self._has_gres:
            with self._asked("nodes", 2) as (parts, with_gres):  # it reads partitions besides, as scontrol does
                printed = "".join(parts)
            self._has_gres = bool(with_gres)
        if self._has_gres:
            return super()._read_nodes_and_jobs(config)

        def understand() -> None:
            nodes.update(text.parse_nodes(printed))
            self._terms = terms(config, nodes.values())

        return nodes, self._read_all_jobs(understand)

    def _read_all_jobs(self, meanwhile: Callable[[], object]) -> tuple[Job, ...]:
        end = self._token()
        with self._asked(f"jobs {end} words" if self._words else f"jobs {end}", 1) as (parts, numbers):
            meanwhile()
            with collected_later():
                found = jobs.parse_jobs(parts, end, self._terms, self._words)
        if len(numbers) > MOST_BY_NAME:
            return self._read_jobs()
        return found + self._read_by_number(numbers)

    def _read_partitions(self, config: SlurmConfig) -> dict[str, Partition]:
        with self._asked("partitions", 1) as (parts, _):
            return text.parse_partitions("".join(parts), config.preempt_mode or "OFF")

    @contextlib.contextmanager
    def _asked(self, question: str, requests: int) -> Iterator[tuple[Iterator[str], list[str]]]:
        """What the worker writes, and the names of what must be read otherwise."""
        self._commands.calls["pyslurm"] += 1
        self._commands.requests += requests
        started = monotonic()
        try:
            with self._worker.asked(question) as answer:
                yield answer
        except SlurmUnavailableError:
            self._commands.outcomes["pyslurm", "no_answer"] += 1
            raise
        finally:
            self._commands.seconds += monotonic() - started
        self._commands.outcomes["pyslurm", "ok"] += 1

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
