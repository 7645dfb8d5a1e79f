"""What `scontrol` prints, understood: text in, model out. Pure.

Every function raises SlurmUnreadableError, and nothing else, for text that it cannot understand. `scontrol -o` prints
one record a line as `Key=value` pairs. Free text (a node's Reason, a Comment) may hold anything, `=`, spaces and line
ends included, but Slurm prints it after everything that is read here: the first occurrence of a key is the true one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from slurm_reserve.errors import ReserveError
from slurm_reserve.model import Node, Partition, Reservation, SlurmConfig
from slurm_reserve.slurm.port import SlurmUnreadableError
from slurm_reserve.slurm.values import count, duration, gres, hosts, names, number, time, word

T = TypeVar("T")

NO_RESERVATIONS = "No reservations in the system"

_FREE_TEXT = (" Reason=", " Comment=", " Extra=")
_OF_USER = re.compile(r"\(\s*(\d+)\)\s+count:\d+\s+ave_time:\d+\s+total_time:(\d+)")
_SHOWN = 160  # characters of a bad line that a message shows
# Signs that sinfo's short form puts after a state, and the flag each stands for.
_SIGNS = {
    "*": "NOT_RESPONDING", "~": "POWERED_DOWN", "#": "POWERING_UP", "!": "POWER_DOWN", "%": "POWERING_DOWN",
    "$": "MAINT", "@": "REBOOT_REQUESTED", "^": "REBOOT_ISSUED", "-": "PLANNED",
}  # fmt: skip
_SAME_STATE = {"INVAL": "INVALID_REG", "ALLOC": "ALLOCATED"}


@contextmanager
def understanding(what: str, line: str) -> Iterator[None]:
    """Turn whatever goes wrong while reading `line` into one SlurmUnreadableError that shows it."""
    try:
        yield
    except SlurmUnreadableError:
        raise
    except (ValueError, KeyError, IndexError, OverflowError, ReserveError) as error:
        raise unreadable(what, line, str(error)) from error


def unreadable(what: str, line: str, why: str = "") -> SlurmUnreadableError:
    """Make the error for a line that cannot be understood; what it shows is short and printable."""
    because = f" ({_shown(why)})" if why else ""
    return SlurmUnreadableError(f"cannot understand {what}{because}: {_shown(line)}")


def _shown(text: str) -> str:
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return "".join(char if char.isprintable() else "?" for char in short)


def parse_nodes(text: str) -> dict[str, Node]:
    """Read `scontrol -o -a -d show node`."""
    return {node.name: node for node in _each("node", text, "NodeName=", " CPUTot=", _node)}


def parse_reservations(text: str) -> dict[str, Reservation]:
    """Read `scontrol -o -a show reservation`."""
    if text.strip() == NO_RESERVATIONS:
        return {}
    found = _each("reservation", text, "ReservationName=", " StartTime=", _reservation)
    return {reservation.name: reservation for reservation in found}


def parse_partitions(text: str, default_preempt_mode: str = "OFF") -> dict[str, Partition]:
    """Read `scontrol -o -a show partition`; a partition that prints no PreemptMode has the cluster's."""

    def read(line: str) -> Partition:
        return _partition(line, default_preempt_mode)

    return {each.name: each for each in _each("partition", text, "PartitionName=", " State=", read)}


def parse_config(text: str) -> SlurmConfig:
    """Read `scontrol show config`."""
    _whole("Slurm's configuration", text)
    found: dict[str, str] = {}
    for line in text.split("\n"):
        key, equals, value = line.partition("= ")
        if equals:
            found.setdefault(key.strip(), value.strip())
    with understanding("Slurm's configuration", text):
        return SlurmConfig(
            version=found["SLURM_VERSION"],
            cluster=found["ClusterName"],
            preempt_type=word(found["PreemptType"]),
            preempt_mode=word(found["PreemptMode"]),
            kill_wait=timedelta(seconds=number(found["KillWait"].removesuffix(" sec"))),
            select_type_parameters=word(found.get("SelectTypeParameters", "")),
            scheduler_parameters=word(found.get("SchedulerParameters", "")),
            job_submit_plugins=word(found.get("JobSubmitPlugins", "")),
            accounting=found["AccountingStorageType"].endswith("slurmdbd"),
            requeue=number(found["JobRequeue"]) != 0,
            booted=time(found["BOOT_TIME"]),
            slurm_user=found["SlurmUser"].partition("(")[0],  # printed after all of the above: they are not cut off
            printed=found,
        )


def parse_spent(text: str, uid: int) -> float:
    """Seconds that slurmctld has spent on a user's calls: read `sdiag`. 0 for a user that it has no record of."""
    _, found, users = text.partition("Remote Procedure Call statistics by user")
    if not found:
        raise unreadable("slurmctld's statistics", text[-_SHOWN:], "incomplete")
    for line in users.split("\n"):
        counted = _OF_USER.search(line)
        if counted and int(counted[1]) == uid:
            return int(counted[2]) / 1_000_000
    return 0.0


def parse_qos_preempts(text: str) -> dict[str, frozenset[str]]:
    """Read `sacctmgr -nP show qos format=name,preempt`: QOS -> QOS that it may preempt."""
    _whole("the list of QOS", text)
    found: dict[str, frozenset[str]] = {}
    for line in filter(None, text.split("\n")):
        name, bar, preempts = line.partition("|")
        if not bar or not name:
            raise unreadable("a QOS", line)
        found[name] = names(preempts)
    return found


def parse_account_users(text: str) -> dict[str, frozenset[str]]:
    """Read `sacctmgr -nP show assoc format=account,user`: account -> its users; lines without one are the account's."""
    _whole("the list of associations", text)
    found: dict[str, set[str]] = {}
    for line in filter(None, text.split("\n")):
        account, bar, user = line.partition("|")
        if not bar or not account:
            raise unreadable("an association", line)
        found.setdefault(account, set()).update({user} - {""})
    return {account: frozenset(users) for account, users in found.items()}


def parse_groups(groups: str, passwd: str) -> dict[str, frozenset[str]]:
    """Read `getent group NAME...` and `getent passwd`; whose own group it is are members too, as Slurm sees it."""
    _whole("the list of groups", groups)
    _whole("the list of users", passwd)
    owners: dict[str, set[str]] = {}
    for line in passwd.split("\n"):
        fields = line.split(":")
        if len(fields) >= 4:  # anything else is no account, and no reason to stop
            owners.setdefault(fields[3], set()).add(fields[0])
    found: dict[str, frozenset[str]] = {}
    for line in filter(None, groups.split("\n")):
        fields = line.split(":")
        if len(fields) != 4:
            raise unreadable("a group", line)
        name, _, gid, members = fields
        found[name] = names(members) | owners.get(gid, set())
    return found


def _whole(what: str, text: str) -> None:
    """Refuse an answer that is cut off within a line."""
    if text and not text.endswith("\n"):
        raise unreadable(what, text[-_SHOWN:], "incomplete")


def _each(what: str, text: str, first: str, needed: str, read: Callable[[str], T]) -> Iterator[T]:
    """Read each record of an answer that must be complete and hold at least one."""
    if not text.endswith("\n") or not text.startswith(first):
        raise unreadable(f"the list of {what}s", text[-_SHOWN:], "incomplete")
    record = ""
    for line in text.split("\n"):
        if line.startswith(first):
            if record:
                yield _read(what, record, read)
            record = line
        elif needed in line or (line.strip() and not any(key in record for key in _FREE_TEXT)):
            raise unreadable(f"a {what}", line)
        # What is left are empty lines, and the further lines of somebody's comment.
    yield _read(what, record, read)


def _read(what: str, line: str, read: Callable[[str], T]) -> T:
    with understanding(f"a {what}", line):
        return read(line)


def _value(line: str, key: str, default: str | None = None) -> str:
    """The first value of `key`, which ends at a space; raises ValueError when there is none and no default."""
    start = line.find(f" {key}=")
    if start < 0:
        if default is None:
            raise ValueError(f"no {key}")
        return default
    start += len(key) + 2
    end = line.find(" ", start)
    return line[start:] if end < 0 else line[start:end]


def _node(line: str) -> Node:
    threads = number(_value(line, "ThreadsPerCore"))
    special = number(_value(line, "CoreSpecCount", "0")) * threads
    usable = _value(line, "CPUEfctv", "")  # what is left without specialised cores; since 22.05
    reason = line.partition(" Reason=")[2]
    return Node(
        name=_name(line, "NodeName="),
        states=_states(_value(line, "State")),
        cpus=number(usable) if usable else number(_value(line, "CPUTot")) - special,
        memory=number(_value(line, "RealMemory")) - number(_value(line, "MemSpecLimit", "0")),
        alloc_cpus=number(_value(line, "CPUAlloc")),
        alloc_memory=number(_value(line, "AllocMem")),
        gres=gres(_value(line, "Gres")),
        gres_used=gres(_value(line, "GresUsed", "")),
        features=names(_value(line, "ActiveFeatures")),
        partitions=names(_value(line, "Partitions", "")),
        threads_per_core=threads,
        reason=reason.strip(),
    )


def _name(line: str, first: str) -> str:
    name = line[len(first) :].split(" ", 1)[0]
    if not name:
        raise ValueError("no name")
    return name


def _states(text: str) -> frozenset[str]:
    """Split `IDLE*+DRAIN+PLANNED` into words, signs included."""
    found: set[str] = set()
    for part in text.upper().split("+"):
        state = part.rstrip("".join(_SIGNS))
        found.update(_SIGNS[sign] for sign in part[len(state) :])
        if not re.fullmatch(r"[A-Z][A-Z_]*", state):
            raise ValueError(f"state {text}")
        found.add(_SAME_STATE.get(state, state))
    return frozenset(found)


def _reservation(line: str) -> Reservation:
    start, end = time(_value(line, "StartTime")), time(_value(line, "EndTime"))
    if start is None or end is None:
        raise ValueError("no start or no end")
    return Reservation(
        name=_reservation_name(line),
        nodes=hosts(_value(line, "Nodes")),
        start=start,
        end=end,
        flags=names(_value(line, "Flags").upper()),
        users=names(_value(line, "Users")),
        accounts=names(_value(line, "Accounts")),
        groups=names(_value(line, "Groups", "")),
        allowed_partitions=names(_value(line, "AllowedPartitions", "")),
        allowed_qos=names(_value(line, "QOS", "")),
        can_name_partitions=" AllowedPartitions=" in line,
        cores=number(_value(line, "CoreCnt", "0")),
        licenses=word(_value(line, "Licenses", "")),
        is_active=_one_of(_value(line, "State"), "ACTIVE", "INACTIVE") == "ACTIVE",
    )


def _reservation_name(line: str) -> str:
    name = line[len("ReservationName=") :].partition(" StartTime=")[0]  # Slurm lets it contain a space
    if not name:
        raise ValueError("no name")
    return name


def _partition(line: str, default_preempt_mode: str) -> Partition:
    return Partition(
        name=_name(line, "PartitionName="),
        nodes=hosts(_value(line, "Nodes")),
        tier=count(_value(line, "PriorityTier")),
        preempt_mode=_value(line, "PreemptMode", default_preempt_mode).upper(),
        grace=timedelta(seconds=count(_value(line, "GraceTime"))),
        max_time=duration(_value(line, "MaxTime")),
        default_time=duration(_value(line, "DefaultTime", "NONE")),
        # From 26.05 on it is Exclusive that says so.
        exclusive="EXCLUSIVE" in _value(line, "OverSubscribe").upper() or _value(line, "Exclusive", "NO") == "NODE",
        is_up=_one_of(_value(line, "State"), "UP", "DOWN", "DRAIN", "INACTIVE") == "UP",
    )


def _one_of(value: str, *known: str) -> str:
    if value not in known:
        raise ValueError(f"{value} is none of {', '.join(known)}")
    return value
