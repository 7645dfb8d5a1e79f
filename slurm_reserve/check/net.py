"""Who evicts borrowers when the daemon is dead, how soon, and with what notice. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from slurm_reserve import lending
from slurm_reserve.check.finding import Finding, Level, nodes_of, printed
from slurm_reserve.site import EvictHow, ReservationSpec
from slurm_reserve.view import View


def protector(view: View, spec: ReservationSpec) -> str:
    """Who gives the owner's nodes back when the daemon is dead."""
    missing = lending.net_missing(view, nodes_of(view, spec))
    if not missing:
        return "slurmctld, by its own preemption"
    if view.site.daemon.fail_safe:
        return "the service's fail-safe; nobody, should this host die with the daemon"
    return f"nobody, so nothing is lent: {missing}"


def no_net(view: View) -> Iterator[Finding]:
    """Slurm would not evict borrowers by itself: PreemptType, PreemptMode, PriorityTier, or a QOS's Preempt list."""
    for spec in view.site.reservations:
        if why := lending.net_missing(view, nodes_of(view, spec)):
            text, _, remedy = why.partition(": ")
            is_safe = view.site.daemon.fail_safe
            then = "so only the service's fail-safe gives them back" if is_safe else "so nothing is lent"
            told = f"slurmctld would not take lent nodes back by itself, {then}: {text}"
            level = Level.WARNING if is_safe else Level.ERROR
            yield Finding(level, spec.name, told, remedy or "see configs/slurm.conf")


def net_waits(view: View) -> Iterator[Finding]:
    """PreemptExemptTime: slurmctld leaves young borrowers alone, while the owner waits, when the daemon is dead."""
    exempt = printed(view, "PreemptExemptTime")
    if re.search(r"[1-9]", exempt) and not exempt.startswith("-"):
        text = f"PreemptExemptTime={exempt}: without the daemon slurmctld leaves borrowers alone for that long"
        yield Finding(Level.WARNING, "slurm.conf", text, "remove PreemptExemptTime, or set it for other QOS alone")


def net_cancels(view: View) -> Iterator[Finding]:
    """The lendable partition's PreemptMode is CANCEL where the site file says that the evicted are requeued."""
    if all(spec.reclaim.evict is EvictHow.CANCEL for spec in view.site.reservations):
        return
    for name in sorted(view.site.lending.partitions & view.cluster.partitions.keys()):
        if "CANCEL" in view.cluster.partitions[name].preempt_mode.split(","):
            text = "whom slurmctld itself preempts is cancelled, not requeued as the site file says"
            yield Finding(
                Level.WARNING, name, text, "set PreemptMode=REQUEUE on the partition, or reclaim.evict: cancel"
            )


def notice_cut(view: View) -> Iterator[Finding]:
    """The lendable partition's GraceTime is shorter than a notice, and slurmctld's own preemption goes by it."""
    grace = [p.grace for name, p in view.cluster.partitions.items() if name in view.site.lending.partitions]
    for spec in view.site.reservations:
        notice = spec.reclaim.notice
        if notice and grace and min(grace) < notice:
            text = "for jobs that name the reservation, Slurm's preemption cuts the notice to the partition's GraceTime"
            remedy = f"set GraceTime={round(notice.total_seconds())} on the lendable partition"
            yield Finding(Level.WARNING, spec.name, text, remedy)


def not_requeued(view: View) -> Iterator[Finding]:
    """JobRequeue=0: evicted borrowers are cancelled."""
    if not view.cluster.config.requeue:
        text = "JobRequeue=0: borrowers are not requeued unless they asked for it, but cancelled"
        yield Finding(Level.WARNING, "slurm.conf", text, "set JobRequeue=1")


def output_lost(view: View) -> Iterator[Finding]:
    """JobFileAppend=0: a borrower that starts again overwrites what it had written."""
    if printed(view, "JobFileAppend") == "0":
        text = "JobFileAppend=0: an evicted job that starts again truncates its output file"
        yield Finding(Level.NOTE, "slurm.conf", text, "set JobFileAppend=1, or tell borrowers --open-mode=append")


def long_kill_wait(view: View) -> Iterator[Finding]:
    """KillWait above a minute: the owner waits for it."""
    kill = view.cluster.config.kill_wait
    if kill > timedelta(seconds=60):
        waits = f"KillWait is {round(kill.total_seconds())} s"
        text = f"{waits}: an owner may wait that long for a job that ignores SIGTERM"
        yield Finding(Level.NOTE, "slurm.conf", text, "set KillWait=30")
