"""How often Slurm may be asked. Pure: time is an argument, in monotonic seconds.

Two reserves keep slurmctld free. Each fills up steadily and is drawn on by what is asked, so that a burst may borrow
from a quiet time: calls, and the seconds that slurmctld spends on us. Those are told by sdiag(1), which counts what a
call waits for slurmctld's locks with it; so a cycle costs what the cheapest of late did, that waited least.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from slurm_reserve.memory import Load

MOST_OF_A_CORE = 0.02
BURST = 60.0  # seconds of quiet time may be drawn on at once
MEASURE_EVERY = 10.0  # seconds
MEASURES = 6  # of which the cheapest tells what a cycle costs
STEADY = 0.7  # of a limit goes into polling, so that there is something left for bursts, and for waits that count
AHEAD = 30.0  # seconds of what comes in may be spent in advance for an owner who has just submitted
# A user's submission is looked for so long after the wake-up, which comes before the job exists, in seconds.
LOOKS = (0.0, 0.01, 0.03, 0.08, 0.2, 0.5, 1.0)


@dataclass(slots=True)
class Reserve:
    """So much a second, and what has been saved up of it."""

    rate: float
    level: float = field(init=False)
    at: float | None = None

    def __post_init__(self) -> None:
        self.level = self.rate * BURST

    def spend(self, amount: float, now: float) -> None:
        """Draw on it; it may fall below nothing."""
        self.level = self.left(now) - amount
        self.at = now

    def left(self, now: float) -> float:
        """What may be drawn on now."""
        passed = now - self.at if self.at is not None else 0.0
        return min(self.level + passed * self.rate, self.rate * BURST)

    def wait(self, now: float, ahead: float = 0.0) -> float:
        """Seconds until it is no longer below nothing, or below what comes in within `ahead` seconds."""
        return max(-self.left(now) / self.rate - ahead, 0.0)


class Measure(NamedTuple):
    """What had been counted by then."""

    spent: float  # seconds of slurmctld's
    at: float
    calls: int
    cycles: int


@dataclass(slots=True)
class Pace:
    """When the cluster may be looked at again."""

    poll: float  # seconds, as declared
    calls_per_second: float
    cost: float = 0.0  # seconds of slurmctld's for a cycle, as measured, with all that is asked until the next
    cycle_calls: float = 0.0  # calls that a cycle makes, of late
    load: Load = field(default_factory=Load)
    _calls: Reserve = field(init=False)
    _seconds: Reserve = field(init=False)
    _measures: deque[Measure] = field(default_factory=lambda: deque(maxlen=MEASURES + 1))
    _made: int = 0
    _cycles: int = 0

    def __post_init__(self) -> None:
        self._calls, self._seconds = Reserve(self.calls_per_second), Reserve(MOST_OF_A_CORE)

    def spend(self, calls: int, now: float, is_cycle: bool = True) -> None:
        """So many calls were made just now, by a whole cycle or by less.

        Cycles pay for it all: what is read for one user costs slurmctld little beside the whole queue.
        """
        self._made += calls
        self._calls.spend(calls, now)
        if is_cycle:
            self._cycles += 1
            self._seconds.spend(self.cost, now)
            self.cycle_calls += (calls - self.cycle_calls) * (0.1 if self.cycle_calls else 1.0)

    def is_to_measure(self, now: float) -> bool:
        """Whether it is time to ask slurmctld what it spends."""
        return not self._measures or now - self._measures[-1].at >= MEASURE_EVERY

    def measured(self, spent: float, now: float) -> None:
        """Slurmctld has spent so many seconds on us in all: what of that is a cycle's?"""
        if self._measures and spent < self._measures[-1].spent:  # slurmctld counts anew
            self._measures.clear()
        self._measures.append(Measure(spent, now, self._made, self._cycles))
        steps = [step for step in pairwise(self._measures) if step[1].cycles > step[0].cycles]
        costs = [(after.spent - before.spent) / (after.cycles - before.cycles) for before, after in steps]
        if not costs:
            return
        self.cost = min(costs)
        first = self._measures[0]
        passed, cycles = now - first.at, self._cycles - first.cycles
        share = self.cost * cycles / passed
        self.load = Load((self._made - first.calls) / passed, self.calls_per_second, share, self.interval)

    def broke_off(self) -> None:
        """A cycle has failed midway: what was spent since the last measure is no whole cycle's cost."""
        self._measures.clear()

    @property
    def interval(self) -> float:
        """Seconds between two looks when nothing happens: the declared interval, unless that would cost too much."""
        by_calls = self.cycle_calls / (self.calls_per_second * STEADY)
        by_cost = self.cost / (MOST_OF_A_CORE * STEADY)
        return max(self.poll, by_calls, by_cost)

    def wait(self, now: float) -> float:
        """Seconds until Slurm may be asked again: some while a reserve is below nothing."""
        return max(self._calls.wait(now), self._seconds.wait(now))

    def wait_for_owner(self, now: float, is_whole: bool = False) -> float:
        """The same for an owner's submission: it may spend in advance, and polls wait until that is made up for.

        Unless the whole cluster is to be looked at, what reading a long queue has cost slurmctld is not waited for.
        """
        by_cost = self._seconds.wait(now, AHEAD) if is_whole else 0.0
        return max(self._calls.wait(now, AHEAD), by_cost)

    def has_plenty(self, now: float) -> bool:
        """Whether more than half is left: what is spent on others than owners leaves the rest to owners."""
        return all(reserve.left(now) > reserve.rate * BURST / 2 for reserve in (self._calls, self._seconds))


@dataclass(slots=True)
class Looks:
    """Whose submission is looked for, and how often it was already."""

    users: dict[str, tuple[float, int]] = field(default_factory=dict)  # user -> (woken at, looks made)

    def add(self, users: frozenset[str], now: float) -> None:
        """These users have submitted something."""
        self.users |= dict.fromkeys(users, (now, 0))

    def due(self, now: float) -> frozenset[str]:
        """Whom to look for now."""
        return frozenset(user for user, (since, made) in self.users.items() if now >= since + LOOKS[made])

    def next_at(self) -> float | None:
        """When somebody is to be looked for next; None when nobody is."""
        return min((since + LOOKS[made] for since, made in self.users.values()), default=None)

    def seen_nothing(self, users: frozenset[str]) -> None:
        """Try again later, or leave it to the next poll."""
        for user in users:
            since, made = self.users.pop(user)
            if made + 1 < len(LOOKS):
                self.users[user] = (since, made + 1)

    def done(self, users: frozenset[str]) -> None:
        """What they submitted was found."""
        for user in users:
            self.users.pop(user, None)
