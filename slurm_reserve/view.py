"""One observation seen with the site's eyes: who is a borrower, who is an owner, what room is where. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

from slurm_reserve import bids
from slurm_reserve.fit import Room, Rooms
from slurm_reserve.memory import Evicted, Memory
from slurm_reserve.model import Cluster, Job, JobKey, Node, Reservation, SlurmConfig
from slurm_reserve.site import BidBy, Owner, ReservationSpec, Site

# An eviction that has not shown after so long is issued again: slurmctld may have forgotten it in a crash.
EVICTION_SHOWS_WITHIN = timedelta(seconds=15)


class _Lendable(dict[tuple[str, ...], bool]):
    """Whether a job of these partitions is a borrower: asked for every job, of few kinds."""

    def __init__(self, partitions: frozenset[str]) -> None:
        super().__init__()
        self._partitions = partitions

    def __missing__(self, key: tuple[str, ...]) -> bool:
        self[key] = bool(key) and self._partitions.issuperset(key)
        return self[key]


@dataclass(frozen=True)
class View:
    """What every decision looks at."""

    site: Site
    cluster: Cluster
    memory: Memory

    @cached_property
    def _lendable(self) -> _Lendable:
        return _Lendable(self.site.lending.partitions)

    @cached_property
    def _placed(self) -> list[Job]:
        """Jobs that hold nodes or carry a reservation's name: few among those that wait."""
        return [job for job in self.cluster.jobs if job.nodes or job.reservation]

    @cached_property
    def holders(self) -> Mapping[str, tuple[Job, ...]]:
        """The jobs that hold each node, however they got there."""
        found: dict[str, list[Job]] = defaultdict(list)
        for job in self._placed:
            for node in job.nodes:
                found[node].append(job)
        return {node: tuple(jobs) for node, jobs in found.items()}

    @cached_property
    def referrers(self) -> Mapping[str, tuple[Job, ...]]:
        """The jobs, in any state and anywhere, that carry each reservation's name."""
        found: dict[str, list[Job]] = defaultdict(list)
        for job in self._placed:
            if job.reservation:
                found[job.reservation].append(job)
        return {name: tuple(jobs) for name, jobs in found.items()}

    @cached_property
    def touched(self) -> Mapping[JobKey, Job]:
        """The jobs that hold nodes or carry a reservation's name: whom a plan may take something from."""
        return {job.key: job for job in self._placed}

    @cached_property
    def by_request(self) -> Mapping[str, list[Job]]:
        """All jobs by what their user submitted: an array's tasks under its id."""
        found: dict[str, list[Job]] = defaultdict(list)
        for job in self.cluster.jobs:
            found[job.id.partition("_")[0]].append(job)
        return found

    @cached_property
    def pending(self) -> tuple[Job, ...]:
        """Waiting jobs, in no order: there may be a hundred thousand."""
        return tuple([job for job in self.cluster.jobs if job.state == "PENDING" and not job.nodes])

    @cached_property
    def waiting_borrowers(self) -> tuple[Job, ...]:
        """Borrowers that wait, the higher bid first, but for those in reservations that are none of ours.

        Of equal bids one that was sent a moment ago keeps its place, or a task would be sent, and be taken off for the
        next task of its own array, for ever: the rest of an array comes before the tasks split off from it.
        """
        ours = self.lend_names | {""}
        lendable, qos = self._lendable, self.site.lending.qos
        found = [j for j in self.pending if (lendable[j.partitions] or j.qos in qos) and j.reservation in ours]
        lending = self.site.lending
        if lending.bid is BidBy.NONE:
            sent, others = [j for j in found if j.reservation], [j for j in found if not j.reservation]
            return (*sorted(sent, key=in_slurms_order), *sorted(others, key=in_slurms_order))
        return tuple(sorted(found, key=lambda job: bids.by_bid(lending, job)))

    def bid(self, job: Job) -> Decimal:
        """What counts as a borrower's bid: while it runs no more than when it was lent to, and was charged for."""
        now, sent = bids.bid(self.site.lending, job), self.memory.attached.get(job.key)
        return now if sent is None or sent.bid is None or not job.nodes else min(now, sent.bid)

    @cached_property
    def _waiting(self) -> Mapping[tuple[str, str], list[Job]]:
        """Waiting jobs that may be an owner's, by user, by account and by reservation."""
        wanted = {key for spec in self.site.reservations for key in self._keys(spec)}
        users = {name for kind, name in wanted if kind == "user"}
        accounts = {name for kind, name in wanted if kind == "account"}
        found: dict[tuple[str, str], list[Job]] = defaultdict(list)
        may_be = [job for job in self.pending if job.reservation or job.user in users or job.account in accounts]
        for job in may_be:
            if job.user in users:
                found["user", job.user].append(job)
            if job.account in accounts:
                found["account", job.account].append(job)
            if job.reservation:
                for name in job.reservation.split(","):
                    found["reservation", name].append(job)
        return found

    def waiting_of(self, spec: ReservationSpec) -> list[Job]:
        """The owner's waiting jobs, in Slurm's order; of a reservation without an owner those that name it."""
        jobs = (job for key in self._keys(spec) for job in self._waiting.get(key, ()) if self.is_owners(spec, job))
        return sorted(jobs, key=in_slurms_order)

    def _keys(self, spec: ReservationSpec) -> list[tuple[str, str]]:
        owner = spec.owner
        if owner.users:
            return [("user", user) for user in sorted(owner.users)]
        if owner.accounts:
            return [("account", account) for account in sorted(owner.accounts)]
        if owner.groups:
            return [("user", user) for user in sorted(self._members(spec))]
        return [("reservation", spec.name)]

    @cached_property
    def evictions(self) -> Mapping[tuple[str, int], Evicted]:
        """Evictions that were issued, by id and restart count: a requeued job has another time of submission."""
        return {(key.id, key.restarts): evicted for key, evicted in self.memory.evicted.items()}

    @cached_property
    def evictions_of(self) -> Mapping[str, tuple[tuple[int, Evicted], ...]]:
        """Every eviction that is remembered, by the job's id, each with the restart count of the run it ended."""
        found: dict[str, list[tuple[int, Evicted]]] = defaultdict(list)
        for key, evicted in self.memory.evicted.items():
            found[key.id].append((key.restarts, evicted))
        return {job_id: tuple(each) for job_id, each in found.items()}

    @cached_property
    def sent_before(self) -> frozenset[str]:
        """Ids of jobs that were attached, or are not to be attached again yet."""
        memory = self.memory
        return frozenset(key.id for keys in (memory.attached, memory.not_before) for key in keys)

    @cached_property
    def lend_names(self) -> frozenset[str]:
        """Names of lend reservations, of declared reservations and of those we made."""
        declared = {spec.lend_name for spec in self.site.reservations}
        return frozenset(declared | {name for name in self.memory.made if name.endswith(".lend")})

    @cached_property
    def reserved_nodes(self) -> frozenset[str]:
        """Nodes of every reservation that is active now."""
        active = (r.nodes for r in self.cluster.reservations.values() if r.is_active)
        return frozenset().union(*active)

    @cached_property
    def reservations_on(self) -> Mapping[str, tuple[Reservation, ...]]:
        """The reservations that each node is in, now or later."""
        found: dict[str, list[Reservation]] = defaultdict(list)
        for each in self.cluster.reservations.values():
            for node in each.nodes:
                found[node].append(each)
        return {node: tuple(each) for node, each in found.items()}

    @cached_property
    def _free_outside(self) -> tuple[Room, ...]:
        reserved = self.reserved_nodes
        free = (
            node
            for name, node in self.cluster.nodes.items()
            if name not in reserved and node.alloc_cpus < node.cpus and node.is_usable and "PLANNED" not in node.states
        )
        return tuple(map(Room.left, free))

    def free_outside(self) -> Rooms:
        """What is left on nodes that nobody has reserved, as far as anything is; to be handed out."""
        return self.to_hand_out(self._free_outside, self.reserved_at)

    @cached_property
    def maintenance_at(self) -> Mapping[str, datetime]:
        """When maintenance begins, or began, on each node that has some: OVERLAP reaches past all but that."""
        return self._begins(r for r in self.cluster.reservations.values() if "MAINT" in r.flags)

    @cached_property
    def reserved_at(self) -> Mapping[str, datetime]:
        """When the next reservation begins on each node: jobs outside reservations give way to it."""
        return self._begins(r for r in self.cluster.reservations.values() if not r.is_active)

    def _begins(self, reservations: Iterable[Reservation]) -> Mapping[str, datetime]:
        found: dict[str, datetime] = {}
        for each in reservations:
            for node in each.nodes:
                found[node] = min(each.start, found.get(node, each.start))
        return found

    def to_hand_out(self, rooms: Iterable[Room], begins: Mapping[str, datetime]) -> Rooms:
        """Rooms that know what begins there, and when."""
        return Rooms(rooms, lambda job, left: self.in_time(job, left, begins)) if begins else Rooms(rooms)

    def in_time(self, job: Job, rooms: Iterable[Room], begins: Mapping[str, datetime]) -> list[Room]:
        """The rooms where the job would be over before what begins there: Slurm starts it on no other node."""
        if not begins:
            return list(rooms)
        over = None if job.time_limit is None else self.cluster.at + job.time_limit
        return [r for r in rooms if (at := begins.get(r.node.name)) is None or (over is not None and over <= at)]

    @cached_property
    def exclusive_partitions(self) -> frozenset[str]:
        """Partitions whose jobs take whole nodes."""
        return frozenset(name for name, p in self.cluster.partitions.items() if p.exclusive)

    @cached_property
    def grace(self) -> timedelta:
        """Two scheduling passes: how long our proof is believed against what Slurm does."""
        return 2 * self.site.daemon.scheduling_pass

    @cached_property
    def patience(self) -> timedelta:
        """How long a borrower may take to start where it was sent.

        While a job of a higher tier waits, slurmctld's main scheduler leaves jobs of lower tiers to backfill, also
        those in a reservation that has room; backfill comes round every bf_interval: slurm.conf(5).
        """
        return self.grace + 2 * backfill_interval(self.cluster.config)

    @cached_property
    def _fresh(self) -> tuple[datetime, datetime]:
        return self.cluster.at - self.grace, self.cluster.at + self.grace

    def is_fresh(self, job: Job) -> bool:
        """Whether Slurm has not had two passes yet to start it; never so for long, should the clock be put back."""
        first, last = self._fresh
        return first <= (job.eligible or job.submitted) <= last

    def is_borrower(self, job: Job) -> bool:
        """Asked to be run on terms that let it be evicted: all its partitions, or its QOS, are lendable."""
        return self._lendable[job.partitions] or job.qos in self.site.lending.qos

    def is_owners(self, spec: ReservationSpec, job: Job) -> bool:
        """Belongs to the reservation's owner and is no borrower (B41); every list that is given must hold."""
        return not self.is_borrower(job) and self.is_from_owner(spec, job)

    def is_from_owner(self, spec: ReservationSpec, job: Job) -> bool:
        """Whether the owner submitted it, borrower or not; with no owner declared everybody is."""
        owner = spec.owner
        if owner.users and job.user not in owner.users:
            return False
        if owner.accounts and job.account not in owner.accounts:
            return False
        return not owner.groups or job.user in self._members(spec)

    @cached_property
    def _specs_of(self) -> Mapping[tuple[str, str], list[ReservationSpec]]:
        """The reservations that somebody may be an owner of, by user and by account."""
        found: dict[tuple[str, str], list[ReservationSpec]] = defaultdict(list)
        for spec in self.site.reservations:
            for key in self._keys(spec) if spec.owner != Owner() else ():
                found[key].append(spec)
        return found

    def from_owners(self, jobs: Iterable[Job]) -> list[Job]:
        """Those whose user, or account, may be an owner of anything."""
        users = {name for kind, name in self._specs_of if kind == "user"}
        accounts = {name for kind, name in self._specs_of if kind == "account"}
        return [job for job in jobs if job.user in users or job.account in accounts]

    def owned_by(self, job: Job) -> tuple[str, ...]:
        """Names of the reservations whose owner submitted the job, borrower or not."""
        specs = self._specs_of
        may_be = (*specs.get(("user", job.user), ()), *specs.get(("account", job.account), ()))
        return tuple(spec.name for spec in may_be if self.is_from_owner(spec, job))

    def _members(self, spec: ReservationSpec) -> frozenset[str]:
        return frozenset().union(*(self.cluster.groups.get(group, frozenset()) for group in spec.owner.groups))

    def is_going(self, job: Job) -> bool:
        """Over, or evicted by us a moment ago: its room is as good as free, and it is nobody's victim."""
        if job.is_completing or not self.memory.evicted:
            return job.is_completing
        evicted = self.memory.evicted.get(job.key)
        return evicted is not None and abs(self.cluster.at - evicted.at) < EVICTION_SHOWS_WITHIN

    def usable(self, names: Iterable[str]) -> list[Node]:
        """Those of the named nodes on which Slurm would start a job, in the order of their names."""
        known = (self.cluster.nodes.get(name) for name in sorted(names))
        return [node for node in known if node is not None and node.is_usable]

    def room(self, node: Node, gone: Mapping[JobKey, Job] | None = None) -> Room:
        """The room on a node once the jobs `gone` have left it.

        How a job's CPUs are spread over several nodes is not printed: a job on several nodes gives its share back
        only where nobody else stays.
        """
        gone = gone or {}
        holders = self.holders.get(node.name, ())
        stay = [job for job in holders if job.key not in gone]
        if not stay and holders:
            return Room.whole(node)
        room = Room.left(node)
        for job in holders:
            if job.key in gone and len(job.nodes) == 1:
                room = _give_back(room, job)
        return room


def backfill_interval(config: SlurmConfig) -> timedelta:
    """Time between two backfill passes, as SchedulerParameters says; 30 s by default."""
    found = re.search(r"\bbf_interval=(\d{1,6})", config.scheduler_parameters)
    return timedelta(seconds=int(found[1]) if found else 30)


def in_slurms_order(job: Job) -> tuple[int, datetime, int, str]:
    """The order in which Slurm considers jobs of one partition."""
    return (-job.priority, job.submitted, job.job_id, job.id)


def _give_back(room: Room, job: Job) -> Room:
    shape = job.shape
    memory = shape.memory_per_node or shape.memory_per_cpu * shape.cpus
    per_task = {name: n * shape.tasks for name, n in shape.gres_per_task.items()}
    gres = {
        name: count + shape.gres_per_node.get(name, 0) + shape.gres_per_job.get(name, 0) + per_task.get(name, 0)
        for name, count in room.gres.items()
    }
    cpus = min(room.cpus + shape.cpus, room.node.cpus)
    return Room(room.node, cpus, min(room.memory + memory, room.node.memory), gres, room.is_empty)
