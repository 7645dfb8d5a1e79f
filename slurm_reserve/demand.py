"""Which owner work wants nodes of a reservation, and which nodes must come back for another reason. Pure.

A job that cannot start for a reason that no node would cure (dependency, begin time, held, limits) is no demand, unless
it is expected to start so soon that nodes must be taken back now (:mod:`slurm_reserve.lookahead`).
Whether there is room for the rest is decided in :mod:`slurm_reserve.reclaim`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from slurm_reserve import lookahead, periods
from slurm_reserve.bound import longest_stay
from slurm_reserve.lookahead import Expected
from slurm_reserve.model import Job, Reservation
from slurm_reserve.site import AtEnd, Find, ReservationSpec
from slurm_reserve.view import View

# Slurm's words for "it would start, were there nodes"; a new job has none yet. squeue(1), JOB REASON CODES.
_WANTS_NODES = frozenset({"", "None", "Priority", "Resources", "Reservation", "ReqNodeNotAvail", "NodeDown"})
_BUSY_NODES = "Nodes required for job are"  # ... DOWN, DRAINED or reserved for jobs in higher priority partitions


@dataclass(frozen=True, slots=True)
class Want:
    """An owner's pending job that may use a reservation."""

    job: Job
    names_it: bool  # it is in the reservation: by name, or attached
    blocked: str = ""  # why no node would help it; "" when nodes would
    start: Expected | None = None  # when it cannot start now, but is expected to


@dataclass(frozen=True, slots=True)
class Recall:
    """Nodes that must come back whoever waits."""

    nodes: frozenset[str]
    cause: str
    reason: str


@lru_cache(maxsize=4096)
def is_waiting_for_nodes(reason: str) -> bool:
    """Whether Slurm's reason (which may carry a list of nodes behind a comma) is cured by nodes."""
    word = reason.partition(",")[0].partition("(")[0].strip()
    return word in _WANTS_NODES or word.replace("_", " ").startswith(_BUSY_NODES)


def blocked(view: View, job: Job) -> str:
    """Why nodes would not help a pending job; "" when they would."""
    if job.priority == 0:
        return "held"
    eligible = job.eligible
    if eligible is not None and eligible > view.cluster.at and eligible > job.submitted:  # its own clock is Slurm's
        return "its begin time has not come"
    return "" if is_waiting_for_nodes(job.reason) else f"waits for another reason ({job.reason})"


def wants(view: View, spec: ReservationSpec) -> tuple[Want, ...]:
    """The owner's pending jobs that may use this reservation, in Slurm's order."""
    found = []
    for job in view.waiting_of(spec):
        names_it = spec.name in job.reservation.split(",")
        drawn = not job.reservation and spec.find is not Find.NAME
        if names_it or drawn:
            why = blocked(view, job) or ("" if names_it else _kept_off(view, spec, job))
            start = lookahead.expected(view, job) if why else None
            is_soon = start is not None and lookahead.is_soon(view, spec, start)
            found.append(Want(job, names_it, "" if is_soon else why, start))
    return tuple(sorted(found, key=lambda want: not want.names_it))


def recalls(view: View, spec: ReservationSpec, reservation: Reservation) -> tuple[Recall, ...]:
    """Nodes wanted back by an order, the end of the reservation or of lending, or maintenance."""
    now = view.cluster.at
    found = [
        Recall(order.nodes or reservation.nodes, "order", f"ordered back by {order.by or 'an admin'}")
        for order in view.memory.orders.reclaims(spec.name, now)
    ]
    if view.site.reservation(spec.name) is None:
        found.append(Recall(reservation.nodes, "end", f"{spec.name} is no longer declared"))
    elif why := why_not_lending(view, spec):
        found.append(Recall(reservation.nodes, "lending off", f"{spec.name}: {why}"))
    end = periods.ends(spec, now)
    if end is not None and now >= end - lead_time(view, spec):
        found.append(Recall(reservation.nodes, "end", f"{spec.name} ends at {end:%Y-%m-%d %H:%M:%S %Z}"))
    if isinstance(spec.nodes, frozenset) and reservation.nodes - spec.nodes:
        found.append(Recall(reservation.nodes - spec.nodes, "end", f"no longer nodes of {spec.name}"))
    found.extend(_maintenance(view, spec, reservation))
    return tuple(found)


def why_not_lending(view: View, spec: ReservationSpec) -> str:
    """Why lending is off, "" when it is on: by a standing order, else by the configuration.

    An order `until` a time is turned round then; one that turns lending on does so outside its windows, too.
    """
    order = view.memory.orders.lend.get(spec.name)
    if order is not None:
        is_over = order.until is not None and view.cluster.at >= order.until
        return "" if order.enabled != is_over else "lending is off"
    if not spec.lend.enabled:
        return "lending is off"
    return periods.next_lending(spec, view.cluster.at, lead_time(view, spec))[0]


def outlasts(view: View, spec: ReservationSpec, job: Job) -> bool:
    """Whether a job that started now might still run when the reservation ends."""
    end = periods.ends(spec, view.cluster.at)
    return end is not None and (job.time_limit is None or view.cluster.at + job.time_limit > end)


def _kept_off(view: View, spec: ReservationSpec, job: Job) -> str:
    """Why a job that names no reservation is not sent to one that ends: it would be ended, or requeued at once."""
    end = periods.ends(spec, view.cluster.at)
    if end is None:
        return ""
    if end <= view.cluster.at:
        return "the reservation is not in force now"
    if not outlasts(view, spec, job) or spec.at_end is AtEnd.KEEP:
        return ""
    if spec.at_end is AtEnd.CANCEL:
        return "it may take longer than the reservation lasts, and would be ended with it; name it to start it anyhow"
    is_late = view.cluster.at >= end - hand_back_time(view)
    return "the reservation is about to end" if is_late else ""


def lead_time(view: View, spec: ReservationSpec) -> timedelta:
    """How long before a fixed time a borrower must be told to go, to be gone by then."""
    return longest_stay(view.site, spec) + hand_back_time(view)


def hand_back_time(view: View) -> timedelta:
    """How long before a fixed time a job must be ended, to have left its node by then; three looks and a pass."""
    daemon = view.site.daemon
    looks = 3 * daemon.poll + daemon.scheduling_pass
    return view.cluster.config.kill_wait + daemon.epilog_time + looks


def _maintenance(view: View, spec: ReservationSpec, reservation: Reservation) -> list[Recall]:
    soon = view.cluster.at + lead_time(view, spec)
    return [
        Recall(other.nodes & reservation.nodes, "maintenance", f"maintenance {other.name} begins")
        for other in view.cluster.reservations.values()
        if "MAINT" in other.flags and other.nodes & reservation.nodes and other.start <= soon
    ]
