"""Borrowers that we evicted come back to the queue, and may start again. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from slurm_reserve.actions import EndWait
from slurm_reserve.memory import Evicted
from slurm_reserve.model import Job
from slurm_reserve.view import View

BACK_TO_QUEUE_WITHIN = timedelta(days=1)  # for how long a requeued victim is looked for, to end its wait
CREDENTIAL_SECOND = timedelta(seconds=2)  # the whole second after that of the requeue has begun for sure


def end_waits(view: View) -> Iterator[EndWait]:
    """Requeued victims come back without Slurm's two minutes.

    Not in the second of the requeue: slurmd compares whole seconds, and a job that starts again on the same node
    within the same one is refused its credential and ends for good. A time in the future is written only where
    Slurm's own wait would end sooner, for when it comes nothing asks for a scheduling pass.
    """
    for job, at in awaited(view):
        evicted = _eviction_of(view, job)
        why = f"evicted for {evicted.cause}; may run again" if evicted else "may run again"
        if at <= view.cluster.at:
            yield EndWait(job.key, None, why)
        elif job.eligible is not None and job.eligible < at:
            yield EndWait(job.key, at, why)


def awaited(view: View) -> list[tuple[Job, datetime]]:
    """Our victims that are pending again, and when each may start."""
    found = []
    ids = {job_id for job_id, _ in view.evictions}
    for job in view.pending if ids else ():
        evicted = _eviction_of(view, job) if job.id in ids else None
        if evicted is None or job.reason != "BeginTime" or view.cluster.at - evicted.at > BACK_TO_QUEUE_WITHIN:
            continue
        spec = view.site.reservation(evicted.reservation)
        back_off = spec.reclaim.back_off if spec else timedelta(0)
        found.append((job, max(evicted.at + back_off, job.submitted + CREDENTIAL_SECOND)))
    return found


def _eviction_of(view: View, job: Job) -> Evicted | None:
    """The eviction that put this job back into the queue: its restarts grew by one, and it was submitted anew."""
    return view.evictions.get((job.id, job.restarts - 1))
