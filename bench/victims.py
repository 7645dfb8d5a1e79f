"""Who is evicted, and what that costs: the same generated demand under our order, Slurm's own and the youngest first.

Nodes of one owner are lent to whoever waits. Owners' jobs take whole nodes; a borrower that is evicted begins anew. An
eviction is taken to last as long under any order, so that an owner's wait differs only where more is waited for.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slurm_reserve import victims
from slurm_reserve.fit import Fit, Room, Share, fit
from slurm_reserve.model import Job, JobKey, Node, Shape
from slurm_reserve.site import Victims

from bench.figures import median

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
NODES, CPUS, MEMORY = 32, 4, 4000
DAYS = 5
EVICTION = 0.02  # hours from an owner's submission to the start, when somebody must go
WHOLE = {
    f"n{n}": Room.whole(Node(f"n{n}", frozenset({"IDLE"}), CPUS, MEMORY, partitions=frozenset({"main"})))
    for n in range(NODES)
}
Place = Callable[[frozenset[JobKey]], Fit]
Choose = Callable[[Sequence[Job], Place, datetime], Sequence[Job]]


def by(word: Victims) -> Choose:
    """One of the orders that a site may name."""

    def choose(lent: Sequence[Job], place: Place, now: datetime) -> Sequence[Job]:
        chosen = victims.choose(lent, lambda gone: bool(place(gone)), victims.Look(now), victims.RATES[word])
        return chosen or ()

    return choose


def slurms(lent: Sequence[Job], place: Place, _now: datetime) -> Sequence[Job]:
    """As slurmctld does by default (preempt/partition_prio, select/cons_tres).

    Candidates of one tier go from few nodes to many, and the older first. They are taken away until the job fits; twice
    that is done again with the last one in front, then those that share most nodes with where it fitted. Of those that
    were taken away, whoever holds a node that the job gets is evicted.
    """
    order = sorted(lent, key=lambda job: (len(job.nodes), job.job_id))
    for again in (True, True, False):
        gone: list[Job] = []
        where = place(frozenset())
        for job in order:
            gone.append(job)
            if where := place(frozenset(each.key for each in gone)):
                break
        if not where or not again:
            break
        last, taken = gone[-1], where.nodes
        order = sorted(order, key=lambda job: (job is not last, -len(job.nodes & taken) if job in gone else 0))
    return [job for job in gone if job.nodes & where.nodes] if where else ()


SLURM = "Slurm's own"
ORDERS: Mapping[str, Choose] = {
    "ours (least_loss)": by(Victims.LEAST_LOSS),
    SLURM: slurms,
    "youngest first": by(Victims.YOUNGEST),
    "fewest_nodes": by(Victims.FEWEST_NODES),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A job that arrives."""

    at: float  # hours
    hours: float
    job: Job


def demand(seed: int) -> tuple[list[Ask], list[Ask]]:
    """The owner's jobs, and more borrowers than there is room for."""
    rng = random.Random(seed)
    owners, borrowers = list[Ask](), list[Ask]()
    at = 0.0
    while (at := at + rng.expovariate(0.8)) < DAYS * 24:
        count = rng.choice((1, 1, 2, 2, 3, 4, 8))
        owners.append(Ask(at, min(rng.lognormvariate(1.0, 0.8), 24), _job(len(owners) + 1, "alice", count, CPUS)))
    for number in range(100_001, 100_001 + 150 * DAYS):
        count, cpus = rng.choice(((1, 1), (1, 1), (1, 2), (1, 4), (1, 4), (2, 4), (4, 4)))
        hours = min(rng.lognormvariate(1.2, 1.0), 48)
        borrowers.append(Ask(rng.uniform(0, DAYS * 24), hours, _job(number, f"user{rng.randrange(20)}", count, cpus)))
    return owners, sorted(borrowers, key=lambda ask: ask.at)


def _job(number: int, user: str, count: int, cpus: int) -> Job:
    whole = cpus == CPUS
    shape = Shape(
        min_nodes=count, max_nodes=count, cpus=count * cpus, tasks=count, cpus_per_task=cpus,
        memory_per_node=MEMORY // CPUS * cpus, exclusive=whole,
    )  # fmt: skip
    return Job(str(number), user, "PENDING", ("main",), BEGIN, job_id=number, shape=shape)


@dataclass(slots=True)
class Played:
    """One replay."""

    choose: Choose
    now: float = 0.0
    rooms: dict[str, Room] = field(default_factory=lambda: dict(WHOLE))
    on: dict[str, dict[JobKey, Share]] = field(default_factory=lambda: {name: {} for name in WHOLE})
    running: dict[JobKey, tuple[Ask, Job, Fit]] = field(default_factory=dict)
    ends: list[tuple[float, JobKey]] = field(default_factory=list)
    waiting: list[Ask] = field(default_factory=list)  # borrowers
    queue: list[Ask] = field(default_factory=list)  # owners
    lost: float = 0.0  # node-hours
    done: float = 0.0  # node-hours of borrowers that finished
    evictions: int = 0
    waits: list[float] = field(default_factory=list)  # hours, of owners

    def play(self, owners: Sequence[Ask], borrowers: Sequence[Ask]) -> None:
        """Everything that happens, in order."""
        arrivals = sorted(
            [(ask.at, True, ask) for ask in owners] + [(ask.at, False, ask) for ask in borrowers], key=_when
        )
        while arrivals:
            at, is_owner, ask = arrivals[0]
            if self.ends and self.ends[0][0] <= at:
                self.now, key = heapq.heappop(self.ends)
                self._end(key)
            else:
                arrivals.pop(0)
                self.now = at
                (self.queue if is_owner else self.waiting).append(ask)
            self._serve()

    def _serve(self) -> None:
        while self.queue and self._start_owner(self.queue[0]):
            self.queue.pop(0)
        refused: set[int] = set()
        for ask in () if self.queue else tuple(self.waiting):
            if id(ask.job.shape) in refused:
                continue
            if where := fit(ask.job, self.rooms.values()):
                self.waiting.remove(ask)
                self._start(ask, where)
            else:
                refused.add(id(ask.job.shape))

    def _start_owner(self, ask: Ask) -> bool:
        def place(gone: frozenset[JobKey]) -> Fit:
            return fit(ask.job, self._without(gone).values())

        delay = 0.0
        if not place(frozenset()):
            lent = [job for _, job, _ in self.running.values() if job.user != "alice"]
            chosen = self.choose(lent, place, _at(self.now))
            delay = EVICTION
            for job in chosen:
                self._evict(job)
        where = place(frozenset())
        if where:
            self.waits.append(self.now - ask.at + delay)
            self._start(ask, where)
        return bool(where)

    def _start(self, ask: Ask, where: Fit) -> None:
        job = replace(ask.job, nodes=where.nodes, state="RUNNING", started=_at(self.now))
        self.running[job.key] = (ask, job, where)
        for name, share in where.shares.items():
            self.rooms[name] = self.rooms[name].minus(share)
            self.on[name][job.key] = share
        heapq.heappush(self.ends, (self.now + ask.hours, job.key))

    def _leave(self, key: JobKey) -> Ask:
        ask, _, where = self.running.pop(key)
        for name in where.nodes:
            del self.on[name][key]
            self.rooms[name] = self._room(name, frozenset())
        return ask

    def _end(self, key: JobKey) -> None:
        if key in self.running and (ask := self._leave(key)).job.user != "alice":
            self.done += ask.hours * ask.job.shape.cpus / CPUS

    def _evict(self, job: Job) -> None:
        ask = self._leave(job.key)
        self.evictions += 1
        self.lost += victims.Look(_at(self.now)).lost(job) / timedelta(hours=1) / CPUS
        again = replace(ask.job, restarts=ask.job.restarts + 1)
        self.waiting.insert(0, replace(ask, job=again))

    def _without(self, gone: frozenset[JobKey]) -> dict[str, Room]:
        """The rooms, were these jobs gone."""
        touched = {name for key in gone for name in self.running[key][2].nodes}
        return {name: self._room(name, gone) if name in touched else room for name, room in self.rooms.items()}

    def _room(self, name: str, gone: frozenset[JobKey]) -> Room:
        room = WHOLE[name]
        for key, share in self.on[name].items():
            if key not in gone:
                room = room.minus(share)
        return room


def _at(hours: float) -> datetime:
    return BEGIN + timedelta(hours=hours)


def _when(arrival: tuple[float, bool, Ask]) -> tuple[float, bool]:
    return arrival[:2]


def measure(seeds: int = 20) -> dict[str, Any]:
    """Each order on the same demands, so many of them; and seed by seed what it differs from Slurm's by."""
    asked = [demand(seed) for seed in range(1, seeds + 1)]
    played = {name: [_replay(choose, *each) for each in asked] for name, choose in ORDERS.items()}
    return {name: _compared(plays, played[SLURM]) for name, plays in played.items()}


def _replay(choose: Choose, owners: Sequence[Ask], borrowers: Sequence[Ask]) -> Played:
    played = Played(choose)
    played.play(owners, borrowers)
    return played


def _compared(plays: Sequence[Played], slurm: Sequence[Played]) -> dict[str, Any]:
    pairs = list(zip(plays, slurm, strict=True))
    return {
        "lost": round(sum(played.lost for played in plays), 1),
        "evictions": sum(played.evictions for played in plays),
        "done": round(sum(played.done for played in plays)),
        "owners": sum(len(played.waits) for played in plays),
        "wait_mean_s": round(statistics.fmean(3600 * wait for played in plays for wait in played.waits), 1),
        "idle_found": sum(wait == 0 for played in plays for wait in played.waits),
        "shares": [round(ours.lost / other.lost, 2) for ours, other in pairs],
        "later_s": [round(3600 * (statistics.fmean(a.waits) - statistics.fmean(b.waits)), 2) for a, b in pairs],
    }


def table(found: dict[str, Any]) -> list[str]:
    """Lines to print."""
    slurm, seeds = found[SLURM]["lost"], len(found[SLURM]["shares"])
    lines = [
        f"{seeds} seeds; of Slurm's loss and later than with Slurm's order: seed by seed, median (least to most)",
        f"{'order of victims':19}{'lost':>8}{'of':>7}{'':>20}{'evict-':>8}{'owners':>8}{'found':>7}{'later,':>8}",
        f"{'':19}{'node-h':>8}{'Slurm':>7}{'':>20}{'ions':>8}{'wait, s':>8}{'idle':>7}{'s':>8}",
    ]
    for name, each in found.items():
        share = f"{100 * each['lost'] / slurm:.0f} %" if slurm else ""
        lines.append(
            f"{name:19}{each['lost']:>8.0f}{share:>7}{_spread(each['shares'], '.2f'):>20}{each['evictions']:>8}"
            f"{each['wait_mean_s']:>8.1f}{each['idle_found']:>7}   {_spread(each['later_s'], '+.1f')}"
        )
    return lines


def _spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
