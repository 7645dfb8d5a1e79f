"""What the journal knows of one job, as sentences; and the chain of each borrowed interval (B46). Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slurm_reserve.evidence.reading import Recorded
from slurm_reserve.facts import LoanFact, WaitFact
from slurm_reserve.words import nodes as listed
from slurm_reserve.words import printable

MARGIN = timedelta(seconds=2)  # Slurm tells whole seconds
_STEPS = {"decision": "decided", "outcome": "done", "verdict": "found", "idle": "seen"}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened."""

    at: datetime
    what: str  # a word for its kind
    text: str
    decision: int | None = None  # its number, for `replay`


@dataclass(frozen=True, slots=True)
class Chain:
    """Why one borrower was on reserved nodes, from the reservation to the owner's start."""

    loan: LoanFact
    steps: tuple[Step, ...]


def story(entries: Iterable[Recorded]) -> list[Step]:
    """Entries as steps, what is said twice once."""
    found: list[Step] = []
    for each in entries:
        step = Step(
            each.entry.at, _STEPS.get(each.entry.kind, each.entry.kind), printable(each.entry.text, 400), each.decision
        )
        if not found or found[-1].text != step.text:
            found.append(step)
    return found


def about_loan(loan: LoanFact) -> str:
    """One borrowed run in one sentence."""
    who, name = f"job {loan.job} of {printable(loan.user, 64)}", loan.reservation
    if loan.started is None:
        fate = loan.cause or "has not started yet"
        return f"{who} was sent to {name} at {moment(loan.lent_at)}; {printable(fate)}"
    where = f"{who} ran on {listed(loan.nodes)} of {name}, which was idle, from {moment(loan.started)}"
    if loan.ended is None:
        return f"{where} and still does"
    took = span((loan.ended - loan.started).total_seconds())
    return f"{where} to {moment(loan.ended)} ({took}); {printable(loan.cause)}"


def about_wait(wait: WaitFact) -> str:
    """One wait of an owner's job in one sentence."""
    who = f"job {wait.job} of {printable(wait.user, 64)}"
    begun = f"{who}, an owner's of {wait.reservation}, might start from {moment(wait.wanted or wait.eligible)}"
    took, promised = wait.seconds, span(wait.bound)
    if took is None:
        return begun
    kept = f"more than the {promised} that are promised" if wait.is_breach else f"of the {promised} that are promised"
    if wait.started is None:
        return f"{begun} and was gone after {span(took)}, {kept}"
    why = "lent nodes had to come back for it" if wait.needed else "nobody had to go for it"
    parts = ", ".join(f"{name} {span(seconds)}" for name, seconds in wait.parts().items() if seconds)
    made_of = f" ({parts})" if parts and wait.seen else ""
    return f"{begun} and ran from {moment(wait.started)}: {span(took)}{made_of}, {kept}; {why}"


def chains(loans: Sequence[LoanFact], entries: Sequence[Recorded], waits: Sequence[WaitFact]) -> list[Chain]:
    """For each loan what led to it and what came of it, in the order of time."""
    known = _known(entries, waits)
    return [Chain(loan, tuple(_chain(loan, known))) for loan in loans]


@dataclass(frozen=True, slots=True)
class _Known:
    """What chains are made of, by what it is looked up by: a journal of months has many loans and more entries."""

    made: dict[str, list[Recorded]] = field(default_factory=dict)  # by reservation, in the order of time
    idle: dict[str, list[Recorded]] = field(default_factory=dict)  # by node, in the order of time
    of_job: dict[str, list[Recorded]] = field(default_factory=dict)  # as they were written
    begun: dict[str, WaitFact] = field(default_factory=dict)  # the first of an owner's job that started, by `_whose`


def _known(entries: Sequence[Recorded], waits: Sequence[WaitFact]) -> _Known:
    known = _Known()
    for each in entries:
        if each.entry.kind == "idle":
            _append(known.idle.setdefault(str(each.data.get("node")), []), each)
        elif each.entry.kind == "decision" and (data := each.data).get("action") == "CreateReservation":
            _append(known.made.setdefault(str(data.get("name")), []), each)
        if each.entry.job:
            known.of_job.setdefault(each.entry.job, []).append(each)
    for wait in waits:
        if wait.started is not None:
            known.begun.setdefault(_whose(wait), wait)
    return known


def _when(each: Recorded) -> datetime:
    return each.entry.at


def _append(earlier: list[Recorded], each: Recorded) -> None:
    """In the order of time; after a clock was put back, what it had written ahead of that is never the latest."""
    while earlier and _when(earlier[-1]) >= _when(each):
        earlier.pop()
    earlier.append(each)


def _until(entries: Sequence[Recorded], at: datetime) -> Sequence[Recorded]:
    """The last that is not later; none or one."""
    count = bisect_right(entries, at, key=_when)
    return entries[max(count - 1, 0) : count]


_FOR = " for job "  # in the cause of a loan's end; then comes whose


def _whose(wait: WaitFact) -> str:
    return f"{wait.job} of {wait.user}"


_AGAINST_IT = ("signal job", "requeue job", "cancel job")  # what may follow a start within the same second


def _chain(loan: LoanFact, known: _Known) -> list[Step]:
    begin = loan.lent_at or loan.started or loan.submitted
    end = (loan.ended or datetime.max.replace(tzinfo=begin.tzinfo) - MARGIN) + MARGIN
    made = _until(known.made.get(loan.reservation, ()), begin)
    idle = [each for node in sorted(loan.nodes) for each in _until(known.idle.get(node, ()), begin + MARGIN)]
    of_job = [e for e in known.of_job.get(loan.job, ()) if begin - MARGIN <= e.entry.at <= end]
    steps = story([*made, *sorted(idle, key=_when), *of_job])
    if loan.started is not None:
        told = (n for n, step in enumerate(steps) if step.text.startswith(_AGAINST_IT))
        steps.insert(
            next(told, len(steps)), Step(loan.started, "began", f"job {loan.job} began on {listed(loan.nodes)}")
        )
    if loan.ended is not None:
        steps.append(Step(loan.ended, "ended", f"job {loan.job} {printable(loan.cause)}"))
    wait = known.begun.get(loan.cause.rpartition(_FOR)[2])
    if wait is not None and wait.started is not None:
        steps.append(Step(wait.started, "owner", f"job {wait.job} of {printable(wait.user, 64)} began"))
    return sorted(steps, key=lambda step: int(step.at.timestamp()))  # Slurm tells whole seconds: causes come first


def moment(at: datetime | None) -> str:
    """A time for people, in their zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else "an unknown time"


def span(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
