"""What becomes of each owner's job, and which borrowers must go for it. Pure.

Reclaim is a small state machine over several cycles. Its states are read off Slurm and the ledger, never off a
variable of this program:

    lent ──demand──▶ closed ──notice > 0──▶ told ──deadline──▶ evicted ──COMPLETING over──▶ handed over
      ▲                 │ notice = 0 ─────────────────────────▲                                │
      │                 └──────────── the demand is gone ──▶ lent again                        │
      └────────────────────────────── the owner's job is over ◀────────────────────────────────┘

    closed       nothing waits in the lend reservation
    told         the ledger holds a notice for this run of the job, with its deadline
    evicted      the ledger holds an eviction for this run, or Slurm shows it COMPLETING
    handed over  nobody's job holds the node; the owner's job is attached to the reservation

Every step looks again: victims are chosen anew in each cycle, so a job that has ended, or a demand that is gone,
changes the plan before anything irreversible is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from slurm_reserve import demand, victims
from slurm_reserve.fit import Answer, Fit, Room, Rooms, Share, fit
from slurm_reserve.model import Job, JobKey, Reservation
from slurm_reserve.site import EvictBy, Mode, ReservationSpec
from slurm_reserve.view import View, in_slurms_order


class Verdict(StrEnum):
    """What is decided about an owner's job."""

    BLOCKED = "cannot start"
    TOO_LARGE = "larger than the reservation"
    ELSEWHERE = "can start elsewhere"
    STARTS = "starts on idle nodes"
    ARRIVING = "waits for nodes being freed"
    EVICT = "needs nodes back"
    OVERDUE = "waits too long, all come back"
    QUEUED = "queued behind the owner's jobs"
    UNPROVEN = "cannot be proved to fit"


# With one of these the owner's job may start any moment: nothing new may get in its way.
CLOSING = frozenset({Verdict.STARTS, Verdict.ARRIVING, Verdict.EVICT, Verdict.OVERDUE, Verdict.UNPROVEN})
# With one of these Slurm should start the job within a pass: when it does not, our proof was wrong.
TRUSTED = frozenset({Verdict.STARTS, Verdict.UNPROVEN})


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one owner's job, with its reason."""

    job: Job
    reservation: str
    verdict: Verdict
    why: str
    nodes: frozenset[str] = frozenset()
    names_it: bool = False


@dataclass(frozen=True, slots=True)
class Victim:
    """A borrower that has to go, for whom, and why."""

    job: Job
    reservation: str
    cause: str
    reason: str
    by_slurm: bool = False  # left to Slurm's own preemption


@dataclass(slots=True)
class Ground:
    """One reservation while its nodes are being handed out. Lives for one plan only."""

    view: View
    spec: ReservationSpec
    reservation: Reservation
    victims: dict[JobKey, Victim] = field(default_factory=dict)
    taken: dict[str, list[Share]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    recalled: tuple[demand.Recall, ...] = ()

    @property
    def is_closing(self) -> bool:
        """Whether an owner's job could use a node of it now."""
        return any(decision.verdict in CLOSING for decision in self.decisions)

    @property
    def recalled_nodes(self) -> frozenset[str]:
        """Nodes that must not be lent, whoever waits."""
        return frozenset().union(*(recall.nodes for recall in self.recalled))

    def borrowers(self) -> dict[JobKey, Job]:
        """The borrowers that run on the reservation's nodes, however they got there."""
        holders = (job for node in self.reservation.nodes for job in self.view.holders.get(node, ()))
        return {job.key: job for job in holders if self.view.is_borrower(job) and not self.view.is_going(job)}

    def going(self) -> dict[JobKey, Job]:
        """Jobs that are as good as gone."""
        holders = (job for node in self.reservation.nodes for job in self.view.holders.get(node, ()))
        return {job.key: job for job in holders if self.view.is_going(job) or job.key in self.victims}

    def rooms(self, gone: Mapping[JobKey, Job], only_clean: bool = False) -> list[Room]:
        """What is left on the usable nodes once `gone` have left and earmarked shares are taken."""
        found = []
        for node in self.view.usable(self.reservation.nodes):
            if only_clean and any(job.is_completing for job in self.view.holders.get(node.name, ())):
                continue
            room = self.view.room(node, gone)
            for share in self.taken.get(node.name, ()):
                room = room.minus(share)
            found.append(room)
        return found

    def fits(self, job: Job, rooms: Iterable[Room]) -> Fit:
        """Place an owner's job on rooms of this reservation; not where it would run into maintenance."""
        view = self.view
        return fit(job, view.in_time(job, rooms, view.maintenance_at), view.exclusive_partitions)

    def take(self, placed: Fit) -> None:
        """Earmark what a job will use."""
        for node, share in placed.shares.items():
            self.taken.setdefault(node, []).append(share)

    def add_victims(self, jobs: Iterable[Job], cause: str, reason: str, by_slurm: bool = False) -> None:
        """Note who has to go; the first cause stands."""
        for job in jobs:
            self.victims.setdefault(job.key, Victim(job, self.spec.name, cause, reason, by_slurm))


def decide(view: View, grounds: Mapping[str, Ground]) -> None:
    """Fill in decisions, victims and earmarks of every ground: recalls first, then the owners' jobs in their order."""
    for ground in grounds.values():
        ground.recalled = demand.recalls(view, ground.spec, ground.reservation)
        for recall in ground.recalled:
            on_them = [job for job in ground.borrowers().values() if job.nodes & recall.nodes]
            ground.add_victims(on_them, recall.cause, recall.reason)
        if view.site.mode is Mode.SHADOW:  # what was lent before; who else runs there was never lent to
            lent = [job for job in ground.borrowers().values() if job.reservation == ground.spec.lend_name]
            ground.add_victims(lent, "shadow mode", "nothing is lent in shadow mode")
    outside = view.free_outside()
    for job, options in _by_job(view, grounds):
        ground, decision = _best(view, job, options, outside)
        ground.decisions.append(decision)


def _by_job(view: View, grounds: Mapping[str, Ground]) -> list[tuple[Job, list[tuple[Ground, demand.Want]]]]:
    """Each owner's pending job with the reservations that it may use, in the order in which Slurm would take them."""
    found: dict[JobKey, tuple[Job, list[tuple[Ground, demand.Want]]]] = {}
    for ground in grounds.values():
        for want in demand.wants(view, ground.spec):
            found.setdefault(want.job.key, (want.job, []))[1].append((ground, want))
    return sorted(found.values(), key=lambda pair: (not pair[1][0][1].names_it, in_slurms_order(pair[0])))


def _best(view: View, job: Job, options: list[tuple[Ground, demand.Want]], outside: Rooms) -> tuple[Ground, Decision]:
    """The option that costs least: idle nodes, nodes elsewhere, nodes on their way, an eviction, or to queue."""
    ground, want = options[0]
    if want.blocked:
        return ground, Decision(job, ground.spec.name, Verdict.BLOCKED, want.blocked, names_it=want.names_it)
    for ground, want in options:
        if placed := ground.fits(job, ground.rooms({}, only_clean=True)):
            return ground, _starts(view, ground, want, placed)
    if not want.names_it and _can_start_outside(view, job, outside):
        return ground, Decision(job, ground.spec.name, Verdict.ELSEWHERE, "fits on free unreserved nodes")
    for ground, want in options:
        if placed := ground.fits(job, ground.rooms(ground.going())):
            ground.take(placed)
            why = f"{_list(placed.nodes)} being freed"
            return ground, Decision(job, ground.spec.name, Verdict.ARRIVING, why, placed.nodes, want.names_it)
    for ground, want in options:
        if decision := _evict(view, ground, want):
            return ground, decision
    ground, want = options[0]
    return ground, _not_now(view, ground, want)


def _starts(view: View, ground: Ground, want: demand.Want, placed: Fit) -> Decision:
    """It fits on nodes that are free; should it wait all the same, the proof was wrong and all come back."""
    ground.take(placed)
    if late := _overdue(view, ground, want, Verdict.STARTS):
        return late
    why = f"fits on idle {_list(placed.nodes)}"
    return Decision(want.job, ground.spec.name, Verdict.STARTS, why, placed.nodes, want.names_it)


def _overdue(view: View, ground: Ground, want: demand.Want, verdict: Verdict) -> Decision | None:
    since = view.memory.waiting_since.get(want.job.key)
    lent = ground.borrowers()
    if since is None or view.cluster.at - since < view.grace or not lent:
        return None
    seconds = round((view.cluster.at - since).total_seconds())
    why = f"{verdict.value}, yet waited {seconds} s: every lent node comes back"
    ground.add_victims(lent.values(), f"job {want.job.id} of {want.job.user}", why)
    nodes = frozenset().union(*(job.nodes for job in lent.values())) & ground.reservation.nodes
    return Decision(want.job, ground.spec.name, Verdict.OVERDUE, why, nodes, want.names_it)


def _evict(view: View, ground: Ground, want: demand.Want) -> Decision | None:
    job = want.job
    lent, going = ground.borrowers(), ground.going()
    candidates = {key: j for key, j in lent.items() if key not in going}
    placed: dict[frozenset[JobKey], Fit] = {}

    def fits(gone: frozenset[JobKey]) -> bool:
        if gone not in placed:
            placed[gone] = ground.fits(job, ground.rooms({**going, **{key: lent[key] for key in gone}}))
        return bool(placed[gone])

    chosen = victims.choose(candidates.values(), fits, view.cluster.at, frozenset(view.memory.notices))
    if not chosen:
        return None
    where = placed[frozenset(j.key for j in chosen)]
    ground.take(where)
    reason = f"job {job.id} of {job.user} needs {_list(where.nodes)}"
    by_slurm = ground.spec.reclaim.evict_by is EvictBy.SLURM and not _is_late(view, ground, want)
    ground.add_victims(chosen, f"job {job.id} of {job.user}", reason, by_slurm)
    why = f"borrowers {', '.join(j.id for j in chosen)} go from {_list(where.nodes)}"
    return Decision(job, ground.spec.name, Verdict.EVICT, why, where.nodes, want.names_it)


def _is_late(view: View, ground: Ground, want: demand.Want) -> bool:
    """Slurm, which was to evict, has had time to do so and has not."""
    since = view.memory.waiting_since.get(want.job.key)
    return since is not None and view.cluster.at - since > view.grace + ground.spec.reclaim.notice


def _not_now(view: View, ground: Ground, want: demand.Want) -> Decision:
    job, name = want.job, ground.spec.name
    rooms = [Room.whole(n) for n in view.cluster.nodes.values() if n.name in ground.reservation.nodes]
    whole = ground.fits(job, rooms)
    if not whole and (held := _held_back(view, job, rooms)):
        return Decision(job, name, Verdict.BLOCKED, f"would run into maintenance of {held}", names_it=want.names_it)
    if whole.answer is Answer.UNPROVEN:
        late = _overdue(view, ground, want, Verdict.UNPROVEN)
        return late or Decision(job, name, Verdict.UNPROVEN, whole.why, names_it=want.names_it)
    if not whole:
        return Decision(job, name, Verdict.TOO_LARGE, whole.why, names_it=want.names_it)
    why = "every node that it could use is in use by the owner, or down"
    return Decision(job, name, Verdict.QUEUED, why, names_it=want.names_it)


def _held_back(view: View, job: Job, rooms: list[Room]) -> str:
    """The nodes that a job would need and that Slurm keeps from it for maintenance; "" when that is not what it lacks.

    Evicting for it would be in vain.
    """
    left = view.in_time(job, rooms, view.maintenance_at)
    is_it = not left or (len(left) < len(rooms) and fit(job, rooms, view.exclusive_partitions))
    return _list({room.node.name for room in rooms if room not in left}) if is_it else ""


def _can_start_outside(view: View, job: Job, outside: Rooms) -> bool:
    """Whether free unreserved nodes take it; believed for two passes, then Slurm has shown otherwise."""
    if not view.is_fresh(job):
        return False
    placed = outside.fit(job, view.exclusive_partitions)
    outside.take(placed)
    return bool(placed)


def _list(nodes: Iterable[str]) -> str:
    names = sorted(nodes)
    return ",".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
