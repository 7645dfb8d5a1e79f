"""Does what a plan says, through the port, in order; the only place that changes Slurm.

Slurm's answers are not final: what was issued is remembered in the ledger, and the next observation tells whether it
has happened. What is about to be signalled or evicted is read again by itself just before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from slurm_reserve import victims, words
from slurm_reserve.actions import (
    Action,
    AttachJob,
    CreateReservation,
    DeleteReservation,
    DetachJob,
    EndWait,
    EvictJob,
    ExpireJob,
    Group,
    HoldJob,
    LetStay,
    NoteJob,
    NotifyJob,
    RequeueJob,
    RestoreJob,
    UpdateReservation,
)
from slurm_reserve.ledger import Ledger
from slurm_reserve.memory import Evicted
from slurm_reserve.model import Job, JobKey
from slurm_reserve.site import LEND_SUFFIX
from slurm_reserve.slurm.port import Slurm, SlurmRefusedError, SlurmUnreadableError

Clock = Callable[[], datetime]

# What Slurm says about a job that it does not know, or that is over: then there is nothing left to do for it.
_GONE = ("Invalid job id", "already finished", "already completing", "Job/step already", "is no longer pending")


class Status(StrEnum):
    """What came of an action."""

    DONE = "done"
    GONE = "no longer there"
    REFUSED = "refused"
    LEFT_OUT = "not tried"
    UNFIT = "not lent to"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An action and what came of it."""

    action: Action
    status: Status
    text: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Executor:
    """Carries out groups of actions; `is_borrower` is asked again about each victim."""

    slurm: Slurm
    ledger: Ledger
    clock: Clock
    is_borrower: Callable[[Job], bool]

    def run(self, group: Group) -> Iterator[Outcome]:
        """Do a group in order, up to its first refusal; gives each outcome at once, so that none is lost.

        Raises SlurmUnavailableError when Slurm cannot be reached.
        """
        stopped = False
        for action in group.actions:
            outcome = (
                Outcome(action, Status.LEFT_OUT, "an earlier step was refused") if stopped else self._timed(action)
            )
            stopped = stopped or outcome.status is Status.REFUSED
            yield outcome

    def _timed(self, action: Action) -> Outcome:
        begun = self.clock()
        try:
            status = self._do(action)
            text = ""
        except ValueError as error:  # a name that no command line can carry: refused before anything ran
            status, text = Status.REFUSED, str(error)
        except SlurmRefusedError as error:
            gone = any(words in str(error) for words in _GONE) and not isinstance(action, CreateReservation)
            status, text = (Status.GONE if gone else Status.REFUSED), str(error)
        return Outcome(action, status, text, (self.clock() - begun).total_seconds())

    def _do(self, action: Action) -> Status:
        match action:
            case CreateReservation():
                self._create(action)
            case UpdateReservation():
                self.slurm.update_reservation(action)
                self._note_corrections(action)
            case DeleteReservation():
                self.slurm.delete_reservation(action.name)
                self.ledger.drop("made", action.name)
            case AttachJob():
                return self._attach(action)
            case DetachJob():
                self._detach(action)
            case NotifyJob():
                return self._notify(action)
            case EvictJob():
                return self._evict(action)
            case RequeueJob():
                return self._send_back(action)
            case ExpireJob():
                return self._expire(action)
            case _:
                self._afterwards(action)
        return Status.DONE

    def _attach(self, action: AttachJob) -> Status:
        """Whom an eviction would cost too much is lent to only as the site allows; Slurm says it of one at a time."""
        if action.is_requeue_needed and not self.slurm.is_requeued(action.job.id):
            self.ledger.put("unfit", action.job, "it would be lost, for it is not to be requeued (--no-requeue)")
            return Status.UNFIT
        if action.is_append_needed and not self.slurm.appends_output(action.job.id):
            self.ledger.put("unfit", action.job, "it would overwrite its output: no --open-mode=append in its script")
            return Status.UNFIT
        sent = {"reservation": action.reservation, "at": self.clock(), "is_drawn": action.is_drawn}
        self.ledger.put("attached", action.job, sent | {"bid": str(action.bid)})
        if not action.is_drawn:
            self.slurm.set_job_reservation(action.job, action.reservation)
        return Status.DONE

    def _afterwards(self, action: LetStay | EndWait | HoldJob | NoteJob | RestoreJob) -> None:
        """For those that may stay, or have gone."""
        match action:
            case LetStay():
                self.slurm.signal_job(action.job, action.signal)
            case EndWait():
                self.slurm.set_job_start(action.job, _start(action))
                self._mark_eviction(action.job, lambda evicted: replace(evicted, is_back=True, wait=action.wait))
            case HoldJob():
                self.slurm.hold_job(action.job)
                self.slurm.set_job_start(action.job, "now")  # once it is released nothing else keeps it
                self._mark_eviction(action.job, lambda evicted: replace(evicted, is_back=True))
            case RestoreJob():
                self.slurm.restore_job(action.job)
            case NoteJob():
                self._note(action.job, action.text)
                self._mark_eviction(action.job, lambda evicted: replace(evicted, is_noted=True))

    def _create(self, action: CreateReservation) -> None:
        """The record comes first (B2); one that is refused leaves none that was not there."""
        was_made = action.name in self.ledger.memory().made
        self.ledger.put("made", action.name, self.clock())
        try:
            self.slurm.create_reservation(action)
        except (SlurmRefusedError, ValueError):
            if not was_made:
                self.ledger.drop("made", action.name)
            raise
        self._note_corrections(action)

    def _note_corrections(self, action: CreateReservation | UpdateReservation) -> None:
        for each in action.corrections:
            fact = {"wanted": each.wanted, "count": each.count, "at": self.clock()}
            self.ledger.put("corrected", f"{action.name} {each.aspect}", fact)

    def _detach(self, action: DetachJob) -> None:
        if action.retry_at is not None:
            self.ledger.put("not_before", action.job, action.retry_at)
        self.slurm.set_job_reservation(action.job, "")
        self.ledger.drop("attached", action.job)

    def _notify(self, action: NotifyJob) -> Status:
        job = self._still(action)
        if job is None:
            return Status.GONE
        own = self.slurm.read_own_signal(action.job.id) if action.is_own_heeded and job.batch else None
        signal, batch_only = own or (action.signal, False)
        notice = {
            "at": self.clock(), "deadline": action.deadline, "cause": action.cause, "reservation": action.reservation,
        }  # fmt: skip
        try:
            self.slurm.signal_job(action.job, signal, batch_only)
        except SlurmRefusedError:  # a job that cannot be told goes all the same: its owner is not to wait for ever
            self.ledger.put("notices", action.job, notice)
            raise
        self.ledger.put("notices", action.job, notice)
        return Status.DONE

    def _evict(self, action: EvictJob) -> Status:
        """The issue is noted first: a crash in between is then taken for one that has not shown, and issued again."""
        job = self._still(action)
        if job is None:
            return Status.GONE
        evicted = Evicted(self.clock(), action.cause, action.reservation, words.nodes(job.nodes))
        self.ledger.put_evicted(action.job, evicted)
        self.ledger.put("eviction_times", action.job, self.clock())
        if not (action.requeue and self._requeue(action)):
            self._note(action.job, f"cancelled {evicted.at:%Y-%m-%dT%H:%M:%S%z} for {action.cause}: {action.reason}")
            self.slurm.cancel_job(action.job)
        elif job.reservation.endswith(LEND_SUFFIX):
            self.slurm.set_job_reservation(action.job, "")
            self.ledger.drop("attached", action.job)
        self.ledger.drop("notices", action.job)
        self._note_pain(job)  # last: the owner waits for all that is before it
        return Status.DONE

    def _note_pain(self, job: Job) -> None:
        """What it costs its user goes to what earlier evictions did."""
        now, memory = self.clock(), self.ledger.memory()
        lost = victims.Look(now).lost(job)
        before = victims.pain(memory.pains.get(job.user), now)
        self.ledger.put("pains", job.user, {"lost": before + lost, "at": now})

    def _requeue(self, action: EvictJob) -> bool:
        """False when the job runs on and cannot be requeued (salloc, srun, --no-requeue)."""
        try:
            self.slurm.requeue_job(action.job)
        except SlurmRefusedError:
            if self._still(action) is None:
                raise
            return False
        return True

    def _still(self, action: NotifyJob | EvictJob) -> Job | None:
        """The victim, read afresh, if it is still this run, on these nodes, and may still be evicted."""
        job = self.slurm.read_job(action.job.id)
        if job is None or job.key != action.job or job.is_completing or not job.nodes & action.nodes:
            return None
        intruder = isinstance(action, EvictJob) and action.is_intruder
        return job if intruder or self.is_borrower(job) else None

    def _send_back(self, action: RequeueJob) -> Status:
        """An owner's job whose reservation ends; one that cannot be requeued is left for Slurm to end."""
        job = self.slurm.read_job(action.job.id)
        if job is None or job.key != action.job or job.is_completing or not job.nodes & action.nodes:
            return Status.GONE
        self.slurm.requeue_job(action.job)
        self.slurm.set_job_reservation(action.job, "")
        self.ledger.drop("attached", action.job)
        return Status.DONE

    def _expire(self, action: ExpireJob) -> Status:
        """Its user is told first, as far as Slurm lets us; then it ends, and is never requeued."""
        job = self.slurm.read_job(action.job.id)
        if job is None or job.key != action.job or job.is_completing or not self.is_borrower(job):
            return Status.GONE
        self.ledger.put_evicted(action.job, Evicted(self.clock(), "its time is over"))
        self._note(action.job, f"ended for good, for {action.reason}")
        self.slurm.cancel_job(action.job)
        return Status.DONE

    def _note(self, job: JobKey, text: str) -> None:
        """Say it in the job's comment; where that cannot be done, eviction and return go on without.

        A comment that could not be read is not written: what others said in it would be lost.
        """
        try:
            known = self.slurm.read_comments([job.id]).get(job.id)
            if known is not None:
                self.slurm.set_job_comment(job, words.with_note(known, text))
        except (SlurmRefusedError, SlurmUnreadableError, ValueError):
            return

    def _mark_eviction(self, job: JobKey, mark: Callable[[Evicted], Evicted]) -> None:
        """Of the run before this one."""
        for key, evicted in self.ledger.memory().evicted.items():
            if key.id == job.id and key.restarts == job.restarts - 1:
                self.ledger.put_evicted(key, mark(evicted))


def _start(action: EndWait) -> str:
    return "now" if action.at is None else action.at.strftime("%Y-%m-%dT%H:%M:%S")
