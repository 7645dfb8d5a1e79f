"""What may be done to Slurm: plain data, each with its reason. Nothing else ever changes the cluster. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from slurm_reserve.model import JobKey


@dataclass(frozen=True, slots=True)
class Correction:
    """An aspect of a reservation that is put right, to be remembered: a second edit by hand is left."""

    aspect: str
    wanted: str
    count: int  # edits by hand put right so far


@dataclass(frozen=True, slots=True)
class CreateReservation:
    """Make a reservation on exactly these nodes. Flags always contain OVERLAP and IGNORE_JOBS, never FLEX."""

    name: str
    nodes: frozenset[str]
    start: datetime | None  # None: now
    end: datetime
    flags: frozenset[str]
    reason: str
    users: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    allowed_partitions: frozenset[str] = frozenset()  # sent where the release knows it, as the next
    allowed_qos: frozenset[str] = frozenset()
    corrections: tuple[Correction, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateReservation:
    """Change what is not None; nodes replace the old ones and are never empty."""

    name: str
    reason: str
    nodes: frozenset[str] | None = None
    start: datetime | None = None
    end: datetime | None = None
    add_flags: frozenset[str] = frozenset()
    drop_flags: frozenset[str] = frozenset()
    users: frozenset[str] | None = None
    accounts: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    corrections: tuple[Correction, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteReservation:
    """Delete a reservation of ours."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class AttachJob:
    """Send a pending job (or pending array task) to a reservation."""

    job: JobKey
    reservation: str
    reason: str
    is_requeue_needed: bool = False  # not where the job would be lost when it is evicted
    is_append_needed: bool = False  # nor where it would overwrite its output
    bid: Decimal = Decimal(0)  # what a borrower bids for it: of a node, for an hour
    is_drawn: bool = False  # by Slurm, for the reservation is MAGNETIC: nothing is sent, only remembered


@dataclass(frozen=True, slots=True)
class DetachJob:
    """Take a job off its reservation."""

    job: JobKey
    reservation: str
    reason: str
    retry_at: datetime | None = None  # not sent anywhere again before


@dataclass(frozen=True, slots=True)
class NotifyJob:
    """Signal a victim's steps and batch shell; it has until `deadline`."""

    job: JobKey
    signal: str
    deadline: datetime
    nodes: frozenset[str]
    cause: str  # the job or order that wants the nodes
    reason: str
    reservation: str = ""  # whose nodes it holds
    is_own_heeded: bool = False  # the signal that the job's script names goes before `signal`


@dataclass(frozen=True, slots=True)
class LetStay:
    """Tell a borrower that was told to go that it may stay."""

    job: JobKey
    signal: str
    reason: str


@dataclass(frozen=True, slots=True)
class NoteJob:
    """Say in a job's own comment, where its user sees it, what has become of it; what others wrote there is kept."""

    job: JobKey
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class HoldJob:
    """Keep a pending job from starting until its user releases it."""

    job: JobKey
    reason: str


@dataclass(frozen=True, slots=True)
class EvictJob:
    """Requeue (`incomplete`), or cancel what cannot be requeued; then detach, in the same breath."""

    job: JobKey
    reservation: str  # whose nodes it holds
    nodes: frozenset[str]
    cause: str
    reason: str
    requeue: bool = True
    is_intruder: bool = False  # no borrower, but in a lend reservation


@dataclass(frozen=True, slots=True)
class RequeueJob:
    """Send an owner's running job back to the queue, and take it off its reservation, which ends."""

    job: JobKey
    reservation: str
    nodes: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True)
class ExpireJob:
    """End a borrower for good, and write the reason into its record first."""

    job: JobKey
    reason: str


@dataclass(frozen=True, slots=True)
class EndWait:
    """Let a requeued victim start at `at` rather than after Slurm's two minutes."""

    job: JobKey
    at: datetime | None  # None: now
    reason: str
    wait: str = ""  # which wait is ended: when it was submitted, and until when it was to wait


@dataclass(frozen=True, slots=True)
class RestoreJob:
    """Put a victim back into the queue that slurmctld has lost in a crash and ended."""

    job: JobKey
    reason: str


Action = (
    CreateReservation
    | UpdateReservation
    | DeleteReservation
    | AttachJob
    | DetachJob
    | NotifyJob
    | LetStay
    | EvictJob
    | RequeueJob
    | ExpireJob
    | EndWait
    | NoteJob
    | HoldJob
    | RestoreJob
)


@dataclass(frozen=True, slots=True)
class Group:
    """Actions that belong together, in order: the first that fails stops the rest of its group."""

    name: str  # what it is for
    actions: tuple[Action, ...]
    is_loan: bool = False  # left out when decisions cannot be recorded
    takes_back_of: str = ""  # the reservation whose nodes it gives to their owner
