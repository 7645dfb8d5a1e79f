"""What of a reservation can be lent now: its rooms, which of them are had first, and why the rest is not lent. Pure.

Idle means that no job of the owner, nor any other job that is no borrower, holds the node: COMPLETING, suspended and
configuring jobs hold it too (B12).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property

from slurm_reserve import demand, idleness
from slurm_reserve.fit import Answer, Fit, Room, Rooms, Share, fit
from slurm_reserve.ground import Ground
from slurm_reserve.model import Job, Node
from slurm_reserve.view import View


class Lot:
    """The rooms of one reservation that are still to be had: lent ones first, then those likely to be idle longest."""

    def __init__(self, ground: Ground, rooms: list[Room], idle: set[str]) -> None:
        self.ground = ground
        self._idle = idle
        self._begins = begins(ground)
        self.rooms = self._to_hand_out(sorted(rooms, key=lambda room: self._rank(room.node.name)))
        self._lent = self._opened()

    def fit(self, job: Job) -> Fit:
        """Where it fits, so many nodes being kept idle for the owner."""
        view = self.ground.view
        if why := too_long(view, job, self.ground):
            return Fit(Answer.NO, why=why)
        placed = self.rooms.fit(job, view.exclusive_partitions)
        if placed and placed.nodes & self._idle:  # what is lent already comes first
            placed = self._snug(job) or placed
        if placed and len(placed.nodes & self._idle) > self._may_open():
            placed = self._lent.fit(job, view.exclusive_partitions)
        if not placed and len(view.in_time(job, self.rooms, self._begins)) < len(self.rooms):
            return Fit(placed.answer, why=f"{placed.why}; elsewhere it would run into {self._what_begins()}")
        return placed

    def spares(self, job: Job) -> float:
        """Seconds for which a node is likely to stay idle beyond what a job needs; endless where none will do."""
        return min((likely - _needs(job) for likely in self._likely.values() if likely >= _needs(job)), default=_NEVER)

    def _snug(self, job: Job) -> Fit | None:
        """On the nodes that are likely to stay idle just long enough: the others are for those that need longer.

        For jobs that could be requeued alone, since it is no more than likely.
        """
        if not self._likely or not job.batch or job.time_limit is None:
            return None
        view, needs = self.ground.view, _needs(job)
        rooms = [room for room in self.rooms if self._likely.get(room.node.name, -1.0) >= needs]
        rooms.sort(key=lambda room: self._likely[room.node.name])
        placed = fit(job, view.in_time(job, rooms, self._begins), view.exclusive_partitions) if rooms else None
        return placed or None

    @cached_property
    def _likely(self) -> dict[str, float]:
        """For how many more seconds each idle node of an owner whose past is known is likely to stay so."""
        view, name = self.ground.view, self.ground.spec.name
        if name not in view.memory.spells:
            return {}
        known = {node: idleness.likely_idle(view, name, node) for node in self._idle}
        return {node: likely.total_seconds() for node, likely in known.items() if likely is not None}

    def take(self, placed: Fit) -> None:
        """What the job takes is gone."""
        self.rooms.take(placed)
        self._idle -= placed.nodes
        self._lent = self._opened()

    def take_idle(self, nodes: frozenset[str]) -> None:
        """These whole nodes are gone as well."""
        self.take(
            Fit(Answer.YES, {n: Share(r.cpus, r.memory, r.gres) for r in self.rooms if (n := r.node.name) in nodes})
        )

    def more_for(self, job: Job, most: int) -> frozenset[str]:
        """Idle nodes that nobody else was lent, for a job that can use more than it must have (B29)."""
        found: list[str] = []
        view = self.ground.view
        for room in view.in_time(job, self.rooms, self._begins):
            if len(found) < min(most, self._may_open()) and room.node.name in self._idle and _is_use(view, job, room):
                found.append(room.node.name)
        return frozenset(found)

    @cached_property
    def rank(self) -> tuple[bool, float]:
        """What is lent last comes last, and what is likely to be wanted soon behind what is not (B33)."""
        return self.ground.spec.lend.last, min((self._rank(name)[1] for name in self._idle), default=0.0)

    def _rank(self, node: str) -> tuple[bool, float]:
        likely = idleness.likely_idle(self.ground.view, self.ground.spec.name, node)
        return node in self._idle, -(likely or idleness.UNKNOWN).total_seconds()

    def _may_open(self) -> int:
        return len(self._idle) - self.ground.spec.lend.keep_idle_nodes

    def _opened(self) -> Rooms:
        return self._to_hand_out(room for room in self.rooms if room.node.name not in self._idle)

    def _to_hand_out(self, rooms: Iterable[Room]) -> Rooms:
        return self.ground.view.to_hand_out(rooms, self._begins)

    def _what_begins(self) -> str:
        names = {room.node.name for room in self.rooms}
        return "an owner's job that is expected" if names & self.ground.expected.keys() else "maintenance"


_NEVER = float("inf")


def _needs(job: Job) -> float:
    """Seconds that a job may run."""
    return job.time_limit.total_seconds() if job.time_limit is not None else _NEVER


def lot(view: View, ground: Ground, withheld: dict[str, str]) -> Lot:
    """What may be had of a reservation that is open to borrowers; for other nodes, why not, in `withheld`."""
    rooms, idle = [], set()
    for node in view.usable(ground.reservation.nodes):
        if why := _withheld(view, ground, node):
            withheld[node.name] = why
        elif node.alloc_cpus < node.cpus:
            rooms.append(Room.left(node))
            if node.name not in view.holders:
                idle.add(node.name)
    return Lot(ground, rooms, idle)


def _withheld(view: View, ground: Ground, node: Node) -> str:
    """Why a usable node of an open reservation is not lent; "" when it is."""
    holders = view.holders.get(node.name, ())
    if any(view.is_borrower(job) and (view.is_going(job) or job.key in ground.victims) for job in holders):
        return "being given back"
    return closed(view, ground, node)


def closed(view: View, ground: Ground, node: Node) -> str:
    """Why a node of an open reservation is not for borrowers at all, whoever of them has it now."""
    for job in view.holders.get(node.name, ()):
        if not view.is_borrower(job):
            return f"in use by job {job.id} of {job.user}"
    if node.name in ground.recalled_nodes:
        return next(recall.reason for recall in ground.recalled if node.name in recall.nodes)
    if "PLANNED" in node.states and any(d.verdict for d in ground.decisions):
        return "planned by Slurm for a waiting job"
    if foreign := _foreign(view, ground, node):
        return f"reservation {foreign} lies over it"
    since = view.memory.idle_since.get(node.name, view.cluster.at)
    if view.cluster.at - since < ground.spec.lend.after_idle:
        return "not idle for long enough"
    return ""


def _foreign(view: View, ground: Ground, node: Node) -> str:
    own = (ground.spec.name, ground.spec.lend_name)
    there = view.reservations_on.get(node.name, ())
    return next((other.name for other in there if other.name not in own and other.is_active), "")


def too_long(view: View, job: Job, ground: Ground) -> str:
    """Why a job's time limit keeps it from a reservation; "" when it does not."""
    spec, most = ground.spec, ground.spec.lend.max_time
    if most is not None and (job.time_limit is None or job.time_limit > most):
        return "its time limit is longer than max_time"
    if spec.end is not None:  # windows come again and again: a long borrower would never be lent to
        left: timedelta = spec.end - demand.lead_time(view, spec) - view.cluster.at
        if job.time_limit is None or job.time_limit > left:
            return "its time limit is longer than the reservation lasts"
    return ""


def begins(ground: Ground) -> Mapping[str, datetime]:
    """When a borrower must be over on each node: before maintenance, and before an owner's job that is expected."""
    maintenance = ground.view.maintenance_at
    if not ground.expected:
        return maintenance
    both = {**ground.expected, **maintenance}
    return {node: min(at, ground.expected.get(node, at)) for node, at in both.items()}


def _is_use(view: View, job: Job, room: Room) -> bool:
    """Whether a job that may run on one node more could use this one."""
    shape = job.shape
    least = replace(shape, min_nodes=1, max_nodes=1, tasks=1, cpus=max(shape.cpus_per_task, shape.min_cpus_per_node))
    return bool(fit(replace(job, shape=least), [room], view.exclusive_partitions))
