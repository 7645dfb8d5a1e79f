"""The configuration as plain frozen types. Pure: read by :mod:`slurm_reserve.config`, used by every decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from slurm_reserve.windows import Window

LEND_SUFFIX = ".lend"
WAKE_NAME = "wake"  # of the file in run_dir by which the daemon is woken


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


class Victims(StrEnum):
    """Which borrowers go first; :mod:`slurm_reserve.victims` says what each means."""

    LEAST_LOSS = "least_loss"
    YOUNGEST = "youngest"
    LOWEST_BID = "lowest_bid"
    FEWEST_JOBS = "fewest_jobs"
    FEWEST_NODES = "fewest_nodes"
    SPREAD = "spread"


class BidBy(StrEnum):
    """Which field of a borrower is its bid."""

    NONE = "none"
    QOS = "qos"  # what the site says each QOS is worth
    NICE = "nice"  # the nicer, the less
    COMMENT = "comment"  # bid=0.08


class Magnetic(StrEnum):
    """Whether lend reservations draw borrowers in by themselves."""

    AUTO = "auto"  # where the release can keep all others out, and Slurm would choose as the site wants it
    NO = "no"


class Reluctance(StrEnum):
    """Borrowers that lose more than others when they are evicted."""

    INTERACTIVE = "interactive"  # salloc and srun: they cannot be requeued
    NO_REQUEUE = "no_requeue"  # submitted with --no-requeue, or Requeue=0
    OVERWRITES = "overwrites"  # what it had written is gone when it starts again: no --open-mode=append in its script


class AfterMost(StrEnum):
    """What becomes of a borrower that has been evicted as often as the site allows."""

    HOLD = "hold"  # held until its user releases it
    PROTECT = "protect"  # it may run for a while before it is evicted again


class AtEnd(StrEnum):
    """What becomes of an owner's job that runs when the reservation, or its window, ends."""

    CANCEL = "cancel"  # Slurm ends it with the reservation
    REQUEUE = "requeue"  # back to the queue, in time
    KEEP = "keep"  # it runs on where it is, outside the reservation


class OwnerMay(StrEnum):
    """What owners may order by themselves."""

    LEND = "lend"
    RECLAIM = "reclaim"


OWNER_MAY = frozenset(OwnerMay)  # they are the owner's nodes


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
    max_nodes: int | None = None  # so many are lent at most
    last: bool = False  # lent only when no other reservation will do
    windows: tuple[Window, ...] = ()  # only in these; always when there are none
    look_ahead: timedelta = timedelta(minutes=30)  # how soon an owner's job must be expected to keep long borrowers out


@dataclass(frozen=True, slots=True)
class ReclaimPolicy:
    """How lent nodes are taken back."""

    notice: timedelta = timedelta(0)
    signal: str = "TERM"
    evict_by: EvictBy = EvictBy.DAEMON
    evict: EvictHow = EvictHow.REQUEUE
    victims: Victims = Victims.LEAST_LOSS
    back_off: timedelta = timedelta(0)  # doubled by each further eviction of the same job, up to:
    back_off_max: timedelta = timedelta(hours=1)
    extra_time: timedelta = timedelta(0)  # beyond the notice, for a job that asks for it
    min_run_time: timedelta = timedelta(0)  # a borrower is not evicted sooner after its start
    own_signal: bool = True  # a job's own --signal rather than `signal`, where its script names one
    go_on_signal: str = "CONT"  # to a borrower that was told to go and may stay; "" for none


@dataclass(frozen=True, slots=True)
class ReservationSpec:
    """One declared reservation."""

    name: str
    owner: Owner
    nodes: frozenset[str] | NodeRequest
    start: datetime | None = None
    end: datetime | None = None
    windows: tuple[Window, ...] = ()  # in force in these only; always when there are none
    at_end: AtEnd = AtEnd.CANCEL
    owner_may: frozenset[OwnerMay] = OWNER_MAY
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
    at_end: AtEnd = AtEnd.CANCEL
    owner_may: frozenset[OwnerMay] = OWNER_MAY


@dataclass(frozen=True, slots=True)
class Lending:
    """Which jobs are borrowers: those all of whose partitions, or whose QOS, are listed."""

    partitions: frozenset[str] = frozenset()
    qos: frozenset[str] = frozenset()
    magnetic: Magnetic = Magnetic.AUTO
    max_evictions_per_hour: int = 1000  # the brake: with more, nothing is lent until an admin has looked
    refuse: frozenset[Reluctance] = frozenset()  # borrowers that are not lent to
    max_evictions: int = 0  # of one job; 0: no limit
    after_max_evictions: AfterMost = AfterMost.HOLD
    protect_for: timedelta = timedelta(hours=1)
    forget_evictions_after: timedelta = timedelta(days=1)  # without another one
    bid: BidBy = BidBy.NONE
    bids: Mapping[str, Decimal] = field(default_factory=dict)  # QOS -> its bid; 0 for one that is not named
    max_bid: Decimal = Decimal(100)  # a higher bid counts as this
    credit: Decimal = Decimal(1)  # what an owner earns for a node lent for an hour, where there is no bid
    displace: bool = False  # whether a higher waiting bid puts a lower running one out
    max_nodes_per_user: int | None = None  # of others' reservations, at any time
    max_nodes_per_account: int | None = None
    max_run_time: timedelta | None = None  # of a borrower, all its runs together; then it is ended for good
    expires_in_comment: bool = False  # whether `expires=` and `run_time=` in a borrower's comment hold

    saved_in_comment: bool = False  # whether `saved=` in a borrower's comment counts as its last save

    @property
    def reads_words(self) -> bool:
        """Whether nice and comment of jobs matter, and so must be read."""
        return self.bid in (BidBy.NICE, BidBy.COMMENT) or self.expires_in_comment or self.saved_in_comment

    @property
    def ends_borrowers(self) -> bool:
        """Whether borrowers may run out of time for good, and so their run time is added up."""
        return self.max_run_time is not None or self.expires_in_comment


@dataclass(frozen=True, slots=True)
class Listen:
    """An address of this host, not a name: to look a name up takes time."""

    address: str
    port: int

    def __str__(self) -> str:
        """As it is written in the site file."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Where the daemon keeps what it must remember, and how often it looks."""

    poll: timedelta = timedelta(seconds=5)
    state_dir: Path = Path("/var/lib/slurm-reserve")
    run_dir: Path = Path("/run/slurm-reserve")
    keep_journal: timedelta = timedelta(days=90)  # what is older is forgotten
    epilog_time: timedelta = timedelta(seconds=2)  # how long the site's epilog takes; part of the bound
    scheduling_pass: timedelta = timedelta(seconds=5)  # longest time between two scheduling passes
    lease: timedelta | None = None  # where several hosts run a daemon: for how long the one that acts holds the lease
    metrics: Listen | None = None  # where Prometheus finds them
    hook: tuple[str, ...] = ()  # what is run when an admin should hear of something: an argument list
    hook_timeout: timedelta = timedelta(seconds=30)
    hook_interval: timedelta = timedelta(minutes=1)  # at most one event of a kind and reservation in it
    fail_safe: bool = False  # the service gives loans back when the daemon dies, and restarts one that hangs


class Backend(StrEnum):
    """What jobs, nodes and partitions are read through."""

    AUTO = "auto"  # what works on every release: the commands
    CLI = "cli"
    PYSLURM = "pyslurm"


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """How Slurm is talked to."""

    backend: Backend = Backend.AUTO
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
