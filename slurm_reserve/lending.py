"""Which idle reserved nodes are lent to which waiting borrowers, and why not. Pure.

Idle means that no job of the owner, nor any other job that is no borrower, holds the node: COMPLETING, suspended and
configuring jobs hold it too (B12).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from slurm_reserve import demand
from slurm_reserve.fit import Fit, Kind, Room, Rooms, kind
from slurm_reserve.model import Job, Node
from slurm_reserve.reclaim import Ground
from slurm_reserve.view import View

# A cycle attaches at most so many jobs: each costs slurmctld one call, and the next cycle is near.
MOST_LOANS_PER_CYCLE = 50


@dataclass(frozen=True, slots=True)
class Loan:
    """One borrower that is to run on lent nodes."""

    job: Job
    reservation: str
    nodes: frozenset[str]
    reason: str


@dataclass(slots=True)
class Lending:
    """What is lent in one plan; and, for each borrower or node that got nothing, why."""

    loans: list[Loan] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # job id -> reason
    withheld: dict[str, str] = field(default_factory=dict)  # node or reservation -> reason


def net_missing(view: View, nodes: frozenset[str]) -> str:
    """Why Slurm would not take `nodes` back by itself; "" when it would: then the owner is safe without us.

    slurm.conf(5): PreemptType, PreemptMode, PriorityTier; sacctmgr(1): the Preempt list of a QOS.
    """
    config, partitions, lending = view.cluster.config, view.cluster.partitions, view.site.lending
    if config.preempt_type == "preempt/qos":
        return _qos_net_missing(view)
    if config.preempt_type != "preempt/partition_prio":
        return f"PreemptType is {config.preempt_type or 'not set'}: set preempt/partition_prio or preempt/qos"
    lendable = [partitions[name] for name in lending.partitions if name in partitions]
    for partition in lendable:
        if not {"REQUEUE", "CANCEL"} & set(partition.preempt_mode.split(",")):
            return f"PreemptMode of partition {partition.name} is {partition.preempt_mode}: set REQUEUE or CANCEL"
    highest = max((partition.tier for partition in lendable), default=0)
    for name, partition in sorted(partitions.items()):
        if name not in lending.partitions and partition.nodes & nodes and partition.tier <= highest:
            return f"PriorityTier of partition {name} is {partition.tier}: set it above {highest}"
    return "" if lendable else "no lendable partition is on this cluster"


def _qos_net_missing(view: View) -> str:
    lendable = view.site.lending.qos
    if not lendable:
        return "PreemptType is preempt/qos but the site lends by partition: name the lendable QOS"
    for name, preempts in sorted(view.cluster.qos_preempts.items()):
        if name not in lendable and not lendable <= preempts:
            return f"QOS {name} may not preempt {','.join(sorted(lendable - preempts))}: add it to its Preempt list"
    return "" if view.cluster.qos_preempts else "no QOS can be read"


def braked(view: View) -> str:
    """Why the brake is on; "" while evictions are as many as they may be. An admin takes it off."""
    if view.memory.orders.brake:
        return view.memory.orders.brake
    hour, most = view.cluster.at - timedelta(hours=1), view.site.lending.max_evictions_per_hour
    recent = sum(at > hour for at in view.memory.eviction_times)
    return f"{recent} evictions within an hour at {view.cluster.at:%Y-%m-%d %H:%M %Z}" if recent >= most else ""


def may_lend(view: View, ground: Ground) -> str:
    """Why nothing new of this reservation may be lent now; "" when it may."""
    orders = view.memory.orders
    if orders.paused:
        return "lending is paused"
    if not view.memory.is_writable:
        return "the ledger cannot be written"
    if not ground.reservation.is_active:
        return "the reservation is not active"
    if not demand.is_lending_on(view, ground.spec):
        return "lending is off"
    if "FLEX" in ground.reservation.flags:
        return "the reservation has the flag FLEX"
    if lacks := {"OVERLAP", "IGNORE_JOBS"} - ground.reservation.flags:
        return f"the reservation lacks {','.join(sorted(lacks))}"
    if brake := braked(view):
        return f"the brake is on: {brake}; look why, then `slurm-reserve resume`"
    missing = net_missing(view, ground.reservation.nodes)
    if missing and not view.site.daemon.fail_safe:
        return f"nothing would give the nodes back if this daemon died: {missing}"
    if ground.is_closing:
        return "an owner's job is about to use its nodes"
    return ""


def lend(view: View, grounds: Mapping[str, Ground]) -> Lending:
    """Place waiting borrowers, in Slurm's order, first on nodes already lent, then on idle ones."""
    lending = Lending()
    lots = [lot for ground in grounds.values() if (lot := _lot(view, ground, lending)) is not None]
    market = _Market(view, [lot for lot in lots if lot.rooms], lending, view.free_outside())
    running = Counter(job.id.split("_")[0] for job in view.touched.values() if "_" in job.id and job.nodes)
    for job in view.waiting_borrowers:
        if why := _unlendable(view, job):
            lending.refused[job.id] = why
        elif not job.array_tasks:
            market.place(job)
        else:
            _place_tasks(market, job, running[job.id.split("_")[0]])
    return lending


def _place_tasks(market: _Market, job: Job, running: int) -> None:
    """Of an array the pending tasks that its own limit still admits, each as a job, until one finds no place."""
    most = max(job.array_limit - running, 0) if job.array_limit else len(job.array_tasks)
    for task in job.array_tasks[:most]:
        if not market.place(replace(job, id=f"{job.id}_{task}", array_tasks=())):
            return


class _Lot:
    """The rooms of one reservation that are still to be had, lent ones first."""

    def __init__(self, ground: Ground, rooms: list[Room], idle: set[str]) -> None:
        self.ground = ground
        self.rooms = self._to_hand_out(rooms)
        self._idle = idle
        self._lent = self._opened()

    def fit(self, job: Job) -> Fit:
        """Where it fits, so many nodes being kept idle for the owner."""
        view = self.ground.view
        placed = self.rooms.fit(job, view.exclusive_partitions)
        may_open = len(self._idle) - self.ground.spec.lend.keep_idle_nodes
        if placed and len(placed.nodes & self._idle) > may_open:
            placed = self._lent.fit(job, view.exclusive_partitions)
        if not placed and len(view.in_time(job, self.rooms, view.maintenance_at)) < len(self.rooms):
            return Fit(placed.answer, why=f"{placed.why}; elsewhere it would run into maintenance")
        return placed

    def take(self, placed: Fit) -> None:
        """What the job takes is gone."""
        self.rooms.take(placed)
        self._idle -= placed.nodes
        self._lent = self._opened()

    def _opened(self) -> Rooms:
        return self._to_hand_out(room for room in self.rooms if room.node.name not in self._idle)

    def _to_hand_out(self, rooms: Iterable[Room]) -> Rooms:
        view = self.ground.view
        return view.to_hand_out(rooms, view.maintenance_at)


@dataclass(slots=True)
class _Market:
    """Every lot, and what is free elsewhere. Borrowers that are alike get the same answer until something is taken."""

    view: View
    lots: list[_Lot]
    lending: Lending
    outside: Rooms
    answers: dict[tuple[Kind, timedelta | None, str, bool], str] = field(default_factory=dict)

    def place(self, job: Job) -> bool:
        """Find it a place, unless it has one elsewhere; False when there is none."""
        is_young = not job.reservation and self.view.is_fresh(job)
        like = (kind(job), job.time_limit, job.reservation, is_young)
        if why := self.answers.get(like):
            self.lending.refused[job.id] = why
            return False
        if is_young and (free := self.outside.fit(job, self.view.exclusive_partitions)):
            self.outside.take(free)
            self.lending.refused[job.id] = "can start on free unreserved nodes"
            return True
        if len(self.lending.loans) >= MOST_LOANS_PER_CYCLE:
            why = "its turn comes: so many loans are made at once"
        else:
            why = self._lend(job)
        if why:
            self.lending.refused[job.id] = self.answers[like] = why
        return not why

    def _lend(self, job: Job) -> str:
        """Why no lot takes it; "" when one did."""
        why = "no reservation has nodes to lend"
        for lot in self.lots:
            spec = lot.ground.spec
            if said := _too_long(self.view, job, lot.ground):
                why = said
            elif job.reservation in ("", spec.lend_name):
                if placed := lot.fit(job):
                    lot.take(placed)
                    nodes = ",".join(sorted(placed.nodes))
                    self.lending.loans.append(Loan(job, spec.name, placed.nodes, f"{nodes} of {spec.name} idle"))
                    self.answers.clear()
                    return ""
                why = f"{spec.name}: {placed.why}"
        return why


def _lot(view: View, ground: Ground, lending: Lending) -> _Lot | None:
    if why := may_lend(view, ground):
        lending.withheld[ground.spec.name] = why
        return None
    rooms, idle = [], set()
    for node in view.usable(ground.reservation.nodes):
        if why := _withheld(view, ground, node):
            lending.withheld[node.name] = why
        elif node.alloc_cpus < node.cpus:
            rooms.append(Room.left(node))
            if node.name not in view.holders:
                idle.add(node.name)
    rooms.sort(key=lambda room: room.node.name in idle)
    return _Lot(ground, rooms, idle)


def _withheld(view: View, ground: Ground, node: Node) -> str:
    """Why a usable node of an open reservation is not lent; "" when it is."""
    holders = view.holders.get(node.name, ())
    for job in holders:
        if not view.is_borrower(job):
            return f"in use by job {job.id} of {job.user}"
    if any(view.is_going(job) or job.key in ground.victims for job in holders):
        return "being given back"
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


def _unlendable(view: View, job: Job) -> str:
    """Why a borrower is not lent to, wherever there is room."""
    if why := demand.blocked(view, job):
        return why
    if job.het_job:
        return "heterogeneous jobs are not lent to"
    if job.licenses:
        return "holds licences, which Slurm never takes back by preemption"
    if job.id not in view.sent_before:
        return ""
    until = view.memory.not_before.get(job.key)
    if until is not None and view.cluster.at < until:
        return f"did not start when last lent to; tried again at {until:%H:%M:%S}"
    sent = view.memory.attached.get(job.key)
    if job.reservation and sent is not None and view.cluster.at - sent.at > view.patience:
        return "did not start where it was sent"
    return ""


def _too_long(view: View, job: Job, ground: Ground) -> str:
    spec, most = ground.spec, ground.spec.lend.max_time
    if most is not None and (job.time_limit is None or job.time_limit > most):
        return f"{spec.name}: its time limit is longer than max_time"
    if spec.end is not None:
        left = spec.end - demand.lead_time(view, spec) - view.cluster.at
        if job.time_limit is None or job.time_limit > left:
            return f"{spec.name}: its time limit is longer than the reservation lasts"
    return ""
