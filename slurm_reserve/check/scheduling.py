"""What makes owners or borrowers wait for slurmctld's scheduler. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from slurm_reserve import periods
from slurm_reserve.check.finding import Finding, Level, printed, seconds
from slurm_reserve.durations import format_duration
from slurm_reserve.view import View, backfill_interval


def slow_passes(view: View) -> Iterator[Finding]:
    """SchedulerParameters lets passes be further apart than daemon.scheduling_pass, which the bound counts."""
    slowest = max(_passes(view).items(), key=lambda pair: pair[1])
    declared = view.site.daemon.scheduling_pass
    if slowest[1] > declared:
        name, apart = slowest[0], slowest[1].total_seconds()
        text = f"{name} lets {apart:g} s pass between scheduling passes, longer than daemon.scheduling_pass "
        remedy = (
            f"set daemon.scheduling_pass: {format_duration(timedelta(seconds=int(apart) + 1))}, or a smaller {name}"
        )
        yield Finding(Level.WARNING, "slurm.conf", text + f"({format_duration(declared)}) in the bound", remedy)


def _passes(view: View) -> dict[str, timedelta]:
    """How far apart passes after a submission or an end may be: slurm.conf(5), SchedulerParameters."""
    return {
        "batch_sched_delay": timedelta(seconds=_parameter(view, "batch_sched_delay", 3)),
        "sched_min_interval": timedelta(microseconds=_parameter(view, "sched_min_interval", 2_000_000)),
    }


def deferred(view: View) -> Iterator[Finding]:
    """SchedulerParameters=defer: no job is considered when it is submitted, so owners wait for a pass."""
    found = re.search(r"(?:^|,)(defer\w*)", view.cluster.config.scheduler_parameters)
    if found:
        text = f"{found[1]}: an owner's job is not considered when it is submitted, but in the next scheduling pass"
        yield Finding(Level.NOTE, "slurm.conf", text, f"remove {found[1]} from SchedulerParameters, if load allows")


def slow_backfill(view: View) -> Iterator[Finding]:
    """bf_interval above 10 s: while ordinary jobs wait, borrowers start that much later."""
    interval = round(backfill_interval(view.cluster.config).total_seconds())
    if interval > 10 and not _is_builtin(view):
        text = f"while ordinary jobs wait, borrowers are started by backfill only, every {interval} s"
        yield Finding(Level.NOTE, "slurm.conf", text, "add bf_interval=10 to SchedulerParameters to lend sooner")


def unhurried_passes(view: View) -> Iterator[Finding]:
    """batch_sched_delay above 1 s: owners' jobs on idle nodes, and borrowers, wait for passes that far apart."""
    delay = _parameter(view, "batch_sched_delay", 3)
    if delay > 1:
        text = (
            f"what is submitted, or sent to lent nodes, waits for a pass; these are {delay} s apart (batch_sched_delay)"
        )
        remedy = (
            "add batch_sched_delay=0 to SchedulerParameters: then a second apart, and only where something changed "
            "(measured with 3 s and with 0: a borrower starts 1.9 s and 0.5 s after a node falls idle, an owner's job "
            "on an idle node after 1.8 s and 0.5 s)"
        )
        yield Finding(Level.NOTE, "slurm.conf", text, remedy)


def passed_over(view: View) -> Iterator[Finding]:
    """bf_max_job_part is not set: with many ordinary jobs waiting, backfill never comes to the borrowers."""
    most, of_each = _parameter(view, "bf_max_job_test", 500), _parameter(view, "bf_max_job_part", 0)
    if not _is_builtin(view) and not 0 < of_each < most:
        text = (
            f"backfill looks at {most} jobs, those of higher tiers first: while so many ordinary ones wait, borrowers "
        )
        remedy = "add bf_max_job_part=50 to SchedulerParameters, or less than bf_max_job_test by far"
        yield Finding(Level.NOTE, "slurm.conf", text + "never start", remedy)


def no_backfill(view: View) -> Iterator[Finding]:
    """SchedulerType=sched/builtin: a borrower that cannot start keeps all behind it from lent nodes."""
    if _is_builtin(view):
        text = "sched/builtin starts nobody of a partition behind a job that cannot start, so loans fail"
        yield Finding(Level.WARNING, "slurm.conf", text, "set SchedulerType=sched/backfill")


def _is_builtin(view: View) -> bool:
    return printed(view, "SchedulerType") == "sched/builtin"


def completing_held_back(view: View) -> Iterator[Finding]:
    """CompleteWait: while any job of the cluster is COMPLETING nothing is started, the owner's job neither."""
    if wait := seconds(view, "CompleteWait"):
        text = f"CompleteWait={wait}: while any job is COMPLETING slurmctld starts nothing for up to {wait} s, which "
        yield Finding(Level.WARNING, "slurm.conf", text + "is not in the bound", "remove CompleteWait")


def whole_nodes_only(view: View) -> Iterator[Finding]:
    """SelectType=select/linear: every job takes whole nodes, so what is proved to fit beside others does not."""
    if printed(view, "SelectType") == "select/linear":
        text = "select/linear gives every job whole nodes: an owner's job that would fit beside a borrower waits for "
        yield Finding(
            Level.WARNING,
            "slurm.conf",
            text + "two passes longer, till all comes back",
            "set SelectType=select/cons_tres",
        )


def powered_down(view: View) -> Iterator[Finding]:
    """Power saving: idle reserved nodes are switched off, and are then neither lent nor at once the owner's."""
    after = printed(view, "SuspendTime").partition(" ")[0]
    if after in ("", "INFINITE", "-1", "NONE") or printed(view, "SuspendProgram") in ("", "(null)"):
        return
    text = f"SuspendTime={after}: idle reserved nodes are powered down, are then not lent, and the owner waits for them"
    yield Finding(Level.NOTE, "slurm.conf", text, "name the reserved nodes in SuspendExcNodes")


def without_time_limit(view: View) -> Iterator[Finding]:
    """Jobs of a lendable partition have no time limit unless they name one, and are not lent what is limited."""
    limited = [s.name for s in view.site.reservations if s.lend.max_time is not None or s.end is not None]
    if not limited:
        return
    for name in sorted(view.site.lending.partitions & view.cluster.partitions.keys()):
        partition = view.cluster.partitions[name]
        if (partition.default_time or partition.max_time) is None:
            who = f"{', '.join(limited)} {'has' if len(limited) == 1 else 'have'} a max_time or an end"
            text = f"jobs submitted without --time have no limit, and are never lent to where one counts: {who}"
            yield Finding(Level.WARNING, name, text, "set DefaultTime= on the lendable partition")


def outlasts_end(view: View) -> Iterator[Finding]:
    """ResvOverRun: jobs stay on the nodes of a reservation after its end."""
    over = printed(view, "ResvOverRun")
    if over.partition(" ")[0] in ("", "0"):
        return
    for spec in view.site.reservations:
        if periods.is_bounded(spec):
            text = f"ResvOverRun={over}: the owner's jobs may stay on the nodes for that long after its end"
            yield Finding(Level.NOTE, spec.name, text, "remove ResvOverRun, if nodes must be free at the end")


def _parameter(view: View, name: str, default: int) -> int:
    found = re.search(rf"(?:^|,){name}=(\d{{1,12}})", view.cluster.config.scheduler_parameters)
    return int(found[1]) if found else default
