"""Borrowers of ours that slurmctld has lost, and that are put back into the queue. Pure.

A slurmctld that dies within seconds of a requeue forgets it: it takes the victim for running, finds no process of it,
and ends it for good (FAILED, JobLaunchFailure). A requeue by an operator brings it back, as it was to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from slurm_reserve.actions import Action, RestoreJob
from slurm_reserve.memory import Memory
from slurm_reserve.model import Cluster, Job
from slurm_reserve.view import View

LOST = ("FAILED", "JobLaunchFailure")  # state and reason: squeue(1)
WITHIN = timedelta(minutes=10)  # slurmctld itself forgets who is over after MinJobAge, 5 minutes by default


def missing(cluster: Cluster, memory: Memory) -> list[str]:
    """Ids of those that we evicted a short time ago and that are neither running nor waiting."""
    recent = [key for key, evicted in memory.evicted.items() if cluster.at - evicted.at < WITHIN]
    if not recent:
        return []
    there = {job.id for job in cluster.jobs}
    there |= {f"{job.id}_{task}" for job in cluster.jobs for task in job.array_tasks}
    return sorted({key.id for key in recent} - there)


def lost(ended: Iterable[Job], memory: Memory) -> tuple[Job, ...]:
    """Those that slurmctld has lost: the very runs that we evicted. Whoever ended in another way has ended."""
    return tuple(job for job in ended if job.key in memory.evicted and (job.state, job.reason) == LOST)


def actions(view: View) -> Iterator[Action]:
    """Bring them back."""
    for job in view.cluster.lost:
        cause = view.memory.evicted[job.key].cause
        yield RestoreJob(job.key, f"evicted for {cause}, which slurmctld forgot when it died, and ended the job")
