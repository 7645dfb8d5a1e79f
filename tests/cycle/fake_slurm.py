"""A Slurm in memory that behaves, and refuses, like the real one where lending depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from slurm_reserve.actions import CreateReservation, UpdateReservation
from slurm_reserve.fit import Room, fit
from slurm_reserve.model import Cluster, Job, JobKey, Node, Reservation, SlurmConfig
from slurm_reserve.slurm.port import SlurmRefusedError, SlurmUnavailableError

from tests.builders import NOW, JobBuilder, cluster

READS = frozenset(
    {
        "observe",
        "read_job",
        "read_submission",
        "read_nodes",
        "read_comments",
        "read_own_signal",
        "is_requeued",
        "appends_output",
    }
)


class FakeSlurm:
    """Keeps the contract of :class:`slurm_reserve.slurm.port.Slurm`. Nothing happens before :meth:`tick`."""

    def __init__(self, of_nodes: Iterable[Node], *parts: Reservation | JobBuilder, partitions: bool = False) -> None:
        self.has_allowed_partitions = partitions  # as from 25.11 on
        self.nodes = list(of_nodes)
        self.now = NOW
        self.reservations = {part.name: part for part in parts if isinstance(part, Reservation)}
        self.jobs = {part.job.id: part.job for part in parts if isinstance(part, JobBuilder)}
        self.is_reachable = True
        self.calls: list[str] = []
        self.comments: dict[str, str] = {}
        self.own_signals: dict[str, tuple[str, bool]] = {}
        self.not_requeued: set[str] = set()
        self.cancelled: set[str] = set()  # these do not come back
        self.config: SlurmConfig | None = None  # None: one with a net
        self.stuck: set[str] = set()  # these do not leave their nodes
        self.over: dict[str, Job] = {}

    def submit(self, built: JobBuilder) -> str:
        """A user submits; nothing is known about why it waits until the next pass."""
        submitted = replace(built.job, submitted=self.now, eligible=self.now, reason="None")
        self.jobs[submitted.id] = submitted
        return submitted.id

    def finish(self, job_id: str) -> None:
        """A job ends by itself."""
        self.cancelled.add(job_id)
        self.jobs[job_id] = replace(self.jobs[job_id], state="COMPLETING")

    # Reading

    def observe(self, groups: Sequence[str] = (), words: bool = False) -> Cluster:
        self._reach("observe")
        jobs = [_built(job) for job in self.jobs.values() if job.state != "FAILED"]
        active = [replace(r, is_active=r.start <= self.now < r.end) for r in self.reservations.values()]
        return cluster(self.nodes, *active, *jobs, at=self.now, config=self.config)

    def read_job(self, job_id: str) -> Job | None:
        self._reach("read_job")
        return self.jobs.get(job_id) or self.over.get(job_id)

    def read_nodes(self, names: Sequence[str]) -> tuple[dict[str, Reservation], dict[str, Node]]:
        self._reach("read_nodes")
        seen = self.observe()
        return dict(seen.reservations), {name: seen.nodes[name] for name in names}

    def read_comments(self, job_ids: Sequence[str]) -> dict[str, str]:
        self._reach("read_comments")
        return {job_id: self.comments.get(job_id, "") for job_id in job_ids if job_id in self.jobs}

    def read_own_signal(self, job_id: str) -> tuple[str, bool] | None:
        self._reach("read_own_signal")
        return self.own_signals.get(job_id)

    def appends_output(self, job_id: str) -> bool:
        self._reach("appends_output")
        return True

    def is_requeued(self, job_id: str) -> bool:
        self._reach("is_requeued")
        return job_id not in self.not_requeued

    def read_submission(
        self, users: Sequence[str], names: Sequence[str]
    ) -> tuple[tuple[Job, ...], dict[str, Reservation], dict[str, Node]]:
        self._reach("read_submission")
        seen = self.observe()
        mine = tuple(job for job in self.jobs.values() if job.user in users)
        return mine, dict(seen.reservations), {name: seen.nodes[name] for name in names}

    def spent(self) -> float | None:
        return None

    # Changing

    def create_reservation(self, what: CreateReservation) -> None:
        self._reach(f"create {what.name}")
        if what.name in self.reservations:
            raise SlurmRefusedError("Duplicate reservation name specified")
        self._nodes(what.nodes)
        flags = what.flags | {"SPEC_NODES"}
        self.reservations[what.name] = Reservation(
            what.name, what.nodes, what.start or self.now, what.end, flags, what.users, what.accounts,
            allowed_partitions=what.allowed_partitions if self.has_allowed_partitions else frozenset(),
            allowed_qos=what.allowed_qos if self.has_allowed_partitions else frozenset(),
            can_name_partitions=self.has_allowed_partitions,
        )  # fmt: skip

    def update_reservation(self, what: UpdateReservation) -> None:
        self._reach(f"update {what.name}")
        if replace(what, corrections=()) == UpdateReservation(what.name, what.reason):
            raise ValueError(f"nothing to change about reservation {what.name}")
        old = self._reservation(what.name)
        if what.nodes is not None:
            self._nodes(what.nodes)
        self.reservations[what.name] = replace(
            old,
            nodes=what.nodes or old.nodes,
            end=what.end or old.end,
            flags=(old.flags | what.add_flags) - what.drop_flags,
            users=old.users if what.users is None else what.users,
        )

    def delete_reservation(self, name: str) -> None:
        self._reach(f"delete {name}")
        self._reservation(name)
        if any(job.reservation == name for job in self.jobs.values()):
            raise SlurmRefusedError("Requested reservation is in use")
        del self.reservations[name]

    def set_job_reservation(self, job: JobKey, reservation: str) -> None:
        self._reach(f"attach {job.id} {reservation}" if reservation else f"detach {job.id}")
        known = self._job(job)
        if reservation:
            wanted = self._reservation(reservation)
            if wanted.users and known.user not in wanted.users:
                raise SlurmRefusedError("Access denied to requested reservation")
        self.jobs[job.id] = replace(known, reservation=reservation)

    def set_job_start(self, job: JobKey, at: str) -> None:
        self._reach(f"start {job.id} {at}")
        known = self._job(job)
        if not known.is_pending:
            raise SlurmRefusedError("Job is no longer pending execution")
        start = self.now if at == "now" else datetime.fromisoformat(at).replace(tzinfo=UTC)
        self.jobs[job.id] = replace(known, eligible=start, reason=known.reason if known.priority == 0 else "None")

    def set_job_comment(self, job: JobKey, comment: str) -> None:
        self._reach(f"comment {job.id}")
        self._job(job)
        self.comments[job.id] = comment

    def hold_job(self, job: JobKey) -> None:
        self._reach(f"hold {job.id}")
        known = self._job(job)
        self.jobs[job.id] = replace(known, priority=0, reason="JobHeldUser")

    def signal_job(self, job: JobKey, signal: str, batch_only: bool = False) -> None:
        self._reach(f"signal {job.id} {signal}")
        if not self._job(job).holds_nodes:
            raise SlurmRefusedError("Job is in transitional state")

    def requeue_job(self, job: JobKey) -> None:
        self._reach(f"requeue {job.id}")
        if job.id in self.over:
            return
        known = self._job(job)
        if known.state == "PENDING":
            return
        if not known.batch:
            raise SlurmRefusedError("Only batch jobs are accepted or processed")
        if job.id in self.not_requeued:
            raise SlurmRefusedError("Requested operation is presently disabled")
        if known.state == "RUNNING":
            self.jobs[job.id] = replace(known, state="COMPLETING", restarts=known.restarts + 1)

    def restore_job(self, job: JobKey) -> None:
        self._reach(f"restore {job.id}")
        known = self._job(job)
        waits = {"eligible": self.now + timedelta(seconds=120), "reason": "BeginTime", "restarts": known.restarts + 1}
        self.jobs[job.id] = replace(known, state="PENDING", nodes=frozenset(), submitted=self.now, **waits)

    def crash_forgetting(self, job_id: str) -> None:
        """Slurmctld died within seconds of a requeue: it takes the job for running, finds no process, and ends it."""
        known = self.jobs[job_id]
        over = {"state": "FAILED", "reason": "JobLaunchFailure", "nodes": frozenset()}
        self.jobs[job_id] = replace(known, restarts=known.restarts - 1, **over)

    def cancel_job(self, job: JobKey) -> None:
        self._reach(f"cancel {job.id}")
        if job.id in self.over:
            return
        known = self._job(job)
        self.cancelled.add(job.id)
        if known.is_pending:
            self._end(known)
        else:
            self.jobs[job.id] = replace(known, state="COMPLETING")

    # What slurmctld does by itself

    def tick(self, seconds: float = 1) -> None:
        """Time passes: completing jobs leave their nodes, then a scheduling pass."""
        self.now += timedelta(seconds=seconds)
        for job in list(self.jobs.values()):
            if job.state == "COMPLETING" and job.id not in self.stuck:
                self._leave(job)
            elif job.state == "COMPLETING" and job.restarts:  # slurmctld moves the start of a requeued job along
                self.jobs[job.id] = replace(job, started=self.now)
        order = sorted(self.jobs.values(), key=lambda j: (not j.reservation, "main" not in j.partitions, -j.priority))
        for job in order:
            if job.state == "PENDING" and job.priority and (job.eligible or self.now) <= self.now:
                self._try_to_start(job)

    def _leave(self, job: Job) -> None:
        if job.id in self.cancelled or not job.batch:
            self._end(job)
            return
        later = self.now + timedelta(seconds=120)
        drawn = job.reservation in self.reservations and "MAGNETIC" in self.reservations[job.reservation].flags
        self.jobs[job.id] = replace(
            job,
            state="PENDING",
            reservation="" if drawn else job.reservation,
            nodes=frozenset(),
            reason="BeginTime",
            submitted=self.now,
            eligible=later,
            started=None,
        )

    def _end(self, job: Job) -> None:
        """It is over, and known for some time."""
        del self.jobs[job.id]
        self.over[job.id] = replace(job, state="CANCELLED", nodes=frozenset())

    def _try_to_start(self, job: Job) -> None:
        """Where it is to run; one that names no reservation also in those that draw it in."""
        if self._starts(job) or job.reservation:
            return
        for each in self.reservations.values():
            is_let_in = not each.users or job.user in each.users
            is_let_in = is_let_in and (not each.allowed_partitions or each.allowed_partitions >= set(job.partitions))
            is_let_in = is_let_in and (not each.allowed_qos or job.qos in each.allowed_qos)
            if "MAGNETIC" in each.flags and is_let_in and self._starts(replace(job, reservation=each.name)):
                return

    def _starts(self, job: Job) -> bool:
        seen = cluster(self.nodes, *(_built(j) for j in self.jobs.values()))
        busy = {name for j in self.jobs.values() if j.state == "COMPLETING" for name in j.nodes}
        mine = self.reservations.get(job.reservation)
        reserved = frozenset().union(*(r.nodes for r in self.reservations.values()))
        open_to_it = mine.nodes if mine else frozenset(seen.nodes) - reserved
        rooms = [Room.left(node) for name, node in seen.nodes.items() if name in open_to_it - busy and node.is_usable]
        placed = fit(job, rooms)
        if placed:
            self.jobs[job.id] = replace(job, state="RUNNING", nodes=placed.nodes, started=self.now, reason="None")
        else:
            self.jobs[job.id] = replace(self.jobs[job.id], reason="Resources")
        return bool(placed)

    def _reach(self, call: str) -> None:
        if not self.is_reachable:
            raise SlurmUnavailableError("Unable to contact slurm controller (connect failure)")
        if call not in READS:
            self.calls.append(call)

    def _job(self, key: JobKey) -> Job:
        if key.id not in self.jobs:
            raise SlurmRefusedError("Invalid job id specified")
        return self.jobs[key.id]

    def _nodes(self, names: frozenset[str]) -> None:
        if not names:
            raise ValueError("a reservation needs nodes: given none, Slurm would choose some of its own")
        if names - {node.name for node in self.nodes}:
            raise SlurmRefusedError("Invalid node name specified")

    def _reservation(self, name: str) -> Reservation:
        if name not in self.reservations:
            raise SlurmRefusedError("Requested reservation is invalid")
        return self.reservations[name]


def _built(job: Job) -> JobBuilder:
    built = JobBuilder(job.id)
    built.job = job
    return built
