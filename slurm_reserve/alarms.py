"""What an admin is called for, by the hook, and how often at most. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from slurm_reserve import demand, lending
from slurm_reserve.facts import Use, WaitFact
from slurm_reserve.model import Node
from slurm_reserve.news import Ended, News, Round, waiting
from slurm_reserve.site import ReservationSpec
from slurm_reserve.words import nodes as listed
from slurm_reserve.words import printable

BLIND_AFTER = 60.0  # seconds without an observation; or so many polls, where that is longer
BLIND_POLLS = 5
# What a site does on purpose, or by itself to save power, is nothing to call anybody for.
_MEANT = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN", "POWERING_UP", "POWER_UP", "MAINT", "MAINTENANCE"})


class Alarm(StrEnum):
    """The kinds of events."""

    BREACH = "breach"  # an owner's job waits, or has waited, for longer than was promised
    BRAKE = "brake"  # too many evictions: nothing is lent until an admin resumes
    RECORD = "record"  # journal or ledger cannot be written: nothing is lent
    LENDING_STOPPED = "lending_stopped"  # nothing of a reservation is lent, though nobody ordered or declared so
    NODE_DOWN = "node_down"  # a reserved node is down or drained
    UNMET = "unmet"  # a declared reservation cannot be made
    NO_OBSERVATION = "no_observation"  # the cluster cannot be read
    UNSOUND = "unsound"  # a plan was refused, for it broke an invariant


@dataclass(frozen=True, slots=True)
class Event:
    """Something to be told."""

    alarm: Alarm
    text: str  # a sentence, printable
    reservation: str = ""
    at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)  # fit for JSON
    held_back: int = 0  # of the same kind, not told since the last time


class Alarms:
    """Remembers what was told, so that what goes on is told once."""

    def __init__(self) -> None:
        self._breaches: set[tuple[str, datetime, int]] = set()
        self._said: dict[tuple[Alarm, str], str] = {}
        self._blind_since: float | None = None
        self._is_told = False

    def look(self, news: News) -> list[Event]:
        """What is new in what a cycle saw."""
        events = list(self._see_breaches(news))
        if news.is_whole:
            events += self._see_states(news)
            events += _see_nodes(news)
            if news.plan.brake and not news.view.memory.orders.brake:
                events.append(Event(Alarm.BRAKE, f"the brake is on: {news.plan.brake}; nothing is lent until `resume`"))
        return [replace(event, at=news.view.cluster.at) for event in events]

    def went(self, done: Round, steady: float, poll: float) -> list[Event]:
        """What is wrong with the cycles themselves; `steady` and `poll` in seconds."""
        if not done.is_whole:
            return []
        if done.ended in (Ended.DONE, Ended.STANDING_BY):
            self._blind_since, self._is_told = None, False
            self._said.pop((Alarm.UNSOUND, ""), None)
            return []
        if done.ended is Ended.UNSOUND:
            return list(self._new(Alarm.UNSOUND, "", printable(done.text)))
        if self._blind_since is None:
            self._blind_since = steady
        blind = steady - self._blind_since
        if self._is_told or blind < max(BLIND_AFTER, BLIND_POLLS * poll):
            return []
        self._is_told = True
        said = f"the cluster could not be read for {blind:.0f} s, so nothing is done: {printable(done.text)}"
        return [Event(Alarm.NO_OBSERVATION, said, data={"seconds": round(blind)})]

    def _see_breaches(self, news: News) -> Iterator[Event]:
        """While the job still waits, for that is when somebody can help; else when it is over."""
        for each in waiting(news):
            if each.is_breach and _run(each.fact) not in self._breaches:
                self._breaches.add(_run(each.fact))
                yield _breach(each.fact, each.seconds, each.bound, "has waited")
        for wait in news.changes.waits:
            if wait.is_breach and _run(wait) not in self._breaches:
                yield _breach(wait, wait.seconds or 0.0, wait.bound, "waited")
        if news.is_whole:
            self._breaches &= {_run(wait) for wait in news.waits}

    def _see_states(self, news: News) -> Iterator[Event]:
        for file, problem in news.problems.items():
            said = f"the {file} cannot be written, so nothing new is lent: {printable(problem)}" if problem else ""
            yield from self._new(Alarm.RECORD, "", said, about=file)
        for spec in news.view.site.reservations:
            why = stopped(news, spec)
            is_told_of = not why or news.plan.brake or not news.view.memory.is_writable
            said = "" if is_told_of else f"nothing of {spec.name} is lent: {printable(why)}"
            yield from self._new(Alarm.LENDING_STOPPED, spec.name, said)
            unmet = news.plan.unmet.get(spec.name, "")
            said = f"reservation {spec.name} cannot be met: {printable(unmet)}" if unmet else ""
            yield from self._new(Alarm.UNMET, spec.name, said)

    def _new(self, alarm: Alarm, name: str, said: str, about: str = "") -> Iterator[Event]:
        """Once, until it was well in between."""
        before = self._said.get((alarm, name + about), "")
        self._said[alarm, name + about] = said
        if said and not before:
            yield Event(alarm, said, name)


def stopped(news: News, spec: ReservationSpec) -> str:
    """Why nothing of a reservation is lent, where that is nobody's wish; "" otherwise."""
    why, there = news.plan.withheld.get(spec.name, ""), news.view.cluster.reservations.get(spec.name)
    is_meant = news.view.memory.orders.paused or why == lending.OWNERS_TURN or there is None or not there.is_active
    return "" if is_meant or demand.why_not_lending(news.view, spec) else why


def _see_nodes(news: News) -> Iterator[Event]:
    for use in news.changes.uses:
        there = {name: news.view.cluster.nodes.get(name) for name in sorted(use.nodes)}
        lost = {name: node for name, node in there.items() if use.use is Use.DOWN and _is_lost(node)}
        if not lost:
            continue
        states = {name: "+".join(sorted(node.states)) if node else "gone" for name, node in lost.items()}
        reasons = {name: printable(node.reason) for name, node in lost.items() if node and node.reason}
        why = f": {', '.join(sorted(set(reasons.values())))[:200]}" if reasons else ""
        said = f"{listed(lost)} of {use.reservation} cannot be used ({', '.join(sorted(set(states.values())))}){why}"
        yield Event(Alarm.NODE_DOWN, said, use.reservation, data={"nodes": states, "reasons": reasons})


def _is_lost(node: Node | None) -> bool:
    return node is None or bool(node.states & (Node.UNUSABLE - _MEANT))


def _breach(wait: WaitFact, seconds: float, bound: float, verb: str) -> Event:
    said = f"job {wait.job} of {printable(wait.user)} {verb} {seconds:.0f} s for nodes of {wait.reservation}"
    data = {"job": wait.job, "user": printable(wait.user), "seconds": round(seconds, 1), "bound": bound}
    return Event(Alarm.BREACH, f"{said}; {bound:.0f} s are promised", wait.reservation, data=data)


def _run(wait: WaitFact) -> tuple[str, datetime, int]:
    return wait.job, wait.submitted, wait.restarts


class Limits:
    """At most one event of a kind and reservation in an interval; of the others the last is told when it is over."""

    def __init__(self, interval: float) -> None:
        self._interval = interval  # seconds
        self._told: dict[tuple[Alarm, str], float] = {}
        self._held: dict[tuple[Alarm, str], Event] = {}

    def let_through(self, events: list[Event], now: float) -> list[Event]:
        """Those that may be told now, with those held back before whose interval is over; `now` in seconds."""
        told = []
        for event in events:
            key = (event.alarm, event.reservation)
            if key not in self._held and self._is_free(key, now):
                self._told[key] = now
                told.append(event)
            else:
                before = self._held.get(key)
                self._held[key] = replace(event, held_back=before.held_back + 1 if before else 0)
        for key in [key for key in self._held if self._is_free(key, now)]:
            self._told[key] = now
            told.append(self._held.pop(key))
        return told

    def _is_free(self, key: tuple[Alarm, str], now: float) -> bool:
        return now - self._told.get(key, float("-inf")) >= self._interval
