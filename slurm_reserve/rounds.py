"""When the cluster is looked at, whole or in part: by polling, for a deadline, after a wake-up."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from slurm_reserve import control, cycle, lease, naming, scope
from slurm_reserve.errors import ReserveError
from slurm_reserve.execute import Clock
from slurm_reserve.ledger import Ledger
from slurm_reserve.model import Cluster, JobKey
from slurm_reserve.news import Ended, Round
from slurm_reserve.pace import Looks, Pace
from slurm_reserve.plan import Plan
from slurm_reserve.record import Recorder
from slurm_reserve.site import Site
from slurm_reserve.slurm.port import Slurm, SlurmUnavailableError, SlurmUnreadableError
from slurm_reserve.wake import Wake

# While a node is on its way back the cluster is looked at more often, ever less so as it takes longer; in seconds.
SOONEST, LATER = 0.1, 1.5
CLOCK_STEPS = timedelta(seconds=5)  # smaller steps of the clock do no harm
AFTER_A_WAKE_UP = 0.05  # until what was submitted, or has ended, shows


class CountedSlurm(Slurm, Protocol):
    """Slurm, with the number of calls made."""

    @property
    def requests(self) -> int:
        """How many remote procedure calls slurmctld had to answer."""
        ...

    @property
    def outcomes(self) -> Mapping[tuple[str, str], int]:
        """How often each command was run, and what came of it."""
        ...


class Log(Protocol):
    """What is used of a structured logger."""

    def info(self, event: str, **values: Any) -> Any:
        """Say what happened."""
        ...

    def error(self, event: str, **values: Any) -> Any:
        """Say what went wrong."""
        ...


class Watch(Protocol):
    """Somebody who is told how it goes; it returns at once, and raises nothing."""

    def took_over(self, site: Site) -> None:
        """Another configuration holds."""
        ...

    def went(self, done: Round) -> None:
        """So a cycle went."""
        ...

    def close(self) -> None:
        """Nothing more is told."""
        ...


@dataclass(slots=True)
class Rounds:
    """One thing at a time: a whole cycle, or a look at what somebody has just submitted."""

    site: Site
    slurm: CountedSlurm
    ledger: Ledger
    recorder: Recorder
    clock: Clock
    log: Log
    watch: Watch | None = None
    beat: cycle.Beat = cycle.no_beat  # what is to be done after each action
    seen: Cluster | None = None  # by the last cycle; without strangers' waiting jobs
    told: tuple[Cluster, Plan] | None = None  # what the last whole cycle saw and decided, to be shown
    _decided: frozenset[JobKey] = frozenset()  # waiting jobs that were looked at
    _looks: Looks = field(default_factory=Looks)
    _pace: Pace = field(init=False)
    _next: float = 0.0  # when the next cycle is due; monotonic seconds
    _pause: float = SOONEST
    _ailing: str = ""
    _read: tuple[datetime, float] | None = None  # the clock, and monotonic seconds, when last looked at together

    def __post_init__(self) -> None:
        self.take_over(self.site)

    def take_over(self, site: Site) -> None:
        """Go by this configuration from now on, beginning with a cycle at once."""
        self.site = site
        self._pace = Pace(site.daemon.poll.total_seconds(), site.slurm.max_calls_per_second)
        if self.watch is not None:
            self.watch.took_over(site)
        self.hurry()

    def hurry(self) -> None:
        """Let the next cycle come at once."""
        self._next = 0.0

    @property
    def due(self) -> float:
        """When there is something to do next; monotonic seconds."""
        look = self._looks.next_at()
        if look is None:
            return self._next
        now = time.monotonic()
        return min(self._next, max(look, now + self._pace.wait_for_owner(now)))

    def step(self) -> None:
        """Do what is due, if anything is."""
        self._mind_the_clock()
        now = time.monotonic()
        if now >= self._next:
            wanted = self._cycle()
            now = time.monotonic()
            self._next = now + max(wanted, self._pace.wait(now))
        elif not self._pace.wait_for_owner(now) and (users := self._looks.due(now)):
            self._look_at(users)

    def _mind_the_clock(self) -> None:
        """A jump of the clock makes no notice shorter or longer, and no wait or idle time either."""
        read, steady = self.clock(), time.monotonic()
        if self._read is not None:
            jumped = read - self._read[0] - timedelta(seconds=steady - self._read[1])
        else:  # what was noted by a daemon before this one cannot be yet to come
            jumped = min(read - (self.ledger.latest() or read), timedelta(0))
        if abs(jumped) > CLOCK_STEPS:
            seconds = round(jumped.total_seconds())
            self.log.info(f"the clock was put {'ahead' if seconds > 0 else 'back'} by {abs(seconds)} s")
            self.ledger.move_times(jumped)
        self._read = read, steady

    def rung(self, woken: Wake) -> None:
        """Owners are looked for at once; for others the next cycle comes sooner, if that leaves enough for owners.

        So it does for one whom no command line can name: a whole cycle names nobody.
        """
        now = time.monotonic()
        known = scope.Owners(self.site, self.seen) if self.seen is not None else None
        named = filter(naming.is_user, woken.users)
        owners = frozenset(user for user in named if known is None or known.may_have(user))
        self._looks.add(owners, now)
        if (woken.moved or woken.users - owners) and self._pace.has_plenty(now):
            self._next = min(self._next, now + AFTER_A_WAKE_UP)

    def _cycle(self) -> float:
        """One whole cycle; returns how long to wait for the next, in seconds."""
        begun = time.monotonic()
        try:
            self.ledger.read_orders()
            control.forget_past(self.ledger, self.clock())
            with self._counted(is_cycle=True):
                parts = (self.site, self.slurm, self.ledger, self.recorder, self.clock)
                result = cycle.run_once(*parts, beat=self.beat)
        except (ReserveError, ValueError) as error:  # a name or a fact that cannot be: owners wait for who stays
            self.seen = None
            self._pace.broke_off()
            self._ail(error)
            self._went(begun, error=error)
            return self._pace.poll
        if self._ailing:
            self.log.info("the cluster can be read again")
            self._ailing = ""
        self.seen = scope.base(self.site, result.view.cluster)
        self.told = self.seen, replace(result.plan, not_lent={})
        self._decided = frozenset(decision.job.key for decision in result.plan.decisions)
        self._measure()
        self._went(begun)
        self.recorder.forget(self.clock() - self.site.daemon.keep_journal)
        return self._until(result.plan.wake_at)

    def _look_at(self, users: frozenset[str]) -> None:
        """What these users have just submitted; where it cannot be looked at by itself, all of the cluster is."""
        begun = time.monotonic()
        try:
            if self.seen is None:
                raise cycle.StaleError("nothing was seen yet")
            with self._counted():
                parts = (self.site, self.slurm, self.ledger, self.recorder, self.clock)
                found = cycle.look_at(*parts, self.seen, users, self._decided, self.beat)
        except (ReserveError, ValueError):  # the next cycle says what is wrong, if it still is
            self._looks.done(users)
            now = time.monotonic()
            self._next = min(self._next, now + self._pace.wait_for_owner(now, is_whole=True))
            return
        if found is None:
            self._looks.seen_nothing(users)
            return
        self._looks.done(users)
        self._went(begun, is_whole=False)
        self._decided |= {decision.job.key for decision in found.plan.decisions}
        if found.outcomes:
            self.seen, self._pause = None, SOONEST
            self._next = min(self._next, time.monotonic() + SOONEST)

    def _went(self, begun: float, *, is_whole: bool = True, error: Exception | None = None) -> None:
        """Tell who watches."""
        if self.watch is None:
            return
        took, ended = time.monotonic() - begun, Ended.DONE if error is None else _ended(error)
        calls = (dict(self.slurm.outcomes), self.slurm.requests)
        self.watch.went(Round(took, ended, is_whole, str(error or ""), *calls, self._pace.load, self._pace.interval))

    @contextmanager
    def _counted(self, is_cycle: bool = False) -> Iterator[None]:
        before = self.slurm.requests
        try:
            yield
        finally:
            self._pace.spend(self.slurm.requests - before, time.monotonic(), is_cycle)

    def _measure(self) -> None:
        """Ask slurmctld now and then what it spends on us."""
        now = time.monotonic()
        if not self._pace.is_to_measure(now):
            return
        with self._counted():
            spent = self.slurm.spent()
        if spent is not None:
            self._pace.measured(spent, now)
            self.ledger.put("load", "slurmctld", asdict(self._pace.load))

    def _ail(self, error: Exception) -> None:
        """Say what is wrong once, not every few seconds, nor for each command that happens to meet it first."""
        kind = f"{type(error).__name__}: {str(error).rpartition(': ')[2]}"
        if kind != self._ailing:
            self.log.error("no action is taken", cause=f"{type(error).__name__}: {error}")
        self._ailing = kind

    def _until(self, due: datetime | None) -> float:
        interval = self._pace.interval
        if due is None:
            self._pause = SOONEST
            return interval
        wait = (due - self.clock()) / timedelta(seconds=1)
        if wait <= 0:
            wait, self._pause = self._pause, min(self._pause * LATER, interval)
        return min(wait, interval)


def _ended(error: Exception) -> Ended:
    kinds: tuple[tuple[type[ReserveError], Ended], ...] = (
        (lease.StandingByError, Ended.STANDING_BY),
        (cycle.UnsoundPlanError, Ended.UNSOUND),
        (SlurmUnreadableError, Ended.UNREADABLE),
        (SlurmUnavailableError, Ended.UNREACHABLE),
    )
    return next((ended for kind, ended in kinds if isinstance(error, kind)), Ended.FAILED)
