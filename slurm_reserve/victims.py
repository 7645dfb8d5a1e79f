"""Which borrowers go, so that an owner's job fits. Pure.

Candidates are taken away one at a time, those that lose least first, until the job fits; then, in reverse, each is
put back that turns out not to be needed (B18, B28).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from slurm_reserve.model import Job, JobKey

Fits = Callable[[frozenset[JobKey]], bool]


def lost_work(job: Job, now: datetime) -> timedelta:
    """CPU time that is thrown away when the job goes now."""
    return (now - job.started) * job.shape.cpus if job.started else timedelta(0)


def choose(
    candidates: Iterable[Job], fits: Fits, now: datetime, told: frozenset[JobKey] = frozenset()
) -> tuple[Job, ...] | None:
    """The victims, in the order in which they go; None when not even all of them would do.

    `fits` answers whether the owner's job fits once those runs are gone. Jobs in `told` have had their notice and go
    before others. Two orders of taking away are tried, job by job and node by node, and the smaller loss is kept.
    """
    latest_first = sorted(candidates, key=lambda job: (job.submitted, job.id), reverse=True)
    jobs = sorted(latest_first, key=lambda job: (job.key not in told, lost_work(job, now)))
    if not fits(frozenset(job.key for job in jobs)):
        return None
    plans = [_minimal(order, fits) for order in (jobs, _by_node(jobs, now))]
    return min(plans, key=lambda plan: _cost(plan, now, told))


def _minimal(order: Sequence[Job], fits: Fits) -> tuple[Job, ...]:
    gone: list[Job] = []
    for job in order:
        if fits(frozenset(j.key for j in gone)):
            break
        gone.append(job)
    for job in reversed(tuple(gone)):
        rest = [j for j in gone if j is not job]
        if fits(frozenset(j.key for j in rest)):
            gone = rest
    return tuple(gone)


def _by_node(jobs: Sequence[Job], now: datetime) -> list[Job]:
    """The same jobs, but all of the cheapest node's first, then the next node's."""
    loss: dict[str, timedelta] = {}
    for job in jobs:
        for node in job.nodes:
            loss[node] = loss.get(node, timedelta(0)) + lost_work(job, now)
    return sorted(jobs, key=lambda job: min(((loss[node], node) for node in job.nodes), default=(timedelta(0), "")))


def _cost(plan: Sequence[Job], now: datetime, told: frozenset[JobKey]) -> tuple[int, timedelta, int]:
    fresh = sum(job.key not in told for job in plan)
    already_told = bool(told) and fresh
    return (int(already_told), sum((lost_work(job, now) for job in plan), timedelta(0)), len(plan))
