"""What `squeue -O` prints, understood: text in, jobs out. Pure.

Every field is printed in full, with a character behind it that no field of Slurm's holds. One field is free text where
there is no accounting: a user may put anything into the account, line ends and separators included. So the account is
the last field, and what ends a record holds a word that nobody can guess (`end`). A job's comment is free text too; it
is asked for only where the site goes by it, comes behind the account, and the same word stands between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import chain

from slurm_reserve.errors import ReserveError
from slurm_reserve.model import Job, Shape
from slurm_reserve.slurm import shapes
from slurm_reserve.slurm.shapes import Terms, parse_shape
from slurm_reserve.slurm.text import unreadable
from slurm_reserve.slurm.values import array_tasks, duration, hosts, number, time, word

FIELD, PART = "\x1f", "\x1d"
WHO = (
    "JobID", "ArrayJobID", "ArrayTaskID", "HetJobID", "UserName", "Partition", "QOS", "State", "Reservation",
    "NodeList", "PriorityLong", "RestartCnt", "TimeLimit", "SubmitTime", "StartTime", "EndTime", "EligibleTime",
    "BatchFlag", "Licenses", "Dependency", "Reason", "Account",
)  # fmt: skip
_QOS = WHO.index("QOS")
_AFTER_QOS = "\x1e"  # follows `end` behind the QOS, which is free text as well: from 24.11 on, without accounting
_WORDS = ("Nice", "Comment")  # what users say of their jobs
_SHAPE_COUNT, _WHO_COUNT = len(shapes.FIELDS), len(WHO)
_MOST_COMMENT = 256  # characters of a comment that are looked at

# States in which a job does not have the nodes that squeue prints. In any other, known or not, it is taken to have
# them. One that waits has none, but after a crash of slurmctld those of a run that it has lost may still be printed.
_WITHOUT_NODES = frozenset(
    {
        "PENDING",
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
        "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
    }
)  # fmt: skip
Excluded = Mapping[int, frozenset[str]]


def job_format(end: str, words: bool = False) -> str:
    """The argument of `squeue -O`; `end` is to be a word that nobody can guess, and ends each record.

    With `words`, what users say of their jobs is printed too: nice and comment.
    """
    first = [f"{field}:0{FIELD}" for field in shapes.FIELDS[:-1]] + [f"{shapes.FIELDS[-1]}:0{PART}"]
    then = [f"{field}:0{FIELD}" for field in WHO[:-1]] + [f"{WHO[-1]}:0{FIELD}{end}"]
    then[_QOS] += f"{end}{_AFTER_QOS}"
    last = [f"{_WORDS[0]}:0{FIELD}", f"{_WORDS[1]}:0{FIELD}{end}"] if words else []
    return ",".join(first + then) + (f"{PART}," + ",".join(last) if words else "")


def parse_jobs(parts: Iterable[str], end: str, terms: Terms, words: bool = False) -> tuple[Job, ...]:
    """Read what squeue prints for :func:`job_format`, with its header, which tells "no jobs" from "no answer".

    It may come in parts of any length, while squeue goes on printing. The tasks of a pending array that are printed one
    by one (`squeue -r`) become one record again.
    """
    once: dict[str, str] = {}  # what many jobs have in common, kept once; and no longer than the jobs
    rests: dict[int, tuple[int, list[int]]] = {}  # number of a pending array -> where its record is, its tasks
    jobs: list[Job] = []
    for record in _records(parts, end, words):
        try:
            known = _with_plain_qos(record, end)
            job = _job_with_words(known, end, terms, once) if words else _job(known, terms, once)
        except (ValueError, KeyError, IndexError, OverflowError, ReserveError) as error:
            raise unreadable("a job", record, str(error)) from error
        if job.is_pending and job.id.startswith(f"{job.job_id}_"):
            where, tasks = rests.setdefault(job.job_id, (len(jobs), []))
            tasks.append(int(job.id.split("_")[1]))
            if len(tasks) > 1:
                continue
        jobs.append(job)
    for where, tasks in rests.values():
        if len(tasks) > 1:
            jobs[where] = replace(jobs[where], id=str(jobs[where].job_id), array_tasks=tuple(tasks))
    return tuple(jobs)


def with_titles(parts: Iterator[str]) -> tuple[str, Iterator[str]]:
    """The line of titles, and all parts with it."""
    begin = ""
    for part in parts:
        begin += part
        if "\n" in part:
            break
    return begin.partition("\n")[0], chain([begin], parts)


def is_excluded_known(text: str) -> bool:
    """Whether this release's squeue -O has the field ExcNodes (since 24.05): it prints no title for one it lacks."""
    titles, where = text.split(FIELD, len(shapes.FIELDS)), shapes.FIELDS.index("ExcNodes")
    return len(titles) <= where or titles[where] != ""


def parse_excluded(text: str) -> dict[int, frozenset[str]]:
    """Read `squeue -h -o %A|%x`: a job's own number -> the nodes that it excludes."""
    if text and not text.endswith("\n"):
        raise unreadable("the excluded nodes", text[-40:], "incomplete")
    found: dict[int, frozenset[str]] = {}
    for line in text.split("\n")[:-1]:
        own, _, excluded = line.partition("|")
        try:
            found[number(own)] = hosts(excluded)
        except (ValueError, ReserveError) as error:
            raise unreadable("the excluded nodes", line, str(error)) from error
    return found


def comment_format(end: str) -> str:
    """The argument of `squeue -O` for comments; they come last, and `end` is a word that nobody can guess."""
    fields = "".join(f"{name}:0{FIELD}," for name in ("JobID", "ArrayJobID", "ArrayTaskID"))
    return f"{fields}Comment:0{FIELD}{end}"


def parse_comments(text: str, end: str) -> dict[str, str]:
    """Read what squeue printed for :func:`comment_format`: a job's id -> its comment."""
    records = text.split(f"{FIELD}{end}\n")
    if len(records) < 2 or records.pop() or not records[0].startswith("JOBID"):
        raise unreadable("the comments", text[-160:], "incomplete")
    found = {}
    for record in records[1:]:
        try:
            own, array, task, comment = record.split(FIELD, 3)
            found[_identity(own, array, task)[0]] = "" if comment == "(null)" else comment
        except (ValueError, ReserveError) as error:
            raise unreadable("a comment", record, str(error)) from error
    return found


def with_excluded(job: Job, excluded: Excluded) -> Job:
    """The job with the nodes that it excludes."""
    nodes = excluded.get(job.job_id)
    return replace(job, shape=_shape_without(job.shape, nodes)) if nodes else job


def _shape_without(shape: Shape, nodes: frozenset[str]) -> Shape:
    return replace(shape, excluded_nodes=nodes)


def _with_plain_qos(record: str, end: str) -> str:
    """The record with nothing in the QOS that could be taken for the end of a field."""
    head, between, tail = record.partition(f"{FIELD}{end}{_AFTER_QOS}")
    if not between:
        return record
    what, _, who = head.partition(PART)
    *known, qos = who.split(FIELD, _QOS)
    return f"{what}{PART}{FIELD.join([*known, qos.replace(FIELD, ' ')])}{FIELD}{tail}"


def _job_with_words(record: str, end: str, terms: Terms, once: dict[str, str]) -> Job:
    """A job with what its user says of it."""
    known, between, said = record.partition(f"{FIELD}{end}{PART}")
    nice, _, comment = said.partition(FIELD)
    if not between:
        raise ValueError("number of fields")
    return replace(_job(known, terms, once), nice=int(nice), comment=word(comment[:_MOST_COMMENT]))


def _records(parts: Iterable[str], end: str, words: bool) -> Iterator[str]:
    """The records, one by one; raises when the answer is cut off or has other fields than were asked for.

    Not all at once: of a hundred thousand jobs they would be the whole answer once more in memory.
    """
    between = f"{FIELD}{end}\n"
    rest, is_header = "", True
    for part in parts:
        rest, begin = rest + part, 0
        while (until := rest.find(between, begin)) >= 0:
            record, begin = rest[begin:until], until + len(between)
            if is_header:
                _check_header(record, end, words)
                is_header = False
            else:
                yield record
        rest = rest[begin:]
    if rest or is_header:
        raise unreadable("the list of jobs", rest[-160:], "incomplete")


def _check_header(titles: str, end: str, words: bool) -> None:
    header, _, said = titles.partition(f"{FIELD}{end}{PART}")
    if bool(said) != words:
        raise unreadable("squeue's header", titles)
    what, _, who = header.partition(PART)
    if what.count(FIELD) != _SHAPE_COUNT - 1 or who.count(FIELD) != _WHO_COUNT - 1 or not who.startswith("JOBID"):
        raise unreadable("squeue's header", titles)


def _job(record: str, terms: Terms, once: dict[str, str]) -> Job:
    what, _, rest = record.partition(PART)
    (
        own, array, task, het, user, partition, qos, state, reservation, nodes, priority, restarts, limit, submitted,
        started, ends, eligible, batch, licenses, dependency, reason, account,
    ) = rest.split(FIELD, _WHO_COUNT - 1)  # fmt: skip
    at = time(submitted)
    if at is None or not (user and partition and state.isupper()):
        raise ValueError("no time of submission, user, partition or state")
    job_id, tasks, most = _identity(own, array, task)
    account, qos = word(account), word(qos)
    held = hosts(nodes) if state not in _WITHOUT_NODES else frozenset()
    return Job(
        id=job_id,
        user=once.setdefault(user, user),
        state=once.setdefault(state, state),
        partitions=_partitions(partition),
        submitted=at,
        account=once.setdefault(account, account),
        qos=once.setdefault(qos, qos),
        reason=once.setdefault(reason, reason),
        reservation=word(reservation),
        nodes=held,
        priority=number(priority),
        restarts=number(restarts),
        time_limit=duration(limit),
        started=time(started) if held else None,  # while a job waits this is no more than an estimate
        ends=time(ends) if held else None,
        eligible=time(eligible),
        shape=_shape(what, terms),
        batch=_flag(batch),
        licenses=word(licenses),
        dependency=word(dependency),
        array_tasks=tasks,
        array_limit=most,
        het_job=word(het),
        job_id=number(own),
    )


def _identity(own: str, array: str, task: str) -> tuple[str, tuple[int, ...], int]:
    """The id that Slurm's commands take, the pending tasks it stands for, and the most that may run at once."""
    if task == "N/A":
        return str(number(own)), (), 0
    tasks, most = array_tasks(task)
    if len(tasks) == 1:
        return f"{number(array)}_{tasks[0]}", (), most
    return str(number(array)), tasks, most


def _flag(text: str) -> bool:
    """Whether it is set. BatchFlag counts the launches that failed: 2 and more are batch jobs, too."""
    return number(text) != 0


@lru_cache(maxsize=1024)
def _partitions(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


@lru_cache(maxsize=16384)
def _shape(text: str, terms: Terms) -> Shape:
    """Jobs ask for the same again and again, so what they ask for is understood once."""
    values = text.split(FIELD)
    if len(values) != _SHAPE_COUNT:
        raise ValueError("number of fields")
    return parse_shape(dict(zip(shapes.FIELDS, values, strict=True)), terms)
