"""Single values as Slurm's commands print them: times, durations, sizes, lists, GRES. Pure; raises ValueError."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from slurm_reserve import hostlist

NOTHING = frozenset({"", "(null)", "N/A", "n/a", "None", "NONE", "*"})

_NO_COUNT = frozenset({"4294967294", "4294967295"})  # NO_VAL and INFINITE
_NEVER = frozenset({"N/A", "NONE", "None", "Unknown", "(null)", ""})
# INVALID is what squeue prints for more than 365 days, which is as good as no limit.
_ENDLESS = frozenset({"UNLIMITED", "INFINITE", "NOT_SET", "INVALID", "NONE", "Partition_Limit"})
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)([KMGTP]?)", re.ASCII)
_MEGABYTES = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}
_THOUSANDS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
_DURATION = re.compile(r"(?:(\d{1,8})-)?(?:(\d{1,8}):)?(\d{1,8}):(\d\d)", re.ASCII)
_MOST_TASKS = 4_000_001  # Slurm's own largest MaxArraySize
_TASKS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)


def word(text: str) -> str:
    """A word, or "" where Slurm prints one of its words for nothing."""
    return "" if text in NOTHING else text


def names(text: str) -> frozenset[str]:
    """The names of a list that commas separate."""
    return frozenset() if text in NOTHING else frozenset(text.split(",")) - {""}


@lru_cache(maxsize=32768)
def hosts(text: str) -> frozenset[str]:
    """The nodes of a host list such as `n[1-4]`."""
    if text in NOTHING:
        return frozenset()
    is_one = text.isascii() and text.isalnum()
    return frozenset((text,)) if is_one else hostlist.expand(text)


@lru_cache(maxsize=65536)
def time(text: str) -> datetime | None:
    """A time that was printed in UTC; None for never and unknown."""
    if text in _NEVER:
        return None
    if len(text) != len("2030-05-06T12:00:00"):
        raise ValueError(f"{text} is no time")
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@lru_cache(maxsize=4096)
def duration(text: str) -> timedelta | None:
    """`[days-][hours:]minutes:seconds`; None for no limit."""
    if text in _ENDLESS:
        return None
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"{text} is no duration")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def number(text: str) -> int:
    """A number that is not negative."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text} is no number")
    return int(text)


def count(text: str) -> int:
    """How many; 0 where Slurm prints one of its words, or numbers, for nothing."""
    return 0 if text in NOTHING or text in _NO_COUNT else number(text)


def megabytes(text: str) -> int:
    """A size of memory, in MB when it has no unit."""
    if text in NOTHING:
        return 0
    size, unit = _sized(text)
    return round(size * _MEGABYTES[unit])


def tres(text: str) -> dict[str, str]:
    """`cpu=4,mem=8G,node=1` as a dict."""
    return dict(_pair(part) for part in text.split(",")) if text not in NOTHING else {}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"{text} is no TRES")
    return name, value


@lru_cache(maxsize=4096)
def gres(text: str) -> Mapping[str, int]:
    """`gpu:a100:2(S:0-1),shard:4` as {"gpu": 2, "gpu:a100": 2, "shard": 4}: typed ones count by name and by type.

    What a job asks for, `gres:gpu:2` or (newer) `gres/gpu:2`, is understood too. A name without a count stands for one.
    """
    found: dict[str, int] = {}
    if text in NOTHING:
        return found
    for part in re.sub(r"\([^()]*\)", "", text).replace("=", ":").split(","):
        words = [each for each in re.sub(r"^gres[:/]", "", part).split(":") if each != "no_consume"]
        how_many = _many(words.pop()) if len(words) > 1 and _is_size(words[-1]) else 1
        if not 1 <= len(words) <= 2 or not all(words):
            raise ValueError(f"{part} is no GRES")
        if words == ["none"]:
            continue
        for name in {words[0], ":".join(words)}:
            found[name] = found.get(name, 0) + how_many
    return found


def _is_size(text: str) -> bool:
    return _SIZE.fullmatch(text) is not None


def _many(text: str) -> int:
    size, unit = _sized(text)
    return int(size * _THOUSANDS[unit])


def _sized(text: str) -> tuple[float, str]:
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"{text} is no size")
    return float(found[1]), found[2]


@lru_cache(maxsize=512)
def array_tasks(text: str) -> tuple[tuple[int, ...], int]:
    """The tasks of `3-100:2,205%4` and the most that may run at once (0: no limit)."""
    expression, percent, limit = text.partition("%")
    tasks: list[int] = []
    for part in expression.split(","):
        found = _TASKS.fullmatch(part)
        if not found:
            raise ValueError(f"{text} is no list of array tasks")
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if last < first or step < 1 or (last - first) // step + len(tasks) >= _MOST_TASKS:
            raise ValueError(f"{text} is no list of array tasks")
        tasks.extend(range(first, last + 1, step))
    return tuple(tasks), count(limit) if percent else 0
