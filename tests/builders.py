"""Builders that read as sentences: `job("7").of("bob").borrower().on("n1")`, `cluster(nodes("n1", "n2"), ...)`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slurm_reserve.memory import Memory
from slurm_reserve.model import Cluster, Job, Node, Partition, Reservation, Shape, SlurmConfig
from slurm_reserve.site import (
    DaemonSettings,
    Lending,
    LendPolicy,
    Owner,
    ReclaimPolicy,
    ReservationSpec,
    Site,
)
from slurm_reserve.view import View

NOW = datetime(2030, 5, 6, 12, 0, 0, tzinfo=UTC)
YEAR = timedelta(days=365)


class JobBuilder:
    """Builds one job, ordinary and pending unless said otherwise."""

    def __init__(self, job_id: str) -> None:
        number = int(job_id.split("_", maxsplit=1)[0])
        self.job = Job(
            id=job_id, user="carol", state="PENDING", partitions=("main",), submitted=NOW - timedelta(minutes=5),
            eligible=NOW - timedelta(minutes=5), reason="Resources", priority=1000 - number, job_id=number,
            time_limit=timedelta(hours=1), shape=Shape(min_nodes=1, max_nodes=1),
        )  # fmt: skip

    def __repr__(self) -> str:
        of = self.job
        return f"<job {of.id} of {of.user}, {of.state}, {of.shape.min_nodes} nodes, in {of.reservation or 'none'}>"

    def but(self, **changes: Any) -> JobBuilder:
        other = JobBuilder(self.job.id)
        other.job = replace(self.job, **changes)
        return other

    def of(self, user: str) -> JobBuilder:
        return self.but(user=user)

    def borrower(self) -> JobBuilder:
        return self.but(partitions=("preempt",), user="bob" if self.job.user == "carol" else self.job.user)

    def on(self, *names: str, for_minutes: float = 10) -> JobBuilder:
        started = NOW - timedelta(minutes=for_minutes)
        return self.but(state="RUNNING", nodes=frozenset(names), started=started, reason="None")

    def completing(self) -> JobBuilder:
        return self.but(state="COMPLETING")

    def in_(self, reservation: str) -> JobBuilder:
        return self.but(reservation=reservation)

    def wanting(self, **shape: Any) -> JobBuilder:
        return self.but(shape=replace(self.job.shape, **shape))

    def whole_nodes(self, count: int) -> JobBuilder:
        return self.wanting(min_nodes=count, max_nodes=count, tasks=count, cpus=count, exclusive=True)

    def waiting_for(self, reason: str) -> JobBuilder:
        return self.but(reason=reason)

    def seconds_old(self, seconds: float) -> JobBuilder:
        at = NOW - timedelta(seconds=seconds)
        return self.but(submitted=at, eligible=at)


def job(job_id: str) -> JobBuilder:
    return JobBuilder(job_id)


def nodes(*names: str, **changes: Any) -> list[Node]:
    both = frozenset({"main", "preempt"})
    return [
        Node(name, frozenset({"IDLE"}), cpus=4, memory=4000, partitions=both, **changes)
        for name in names
    ]  # fmt: skip


def reservation(name: str, *names: str, **changes: Any) -> Reservation:
    flags = frozenset({"OVERLAP", "IGNORE_JOBS", "NO_HOLD_JOBS_AFTER_END", "SPEC_NODES"})
    base = Reservation(name, frozenset(names), NOW - timedelta(days=1), NOW + YEAR, flags)
    if name.endswith(".lend"):
        base = replace(base, users=frozenset({"bob"}))
    else:
        base = replace(base, users=frozenset({"alice"}))
    return replace(base, **changes)


def cluster(
    of_nodes: Iterable[Node], *parts: Reservation | JobBuilder, config: SlurmConfig | None = None, at: datetime = NOW
) -> Cluster:
    """The whole; what jobs hold is counted on the nodes, as Slurm does."""
    reservations = {part.name: part for part in parts if isinstance(part, Reservation)}
    jobs = tuple(part.job for part in parts if isinstance(part, JobBuilder))
    found = {node.name: _loaded(node, jobs) for node in of_nodes}
    names = frozenset(found)
    partitions = {
        "main": Partition("main", names, tier=10, preempt_mode="OFF"),
        "preempt": Partition("preempt", names, tier=1, preempt_mode="REQUEUE"),
    }
    standard = SlurmConfig(
        version="22.05.8", preempt_type="preempt/partition_prio", preempt_mode="REQUEUE",
        kill_wait=timedelta(seconds=5), select_type_parameters="CR_CORE_MEMORY",
    )  # fmt: skip
    return Cluster(at, found, reservations, jobs, partitions, config or standard)


def _loaded(node: Node, jobs: Iterable[Job]) -> Node:
    here = [j for j in jobs if node.name in j.nodes]
    cpus = sum(node.cpus if j.shape.exclusive else j.shape.cpus // len(j.nodes) or 1 for j in here)
    memory = sum(node.memory if j.shape.exclusive else j.shape.memory_per_node for j in here)
    states = node.states
    if here:
        words = (
            {"COMPLETING"} if all(j.is_completing for j in here) else {"ALLOCATED" if cpus >= node.cpus else "MIXED"}
        )
        states = (states - {"IDLE"}) | words
    return replace(node, alloc_cpus=min(cpus, node.cpus), alloc_memory=min(memory, node.memory), states=states)


def spec(name: str = "physics", *names: str, **changes: Any) -> ReservationSpec:
    """A declared reservation of alice's."""
    base = ReservationSpec(name, Owner(users=frozenset({"alice"})), frozenset(names or ("n1", "n2")))
    lend = {key: changes.pop(key) for key in LendPolicy.__slots__ if key in changes}
    back = {key: changes.pop(key) for key in ReclaimPolicy.__slots__ if key in changes}
    return replace(base, lend=LendPolicy(**lend), reclaim=ReclaimPolicy(**back), **changes)


def site(*specs: ReservationSpec, **changes: Any) -> Site:
    base = Site(
        "lab", Lending(partitions=frozenset({"preempt"})), specs or (spec(),),
        daemon=DaemonSettings(scheduling_pass=timedelta(seconds=3)),
    )  # fmt: skip
    return replace(base, **changes)


def view(of_site: Site, of_cluster: Cluster, memory: Memory | None = None) -> View:
    made = {s.name: NOW for s in of_site.reservations}
    return View(of_site, of_cluster, memory or Memory(made=made))
