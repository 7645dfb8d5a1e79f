"""Which waiting borrower gets which room. Pure.

The owner's own borrowers choose first among the owner's nodes (B41); then everybody in turn: the higher bid, Slurm's
priority, the time of submission (B26). What is left over goes to those that can use more nodes than they must have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from slurm_reserve.caps import Caps
from slurm_reserve.fit import Kind, Rooms, kind
from slurm_reserve.lots import Lot
from slurm_reserve.model import Job
from slurm_reserve.view import View

# A cycle attaches at most so many jobs: each costs slurmctld one call, and the next cycle is near.
MOST_LOANS_PER_CYCLE = 50
ITS_TURN_COMES = "its turn comes: so many loans are made at once"

Like = tuple[Kind, timedelta | None, str, bool]


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
    unplaced: list[Job] = field(default_factory=list)  # the first for which there is no room, where bids displace


@dataclass(slots=True)
class Market:
    """Every lot, and what is free elsewhere. Borrowers that are alike get the same answer until something is taken."""

    view: View
    lots: list[Lot]
    lending: Lending
    outside: Rooms
    caps: Caps
    running: Mapping[str, int] = field(default_factory=dict)  # tasks of each array
    _served: dict[str, int] = field(default_factory=dict)  # job or array -> how much of it has found a place
    _answers: dict[Like, str] = field(default_factory=dict)

    def serve_owners(self, waiting: Iterable[Job]) -> None:
        """Give the owners' own borrowers what there is on their own nodes."""
        names = {lot.ground.spec.name for lot in self.lots}
        for job in self.view.from_owners(waiting) if names else ():
            own = frozenset(self.view.owned_by(job)) & names
            if own:
                self.serve(job, own)

    def serve(self, job: Job, only: frozenset[str] = frozenset()) -> None:
        """Find a job a place; of an array the pending tasks that its own limit still admits, until one finds none."""
        served = self._served.get(job.id, 0) if self._served else 0
        if job.array_tasks:
            self._served[job.id] = served + self._serve_tasks(job, served, only)
        elif not served and self._place(job, only) and only:
            self._served[job.id] = 1

    def serve_all(self, waiting: Sequence[Job]) -> None:
        """Serve them in their order; once as many loans are made as one cycle may, the rest waits for its turn."""
        for number, job in enumerate(waiting):
            if self._is_over():
                self._put_off(waiting[number:])
                break
            self.serve(job)

    def _put_off(self, waiting: Iterable[Job]) -> None:
        """As :meth:`serve` would, one by one: there may be a hundred thousand of them."""
        if self.view.site.lending.displace:
            for job in waiting:
                self.serve(job)
            return
        for job in waiting:
            if job.array_tasks:
                self.serve(job)
            elif job.id not in self._served:
                self.lending.refused[job.id] = ITS_TURN_COMES

    def _is_over(self) -> bool:
        return len(self.lending.loans) >= MOST_LOANS_PER_CYCLE

    def _serve_tasks(self, job: Job, served: int, only: frozenset[str]) -> int:
        """How many tasks more have a place now."""
        most = max(job.array_limit - self.running.get(job.id, 0), 0) if job.array_limit else len(job.array_tasks)
        for more, task in enumerate(job.array_tasks[served:most]):
            if not self._place(replace(job, id=f"{job.id}_{task}", array_tasks=()), only):
                return more
        return len(job.array_tasks[served:most])

    def widen(self) -> None:
        """Idle nodes that are left go to those who asked for a range of nodes."""
        lots = {lot.ground.spec.name: lot for lot in self.lots}
        for number, loan in enumerate(self.lending.loans):
            shape, lot = loan.job.shape, lots[loan.reservation]
            spare = 0 if shape.may_spread else shape.max_nodes - len(loan.nodes)
            more = lot.more_for(loan.job, spare) if spare > 0 else frozenset()
            if more and not self.caps.why_not(lot.ground, loan.job, more):
                self.caps.take(lot.ground, loan.job, more)
                lot.take_idle(more)
                self.lending.loans[number] = replace(loan, nodes=loan.nodes | more)

    def _place(self, job: Job, only: frozenset[str]) -> bool:
        """Find it a place, unless it has one elsewhere; False when there is none."""
        if self._is_over():
            if not only:
                self._refuse(job, ITS_TURN_COMES)
            return False
        is_young = not job.reservation and self.view.is_fresh(job)
        like = (kind(job), job.time_limit, job.reservation, is_young)
        why = "" if only else self._answers.get(like)
        if not why:
            if is_young and (free := self.outside.fit(job, self.view.exclusive_partitions)):
                self.outside.take(free)
                self.lending.refused[job.id] = "can start on free unreserved nodes"
                return True
            why = self._lend(job, like, only)
        if why and not only:
            self._refuse(job, why)
        return not why

    def _refuse(self, job: Job, why: str) -> None:
        """It has no place; where bids displace it may get one yet."""
        self.lending.refused[job.id] = why
        if self.view.site.lending.displace and len(self.lending.unplaced) < MOST_LOANS_PER_CYCLE:
            self.lending.unplaced.append(job)

    def _in_turn(self, job: Job) -> list[Lot]:
        """Lots in their order; but first those whose nodes will be idle just long enough for a short job (B33)."""
        if not self.view.memory.spells or not job.batch or job.time_limit is None:
            return self.lots
        return sorted(self.lots, key=lambda lot: (lot.ground.spec.lend.last, lot.spares(job)))

    def _lend(self, job: Job, like: Like, only: frozenset[str]) -> str:
        """Why no lot takes it; "" when one did. A cap is one's own, and so no answer for others that are alike."""
        why, is_for_all = "no reservation has nodes to lend", not only
        for lot in self._in_turn(job):
            spec = lot.ground.spec
            if (only and spec.name not in only) or job.reservation not in ("", spec.lend_name):
                continue
            placed = lot.fit(job)
            capped = self.caps.why_not(lot.ground, job, placed.nodes) if placed else ""
            if placed and not capped:
                lot.take(placed)
                self.caps.take(lot.ground, job, placed.nodes)
                nodes = ",".join(sorted(placed.nodes))
                self.lending.loans.append(Loan(job, spec.name, placed.nodes, f"{nodes} of {spec.name} idle"))
                self._answers.clear()
                return ""
            is_for_all = is_for_all and not capped
            why = f"{spec.name}: {capped or placed.why}"
        if is_for_all:
            self._answers[like] = why
        return why
