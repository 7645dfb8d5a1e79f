"""What becomes of loans when no daemon will be there to take them back. Pure.

Above a net (Slurm preempts borrowers for the owner's jobs by itself) loans may stand without a daemon. Where there is
none they may not: they are given back when the daemon stops, and by the service's fail-safe when it dies.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from slurm_reserve.lending import net_missing
from slurm_reserve.model import Job
from slurm_reserve.site import EvictBy, ReservationSpec
from slurm_reserve.view import View


def without_net(view: View) -> frozenset[str]:
    """Names of our reservations in Slurm whose nodes Slurm would not take back by itself."""
    return frozenset(
        name
        for name in {spec.name for spec in view.site.reservations} | view.memory.made.keys()
        if name in view.cluster.reservations
        and name not in view.lend_names
        and net_missing(view, view.cluster.reservations[name].nodes)
    )


def giving_back(view: View, is_all: bool = False) -> View:
    """The same cluster, with nothing to be lent any more, and the unprotected loans (or all) to be ended at once.

    Without notice: whoever gives back has no time to wait, and a borrower has KillWait after its SIGTERM anyhow.
    """
    names = frozenset(spec.name for spec in view.site.reservations) if is_all else without_net(view)
    specs = tuple(_off(spec) if spec.name in names else spec for spec in view.site.reservations)
    orders = view.memory.orders
    kept = {name: order for name, order in orders.lend.items() if name not in names}
    memory = replace(view.memory, orders=replace(orders, paused=True, lend=kept))
    lending = replace(view.site.lending, max_evictions=0)  # whom that protected, and nobody is held for this
    return View(replace(view.site, reservations=specs, lending=lending), view.cluster, memory)


def still_lent(view: View, is_all: bool = False) -> list[Job]:
    """Borrowers that run where they must not stay, in the order of their ids."""
    names = view.cluster.reservations.keys() if is_all else without_net(view)
    ours = {spec.name for spec in view.site.reservations} | view.memory.made.keys()
    nodes = frozenset().union(*(view.cluster.reservations[name].nodes for name in names if name in ours))
    holders = {job.key: job for node in nodes for job in view.holders.get(node, ())}
    return sorted((job for job in holders.values() if view.is_borrower(job)), key=lambda job: job.id)


def _off(spec: ReservationSpec) -> ReservationSpec:
    none = timedelta(0)
    at_once = replace(spec.reclaim, notice=none, extra_time=none, min_run_time=none, evict_by=EvictBy.DAEMON)
    return replace(spec, lend=replace(spec.lend, enabled=False), reclaim=at_once)
