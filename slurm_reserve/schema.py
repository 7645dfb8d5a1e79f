"""What may stand in a site file: pydantic models, used by :mod:`slurm_reserve.config` alone."""

from __future__ import annotations

import re
import signal
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from slurm_reserve import durations, hostlist
from slurm_reserve.errors import ReserveError
from slurm_reserve.site import EvictBy, EvictHow, Find, Mode

# A name that Slurm takes, that no command line misreads, and that is safe as a file's name.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


def _said(text: str) -> ValueError:
    return ValueError(text)


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _said("is no duration; write 30s, 1h30m, 2d or 1-00:00:00")
    try:
        return durations.parse_duration(value)
    except ReserveError as error:
        raise _said(str(error)) from error


def _time(value: Any, info: ValidationInfo) -> datetime:
    now: datetime = (info.context or {})["now"]
    if not isinstance(value, str | date):
        raise _said("is no time; write 2030-01-31T08:00")
    try:
        return durations.parse_time(value, now).replace(microsecond=0)
    except ReserveError as error:
        raise _said(str(error)) from error


def _nodes(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise _said("names no nodes; write n[1-2], a list of such, or {node_count: 2, partition: main}")
    try:
        return frozenset().union(*(hostlist.expand(part) for part in parts))
    except ReserveError as error:
        raise _said(str(error)) from error


def _words(value: Any) -> frozenset[str]:
    """One word or a list of words, none of which a list in a command line would misread."""
    parts = value if isinstance(value, list | tuple | set | frozenset) else [value]
    for part in parts:
        if not isinstance(part, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@$-]*", part):
            raise _said(f"{part!r} is no name; write letters, digits and . _ - @")
    return frozenset(parts)


def _signal(value: Any) -> str:
    """The name without SIG, as scancel(1) takes it."""
    if isinstance(value, int) and not isinstance(value, bool) and value in {s.value for s in signal.Signals}:
        return signal.Signals(value).name.removeprefix("SIG")
    name = str(value).upper().removeprefix("SIG")
    if f"SIG{name}" not in signal.Signals.__members__:
        raise _said("is no signal; write USR1, TERM or another of signal(7)")
    return name


def check_name(value: str) -> str:
    """A reservation's name; raises ValueError."""
    if not _NAME.fullmatch(value):
        raise _said("is no name that Slurm takes; write a letter, then letters, digits and . _ -, 63 at most")
    if value.lower().endswith(".lend"):
        raise _said("ends in .lend, which is how lend reservations are named; choose another name")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Time = Annotated[datetime, BeforeValidator(_time)]
Words = Annotated[frozenset[str], BeforeValidator(_words)]
SignalName = Annotated[str, BeforeValidator(_signal)]


class Strict(BaseModel):
    """No key that is not known; nothing can be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnerModel(Strict):
    """`owner`."""

    users: Words = frozenset()
    accounts: Words = frozenset()
    groups: Words = frozenset()


class NodeRequestModel(Strict):
    """`nodes`, as a number of a kind."""

    node_count: Annotated[int, Field(ge=1, strict=True)]
    partition: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    features: Words = frozenset()


class LendModel(Strict):
    """`lend`. What is not given is taken from the defaults."""

    enabled: bool | None = None
    after_idle: Duration | None = None
    keep_idle_nodes: Annotated[int, Field(ge=0, strict=True)] | None = None
    max_time: Duration | None = None


class ReclaimModel(Strict):
    """`reclaim`."""

    notice: Duration | None = None
    signal: SignalName | None = None
    evict_by: EvictBy | None = None
    evict: EvictHow | None = None
    back_off: Duration | None = None


class RequestedModel(Strict):
    """Who asked for a reservation, and when; written by the CLI."""

    by: str
    at: str


class ReservationModel(Strict):
    """One of `reservations`."""

    owner: OwnerModel
    nodes: Annotated[frozenset[str] | NodeRequestModel, BeforeValidator(_nodes)]
    start: Time | None = None
    end: Time | None = None
    find: Find | None = None
    lend: LendModel = LendModel()
    reclaim: ReclaimModel = ReclaimModel()
    requested: RequestedModel | None = None


class DefaultsModel(Strict):
    """`defaults`."""

    find: Find = Find.ATTACH
    lend: LendModel = LendModel()
    reclaim: ReclaimModel = ReclaimModel()


class LendingModel(Strict):
    """`lending`."""

    partitions: Words = frozenset()
    qos: Words = frozenset()


class DaemonModel(Strict):
    """`daemon`."""

    poll: Duration | None = None
    state_dir: Path | None = None
    run_dir: Path | None = None
    epilog_time: Duration | None = None
    scheduling_pass: Duration | None = None


class SlurmModel(Strict):
    """`slurm`."""

    bin_dir: Path | None = None
    conf: Path | None = None
    timeout: Duration | None = None


class SiteModel(Strict):
    """The whole site file."""

    cluster: Annotated[str, Field(min_length=1, max_length=64)]
    lending: LendingModel
    reservations: dict[str, ReservationModel] = {}
    defaults: DefaultsModel = DefaultsModel()
    mode: Mode = Mode.ACTIVE
    daemon: DaemonModel = DaemonModel()
    slurm: SlurmModel = SlurmModel()


class FolderModel(Strict):
    """A file of reservations.d."""

    reservations: dict[str, ReservationModel]
