"""Reading through pyslurm, beside the commands, on a real Slurm: the same cluster is seen.

pyslurm fits one release of Slurm, which Debian does not carry; where it is missing these tests say so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psutil
import pytest
from slurm_reserve.lab import Lab, LabSpec
from slurm_reserve.model import Cluster, Job
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.port import SlurmUnavailableError
from slurm_reserve.slurm.pyslurm import MODULE, PyslurmSlurm, is_installed

from tests.slurm.record import NODES, REQUESTS

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not is_installed(), reason="pyslurm is not installed: it needs Slurm 25.11 and its headers"),
]


@pytest.fixture
def slurm(lab: Lab) -> Iterator[PyslurmSlurm]:
    made = PyslurmSlurm(SlurmSettings(timeout=timedelta(seconds=5)), lab.command)
    yield made
    made.close()


def seen(cluster: Cluster) -> dict[str, Job]:
    """What must be the same: all but what squeue does not print, limits of an array's tasks and of more than a year."""
    return {job.id: _as_squeue_prints_it(job) for job in cluster.jobs}


def _as_squeue_prints_it(job: Job) -> Job:
    is_longer = job.time_limit is not None and job.time_limit > timedelta(days=365)
    limit = None if is_longer else job.time_limit
    return replace(job, array_limit=0, time_limit=limit, dependency=job.dependency.partition("(")[0])


def differences(found: dict[str, Job], expected: dict[str, Job]) -> dict[str, dict[str, Any]]:
    """By job, field by field: what each of the two sees."""
    sides = {job_id: (found.get(job_id), expected.get(job_id)) for job_id in found.keys() | expected.keys()}
    return {job_id: _fields(*both) for job_id, both in sides.items() if both[0] != both[1]}


def _fields(one: Job | None, other: Job | None) -> dict[str, Any]:
    if one is None or other is None:
        return {"is there": (one is not None, other is not None)}
    pairs = [("", one, other), ("shape.", one.shape, other.shape)]
    return {
        f"{prefix}{name}": (getattr(a, name), getattr(b, name))
        for prefix, a, b in pairs
        for name in a.__slots__
        if name != "shape" and getattr(a, name) != getattr(b, name)
    }


def test_every_kind_of_request_is_seen_as_the_commands_see_it(lab: Lab, slurm: PyslurmSlurm) -> None:
    for options in REQUESTS:
        lab.run(["sbatch", "-H", "-o/dev/null", "--wrap=sleep 9", *options], "alice", check=False)
    commands = CliSlurm(SlurmSettings(), lab.command)
    expected = commands.observe(words=True)
    found = slurm.observe(words=True)
    assert slurm.calls["pyslurm"] == 3  # jobs, nodes and partitions
    assert len(found.jobs) > len(REQUESTS) * 3 // 4
    assert differences(seen(found), seen(expected)) == {}
    assert found.nodes == expected.nodes
    assert (found.partitions, found.reservations) == (expected.partitions, expected.reservations)


@pytest.fixture(scope="module")
def with_gpus() -> Iterator[Lab]:
    with Lab.boot(LabSpec(NODES)) as lab:
        yield lab


def test_where_there_are_gres_all_is_seen_as_the_commands_see_it(with_gpus: Lab) -> None:
    for options in REQUESTS:
        with_gpus.run(["sbatch", "-H", "-o/dev/null", "--wrap=sleep 9", *options], "alice", check=False)
    expected = CliSlurm(SlurmSettings(), with_gpus.command).observe(words=True)
    slurm = PyslurmSlurm(SlurmSettings(timeout=timedelta(seconds=5)), with_gpus.command)
    for _ in range(2):
        found = slurm.observe(words=True)
        assert differences(seen(found), seen(expected)) == {}
        assert found.nodes == expected.nodes
    assert any(job.shape.gres_per_job for job in found.jobs)
    assert slurm.calls["pyslurm"] == 2  # partitions, and once the nodes
    slurm.close()


def test_jobs_that_hold_nodes_are_seen_as_the_commands_see_them(lab: Lab, slurm: PyslurmSlurm) -> None:
    running = lab.sbatch("alice", "-w", "n1", "-t", "30")
    tasks = lab.sbatch("bob", "-p", "preempt", "--array=0-4%2", "-w", "n2", "--comment=bid=3")
    lab.run(["sbatch", "-o/dev/null", "--wrap=sleep 1000", "-wn3", ":", "-wn4", "-n2"], "carol")
    stopped = lab.sbatch("dave", "-w", "n4")
    commands = CliSlurm(SlurmSettings(), lab.command)

    def run() -> bool:
        holding = {job.id for job in commands.observe().jobs if job.state == "RUNNING"}
        return {running, f"{tasks}_0", f"{tasks}_1", stopped} <= holding

    lab.wait(run)
    lab.run(["scontrol", "suspend", stopped])
    lab.run(["scontrol", "requeue", "incomplete", running])
    lab.wait(lambda: any(job.is_pending and job.restarts for job in commands.observe().jobs))
    found, expected = slurm.observe(words=True), commands.observe(words=True)
    assert differences(seen(found), seen(expected)) == {}
    assert found.nodes == expected.nodes
    assert {job.array_limit for job in found.jobs if job.array_tasks} == {2}


def test_a_reader_that_hangs_is_killed_and_started_again(lab: Lab, slurm: PyslurmSlurm) -> None:
    job = lab.sbatch("alice", "-H")
    slurm.observe()
    (reader,) = [p for p in psutil.process_iter(["cmdline"]) if MODULE in (p.info["cmdline"] or [])[-1:]][-1:]
    os.kill(reader.pid, signal.SIGSTOP)
    with pytest.raises(SlurmUnavailableError, match="no answer within"):
        slurm.observe()
    assert [each.id for each in slurm.observe().jobs] == [job]


def test_slurmctld_that_is_down_is_no_empty_cluster(lab: Lab, slurm: PyslurmSlurm) -> None:
    slurm.observe()
    lab.stop("slurmctld")
    with pytest.raises(SlurmUnavailableError):
        slurm.observe()
    lab.start("slurmctld")
    slurm.observe()
