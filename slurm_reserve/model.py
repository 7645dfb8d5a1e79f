"""The cluster as plain frozen types: what Slurm printed, understood. Pure; times are aware, memory in MB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple


class JobKey(NamedTuple):
    """One run of one job: after a crash of slurmctld ids may be used again, so an id alone is not enough."""

    id: str  # as Slurm's commands take it: "12", or "12_3" for an array's task
    submitted: datetime
    restarts: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What a job asks for, in the terms that decide where it fits."""

    min_nodes: int = 1
    max_nodes: int = 0  # 0: not limited beyond min_nodes
    may_spread: bool = False  # max_nodes may be squeue's estimate, where the user gave no maximum
    cpus: int = 1  # for the whole job
    tasks: int = 1
    cpus_per_task: int = 1
    tasks_per_node: int = 0  # 0: not given
    min_cpus_per_node: int = 1
    memory_per_node: int = 0  # MB; 0: not given
    memory_per_cpu: int = 0  # MB; 0: not given
    gres_per_node: Mapping[str, int] = field(default_factory=dict)
    gres_per_job: Mapping[str, int] = field(default_factory=dict)
    gres_per_task: Mapping[str, int] = field(default_factory=dict)
    features: str = ""  # Slurm's constraint expression
    exclusive: bool = False
    required_nodes: frozenset[str] = frozenset()
    excluded_nodes: frozenset[str] = frozenset()
    unproven: tuple[str, ...] = ()  # options that this package cannot prove anything about


@dataclass(frozen=True, slots=True)
class Job:
    """One job, array task, or the pending rest of a job array."""

    id: str  # "12", "12_3", or the array's id for the pending rest of an array
    user: str
    state: str  # Slurm's word: PENDING, RUNNING, COMPLETING, ...
    partitions: tuple[str, ...]
    submitted: datetime
    account: str = ""
    qos: str = ""
    reason: str = ""
    reservation: str = ""
    nodes: frozenset[str] = frozenset()  # allocated
    priority: int = 0
    restarts: int = 0
    time_limit: timedelta | None = None  # None: UNLIMITED
    started: datetime | None = None
    ends: datetime | None = None
    eligible: datetime | None = None
    shape: Shape = Shape()
    batch: bool = True  # False: salloc or srun, which cannot be requeued
    licenses: str = ""
    dependency: str = ""
    array_tasks: tuple[int, ...] = ()  # the pending tasks that this record stands for
    array_limit: int = 0  # at most so many tasks at once (%N); 0: no limit
    het_job: str = ""  # id of the leader when part of a heterogeneous job
    job_id: int = 0  # Slurm's own number (differs from id for array tasks)
    nice: int = 0  # read where the site goes by it
    comment: str = ""  # free text of the user's, cut short; read where the site goes by it

    @property
    def key(self) -> JobKey:
        """What identifies this run of the job."""
        return JobKey(self.id, self.submitted, self.restarts)

    @property
    def is_pending(self) -> bool:
        """Waits, and holds no node (a requeued job that is still COMPLETING holds one)."""
        return self.state == "PENDING" and not self.nodes

    @property
    def holds_nodes(self) -> bool:
        """Has nodes: running, suspended, configuring, completing, stopped or being signalled."""
        return bool(self.nodes)

    @property
    def is_completing(self) -> bool:
        """Over, but its node is not handed over yet."""
        return self.state == "COMPLETING"


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `alloc_*` count what jobs hold now."""

    name: str
    states: frozenset[str]  # base state and flags, without * and such: {"IDLE", "DRAIN"}
    cpus: int
    memory: int  # MB that may be allocated
    alloc_cpus: int = 0
    alloc_memory: int = 0
    gres: Mapping[str, int] = field(default_factory=dict)
    gres_used: Mapping[str, int] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    partitions: frozenset[str] = frozenset()
    threads_per_core: int = 1
    reason: str = ""

    UNUSABLE = frozenset(
        {
            "DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "UNKNOWN", "NOT_RESPONDING", "FUTURE", "ERROR",
            "POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN", "POWERING_UP", "POWER_UP", "REBOOT", "REBOOT_ISSUED",
            "REBOOT_REQUESTED", "INVALID_REG", "BLOCKED", "MAINT", "MAINTENANCE",
        }
    )  # fmt: skip

    @property
    def is_usable(self) -> bool:
        """Slurm would start a job there, were there room."""
        return not (self.states & self.UNUSABLE)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A Slurm reservation, ours or anybody's."""

    name: str
    nodes: frozenset[str]
    start: datetime
    end: datetime
    flags: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()  # as printed; "-root" is a denial
    accounts: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    allowed_partitions: frozenset[str] = frozenset()
    allowed_qos: frozenset[str] = frozenset()
    can_name_partitions: bool = False  # whether this release has them: it prints them of every reservation
    cores: int = 0  # as printed; 0: not known
    licenses: str = ""
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition, as far as lending depends on it."""

    name: str
    nodes: frozenset[str]
    tier: int = 1
    preempt_mode: str = "OFF"
    grace: timedelta = timedelta(0)
    max_time: timedelta | None = None
    default_time: timedelta | None = None  # of jobs that name no time limit; None: max_time
    exclusive: bool = False
    is_up: bool = True


@dataclass(frozen=True, slots=True)
class SlurmConfig:
    """Cluster-wide settings that decide what may be promised."""

    version: str = ""
    cluster: str = ""
    preempt_type: str = ""
    preempt_mode: str = ""
    kill_wait: timedelta = timedelta(seconds=30)
    select_type_parameters: str = ""
    scheduler_parameters: str = ""
    job_submit_plugins: str = ""
    accounting: bool = False
    requeue: bool = True  # JobRequeue
    booted: datetime | None = None
    slurm_user: str = ""
    # Every line as Slurm prints it, for what is only told of: no decision rests on it, so it need not be whole.
    printed: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Cluster:
    """One observation. It is whole or it does not exist: an unreadable cluster is never an empty one (B11)."""

    at: datetime
    nodes: Mapping[str, Node]
    reservations: Mapping[str, Reservation]
    jobs: tuple[Job, ...]
    partitions: Mapping[str, Partition]
    config: SlurmConfig = SlurmConfig()
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)  # members of the owners' groups
    comments: Mapping[str, str] = field(default_factory=dict)  # of the jobs that were told to go, by id; hostile
    lost: tuple[Job, ...] = ()  # victims of ours that slurmctld lost in a crash
    qos_preempts: Mapping[str, frozenset[str]] = field(default_factory=dict)  # QOS -> QOS that it may preempt
