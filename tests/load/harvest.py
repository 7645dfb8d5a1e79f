"""How much of the idle node-time that could be lent was lent, and what kept the rest. Imports nothing of the package.

A second of a reserved node is harvestable when nobody but borrowers is on it, its reservation's policy admits a loan,
no owner's job is about to use the reservation, and a borrower waits that would fit; or when it is lent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from tests.load.evidence import Declared, Evidence, Run

SENT, UNSENT = "a borrower was sent there and Slurm had not started it", "nobody was sent there"


@dataclass
class Harvest:
    """Node-seconds."""

    lent: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # why -> node-seconds
    by_reservation: dict[str, list[int]] = field(default_factory=dict)  # name -> lent, lost
    starts: list[float] = field(default_factory=list)  # seconds from the attach to the start
    closed: int = 0  # kept for an owner's job that was about to start; not harvestable

    @property
    def share(self) -> float:
        """Lent, of what could have been."""
        return self.lent / (self.lent + self.lost.total() or 1)

    @property
    def slurms_share(self) -> float:
        """What it would be had everybody been sent at once: Slurm's own floor in this run."""
        return self.lent / (self.lent + self.lost[SENT] or 1)

    def text(self) -> str:
        """Some lines."""
        lines = [
            f"harvestable: {self.lent + self.lost.total()} node-seconds, of which {self.lent} were lent: "
            f"{100 * self.share:.1f} %",
            *(f"  lost {count}: {why}" for why, count in self.lost.most_common()),
            f"  Slurm alone would have left {100 * self.slurms_share:.1f} %; "
            f"kept for owners about to start: {self.closed}",
        ]
        if self.starts:
            ordered = sorted(self.starts)
            lines.append(
                f"  from attach to start: median {median(ordered):.1f} s, "
                f"p95 {ordered[len(ordered) * 95 // 100]:.1f} s, {len(ordered)} loans"
            )
        for name, (lent, lost) in sorted(self.by_reservation.items()):
            lines.append(f"  {name:<10} {100 * lent / (lent + lost or 1):5.1f} % of {lent + lost}")
        return "\n".join(lines)


def of(evidence: Evidence) -> Harvest:
    """Count it, second by second."""
    found = Harvest()
    sent = _sent(evidence, found)
    waiting = _waiting(evidence)
    for reservation in evidence.reservations:
        lent = lost = 0
        owners = [run for run in evidence.runs if run.user in reservation.owners and not evidence.is_borrower(run)]
        for at in range(evidence.began, evidence.ended):
            idle, on_loan = _nodes(evidence, reservation, at)
            lent += len(on_loan)
            if any(run.waits(at) and evidence.would_fit(run, reservation, at) for run in owners):
                found.closed += len(idle)
                continue
            open_to_loans = _lendable(evidence, reservation, idle, at)
            kept = max(len(open_to_loans) - (len(idle) - reservation.keep_idle_nodes), 0)
            missing = len(open_to_loans) - kept
            fitting = any(_takes(run, reservation, missing, evidence) for run in waiting.get(at, ()))
            if missing > 0 and fitting:
                lost += missing
                is_sent = any(a <= at < b for a, b in sent.get(reservation.name, ()))
                found.lost[SENT if is_sent else UNSENT] += missing
        found.lent += lent
        found.by_reservation[reservation.name] = [lent, lost]
    return found


def _nodes(evidence: Evidence, reservation: Declared, at: int) -> tuple[list[str], list[str]]:
    """Nodes that nobody holds, and those that only borrowers hold."""
    idle, lent = [], []
    for node in reservation.nodes:
        if evidence.is_owners_in_use(node, at):
            continue
        is_lent = any(run.holds(node, at) for run in evidence.on.get(node, ()))
        (lent if is_lent else idle).append(node)
    return idle, lent


def _lendable(evidence: Evidence, reservation: Declared, idle: list[str], at: int) -> list[str]:
    """Those of the idle nodes that have been idle for long enough."""
    ends = {
        node: max((run.end for run in evidence.others_on(node) if run.end <= at), default=evidence.began)
        for node in idle
    }
    return [node for node in idle if at - ends[node] >= reservation.after_idle]


def _waiting(evidence: Evidence) -> dict[int, list[Run]]:
    """The borrowers that wait in each second, but for those that nobody can send: they have just come."""
    found: dict[int, list[Run]] = defaultdict(list)
    for run in evidence.runs:
        if evidence.is_borrower(run):
            for at in range(max(run.eligible, evidence.began), min(run.start, run.end, evidence.ended)):
                found[at].append(run)
    return found


def _takes(run: Run, reservation: Declared, count: int, evidence: Evidence) -> bool:
    """Whether a waiting borrower would fit on so many idle nodes of a reservation."""
    most = reservation.max_minutes
    is_short = most is None or (run.minutes is not None and run.minutes <= most)
    return is_short and run.count <= count and run.cpus <= max(evidence.cpus[node] for node in reservation.nodes)


def _sent(evidence: Evidence, found: Harvest) -> dict[str, list[tuple[float, float]]]:
    """For each reservation when somebody was on the way there; and how long each took who arrived."""
    starts = defaultdict(list)
    for run in evidence.runs:
        if run.nodes:
            starts[run.id].append(run)
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for at, job, lend, until in _journeys(evidence):
        name = lend.removesuffix(".lend")
        arrived = [run for run in starts[job] if at - 1 <= run.start and (until is None or run.start <= until)]
        end = arrived[0].start if arrived else until
        if arrived:
            found.starts.append(max(arrived[0].start - at, 0.0))
        spans[name].append((at, end if end is not None else evidence.ended))
    return spans


def _journeys(evidence: Evidence) -> Iterator[tuple[float, str, str, float | None]]:
    """When each borrower was attached, to what, and when it was taken off or sent anew."""
    under_way: dict[str, tuple[float, str]] = {}
    for at, what, job, where in sorted(evidence.sent):
        if job in under_way:
            began, lend = under_way.pop(job)
            yield began, job, lend, at
        if what == "attach" and where.endswith(".lend"):
            under_way[job] = (at, where)
    for job, (began, lend) in under_way.items():
        yield began, job, lend, None
