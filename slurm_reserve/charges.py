"""What borrowed node time costs, and what its owners earn: the bid times the node time of each run. Pure.

A bid is for one node and one hour; node time is counted in the whole seconds that Slurm's accounting has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

HOUR = Decimal(3600)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a borrower on lent nodes, from start to end."""

    job: str
    user: str
    reservation: str  # whose nodes they were
    nodes: int
    start: datetime
    end: datetime
    bid: Decimal

    @property
    def node_seconds(self) -> int:
        """Node time, in whole seconds as Slurm counts."""
        return self.nodes * int((self.end - self.start).total_seconds())

    @property
    def charge(self) -> Decimal:
        """The bid times the node time."""
        return self.bid * self.node_seconds / HOUR


def by_user(runs: Iterable[Run]) -> dict[str, Decimal]:
    """What each user is charged."""
    return _summed((run.user, run) for run in runs)


def by_reservation(runs: Iterable[Run], share: Decimal = Decimal(1)) -> dict[str, Decimal]:
    """What each reservation's owner earns: that share of what was charged for its nodes."""
    return {name: charged * share for name, charged in _summed((run.reservation, run) for run in runs).items()}


def _summed(runs: Iterable[tuple[str, Run]]) -> dict[str, Decimal]:
    """Divided once, so that nothing is lost on the way."""
    found: dict[str, Decimal] = {}
    for name, run in runs:
        found[name] = found.get(name, Decimal(0)) + run.bid * run.node_seconds
    return {name: total / HOUR for name, total in found.items()}
