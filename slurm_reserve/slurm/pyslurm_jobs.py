"""What `squeue` would print of pyslurm's jobs, so that the same parser reads both.

Most of the time goes to pyslurm's own reading, so each of its properties is read once, and what many jobs have in
common is put into words once for each answer.
"""

from __future__ import annotations

import pwd
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any

from slurm_reserve.slurm import jobs, pyslurm_text, shapes

_AT_ONCE = 500  # records of a block
_ALIKE = 4096  # requests, and kinds of jobs, that are kept in words: those of an array follow each other
_NOT_GIVEN = (ValueError, KeyError, IndexError)  # what pyslurm raises of a job that it does not understand
_ENDED = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "REVOKED", "TIMEOUT",
    }
)  # fmt: skip

_ASKED = (
    "num_nodes", "max_nodes", "cpus", "ntasks", "cpus_per_task", "ntasks_per_node", "min_cpus_per_node",
    "memory_per_cpu", "memory_per_node", "required_nodes", "excluded_nodes", "resource_sharing",
    "requires_contiguous_nodes", "cores_reserved_for_system", "threads_reserved_for_system", "sockets_per_node",
    "cores_per_socket", "threads_per_core", "ntasks_per_socket", "ntasks_per_core", "ntasks_per_board",
    "required_switches", "temporary_disk_per_node", "requires_node_reboot",
)  # fmt: skip
_KNOWN = (
    "heterogeneous_id", "user_id", "partition", "qos", "state", "reservation", "allocated_nodes", "priority",
    "requeue_count", "time_limit", "submit_time", "start_time", "end_time", "eligible_time", "is_batch_job",
)  # fmt: skip
_asked, _known = attrgetter(*_ASKED), attrgetter(*_KNOWN)


def render(found: Iterable[Any], end: str, words: bool, partial: list[str]) -> Iterator[str]:
    """What squeue would print of pyslurm's jobs, in parts; `partial` gets the numbers of those to be read otherwise."""
    last = f"{jobs.FIELD}{end}\n"
    header = jobs.FIELD.join(field.upper() for field in shapes.FIELDS) + jobs.PART + _joined(jobs.WHO)
    records = [header + (f"{jobs.FIELD}{end}{jobs.PART}NICE{jobs.FIELD}COMMENT" if words else "")]
    known = _Words()
    for job in found:
        if job.state in _ENDED:
            continue
        try:
            record = f"{known.request(job)}{jobs.PART}{known.identity(job)}"
            said = f"{jobs.FIELD}{end}{jobs.PART}{job.nice or 0}{jobs.FIELD}{job.comment or ''}" if words else ""
        except _NOT_GIVEN:
            partial.append(str(job.id))
            continue
        records.append(record + said)
        if len(records) == _AT_ONCE:
            yield last.join(records) + last
            records.clear()
    if records:
        yield last.join(records) + last


@dataclass(slots=True)
class _Words:
    """What was put into words for this answer."""

    requests: dict[tuple[Any, ...], str] = field(default_factory=dict)
    kinds: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def request(self, job: Any) -> str:
        """What the job asks for, in squeue's words."""
        if job.gres_per_node:
            raise ValueError("a job that asks for GRES")
        asked = (_asked(job), tuple(job.constraints or ()), _tres(job))
        said = self.requests.get(asked)
        if said is None:
            said = _kept(self.requests, asked, _request_in_words(*asked))
        return said

    def identity(self, job: Any) -> str:
        """Who, where and when, in the order of squeue's fields."""
        number, array, licenses, who = job.id, job.array_id, job.licenses, _known(job)
        said = self.kinds.get(who)
        if said is None:
            said = _kept(self.kinds, who, _who_in_words(who))
        tasks = _tasks(job) if array else "N/A"
        lists = jobs.FIELD.join((",".join(licenses) if licenses else "", _dependency(job)))
        reason = (job.state_reason or "None").replace(jobs.FIELD, " ")
        return jobs.FIELD.join((str(number), str(array or number), tasks, said, lists, reason, job.account or ""))


def _kept(words: dict[tuple[Any, ...], str], key: tuple[Any, ...], said: str) -> str:
    if len(words) >= _ALIKE:
        words.clear()
    words[key] = said
    return said


def _request_in_words(asked: tuple[Any, ...], features: tuple[str, ...], tres: str | None) -> str:
    job = dict(zip(_ASKED, asked, strict=True))
    memory = job["memory_per_cpu"] or job["memory_per_node"] or 0
    if tres is None:
        whole = memory * job["cpus"] if job["memory_per_cpu"] else memory
        tres = f"cpu={job['cpus']},mem={whole}M,node=1"
    told: dict[str, object] = {
        "NumNodes": job["num_nodes"] or 0,
        "MaxNodes": job["max_nodes"] or job["num_nodes"] or 0,  # squeue prints its estimate, too
        "NumCPUs": job["cpus"],
        "NumTasks": job["ntasks"],
        "cpus-per-task": job["cpus_per_task"],
        "NTPerNode": job["ntasks_per_node"] or 0,
        "MinCPUs": job["min_cpus_per_node"] or 0,
        "MinMemory": f"{memory}M",
        "tres-alloc": tres,
        "Feature": ",".join(features),
        "ReqNodes": job["required_nodes"] or "",
        "ExcNodes": job["excluded_nodes"] or "",
        "OverSubscribe": job["resource_sharing"],
        "Exclusive": "",
        "Contiguous": int(bool(job["requires_contiguous_nodes"])),
        "CoreSpec": job["cores_reserved_for_system"] or job["threads_reserved_for_system"],
        "Sockets": job["sockets_per_node"],
        "Cores": job["cores_per_socket"],
        "Threads": job["threads_per_core"],
        "NTPerSocket": job["ntasks_per_socket"],
        "NTPerCore": job["ntasks_per_core"],
        "NTPerBoard": job["ntasks_per_board"],
        "ReqSwitch": job["required_switches"] or 0,
        "MinTmpDisk": job["temporary_disk_per_node"] or 0,
        "Reboot": int(bool(job["requires_node_reboot"])),
    }
    return jobs.FIELD.join(_text(told.get(name)) for name in shapes.FIELDS)


def _who_in_words(known: tuple[Any, ...]) -> str:
    (
        het, user, partition, qos, state, reservation, nodes, priority, restarts, limit, submitted, started, ends,
        eligible, batch,
    ) = known  # fmt: skip
    return jobs.FIELD.join(
        (
            _text(het),
            _user(user),
            partition or "",
            (qos or "").replace(jobs.FIELD, " "),  # free text, where there is no accounting
            state,
            reservation or "",
            nodes or "",
            str(priority or 0),
            str(restarts or 0),
            pyslurm_text.limit(limit),
            *(pyslurm_text.time(at) for at in (submitted, started, _end(ends, limit), eligible)),
            str(int(bool(batch))),
        )
    )


def _tres(job: Any) -> str | None:
    """What it has or is to get; None for what can be said without it, for to read it takes more than all the others.

    Where slurmctld names one node for a job that has never run that is no less than the job's minimum: an estimate is
    of the nodes that the job would get. (Of a heterogeneous job's parts it is not.)
    """
    is_waiting = job.state == "PENDING"
    if is_waiting and job.num_nodes == 1 and not job.requeue_count and job.heterogeneous_id is None:
        return None
    found = (None if is_waiting else job.allocated_tres) or job.requested_tres
    if found is None:
        return ""
    unit = {"mem": "M"}
    held = {name: getattr(found, name, None) for name in ("cpu", "mem", "node")}
    return ",".join(f"{name}={each.count}{unit.get(name, '')}" for name, each in held.items() if each is not None)


def _tasks(job: Any) -> str:
    """The pending tasks of an array with their limit, or the one task that this is. Task 0 is given as None."""
    waiting = job.array_tasks_waiting
    if waiting:
        most = job.array_tasks_parallel
        return f"{waiting}%{most}" if most else str(waiting)
    return str(job.array_task_id or 0)


def _end(at: int | None, limit: object) -> int | None:
    """When it ends; of a job without a time limit squeue tells none, and pyslurm one in a year."""
    return at if isinstance(limit, int) or (at or 0) <= time.time() else None


def _dependency(job: Any) -> str:
    """As Slurm writes it, as far as pyslurm understands it."""
    try:
        found = job.dependencies or {}
    except (ValueError, IndexError, KeyError):
        return "not understood"
    pairs = ((kind, ids) for kind, ids in found.items() if isinstance(ids, list) and ids)
    return ",".join(f"{kind}:{':'.join(map(str, ids))}" for kind, ids in pairs)


def _user(uid: int | None) -> str:
    """The user's name; the number where nobody has it, as squeue prints it."""
    try:
        return _name(uid or 0)
    except KeyError:
        return str(uid)


@lru_cache(maxsize=4096)
def _name(uid: int) -> str:
    """Raises KeyError, which is not kept: a directory may be away for a while."""
    return pwd.getpwuid(uid).pw_name


def _text(value: object) -> str:
    return "N/A" if value in (None, "UNLIMITED") else str(value)


def _joined(names: Iterable[str]) -> str:
    return jobs.FIELD.join(name.upper() for name in names)
