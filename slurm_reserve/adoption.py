"""Whether a Slurm reservation that exists can become ours, and as what it would be declared. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from slurm_reserve.model import Cluster, Reservation
from slurm_reserve.site import Owner, ReservationSpec

# Slurm's UNLIMITED is 365 days: what was made for so long was made for always.
_FOR_ALWAYS = timedelta(days=364)
_RECURRING = frozenset({"HOURLY", "DAILY", "WEEKLY", "WEEKDAY", "WEEKEND"})
# What goes, or no longer has a meaning once the nodes are named by us.
_LOST = {
    "FLEX": "jobs inside it could reach nodes of every other reservation",
    "PURGE_COMP": "Slurm would delete it when idle",
    "REPLACE": "Slurm would swap its nodes away",
    "REPLACE_DOWN": "failed nodes are left to an admin, or declare node_count instead of nodes",
}


def obstacles(cluster: Cluster, existing: Reservation) -> Iterator[str]:
    """Why it cannot be taken over, each with what to do about it."""
    if recurring := sorted(existing.flags & _RECURRING):
        yield f"it recurs ({','.join(recurring)}): declare it with periods, and delete this one"
    if "MAINT" in existing.flags:
        yield "it is for maintenance: leave it to Slurm"
    if existing.licenses:
        yield f"it holds licences ({existing.licenses}), which cannot be lent: declare the nodes without them"
    known = [cluster.nodes[name] for name in existing.nodes & cluster.nodes.keys()]
    if existing.cores and existing.cores < sum(node.cpus // node.threads_per_core for node in known):
        yield f"it holds {existing.cores} cores, not whole nodes: reserve whole nodes"
    if not existing.nodes:
        yield "it has no nodes: give it some"
    everybody = existing.users | existing.accounts | existing.groups
    if denied := sorted(name for name in everybody if name.startswith("-")):
        yield f"it lets everybody in but {','.join(denied)}: say whom it is for"
    if not everybody:
        yield "it says not whom it is for: give it users, accounts or groups"


def declaration(existing: Reservation, blank: ReservationSpec) -> ReservationSpec:
    """As what it would be declared; `blank` has the site's defaults."""
    return replace(
        blank,
        owner=Owner(existing.users, existing.accounts, existing.groups),
        nodes=existing.nodes,
        start=None if existing.is_active else existing.start,
        end=None if existing.end - existing.start >= _FOR_ALWAYS else existing.end,
    )


def consequences(existing: Reservation) -> Iterator[str]:
    """What taking it over changes, in sentences."""
    if lacking := sorted({"OVERLAP", "IGNORE_JOBS"} - existing.flags):
        yield f"{' and '.join(lacking)} added; Slurm can take OVERLAP away only with the reservation"
    for flag, why in sorted(_LOST.items()):
        if flag in existing.flags:
            yield f"{flag} goes or is overruled: {why}"
