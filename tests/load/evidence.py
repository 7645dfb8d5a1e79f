"""The evidence of one run of the load, as the checker reads it: sacct's rows made into runs and waits.

Knows nothing of the package: only what Slurm's own commands printed, and what was declared. Times are whole seconds
since the epoch, as sacct gives them; a run holds its nodes from the second of its start to before that of its end.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

NEVER = 1 << 40


@dataclass(frozen=True)
class Run:
    """One row of sacct: a job's wait, and its run if it had one. A job that was requeued has several."""

    id: str
    user: str
    partitions: frozenset[str]
    state: str  # with " by UID" where somebody cancelled it
    eligible: int
    start: int  # NEVER: it has not started
    end: int  # NEVER: it is not over
    nodes: tuple[str, ...]
    cpus: int  # on each of its nodes
    count: int  # of nodes
    minutes: int | None  # time limit

    def holds(self, node: str, at: int) -> bool:
        """Whether it holds that node in that second."""
        return self.start <= at < self.end and node in self.nodes

    def waits(self, at: int) -> bool:
        """Whether it could have been started in that second, and was not."""
        return self.eligible <= at < min(self.start, self.end)

    @property
    def is_evicted(self) -> bool:
        """Whether Slurm says that it was put out, to run again or by its own preemption."""
        return self.state.split()[0] in ("REQUEUED", "PREEMPTED")


@dataclass(frozen=True)
class Declared:
    """What was declared of a reservation."""

    name: str
    owners: frozenset[str]
    nodes: tuple[str, ...]
    bound: int  # seconds
    keep_idle_nodes: int = 0
    after_idle: int = 0
    max_minutes: int | None = None


@dataclass
class Evidence:
    """A whole run."""

    began: int
    ended: int
    lendable: frozenset[str]
    daemon_uid: int
    cpus: dict[str, int]  # node -> CPUs
    reservations: list[Declared]
    runs: list[Run]
    sent: list[tuple[float, str, str, str]] = field(default_factory=list)  # when, attached or detached, job, where
    squeue: list[list[str]] = field(default_factory=list)  # job, user, partition, state, reason, priority
    sinfo: list[list[str]] = field(default_factory=list)  # node, state
    shown: list[str] = field(default_factory=list)  # reservations at the end

    def is_borrower(self, run: Run) -> bool:
        """Whether it asked to be run on terms that let it be evicted."""
        return bool(run.partitions) and run.partitions <= self.lendable

    @cached_property
    def reservation_on(self) -> dict[str, Declared]:
        """Whose each reserved node is."""
        return {node: each for each in self.reservations for node in each.nodes}

    @cached_property
    def on(self) -> dict[str, list[Run]]:
        """The runs on each node, in order."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.start):
            for node in run.nodes:
                found[node].append(run)
        return found

    def others_on(self, node: str) -> list[Run]:
        """The runs on a node that are no borrowers'."""
        return [run for run in self.on.get(node, ()) if not self.is_borrower(run)]

    @cached_property
    def _taken(self) -> dict[str, dict[int, int]]:
        """For each reserved node the CPUs that others than borrowers hold, by second."""
        found: dict[str, dict[int, int]] = {node: defaultdict(int) for node in self.reservation_on}
        for node, taken in found.items():
            for run in self.others_on(node):
                for at in range(max(run.start, self.began), min(run.end, self.ended)):
                    taken[at] += run.cpus
        return found

    def is_owners_in_use(self, node: str, at: int) -> bool:
        """Whether anybody but borrowers holds a reserved node."""
        return self._taken[node].get(at, 0) > 0

    def would_fit(self, run: Run, reservation: Declared, at: int) -> bool:
        """Whether a job would fit on the reservation's nodes, were no borrower there."""
        free = (self.cpus[node] - self._taken[node].get(at, 0) for node in reservation.nodes)
        return sum(cpus >= run.cpus for cpus in free) >= run.count


def load(path: Path) -> Evidence:
    """Read what `Load.evidence` gave."""
    return parse(json.loads(path.read_text(encoding="utf-8")))


def parse(raw: dict[str, Any]) -> Evidence:
    """Make sense of it; raises KeyError or ValueError where it is something else."""
    rows = [dict(zip(raw["sacct_fields"], row, strict=True)) for row in raw["sacct"]]
    declared = [
        Declared(name, frozenset(each["owners"]), tuple(each["nodes"]), *_policy(each))
        for name, each in raw["reservations"].items()
    ]
    return Evidence(
        began=int(raw["began"]),
        ended=int(raw["ended"]),
        lendable=frozenset(raw["lendable"]),
        daemon_uid=raw["daemon_uid"],
        cpus=raw["nodes"],
        reservations=declared,
        runs=[_run(row) for row in rows],
        sent=[(float(at), what, job, where) for at, what, job, where in raw["sent"]],
        squeue=[line.split("|") for line in raw["squeue"]],
        sinfo=[line.split("|") for line in raw["sinfo"]],
        shown=raw["shown"],
    )


def _policy(each: dict[str, Any]) -> Iterable[Any]:
    return (each[key] for key in ("bound", "keep_idle_nodes", "after_idle", "max_minutes"))


def _run(row: dict[str, str]) -> Run:
    start, end = _time(row["Start"]), _time(row["End"])
    nodes = tuple(name for name in row["NodeList"].split(",") if name and name != "None assigned")
    if not nodes:  # ended while it waited: sacct gives the end as its start
        start = NEVER
    count = max(int(row["NNodes"] or 1), 1)
    cpus = int(row["AllocCPUS"] or 0) if nodes else int(row["ReqCPUS"] or 1)
    return Run(
        id=row["JobID"],
        user=row["User"],
        partitions=frozenset(row["Partition"].split(",")) - {""},
        state=row["State"],
        eligible=_time(row["Eligible"]),
        start=start,
        end=end,
        nodes=nodes,
        cpus=-(-cpus // count),
        count=count,
        minutes=int(row["TimelimitRaw"]) if row["TimelimitRaw"].isdigit() else None,
    )


def _time(text: str) -> int:
    return int(text) if text.isdigit() and int(text) else NEVER
