"""What no plan may ever do, checked after planning and before acting. Pure.

The planner is meant never to break these; a plan that does is a bug in it, and is not carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from slurm_reserve import demand
from slurm_reserve.actions import (
    AttachJob,
    CreateReservation,
    DeleteReservation,
    DetachJob,
    EvictJob,
    ExpireJob,
    HoldJob,
    LetStay,
    NoteJob,
    NotifyJob,
    RestoreJob,
    UpdateReservation,
)
from slurm_reserve.desired import NEEDED_FLAGS
from slurm_reserve.fit import Room, fit
from slurm_reserve.model import Job, JobKey
from slurm_reserve.plan import Plan
from slurm_reserve.reclaim import Verdict
from slurm_reserve.site import LEND_SUFFIX
from slurm_reserve.view import EVICTION_SHOWS_WITHIN, View

Check = Callable[[View, Plan], Iterator[str]]


def violations(view: View, plan: Plan) -> list[str]:
    """Each broken invariant in one sentence that begins with its number; empty for a sound plan."""
    return [text for check in CHECKS for text in check(view, plan)]


def _owners_are_served(view: View, plan: Plan) -> Iterator[str]:
    """1. Every owner's job that nodes would help has a verdict; none is queued behind borrowers alone."""
    decided = {decision.job.key: decision for decision in plan.decisions}
    for spec in view.site.reservations:
        existing = view.cluster.reservations.get(spec.name)
        if existing is None or not NEEDED_FLAGS <= existing.flags:
            continue
        for want in demand.wants(view, spec):
            decision = decided.get(want.job.key)
            if decision is None:
                yield f"1: job {want.job.id} of {spec.name}'s owner was not decided on"
            elif decision.verdict is Verdict.EVICT and not any(
                v.reservation == decision.reservation for v in plan.victims
            ):
                yield f"1: job {want.job.id} needs nodes back, but nobody goes"
            elif decision.verdict in (Verdict.QUEUED, Verdict.TOO_LARGE) and _fits_without_lending(
                view, plan, want.job, existing.nodes
            ):
                yield f"1: job {want.job.id} would run on {spec.name}, had nothing been lent"


def _fits_without_lending(view: View, plan: Plan, job: Job, nodes: frozenset[str]) -> bool:
    """On the nodes that no owner's job holds or is about to use."""
    taken = frozenset().union(*(d.nodes for d in plan.decisions))
    free = [
        Room.whole(node)
        for node in view.usable(nodes - taken)
        if all(view.is_borrower(holder) for holder in view.holders.get(node.name, ()))
    ]
    return bool(fit(job, view.in_time(job, free, view.maintenance_at), view.exclusive_partitions))


def _only_borrowers(view: View, plan: Plan) -> Iterator[str]:
    """2. Whom we place, evict or end."""
    jobs, is_ending = view.touched, any(isinstance(action, ExpireJob) for action in plan.actions)
    known = {job.key: job for job in view.cluster.jobs} if is_ending else {}
    lent = {loan.job.key for loan in plan.loans}
    for loan in plan.loans:
        if not view.is_borrower(loan.job):
            yield f"2: job {loan.job.id} is lent to but is no borrower"
    for action in plan.actions:
        if isinstance(action, AttachJob) and action.job not in lent and action.reservation.endswith(LEND_SUFFIX):
            yield f"2: job {action.job.id} is sent to {action.reservation} without a loan"
        if not isinstance(action, NotifyJob | EvictJob | ExpireJob):
            continue
        job = known.get(action.job) if isinstance(action, ExpireJob) else jobs.get(action.job)
        if job is None:
            yield f"2: {action.job.id} is to go but is not a job that was seen"
        elif isinstance(action, EvictJob) and action.is_intruder:
            if not job.reservation.endswith(LEND_SUFFIX):
                yield f"2: job {job.id} is put out as an intruder but is in no lend reservation"
        elif not view.is_borrower(job):
            yield f"2: job {job.id} of {job.user} is to go but is no borrower"


def _lend_lies_within(view: View, plan: Plan) -> Iterator[str]:
    """3. Nodes and flags of lend reservations, flags of ours."""
    for action in plan.actions:
        if isinstance(action, CreateReservation) and (not NEEDED_FLAGS <= action.flags or "FLEX" in action.flags):
            yield f"3: {action.name} would be made with flags {','.join(sorted(action.flags))}"
        if isinstance(action, UpdateReservation):
            if "FLEX" in action.add_flags or NEEDED_FLAGS & action.drop_flags:
                yield f"3: {action.name} would get wrong flags"
            if action.nodes is not None and not action.nodes:
                yield f"3: {action.name} would be sent an empty node list"
        if not isinstance(action, CreateReservation | UpdateReservation) or not action.name.endswith(LEND_SUFFIX):
            continue
        if why := _draws_others(view, action):
            yield f"3: {action.name} {why}"
        within = view.cluster.reservations.get(action.name.removesuffix(LEND_SUFFIX))
        if within is None or (action.nodes or frozenset()) - within.nodes:
            yield f"3: {action.name} would not lie within its reservation"


def _draws_others(view: View, action: CreateReservation | UpdateReservation) -> str:
    """Why more than borrowers might be drawn in; "" when they alone, or nobody, would be."""
    there = view.cluster.reservations.get(action.name)
    flags = action.flags if isinstance(action, CreateReservation) else action.add_flags
    if "MAGNETIC" not in flags:
        return ""
    shown = action if isinstance(action, CreateReservation) else there
    lending = view.site.lending
    is_ours = shown is not None and (
        lending.partitions >= shown.allowed_partitions > frozenset() or lending.qos >= shown.allowed_qos > frozenset()
    )
    return "" if is_ours else "would draw in more than borrowers"


def _closed_before_evicted(view: View, plan: Plan) -> Iterator[str]:
    """4. When somebody is evicted for an owner's job, nothing more may come into that lend reservation."""
    detached: set[JobKey] = set()
    drawing = {name for name in view.lend_names if "MAGNETIC" in _flags(view, name)}
    for action in plan.actions:
        if isinstance(action, UpdateReservation) and "MAGNETIC" in action.drop_flags:
            drawing.discard(action.name)
        if isinstance(action, DetachJob):
            detached.add(action.job)
        if not isinstance(action, EvictJob) or action.is_intruder:
            continue
        if action.reservation + LEND_SUFFIX in drawing:
            yield f"4: job {action.job.id} is evicted while {action.reservation + LEND_SUFFIX} draws borrowers in"
        for job in view.referrers.get(action.reservation + LEND_SUFFIX, ()):
            recalled = any(v.job.key == action.job and not v.cause.startswith("job ") for v in plan.victims)
            if job.is_pending and job.key not in detached and not recalled:
                yield f"4: job {action.job.id} is evicted while job {job.id} waits in the lend reservation"


def _flags(view: View, name: str) -> frozenset[str]:
    there = view.cluster.reservations.get(name)
    return there.flags if there is not None else frozenset()


def _issued_once(view: View, plan: Plan) -> Iterator[str]:
    """5. One eviction for each run of a job."""
    seen: set[JobKey] = set()
    for action in plan.actions:
        if not isinstance(action, EvictJob):
            continue
        before = view.memory.evicted.get(action.job)
        if action.job in seen or (before is not None and abs(view.cluster.at - before.at) < EVICTION_SHOWS_WITHIN):
            yield f"5: job {action.job.id} is evicted twice"
        seen.add(action.job)


def _outbid(view: View, plan: Plan) -> Iterator[str]:
    """9. Who goes for another borrower."""
    pairs = [(victim.job, victim.outbid_by) for victim in plan.victims if victim.outbid_by is not None]
    lending, waiting = view.site.lending, {job.key: job for job in view.waiting_borrowers} if pairs else {}
    for job, by in pairs:
        other = waiting.get(by) or waiting.get(by._replace(id=by.id.partition("_")[0]))  # a task of an array
        if not lending.displace or other is None or view.bid(job) >= view.bid(other):
            yield f"9: job {job.id} would give way to job {by.id}, which does not bid more"


def _strangers_untouched(view: View, plan: Plan) -> Iterator[str]:
    """6. Reservations that are not ours, jobs in them, nodes under maintenance."""
    declared = {spec.name for spec in view.site.reservations}
    ours = declared | view.memory.made.keys() | view.lend_names
    jobs = view.touched
    for action in plan.actions:
        if isinstance(action, CreateReservation | UpdateReservation | DeleteReservation) and action.name not in ours:
            yield f"6: reservation {action.name} is not ours"
        if isinstance(action, HoldJob | NoteJob | LetStay) and not _is_known(view, action.job):
            yield f"6: job {action.job.id} was neither evicted nor told to go"
        if isinstance(action, RestoreJob) and action.job not in view.memory.evicted:
            yield f"6: job {action.job.id} would be run again and was not evicted by us"
        if isinstance(action, AttachJob | DetachJob):
            job = jobs.get(action.job)
            if job is not None and job.reservation and not ours & set(job.reservation.split(",")):
                yield f"6: job {job.id} is in {job.reservation}, which is not ours"
    under = frozenset().union(
        *(r.nodes for r in view.cluster.reservations.values() if "MAINT" in r.flags and r.is_active)
    )
    for loan in plan.loans:
        if loan.nodes & under:
            yield f"6: job {loan.job.id} is lent nodes under maintenance"


def _is_known(view: View, job: JobKey) -> bool:
    return job in view.memory.notices or (job.id, job.restarts - 1) in view.evictions


CHECKS: tuple[Check, ...] = (
    _owners_are_served,
    _only_borrowers,
    _lend_lies_within,
    _closed_before_evicted,
    _issued_once,
    _outbid,
    _strangers_untouched,
)
