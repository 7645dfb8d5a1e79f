"""One cycle: start reading here.

1. Desired    the reservations that should exist now        (part of the plan, :mod:`slurm_reserve.desired`)
2. Observe    what Slurm has, whole or not at all           (:mod:`slurm_reserve.slurm`)
3. Demand     which owner work wants nodes                  (:mod:`slurm_reserve.demand`)
4. Plan       an ordered list of actions with reasons       (:mod:`slurm_reserve.plan`)
5. Act        do them, in order                             (:mod:`slurm_reserve.execute`)
6. Record     log, journal, ledger                          (:mod:`slurm_reserve.record`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from slurm_reserve import invariants, lease, outage, plan, restore, scope
from slurm_reserve.actions import Group
from slurm_reserve.errors import ReserveError
from slurm_reserve.execute import Clock, Executor, Outcome
from slurm_reserve.garbage import collected_later
from slurm_reserve.ledger import Ledger
from slurm_reserve.memory import Memory
from slurm_reserve.model import Cluster, JobKey
from slurm_reserve.plan import Plan
from slurm_reserve.record import Recorder
from slurm_reserve.site import Site
from slurm_reserve.slurm.port import Slurm
from slurm_reserve.view import View

Beat = Callable[[], None]
MOST_IN_DOUBT = 8  # jobs that are read one by one; to read all of them is quicker then


class UnsoundPlanError(ReserveError):
    """The planner broke an invariant; nothing of the plan was carried out."""


class StaleError(ReserveError):
    """What was seen a moment ago is no longer so; nothing was done."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one cycle saw, decided and did."""

    view: View
    plan: Plan
    outcomes: tuple[Outcome, ...] = ()


def observe(site: Site, slurm: Slurm, told: Iterable[JobKey] = ()) -> Cluster:
    """Read the cluster, with the members of the groups that own something.

    And what the jobs that were told to go say in their comments, where they may ask for more time.
    """
    groups = sorted({group for spec in site.reservations for group in spec.owner.groups})
    cluster = slurm.observe(groups, words=site.lending.reads_words)
    cluster = replace(cluster, reservations=lease.without(cluster.reservations))
    if not any(spec.reclaim.extra_time for spec in site.reservations):
        return cluster
    running = sorted({job.id for job in cluster.jobs if job.nodes} & {key.id for key in told})
    return replace(cluster, comments=slurm.read_comments(running)) if running else cluster


def _as_it_is(view: View) -> View:
    return view


def no_beat() -> None:
    """Nobody watches whether it goes on."""


def decide(site: Site, cluster: Cluster, memory: Memory, see: Callable[[View], View] = _as_it_is) -> Result:
    """Plan, and refuse a plan that breaks an invariant (UnsoundPlanError). `see` is how the cluster is looked at."""
    with collected_later():
        view = see(View(site, cluster, memory))
        made = plan.make(view)
        broken = invariants.violations(view, made)
    if broken:
        raise UnsoundPlanError("nothing was done, for the plan breaks an invariant: " + "; ".join(broken))
    return Result(view, made)


def run_once(
    site: Site,
    slurm: Slurm,
    ledger: Ledger,
    recorder: Recorder,
    clock: Clock,
    see: Callable[[View], View] = _as_it_is,
    beat: Beat = no_beat,
) -> Result:
    """One whole cycle. Raises SlurmError when the cluster cannot be read or reached: then nothing more is done."""
    memory = ledger.memory()
    memory = replace(memory, is_writable=memory.is_writable and recorder.is_writable)
    cluster = _with_lost(observe(site, slurm, memory.notices), slurm, memory)
    memory = outage.after(memory, cluster.at, site.daemon.poll)
    result = decide(site, cluster, memory, see)
    is_recorded = recorder.decided(result.view, result.plan)
    groups = [group for group in result.plan.groups if is_recorded or not group.is_loan]
    outcomes: list[Outcome] = []
    try:
        _carry_out(Executor(slurm, ledger, clock, result.view.is_borrower), groups, outcomes, beat)
    finally:
        recorder.done(result.view, result.plan, outcomes)
    return Result(result.view, result.plan, tuple(outcomes))


def _carry_out(executor: Executor, groups: Iterable[Group], outcomes: list[Outcome], beat: Beat) -> None:
    """What was done before Slurm went out of reach is in `outcomes` all the same; `beat` follows each action."""
    for group in groups:
        for outcome in executor.run(group):
            outcomes.append(outcome)
            beat()


def _with_lost(cluster: Cluster, slurm: Slurm, memory: Memory) -> Cluster:
    """With what has become of victims that are gone; seldom any, for they come back into the queue."""
    ended = [job for job_id in restore.missing(cluster, memory) if (job := slurm.read_job(job_id)) is not None]
    return replace(cluster, lost=restore.lost(ended, memory)) if ended else cluster


def look_at(
    site: Site,
    slurm: Slurm,
    ledger: Ledger,
    recorder: Recorder,
    clock: Clock,
    seen: Cluster,
    users: frozenset[str],
    known: frozenset[JobKey],
    beat: Beat = no_beat,
) -> Result | None:
    """A cycle for what these users submitted, on what was `seen` a moment ago; only takes nodes back for them.

    None when none of their waiting jobs but the `known` ones wants nodes of ours: not yet, for the wake-up comes before
    the job. Raises StaleError when the cluster is not as it was seen.
    """
    likely = scope.likely_nodes(site, seen, users)
    jobs, reservations, nodes = slurm.read_submission(sorted(users), sorted(likely))
    cluster = scope.with_jobs(seen, users, jobs, lease.without(reservations))
    memory = ledger.memory()
    found = scope.of(site, cluster, memory, users)
    if not found.jobs - known:
        return None
    at = clock()
    if not found.nodes <= nodes.keys():
        reservations, nodes = slurm.read_nodes(sorted(found.nodes))
    doubtful = scope.in_doubt(site, cluster, memory, found)
    if lease.without(reservations) != cluster.reservations or len(doubtful) > MOST_IN_DOUBT:
        raise StaleError("the cluster changes while it is read")
    cluster = scope.with_these(cluster, doubtful, [slurm.read_job(each) for each in doubtful])
    read = scope.confirmed(seen, cluster, found, nodes)
    if read is None:
        raise StaleError("the cluster is not as it was seen")
    result = decide(site, replace(read, at=at), memory)
    groups = tuple(group for group in result.plan.groups if group.takes_back_of in found.reservations)
    made = replace(result.plan, groups=groups)
    recorder.decided(result.view, made, is_whole=False, only=found.reservations)
    outcomes: list[Outcome] = []
    try:
        _carry_out(Executor(slurm, ledger, clock, result.view.is_borrower), groups, outcomes, beat)
    finally:
        recorder.done(result.view, made, outcomes, is_whole=False)
    return Result(result.view, made, tuple(outcomes))
