"""What becomes of borrowers after their eviction, and of those that may stay after all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from slurm_reserve import hygiene
from slurm_reserve.actions import Action, EndWait, Group, HoldJob, LetStay, NoteJob
from slurm_reserve.memory import Evicted
from slurm_reserve.model import Job, JobKey
from slurm_reserve.view import View

BACK_TO_QUEUE_WITHIN = timedelta(days=1)  # for how long a requeued victim is looked for


Returned = tuple[Job, datetime, Evicted]  # a victim that is back in the queue, when it may start, its eviction


def groups(view: View, going: frozenset[JobKey], back: Iterable[Returned]) -> Iterator[Group]:
    """What is done for each of them; `going` are this plan's victims."""
    yield Group("may stay", tuple(_let_stay(view, going)))
    for job, at, evicted in back:
        yield Group(f"back in the queue: {job.id}", tuple(_back(view, job, at, evicted)))


def awaited(back: Iterable[Returned]) -> list[datetime]:
    """When the waits are to be ended that still are."""
    return [at for job, at, evicted in back if job.reason == "BeginTime" and not evicted.is_back]


def _let_stay(view: View, going: frozenset[JobKey]) -> Iterator[Action]:
    """Borrowers that were told to go and are nobody's victims any more may go on, and are told so."""
    for key, notice in view.memory.notices.items():
        job, spec = view.touched.get(key), view.site.reservation(notice.reservation)
        if key in going or job is None or job.state != "RUNNING" or spec is None:
            continue
        if spec.reclaim.go_on_signal:
            yield LetStay(key, spec.reclaim.go_on_signal, f"{notice.cause} no longer needs its nodes")


def _back(view: View, job: Job, at: datetime, evicted: Evicted) -> Iterator[Action]:
    """A requeued victim comes back without Slurm's two minutes, unless it is held, and is told why it went.

    A time in the future is written only where Slurm's own wait would end sooner, for when it comes nothing asks for a
    scheduling pass.
    """
    why = f"evicted for {evicted.cause}"
    if evicted.is_back:
        pass
    elif hygiene.is_to_hold(view, job):
        yield HoldJob(job.key, f"{why}, as often as the site allows")
    elif job.reason == "BeginTime" and at <= view.cluster.at:
        yield EndWait(job.key, None, f"{why}; may run again", _wait(job))
    elif job.reason == "BeginTime" and job.eligible is not None and job.eligible < at:
        yield EndWait(job.key, at, f"{why}; may run again", _wait(job))
    if not evicted.is_noted:
        yield NoteJob(job.key, hygiene.note(view, job, evicted), "its user is to know")


def returned(view: View) -> list[Returned]:
    """Our victims that are pending again, and when each may start.

    A requeued job is known by its restarts, which grew by one: it was submitted anew.
    """
    ids = {job_id for job_id, _ in view.evictions}
    found = []
    for job in view.pending if ids else ():
        evicted = view.evictions.get((job.id, job.restarts - 1)) if job.id in ids else None
        if evicted is None or view.cluster.at - evicted.at > BACK_TO_QUEUE_WITHIN:
            continue
        if _waits_anew(job, evicted):
            evicted = replace(evicted, is_back=False)
        if evicted.is_back and evicted.is_noted:
            continue
        wait = hygiene.back_off(view, view.site.reservation(evicted.reservation), job)
        found.append((job, max(evicted.at + wait, job.submitted + hygiene.CREDENTIAL_SECOND), evicted))
    return found


def _wait(job: Job) -> str:
    """Which wait it is; a begin time that its user sets afterwards is another one."""
    return f"{job.submitted.isoformat()} {job.eligible.isoformat() if job.eligible else ''}"


def _waits_anew(job: Job, evicted: Evicted) -> bool:
    """Whether slurmctld forgot in a crash that the wait was ended: it is the same again, or that of another requeue."""
    if not (evicted.is_back and evicted.wait and job.reason == "BeginTime"):
        return False
    return _wait(job) == evicted.wait or not evicted.wait.startswith(job.submitted.isoformat())
