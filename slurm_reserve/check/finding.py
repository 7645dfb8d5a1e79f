"""What a check gives, and what it looks at. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from slurm_reserve.check.guardfile import Guard
from slurm_reserve.site import NodeRequest, ReservationSpec
from slurm_reserve.view import View


class Level(StrEnum):
    """How bad it is."""

    ERROR = "error"  # the promise does not hold
    WARNING = "warning"  # it holds, but somebody may be surprised
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One setting, and what to do about it."""

    level: Level
    subject: str  # the reservation, partition or setting
    text: str
    remedy: str
    id: str = ""  # the check that found it; stable, for machines


@dataclass(frozen=True, slots=True)
class Here:
    """What is known from this host rather than from slurmctld; None where it cannot be known."""

    user: str = ""
    is_root: bool = False
    is_operator: bool | None = None  # whether Slurm lets this user change reservations and others' jobs
    guard: Guard | None = None  # job_submit.lua as it stands beside slurm.conf
    unknown_users: frozenset[str] = frozenset()  # named as owners, and not known to this host
    hook_problem: str = ""  # why this user cannot run daemon.hook; "" when it can, or none is declared


@dataclass(frozen=True)
class Inspected(View):
    """A view that is checked, with what is known from here."""

    here: Here = Here()


Check = Callable[[Inspected], Iterator[Finding]]


def nodes_of(view: View, spec: ReservationSpec) -> frozenset[str]:
    """The nodes that it has in Slurm or that it names; of a request not made yet, its partition's."""
    if (there := view.cluster.reservations.get(spec.name)) is not None:
        return there.nodes
    if isinstance(spec.nodes, NodeRequest):
        partition = view.cluster.partitions.get(spec.nodes.partition)
        return partition.nodes if partition else frozenset()
    return spec.nodes


def release(view: View) -> tuple[int, ...]:
    """The release of slurmctld, as numbers."""
    parts = view.cluster.config.version.split("-")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def printed(view: View, key: str) -> str:
    """A setting as `scontrol show config` prints it; "" where the release does not."""
    return view.cluster.config.printed.get(key, "")


def has_none(view: View, program: str) -> bool:
    """Whether slurm.conf names no such program; newer releases number them, and print nothing where there is none."""
    settings = view.cluster.config.printed
    return bool(settings) and {settings.get(program, "(null)"), settings.get(f"{program}[0]", "(null)")} == {"(null)"}


def seconds(view: View, key: str) -> int:
    """A setting that Slurm prints in seconds; 0 where it is not set or is no number."""
    word = printed(view, key).partition(" ")[0]
    return int(word) if word.isascii() and word.isdigit() else 0
