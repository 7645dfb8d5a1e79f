"""Who owned, used, lent and received how much, from plain data. Pure arithmetic, in whole seconds.

A node's time is cut into what its owner used, what was lent, what it was down for, and the rest, which was idle; where
two of these meet the first counts. A loan counts its nodes in full, also where two borrowers shared one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from slurm_reserve.charges import Run
from slurm_reserve.facts import LoanFact, Use, UseFact

Span = tuple[int, int]  # from, to; seconds since the epoch
HOUR = 3600
_LOST = ("evicted", "requeued", "told to go")  # how a cause begins when the work of the run is lost


@dataclass(frozen=True, slots=True)
class Ran:
    """A job's run on some nodes, as Slurm's database has it."""

    job: str
    user: str
    nodes: frozenset[str]
    start: datetime
    end: datetime | None
    state: str
    is_borrower: bool
    account: str = ""


@dataclass(frozen=True, slots=True)
class ReservationAccount:
    """One reservation over a period; node-seconds."""

    name: str
    owned: int
    used: int
    lent: int
    down: int
    loans: int
    evictions: int
    credit: Decimal
    by_node: Mapping[str, Mapping[str, tuple[Span, ...]]] = field(default_factory=dict)  # node -> use -> when

    @property
    def idle(self) -> int:
        """What nobody used."""
        return self.owned - self.used - self.lent - self.down


@dataclass(frozen=True, slots=True)
class BorrowerAccount:
    """One user's borrowing over a period; node-seconds."""

    user: str
    loans: int
    received: int
    lost: int  # of runs that were ended for others: at most, for a job may have saved its work
    evictions: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A whole report."""

    since: datetime
    until: datetime
    source: str  # where the times are from
    reservations: tuple[ReservationAccount, ...]
    borrowers: tuple[BorrowerAccount, ...]
    loans: tuple[LoanFact, ...]


def statement(
    uses: Sequence[UseFact],
    loans: Sequence[LoanFact],
    runs: Sequence[Ran] | None,
    since: datetime,
    until: datetime,
    rate: Decimal,
) -> Statement:
    """Everything over a period; `runs` is None where there is no database, then times are as the daemon saw them."""
    period = (_seconds(since), _seconds(until))
    names = sorted({use.reservation for use in uses})
    found, all_loans = [], list[LoanFact]()
    for name in names:
        spans = _by_use([use for use in uses if use.reservation == name], period)
        mine = [loan for loan in loans if loan.reservation == name and loan.started is not None]
        if runs is not None:
            mine = _completed(name, mine, [run for run in runs if run.is_borrower], spans)
        mine = [loan for cut in mine if (loan := _cut(cut, period)) is not None]
        owners = None if runs is None else [run for run in runs if not run.is_borrower]
        found.append(_account(name, spans, mine, owners, rate, period))
        all_loans += mine
    all_loans.sort(key=lambda loan: (loan.started or since, loan.job))
    source = "what the daemon saw" if runs is None else "Slurm's database"
    return Statement(since, until, source, tuple(found), _borrowers(all_loans), tuple(all_loans))


def is_lost(loan: LoanFact) -> bool:
    """Whether it was ended for others, and its work lost unless it was saved."""
    return loan.cause.startswith(_LOST)


def credit(loan: LoanFact, rate: Decimal) -> Decimal:
    """What the owner earns by a loan: its bid, or the site's rate, for each node and hour."""
    if loan.started is None or loan.ended is None:
        return Decimal(0)
    bid = Decimal(loan.bid) if loan.bid else rate
    return Run(loan.job, loan.user, loan.reservation, len(loan.nodes), loan.started, loan.ended, bid).charge


def _account(
    name: str,
    spans: Mapping[str, Mapping[Use, list[Span]]],
    loans: Sequence[LoanFact],
    owners: Sequence[Ran] | None,
    rate: Decimal,
    period: Span,
) -> ReservationAccount:
    used_on, lent_on = _on_nodes(owners or ()), _loans_on(loans, period)
    by_node = {}
    for node, by_use in spans.items():
        owned = merged(span for use, each in by_use.items() if use is not Use.GONE for span in each)
        used = by_use.get(Use.OWNER, []) if owners is None else used_on.get(node, [])
        used = within(merged(used), owned)
        lent = minus(within(merged(lent_on.get(node, [])), owned), used)
        down = minus(minus(merged(by_use.get(Use.DOWN, [])), used), lent)
        idle = minus(minus(minus(owned, used), lent), down)
        parts = {"owned": owned, "owner": used, "lent": lent, "down": down, "idle": idle}
        by_node[node] = {use: tuple(each) for use, each in parts.items()}
    totals = {use: sum(length(each[use]) for each in by_node.values()) for use in ("owned", "owner", "lent", "down")}
    earned = sum((credit(loan, rate) for loan in loans), Decimal(0))
    return ReservationAccount(
        name, totals["owned"], totals["owner"], totals["lent"], totals["down"], len(loans),
        sum(map(is_lost, loans)), earned, by_node,
    )  # fmt: skip


def _by_use(uses: Iterable[UseFact], period: Span) -> dict[str, dict[Use, list[Span]]]:
    """When each node was used for what, as the daemon saw it."""
    current: dict[str, tuple[Use, int]] = {}
    found: dict[str, dict[Use, list[Span]]] = {}

    def note(node: str, until: int) -> None:
        use, begun = current[node]
        cut = (max(begun, period[0]), min(until, period[1]))
        if cut[0] < cut[1]:
            found.setdefault(node, {}).setdefault(use, []).append(cut)

    for each in sorted(uses, key=lambda use: use.at):
        for node in each.nodes:
            if node in current:
                note(node, _seconds(each.at))
            current[node] = (each.use, _seconds(each.at))
    for node in current:
        note(node, period[1])
    return found


def _completed(
    name: str, loans: Sequence[LoanFact], runs: Iterable[Ran], spans: Mapping[str, Mapping[Use, list[Span]]]
) -> list[LoanFact]:
    """The loans with Slurm's own times; runs that were over between two looks of the daemon are loans too."""
    known = {(loan.job, _seconds(loan.started)): loan for loan in loans if loan.started is not None}
    owned = {
        node: merged(span for use, each in by_use.items() if use is not Use.GONE for span in each)
        for node, by_use in spans.items()
    }
    found = []
    for run in runs:
        nodes = frozenset(n for n in run.nodes & owned.keys() if any(a <= _seconds(run.start) < b for a, b in owned[n]))
        if not nodes:
            continue
        loan = known.pop((run.job, _seconds(run.start)), None)
        if loan is None:
            loan = LoanFact(run.job, run.start, 0, run.user, name, account=run.account, lent_at=run.start)
        cause = loan.cause if is_lost(loan) else _cause(run.state)
        found.append(replace(loan, nodes=nodes, started=run.start, ended=run.end, cause=cause))
    return found + list(known.values())


def _cause(state: str) -> str:
    """How a run ended, from Slurm's word."""
    match state:
        case "REQUEUED" | "PREEMPTED":
            return "requeued, not by the daemon: Slurm's preemption, its user or an admin"
        case "RUNNING" | "PENDING" | "SUSPENDED":
            return ""
    return f"ended {state}"


def _cut(loan: LoanFact, period: Span) -> LoanFact | None:
    """The loan as far as it lies in the period; None when it does not. One that goes on is counted up to its end."""
    start = max(_seconds(loan.started), period[0]) if loan.started else period[1]
    end = min(_seconds(loan.ended) if loan.ended else period[1], period[1])
    if start > end or start >= period[1]:
        return None
    return replace(loan, started=datetime.fromtimestamp(start, UTC), ended=datetime.fromtimestamp(end, UTC))


def _on_nodes(runs: Iterable[Ran]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for run in runs:
        end = _seconds(run.end) if run.end else 1 << 40
        for node in run.nodes:
            found.setdefault(node, []).append((_seconds(run.start), end))
    return found


def _loans_on(loans: Iterable[LoanFact], period: Span) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for loan in loans:
        start = _seconds(loan.started) if loan.started else period[1]
        for node in loan.nodes:
            found.setdefault(node, []).append((start, _seconds(loan.ended) if loan.ended else period[1]))
    return found


def _borrowers(loans: Iterable[LoanFact]) -> tuple[BorrowerAccount, ...]:
    found: dict[str, list[LoanFact]] = {}
    for loan in loans:
        found.setdefault(loan.user, []).append(loan)
    return tuple(
        BorrowerAccount(
            user,
            len(each),
            sum(loan.node_seconds for loan in each),
            sum(loan.node_seconds for loan in each if is_lost(loan)),
            sum(map(is_lost, each)),
        )
        for user, each in sorted(found.items())
    )


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same time without overlaps, in order."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def within(spans: Sequence[Span], frame: Sequence[Span]) -> list[Span]:
    """The part that lies in a frame; both without overlaps."""
    return merged((max(a, c), min(b, d)) for a, b in spans for c, d in frame)


def minus(spans: Sequence[Span], taken: Sequence[Span]) -> list[Span]:
    """What is left; both without overlaps, in order."""
    found = []
    for start, end in spans:
        at = start
        for a, b in taken:
            if b <= at or a >= end:
                continue
            if a > at:
                found.append((at, a))
            at = max(at, b)
        if at < end:
            found.append((at, end))
    return found


def length(spans: Iterable[Span]) -> int:
    """Seconds in all."""
    return sum(end - start for start, end in spans)


def _seconds(at: datetime | None) -> int:
    return int(at.timestamp()) if at else 0
