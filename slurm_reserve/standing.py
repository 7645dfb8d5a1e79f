"""How a reservation stands, as its owner and an admin are shown it. Pure."""

from __future__ import annotations

from typing import Any

from slurm_reserve import demand, periods
from slurm_reserve.bound import bound
from slurm_reserve.model import Job
from slurm_reserve.plan import Plan
from slurm_reserve.site import ReservationSpec
from slurm_reserve.view import View


def state(view: View, spec: ReservationSpec, name: str) -> tuple[str, list[Job]]:
    """One word for a node, and who holds it."""
    node = view.cluster.nodes.get(name)
    holders = list(view.holders.get(name, ()))
    if node is None or not node.is_usable:
        return "down", holders
    if not holders:
        return "idle", holders
    if any(view.is_owners(spec, job) for job in holders):
        return "owner", holders
    return ("lent" if all(view.is_borrower(job) for job in holders) else "others"), holders


def for_owner(view: View, plan: Plan, spec: ReservationSpec) -> dict[str, Any]:
    """Plain data, fit for JSON. Of others' jobs only the ids: their users are nobody's business."""
    there = view.cluster.reservations.get(spec.name)
    nodes = {name: state(view, spec, name) for name in sorted(there.nodes if there else ())}
    decisions = [d for d in plan.decisions if d.reservation == spec.name]
    own = {f"job {decision.job.id}" for decision in decisions}
    about = (spec.name, f"{spec.name} ")
    return {
        "at": view.cluster.at.isoformat(timespec="seconds"),
        "in_slurm": there is not None,
        "period": periods.describe(spec, view.cluster.at),
        "nodes": {name: {"state": word, "jobs": [job.id for job in jobs]} for name, (word, jobs) in nodes.items()},
        "waiting": [{"job": d.job.id, "verdict": str(d.verdict), "why": d.why} for d in decisions],
        "lending": demand.why_not_lending(view, spec) or plan.withheld.get(spec.name, "") or "on",
        "longest_wait_seconds": bound(view.site, view.cluster.config, spec).total.total_seconds(),
        "unmet": plan.unmet.get(spec.name, ""),
        "reports": [text for key, text in plan.reports.items() if key in own or key.startswith(about)],
    }
