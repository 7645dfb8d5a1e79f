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

from slurm_reserve import demand, lookahead, victims
from slurm_reserve.fit import Answer, Fit, Room, Rooms, fit
from slurm_reserve.ground import CLOSING, TRUSTED, Decision, Ground, Verdict, Victim
from slurm_reserve.model import Job, JobKey
from slurm_reserve.net import net_missing
from slurm_reserve.site import EvictBy, Find, Mode
from slurm_reserve.view import View, in_slurms_order

__all__ = ["CLOSING", "TRUSTED", "Decision", "Ground", "Verdict", "Victim", "decide"]


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
        if decision.verdict is Verdict.BLOCKED:
            _expect(view, options, outside)


def _by_job(view: View, grounds: Mapping[str, Ground]) -> list[tuple[Job, list[tuple[Ground, demand.Want]]]]:
    """Each owner's pending job with the reservations that it may use, in the order in which Slurm would take them."""
    found: dict[JobKey, tuple[Job, list[tuple[Ground, demand.Want]]]] = {}
    for ground in grounds.values():
        for want in demand.wants(view, ground.spec):
            found.setdefault(want.job.key, (want.job, []))[1].append((ground, want))
    return sorted(found.values(), key=lambda pair: (not pair[1][0][1].names_it, in_slurms_order(pair[0])))


def _expect(view: View, options: list[tuple[Ground, demand.Want]], outside: Rooms) -> None:
    """Note which nodes a job will want that is expected later, to keep long borrowers off them."""
    for ground, want in options:
        if want.start is None or not lookahead.is_in_sight(view, ground.spec, want.start):
            continue
        if not want.names_it and outside.fit(want.job, view.exclusive_partitions):
            return
        lent = {**ground.going(), **ground.borrowers(), **ground.over(want)}
        if placed := ground.fits(want.job, ground.rooms(lent)):
            for node in placed.nodes:
                ground.expected[node] = min(want.start.at, ground.expected.get(node, want.start.at))
            return


def _best(view: View, job: Job, options: list[tuple[Ground, demand.Want]], outside: Rooms) -> tuple[Ground, Decision]:
    """The option that costs least: idle nodes, nodes elsewhere, nodes on their way, an eviction, or to queue."""
    options = [option for option in options if not option[1].blocked] or options
    ground, want = options[0]
    if want.blocked:
        return ground, Decision(job, ground.spec.name, Verdict.BLOCKED, want.blocked, names_it=want.names_it)
    for ground, want in options:
        if placed := ground.fits(job, ground.rooms({}, only_clean=True)):
            return ground, _starts(view, ground, want, placed)
    if not want.names_it and _can_start_outside(view, want, outside):
        return ground, Decision(job, ground.spec.name, Verdict.ELSEWHERE, "fits on free unreserved nodes")
    for ground, want in options:
        if placed := ground.fits(job, ground.rooms({**ground.going(), **ground.over(want)})):
            ground.take(placed)
            return ground, _soon(ground, want, Verdict.ARRIVING, f"{_list(placed.nodes)} being freed", placed.nodes)
    for ground, want in options:
        if decision := _evict(view, ground, want):
            return ground, decision
    ground, want = options[0]
    return ground, _not_now(view, ground, want)


def _starts(view: View, ground: Ground, want: demand.Want, placed: Fit) -> Decision:
    """It fits on nodes that are free; should it wait all the same, the proof was wrong and all come back."""
    ground.take(placed)
    if want.start is None and (late := _overdue(view, ground, want, Verdict.STARTS)):
        return late
    return _soon(ground, want, Verdict.STARTS, f"fits on idle {_list(placed.nodes)}", placed.nodes)


def _soon(ground: Ground, want: demand.Want, verdict: Verdict, why: str, nodes: frozenset[str]) -> Decision:
    """A job that nobody has to go for (any more); one that may not start yet has its nodes kept for it."""
    if want.start is not None:
        verdict, why = Verdict.AHEAD, f"{want.start.why}; {why}"
    return Decision(want.job, ground.spec.name, verdict, why, nodes, want.names_it, want.start is not None)


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
    lent, going = ground.borrowers(), {**ground.going(), **ground.over(want)}
    candidates = {key: j for key, j in lent.items() if key not in going}
    placed: dict[frozenset[JobKey], Fit] = {}

    def fits(gone: frozenset[JobKey]) -> bool:
        if gone not in placed:
            placed[gone] = ground.fits(job, ground.rooms({**going, **{key: lent[key] for key in gone}}))
        return bool(placed[gone])

    rate = victims.RATES[ground.spec.reclaim.victims]
    chosen = victims.choose(candidates.values(), fits, victims.Look.of(view), rate)
    if not chosen:
        return None
    where = placed[frozenset(j.key for j in chosen)]
    ground.take(where)
    reason = f"job {job.id} of {job.user} needs {_list(where.nodes)}" + (f" and {want.start.why}" if want.start else "")
    is_early = want.start is not None  # Slurm evicts nobody for a job that may not start yet
    by_slurm = not is_early and not _is_late(view, ground, want) and _is_slurms(view, ground, want, len(chosen))
    ground.add_victims(chosen, f"job {job.id} of {job.user}", reason, by_slurm)
    why = f"borrowers {', '.join(j.id for j in chosen)} go from {_list(where.nodes)}"
    if want.start is not None:
        why = f"{want.start.why}; {why}"
    return Decision(job, ground.spec.name, Verdict.EVICT, why, where.nodes, want.names_it, is_early, by_slurm)


def _is_slurms(view: View, ground: Ground, want: demand.Want, chosen: int) -> bool:
    """Whether the eviction is left to slurmctld: by the site's word, or for a job that it sees in the reservation.

    Above a net slurmctld preempts for such a job at its next pass. A victim of ours that takes its time to go does not
    count for it, so it would take another borrower as well; where there is another, one of us has to do it alone.
    """
    policy = ground.spec.reclaim
    if policy.evict_by is EvictBy.SLURM:
        return True
    is_seen = want.names_it or ground.spec.find is Find.MAGNETIC
    has_others = len(ground.spared()) > chosen
    return is_seen and has_others and not policy.notice and not net_missing(view, ground.reservation.nodes)


def _is_late(view: View, ground: Ground, want: demand.Want) -> bool:
    """Slurm, which was to evict, has had time to do so and has not."""
    since = view.memory.waiting_since.get(want.job.key)
    return since is not None and view.cluster.at - since > view.grace + ground.spec.reclaim.notice


def _not_now(view: View, ground: Ground, want: demand.Want) -> Decision:
    job, name = want.job, ground.spec.name
    nodes = (view.cluster.nodes.get(node) for node in sorted(ground.reservation.nodes))
    rooms = [Room.whole(node) for node in nodes if node is not None]
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


def _can_start_outside(view: View, want: demand.Want, outside: Rooms) -> bool:
    """Whether free unreserved nodes take it; believed for two passes, then Slurm has shown otherwise."""
    if want.start is None and not view.is_fresh(want.job):
        return False
    placed = outside.fit(want.job, view.exclusive_partitions)
    outside.take(placed)
    return bool(placed)


def _list(nodes: Iterable[str]) -> str:
    names = sorted(nodes)
    return ",".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
