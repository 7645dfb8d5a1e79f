"""What a borrower may expect: how long it is likely to run undisturbed, and the chance that it is evicted (B42). Pure.

Both come from how long the owner's nodes used to stay idle (:mod:`slurm_reserve.idleness`). What is said is scored
against what happens, and never trusted for the guarantee. Of an owner of whom too little is known nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from slurm_reserve import idleness
from slurm_reserve.actions import AttachJob
from slurm_reserve.memory import Forecast, Score, Spells
from slurm_reserve.model import Job, JobKey
from slurm_reserve.site import LEND_SUFFIX
from slurm_reserve.view import View

ENDLESS = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Estimate:
    """For one node of one reservation."""

    reservation: str
    node: str
    undisturbed: timedelta | None  # half of the times it was longer; None: unknown
    chance_of_loss: float | None  # of being evicted before the time limit; None: unknown


def of_node(view: View, reservation: str, node: str, limit: timedelta | None) -> Estimate:
    """For a job of this time limit that starts there now."""
    spells = view.memory.spells.get(reservation)
    idle = view.cluster.at - view.memory.idle_since.get(node, view.cluster.at)
    chance = chance_of_loss(spells, idle, limit or ENDLESS) if spells else None
    return Estimate(reservation, node, idleness.likely_idle(view, reservation, node), chance)


def chance_of_loss(spells: Spells, idle: timedelta, runs_for: timedelta) -> float | None:
    """Of the idle times that were longer than `idle`, the share that ended within `runs_for` of it."""
    bounds = list(pairwise((timedelta(0), *idleness.ENDS, 2 * idleness.ENDS[-1])))
    total, ended, until = 0.0, 0.0, idle + runs_for
    for count, (start, end) in zip(spells, bounds, strict=True):
        if end <= idle:
            continue
        total += count
        begin = max(start, idle)
        ended += count * min(max((until - begin) / (end - begin), 0.0), 1.0)
    return ended / total if total >= idleness.FEWEST else None


def forecasts(view: View, sent: list[AttachJob]) -> dict[JobKey, Forecast]:
    """What is said of each borrower that was just lent to; nothing where nothing is known."""
    found = {}
    ids = {action.job.id for action in sent}
    jobs = {job.key: job for job in view.pending if job.id in ids} if ids else {}
    for action in sent:
        job, name = jobs.get(action.job), action.reservation.removesuffix(LEND_SUFFIX)
        there = view.cluster.reservations.get(name)
        if job is None or there is None or not action.reservation.endswith(LEND_SUFFIX):
            continue
        idle = [node for node in there.nodes if node not in view.holders]
        chances = [of_node(view, name, node, job.time_limit).chance_of_loss for node in idle]
        known = [chance for chance in chances if chance is not None]
        if known:
            found[job.key] = Forecast(name, sum(known) / len(known))
    return found


def settled(view: View) -> dict[JobKey, bool | None]:
    """Forecasts whose borrower has gone: whether it was evicted; None when it never ran, which scores nothing."""
    if not view.memory.forecasts:
        return {}
    ids = {key.id for key in view.memory.forecasts}
    now = {job.key: job for job in view.cluster.jobs if job.id in ids}
    runs = {job.id: job for job in now.values()}
    found: dict[JobKey, bool | None] = {}
    for key, forecast in view.memory.forecasts.items():
        if key in view.memory.evicted:
            found[key] = True
        elif key not in now:
            later = runs.get(key.id)
            found[key] = (later is not None and later.restarts > key.restarts) if forecast.has_run else None
        elif forecast.has_run and not now[key].holds_nodes:
            found[key] = False
    return found


def begun(view: View) -> list[JobKey]:
    """Forecasts whose borrower is seen running for the first time."""
    waiting = {key for key, forecast in view.memory.forecasts.items() if not forecast.has_run}
    return [key for key in waiting if (job := view.touched.get(key)) is not None and _runs(job)]


def _runs(job: Job) -> bool:
    return job.holds_nodes and not job.is_completing


def scored(score: Score, chance: float, was_lost: bool) -> Score:
    """With one more forecast that was settled."""
    return Score(score.count + 1, score.lost + was_lost, score.squares + (chance - was_lost) ** 2)
