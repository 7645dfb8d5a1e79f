"""What `scontrol` would print of pyslurm's nodes and partitions, so that the same parser reads both. Pure.

Nodes with GRES are named instead: pyslurm keeps of what is in use of them neither type nor, for some, the count.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

_MINUTES_OF_A_DAY = 24 * 60


def nodes(found: Iterable[Any], partial: list[str]) -> str:
    """The lines of `scontrol -o -d show node`; `partial` gets the names of those that have GRES."""
    lines = []
    for node in found:
        if node.configured_gres:
            partial.append(str(node.name))
        else:
            lines.append(_node(node))
    return "".join(lines)


def partitions(found: Iterable[Any]) -> str:
    """The lines of `scontrol -o show partition`."""
    return "".join(map(_partition, found))


def limit(minutes: int | str | None) -> str:
    """A limit as Slurm prints it: `days-hours:minutes:00`."""
    if not isinstance(minutes, int):
        return "UNLIMITED"
    days, rest = divmod(minutes, _MINUTES_OF_A_DAY)
    return f"{days}-{rest // 60:02}:{rest % 60:02}:00"


@lru_cache(16384)
def time(at: int | None) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S") if at else "N/A"


def _node(node: Any) -> str:
    said = " ".join(str(node.reason).split("\n")) if node.reason else ""
    reason = f" Reason={said} [{node.reason_user}@{time(node.reason_time)}]" if said else ""
    return (
        f"NodeName={node.name} CPUAlloc={node.allocated_cpus} CPUEfctv={node.effective_cpus} CPUTot={node.total_cpus}"
        f" ActiveFeatures={_list(node.active_features)} Gres=(null) RealMemory={node.real_memory or 0}"
        f" AllocMem={node.allocated_memory or 0} State={node.state} ThreadsPerCore={node.threads_per_core or 1}"
        f" Partitions={_list(node.partitions)} MemSpecLimit={node.memory_reserved_for_system or 0}{reason}\n"
    )


def _partition(part: Any) -> str:
    default = limit(part.default_time) if isinstance(part.default_time, int) else "NONE"
    return (
        f"PartitionName={part.name} DefaultTime={default} GraceTime={part.preemption_grace_time or 0}"
        f" MaxTime={limit(part.max_time)} Nodes={part.nodes or '(null)'} PriorityTier={part.priority_tier}"
        f" OverSubscribe={part.oversubscribe} PreemptMode={_mode(part.preempt_mode)} State={part.state}\n"
    )


def _mode(mode: Any) -> str:
    return mode if isinstance(mode, str) else ",".join(mode or ("OFF",))


def _list(names: Iterable[str] | None) -> str:
    return ",".join(names or ()) or "(null)"
