"""How long a node of a reservation is likely to stay idle of its owner (B33), from how long it did before. Pure.

Each time an owner's job takes a node, or is about to, the time for which it had been idle is counted, by its order of
magnitude. What is said here puts nodes in order and is never trusted for the guarantee.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import pairwise

from slurm_reserve.memory import Spells
from slurm_reserve.model import Reservation
from slurm_reserve.view import View

# The upper ends of the classes into which idle times are counted; the last class is open.
ENDS = tuple(timedelta(minutes=m) for m in (1, 5, 15, 30, 60, 120, 240, 480, 1440, 4320, 10080))
FEWEST = 5  # idle times that must have been counted before anything is said
MOST = 200  # when so many have been counted, all counts are halved: what is long ago weighs less
UNKNOWN = timedelta(hours=2)  # what an owner of whom nothing is known counts as: neither soon nor late


def likely_idle(view: View, reservation: str, node: str) -> timedelta | None:
    """For how much longer the node is likely to stay idle: half of the times it was longer. None: not known.

    Only those earlier times count that were longer than the node has been idle by now.
    """
    spells = view.memory.spells.get(reservation)
    since = view.memory.idle_since.get(node, view.cluster.at)
    return likely_left(spells, view.cluster.at - since) if spells else None


def likely_left(spells: Spells, idle: timedelta) -> timedelta | None:
    """The median of the times that were longer than `idle`, less that."""
    bounds = list(pairwise((timedelta(0), *ENDS, 2 * ENDS[-1])))
    longer = [(count, start, end) for count, (start, end) in zip(spells, bounds, strict=True) if end > idle]
    total = sum(count for count, _, _ in longer)
    if total < FEWEST:
        return None
    passed = 0.0
    for count, start, end in longer:
        if passed + count >= total / 2:
            begin = max(start, idle)
            return begin + (end - begin) * ((total / 2 - passed) / count) - idle
        passed += count
    return None


def over(view: View, reservations: Iterable[Reservation], idle: Iterable[str]) -> dict[str, list[timedelta]]:
    """The idle times that the owner has ended since the last look, by reservation; `idle` are the nodes still idle."""
    found: dict[str, list[timedelta]] = {}
    ended = view.memory.idle_since.keys() - idle
    for reservation in reservations if ended else ():
        for node in sorted(reservation.nodes & ended):
            found.setdefault(reservation.name, []).append(view.cluster.at - view.memory.idle_since[node])
    return found


def counted(spells: Spells, times: Iterable[timedelta]) -> Spells:
    """With these times counted as well."""
    counts = list(spells) or [0] * (len(ENDS) + 1)
    for time in times:
        counts[sum(time >= end for end in ENDS)] += 1
    if sum(counts) > MOST:
        counts = [count // 2 for count in counts]
    return tuple(counts)


def remembered(view: View, reservations: Iterable[Reservation], idle: Iterable[str]) -> Mapping[str, Spells]:
    """The counts that have changed."""
    ended = over(view, reservations, idle)
    return {name: counted(view.memory.spells.get(name, ()), times) for name, times in ended.items()}
