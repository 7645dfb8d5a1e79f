"""A cycle of narrow scope: one user's submission, on an observation that is a few seconds old. Pure.

Only that user's jobs, and the nodes of the reservations that these may use, are read afresh. What was seen before
stands for the rest, as long as nothing that is read contradicts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from slurm_reserve.memory import Memory
from slurm_reserve.model import Cluster, Job, JobKey, Node, Reservation
from slurm_reserve.site import Owner, Site
from slurm_reserve.view import View

MOST_LIKELY = 256  # nodes


@dataclass(frozen=True, slots=True)
class Scope:
    """What one user's submission may concern."""

    jobs: frozenset[JobKey]  # the user's waiting jobs
    reservations: frozenset[str]  # those of ours that these may use
    nodes: frozenset[str]


def base(site: Site, cluster: Cluster) -> Cluster:
    """The observation without the waiting jobs that no owner has, of which there may be a hundred thousand."""
    owners = Owners(site, cluster)
    kept = (job for job in cluster.jobs if job.nodes or job.reservation or owners.may_have(job.user))
    return replace(cluster, jobs=tuple(kept))


class Owners:
    """Who may be an owner of anything; where an account is one, anybody may be, for its users are not known."""

    def __init__(self, site: Site, seen: Cluster) -> None:
        owners = [spec.owner for spec in site.reservations]
        groups = {group for owner in owners for group in owner.groups}
        members = {user for group in groups for user in seen.groups.get(group, ())}
        self._users = members | {user for owner in owners for user in owner.users}
        self._is_anybody = any(o.accounts and not o.users and not o.groups for o in owners)

    def may_have(self, user: str) -> bool:
        """Whether this user may be one."""
        return self._is_anybody or user in self._users


def likely_nodes(site: Site, seen: Cluster, users: frozenset[str]) -> frozenset[str]:
    """The nodes that a submission of these users may concern; none where those are too many to read on suspicion."""
    names = [spec.name for spec in site.reservations if any(_may_own(spec.owner, seen, user) for user in users)]
    nodes = frozenset().union(*(seen.reservations[name].nodes for name in names if name in seen.reservations))
    return nodes if len(nodes) <= MOST_LIKELY else frozenset()


def _may_own(owner: Owner, seen: Cluster, user: str) -> bool:
    if owner.users and user not in owner.users:
        return False
    return not owner.groups or any(user in seen.groups.get(group, ()) for group in owner.groups)


def with_jobs(
    seen: Cluster, users: frozenset[str], fresh: Iterable[Job], reservations: Mapping[str, Reservation]
) -> Cluster:
    """The observation with these users' jobs, and every reservation, as they are now."""
    others = tuple(job for job in seen.jobs if job.user not in users)
    return replace(seen, jobs=(*others, *fresh), reservations=reservations)


def of(site: Site, cluster: Cluster, memory: Memory, users: frozenset[str]) -> Scope:
    """The waiting jobs of these users that one of our reservations is for, and what they concern."""
    view = View(site, cluster, memory)
    jobs, names = set(), set()
    for job in cluster.jobs:
        if job.user in users and job.is_pending:
            for spec in site.reservations:
                if spec.name in cluster.reservations and view.is_owners(spec, job):
                    jobs.add(job.key)
                    names.add(spec.name)
    nodes = frozenset().union(*(cluster.reservations[name].nodes for name in names))
    return Scope(frozenset(jobs), frozenset(names), nodes)


def in_doubt(site: Site, cluster: Cluster, memory: Memory, scope: Scope) -> list[str]:
    """Ids of borrowers sent to these reservations' nodes that were not seen there: they may have started since."""
    lends = {spec.lend_name for spec in site.reservations if spec.name in scope.reservations}
    there = {job.id for job in cluster.jobs if job.nodes}
    sent = {key.id for key, each in memory.attached.items() if each.reservation in lends}
    return sorted(sent - there)


def with_these(cluster: Cluster, ids: Iterable[str], fresh: Iterable[Job | None]) -> Cluster:
    """The cluster with the jobs of these ids as they are now, as far as Slurm still knows them."""
    replaced = frozenset(ids)
    others = (job for job in cluster.jobs if job.id not in replaced)
    return replace(cluster, jobs=(*others, *(job for job in fresh if job is not None)))


def confirmed(seen: Cluster, cluster: Cluster, scope: Scope, nodes: Mapping[str, Node]) -> Cluster | None:
    """The cluster with what was read afresh; None when that contradicts what was seen before."""
    if not scope.nodes <= nodes.keys():
        return None
    before, now = _holders(seen, scope.nodes), _holders(cluster, scope.nodes)
    for name in scope.nodes:
        fresh, old = nodes[name], seen.nodes.get(name)
        if old is None or (_use(fresh) != _use(old) and before.get(name) == now.get(name)):
            return None
        if bool(fresh.alloc_cpus) != bool(now.get(name)):
            return None
    return replace(cluster, nodes={**seen.nodes, **{name: nodes[name] for name in scope.nodes}})


def _use(node: Node) -> tuple[int, int, bool, bool]:
    return node.alloc_cpus, node.alloc_memory, node.is_usable, "COMPLETING" in node.states


def _holders(cluster: Cluster, nodes: frozenset[str]) -> dict[str, frozenset[JobKey]]:
    found: dict[str, set[JobKey]] = {}
    for job in cluster.jobs:
        for name in job.nodes & nodes:
            found.setdefault(name, set()).add(job.key)
    return {name: frozenset(keys) for name, keys in found.items()}
