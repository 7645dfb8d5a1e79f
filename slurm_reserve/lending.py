"""Whether idle reserved nodes may be lent, and the lending itself. Pure.

What there is to lend is in :mod:`slurm_reserve.lots`, who gets it in :mod:`slurm_reserve.choice`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from slurm_reserve import demand, naming
from slurm_reserve.caps import Caps
from slurm_reserve.choice import Lending, Loan, Market
from slurm_reserve.ground import Ground
from slurm_reserve.lots import lot
from slurm_reserve.model import Job, JobKey
from slurm_reserve.net import net_missing
from slurm_reserve.site import Reluctance
from slurm_reserve.view import View

__all__ = ["OWNERS_TURN", "Lending", "Loan", "braked", "lend", "may_lend", "net_missing"]

OWNERS_TURN = "an owner's job is about to use its nodes"


def braked(view: View) -> str:
    """Why the brake is on; "" while evictions are as many as they may be. An admin takes it off."""
    if view.memory.orders.brake:
        return view.memory.orders.brake
    hour, most = view.cluster.at - timedelta(hours=1), view.site.lending.max_evictions_per_hour
    recent = sum(at > hour for at in view.memory.eviction_times)
    return f"{recent} evictions within an hour at {view.cluster.at:%Y-%m-%d %H:%M %Z}" if recent >= most else ""


def may_lend(view: View, ground: Ground) -> str:
    """Why nothing new of this reservation may be lent now; "" when it may."""
    orders = view.memory.orders
    if orders.paused:
        return "lending is paused"
    if not view.memory.is_writable:
        return "ledger or journal cannot be written"
    if not ground.reservation.is_active:
        return "the reservation is not active"
    if why := demand.why_not_lending(view, ground.spec):
        return why
    if "FLEX" in ground.reservation.flags:
        return "the reservation has the flag FLEX"
    if lacks := {"OVERLAP", "IGNORE_JOBS"} - ground.reservation.flags:
        return f"the reservation lacks {','.join(sorted(lacks))}"
    if brake := braked(view):
        return f"the brake is on: {brake}; look why, then `slurm-reserve resume`"
    missing = net_missing(view, ground.reservation.nodes)
    if missing and not view.site.daemon.fail_safe:
        return f"nothing would give the nodes back if this daemon died: {missing}"
    if ground.is_closing:
        return OWNERS_TURN
    return ""


def lend(view: View, grounds: Mapping[str, Ground], over: Mapping[JobKey, str]) -> Lending:
    """Place waiting borrowers whose time is not over, in their turn; first on nodes already lent, then on idle ones."""
    lending = Lending()
    market = _market(view, grounds, lending)
    waiting = []
    for job in view.waiting_borrowers:
        if why := (over and over.get(job.key)) or _unlendable(view, job):
            lending.refused[job.id] = why
        else:
            waiting.append(job)
    market.serve_owners(waiting)
    market.serve_all(waiting)
    market.widen()
    return lending


def _market(view: View, grounds: Mapping[str, Ground], lending: Lending) -> Market:
    """What there is to lend, what is to be lent last behind all else."""
    lots = []
    for ground in grounds.values():
        if why := may_lend(view, ground):
            lending.withheld[ground.spec.name] = why
        else:
            lots.append(lot(view, ground, lending.withheld))
    lots = sorted((each for each in lots if each.rooms), key=lambda each: each.rank)
    running = Counter(job.id.split("_")[0] for job in view.touched.values() if "_" in job.id and job.nodes)
    return Market(view, lots, lending, view.free_outside(), Caps.of(view, grounds.values()), running)


def _unlendable(view: View, job: Job) -> str:
    """Why a borrower is not lent to, wherever there is room."""
    if why := demand.blocked(view, job):
        return why
    if not naming.is_user(job.user):
        return "its user's name cannot be given to Slurm, so it could not be let in"
    if job.het_job:
        return "heterogeneous jobs are not lent to"
    if job.licenses:
        return "holds licences, which Slurm never takes back by preemption"
    if not job.batch and Reluctance.INTERACTIVE in view.site.lending.refuse:
        return "it would be lost, for it is interactive"
    if (known := view.memory.unfit) and (unfit := known.get(job.key)):
        return unfit
    if job.id not in view.sent_before:
        return ""
    until = view.memory.not_before.get(job.key)
    if until is not None and view.cluster.at < until:
        return f"did not start when last lent to; tried again at {until:%H:%M:%S}"
    sent = view.memory.attached.get(job.key)
    if job.reservation and sent is not None and view.cluster.at - sent.at > view.patience:
        return "did not start where it was sent"
    return ""
