"""Recurring windows: on which days, from when until when, in which time zone. Pure, but for the local time zone.

A window is what a clock on the wall shows. Where that clock is put ahead or back, so is the window: an hour that the
clock skips is taken for the one after it; of an hour that it shows twice, a window that begins in it begins with the
first and one that ends in it ends with the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from slurm_reserve.errors import ReserveError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WORDS = {"daily": "mon-sun", "weekdays": "mon-fri", "weekends": "sat-sun"}
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_EXAMPLE = "write mon-fri 08:00-18:00 Europe/Berlin"
# Windows that touch are one. Some time of a week is always left out: one that holds began within the last, the next one
# begins within the next, and has ended a week later.
_BACK, _AHEAD = 8, 16  # days


class WindowError(ReserveError):
    """A window that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Window:
    """One line of `windows`."""

    days: frozenset[int]  # on which it begins; Monday is 0
    begins: time
    ends: time  # on the next day where it is not after `begins`
    zone: str = ""  # of the tz database; "": this machine's

    def __str__(self) -> str:
        """As it is written."""
        words = (_days(self.days), f"{_clock(self.begins)}-{_clock(self.ends)}", self.zone)
        return " ".join(word for word in words if word)


class Span(NamedTuple):
    """From when until when, aware, in UTC."""

    begin: datetime
    end: datetime


def parse(text: str) -> Window:
    """Read `[DAYS] HH:MM-HH:MM [ZONE]`, such as `mon-fri 18:00-08:00 Europe/Berlin`; raises WindowError."""
    words = text.split()
    at = next((n for n, word in enumerate(words) if _CLOCK.match(word)), len(words))
    begins, dash, ends = words[at].partition("-") if at < len(words) else ("", "", "")
    if not dash or at > 1 or len(words) - at > 2:
        raise WindowError(f"is no window; {_EXAMPLE}")
    days = _day_numbers(words[0].lower() if at else "daily")
    return Window(days, _time(begins), _time(ends), _zone(words[at + 1] if len(words) > at + 1 else ""))


def _day_numbers(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in _WORDS.get(text, text).split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise WindowError(f"names {part[:40]!r}, which is no day; write daily, mon-fri, or mon,wed,fri")
        begin, length = DAYS.index(first), (DAYS.index(last) - DAYS.index(first)) % 7 if dash else 0
        found |= {(begin + n) % 7 for n in range(length + 1)}
    return frozenset(found)


def _time(text: str) -> time:
    found = _CLOCK.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        hour, minute, second = (int(part or 0) for part in found.groups())
        return time(0 if (hour, minute, second) == (24, 0, 0) else hour, minute, second)
    except ValueError as error:
        raise WindowError(f"has {text[:40]!r}, which is no time of day; write 08:00, or 24:00 for midnight") from error


def _zone(text: str) -> str:
    try:
        return ZoneInfo(text).key if text else ""
    except (LookupError, ValueError, OSError) as error:
        remedy = "write one such as Europe/Berlin (timedatectl list-timezones), or leave it out for this machine's"
        raise WindowError(f"names {text[:60]!r}, which is no time zone; {remedy}") from error


def spans(windows: Iterable[Window], around: datetime, days: int = _AHEAD) -> list[Span]:
    """The spans of some days before and after a moment, in order; those that touch or overlap are one."""
    found: list[Span] = []
    for begin, end in sorted(span for window in windows for span in _of(window, around, days)):
        if found and begin <= found[-1].end:
            found[-1] = Span(found[-1].begin, max(end, found[-1].end))
        else:
            found.append(Span(begin, end))
    return found


def _of(window: Window, around: datetime, days: int) -> Iterator[Span]:
    zone = ZoneInfo(window.zone) if window.zone else None
    today = around.astimezone(zone).date()
    for n in range(-_BACK, days + 1):
        day = today + timedelta(days=n)
        if day.weekday() in window.days:
            next_day = day + timedelta(days=window.ends <= window.begins)
            span = Span(_moment(day, window.begins, zone, 0), _moment(next_day, window.ends, zone, 1))
            if span.begin < span.end:
                yield span


def _moment(day: date, at: time, zone: ZoneInfo | None, fold: int) -> datetime:
    shown = datetime.combine(day, at).replace(tzinfo=zone, fold=fold)
    moment = shown.astimezone(UTC)
    is_skipped = moment.astimezone(zone).replace(tzinfo=None, fold=0) != datetime.combine(day, at)
    return shown.replace(fold=0).astimezone(UTC) if is_skipped else moment


def current(windows: Iterable[Window], now: datetime) -> Span | None:
    """The span that `now` lies in; its end no longer does."""
    return next((span for span in spans(windows, now) if span.begin <= now < span.end), None)


def following(windows: Iterable[Window], now: datetime) -> Span | None:
    """The first span that begins after `now`."""
    return next((span for span in spans(windows, now) if span.begin > now), None)


def is_endless(windows: Iterable[Window], now: datetime) -> bool:
    """Whether nothing of a week is left out, so that there would be neither a begin nor an end."""
    return any(span.end - span.begin > timedelta(days=_BACK + 2) for span in spans(windows, now))


def meet(one: Iterable[Window], other: Iterable[Window], now: datetime) -> bool:
    """Whether any spans of two sets have a moment in common within a year; every change of the clock is in that."""
    theirs = spans(other, now, 370)
    return any(begin < b.end and b.begin < end for begin, end in spans(one, now, 370) for b in theirs)


def _days(days: frozenset[int]) -> str:
    runs = {frozenset(range(7)): "daily", frozenset(range(5)): "mon-fri", frozenset((5, 6)): "sat-sun"}
    return runs.get(days) or ",".join(DAYS[day] for day in sorted(days))


def _clock(at: time) -> str:
    return f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}"
