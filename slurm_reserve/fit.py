"""Does a job fit on nodes with this much room? Pure.

The answer is for what `select/cons_tres` would do: nodes, CPUs, memory, GRES, features, exclusive, required and
excluded nodes, tasks and tasks per node, several partitions. What cannot be proved is said to be so, never guessed:
an owner is then served by the deadline (:mod:`slurm_reserve.reclaim`), a borrower is not lent to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from slurm_reserve.model import Job, Node, Shape

_FEATURES = re.compile(r"[\w.:-]+(?:&[\w.:-]+)*|[\w.:-]+(?:\|[\w.:-]+)*")
_ENDLESS = 1 << 30


class Answer(StrEnum):
    """What is known about a fit."""

    YES = "yes"
    NO = "no"
    UNPROVEN = "cannot prove"


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on a node for one more job."""

    node: Node
    cpus: int
    memory: int  # MB
    gres: Mapping[str, int] = field(default_factory=dict)
    is_empty: bool = True

    @staticmethod
    def whole(node: Node) -> Room:
        """The room on a node without any job."""
        return Room(node, node.cpus, node.memory, node.gres, True)

    @staticmethod
    def left(node: Node) -> Room:
        """The room that Slurm has not allocated."""
        gres = {name: n - node.gres_used.get(name, 0) for name, n in node.gres.items()} if node.gres else node.gres
        free = node.alloc_cpus == 0 and node.alloc_memory == 0
        return Room(node, node.cpus - node.alloc_cpus, node.memory - node.alloc_memory, gres, free)

    def minus(self, share: Share) -> Room:
        """The room left once a job has taken its share."""
        gres = {name: count - share.gres.get(name, 0) for name, count in self.gres.items()}
        return replace(self, cpus=self.cpus - share.cpus, memory=self.memory - share.memory, gres=gres, is_empty=False)


@dataclass(frozen=True, slots=True)
class Share:
    """What a job takes on one node."""

    cpus: int
    memory: int
    gres: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fit:
    """The answer, where it would run, and why not when it does not."""

    answer: Answer
    shares: Mapping[str, Share] = field(default_factory=dict)
    why: str = ""

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that the job would take."""
        return frozenset(self.shares)

    def __bool__(self) -> bool:
        return self.answer is Answer.YES


Kind = tuple[int, tuple[str, ...], str]


def kind(job: Job) -> Kind:
    """The same for jobs that fit in the same rooms. What is asked for is parsed once for all that ask the same."""
    return id(job.shape), job.partitions, job.het_job


Admit = Callable[[Job, Iterable[Room]], Iterable[Room]]


class Rooms:
    """Rooms that are handed out, and so only get smaller: what did not fit once will not fit later."""

    def __init__(self, rooms: Iterable[Room], admit: Admit | None = None) -> None:
        """`admit` leaves out those that a job may not use; it may go by the job's time limit."""
        self._admit = admit
        self._rooms = {room.node.name: room for room in rooms}
        self._refused: dict[tuple[Kind, timedelta | None], Fit] = {}
        self._placed: dict[tuple[Kind, timedelta | None], Fit] = {}  # until the next is taken

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[Room]:
        return iter(self._rooms.values())

    def fit(self, job: Job, exclusive_partitions: frozenset[str]) -> Fit:
        """Place a job, as :func:`fit` does; jobs that are alike are thought about once."""
        like = (kind(job), job.time_limit if self._admit else None)
        known = self._placed.get(like) or self._refused.get(like)
        if known is None:
            rooms = self._rooms.values()
            known = fit(job, self._admit(job, rooms) if self._admit else rooms, exclusive_partitions)
            (self._placed if known else self._refused)[like] = known
        return known

    def take(self, placed: Fit) -> None:
        """What the job takes is gone."""
        for name, share in placed.shares.items():
            room = self._rooms[name].minus(share)
            if room.cpus > 0:
                self._rooms[name] = room
            else:
                del self._rooms[name]
        self._placed.clear()


def fit(job: Job, rooms: Iterable[Room], exclusive_partitions: frozenset[str] = frozenset()) -> Fit:
    """Place `job` on `rooms`; earlier rooms are preferred where they serve as well.

    Each partition of the job is tried in turn, for a job runs within one partition.
    """
    shape = job.shape
    doubts = [*shape.unproven, *([] if _is_plain(shape.features) else [f"features {shape.features}"])]
    if job.het_job:
        doubts.append("heterogeneous job")
    if doubts:
        return Fit(Answer.UNPROVEN, why="cannot prove where it fits: " + ", ".join(doubts))
    rooms = list(rooms)
    said = _in_some_partition(job.partitions, shape, rooms, exclusive_partitions)
    if not said and shape.may_spread:
        spread = _in_some_partition(job.partitions, replace(shape, max_nodes=0), rooms, exclusive_partitions)
        if spread:
            return Fit(Answer.UNPROVEN, why="cannot prove where it fits: it may or may not be spread over more nodes")
    return said


def _in_some_partition(
    partitions: Iterable[str], shape: Shape, rooms: list[Room], exclusive_partitions: frozenset[str]
) -> Fit:
    said = Fit(Answer.NO, why="no nodes")
    for partition in partitions:
        wanted = replace(shape, exclusive=True) if partition in exclusive_partitions else shape
        said = _place(wanted, rooms, partition)
        if said:
            break
    return said


def _is_plain(features: str) -> bool:
    return not features or _FEATURES.fullmatch(features) is not None


def _has_features(expression: str, features: frozenset[str]) -> bool:
    if "|" in expression:
        return any(part in features for part in expression.split("|"))
    return all(part in features for part in expression.split("&") if part)


def _place(shape: Shape, rooms: Iterable[Room], partition: str) -> Fit:
    """Gather nodes until tasks, CPUs, GRES and node counts are met, the most useful ones first."""
    wanted = max(shape.tasks, shape.min_nodes)
    return _gather(shape, _most_useful_first(shape, rooms, partition, wanted), wanted)


def _most_useful_first(shape: Shape, rooms: Iterable[Room], partition: str, wanted: int) -> Iterator[tuple[Room, int]]:
    """The rooms that the job could use, each with the number of tasks it takes.

    Those than which none is better come as they are found, for most jobs need no others.
    """
    per_node = -(-wanted // max(shape.min_nodes, 1))
    best = (False, False, -per_node)
    others = []
    for room in rooms:
        if partition not in room.node.partitions or not _admits(shape, room):
            continue
        tasks = _tasks_on(shape, room)
        if tasks <= 0:
            continue
        rank = (
            bool(shape.required_nodes) and room.node.name not in shape.required_nodes,
            not all(room.gres.get(name) for name in shape.gres_per_job),
            -min(tasks, per_node),
        )
        if rank == best:
            yield room, tasks
        else:
            others.append((rank, room, tasks))
    for _, room, tasks in sorted(others, key=lambda each: each[0]):
        yield room, tasks


def _gather(shape: Shape, useful: Iterator[tuple[Room, int]], wanted: int) -> Fit:
    most = shape.max_nodes or _ENDLESS
    shares: dict[str, Share] = {}
    left_tasks, left_cpus, left_gres = wanted, shape.cpus, dict(shape.gres_per_job)
    while len(shares) < most and not (
        left_tasks <= 0
        and left_cpus <= 0
        and len(shares) >= shape.min_nodes
        and all(n <= 0 for n in left_gres.values())
        and shape.required_nodes <= shares.keys()
    ):
        room, tasks = next(useful, (None, 0))
        if room is None:
            break
        still_needed = max(shape.min_nodes - len(shares) - 1, 0)
        here = max(min(tasks, left_tasks - still_needed), 1)
        share = _share(shape, room, here, left_cpus, left_gres)
        shares[room.node.name] = share
        left_tasks -= here
        left_cpus -= share.cpus
        left_gres = {name: n - room.gres.get(name, 0) for name, n in left_gres.items()}
    lacks = [
        *([f"{shape.min_nodes - len(shares)} more nodes"] if len(shares) < shape.min_nodes else []),
        *([f"room for {left_tasks} more tasks"] if left_tasks > 0 else []),
        *([f"{left_cpus} more CPUs"] if left_cpus > 0 else []),
        *(f"{n} more {name}" for name, n in left_gres.items() if n > 0),
        *([f"nodes {','.join(sorted(without))}"] if (without := shape.required_nodes - shares.keys()) else []),
    ]
    if lacks:
        return Fit(Answer.NO, why="needs " + ", ".join(lacks))
    return Fit(Answer.YES, shares)


def _admits(shape: Shape, room: Room) -> bool:
    """Whether the node is one that the job could use at all, and has its per-node needs free."""
    node = room.node
    if node.name in shape.excluded_nodes or (shape.features and not _has_features(shape.features, node.features)):
        return False
    if shape.exclusive and not room.is_empty:
        return False
    if room.cpus < max(shape.min_cpus_per_node, 1) or room.memory < shape.memory_per_node:
        return False
    return all(room.gres.get(name, 0) >= count for name, count in shape.gres_per_node.items())


def _tasks_on(shape: Shape, room: Room) -> int:
    """How many of the job's tasks the node takes at most."""
    threads = max(room.node.threads_per_core, 1)
    cpus = room.cpus - room.cpus % threads
    if shape.memory_per_cpu:
        cpus = min(cpus, room.memory // shape.memory_per_cpu)
        cpus -= cpus % threads
    most = cpus // max(shape.cpus_per_task, 1)
    if shape.tasks_per_node:
        if most < min(shape.tasks_per_node, max(shape.tasks, 1)) and shape.min_nodes > 1:
            return 0
        most = min(most, shape.tasks_per_node)
    for name, count in shape.gres_per_task.items():
        most = min(most, room.gres.get(name, 0) // count if count else most)
    return most if cpus >= shape.min_cpus_per_node else 0


def _share(shape: Shape, room: Room, tasks: int, left_cpus: int, left_gres: Mapping[str, int]) -> Share:
    if shape.exclusive:
        return Share(room.cpus, room.memory, room.gres)
    threads = max(room.node.threads_per_core, 1)
    cpus = max(tasks * shape.cpus_per_task, shape.min_cpus_per_node)
    if shape.max_nodes == 1 or shape.tasks == 1:
        cpus = max(cpus, min(left_cpus, room.cpus))
    cpus = min(-(-cpus // threads) * threads, room.cpus)
    memory = shape.memory_per_cpu * cpus if shape.memory_per_cpu else shape.memory_per_node
    gres = dict(shape.gres_per_node)
    for name, count in shape.gres_per_task.items():
        gres[name] = gres.get(name, 0) + count * tasks
    for name, count in left_gres.items():
        gres[name] = gres.get(name, 0) + min(max(count, 0), room.gres.get(name, 0))
    return Share(cpus, memory, gres)
