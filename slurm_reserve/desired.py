"""The reservations that should exist now, and what has to change for that. Pure.

OVERLAP switches off Slurm's own protection against double booking, so it is provided here: nodes are always chosen
and named by us, and checked against every reservation of the cluster over the whole period (B1, B38).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from slurm_reserve import edits, periods
from slurm_reserve.actions import Action, Correction, CreateReservation, DeleteReservation, DetachJob, UpdateReservation
from slurm_reserve.model import Cluster, Reservation
from slurm_reserve.site import Find, NodeRequest, ReservationSpec, Site
from slurm_reserve.view import View

FLAGS = frozenset({"OVERLAP", "IGNORE_JOBS", "NO_HOLD_JOBS_AFTER_END"})
NEEDED_FLAGS = frozenset({"OVERLAP", "IGNORE_JOBS"})
# Slurm's UNLIMITED is 365 days, and a reservation's end kills its jobs: extend long before.
ENDLESS = timedelta(days=365)
EXTEND_BELOW = timedelta(days=180)


@dataclass(slots=True)
class Desired:
    """Changes to reservations, and what stands in the way of others."""

    actions: dict[str, list[Action]] = field(default_factory=dict)  # by reservation
    refused: dict[str, str] = field(default_factory=dict)  # reservation -> why it cannot be met
    reports: dict[str, str] = field(default_factory=dict)  # reservation -> what an admin should know


def period(spec: ReservationSpec, now: datetime) -> tuple[datetime, datetime]:
    """From when until when nodes are bound."""
    found = periods.of(spec, now) or periods.Period(spec.start or now, spec.end)
    return found.begin, found.end or max(found.begin, now) + ENDLESS


def conflicts(cluster: Cluster, nodes: Iterable[str], start: datetime, end: datetime, own: Iterable[str]) -> list[str]:
    """Names of other reservations that bind any of the nodes at any time of the period; maintenance does not bind."""
    wanted, mine = frozenset(nodes), frozenset(own)
    if not wanted:
        return []
    return sorted(
        other.name
        for other in cluster.reservations.values()
        if other.name not in mine
        and "MAINT" not in other.flags
        and other.start < end
        and start < other.end
        and not other.nodes.isdisjoint(wanted)
    )


def choose_nodes(
    cluster: Cluster, request: NodeRequest, count: int, start: datetime, end: datetime, taken: frozenset[str]
) -> frozenset[str] | None:
    """`count` nodes of that kind which nobody has reserved over the period, idle ones first; None when too few."""
    fitting = [
        node
        for node in cluster.nodes.values()
        if request.partition in node.partitions
        and request.features <= node.features
        and node.is_usable
        and node.name not in taken
        and not conflicts(cluster, [node.name], start, end, ())
    ]
    fitting.sort(key=lambda node: (node.alloc_cpus > 0, node.name))
    return frozenset(node.name for node in fitting[:count]) if len(fitting) >= count else None


def why_unmet(site: Site, cluster: Cluster, spec: ReservationSpec) -> str:
    """Why a reservation that is not there yet could not be made; "" when it could (B38)."""
    start, end = period(spec, cluster.at)
    if isinstance(spec.nodes, NodeRequest):
        chosen = choose_nodes(cluster, spec.nodes, spec.nodes.node_count, start, end, _declared(site, spec.name))
        if chosen is None:
            kind = f"partition {spec.nodes.partition}" + "".join(f", feature {f}" for f in sorted(spec.nodes.features))
            return f"fewer than {spec.nodes.node_count} usable nodes of {kind} are unreserved over the whole period"
        return ""
    if unknown := sorted(spec.nodes - cluster.nodes.keys()):
        return f"the cluster has no node {','.join(unknown)}"
    if others := conflicts(cluster, spec.nodes, start, end, (spec.name, spec.lend_name)):
        return f"nodes are already bound by reservation {', '.join(others)}"
    return ""


def why_unmet_beside(others: Site, cluster: Cluster, spec: ReservationSpec) -> str:
    """The same for a new declaration, or a changed one, beside all others: made or not, they come first (B1).

    The nodes that requests not made yet will take are chosen first, as a cycle would.
    """
    seen = {name: r for name, r in cluster.reservations.items() if name not in (spec.name, spec.lend_name)}
    for other in others.reservations:
        if other.name in seen:
            continue
        start, end = period(other, cluster.at)
        nodes: frozenset[str] | None = other.nodes if isinstance(other.nodes, frozenset) else None
        if isinstance(other.nodes, NodeRequest):
            now = replace(cluster, reservations=seen)
            taken = _declared(others, other.name)
            nodes = choose_nodes(now, other.nodes, other.nodes.node_count, start, end, taken)
        if nodes:
            seen[other.name] = Reservation(other.name, nodes, start, end)
    return why_unmet(others, replace(cluster, reservations=seen), spec)


def _declared(site: Site, but: str) -> frozenset[str]:
    """Nodes that other declarations name: a node request never takes them, whether or not they are made yet."""
    explicit = (s.nodes for s in site.reservations if s.name != but and isinstance(s.nodes, frozenset))
    return frozenset().union(*explicit)


def decide(view: View) -> Desired:
    """Compare what is declared with what Slurm has."""
    desired, now = Desired(), view.cluster.at
    taken = frozenset(n for s in view.site.reservations if isinstance(s.nodes, frozenset) for n in s.nodes)
    for spec in view.site.reservations:
        existing = view.cluster.reservations.get(spec.name)
        held = periods.of(spec, now)
        has_begun = existing is not None and existing.start <= now
        if held is None or (spec.windows and has_begun and held.begin > now):
            why = "its declared end has come" if held is None else "its window is over"
            if existing is not None and _is_ours(view, existing):
                desired.actions[spec.name] = list(_retire(view, existing, why, desired))
        elif existing is None:
            taken |= _create(view, spec, taken, desired)
        elif not _is_ours(view, existing):
            desired.refused[spec.name] = f"a reservation {spec.name} exists that this site did not make: adopt it"
        else:
            desired.actions[spec.name] = list(_correct(view, spec, existing, taken, desired))
    declared = {spec.name for spec in view.site.reservations}
    for name in sorted(view.memory.made.keys() - declared - view.lend_names):
        if (left := view.cluster.reservations.get(name)) is not None:
            desired.actions[name] = list(_retire(view, left, "it is no longer declared", desired))
    return desired


def _is_ours(view: View, existing: Reservation) -> bool:
    """Recorded as made by us; or, should the record be lost, declared and made the way only we make them."""
    return existing.name in view.memory.made or NEEDED_FLAGS <= existing.flags


def _create(view: View, spec: ReservationSpec, taken: frozenset[str], desired: Desired) -> frozenset[str]:
    start, end = period(spec, view.cluster.at)
    if why := why_unmet(view.site, view.cluster, spec):
        desired.refused[spec.name] = why
        return frozenset()
    if isinstance(spec.nodes, NodeRequest):
        nodes = choose_nodes(view.cluster, spec.nodes, spec.nodes.node_count, start, end, taken)
        if nodes is None:
            desired.refused[spec.name] = f"fewer than {spec.nodes.node_count} nodes of that kind are left"
            return frozenset()
    else:
        nodes = spec.nodes
    if busy := sorted(n for n in nodes if view.holders.get(n)):
        desired.reports[spec.name] = f"not yet whole: jobs that were there before still run on {','.join(busy)}"
    noted: tuple[Correction, ...] = ()
    if spec.name in view.memory.made:
        since, is_edit = (start, False) if spec.windows else (spec.start, spec.start is None)  # each window anew
        found = edits.correction(view, spec.name, "existence", str(since), is_edit)
        if found is None:
            desired.refused[spec.name] = f"deleted by hand again, and left so: {edits.remedy(spec.name)}"
            return frozenset()
        noted = (found,)
    flags = FLAGS | ({"MAGNETIC"} if spec.find is Find.MAGNETIC else set())
    begin = start if start > view.cluster.at else None
    owner = spec.owner
    desired.actions[spec.name] = [
        CreateReservation(
            spec.name,
            nodes,
            begin,
            end,
            frozenset(flags),
            "declared",
            owner.users,
            owner.accounts,
            owner.groups,
            corrections=noted,
        )
    ]
    return nodes


def _correct(
    view: View, spec: ReservationSpec, existing: Reservation, taken: frozenset[str], desired: Desired
) -> Iterable[Action]:
    """What differs from what is declared, of the things that are declared."""
    nodes = _nodes(view, spec, existing, taken, desired)
    end = None
    begin, until = period(spec, view.cluster.at)
    if not periods.is_bounded(spec):
        end = view.cluster.at + ENDLESS if existing.end - view.cluster.at < EXTEND_BELOW else None
    elif until != existing.end:
        end = until
    has_start = spec.start is not None or bool(spec.windows)
    start = begin if has_start and not existing.is_active and begin != existing.start else None
    magnetic = {"MAGNETIC"} if spec.find is Find.MAGNETIC else set()
    add = (NEEDED_FLAGS | magnetic) - existing.flags
    drop = existing.flags & (frozenset({"FLEX", "PURGE_COMP", "REPLACE"}) | ({"MAGNETIC"} - magnetic))
    owner = spec.owner
    changes = UpdateReservation(
        spec.name,
        "differs from what is declared",
        nodes=nodes,
        start=start,
        end=end,
        add_flags=frozenset(add),
        drop_flags=drop,
        users=owner.users if owner.users != existing.users and not owner.groups else None,
        accounts=owner.accounts if owner.accounts != existing.accounts else None,
        groups=owner.groups if owner.groups != existing.groups else None,
    )
    changes, left = edits.settle(view, spec, changes)
    for aspect, text in left.items():
        desired.reports[f"{spec.name} {aspect}"] = text
    if replace(changes, corrections=()) != UpdateReservation(spec.name, changes.reason):
        yield changes


def _nodes(
    view: View, spec: ReservationSpec, existing: Reservation, taken: frozenset[str], desired: Desired
) -> frozenset[str] | None:
    """The nodes to send, or None to leave them. Nodes that borrowers still hold stay until they are clean."""
    bounded = periods.is_bounded(spec)
    start = max(existing.start, view.cluster.at)
    end = period(spec, view.cluster.at)[1] if bounded else existing.end
    if isinstance(spec.nodes, frozenset):
        wanted = spec.nodes | frozenset(n for n in existing.nodes - spec.nodes if view.holders.get(n))
        own = (spec.name, spec.lend_name)
        if others := conflicts(view.cluster, wanted - existing.nodes, start, end, own):
            desired.refused[spec.name] = f"nodes to add are bound by reservation {', '.join(others)}"
            return None
        return wanted if wanted != existing.nodes else None
    known = view.cluster.nodes
    failed = {n for n in existing.nodes if n in known and not known[n].is_usable and not view.holders.get(n)}
    failed = {n for n in failed if "MAINT" not in known[n].states}
    kept = existing.nodes - failed
    surplus = sorted((n for n in kept if not view.holders.get(n)), reverse=True)[: len(kept) - spec.nodes.node_count]
    kept -= frozenset(surplus if len(kept) > spec.nodes.node_count else ())
    lacking = spec.nodes.node_count - len(kept)
    new = choose_nodes(view.cluster, spec.nodes, lacking, start, end, taken) if lacking > 0 else frozenset()
    if new is None:
        desired.reports[spec.name] = f"guarantee broken: {','.join(sorted(failed))} failed and no other node is free"
        return None
    return kept | new if kept | new != existing.nodes and kept | new else None


def _retire(view: View, existing: Reservation, why: str, desired: Desired) -> Iterable[Action]:
    """Take a reservation of ours away, once no running job refers to it and nothing of it is lent."""
    referrers = view.referrers.get(existing.name, ())
    if running := [job for job in referrers if job.holds_nodes]:
        desired.reports[existing.name] = f"{why}; waits for running job {running[0].id} of {running[0].user}"
        return
    if f"{existing.name}.lend" in view.cluster.reservations:
        return
    for job in referrers:
        yield DetachJob(job.key, existing.name, f"{existing.name} goes: {why}")
    yield DeleteReservation(existing.name, why)
