"""What may stand in a site file: pydantic models, used by :mod:`slurm_reserve.config` alone."""

from __future__ import annotations

import ipaddress
import re
import signal
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from slurm_reserve import durations, hostlist, windows
from slurm_reserve.errors import ReserveError
from slurm_reserve.site import (
    OWNER_MAY,
    AfterMost,
    AtEnd,
    Backend,
    BidBy,
    EvictBy,
    EvictHow,
    Find,
    Listen,
    Magnetic,
    Mode,
    OwnerMay,
    Reluctance,
    Victims,
)
from slurm_reserve.windows import Window

# A name that Slurm takes, that no command line misreads, and that is safe as a file's name.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
# The names that scancel knows, but for KILL and STOP: no job can act on those, and a killed one is not requeued.
_SIGNALS = frozenset(
    {"ABRT", "ALRM", "CONT", "HUP", "INT", "QUIT", "TERM", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "XCPU"}
)
UNLIMITED = timedelta.max  # `max_time: unlimited`, where the defaults have a limit


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


def _not_nothing(value: timedelta) -> timedelta:
    if not value:
        raise _said("is no time at all; write 1s or more")
    return value


def _time_limit(value: Any) -> timedelta:
    if value == "unlimited":
        return UNLIMITED
    found = _duration(value)
    if found < timedelta(minutes=1):
        raise _said("is less than any job's time limit; write 1m or more, or unlimited")
    return found


def _bid(value: Any) -> Decimal:
    try:
        found = Decimal(str(value)) if not isinstance(value, bool) else None
    except InvalidOperation:
        found = None
    if found is None or not found.is_finite() or not 0 <= found < 1_000_000 or found != round(found, 6):
        raise _said("is no bid; write a number such as 0.08: from 0 to 999999, with six decimals at most")
    return found


def _time(value: Any, info: ValidationInfo) -> datetime:
    context = info.context or {}
    now: datetime = context["now"]
    if not isinstance(value, str | date):
        raise _said("is no time; write 2030-01-31T08:00")
    try:
        found = durations.parse_time(value, now).replace(microsecond=0)
    except ReserveError as error:
        raise _said(str(error)) from error
    if context.get("is_file") and not durations.is_fixed_time(value):
        raise _said(f"would be another time whenever the file is read; write {found.isoformat()[:16]}")
    return found


def _nodes(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise _said("names no nodes; write n[1-2], a list of such, or {node_count: 2, partition: main}")
    try:
        return hostlist.expand(",".join(parts))  # as one list: what it names is counted before it is made
    except ReserveError as error:
        raise _said(str(error)) from error


def _words(value: Any) -> frozenset[str]:
    """One word or a list of words, none of which a list in a command line would misread."""
    parts = value if isinstance(value, list | tuple | set | frozenset) else [value]
    for part in parts:
        if not isinstance(part, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}", part):
            raise _said(f"{str(part)[:80]!r} is no name; write one such as alice, or a list: [alice, bob]")
    return frozenset(parts)


def _no(value: Any) -> Any:
    """`no` is False to YAML."""
    return "no" if value is False else value


def _rights(value: Any) -> frozenset[str]:
    parts = value if isinstance(value, list | tuple | set | frozenset) else [value]
    if not all(part in list(OwnerMay) for part in parts):
        raise _said("is nothing that owners can be allowed; write [lend, reclaim], one of them, or []")
    return frozenset(parts)


def _signal(value: Any) -> str:
    """The name without SIG, as scancel(1) takes it; from a name or a number."""
    name = str(value).upper().removeprefix("SIG")
    if not isinstance(value, bool) and name.isascii() and name.isdigit():
        name = next((known.name.removeprefix("SIG") for known in signal.Signals if str(known.value) == name), name)
    if name not in _SIGNALS:
        raise _said(f"is no signal that Slurm sends and a job can act on; write one of {', '.join(sorted(_SIGNALS))}")
    return name


def _signal_or_none(value: Any) -> str:
    return "" if value == "none" else _signal(value)


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise _said(f"depends on where the command is run; write the whole path, such as /var/lib/{value.name}")
    return value


def _listen(value: Any) -> Listen:
    """An address and a port; no name, which would have to be looked up."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", value) if isinstance(value, str) else None
    try:
        address = ipaddress.ip_address(found[1] or found[2]) if found else None
    except ValueError:
        address = None
    is_right = found and address and 0 < int(found[3]) < 65536 and (address.version == 6) == bool(found[1])
    if found is None or not is_right:
        raise _said('is no address with a port; write 127.0.0.1:9841, or "[::1]:9841" in quotes')
    return Listen(str(address), int(found[3]))


def _hook(value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else []
    if not parts or not all(isinstance(part, str) and "\0" not in part for part in parts) or not parts[0]:
        raise _said("is no list of a program and its arguments; write [/etc/slurm-reserve/hook]")
    if not Path(parts[0]).is_absolute():
        raise _said("names a program without its whole path; write [/etc/slurm-reserve/hook]")
    return tuple(parts)


def _empty(value: Any) -> Any:
    """A key with everything beneath it commented out."""
    return {} if value is None else value


def check_name(value: str) -> str:
    """A reservation's name; raises ValueError."""
    if not _NAME.fullmatch(value):
        raise _said("is no name that Slurm takes; write a letter, then letters, digits and . _ -, 63 at most")
    if value.lower().endswith(".lend"):
        raise _said("ends in .lend, which is how lend reservations are named; choose another name")
    return value


def _windows(value: Any) -> tuple[Window, ...]:
    parts = list(value) if isinstance(value, list | tuple) else [value]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise _said("names no windows; write mon-fri 08:00-18:00 Europe/Berlin, or a list of such")
    try:
        found = tuple(windows.parse(part) for part in parts)
    except ReserveError as error:
        raise _said(str(error)) from error
    if windows.is_endless(found, datetime.now(UTC)):
        raise _said("leaves no hour of the week out; remove it")
    return found


def _windows_or_always(value: Any) -> tuple[Window, ...]:
    return () if value == "always" else _windows(value)


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Interval = Annotated[Duration, AfterValidator(_not_nothing)]
TimeLimit = Annotated[timedelta, BeforeValidator(_time_limit)]
Time = Annotated[datetime, BeforeValidator(_time)]
Words = Annotated[frozenset[str], BeforeValidator(_words)]
Bid = Annotated[Decimal, BeforeValidator(_bid)]
Count = Annotated[int, Field(ge=1, strict=True)]
Windows = Annotated[tuple[Window, ...], BeforeValidator(_windows)]
Rights = Annotated[frozenset[OwnerMay], BeforeValidator(_rights)]
SignalName = Annotated[str, BeforeValidator(_signal)]
WholePath = Annotated[Path, AfterValidator(_absolute)]


def _long_enough(value: timedelta) -> timedelta:
    if value < timedelta(seconds=30):
        raise ValueError("must be at least 30s: it is extended at a third of it, and a quarter is kept in reserve")
    return value


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
    windows: Annotated[tuple[Window, ...], BeforeValidator(_windows_or_always)] | None = None
    keep_idle_nodes: Annotated[int, Field(ge=0, strict=True)] | None = None
    max_time: TimeLimit | None = None
    max_nodes: Count | None = None
    last: bool | None = None
    look_ahead: Duration | None = None


class ReclaimModel(Strict):
    """`reclaim`."""

    notice: Duration | None = None
    signal: SignalName | None = None
    evict_by: EvictBy | None = None
    evict: EvictHow | None = None
    back_off: Duration | None = None
    victims: Victims | None = None
    back_off_max: Interval | None = None
    extra_time: Duration | None = None
    min_run_time: Duration | None = None
    own_signal: bool | None = None
    go_on_signal: Annotated[str, BeforeValidator(_signal_or_none)] | None = None


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
    windows: Windows | None = None
    at_end: AtEnd | None = None
    owner_may: Rights | None = None
    find: Find | None = None
    lend: Annotated[LendModel, BeforeValidator(_empty)] = LendModel()
    reclaim: Annotated[ReclaimModel, BeforeValidator(_empty)] = ReclaimModel()
    requested: RequestedModel | None = None


class DefaultsModel(Strict):
    """`defaults`."""

    find: Find = Find.ATTACH
    at_end: AtEnd = AtEnd.CANCEL
    owner_may: Rights = OWNER_MAY
    lend: Annotated[LendModel, BeforeValidator(_empty)] = LendModel()
    reclaim: Annotated[ReclaimModel, BeforeValidator(_empty)] = ReclaimModel()


class LendingModel(Strict):
    """`lending`."""

    partitions: Words = frozenset()
    qos: Words = frozenset()
    magnetic: Annotated[Magnetic, BeforeValidator(_no)] | None = None
    max_evictions_per_hour: Count | None = None
    bid: BidBy | None = None
    bids: dict[str, Bid] | None = None
    max_bid: Bid | None = None
    credit: Bid | None = None
    displace: bool | None = None
    max_nodes_per_user: Count | None = None
    max_nodes_per_account: Count | None = None
    max_run_time: Interval | None = None
    expires_in_comment: bool | None = None
    saved_in_comment: bool | None = None
    refuse: Annotated[frozenset[Reluctance], BeforeValidator(_words)] | None = None
    max_evictions: Annotated[int, Field(ge=1, strict=True)] | None = None
    after_max_evictions: AfterMost | None = None
    protect_for: Interval | None = None
    forget_evictions_after: Interval | None = None


class DaemonModel(Strict):
    """`daemon`."""

    poll: Interval | None = None
    state_dir: WholePath | None = None
    run_dir: WholePath | None = None
    keep_journal: Interval | None = None
    epilog_time: Duration | None = None
    scheduling_pass: Interval | None = None
    metrics: Annotated[Listen, BeforeValidator(_listen)] | None = None
    hook: Annotated[tuple[str, ...], BeforeValidator(_hook)] | None = None
    hook_timeout: Interval | None = None
    hook_interval: Interval | None = None
    fail_safe: bool | None = None
    lease: Annotated[Interval, AfterValidator(_long_enough)] | None = None


class SlurmModel(Strict):
    """`slurm`."""

    backend: Backend | None = None
    bin_dir: WholePath | None = None
    conf: WholePath | None = None
    timeout: Interval | None = None
    max_calls_per_second: Annotated[float, Field(gt=0, le=1000)] | None = None


class SiteModel(Strict):
    """The whole site file."""

    cluster: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
    lending: LendingModel
    reservations: Annotated[dict[str, ReservationModel], BeforeValidator(_empty)] = {}
    defaults: Annotated[DefaultsModel, BeforeValidator(_empty)] = DefaultsModel()
    mode: Mode = Mode.ACTIVE
    daemon: Annotated[DaemonModel, BeforeValidator(_empty)] = DaemonModel()
    slurm: Annotated[SlurmModel, BeforeValidator(_empty)] = SlurmModel()


class FolderModel(Strict):
    """A file of reservations.d."""

    reservations: dict[str, ReservationModel]
