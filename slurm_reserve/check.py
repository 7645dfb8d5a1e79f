"""Settings of site and cluster that would break the promise, each with its remedy. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from slurm_reserve import desired, guarantee, lending
from slurm_reserve.site import Find, NodeRequest, ReservationSpec
from slurm_reserve.view import View, backfill_interval


class Level(StrEnum):
    """How bad it is."""

    ERROR = "error"  # the promise does not hold
    WARNING = "warning"  # it holds, but somebody may be surprised
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One setting, and what to do about it."""

    level: Level
    subject: str  # the reservation, partition or setting
    text: str
    remedy: str


Check = Callable[[View], Iterator[Finding]]


def findings(view: View) -> list[Finding]:
    """Everything that is found, errors first."""
    order = list(Level)
    return sorted((found for check in CHECKS for found in check(view)), key=lambda f: (order.index(f.level), f.subject))


def protector(view: View, spec: ReservationSpec) -> str:
    """Who gives the owner's nodes back when the daemon is dead."""
    missing = lending.net_missing(view, nodes_of(view, spec))
    if not missing:
        return "slurmctld, by its own preemption"
    if view.site.daemon.fail_safe:
        return "the service's fail-safe; nobody, should this host die with the daemon"
    return f"nobody, so nothing is lent: {missing}"


def nodes_of(view: View, spec: ReservationSpec) -> frozenset[str]:
    """The nodes that it has in Slurm or that it names; of a request not made yet, its partition's."""
    if (there := view.cluster.reservations.get(spec.name)) is not None:
        return there.nodes
    if isinstance(spec.nodes, NodeRequest):
        partition = view.cluster.partitions.get(spec.nodes.partition)
        return partition.nodes if partition else frozenset()
    return spec.nodes


def _no_net(view: View) -> Iterator[Finding]:
    for spec in view.site.reservations:
        if why := lending.net_missing(view, nodes_of(view, spec)):
            text, _, remedy = why.partition(": ")
            is_safe = view.site.daemon.fail_safe
            then = "so only the service's fail-safe gives them back" if is_safe else "so nothing is lent"
            told = f"slurmctld would not take lent nodes back by itself, {then}: {text}"
            yield Finding(
                Level.WARNING if is_safe else Level.ERROR, spec.name, told, remedy or "see configs/slurm.conf"
            )


def _lendable_partitions(view: View) -> Iterator[Finding]:
    for name in sorted(view.site.lending.partitions):
        partition = view.cluster.partitions.get(name)
        if partition is not None and not partition.is_up:  # one that is not there is an error of the site file
            yield Finding(
                Level.WARNING, name, "the lendable partition is not up", f"scontrol update partition={name} state=up"
            )


def _nodes_out_of_reach(view: View) -> Iterator[Finding]:
    lendable = [p.nodes for name, p in view.cluster.partitions.items() if name in view.site.lending.partitions]
    others = [p.nodes for name, p in view.cluster.partitions.items() if name not in view.site.lending.partitions]
    for spec in view.site.reservations:
        nodes = nodes_of(view, spec)
        if view.site.lending.partitions and (beyond := nodes - frozenset().union(*lendable)):
            text = f"{_few(beyond)} in no lendable partition, so never lent"
            yield Finding(Level.WARNING, spec.name, text, "add the nodes to the lendable partition in slurm.conf")
        if beyond := (nodes & view.cluster.nodes.keys()) - frozenset().union(*others):
            text = f"{_few(beyond)} in lendable partitions only, so the owner's jobs there are borrowers themselves"
            yield Finding(Level.ERROR, spec.name, text, "add the nodes to a partition that is not lendable")


def _cannot_be_met(view: View) -> Iterator[Finding]:
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is None and (why := desired.why_unmet(view.site, view.cluster, spec)):
            yield Finding(
                Level.ERROR, spec.name, f"cannot be met: {why}", f"change it at {spec.origin or 'the site file'}"
            )
        elif there is not None and spec.name not in view.memory.made and not desired.NEEDED_FLAGS <= there.flags:
            text = "a reservation of that name exists that this site did not make, so it is left alone"
            yield Finding(
                Level.ERROR, spec.name, text, f"scontrol delete reservation={spec.name}, or choose another name"
            )


def _overlaid(view: View) -> Iterator[Finding]:
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is None:
            continue
        own = (spec.name, spec.lend_name)
        for other in desired.conflicts(view.cluster, there.nodes, there.start, there.end, own):
            text = f"reservation {other} lies over its nodes; the jobs of {other} never start there"
            yield Finding(Level.WARNING, spec.name, text, f"scontrol delete reservation={other}, or move it")


def _not_requeued(view: View) -> Iterator[Finding]:
    if not view.cluster.config.requeue:
        text = "JobRequeue=0: borrowers are not requeued unless they asked for it, but cancelled"
        yield Finding(Level.WARNING, "slurm.conf", text, "set JobRequeue=1")


def _notices_cut(view: View) -> Iterator[Finding]:
    """Slurm's own preemption knows nothing of our notice."""
    grace = [p.grace for name, p in view.cluster.partitions.items() if name in view.site.lending.partitions]
    for spec in view.site.reservations:
        notice = spec.reclaim.notice
        if notice and grace and min(grace) < notice:
            text = "for jobs that name the reservation, Slurm's preemption cuts the notice to the partition's GraceTime"
            remedy = f"set GraceTime={round(notice.total_seconds())} on the lendable partition"
            yield Finding(Level.WARNING, spec.name, text, remedy)


def _magnetic(view: View) -> Iterator[Finding]:
    for spec in view.site.reservations:
        if spec.find is Find.MAGNETIC:
            text = "MAGNETIC evicts borrowers although free nodes would serve, and from 25.11 on passes over jobs "
            yield Finding(Level.WARNING, spec.name, text + "without a time limit", "find: attach")


def _unguarded(view: View) -> Iterator[Finding]:
    """Where reservations cannot be limited to partitions, naming one is open to whom it admits."""
    if _release(view) < (25, 11):
        text = "a user who borrows may send an ordinary job to the lend reservation by naming it"
        yield Finding(
            Level.WARNING,
            "guard",
            text + "; it is put out and reported",
            "from Slurm 25.11 on AllowedPartitions refuses it",
        )


def _signal_hole(view: View) -> Iterator[Finding]:
    release = _release(view)
    if release and (release < (23, 11) or (23, 11) <= release < (23, 11, 10) or (24, 5) <= release < (24, 5, 3)):
        text = f"on {view.cluster.config.version} `--signal=R:TERM@0` lets any job into any reservation"
        yield Finding(Level.WARNING, "release", text, "update to 23.11.10, 24.05.3 or newer")


def _uninvited(view: View) -> Iterator[Finding]:
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is None:
            continue
        for job in guarantee.uninvited(view, there):
            text = f"job {job.id}: {guarantee.why_uninvited(job, there)}"
            yield Finding(
                Level.WARNING, spec.name, text, f"ask its user to submit without --signal=R:, or scancel {job.id}"
            )


def _owner_by_account(view: View) -> Iterator[Finding]:
    for spec in view.site.reservations:
        if spec.owner.accounts and not view.cluster.config.accounting:
            text = "its owner is an account, but the cluster has no accounting"
            yield Finding(Level.ERROR, spec.name, text, "name users or groups, or run slurmdbd")
        for group in sorted(spec.owner.groups - view.cluster.groups.keys()):
            yield Finding(Level.ERROR, spec.name, f"group {group} is not known on this host", "correct owner.groups")


def _long_waits(view: View) -> Iterator[Finding]:
    kill = view.cluster.config.kill_wait
    if kill > timedelta(seconds=60):
        text = (
            f"KillWait is {round(kill.total_seconds())} s: an owner may wait that long for a job that ignores SIGTERM"
        )
        yield Finding(Level.NOTE, "slurm.conf", text, "set KillWait=30")


def _slow_backfill(view: View) -> Iterator[Finding]:
    interval = round(backfill_interval(view.cluster.config).total_seconds())
    if interval > 10:
        text = f"while ordinary jobs wait, borrowers are started by backfill only, every {interval} s"
        yield Finding(Level.NOTE, "slurm.conf", text, "add bf_interval=10 to SchedulerParameters to lend sooner")


def _few(nodes: frozenset[str]) -> str:
    names = sorted(nodes)
    return ",".join(names[:5]) + (" and more are" if len(names) > 5 else " are" if len(names) > 1 else " is")


def _release(view: View) -> tuple[int, ...]:
    parts = view.cluster.config.version.split("-")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


CHECKS: tuple[Check, ...] = (
    _no_net,
    _lendable_partitions,
    _nodes_out_of_reach,
    _cannot_be_met,
    _overlaid,
    _not_requeued,
    _notices_cut,
    _magnetic,
    _unguarded,
    _signal_hole,
    _uninvited,
    _owner_by_account,
    _long_waits,
    _slow_backfill,
)
