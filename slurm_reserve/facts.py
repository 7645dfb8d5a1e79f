"""What the journal keeps besides decisions, as plain data: loans, owners' waits, what nodes were used for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class Use(StrEnum):
    """What a reserved node is used for."""

    OWNER = "owner"
    LENT = "lent"
    IDLE = "idle"
    DOWN = "down"
    OTHERS = "others"  # ordinary jobs that were there before, or got there by themselves
    GONE = "gone"  # no longer a node of the reservation


@dataclass(frozen=True, slots=True)
class LoanFact:
    """One borrower on reserved nodes, from when it was sent there to its end."""

    job: str
    submitted: datetime
    restarts: int
    user: str
    reservation: str
    nodes: frozenset[str] = frozenset()
    account: str = ""
    bid: str = ""  # "": none
    lent_at: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    cause: str = ""  # of its end

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.ended is None

    @property
    def node_seconds(self) -> int:
        """Nodes times whole seconds from start to end; 0 while it has not ended, or where it never ran."""
        if self.started is None or self.ended is None:
            return 0
        return len(self.nodes) * max(int(self.ended.timestamp()) - int(self.started.timestamp()), 0)


@dataclass(frozen=True, slots=True)
class WaitFact:
    """One owner's job, from when it might have started to when it did; what was not seen is None."""

    job: str
    submitted: datetime
    restarts: int
    user: str
    reservation: str
    eligible: datetime
    bound: float = 0.0  # what was promised, seconds
    needed: bool = False  # whether lent nodes had to come back for it
    wanted: datetime | None = None  # when it was its turn: eligible, and not behind other jobs of its owner
    seen: datetime | None = None  # by the daemon, as wanting nodes
    told: datetime | None = None  # the first borrower got its notice
    evicted: datetime | None = None  # the last one was requeued or cancelled
    freed: datetime | None = None  # the nodes were clean
    started: datetime | None = None
    ended: datetime | None = None  # it was gone, and never started that we saw

    @property
    def seconds(self) -> float | None:
        """From its turn to its start, or to its end where it never started."""
        end, begin = self.started or self.ended, self.wanted or self.eligible
        return None if end is None else max((end - begin).total_seconds(), 0.0)

    @property
    def is_breach(self) -> bool:
        """Whether it took longer than was promised."""
        took = self.seconds
        return self.wanted is not None and took is not None and took > self.bound

    def parts(self) -> dict[str, float]:
        """How the wait is made up, in seconds: each step ends no sooner than the one before.

        kill is what Slurm takes from our word to the borrower's end, KillWait and epilog included, where the node was
        seen to be clean; start is what is left until the owner's job runs.
        """
        at, found = self.wanted or self.eligible, {}
        steps = (("detect", self.seen), ("notice", self.evicted), ("kill", self.freed), ("start", self.started))
        for name, end in steps:
            moment = max(end or at, at)
            if self.started is not None and self.started >= (self.wanted or self.eligible):
                moment = min(moment, self.started)
            found[name] = (moment - at).total_seconds()
            at = moment
        return found


@dataclass(frozen=True, slots=True)
class UseFact:
    """From when on some nodes of a reservation were used for something."""

    at: datetime
    reservation: str
    nodes: frozenset[str]
    use: Use


def ended(loan: LoanFact, at: datetime, cause: str) -> LoanFact:
    """The loan, over; the first cause that was noted stands."""
    return replace(loan, ended=max(at, loan.started or at), cause=loan.cause or cause)
