"""The configuration as plain frozen types. Pure: read by :mod:`slurm_reserve.config`, used by every decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

LEND_SUFFIX = ".lend"


class Find(StrEnum):
    """How an owner's job gets to its reservation (besides naming it)."""

    ATTACH = "attach"  # the daemon attaches the owner's pending jobs that the reservation can run
    MAGNETIC = "magnetic"  # Slurm tries the owner's jobs in the reservation by itself
    NAME = "name"  # only jobs that name the reservation


class EvictBy(StrEnum):
    """Who evicts borrowers for an owner's pending job."""

    DAEMON = "daemon"
    SLURM = "slurm"


class EvictHow(StrEnum):
    """What becomes of an evicted borrower that could be requeued."""

    REQUEUE = "requeue"
    CANCEL = "cancel"


class Mode(StrEnum):
    """Whether the daemon lends or only says what it would lend."""

    ACTIVE = "active"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a reservation is for. Every list that is given must hold for a job, as in Slurm."""

    users: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """So many nodes of that kind (B36)."""

    node_count: int
    partition: str
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LendPolicy:
    """When idle nodes of a reservation are lent."""

    enabled: bool = True
    after_idle: timedelta = timedelta(0)
    keep_idle_nodes: int = 0
    max_time: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ReclaimPolicy:
    """How lent nodes are taken back."""

    notice: timedelta = timedelta(0)
    signal: str = "TERM"
    evict_by: EvictBy = EvictBy.DAEMON
    evict: EvictHow = EvictHow.REQUEUE
    back_off: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class ReservationSpec:
    """One declared reservation."""

    name: str
    owner: Owner
    nodes: frozenset[str] | NodeRequest
    start: datetime | None = None
    end: datetime | None = None
    find: Find = Find.ATTACH
    lend: LendPolicy = LendPolicy()
    reclaim: ReclaimPolicy = ReclaimPolicy()
    origin: str = ""  # file and line it was declared at, for messages

    @property
    def lend_name(self) -> str:
        """Name of the lend reservation over the lent nodes."""
        return self.name + LEND_SUFFIX


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a reservation has that does not say otherwise."""

    find: Find = Find.ATTACH
    lend: LendPolicy = LendPolicy()
    reclaim: ReclaimPolicy = ReclaimPolicy()


@dataclass(frozen=True, slots=True)
class Lending:
    """Which jobs are borrowers: those all of whose partitions, or whose QOS, are listed."""

    partitions: frozenset[str] = frozenset()
    qos: frozenset[str] = frozenset()
    max_evictions_per_hour: int = 1000  # the brake: with more, nothing is lent until an admin has looked


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Where the daemon keeps what it must remember, and how often it looks."""

    poll: timedelta = timedelta(seconds=5)
    state_dir: Path = Path("/var/lib/slurm-reserve")
    run_dir: Path = Path("/run/slurm-reserve")
    keep_journal: timedelta = timedelta(days=90)  # what is older is forgotten
    epilog_time: timedelta = timedelta(seconds=2)  # how long the site's epilog takes; part of the bound
    scheduling_pass: timedelta = timedelta(seconds=5)  # longest time between two scheduling passes
    fail_safe: bool = False  # the service gives loans back when the daemon dies, and restarts one that hangs


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """How Slurm's commands are run."""

    bin_dir: Path | None = None  # where squeue and scontrol are, when not on PATH
    conf: Path | None = None  # SLURM_CONF
    timeout: timedelta = timedelta(seconds=30)
    max_calls_per_second: float = 2.0  # in steady state; a burst may borrow from quiet times


@dataclass(frozen=True, slots=True)
class Site:
    """The whole configuration."""

    cluster: str
    lending: Lending
    reservations: tuple[ReservationSpec, ...] = ()
    mode: Mode = Mode.ACTIVE
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
    slurm: SlurmSettings = field(default_factory=SlurmSettings)
    defaults: Defaults = Defaults()  # those of the file, already in `reservations`
    path: Path | None = None  # the site file this was read from

    def reservation(self, name: str) -> ReservationSpec | None:
        """The declared reservation of that name, if there is one."""
        return next((spec for spec in self.reservations if spec.name == name), None)
