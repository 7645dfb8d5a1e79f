"""When an owner's job that cannot start yet is likely to: by its begin time, a dependency, an array's own limit. Pure.

What is expected soon is treated as demand a little early, so that its nodes are free when it may start; what is
expected later keeps long borrowers off its nodes. Only what squeue prints is gone by, and a job's end is the latest
that its time limit allows: one that ends sooner is a surprise, and served as any other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from slurm_reserve.bound import bound
from slurm_reserve.model import Job, JobKey
from slurm_reserve.site import ReservationSpec
from slurm_reserve.view import View

_DEPENDENCY = re.compile(r"after(?:any|ok|notok):(\d+(?:_\d+)?)\(unfulfilled\)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Expected:
    """A start that is to come."""

    at: datetime
    why: str
    over: frozenset[JobKey] = frozenset()  # jobs that will have ended by then


def expected(view: View, job: Job) -> Expected | None:
    """When a job that cannot start now is likely to be able to; None when nothing tells."""
    if job.priority == 0:
        return None
    if job.eligible is not None and job.eligible > view.cluster.at:
        return Expected(job.eligible, f"begins at {job.eligible:%Y-%m-%d %H:%M:%S}")
    if job.reason == "Dependency":
        return _after(view, _awaited(job.dependency))
    if job.reason == "JobArrayTaskLimit":
        return _next_task(view, job)
    return None


def is_soon(view: View, spec: ReservationSpec, start: Expected) -> bool:
    """Whether a borrower would have to be told now to be gone by then."""
    return start.at <= view.cluster.at + bound(view.site, view.cluster.config, spec).total


def is_in_sight(view: View, spec: ReservationSpec, start: Expected) -> bool:
    """Whether long borrowers are kept off its nodes by now."""
    return start.at <= view.cluster.at + spec.lend.look_ahead


@lru_cache(maxsize=4096)
def _awaited(dependency: str) -> tuple[str, ...]:
    """The jobs that must all end; nothing where it depends on anything else."""
    found = [_DEPENDENCY.fullmatch(part) for part in dependency.split(",")]
    return tuple(each[1] for each in found if each) if all(found) else ()


def _after(view: View, awaited: tuple[str, ...]) -> Expected | None:
    """Once all of them have ended; those that squeue does not print have."""
    left = [
        job for each in awaited for job in view.by_request.get(_request(each), ()) if each in (job.id, _request(job.id))
    ]
    if not awaited or any(job.ends is None for job in left):  # a job that waits has no end either
        return None
    at = max((job.ends for job in left if job.ends), default=view.cluster.at)
    return Expected(at, f"comes after {','.join(awaited)}", frozenset(job.key for job in left))


def _next_task(view: View, job: Job) -> Expected | None:
    """The next task of an array comes when one of those that run has ended.

    Releases that do not say how many may run (23.11 on) say by their reason that so many do.
    """
    running = [task for task in view.by_request.get(_request(job.id), ()) if task.nodes]
    if not running or len(running) < job.array_limit:
        return Expected(view.cluster.at, "the next task of its array")
    first = min(running, key=lambda task: task.ends or datetime.max.replace(tzinfo=view.cluster.at.tzinfo))
    if first.ends is None:
        return None
    return Expected(first.ends, f"comes after {first.id}", frozenset({first.key}))


def _request(job_id: str) -> str:
    """The array's id, or the job's."""
    return job_id.partition("_")[0]
