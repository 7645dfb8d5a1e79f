"""What is remembered between two cycles, as plain data. Pure.

All of it is in the ledger on disk; losing it costs time (a loan's notice starts again, a requeued job waits Slurm's
two minutes), never a guarantee.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from slurm_reserve.model import JobKey


@dataclass(frozen=True, slots=True)
class Attached:
    """A job that we sent to a reservation."""

    reservation: str
    at: datetime
    is_drawn: bool = False  # left to Slurm: the reservation is MAGNETIC
    bid: Decimal | None = None  # of a borrower, then; None: not noted


@dataclass(frozen=True, slots=True)
class Notice:
    """A victim that has been told to go."""

    at: datetime
    deadline: datetime
    cause: str
    reservation: str = ""  # whose nodes it holds


@dataclass(frozen=True, slots=True)
class Evicted:
    """An eviction that was issued, or that a borrower which was told to go has forestalled."""

    at: datetime
    cause: str
    reservation: str = ""  # whose nodes it held
    nodes: str = ""  # for its user to read
    is_noted: bool = False  # in the job's own comment
    is_back: bool = False  # its wait was ended
    wait: str = ""  # which wait that was


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was said of a borrower when it was lent to."""

    reservation: str
    chance_of_loss: float
    has_run: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """How good forecasts have been: their number, how many borrowers were lost, and the sum of squared errors."""

    count: int = 0
    lost: int = 0
    squares: float = 0.0

    @property
    def brier(self) -> float:
        """The mean squared error: 0 for a prophet, 0.25 for a coin."""
        return self.squares / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Corrected:
    """One aspect of a reservation that somebody had changed by hand, and that was put right."""

    wanted: str  # what it was made to be
    count: int  # how often somebody's edit was undone; 0 when it was only brought up to what is declared
    at: datetime


@dataclass(frozen=True, slots=True)
class LendOrder:
    """A standing order about lending: on or off, until further notice or a time."""

    enabled: bool
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReclaimOrder:
    """Nodes that were ordered back; not lent again before `until`."""

    nodes: frozenset[str]  # empty: all of the reservation
    until: datetime
    by: str = ""


@dataclass(frozen=True, slots=True)
class Orders:
    """Standing orders given by hand; they persist until revoked."""

    paused: bool = False
    brake: str = ""  # why the brake went on; no lending until `resume`
    lend: Mapping[str, LendOrder] = field(default_factory=dict)
    reclaim: Mapping[str, ReclaimOrder] = field(default_factory=dict)  # "reservation", or "reservation n[1-2]"

    def reclaims(self, reservation: str, now: datetime) -> tuple[ReclaimOrder, ...]:
        """The orders for nodes of a reservation that still hold, each by itself."""
        mine = (order for key, order in self.reclaim.items() if key.partition(" ")[0] == reservation)
        return tuple(order for order in mine if now < order.until)


@dataclass(frozen=True, slots=True)
class Load:
    """What slurmctld has had of us, over the last minute that was measured; shown, never used to decide."""

    calls_per_second: float = 0.0
    limit: float = 0.0  # calls per second
    share_of_core: float = 0.0  # by sdiag(1), less what calls waited for locks
    interval: float = 0.0  # seconds between two looks at the cluster


Spells = tuple[int, ...]  # how often a node was idle for so long: counts, by :mod:`slurm_reserve.idleness`


@dataclass(frozen=True, slots=True)
class Tally:
    """How long a borrower's request has run, all its runs together; the tasks of an array are one request."""

    user: str  # whose it is: ids are used again
    total: timedelta = timedelta(0)  # of runs that are over
    since: datetime | None = None  # when what runs now began


@dataclass(frozen=True, slots=True)
class Pain:
    """What evictions have cost a user, the longer ago the less: CPU time, as it was at a time."""

    lost: timedelta
    at: datetime


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything that a cycle knows besides configuration and observation."""

    made: Mapping[str, datetime] = field(default_factory=dict)  # reservations of ours and when they were made
    attached: Mapping[JobKey, Attached] = field(default_factory=dict)
    notices: Mapping[JobKey, Notice] = field(default_factory=dict)
    evicted: Mapping[JobKey, Evicted] = field(default_factory=dict)
    waiting_since: Mapping[JobKey, datetime] = field(default_factory=dict)  # owner's jobs that want nodes
    idle_since: Mapping[str, datetime] = field(default_factory=dict)  # reserved nodes without an owner's job
    not_before: Mapping[JobKey, datetime] = field(default_factory=dict)  # jobs that did not start where sent
    unfit: Mapping[JobKey, str] = field(default_factory=dict)  # borrowers that are not lent to -> why
    eviction_times: tuple[datetime, ...] = ()  # of the last hour, for the brake
    corrected: Mapping[str, Corrected] = field(default_factory=dict)  # "reservation aspect" -> what was put right
    tallies: Mapping[str, Tally] = field(default_factory=dict)  # id of a borrower's request -> its run time
    pains: Mapping[str, Pain] = field(default_factory=dict)  # user -> what evictions have cost
    spells: Mapping[str, Spells] = field(default_factory=dict)  # reservation -> how long its nodes used to be idle
    forecasts: Mapping[JobKey, Forecast] = field(default_factory=dict)  # of borrowers that are still lent to
    scores: Mapping[str, Score] = field(default_factory=dict)  # reservation -> how good its forecasts were
    orders: Orders = Orders()
    load: Load = Load()
    looked: datetime | None = None  # when the cluster was last looked at, give or take a minute
    unseen_since: datetime | None = None  # that time, where it is so long ago that much may have happened unseen
    is_writable: bool = True  # False: the ledger cannot be written, so nothing new is lent
