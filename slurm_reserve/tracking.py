"""From one observation to the next: which loans began and ended, which owners' jobs waited and started. Pure.

Nothing is decided by this. What it remembers is the journal's; a daemon that starts takes open loans up again from
there, and sees the rest anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from slurm_reserve.actions import AttachJob, DetachJob, EvictJob, LetStay, NotifyJob
from slurm_reserve.bound import bound
from slurm_reserve.execute import Outcome, Status
from slurm_reserve.facts import LoanFact, Use, UseFact, WaitFact, ended
from slurm_reserve.model import Job, Reservation
from slurm_reserve.plan import Plan
from slurm_reserve.reclaim import CLOSING, Verdict
from slurm_reserve.site import LEND_SUFFIX, BidBy, ReservationSpec
from slurm_reserve.view import View

_FOR = re.compile(r"job (\d+(?:_\d+)?) of ")
_TAKING = frozenset({Verdict.EVICT, Verdict.OVERDUE})


@dataclass(slots=True)
class Changes:
    """What is new, to be written down."""

    loans: list[LoanFact] = field(default_factory=list)
    waits: list[WaitFact] = field(default_factory=list)
    uses: list[UseFact] = field(default_factory=list)


class Tracker:
    """Keeps what is open; gives what changed."""

    def __init__(self, loans: Iterable[LoanFact] = ()) -> None:
        self.loans = {loan.job: loan for loan in loans}
        self._waits: dict[str, WaitFact] = {}
        self._victims: dict[str, set[str]] = {}  # owner's job -> borrowers that go for it
        self._running: frozenset[str] | None = None  # owners' jobs that were seen on their nodes
        self._uses: dict[tuple[str, str], Use] = {}

    def look(self, view: View, plan: Plan, outcomes: Sequence[Outcome], is_whole: bool = True) -> Changes:
        """What has changed since the last time, with what was just done."""
        changes = Changes()
        if is_whole:
            self._see_loans(view, changes)
            self._see_uses(view, changes)
        self._see_waits(view, plan)
        if is_whole:
            self._see_starts(view, changes)
        for outcome in outcomes:
            if outcome.status is Status.DONE:
                self._note(view, outcome, changes)
        return changes

    @property
    def waits(self) -> tuple[WaitFact, ...]:
        """Of owners' jobs that have not started."""
        return tuple(self._waits.values())

    @property
    def uses(self) -> Mapping[tuple[str, str], Use]:
        """What each node of each reservation was used for when last seen."""
        return dict(self._uses)

    # Loans

    def _see_loans(self, view: View, changes: Changes) -> None:
        present: dict[str, Job] = {}
        for spec, there in _ours(view):
            for node in there.nodes:
                for job in view.holders.get(node, ()):
                    if view.is_borrower(job):
                        present[job.id] = job
                        self._runs(view, spec, there, job, changes)
        waiting = {job.id: job for job in view.pending} if self.loans.keys() - present.keys() else {}
        for job_id, loan in list(self.loans.items()):
            if job_id not in present:
                self._is_gone(view, loan, waiting.get(job_id) or waiting.get(job_id.split("_")[0]), changes)

    def _runs(self, view: View, spec: ReservationSpec, there: Reservation, job: Job, changes: Changes) -> None:
        loan = self.loans.get(job.id)
        started = job.started if not job.is_completing else None  # Slurm moves it while a requeued job is on its way
        if loan is not None and loan.started is not None and started is not None and loan.started != started:
            self._end(loan, view.cluster.at, "ended between two looks", changes)
            loan = None
        if loan is None:
            loan = _loan(view, spec, job, view.cluster.at)
        if loan.started is None:
            loan = replace(loan, started=job.started or view.cluster.at, nodes=job.nodes & there.nodes)
        end = job.ends if job.is_completing and loan.ended is None else None
        if end is not None and (loan.started or end) <= end <= view.cluster.at:  # a later one is the time limit's
            loan = ended(loan, end, "ended by itself")
        if self.loans.get(job.id) != loan:
            self.loans[job.id] = loan
            changes.loans.append(loan)

    def _is_gone(self, view: View, loan: LoanFact, waiting: Job | None, changes: Changes) -> None:
        if loan.ended is not None:
            self.loans.pop(loan.job)
        elif loan.started is None and waiting is not None and waiting.reservation:
            return  # sent, and about to start
        elif loan.started is None and waiting is not None:
            self._end(loan, view.cluster.at, "did not start", changes)
        else:
            back = waiting is not None and waiting.restarts > loan.restarts
            cause = (
                "requeued, not by the daemon: Slurm's preemption, its user or an admin" if back else "ended by itself"
            )
            self._end(loan, view.cluster.at, cause, changes)

    def _end(self, loan: LoanFact, at: datetime, cause: str, changes: Changes) -> None:
        self.loans.pop(loan.job, None)
        changes.loans.append(ended(loan, at, cause))

    # What nodes are used for

    def _see_uses(self, view: View, changes: Changes) -> None:
        now = {(spec.name, node): _use(view, spec, node) for spec, there in _ours(view) for node in there.nodes}
        now |= {key: Use.GONE for key, use in self._uses.items() if key not in now and use is not Use.GONE}
        fresh: dict[tuple[str, Use], set[str]] = {}
        for (name, node), use in now.items():
            if self._uses.get((name, node)) is not use:
                fresh.setdefault((name, use), set()).add(node)
        self._uses = now
        changes.uses += [UseFact(view.cluster.at, name, frozenset(n), use) for (name, use), n in fresh.items()]

    # Owners' waits

    def _see_waits(self, view: View, plan: Plan) -> None:
        at = view.cluster.at
        for decision in plan.decisions:
            job = decision.job
            wait = self._waits.get(job.id)
            eligible = job.eligible or job.submitted
            if wait is None:
                known = (job.id, job.submitted, job.restarts, job.user)
                wait = WaitFact(*known, decision.reservation, eligible, wanted=eligible)
            if decision.verdict in CLOSING:
                wait = replace(wait, wanted=wait.wanted or at, seen=wait.seen or at, reservation=decision.reservation)
            elif not wait.needed:
                wait = replace(wait, wanted=None, seen=None)  # not its turn: the clock starts when it is
            if decision.verdict in _TAKING:
                wait = replace(wait, needed=True)
            self._waits[job.id] = wait

    def _see_starts(self, view: View, changes: Changes) -> None:
        at = view.cluster.at
        holders: dict[str, tuple[ReservationSpec, Job]] = {}
        for spec, there in _ours(view):
            for node in there.nodes:
                for job in view.holders.get(node, ()):
                    if view.is_owners(spec, job):
                        holders[job.id] = (spec, job)
        before, self._running = self._running, frozenset(holders)
        for job_id, (spec, job) in holders.items():
            wait = self._waits.pop(job_id, None)
            if wait is None:
                if before is None or job_id in before or job.eligible is None:
                    continue
                wait = WaitFact(job.id, job.submitted, job.restarts, job.user, spec.name, job.eligible)
            promised = bound(view.site, view.cluster.config, spec).total.total_seconds()
            changes.waits.append(replace(wait, started=job.started or at, bound=promised))
            self._victims.pop(job_id, None)
        if self._waits:
            self._see_cleaned(view)
            self._see_given_up(view, changes)

    def _see_cleaned(self, view: View) -> None:
        holding = {job.id for job in view.touched.values() if job.nodes}
        for job_id, victims in self._victims.items():
            wait = self._waits.get(job_id)
            if wait is not None and wait.evicted and wait.freed is None and not victims & holding:
                self._waits[job_id] = replace(wait, freed=view.cluster.at)

    def _see_given_up(self, view: View, changes: Changes) -> None:
        known = {job.id for job in view.cluster.jobs}
        elsewhere = {job.id for job in view.touched.values() if job.nodes}
        for job_id, wait in list(self._waits.items()):
            is_there = job_id in known or job_id.split("_")[0] in known
            if is_there and job_id not in elsewhere:
                continue
            del self._waits[job_id]
            self._victims.pop(job_id, None)
            spec = view.site.reservation(wait.reservation)
            if not is_there and wait.needed and spec is not None:
                promised = bound(view.site, view.cluster.config, spec).total.total_seconds()
                changes.waits.append(replace(wait, ended=view.cluster.at, bound=promised))

    # What was just done

    def _note(self, view: View, outcome: Outcome, changes: Changes) -> None:
        action = outcome.action
        match action:
            case AttachJob() if action.reservation.endswith(LEND_SUFFIX) and not action.is_drawn:
                spec = view.site.reservation(action.reservation.removesuffix(LEND_SUFFIX))
                job = _job(view, action.job.id)
                if spec is not None and job is not None and action.job.id not in self.loans:
                    loan = _loan(view, spec, replace(job, id=action.job.id), view.cluster.at)
                    self.loans[loan.job] = loan
                    changes.loans.append(loan)
            case DetachJob() if action.job.id in self.loans and self.loans[action.job.id].started is None:
                self._end(self.loans[action.job.id], view.cluster.at, f"not started: {action.reason}", changes)
            case NotifyJob():
                self._goes_for(action.job.id, action.cause, told=view.cluster.at)
                self._note_cause(action.job.id, f"told to go for {action.cause}", changes)
            case LetStay():
                self._note_cause(action.job.id, "", changes)
            case EvictJob():
                self._goes_for(action.job.id, action.cause, evicted=view.cluster.at)
                self._note_cause(action.job.id, f"evicted for {action.cause}", changes)

    def _note_cause(self, job_id: str, cause: str, changes: Changes) -> None:
        """Why a loan that goes on is about to end."""
        if (going := self.loans.get(job_id)) is not None:
            self.loans[job_id] = replace(going, cause=cause)
            changes.loans.append(self.loans[job_id])

    def _goes_for(self, borrower: str, cause: str, **at: datetime) -> None:
        found = _FOR.match(cause)
        wait = self._waits.get(found[1]) if found else None
        if wait is None or found is None:
            return
        self._victims.setdefault(wait.job, set()).add(borrower)
        told = wait.told or at.get("told")
        self._waits[wait.job] = replace(wait, told=told, evicted=at.get("evicted", wait.evicted))


def _ours(view: View) -> Iterator[tuple[ReservationSpec, Reservation]]:
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is not None and there.is_active:
            yield spec, there


def _use(view: View, spec: ReservationSpec, name: str) -> Use:
    node, holders = view.cluster.nodes.get(name), view.holders.get(name, ())
    if any(view.is_owners(spec, job) for job in holders):
        return Use.OWNER
    if holders:
        return Use.LENT if all(view.is_borrower(job) for job in holders) else Use.OTHERS
    return Use.IDLE if node is not None and node.is_usable else Use.DOWN


def _loan(view: View, spec: ReservationSpec, job: Job, at: datetime) -> LoanFact:
    lending = view.site.lending
    bid = "" if lending.bid is BidBy.NONE else str(view.bid(job))
    return LoanFact(
        job.id, job.submitted, job.restarts, job.user, spec.name, account=job.account, bid=bid, lent_at=at
    )  # fmt: skip


def _job(view: View, job_id: str) -> Job | None:
    ids = (job_id, job_id.split("_", maxsplit=1)[0])
    return next((job for job in view.cluster.jobs if job.id in ids), None)
