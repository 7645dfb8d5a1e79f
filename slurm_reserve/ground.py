"""One reservation while its nodes are being handed out: what is decided about owners' jobs, who has to go. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from slurm_reserve import demand
from slurm_reserve.fit import Fit, Room, Share, fit
from slurm_reserve.model import Job, JobKey, Reservation
from slurm_reserve.site import ReservationSpec
from slurm_reserve.view import View


class Verdict(StrEnum):
    """What is decided about an owner's job."""

    BLOCKED = "cannot start"
    TOO_LARGE = "larger than the reservation"
    ELSEWHERE = "can start elsewhere"
    STARTS = "starts on idle nodes"
    ARRIVING = "waits for nodes being freed"
    EVICT = "needs nodes back"
    AHEAD = "is expected soon"
    OVERDUE = "waits too long, all come back"
    QUEUED = "queued behind the owner's jobs"
    UNPROVEN = "cannot be proved to fit"


# With one of these the owner's job may start any moment: nothing new may get in its way.
CLOSING = frozenset({Verdict.STARTS, Verdict.ARRIVING, Verdict.EVICT, Verdict.OVERDUE, Verdict.UNPROVEN, Verdict.AHEAD})
# With one of these Slurm should start the job within a pass: when it does not, our proof was wrong.
TRUSTED = frozenset({Verdict.STARTS, Verdict.UNPROVEN})


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one owner's job, with its reason."""

    job: Job
    reservation: str
    verdict: Verdict
    why: str
    nodes: frozenset[str] = frozenset()
    names_it: bool = False
    is_ahead: bool = False  # the job may not start yet
    by_slurm: bool = False  # Slurm's own preemption is to evict for it


@dataclass(frozen=True, slots=True)
class Victim:
    """A borrower that has to go, for whom, and why."""

    job: Job
    reservation: str
    cause: str
    reason: str
    by_slurm: bool = False  # left to Slurm's own preemption
    outbid_by: JobKey | None = None  # a waiting borrower with a higher bid; None: it goes for an owner, or an order


@dataclass(slots=True)
class Ground:
    """One reservation while its nodes are being handed out. Lives for one plan only."""

    view: View
    spec: ReservationSpec
    reservation: Reservation
    victims: dict[JobKey, Victim] = field(default_factory=dict)
    taken: dict[str, list[Share]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    recalled: tuple[demand.Recall, ...] = ()
    expected: dict[str, datetime] = field(default_factory=dict)  # when an owner's job is likely to want a node
    _borrowers: dict[JobKey, Job] | None = None

    @property
    def is_closing(self) -> bool:
        """Whether an owner's job could use a node of it now."""
        return any(decision.verdict in CLOSING for decision in self.decisions)

    @property
    def recalled_nodes(self) -> frozenset[str]:
        """Nodes that must not be lent, whoever waits."""
        return frozenset().union(*(recall.nodes for recall in self.recalled))

    def borrowers(self) -> Mapping[JobKey, Job]:
        """The borrowers that run on the reservation's nodes, however they got there."""
        if self._borrowers is None:
            view = self.view
            holders = (job for node in self.reservation.nodes for job in view.holders.get(node, ()))
            self._borrowers = {j.key: j for j in holders if view.is_borrower(j) and not view.is_going(j)}
        return self._borrowers

    def spared(self) -> dict[JobKey, Job]:
        """The borrowers that stay, as far as is decided yet."""
        return {key: job for key, job in self.borrowers().items() if key not in self.victims}

    def going(self) -> dict[JobKey, Job]:
        """Jobs that are as good as gone."""
        holders = (job for node in self.reservation.nodes for job in self.view.holders.get(node, ()))
        return {job.key: job for job in holders if self.view.is_going(job) or job.key in self.victims}

    def over(self, want: demand.Want) -> dict[JobKey, Job]:
        """The jobs that will have ended by the time a job is expected to start."""
        keys = want.start.over if want.start else frozenset()
        return {key: self.view.touched[key] for key in keys if key in self.view.touched}

    def rooms(self, gone: Mapping[JobKey, Job], only_clean: bool = False) -> list[Room]:
        """What is left on the usable nodes once `gone` have left and earmarked shares are taken."""
        found = []
        for node in self.view.usable(self.reservation.nodes):
            if only_clean and any(job.is_completing for job in self.view.holders.get(node.name, ())):
                continue
            room = self.view.room(node, gone)
            for share in self.taken.get(node.name, ()):
                room = room.minus(share)
            found.append(room)
        return found

    def fits(self, job: Job, rooms: Iterable[Room]) -> Fit:
        """Place an owner's job on rooms of this reservation; not where it would run into maintenance."""
        view = self.view
        return fit(job, view.in_time(job, rooms, view.maintenance_at), view.exclusive_partitions)

    def take(self, placed: Fit) -> None:
        """Earmark what a job will use."""
        for node, share in placed.shares.items():
            self.taken.setdefault(node, []).append(share)

    def add_victims(
        self, jobs: Iterable[Job], cause: str, reason: str, by_slurm: bool = False, outbid_by: JobKey | None = None
    ) -> None:
        """Note who has to go; the first cause stands."""
        for job in jobs:
            self.victims.setdefault(job.key, Victim(job, self.spec.name, cause, reason, by_slurm, outbid_by))
