"""The owner's promise, measured: how long owners waited, of what that was made up, and where it was broken. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from slurm_reserve.facts import WaitFact

PARTS = ("detect", "notice", "kill", "start")


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds: the median, what 95 of 100 stay below, and the most."""

    count: int = 0
    median: float = 0.0
    p95: float = 0.0
    most: float = 0.0


@dataclass(frozen=True, slots=True)
class Promise:
    """One reservation's record."""

    reservation: str
    starts: Spread  # of every owner's job, from its turn to its start
    taken_back: Spread  # of those for which lent nodes had to come back
    parts: dict[str, Spread] = field(default_factory=dict)  # of the latter
    breaches: tuple[WaitFact, ...] = ()


def measured(waits: Iterable[WaitFact], since: datetime | None = None, until: datetime | None = None) -> list[Promise]:
    """By reservation, of the waits that were over in that time."""
    found: dict[str, list[WaitFact]] = {}
    for wait in waits:
        end = wait.started or wait.ended
        if end is not None and (since is None or end >= since) and (until is None or end < until):
            found.setdefault(wait.reservation, []).append(wait)
    return [_promise(name, each) for name, each in sorted(found.items())]


def _promise(name: str, waits: Sequence[WaitFact]) -> Promise:
    started = [wait for wait in waits if wait.started is not None]
    needed = [wait for wait in started if wait.needed]
    made_up = [wait.parts() for wait in needed]
    return Promise(
        name,
        starts=spread(wait.seconds or 0.0 for wait in started),
        taken_back=spread(wait.seconds or 0.0 for wait in needed),
        parts={part: spread(parts[part] for parts in made_up) for part in PARTS},
        breaches=tuple(wait for wait in waits if wait.is_breach),
    )


def spread(values: Iterable[float]) -> Spread:
    """By the nearest rank: each figure is one that was measured."""
    ordered = sorted(values)
    if not ordered:
        return Spread()

    def rank(share: float) -> float:
        return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]

    return Spread(len(ordered), rank(0.5), rank(0.95), ordered[-1])
