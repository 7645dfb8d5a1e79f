"""The contract between this package and Slurm. Every adapter, and the fake used in tests, keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from slurm_reserve.actions import CreateReservation, UpdateReservation
from slurm_reserve.errors import ReserveError
from slurm_reserve.model import Cluster, Job, JobKey, Node, Reservation


class SlurmError(ReserveError):
    """Slurm could not be used; nothing is known about what it holds."""


class SlurmUnavailableError(SlurmError):
    """No answer: slurmctld is down, hung, or cannot be reached within the time-out (B11)."""


class SlurmUnreadableError(SlurmError):
    """An answer came that cannot be understood. Unreadable is not empty."""


class SlurmRefusedError(SlurmError):
    """Slurm understood and said no; `code` is Slurm's own text."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code or message


class Slurm(Protocol):
    """What is asked of a cluster.

    Reading either returns the whole truth of one moment or raises SlurmUnavailableError or SlurmUnreadableError.
    Changing returns when slurmctld has answered; a return means "accepted", not "has happened": read again.
    Changing raises SlurmRefusedError when slurmctld said no, SlurmUnavailableError when it cannot be known.
    """

    def observe(self, groups: Sequence[str] = (), words: bool = False) -> Cluster:
        """Read reservations, nodes, partitions and every job that is not over; `groups` are resolved to members.

        With `words`, nice and comment of jobs as well, by this and by every later reading.
        """
        ...

    def read_job(self, job_id: str) -> Job | None:
        """Read one job, fresh; None when Slurm no longer knows it."""
        ...

    def read_nodes(self, names: Sequence[str]) -> tuple[dict[str, Reservation], dict[str, Node]]:
        """Read every reservation, and these nodes, fresh."""
        ...

    def read_comments(self, job_ids: Sequence[str]) -> dict[str, str]:
        """The comments of these jobs, by id; anybody's free text. Jobs that are not known are left out."""
        ...

    def read_own_signal(self, job_id: str) -> tuple[str, bool] | None:
        """What the job's script names as `--signal`, and whether the batch shell alone is to get it; None for none."""
        ...

    def appends_output(self, job_id: str) -> bool:
        """Whether the job's script says `--open-mode=append`; True when the script cannot be read."""
        ...

    def is_requeued(self, job_id: str) -> bool:
        """Whether a batch job would be requeued (Requeue=1); True when it cannot be read."""
        ...

    def read_submission(
        self, users: Sequence[str], names: Sequence[str]
    ) -> tuple[tuple[Job, ...], dict[str, Reservation], dict[str, Node]]:
        """Read the jobs of these users that are not over, every reservation, and these nodes; cheap whoever else waits.

        At once and in no order: what is given is to be held against each other.
        """
        ...

    def spent(self) -> float | None:
        """Seconds that slurmctld says it has spent on this user since it began to count; None where it does not say."""
        ...

    def create_reservation(self, what: CreateReservation) -> None:
        """Create; raises SlurmRefusedError when any of it is refused. Optional keys the release lacks are left out."""
        ...

    def update_reservation(self, what: UpdateReservation) -> None:
        """Change a reservation."""
        ...

    def delete_reservation(self, name: str) -> None:
        """Delete a reservation; refused while jobs refer to it."""
        ...

    def set_job_reservation(self, job: JobKey, reservation: str) -> None:
        """Attach a job to a reservation, or detach it with ""."""
        ...

    def set_job_start(self, job: JobKey, at: str) -> None:
        """Set a pending job's earliest start, in Slurm's words ("now", "now+30", an ISO time in UTC)."""
        ...

    def set_job_comment(self, job: JobKey, comment: str) -> None:
        """Replace a job's comment, in whatever state it is."""
        ...

    def hold_job(self, job: JobKey) -> None:
        """Hold a pending job so that its own user may release it."""
        ...

    def signal_job(self, job: JobKey, signal: str, batch_only: bool = False) -> None:
        """Signal the job's steps and its batch shell with its children; or the batch shell alone."""
        ...

    def requeue_job(self, job: JobKey) -> None:
        """`scontrol requeue incomplete`; raises SlurmRefusedError when the job cannot be requeued."""
        ...

    def restore_job(self, job: JobKey) -> None:
        """`scontrol requeue`: put a job that is over back into the queue."""
        ...

    def cancel_job(self, job: JobKey) -> None:
        """End a job for good."""
        ...
