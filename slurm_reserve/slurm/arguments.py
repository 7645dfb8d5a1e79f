"""The arguments of the commands that change something. Pure.

Everything goes to Slurm as `Key=value` in an argument list, never through a shell. A value that could still be read as
something else, an option, a second key, a list, is refused with a ValueError before anything is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from slurm_reserve import hostlist, naming
from slurm_reserve.actions import CreateReservation, UpdateReservation

_JOB = re.compile(r"[0-9]+(_[0-9]+)?")
_SIGNAL = re.compile(r"[A-Z0-9]+([+-][0-9]+)?")
_START = re.compile(r"now(\+\d+([a-z]+)?)?|\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", re.ASCII)


def create(what: CreateReservation) -> list[str]:
    """Arguments for `scontrol create reservation`, without AllowedPartitions and QOS, which not every release knows."""
    given = [
        f"ReservationName={reservation_name(what.name)}",
        f"StartTime={moment(what.start) if what.start else 'now'}",
        f"EndTime={moment(what.end)}",
        f"Nodes={_nodes(what.nodes)}",
        *_list("Users", what.users),
        *_list("Accounts", what.accounts),
        *_list("Groups", what.groups),
        *_list("Flags", what.flags),
    ]
    return ["create", "reservation", *given]


def admitted(what: CreateReservation) -> list[str]:
    """The arguments that keep other partitions' jobs out, or those of other QOS, where the release has them."""
    return [*_list("AllowedPartitions", what.allowed_partitions), *_list("QOS", what.allowed_qos)]


def update(what: UpdateReservation) -> list[str]:
    """Arguments for `scontrol update reservation`."""
    given = [
        *([f"StartTime={moment(what.start)}"] if what.start else []),
        *([f"EndTime={moment(what.end)}"] if what.end else []),
        *([f"Nodes={_nodes(what.nodes)}"] if what.nodes is not None else []),
        *_list("Flags+", what.add_flags),
        *_list("Flags-", what.drop_flags),
        *_replaced("Users", what.users),
        *_replaced("Accounts", what.accounts),
        *_replaced("Groups", what.groups),
    ]
    if not given:
        raise ValueError(f"nothing to change about reservation {what.name}")
    return ["update", "reservation", f"ReservationName={reservation_name(what.name)}", *given]


def reservation_name(name: str) -> str:
    """The name, if it can be given to Slurm safely."""
    if name.startswith("-"):
        raise ValueError(f"a name may not start with a minus sign: {name!r}")
    return plain(name)


def plain(value: str) -> str:
    """A value that Slurm takes for one word. A name in a list may start with a minus sign: that denies."""
    if not naming.is_word(value):
        raise ValueError(f"cannot be given to Slurm: {value!r}")
    return value


def job(job_id: str) -> str:
    """A job's id, "12" or "12_3"."""
    return _matching(_JOB, job_id, "the id of a job or an array's task")


def signal_name(signal: str) -> str:
    """A signal's name or number."""
    return _matching(_SIGNAL, signal, "a signal")


def free_text(value: str) -> str:
    """A comment: the rest of an argument, whatever it says, but what a command line cannot carry."""
    if "\0" in value:
        raise ValueError("a text with a NUL cannot be given to Slurm")
    return value


def start(at: str) -> str:
    """An earliest start in Slurm's words: "now", "now+30", or an ISO time in UTC."""
    return _matching(_START, at, "a time")


def moment(at: datetime) -> str:
    """A time as Slurm reads it, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _matching(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"not {what}: {value!r}")
    return value


def _nodes(nodes: frozenset[str]) -> str:
    if not nodes:
        raise ValueError("a reservation needs nodes: given none, Slurm would choose some of its own")
    return hostlist.fold(plain(name) for name in nodes)


def _list(key: str, values: Iterable[str]) -> list[str]:
    """`Key=a,b`, or nothing for an empty list."""
    listed = sorted(plain(value) for value in values)
    return [f"{key}={','.join(listed)}"] if listed else []


def _replaced(key: str, values: frozenset[str] | None) -> list[str]:
    """`Key=a,b`; `Key=` for a list that is to become empty."""
    if values is None:
        return []
    return _list(key, values) or [f"{key}="]
