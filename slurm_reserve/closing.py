"""What becomes of an owner's running jobs at the end of a reservation's period (`at_end`). Pure.

Slurm ends a reservation's jobs with it, as TIMEOUT, KillWait later at the latest: that is `cancel`, and nothing is done
here. A job that is taken off the reservation while it runs stays where it is and runs on (`keep`); that is done as soon
as it runs, so that it does not depend on the daemon's being there at the end. `requeue` sends it back to the queue in
time, for the next window or for other nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from slurm_reserve import demand, periods
from slurm_reserve.actions import Action, DetachJob, RequeueJob
from slurm_reserve.ground import Ground
from slurm_reserve.model import Job
from slurm_reserve.site import AtEnd
from slurm_reserve.view import View


def actions(view: View, ground: Ground) -> Iterator[Action]:
    """For each running job of the owner that would still run at the end, as declared."""
    spec, end = ground.spec, periods.ends(ground.spec, view.cluster.at)
    if end is None or spec.at_end is AtEnd.CANCEL or not ground.reservation.is_active:
        return
    for job in _outlasting(view, ground, end):
        if spec.at_end is AtEnd.KEEP:
            yield DetachJob(job.key, spec.name, f"it may run on when {spec.name} ends at {end:%Y-%m-%d %H:%M:%S %Z}")
        elif view.cluster.at >= end - demand.hand_back_time(view) and job.batch:
            yield RequeueJob(job.key, spec.name, job.nodes, f"{spec.name} ends at {end:%Y-%m-%d %H:%M:%S %Z}")


def warnings(view: View, ground: Ground) -> Iterator[tuple[str, str]]:
    """Owners' jobs that Slurm starts although it will end them with the reservation."""
    spec, end = ground.spec, periods.ends(ground.spec, view.cluster.at)
    if end is None or spec.at_end is AtEnd.KEEP or not ground.reservation.is_active:
        return
    then = "is requeued" if spec.at_end is AtEnd.REQUEUE else "is ended by Slurm"
    waiting = (d.job for d in ground.decisions if d.names_it and demand.outlasts(view, spec, d.job))
    for job in (*_outlasting(view, ground, end), *waiting):
        text = f"{job.user}'s job may take longer than {spec.name} lasts, and {then} at {end:%Y-%m-%d %H:%M:%S %Z}"
        yield f"job {job.id}", text


def _outlasting(view: View, ground: Ground, end: datetime) -> list[Job]:
    """The owner's jobs that run in the reservation and are not sure to be over by its end."""
    return [
        job
        for job in view.referrers.get(ground.spec.name, ())
        if job.nodes and not job.is_completing and not view.is_borrower(job) and (job.ends is None or job.ends > end)
    ]
