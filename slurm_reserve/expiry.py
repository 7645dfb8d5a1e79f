"""Borrowers whose time is over for good (B30): by the clock, or by the time that they have run in all. Pure.

The run time of a request is the time during which any of it ran: an array is one request, and a job that was evicted
and runs again is the same one. It is added up from one look to the next, and so outlives the daemon in the ledger.
Slurm's own `--deadline` is Slurm's to keep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

from slurm_reserve import bids
from slurm_reserve.durations import format_duration
from slurm_reserve.memory import Tally
from slurm_reserve.model import Job, JobKey
from slurm_reserve.view import View


def tallies(view: View) -> Mapping[str, Tally]:
    """What each request has run by now, as it is to be remembered; only where that may end anybody."""
    if not view.site.lending.ends_borrowers:
        return {}
    known, requests = view.memory.tallies, defaultdict[str, list[Job]](list)
    for job in view.cluster.jobs:
        name = request(job)
        if (job.nodes or name in known) and view.is_borrower(job):
            requests[name].append(job)
    return {
        name: _tally(jobs, known.get(name), view.cluster.at, view.memory.unseen_since)
        for name, jobs in requests.items()
    }


def request(job: Job) -> str:
    """The id of what its user submitted."""
    return job.id.partition("_")[0]


def _tally(jobs: list[Job], known: Tally | None, now: datetime, unseen_since: datetime | None) -> Tally:
    """A run that has ended since the last look did so when its job was back in the queue, or by now.

    Where that look was long ago, and the job is not back in the queue, it counts until then alone.
    """
    user, total, since = jobs[0].user, timedelta(0), None
    if known is not None and known.user == user:
        total, since = known.total, known.since
    starts = [job.started for job in jobs if job.started is not None]
    first = min(starts, default=None)
    if since is not None and (first is None or first > since):
        back = [job.submitted for job in jobs if since < job.submitted <= (first or now)]
        latest = max(unseen_since, since) if unseen_since else now
        total, since = total + (max(back, default=min(first or now, latest)) - since), None
    return Tally(user, total, since or first)


def over(view: View, counted: Mapping[str, Tally]) -> dict[JobKey, str]:
    """The borrowers whose time is over, each with the reason that its user is told."""
    if not view.site.lending.ends_borrowers:
        return {}
    now, found = view.cluster.at, {}
    for job in view.cluster.jobs:
        may_be = (job.comment or request(job) in counted) and view.is_borrower(job) and not view.is_going(job)
        if may_be and (why := _why_over(view, job, counted.get(request(job)), now)):
            found[job.key] = why
    return found


def next_at(view: View, counted: Mapping[str, Tally]) -> list[datetime]:
    """When those that run now will be over, as far as that is to come."""
    if not view.site.lending.ends_borrowers:
        return []
    now, due = view.cluster.at, []
    for job in view.touched.values():
        tally, most = counted.get(request(job)), _most(view, job)
        if tally is not None and most is not None and view.is_borrower(job):
            due.append(now + most - _run_time(tally, now))
    return [at for at in due if at > now]


def _why_over(view: View, job: Job, tally: Tally | None, now: datetime) -> str:
    expires = bids.expires_in(job.comment) if view.site.lending.expires_in_comment else None
    if expires is not None and expires <= now:
        return f"it was to expire at {expires:%Y-%m-%d %H:%M:%S %Z}"
    most = _most(view, job)
    if most is not None and tally is not None and (ran := _run_time(tally, now)) >= most:
        seconds = timedelta(seconds=round(ran.total_seconds()))
        return f"it has run for {format_duration(seconds)} in all, and may for {format_duration(most)}"
    return ""


def _most(view: View, job: Job) -> timedelta | None:
    """How long a borrower may run in all: what the site says, or less where its user says so."""
    lending = view.site.lending
    said = bids.run_time_in(job.comment) if lending.expires_in_comment else None
    return min((most for most in (lending.max_run_time, said) if most is not None), default=None)


def _run_time(tally: Tally, now: datetime) -> timedelta:
    return tally.total + (max(now - tally.since, timedelta(0)) if tally.since else timedelta(0))
