"""Reads jobs, nodes and partitions through pyslurm: `python -m slurm_reserve.slurm.pyslurm_worker`.

pyslurm holds the GIL while slurmctld is asked, and reads slurm.conf when it is imported: so whoever needs it runs it
here, and ends this process when it hangs. For each line of input, `jobs END`, `jobs END words`, `nodes` or
`partitions`, one answer is written: a line with its length, and then what squeue would have printed for
:func:`slurm_reserve.slurm.jobs.job_format`, or scontrol, so that it is understood by the same code. An answer that
begins with "!" says why there is none.

What pyslurm does not give whole is named in a last line: jobs that ask for GRES, nodes that have some. It keeps of
`gres/gpu:2` for a job, a task or a socket neither type nor count, and raises on what is asked for each GPU.
"""

from __future__ import annotations

import pwd
import re
import sys
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from slurm_reserve.slurm import jobs, pyslurm_text, shapes

_END = re.compile(r"[0-9a-z-]+")
_ENDED = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "REVOKED", "TIMEOUT",
    }
)  # fmt: skip


def render(found: Iterable[Any], end: str, words: bool) -> tuple[str, list[str]]:
    """What squeue would print of pyslurm's jobs, and the numbers of those that must be read otherwise."""
    last = f"{jobs.FIELD}{end}\n"
    header = jobs.FIELD.join(field.upper() for field in shapes.FIELDS) + jobs.PART + _joined(jobs.WHO)
    records = [header + (f"{jobs.FIELD}{end}{jobs.PART}NICE{jobs.FIELD}COMMENT" if words else "")]
    partial = []
    for job in found:
        state = str(job.state)
        if state in _ENDED:
            continue
        if _asks_for_gres(job):
            partial.append(str(job.id))
            continue
        asked, who = request(job), identity(job, state)
        record = jobs.FIELD.join(asked[field] for field in shapes.FIELDS) + jobs.PART + jobs.FIELD.join(who)
        said = f"{jobs.FIELD}{end}{jobs.PART}{job.nice or 0}{jobs.FIELD}{job.comment or ''}" if words else ""
        records.append(record + said)
    return last.join(records) + last, partial


def request(job: Any) -> Mapping[str, str]:
    """What the job asks for, under the names of squeue's fields."""
    tres = _tres(job)
    per_cpu, per_node = job.memory_per_cpu, job.memory_per_node
    system = job.cores_reserved_for_system or job.threads_reserved_for_system
    asked: dict[str, object] = {
        "NumNodes": job.num_nodes or 0,
        "MaxNodes": job.max_nodes or job.num_nodes or 0,  # squeue prints its estimate, too
        "NumCPUs": job.cpus,
        "NumTasks": job.ntasks,
        "cpus-per-task": job.cpus_per_task,
        "NTPerNode": job.ntasks_per_node or 0,
        "MinCPUs": job.min_cpus_per_node or 0,
        "MinMemory": f"{per_cpu or per_node or 0}M",
        "tres-alloc": tres,
        "Feature": ",".join(job.constraints or ()),
        "ReqNodes": job.required_nodes or "",
        "ExcNodes": job.excluded_nodes or "",
        "OverSubscribe": job.resource_sharing,
        "Exclusive": "",
        "Contiguous": int(bool(job.requires_contiguous_nodes)),
        "CoreSpec": system,
        "Sockets": job.sockets_per_node,
        "Cores": job.cores_per_socket,
        "Threads": job.threads_per_core,
        "NTPerSocket": job.ntasks_per_socket,
        "NTPerCore": job.ntasks_per_core,
        "NTPerBoard": job.ntasks_per_board,
        "ReqSwitch": job.required_switches or 0,
        "MinTmpDisk": job.temporary_disk_per_node or 0,
        "Reboot": int(bool(job.requires_node_reboot)),
    }
    return {field: _text(asked.get(field)) for field in shapes.FIELDS}


def identity(job: Any, state: str) -> list[str]:
    """Who, where and when, in the order of squeue's fields."""
    array = job.array_id
    return [
        str(job.id),
        str(array or job.id),
        _tasks(job) if array else "N/A",
        _text(job.heterogeneous_id),
        _user(job.user_id),
        job.partition or "",
        job.qos or "",
        state,
        job.reservation or "",
        job.allocated_nodes or "",
        str(job.priority or 0),
        str(job.requeue_count or 0),
        pyslurm_text.limit(job.time_limit),
        *(pyslurm_text.time(at) for at in (job.submit_time, job.start_time, _end(job), job.eligible_time)),
        str(int(bool(job.is_batch_job))),
        ",".join(job.licenses or ()),
        _dependency(job),
        job.state_reason or "None",
        job.account or "",
    ]


def _asks_for_gres(job: Any) -> bool:
    """Read without harm: of these pyslurm's other properties raise."""
    asked = job.requested_tres
    return bool((asked and asked.gres) or job.gres_per_node or job.tres_per_node or job.tres_per_job)


def _tres(job: Any) -> str:
    found = (job.requested_tres if job.state == "PENDING" else job.allocated_tres) or job.requested_tres
    if found is None:
        return ""
    unit = {"mem": "M"}
    held = {name: getattr(found, name, None) for name in ("cpu", "mem", "node")}
    return ",".join(f"{name}={each.count}{unit.get(name, '')}" for name, each in held.items() if each is not None)


def _tasks(job: Any) -> str:
    """The pending tasks of an array with their limit, or the one task that this is. Task 0 is given as None."""
    waiting, most = job.array_tasks_waiting, job.array_tasks_parallel
    if waiting:
        return f"{waiting}%{most}" if most else str(waiting)
    return str(job.array_task_id or 0)


def _end(job: Any) -> int | None:
    """When it ends; of a job without a time limit squeue tells none, and pyslurm one in a year."""
    end: int | None = job.end_time
    return end if isinstance(job.time_limit, int) or (end or 0) <= time.time() else None


def _dependency(job: Any) -> str:
    """As Slurm writes it, as far as pyslurm understands it."""
    try:
        found = job.dependencies or {}
    except (ValueError, IndexError, KeyError):
        return "not understood"
    pairs = ((kind, ids) for kind, ids in found.items() if isinstance(ids, list) and ids)
    return ",".join(f"{kind}:{':'.join(map(str, ids))}" for kind, ids in pairs)


@lru_cache(maxsize=4096)
def _user(uid: int | None) -> str:
    """The user's name; the number where nobody has it, as squeue prints it."""
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)


def _text(value: object) -> str:
    return "N/A" if value in (None, "UNLIMITED") else str(value)


def _joined(names: Iterable[str]) -> str:
    return jobs.FIELD.join(name.upper() for name in names)


def answer(line: str) -> str:
    """What is written for one line of input."""
    pyslurm: Any = import_module("pyslurm")  # reads slurm.conf; ends the process when there is none
    try:
        match line.split():
            case ["jobs", end, *words] if _END.fullmatch(end):
                text, partial = render(pyslurm.Jobs.load().values(), end, bool(words))
            case ["nodes"]:
                text, partial = pyslurm_text.nodes(pyslurm.Nodes.load().values())
            case ["partitions"]:
                text, partial = pyslurm_text.partitions(pyslurm.Partitions.load().values()), []
            case _:
                return "!not a question"
    except pyslurm.RPCError as error:
        return f"!{error}"
    return f"{text}{','.join(partial)}"


def main() -> None:
    """Answer until the input ends."""
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # pyslurm prints; that is no part of an answer
    for line in sys.stdin:
        said = answer(line).encode(errors="replace")
        out.write(b"%d\n" % len(said))
        out.write(said)
        out.flush()


if __name__ == "__main__":
    main()
