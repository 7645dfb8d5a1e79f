"""How gently a borrower is treated that has to go: how long it may stay, when it comes back, what it is told. Pure.

An eviction is remembered with the run of the job that it ended, so how often a job was evicted is how many such runs
are remembered; that survives restarts of the daemon, and is forgotten after a quiet time (B23).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from slurm_reserve.memory import Evicted, Notice
from slurm_reserve.model import Job, JobKey
from slurm_reserve.site import LEND_SUFFIX, AfterMost, ReservationSpec
from slurm_reserve.view import View

# Not in the second of the requeue: slurmd compares whole seconds, and a job that starts again on the same node within
# the same one is refused its credential and ends for good. The whole second after that has begun for sure.
CREDENTIAL_SECOND = timedelta(seconds=2)
_MORE = re.compile(r"(?:^|[\s;,])more=(\d{1,5})s?(?=$|[\s;,])", re.ASCII)


def times_evicted(view: View, job: Job) -> int:
    """How often this job was evicted; 0 when the last time is long ago."""
    past = view.evictions_of.get(job.id, ())
    counted = [evicted.at for restarts, evicted in past if restarts < job.restarts]
    if not counted or view.cluster.at - max(counted) > view.site.lending.forget_evictions_after:
        return 0
    return len(counted)


def is_at_most(view: View, job: Job) -> bool:
    """Whether it was evicted as often as the site allows."""
    most = view.site.lending.max_evictions
    return bool(most) and times_evicted(view, job) >= most


def promised_until(view: View, spec: ReservationSpec, job: Job) -> datetime | None:
    """Until when a running borrower is not to be evicted; None when it may be at any time."""
    lending = view.site.lending
    promised = spec.reclaim.min_run_time
    if lending.after_max_evictions is AfterMost.PROTECT and is_at_most(view, job):
        promised = max(promised, lending.protect_for)
    return job.started + promised if promised and job.started else None


def deadline(view: View, spec: ReservationSpec, job: Job, notice: Notice) -> datetime:
    """When a borrower that was told to go is evicted: later if it asks for more time, as far as the owner allows."""
    most = spec.reclaim.extra_time
    asked = _MORE.search(view.cluster.comments.get(job.id, "")) if most else None
    return notice.deadline + (min(timedelta(seconds=int(asked[1])), most) if asked else timedelta(0))


def back_off(view: View, spec: ReservationSpec | None, job: Job) -> timedelta:
    """How long an evicted job stays out of the queue: twice as long each time."""
    if spec is None:
        return timedelta(0)
    policy = spec.reclaim
    doublings = min(max(times_evicted(view, job) - 1, 0), 20)
    return min(policy.back_off * (1 << doublings), max(policy.back_off_max, policy.back_off))


def is_to_hold(view: View, job: Job) -> bool:
    """Whether a victim that is back in the queue is held."""
    return view.site.lending.after_max_evictions is AfterMost.HOLD and is_at_most(view, job)


def forestalled(view: View) -> Iterator[tuple[JobKey, Evicted]]:
    """Borrowers that were told to go and are back in the queue without our doing: requeued by themselves, or by Slurm.

    Their run has ended all the same, and they are treated like those that we evicted.
    """
    told = {(key.id, key.restarts): (key, notice) for key, notice in view.memory.notices.items()}
    for job in view.pending if told else ():
        key, notice = told.get((job.id, job.restarts - 1), (None, None))
        if key is not None and notice is not None and key not in view.memory.evicted:
            yield key, Evicted(notice.at, notice.cause, notice.reservation)
    yield from _preempted(view, told.keys())


def _preempted(view: View, told: Collection[tuple[str, int]]) -> Iterator[tuple[JobKey, Evicted]]:
    """Borrowers that we had lent to and Slurm itself preempted, before we could: they need not wait its two minutes."""
    lends = {(key.id, key.restarts): (key, sent) for key, sent in view.memory.attached.items()}
    for job in view.pending if lends else ():
        key, sent = lends.get((job.id, job.restarts - 1), (None, None))
        if key is None or sent is None or (key.id, key.restarts) in told or key in view.memory.evicted:
            continue
        if job.reason == "BeginTime" and sent.reservation.endswith(LEND_SUFFIX):
            yield key, Evicted(job.submitted, "a job that Slurm put first", sent.reservation.removesuffix(LEND_SUFFIX))


def note(view: View, job: Job, evicted: Evicted) -> str:
    """What an evicted job's own record says to its user."""
    count = max(times_evicted(view, job), 1)
    where = f" from {evicted.nodes}" if evicted.nodes else ""
    of = f", which {evicted.reservation} had lent it" if evicted.reservation else ""
    times = "once" if count == 1 else f"{count} times"
    text = f"evicted {times}, last {evicted.at:%Y-%m-%dT%H:%M:%S%z}{where}{of}, for {evicted.cause}"
    if is_to_hold(view, job):
        text += f"; held after that many evictions: scontrol release {job.id}"
    return text
