"""What a job asks for, from squeue's fields. Pure.

squeue does not say everything. Where its words leave two readings, the one that needs more is taken: an owner's job
must not be thought to fit where it does not. What changes where a job fits and cannot be put into a Shape is named in
`unproven`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from slurm_reserve.model import Shape
from slurm_reserve.slurm.values import NOTHING, count, gres, hosts, megabytes, tres, word

FIELDS = (
    "NumNodes", "MaxNodes", "NumCPUs", "NumTasks", "cpus-per-task", "NTPerNode", "MinCPUs", "MinMemory", "tres-alloc",
    "tres-per-node", "tres-per-job", "tres-per-task", "tres-per-socket", "cpus-per-tres", "mem-per-tres", "Feature",
    "ReqNodes", "ExcNodes", "OverSubscribe", "Exclusive", "Contiguous", "CoreSpec", "Sockets", "Cores", "Threads",
    "NTPerSocket", "NTPerCore", "NTPerBoard", "ReqSwitch", "MinTmpDisk", "Reboot",
)  # fmt: skip

_SHARED_GRES = ("shard", "mps")  # shares of a GPU: what is left of them depends on who has the GPU itself
_NOT_GRES = ("cpu", "node", "billing")  # from 23.11 on a task's CPUs may stand among its TRES
# Before 26.05 OverSubscribe says whether a job is exclusive: NO means that it is. From 26.05 on Exclusive does, and
# OverSubscribe is NO for everybody. Any other word (USER, MCS, TOPO) looks at who has the node.
_WHOLE_NODE = "NODE"
_OLD_WORDS = {"YES": "NO", "OK": "NO", "NO": _WHOLE_NODE}


class Terms(NamedTuple):
    """What the cluster does about a request, whoever makes it."""

    memory_counts: bool = True  # SelectTypeParameters has MEMORY
    raises_maximum: bool = False  # squeue prints its estimate of nodes as the maximum where the user's is lower
    single_threaded: bool = False  # every node has one thread a core: then limits of threads and cores are none


# A field that must say nothing for a fit to be provable, and the words for it when it says something.
_DOUBTS: tuple[tuple[str, str], ...] = (
    ("tres-per-socket", "GRES per socket"),
    ("cpus-per-tres", "CPUs per GRES"),
    ("mem-per-tres", "memory per GRES"),
    ("Contiguous", "contiguous nodes"),
    ("CoreSpec", "specialised cores"),
    ("Sockets", "sockets per node"),
    ("Cores", "cores per socket"),
    ("NTPerSocket", "tasks per socket"),
    ("NTPerBoard", "tasks per board"),
    ("ReqSwitch", "switches"),
    ("MinTmpDisk", "temporary disk"),
    ("Reboot", "reboot"),
)
_THREAD_DOUBTS = (("Threads", "threads per core"), ("NTPerCore", "tasks per core"))


def parse_shape(fields: Mapping[str, str], terms: Terms) -> Shape:
    """Read a job's request; raises ValueError when a field cannot be understood, KeyError when one is missing."""
    total = tres(fields["tres-alloc"])
    tasks = max(count(fields["NumTasks"]), 1)
    cpus = max(count(fields["NumCPUs"]), 1)
    per_node = count(fields["NTPerNode"])
    min_nodes = _min_nodes(fields, total, tasks, per_node)
    memory = megabytes(fields["MinMemory"])
    is_per_cpu = memory > 0 and _is_per_cpu(memory, cpus, total)
    whole_memory = terms.memory_counts and memory == 0
    gres_per_node, gres_per_job, gres_per_task = (
        _gres(fields[key]) for key in ("tres-per-node", "tres-per-job", "tres-per-task")
    )
    max_nodes, may_spread = _most_nodes(fields, min_nodes, terms, spreads=tasks > 1 or bool(gres_per_job))
    return Shape(
        min_nodes=min_nodes,
        max_nodes=max_nodes,
        may_spread=may_spread,
        cpus=cpus,
        tasks=tasks,
        cpus_per_task=max(count(fields["cpus-per-task"]), 1),
        tasks_per_node=per_node,
        min_cpus_per_node=max(count(fields["MinCPUs"]), 1),
        memory_per_node=0 if is_per_cpu else memory,
        memory_per_cpu=memory if is_per_cpu else 0,
        gres_per_node=gres_per_node,
        gres_per_job=gres_per_job,
        gres_per_task=gres_per_task,
        features=word(fields["Feature"]),
        exclusive=_exclusive(fields) == _WHOLE_NODE or whole_memory,  # --mem=0 needs all of a node's memory
        required_nodes=hosts(fields["ReqNodes"]),
        excluded_nodes=hosts(fields["ExcNodes"]),
        unproven=_unproven(fields, terms, {*gres_per_node, *gres_per_job, *gres_per_task}),
    )


def _min_nodes(fields: Mapping[str, str], total: Mapping[str, str], tasks: int, per_node: int) -> int:
    """How many nodes it asks for: squeue's NumNodes is an estimate while it waits, the total's `node` is not."""
    asked = count(total.get("node", "")) or count(fields["NumNodes"])
    return max(asked, -(-tasks // per_node) if per_node else 1)


def _most_nodes(fields: Mapping[str, str], min_nodes: int, terms: Terms, *, spreads: bool) -> tuple[int, bool]:
    """The most nodes that it may have, and whether it may have more in truth, for squeue's word may be its own.

    Where the user gave no maximum squeue prints its estimate, from 26.05 on the number of tasks, which is none. After
    22.05 it prints its estimate where the user's maximum is lower, too: then no more than the minimum is certain.
    """
    most = max(count(fields["MaxNodes"]), min_nodes)
    is_estimate = fields["MaxNodes"] == fields["NumNodes"]
    if is_estimate and terms.raises_maximum and most > min_nodes:
        return min_nodes, True
    return most, is_estimate and min_nodes == 1 and spreads


def _is_per_cpu(memory: int, cpus: int, total: Mapping[str, str]) -> bool:
    """Whether MinMemory is for a CPU or for a node, which squeue does not say: see what the total was made from.

    As many CPUs as nodes leave both open; then a CPU's is what may need more (a whole node's CPUs, when exclusive).
    """
    nodes = count(total.get("node", ""))
    whole = megabytes(total.get("mem", ""))
    return whole != memory * nodes or whole == memory * cpus


def _exclusive(fields: Mapping[str, str]) -> str:
    """What the job has to itself, in the words of 26.05: NO, NODE, USER, MCS or TOPO."""
    return fields["Exclusive"] or _OLD_WORDS.get(fields["OverSubscribe"], fields["OverSubscribe"])


def _gres(text: str) -> Mapping[str, int]:
    found = gres(text)
    return {name: n for name, n in found.items() if name.split(":")[0] not in _NOT_GRES} if found else found


def _unproven(fields: Mapping[str, str], terms: Terms, wanted: set[str]) -> tuple[str, ...]:
    doubts = _DOUBTS if terms.single_threaded else _DOUBTS + _THREAD_DOUBTS
    found = [words for field, words in doubts if fields[field] not in NOTHING and fields[field] != "0"]
    if any(sign in fields["Feature"] for sign in "[*(") and word(fields["Feature"]):
        found.append("counted or grouped features")
    if (by := _exclusive(fields)) not in ("NO", _WHOLE_NODE):
        found.append(f"exclusive by {by.lower()}")
    if "mem" in wanted:
        found.append("memory per task")
    found.extend(name for name in _SHARED_GRES if name in wanted)
    return tuple(found)
