"""Which borrowers go, so that an owner's job fits. Pure.

Candidates are taken away one at a time, the cheapest first, until the job fits; then, in reverse, each is put back that
turns out not to be needed (B18, B28). What is cheap is for the site to say: each of its words is one function here,
which rates any set of victims. The set of one says in which order they are taken away, and of several ways to make the
job fit the one is kept that rates lowest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from slurm_reserve import bids
from slurm_reserve.memory import Pain
from slurm_reserve.model import Job, JobKey
from slurm_reserve.site import Victims
from slurm_reserve.view import View

Fits = Callable[[frozenset[JobKey]], bool]

PAIN_HALVES_IN = timedelta(days=1)


def _no_bid(_: Job) -> Decimal:
    return bids.NOTHING


@dataclass(frozen=True, slots=True)
class Look:
    """What victims are rated by, besides themselves."""

    now: datetime
    told: frozenset[JobKey] = frozenset()  # have had their notice, and go before others
    pains: Mapping[str, Pain] = field(default_factory=dict)
    bid: Callable[[Job], Decimal] = _no_bid

    @staticmethod
    def of(view: View) -> Look:
        """At this moment."""
        memory = view.memory
        return Look(view.cluster.at, frozenset(memory.notices), memory.pains, view.bid)

    def lost(self, job: Job) -> timedelta:
        """CPU time that is thrown away when the job goes now: since its start, or since it last saved its work.

        When that was is the job's own word, where the site reads it; who boasts goes first.
        """
        if job.started is None:
            return timedelta(0)
        saved = bids.saved_in(job.comment) if "saved=" in job.comment else None
        since = max(job.started, saved or job.started)
        return max(self.now - since, timedelta(0)) * job.shape.cpus


Rate = Callable[[Sequence[Job], Look], tuple[Any, ...]]


def _lost(jobs: Sequence[Job], look: Look) -> timedelta:
    return sum(map(look.lost, jobs), timedelta(0))


def _highest_bid(jobs: Sequence[Job], look: Look) -> Decimal:
    return max(map(look.bid, jobs), default=bids.NOTHING)


def least_loss(jobs: Sequence[Job], look: Look) -> tuple[Any, ...]:
    """Lowest bid first, then least lost work, then fewest jobs. The default."""
    return _highest_bid(jobs, look), _lost(jobs, look), len(jobs)


def youngest(jobs: Sequence[Job], look: Look) -> tuple[Any, ...]:
    """The latest start first, however much runs there."""
    return sum((look.now - job.started for job in jobs if job.started), timedelta(0)), len(jobs)


def lowest_bid(jobs: Sequence[Job], look: Look) -> tuple[Any, ...]:
    """Those that pay least for an hour together, bid times nodes; then least lost work."""
    return sum((look.bid(job) * len(job.nodes) for job in jobs), bids.NOTHING), _lost(jobs, look), len(jobs)


def fewest_jobs(jobs: Sequence[Job], look: Look) -> tuple[Any, ...]:
    """As few as possible, whatever they lose."""
    return len(jobs), _highest_bid(jobs, look), _lost(jobs, look)


def fewest_nodes(jobs: Sequence[Job], look: Look) -> tuple[Any, ...]:
    """As few nodes freed beyond need as possible; then least lost work."""
    nodes = frozenset().union(*(job.nodes for job in jobs))
    return len(nodes), _highest_bid(jobs, look), _lost(jobs, look)


def spread(jobs: Sequence[Job], look: Look) -> tuple[Any, ...]:
    """Whoever has lost least by evictions lately, so that they do not always hit the same."""
    costs: dict[str, timedelta] = {}
    for job in jobs:
        costs[job.user] = costs.get(job.user, pain(look.pains.get(job.user), look.now)) + look.lost(job)
    return _highest_bid(jobs, look), max(costs.values(), default=timedelta(0)), _lost(jobs, look)


RATES: Mapping[Victims, Rate] = {
    Victims.LEAST_LOSS: least_loss,
    Victims.YOUNGEST: youngest,
    Victims.LOWEST_BID: lowest_bid,
    Victims.FEWEST_JOBS: fewest_jobs,
    Victims.FEWEST_NODES: fewest_nodes,
    Victims.SPREAD: spread,
}


def pain(known: Pain | None, now: datetime) -> timedelta:
    """What evictions have cost a user, as it still counts: half of it each day."""
    if known is None:
        return timedelta(0)
    return known.lost * float(0.5 ** (max(now - known.at, timedelta(0)) / PAIN_HALVES_IN))


def choose(candidates: Iterable[Job], fits: Fits, look: Look, rate: Rate = least_loss) -> tuple[Job, ...] | None:
    """The victims, in the order in which they go; None when not even all of them would do.

    `fits` answers whether the owner's job fits once those runs are gone. Jobs that have had their notice go before
    others. Several orders of taking away are tried, job by job and node by node, by `rate` and by the latest start, and
    the cheapest outcome is kept: the best set is not always made of the jobs that are cheapest by themselves.
    """
    latest_first = sorted(candidates, key=lambda job: (job.submitted, job.id), reverse=True)
    jobs = sorted(latest_first, key=lambda job: (job.key not in look.told, rate([job], look)))
    if not fits(frozenset(job.key for job in jobs)):
        return None
    first = _minimal(jobs, fits)
    if len(first) == 1 and first[0] is jobs[0]:
        return first
    young = sorted(jobs, key=lambda job: (job.key not in look.told, youngest([job], look)))
    orders = (_by_node(jobs, look, rate), young, _by_node(young, look, youngest))
    plans = [first, *(_minimal(order, fits) for order in orders)]
    return min(plans, key=lambda plan: (_told_in_vain(plan, look), rate(plan, look)))


def _minimal(order: Sequence[Job], fits: Fits) -> tuple[Job, ...]:
    gone: list[Job] = []
    for job in order:
        if fits(frozenset(j.key for j in gone)):
            break
        gone.append(job)
    for job in reversed(tuple(gone)):
        rest = [j for j in gone if j is not job]
        if fits(frozenset(j.key for j in rest)):
            gone = rest
    return tuple(gone)


def _by_node(jobs: Sequence[Job], look: Look, rate: Rate) -> list[Job]:
    """The same jobs, but all of the cheapest node's first, then the next node's."""
    on: dict[str, list[Job]] = {}
    for job in jobs:
        for node in job.nodes:
            on.setdefault(node, []).append(job)
    ranked = sorted(on, key=lambda node: (rate(on[node], look), node))
    place = {node: number for number, node in enumerate(ranked)}
    return sorted(jobs, key=lambda job: min((place[node] for node in job.nodes), default=-1))


def _told_in_vain(plan: Sequence[Job], look: Look) -> int:
    """How many more would have to be told, when some were already."""
    return sum(job.key not in look.told for job in plan) if look.told else 0
