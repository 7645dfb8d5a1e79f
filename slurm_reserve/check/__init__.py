"""Settings of site and cluster that would break the promise, each with its remedy. Pure.

A check is a function; its name is the id of what it finds, and its first line says what that is: `docs/checks.md`.
"""

from __future__ import annotations

from dataclasses import replace

from slurm_reserve.check import access, leftovers, net, reservations, scheduling
from slurm_reserve.check.finding import Check, Finding, Here, Inspected, Level, nodes_of
from slurm_reserve.check.net import protector
from slurm_reserve.view import View

__all__ = ["CHECKS", "Check", "Finding", "Here", "Level", "findings", "id_of", "nodes_of", "protector"]

CHECKS: tuple[Check, ...] = (
    net.no_net,
    net.net_waits,
    net.net_cancels,
    net.notice_cut,
    net.not_requeued,
    net.output_lost,
    net.long_kill_wait,
    scheduling.slow_passes,
    scheduling.deferred,
    scheduling.slow_backfill,
    scheduling.unhurried_passes,
    scheduling.passed_over,
    scheduling.no_backfill,
    scheduling.completing_held_back,
    scheduling.whole_nodes_only,
    scheduling.powered_down,
    scheduling.without_time_limit,
    scheduling.outlasts_end,
    access.unguarded,
    access.guard_differs,
    access.not_woken,
    access.ends_not_heard,
    leftovers.left_behind,
    access.signal_hole,
    access.uninvited,
    access.accounts_unknown,
    access.strangers_named,
    access.no_operator,
    access.run_as_root,
    access.hook_not_run,
    reservations.lendable_down,
    reservations.never_lent,
    reservations.only_lendable,
    reservations.unmet,
    reservations.not_ours,
    reservations.wrong_flags,
    reservations.overlaid,
    reservations.nodes_lost,
    reservations.clocks_differ,
    reservations.magnetic,
)


def id_of(check: Check) -> str:
    """The stable name of what a check finds, such as `no-net`."""
    return check.__name__.replace("_", "-")


def findings(view: View, here: Here | None = None) -> list[Finding]:
    """Everything that is found, errors first."""
    seen, order = Inspected(view.site, view.cluster, view.memory, here or Here()), list(Level)
    found = (replace(each, id=id_of(check)) for check in CHECKS for each in check(seen))
    return sorted(found, key=lambda each: (order.index(each.level), each.subject, each.id))
