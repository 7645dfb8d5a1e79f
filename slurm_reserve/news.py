"""What a cycle tells those who watch it: metrics and the hook. Plain data, handed over when all is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from slurm_reserve.bound import bound
from slurm_reserve.execute import Outcome
from slurm_reserve.facts import LoanFact, Use, WaitFact
from slurm_reserve.memory import Load
from slurm_reserve.plan import Plan
from slurm_reserve.reclaim import CLOSING, Verdict
from slurm_reserve.tracking import Changes
from slurm_reserve.view import View


@dataclass(frozen=True, slots=True)
class News:
    """What one cycle saw, decided and did, and what is open after it."""

    view: View
    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    changes: Changes = field(default_factory=Changes)
    is_whole: bool = True  # False: only what somebody has just submitted was looked at
    waits: tuple[WaitFact, ...] = ()  # of owners' jobs that have not started
    loans: tuple[LoanFact, ...] = ()
    uses: Mapping[tuple[str, str], Use] = field(default_factory=dict)  # (reservation, node) -> what it is used for
    problems: Mapping[str, str] = field(default_factory=dict)  # journal, ledger -> why it cannot be written; "": it can


class Ended(StrEnum):
    """How a cycle ended."""

    DONE = "done"
    STANDING_BY = "standing_by"  # another daemon acts
    UNREACHABLE = "unreachable"  # slurmctld gave no answer
    UNREADABLE = "unreadable"  # it gave one that was not understood
    UNSOUND = "unsound"  # the plan would have broken an invariant
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Round:
    """How a cycle went, whatever it saw."""

    seconds: float
    ended: Ended = Ended.DONE
    is_whole: bool = True
    text: str = ""  # what was wrong
    commands: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (command, outcome) -> how many so far
    requests: int = 0  # that slurmctld had to answer so far
    load: Load = field(default_factory=Load)
    interval: float = 0.0  # seconds between two looks when nothing happens


@dataclass(frozen=True, slots=True)
class Waiting:
    """An owner's job that might run now, were its nodes there."""

    fact: WaitFact
    seconds: float  # since it was its turn
    bound: float  # seconds that are promised

    @property
    def is_breach(self) -> bool:
        """Whether it has waited for longer than was promised."""
        return self.seconds > self.bound


def waiting(news: News) -> Iterator[Waiting]:
    """The owners' jobs whose turn it is, as far as this cycle decided on them.

    Not those that cannot be proved to fit: they may well wait for their owner's own jobs.
    """
    certain = CLOSING - {Verdict.UNPROVEN}
    turns = {d.job.id for d in news.plan.decisions if d.verdict in certain and not d.is_ahead}
    for fact in news.waits:
        spec = news.view.site.reservation(fact.reservation)
        if fact.wanted is None or fact.job not in turns or spec is None:
            continue
        promised = bound(news.view.site, news.view.cluster.config, spec).total.total_seconds()
        yield Waiting(fact, max((news.view.cluster.at - fact.wanted).total_seconds(), 0.0), promised)
