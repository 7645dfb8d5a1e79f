"""Durations and times as people and Slurm write them. Pure, but for the local time zone."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

from slurm_reserve.errors import ReserveError

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_WORDS = ("weeks", "days", "hours", "minutes", "seconds")
_LONGEST = timedelta(days=3650)
_YEARS = range(2000, 2100)  # what is outside is a slip, and far enough from where arithmetic on times fails

_BARE = re.compile(r"[0-9]+")
_PEOPLE = re.compile(r"(?:([0-9]{1,6})w)?(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,9})s)?")
_DAYS = re.compile(r"([0-9]{1,6})-([0-9]{1,2})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?")
_CLOCK = re.compile(r"([0-9]{1,6}):([0-9]{1,2})(?::([0-9]{1,2}))?")
_LATER = re.compile(r"now\s*\+\s*([0-9]{1,9})\s*([a-z]*)")
_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\s*([ap]m)?")
_AMERICAN = re.compile(
    r"(?:([0-9]{2})/([0-9]{2})/([0-9]{2})|([0-9]{2})([0-9]{2})([0-9]{2}))(?:-([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?)?"
)
_NAMED = {"midnight": time(0), "noon": time(12), "fika": time(15), "teatime": time(16)}


class DurationError(ReserveError):
    """A duration or time that cannot be understood."""


def parse_duration(text: str | int) -> timedelta:
    """Read `30s`, `1h30m`, `2d`, `1w`, `1-00:00:00`, `D-HH[:MM]`, `HH:MM:SS` or `MM:SS`; raises DurationError.

    A bare number is refused, but for 0: Slurm would read minutes, people seconds.
    """
    words = str(text).strip().lower()
    if _BARE.fullmatch(words):
        if not words.strip("0"):
            return timedelta(0)
        short = words[:20]
        raise DurationError(f"{short} has no unit: Slurm reads minutes, people seconds; write {short}m or {short}s")
    parts = _parts(words)
    if parts is None:
        raise DurationError(f"{str(text)[:60]!r} is no duration; write 30s, 1h30m, 2d or 1-00:00:00")
    found = timedelta(seconds=sum(n * unit for n, unit in zip(parts, _UNITS.values(), strict=True)))
    if found > _LONGEST:
        raise DurationError(f"{str(text)[:60]!r} is too long; write {_LONGEST.days}d at most")
    return found


def _parts(words: str) -> tuple[int, ...] | None:
    """Weeks, days, hours, minutes and seconds."""
    if words and (found := _PEOPLE.fullmatch(words)):
        return _numbers(found)
    if found := _DAYS.fullmatch(words):
        return (0, *_numbers(found))
    if found := _CLOCK.fullmatch(words):
        first, second, third = found.groups()
        if third is None:
            return (0, 0, 0, int(first), int(second))
        return (0, 0, int(first), int(second), int(third))
    return None


def _numbers(found: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(part or 0) for part in found.groups())


def format_duration(duration: timedelta) -> str:
    """The shortest form that :func:`parse_duration` reads back, in whole seconds; a negative one gets a minus."""
    sign = "-" if duration < timedelta(0) else ""
    left, parts = int(abs(duration).total_seconds()), []
    for unit, seconds in list(_UNITS.items())[1:]:
        count, left = divmod(left, seconds)
        parts += [f"{count}{unit}"] if count else []
    return sign + "".join(parts) if parts else "0s"


def parse_time(text: str | date, now: datetime) -> datetime:
    """Read a time as Slurm takes it (scontrol(1), StartTime), aware; one without a zone is a local one.

    Raises DurationError.
    """
    if isinstance(text, date):
        return _aware(text if isinstance(text, datetime) else datetime.combine(text, time(0)), str(text))
    words = text.strip().lower()
    found = _fixed(words) or _relative(words, now)
    if found is None:
        raise DurationError(f"{text[:60]!r} is no time; write 2030-01-31T08:00, 08:00, noon or now+2hours")
    return _aware(found, text)


def parse_past(text: str, now: datetime) -> datetime:
    """Read when something began that is looked back at: `7d` is so long ago, 08:00 and noon were there last.

    Anything else is a time as :func:`parse_time` reads it. Raises DurationError.
    """
    words = text.strip().lower()
    at = _NAMED.get(words) or _time_of_day(words)  # before durations: 08:00 is no eight minutes here
    if at is not None:
        local = now.astimezone().replace(tzinfo=None)
        found = datetime.combine(local.date(), at)
        return _aware(found if found <= local else found - timedelta(days=1), text)
    try:
        return now - parse_duration(words)
    except DurationError:
        return parse_time(text, now)


def is_fixed_time(text: str | date) -> bool:
    """Whether it means the same moment whenever it is read, unlike `noon` or `now+1h`."""
    return isinstance(text, date) or _fixed(text.strip().lower()) is not None


def _aware(found: datetime, text: str) -> datetime:
    """A naive time is of this machine's zone, with the offset that holds there at that time of the year."""
    if found.year not in _YEARS:
        raise DurationError(f"{text[:60]!r} is too far away; write a year from {_YEARS[0]} to {_YEARS[-1]}")
    return found if found.tzinfo else found.astimezone()


def _fixed(words: str) -> datetime | None:
    """A date, with or without a time of day."""
    try:
        return datetime.fromisoformat(words.upper())
    except ValueError:
        return _american(words)


def _relative(words: str, now: datetime) -> datetime | None:
    if words == "now":
        return now
    if found := _LATER.fullmatch(words):
        unit = next((word for word in _WORDS if word.startswith(found[2] or "s")), "")  # now+10: seconds, as for Slurm
        if not unit:
            raise DurationError(f"{words[:60]!r} has no known unit; write seconds, minutes, hours, days or weeks")
        try:
            return now + timedelta(seconds=int(found[1]) * _UNITS[unit[0]])
        except OverflowError as error:
            raise DurationError(f"{words[:60]!r} is too far away; write a date") from error
    return _clock(words, now.astimezone().replace(tzinfo=None))


def _clock(words: str, now: datetime) -> datetime | None:
    """The next time that the clock shows this; `today` and `tomorrow` are their first moments. Naive, local."""
    if words in ("today", "tomorrow"):
        return datetime.combine(now.date(), time(0)) + timedelta(days=words == "tomorrow")
    at = _NAMED.get(words) or _time_of_day(words)
    if at is None:
        return None
    found = datetime.combine(now.date(), at)
    return found if found > now else found + timedelta(days=1)


def _time_of_day(words: str) -> time | None:
    found = _HOURS.fullmatch(words)
    if found is None:
        return None
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if found[4] and not 1 <= hour <= 12:
        raise DurationError(f"{words!r} is no time of day; write 1:30pm or 13:30")
    if found[4]:
        hour = hour % 12 + (12 if found[4] == "pm" else 0)
    try:
        return time(hour, minute, second)
    except ValueError as error:
        raise DurationError(f"{words!r} is no time of day: {error}; write 13:30") from error


def _american(words: str) -> datetime | None:
    """MMDDYY or MM/DD/YY[-HH:MM[:SS]]."""
    found = _AMERICAN.fullmatch(words)
    if found is None:
        return None
    month, day, year = (int(part) for part in found.groups()[:6] if part is not None)
    hour, minute, second = (int(part or 0) for part in found.groups()[6:])
    try:
        return datetime(2000 + year, month, day, hour, minute, second)  # noqa: DTZ001 -- local, made aware by the caller
    except ValueError as error:
        raise DurationError(f"{words!r} is no date: {error}; write MM/DD/YY or 2030-01-31") from error
