"""A plan for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from slurm_reserve import periods, words
from slurm_reserve.words import printable

if TYPE_CHECKING:
    from rich.console import Console

    from slurm_reserve.cycle import Result


def as_data(result: Result) -> dict[str, Any]:
    """Everything that was decided, with reasons."""
    plan, jobs = result.plan, {job.key: job for job in result.view.cluster.jobs}
    return {
        "at": result.view.cluster.at,
        "decisions": [
            {"job": d.job.id, "user": d.job.user, "reservation": d.reservation, "verdict": str(d.verdict), "why": d.why,
             "nodes": d.nodes}
            for d in plan.decisions
        ],
        "victims": [
            {"job": v.job.id, "user": v.job.user, "nodes": v.job.nodes, "reservation": v.reservation, "cause": v.cause,
             "reason": v.reason, "by": "slurm" if v.by_slurm else "daemon"}
            for v in plan.victims
        ],
        "loans": [
            {"job": loan.job.id, "user": loan.job.user, "reservation": loan.reservation, "nodes": loan.nodes}
            for loan in plan.loans
        ],
        "not_lent": dict(plan.not_lent),
        "withheld": dict(plan.withheld),
        "unmet": dict(plan.unmet),
        "reports": dict(plan.reports),
        "actions": [{"action": words.describe(a, jobs), "reason": a.reason} for a in plan.actions],
    }  # fmt: skip


def print_plan(console: Console, result: Result, remark: str) -> None:
    """Section by section, empty ones left out; ends with the actions in their order."""
    plan, jobs = result.plan, {job.key: job for job in result.view.cluster.jobs}
    if remark:
        console.print(Text(remark, style="yellow"))
    for spec in result.view.site.reservations:
        nodes = spec.nodes if isinstance(spec.nodes, frozenset) else None
        there = result.view.cluster.reservations.get(spec.name)
        names = words.nodes(there.nodes) if there else (words.nodes(nodes) if nodes else "nodes yet to be chosen")
        state = "" if there else "  (not there yet)"
        console.print(Text(f"reservation {spec.name}: {names}{state}", style="bold"))
        if said := periods.describe(spec, result.view.cluster.at):
            console.print(Text(f"  {said}"))
        if why := plan.unmet.get(spec.name):
            console.print(Text(f"  cannot be met: {why}", style="red"))
        if why := plan.withheld.get(spec.name):
            console.print(Text(f"  nothing new is lent: {why}"))
        for decision in (d for d in plan.decisions if d.reservation == spec.name):
            said = f"  job {decision.job.id} of {printable(decision.job.user)} {decision.verdict}: {decision.why}"
            console.print(Text(said))
        for loan in (each for each in plan.loans if each.reservation == spec.name):
            where = words.nodes(loan.nodes)
            console.print(Text(f"  job {loan.job.id} of {printable(loan.job.user)} is lent {where}", style="green"))
    _list(
        console, "nodes that are not lent", {k: v for k, v in plan.withheld.items() if k in result.view.cluster.nodes}
    )
    _list(console, "waiting borrowers that are not lent to", dict(plan.not_lent))
    _list(console, "to be known", dict(plan.reports))
    console.print(Text("actions", style="bold") if plan.actions else Text("nothing to do", style="bold"))
    for number, action in enumerate(plan.actions, 1):
        console.print(Text(f"  {number}. {words.describe(action, jobs)}"))
        console.print(Text(f"     because {printable(action.reason)}", style="dim"))


def _list(console: Console, title: str, entries: dict[str, str], most: int = 20) -> None:
    if not entries:
        return
    console.print(Text(title, style="bold"))
    for key, value in list(entries.items())[:most]:
        console.print(Text(f"  {printable(key)}: {printable(value)}"))
    if len(entries) > most:
        console.print(Text(f"  and {len(entries) - most} more", style="dim"))
