"""What the contract is tried on: the Slurm in memory, and a real one in a lab, by what a test may do to either.

A further adapter for the lab is one more :class:`OnLab`, with another port.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from slurm_reserve.lab import Lab
from slurm_reserve.lab.inside import InsideProcess
from slurm_reserve.model import Job
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.port import Slurm

from tests.builders import job as build
from tests.builders import nodes
from tests.cycle.fake_slurm import FakeSlurm

NODES = ("n1", "n2", "n3", "n4")
What = Callable[[Job], bool]


class Backend(Protocol):
    """A cluster of four nodes, and users alice, bob, carol and dave on it."""

    slurm: Slurm

    def submit(self, user: str, partition: str = "main", on: str = "", held: bool = False, requeue: bool = True) -> str:
        """A batch job for one whole node, which goes on until it is ended; gives its id."""
        ...

    def by_hand(self, user: str) -> str:
        """An interactive job that has begun; gives its id."""
        ...

    def release(self, job_id: str) -> None:
        """A held job may start."""
        ...

    def until(self, job_id: str, what: What) -> Job:
        """The job, as soon as it is so. Fails when that takes too long."""
        ...

    def never(self, job_id: str, what: What) -> None:
        """It is not so for two scheduling passes."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class InMemory:
    """The fake: time passes when a test waits."""

    def __init__(self) -> None:
        self.slurm: FakeSlurm = FakeSlurm(nodes(*NODES))
        self._number = 0

    def submit(self, user: str, partition: str = "main", on: str = "", held: bool = False, requeue: bool = True) -> str:
        self._number += 1
        made = build(str(self._number)).of(user).whole_nodes(1).but(partitions=(partition,))
        if on:
            made = made.wanting(required_nodes=frozenset({on}))
        if held:
            made = made.but(priority=0)
        number = self.slurm.submit(made)
        if held:
            self.slurm.hold_job(self.slurm.jobs[number].key)
        if not requeue:
            self.slurm.not_requeued.add(number)
        return number

    def by_hand(self, user: str) -> str:
        number = self.submit(user)
        self.slurm.jobs[number] = replace(self.slurm.jobs[number], batch=False)
        self.until(number, lambda job: job.state == "RUNNING")
        return number

    def release(self, job_id: str) -> None:
        self.slurm.jobs[job_id] = replace(self.slurm.jobs[job_id], priority=100, reason="None")

    def until(self, job_id: str, what: What) -> Job:
        for _ in range(10):
            found = self.slurm.read_job(job_id)
            if found is not None and what(found):
                return found
            self.slurm.tick()
        raise AssertionError(f"job {job_id} never was so: {self.slurm.read_job(job_id)}")

    def never(self, job_id: str, what: What) -> None:
        for _ in range(3):
            self.slurm.tick()
            found = self.slurm.read_job(job_id)
            assert found is None or not what(found)

    def close(self) -> None:
        pass


class OnLab:
    """The real one."""

    def __init__(self, lab: Lab, slurm: Slurm | None = None) -> None:
        self.lab = lab
        self.slurm: Slurm = slurm or CliSlurm(SlurmSettings(timeout=timedelta(seconds=20)), lab.command)
        self._shells: list[InsideProcess] = []

    def submit(self, user: str, partition: str = "main", on: str = "", held: bool = False, requeue: bool = True) -> str:
        options = ["--exclusive", "-p", partition, *(["-w", on] if on else []), *(["--hold"] if held else [])]
        return self.lab.sbatch(user, *options, *([] if requeue else ["--no-requeue"]))

    def by_hand(self, user: str) -> str:
        before = {job.id for job in self.slurm.observe().jobs}
        self._shells.append(self.lab.popen(["srun", "--exclusive", "sleep", "1000"], user, stdout=-3, stderr=-3))

        def begun() -> str | None:
            new = [job for job in self.slurm.observe().jobs if job.id not in before and job.state == "RUNNING"]
            return new[0].id if new else None

        found = self.lab.wait(begun, 30, "it has begun")
        assert found is not None
        return found

    def release(self, job_id: str) -> None:
        self.lab.run(["scontrol", "release", job_id])

    def until(self, job_id: str, what: What) -> Job:
        def look() -> Job | None:
            found = self.slurm.read_job(job_id)
            return found if found is not None and what(found) else None

        found = self.lab.wait(look, 30, f"job {job_id} is so")
        assert found is not None
        return found

    def never(self, job_id: str, what: What) -> None:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            found = self.slurm.read_job(job_id)
            assert found is None or not what(found)

    def close(self) -> None:
        for shell in self._shells:
            shell.kill()
            shell.wait(20)
        if isinstance(self.slurm, CliSlurm):
            self.slurm.close()
