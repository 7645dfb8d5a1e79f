"""Durations and times as people and Slurm write them. Pure."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

from slurm_reserve.errors import ReserveError

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PEOPLE = re.compile(r"(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s)?")
_DAYS = re.compile(r"(\d{1,6})-(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?")
_CLOCK = re.compile(r"(\d{1,6}):(\d{1,2})(?::(\d{1,2}))?")
_LATER = re.compile(r"now\s*\+\s*(\d{1,9})\s*([a-z]*)")
_HOURS = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap]m)?")
_AMERICAN = re.compile(r"(\d{2})/?(\d{2})/?(\d{2})(?:-(\d{2}):(\d{2})(?::(\d{2}))?)?")
_NAMED = {"midnight": time(0), "noon": time(12), "fika": time(15), "teatime": time(16)}


class DurationError(ReserveError):
    """A duration or time that cannot be understood."""


def parse_duration(text: str | int) -> timedelta:
    """Read `30s`, `1h30m`, `2d`, `1-00:00:00`, `HH:MM:SS` or `MM:SS`; raises DurationError."""
    if isinstance(text, int) or text.strip().isdigit():
        if int(text) == 0:
            return timedelta(0)
        raise DurationError(f"{text} has no unit: Slurm reads minutes, people seconds; write {text}m or {text}s")
    words = text.strip().lower()
    if found := _PEOPLE.fullmatch(words):
        parts = [int(part or 0) for part in found.groups()]
        if words:
            return timedelta(seconds=sum(n * unit for n, unit in zip(parts, _UNITS.values(), strict=True)))
    if found := _DAYS.fullmatch(words):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if found := _CLOCK.fullmatch(words):
        first, second, third = found.groups()
        if third is None:
            return timedelta(minutes=int(first), seconds=int(second))
        return timedelta(hours=int(first), minutes=int(second), seconds=int(third))
    raise DurationError(f"{text[:60]!r} is no duration; write 30s, 1h30m, 2d or 1-00:00:00")


def format_duration(duration: timedelta) -> str:
    """The shortest form that :func:`parse_duration` reads back, in whole seconds."""
    left, parts = int(duration.total_seconds()), []
    for unit, seconds in list(_UNITS.items())[1:]:
        count, left = divmod(left, seconds)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def parse_time(text: str | date, now: datetime) -> datetime:
    """Read a time as Slurm takes it (scontrol(1), StartTime), aware; one without a zone is in that of `now`.

    Raises DurationError.
    """
    if isinstance(text, datetime):
        return text if text.tzinfo else text.replace(tzinfo=now.tzinfo)
    if isinstance(text, date):
        return datetime.combine(text, time(0), now.tzinfo)
    words = text.strip().lower()
    try:
        for read in (_relative, _iso, _clock, _american):
            found = read(words, now)
            if found is not None:
                return found
    except OverflowError as error:
        raise DurationError(f"{text[:60]!r} is too far away") from error
    raise DurationError(f"{text[:60]!r} is no time; write 2030-01-31T08:00, 08:00, noon or now+2hours")


def _relative(words: str, now: datetime) -> datetime | None:
    if words == "now":
        return now
    found = _LATER.fullmatch(words)
    if found is None:
        return None
    unit = (found[2] or "s")[0]  # now+10 means seconds, as for Slurm
    if unit not in _UNITS:
        raise DurationError(f"{found[2]!r} is no unit of time; write seconds, minutes, hours, days or weeks")
    return now + timedelta(seconds=int(found[1]) * _UNITS[unit])


def _iso(words: str, now: datetime) -> datetime | None:
    try:
        found = datetime.fromisoformat(words.upper())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)


def _clock(words: str, now: datetime) -> datetime | None:
    """The next time that the clock shows this; `today` and `tomorrow` are their first moments."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if words in ("today", "tomorrow"):
        return today + timedelta(days=words == "tomorrow")
    at = _NAMED.get(words) or _time_of_day(words)
    if at is None:
        return None
    found = datetime.combine(now.date(), at, now.tzinfo)
    return found if found > now else found + timedelta(days=1)


def _time_of_day(words: str) -> time | None:
    found = _HOURS.fullmatch(words)
    if found is None:
        return None
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if found[4]:
        hour = hour % 12 + (12 if found[4] == "pm" else 0)
    try:
        return time(hour, minute, second)
    except ValueError as error:
        raise DurationError(f"{words!r} is no time of day: {error}") from error


def _american(words: str, now: datetime) -> datetime | None:
    """MMDDYY or MM/DD/YY[-HH:MM[:SS]]."""
    found = _AMERICAN.fullmatch(words)
    if found is None:
        return None
    month, day, year, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        return datetime(2000 + year, month, day, hour, minute, second, tzinfo=now.tzinfo)
    except ValueError as error:
        raise DurationError(f"{words!r} is no date: {error}") from error
