"""From an observation to an ordered list of actions, each with its reason. Pure.

Invariants (DESIGN.md), checked by :mod:`slurm_reserve.invariants` before anything is done:

1. With lending on, an owner's job never waits longer than with lending off plus the bound.
2. Only borrowers are ever placed on reserved nodes or evicted by us; intruders apart.
3. A lend reservation lies within its reservation; OVERLAP and IGNORE_JOBS on both; FLEX on neither.
4. Closed before evicted; decided and recorded before signalled.
5. One eviction is issued once for each (job, submit time, restart count), again only when it has not shown in time.
6. Strangers' reservations and jobs are never changed; maintenance wins.
7. Unreadable is not empty.
8. Crash anywhere, start again: same end. Every prefix of a plan is safe to stop after.
9. A borrower gives way to another for a strictly higher bid alone, and where the site has turned that on.

The order within a reservation: close, notify, evict, hand over, shrink; then corrections; loans come last of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slurm_reserve import (
    bids,
    closing,
    desired,
    displace,
    expiry,
    guarantee,
    hygiene,
    lending,
    magnet,
    naming,
    reclaim,
    restore,
    returns,
)
from slurm_reserve.actions import (
    Action,
    AttachJob,
    CreateReservation,
    DeleteReservation,
    DetachJob,
    EvictJob,
    ExpireJob,
    Group,
    NotifyJob,
    UpdateReservation,
)
from slurm_reserve.lending import Lending, Loan
from slurm_reserve.memory import Evicted, Tally
from slurm_reserve.model import Job, JobKey, Reservation
from slurm_reserve.net import net_missing
from slurm_reserve.reclaim import CLOSING, TRUSTED, Decision, Ground, Verdict, Victim
from slurm_reserve.site import EvictBy, EvictHow, Find, Mode, Owner, Reluctance, ReservationSpec
from slurm_reserve.view import View

RETRY_BORROWER = timedelta(minutes=1)
RETRY_OWNER = timedelta(minutes=5)
WHILE_TOLD = timedelta(seconds=1)  # how soon it is looked again while a notice runs


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, why, and what to remember."""

    groups: tuple[Group, ...] = ()
    decisions: tuple[Decision, ...] = ()
    victims: tuple[Victim, ...] = ()
    loans: tuple[Loan, ...] = ()
    not_lent: Mapping[str, str] = field(default_factory=dict)  # waiting borrower -> why
    withheld: Mapping[str, str] = field(default_factory=dict)  # node or reservation -> why it is not lent
    unmet: Mapping[str, str] = field(default_factory=dict)  # reservation -> why it cannot be made
    reports: Mapping[str, str] = field(default_factory=dict)  # what an admin should know
    waiting_since: Mapping[JobKey, datetime] = field(default_factory=dict)
    idle_since: Mapping[str, datetime] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)  # how long borrowers have run in all
    forestalled: Mapping[JobKey, Evicted] = field(default_factory=dict)  # told to go, and gone without our doing
    brake: str = ""  # why nothing is lent until an admin has looked
    wake_at: datetime | None = None  # when the next step is due, sooner than the next poll

    @property
    def actions(self) -> tuple[Action, ...]:
        """Every action, in the order in which it is done."""
        return tuple(action for group in self.groups for action in group.actions)


def make(view: View) -> Plan:
    """Decide everything that follows from one observation."""
    wanted = desired.decide(view)
    grounds = _grounds(view)
    reclaim.decide(view, grounds)
    tallies = expiry.tallies(view)
    over = expiry.over(view, tallies)
    lent = lending.lend(view, grounds, over)
    displace.decide(view, grounds, lent)
    not_drawn = magnet.reasons(view, grounds)
    reports = guarantee.reports(view, [ground.reservation for ground in grounds.values()]) | dict(wanted.reports)
    groups = []
    leaving: set[JobKey] = set()  # a job that holds nodes of two reservations is evicted once
    if view.site.mode is Mode.SHADOW:
        lent, shown = Lending(refused=lent.refused, withheld=lent.withheld), lent.loans
        reports |= {f"job {loan.job.id}": f"shadow: would run on {loan.reason}" for loan in shown}
    for name, ground in grounds.items():
        found = _take_back(view, ground, lent, reports, not_drawn[name])
        taken_back = tuple(a for a in found if not _is_repeated(a, leaving))
        groups.append(Group(f"reclaim {name}", taken_back, takes_back_of=name))
    for name, ground in grounds.items():
        groups.append(Group(f"end of {name}", tuple(closing.actions(view, ground))))
        reports |= dict(closing.warnings(view, ground))
    groups.extend(Group(f"reservation {name}", tuple(actions)) for name, actions in wanted.actions.items())
    if view.site.mode is Mode.ACTIVE:
        groups.append(Group("end for good", tuple(ExpireJob(key, why) for key, why in over.items())))
    groups.append(Group("restore", tuple(restore.actions(view))))
    back = returns.returned(view)
    groups.extend(returns.groups(view, frozenset(key for ground in grounds.values() for key in ground.victims), back))
    for name, ground in grounds.items():
        loans = [loan for loan in lent.loans if loan.reservation == name]
        groups.append(Group(f"lend {name}", tuple(_lend(view, ground, loans, not not_drawn[name])), is_loan=True))
    decisions = tuple(d for ground in grounds.values() for d in ground.decisions)
    return Plan(
        groups=tuple(group for group in groups if group.actions),
        decisions=decisions,
        victims=tuple(v for ground in grounds.values() for v in ground.victims.values()),
        loans=tuple(lent.loans),
        not_lent=lent.refused,
        withheld=lent.withheld,
        unmet=wanted.refused,
        reports=reports,
        waiting_since=_waiting_since(view, decisions),
        idle_since=_idle_since(view, grounds),
        forestalled=dict(hygiene.forestalled(view)),
        brake=lending.braked(view),
        tallies=tallies,
        wake_at=_wake_at(view, groups, grounds, [*returns.awaited(back), *expiry.next_at(view, tallies)]),
    )


def _grounds(view: View) -> dict[str, Ground]:
    """The reservations of ours that exist, declared or not any more."""
    found = {}
    for spec in view.site.reservations:
        existing = view.cluster.reservations.get(spec.name)
        if existing is not None and (spec.name in view.memory.made or desired.NEEDED_FLAGS <= existing.flags):
            found[spec.name] = Ground(view, spec, existing)
    for name in view.memory.made.keys() - view.lend_names - found.keys():
        existing = view.cluster.reservations.get(name)
        if existing is not None and view.site.reservation(name) is None:
            orphan = ReservationSpec(name, Owner(), existing.nodes, find=Find.NAME)
            found[name] = Ground(view, orphan, existing)
    return found


def _is_repeated(action: Action, leaving: set[JobKey]) -> bool:
    if not isinstance(action, NotifyJob | EvictJob):
        return False
    repeated = action.job in leaving
    leaving.add(action.job)
    return repeated


def _take_back(view: View, ground: Ground, lent: Lending, reports: dict[str, str], not_drawn: str) -> Iterator[Action]:
    loans = [loan for loan in lent.loans if loan.reservation == ground.spec.name]
    lend = view.cluster.reservations.get(ground.spec.lend_name)
    if lend is not None and (why := magnet.why_shut(view, ground, lend, lent, not_drawn)):
        yield UpdateReservation(lend.name, f"nobody more is drawn in: {why}", drop_flags=frozenset({magnet.FLAG}))
    yield from _close(view, ground, lent, reports)
    yield from _evict(view, ground)
    yield from _hand_over(view, ground)
    if not loans:
        yield from _shrink(view, ground)


def _close(view: View, ground: Ground, lent: Lending, reports: dict[str, str]) -> Iterator[Action]:
    """Nothing may wait in the lend reservation but what is lent to now; nobody may run in it but borrowers."""
    name, kept = ground.spec.lend_name, {loan.job.key for loan in lent.loans if loan.reservation == ground.spec.name}
    for job in view.referrers.get(name, ()):
        on_its_nodes = bool(job.nodes & ground.reservation.nodes)
        if job.is_pending and job.key not in kept:
            if not view.is_borrower(job):
                reports[f"job {job.id}"] = f"{job.user} sent an ordinary job to {name}; it is taken off"
            why = _why_detached(view, ground, job, lent.refused.get(job.id, "does not fit any more"))
            yield DetachJob(job.key, name, why, _retry_at(view, job, view.patience, RETRY_BORROWER))
        elif job.holds_nodes and not job.is_completing and not on_its_nodes:
            yield DetachJob(job.key, name, "runs elsewhere, and would keep the lend reservation from going")
        elif job.holds_nodes and not view.is_borrower(job) and not view.is_going(job):
            if view.is_owners(ground.spec, job):
                yield AttachJob(job.key, ground.spec.name, "the owner's own job, in the lend reservation")
                continue
            reports[f"job {job.id}"] = f"{job.user} ran an ordinary job in {name}; it is put out"
            why = f"no borrower, but in {name}"
            spec = ground.spec
            yield EvictJob(job.key, spec.name, job.nodes, "intruder", why, requeue=job.batch, is_intruder=True)


def _why_detached(view: View, ground: Ground, job: Job, refused: str) -> str:
    if not view.is_borrower(job):
        return "it is no borrower"
    return "an owner's job comes first" if ground.is_closing else refused


def _retry_at(view: View, job: Job, patience: timedelta, after: timedelta) -> datetime | None:
    """Sent by us and not started: not sent again at once."""
    sent = view.memory.attached.get(job.key)
    return view.cluster.at + after if sent is not None and view.cluster.at - sent.at > patience else None


def _evict(view: View, ground: Ground) -> Iterator[Action]:
    """Notice first, where there is one; the eviction when its deadline has come."""
    policy, now = ground.spec.reclaim, view.cluster.at
    for victim in ground.victims.values():
        job, told = victim.job, view.memory.notices.get(victim.job.key)
        if victim.by_slurm:
            continue
        if policy.notice and told is None:
            until = max(now + policy.notice, hygiene.promised_until(view, ground.spec, job) or now)
            yield NotifyJob(
                job.key, policy.signal, until, job.nodes, victim.cause, victim.reason, ground.spec.name,
                is_own_heeded=policy.own_signal,
            )  # fmt: skip
        elif now >= _due(view, ground, job):
            requeue = job.batch and policy.evict is EvictHow.REQUEUE
            yield EvictJob(job.key, ground.spec.name, job.nodes, victim.cause, victim.reason, requeue)


def _hand_over(view: View, ground: Ground) -> Iterator[Action]:
    """Attach the owner's jobs that the reservation is about to run; detach those it is not."""
    spec, now = ground.spec, view.cluster.at
    for decision in ground.decisions:
        job = decision.job
        ours = view.memory.attached.get(job.key)
        if decision.names_it:
            # From when its nodes were clean: a victim may take longer to go than Slurm's passes.
            clean = view.memory.waiting_since.get(job.key, now)
            waited = ours is not None and now - max(ours.at, clean) > 2 * view.grace + spec.reclaim.notice
            stuck = waited and not decision.is_ahead and not ground.borrowers()
            is_early = decision.verdict not in CLOSING or _is_tempting(view, ground, decision)
            if ours is not None and ours.reservation == spec.name and (is_early or stuck):
                yield DetachJob(job.key, spec.name, decision.why, _retry_at(view, job, view.grace, RETRY_OWNER))
        elif _is_to_attach(view, ground, decision):
            yield AttachJob(job.key, spec.name, decision.why)


def _is_tempting(view: View, ground: Ground, decision: Decision) -> bool:
    """Whether slurmctld, above a net, would preempt one more borrower for a job that waits for nodes to be clean.

    A job is sent to the reservation in the breath in which its victims are evicted, for it then starts the moment they
    are gone. Victims that take their time do not count for slurmctld: then the job is taken off until they are gone.
    """
    waits = decision.verdict is Verdict.ARRIVING and bool(ground.spared())
    return waits and not net_missing(view, ground.reservation.nodes)


def _is_to_attach(view: View, ground: Ground, decision: Decision) -> bool:
    """Not while a notice runs: Slurm's own preemption would cut it short for a job that is in the reservation."""
    until = view.memory.not_before.get(decision.job.key)
    if decision.verdict not in CLOSING or (until is not None and view.cluster.at < until):
        return False
    since = view.memory.waiting_since.get(decision.job.key)
    waited = since is not None and view.cluster.at - since >= view.grace
    if (ground.spec.find is Find.MAGNETIC or decision.verdict is Verdict.UNPROVEN) and not waited:
        return False
    if ground.spec.reclaim.evict_by is EvictBy.SLURM:
        return True
    if _is_tempting(view, ground, decision):
        return False
    victims = [v for v in ground.victims.values() if v.job.nodes & decision.nodes]
    return all(_is_due(view, ground, victim) for victim in victims)


def _shrink(view: View, ground: Ground) -> Iterator[Action]:
    """The lend reservation keeps just the nodes on which a loan goes on."""
    lend = view.cluster.reservations.get(ground.spec.lend_name)
    if lend is None:
        return
    kept = frozenset(node for job in _staying(view, ground) for node in job.nodes) & ground.reservation.nodes
    if not kept:
        yield DeleteReservation(lend.name, "nothing of it is lent any more")
    elif kept != lend.nodes:
        yield UpdateReservation(lend.name, "only loans that go on", nodes=kept)


def _staying(view: View, ground: Ground) -> list[Job]:
    """Borrowers that are not evicted in this plan; one that has its notice still has its node."""
    leaving = {v.job.key for v in ground.victims.values() if not v.by_slurm and _is_due(view, ground, v)}
    return [job for key, job in ground.borrowers().items() if key not in leaving]


def _is_due(view: View, ground: Ground, victim: Victim) -> bool:
    told = view.memory.notices.get(victim.job.key)
    is_told = not ground.spec.reclaim.notice or told is not None
    return is_told and view.cluster.at >= _due(view, ground, victim.job)


def _due(view: View, ground: Ground, job: Job) -> datetime:
    """When a victim is evicted: at its deadline, if it was told; not before the run time that it was promised."""
    told = view.memory.notices.get(job.key)
    if told is not None:
        return hygiene.deadline(view, ground.spec, job, told)
    return hygiene.promised_until(view, ground.spec, job) or view.cluster.at


def _lend(view: View, ground: Ground, loans: list[Loan], draws: bool) -> Iterator[Action]:
    """Lay the lend reservation over the nodes of all loans, then send the new borrowers to it."""
    if not loans:
        return
    reservation, name = ground.reservation, ground.spec.lend_name
    nodes = frozenset(node for job in _staying(view, ground) for node in job.nodes) & reservation.nodes
    nodes |= frozenset(node for loan in loans for node in loan.nodes)
    referrers = view.referrers.get(name, ())
    # One that cannot be named would have the whole list refused; nothing is lent to such a one.
    users = frozenset({loan.job.user for loan in loans} | set(filter(naming.is_user, (job.user for job in referrers))))
    lend = view.cluster.reservations.get(name)
    partitions, qos = magnet.admitted(view.site.lending)
    if lend is None:
        yield CreateReservation(
            name, nodes, None, reservation.end, desired.FLAGS | magnet.flags(draws), "idle nodes to lend", users,
            allowed_partitions=partitions, allowed_qos=qos,
        )  # fmt: skip
    else:
        draws = draws and magnet.admits_borrowers_only(view.site.lending, lend)
        if change := _grow(lend, reservation, nodes, users, magnet.flags(draws)):
            yield change
    for loan in loans:
        is_drawn = draws and magnet.may_draw(view, loan)
        if is_drawn and magnet.is_offered(view, loan):
            continue
        if loan.job.reservation != name:
            refused = view.site.lending.refuse if loan.job.batch else frozenset()
            truncates = view.cluster.config.printed.get("JobFileAppend", "0") == "0"
            yield AttachJob(
                loan.job.key, name, loan.reason, Reluctance.NO_REQUEUE in refused,
                truncates and Reluctance.OVERWRITES in refused, bid=bids.bid(view.site.lending, loan.job),
                is_drawn=is_drawn,
            )  # fmt: skip


def _grow(
    lend: Reservation, reservation: Reservation, nodes: frozenset[str], users: frozenset[str], flags: frozenset[str]
) -> UpdateReservation | None:
    end = reservation.end if abs(lend.end - reservation.end) > timedelta(minutes=1) else None
    change = UpdateReservation(
        lend.name,
        "idle nodes to lend",
        nodes=nodes if nodes != lend.nodes else None,
        end=end,
        users=users if users != lend.users else None,
        add_flags=flags - lend.flags,
    )
    return change if change != UpdateReservation(lend.name, change.reason) else None


def _waiting_since(view: View, decisions: tuple[Decision, ...]) -> dict[JobKey, datetime]:
    """Since when each owner's job has had a verdict on which Slurm, or Slurm's preemption, should act by itself."""
    waits = {}
    for decision in decisions:
        if decision.verdict in TRUSTED | {Verdict.OVERDUE} or decision.by_slurm:
            waits[decision.job.key] = view.memory.waiting_since.get(decision.job.key, view.cluster.at)
    return waits


def _idle_since(view: View, grounds: Mapping[str, Ground]) -> dict[str, datetime]:
    """Since when each reserved node has had no job but borrowers' (B12, B34).

    One that an owner's job is about to use is idle no more: that job may be over before it is seen to run.
    """
    reserved = frozenset().union(*(ground.reservation.nodes for ground in grounds.values()))
    claimed = frozenset().union(*(d.nodes for ground in grounds.values() for d in ground.decisions))
    idle = (n for n in reserved - claimed if all(view.is_borrower(job) for job in view.holders.get(n, ())))
    return {node: view.memory.idle_since.get(node, view.cluster.at) for node in idle}


def _wake_at(view: View, groups: list[Group], grounds: Mapping[str, Ground], later: list[datetime]) -> datetime | None:
    """When a deadline falls, or a `later` time; at once where something was set going whose end is awaited."""
    now = view.cluster.at
    due = [at for g in grounds.values() for v in g.victims.values() if (at := _due(view, g, v.job)) > now]
    told = [a.deadline for group in groups for a in group.actions if isinstance(a, NotifyJob)]
    told += [
        view.memory.notices[key].deadline for g in grounds.values() for key in g.victims if key in view.memory.notices
    ]
    due += [*told, now + WHILE_TOLD] if told else []  # one that was told may end sooner
    due += later
    soon = any(isinstance(a, EvictJob | CreateReservation) for group in groups for a in group.actions)
    restless = any(d.verdict is Verdict.ARRIVING for g in grounds.values() for d in g.decisions)
    awaited = any(view.is_going(job) for g in grounds.values() for job in g.going().values())
    if soon or restless or awaited:
        due.append(now)
    return min((at for at in due if at >= now), default=None)
