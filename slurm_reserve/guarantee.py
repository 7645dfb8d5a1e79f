"""What stands between an owner and the nodes that were promised, by other hands than ours. Pure.

All of it is reported and none of it changed: the jobs and reservations are other people's, the nodes the admin's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from operator import attrgetter

from slurm_reserve.model import Job, Reservation
from slurm_reserve.view import View
from slurm_reserve.words import nodes as listed
from slurm_reserve.words import printable

CLOCKS_DIFFER = timedelta(seconds=30)


def reports(view: View, ours: Iterable[Reservation]) -> dict[str, str]:
    """What an admin should know about our reservations; the keys are what each is about."""
    found = of_clocks(view)
    for reservation in ours:
        found |= _of_nodes(view, reservation) | _of_overlays(view, reservation)
        found |= {f"job {job.id}": why_uninvited(job, reservation) for job in uninvited(view, reservation)}
    return found


def uninvited(view: View, reservation: Reservation) -> list[Job]:
    """Ordinary jobs that began on the nodes of a reservation of ours although they name none.

    Slurm lets nobody in like that, but for the hole that `check` names on old releases (`--signal=R:TERM@0`).
    """
    holders = {job.key: job for node in reservation.nodes for job in view.holders.get(node, ())}
    spec = view.site.reservation(reservation.name)
    return sorted(
        (
            job
            for job in holders.values()
            if not job.reservation
            and job.started is not None
            and job.started > reservation.start
            and not view.is_borrower(job)
            and not view.is_going(job)
            and (spec is None or not view.is_owners(spec, job))
        ),
        key=lambda job: job.id,
    )


def why_uninvited(job: Job, reservation: Reservation) -> str:
    """One sentence about such a job."""
    where = listed(job.nodes & reservation.nodes)
    return (
        f"an ordinary job of {printable(job.user)} runs on {where} of {reservation.name} without being in a "
        f"reservation; it is left alone, and {reservation.name}'s owner waits for its end"
    )


def of_clocks(view: View) -> dict[str, str]:
    """Begin times, ends and windows are taken by this host's clock, jobs' times are slurmctld's."""
    latest = max(map(attrgetter("submitted"), view.cluster.jobs), default=view.cluster.at)
    if latest - view.cluster.at < CLOCKS_DIFFER:
        return {}
    return {"clock": "slurmctld's clock is ahead of this host's by more than half a minute: set both by NTP"}


def lost_nodes(view: View, reservation: Reservation) -> dict[str, str]:
    """Nodes on which Slurm starts nothing, and their states; those under maintenance are told of by its reservation."""
    lost = {}
    for name in sorted(reservation.nodes):
        node = view.cluster.nodes.get(name)
        if node is None or (not node.is_usable and name not in view.maintenance_at):
            lost[name] = "+".join(sorted(node.states)).lower() if node else "gone from the cluster"
    return lost


def _of_nodes(view: View, reservation: Reservation) -> dict[str, str]:
    lost = lost_nodes(view, reservation)
    if not lost:
        return {}
    states = ", ".join(sorted(set(lost.values())))
    return {
        f"{reservation.name} nodes": f"guarantee broken: {listed(lost)} cannot be used ({states}); "
        "nothing is lent there, and the owner has so much less"
    }


def _of_overlays(view: View, reservation: Reservation) -> dict[str, str]:
    """Reservations of others over ours: maintenance wins, any other only keeps its nodes from being lent."""
    found = {}
    there = {other.name: other for node in reservation.nodes for other in view.reservations_on.get(node, ())}
    for name, other in sorted(there.items()):
        is_own = name == reservation.name or name in view.lend_names
        if is_own or other.end <= reservation.start or other.start >= reservation.end:
            continue
        shared = other.nodes & reservation.nodes
        when = f"from {other.start:%Y-%m-%d %H:%M} to {other.end:%Y-%m-%d %H:%M} {other.end:%Z}"
        what = f"reservation {printable(name)} lies over {listed(shared)} {when}"
        if "MAINT" in other.flags:
            then = "maintenance: no job that would run into it is started, the owner's neither; borrowers leave before"
        else:
            then = "while it is active these are not lent, and its jobs never start there"
        found[f"{reservation.name} under {printable(name)}"] = f"{what}; {then}"
    return found
