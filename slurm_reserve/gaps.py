"""How much of what is reserved lies idle, and in gaps of what length: before anything is lent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slurm_reserve.accounts import Span, length, merged, minus, within

# Upper ends, in seconds, and what they are called: what a borrower's job could have used.
LENGTHS = ((600, "up to 10 min"), (3600, "up to 1 h"), (4 * 3600, "up to 4 h"), (86400, "up to 1 day"))
LONGER = "longer"


@dataclass(frozen=True, slots=True)
class Idleness:
    """One reservation over a period; node-seconds, and gaps by their length."""

    name: str
    nodes: int
    reserved: int
    used: int
    gaps: tuple[tuple[str, int, int], ...]  # what length, how many, node-seconds in them

    @property
    def idle(self) -> int:
        """What nobody used."""
        return self.reserved - self.used


def idleness(name: str, held: Iterable[tuple[str, Span]], busy: Iterable[tuple[str, Span]], period: Span) -> Idleness:
    """From when which node was reserved, and when a job held it."""
    reserved, used = _by_node(held), _by_node(busy)
    gaps: list[int] = []
    total = in_use = 0
    for node, spans in reserved.items():
        mine = within(merged(spans), [period])
        jobs = within(merged(used.get(node, [])), mine)
        total += length(mine)
        in_use += length(jobs)
        gaps += [end - start for start, end in minus(mine, jobs)]
    return Idleness(name, len(reserved), total, in_use, _sorted_by_length(gaps))


def _by_node(spans: Iterable[tuple[str, Span]]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for node, span in spans:
        found.setdefault(node, []).append(span)
    return found


def _sorted_by_length(gaps: Sequence[int]) -> tuple[tuple[str, int, int], ...]:
    found, rest = [], list(gaps)
    for most, words in LENGTHS:
        these = [gap for gap in rest if gap <= most]
        rest = [gap for gap in rest if gap > most]
        found.append((words, len(these), sum(these)))
    return (*found, (LONGER, len(rest), sum(rest)))
