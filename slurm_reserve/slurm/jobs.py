"""What `squeue -O` prints, understood: text in, jobs out. Pure.

Every field is printed in full, with a character behind it that no field of Slurm's holds. One field is free text where
there is no accounting: a user may put anything into the account, line ends and separators included. So the account is
the last field, and what ends a record holds a word that nobody can guess (`end`). A job's comment is free text too; it
is asked for only where the site goes by it, comes behind the account, and the same word stands between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, cast

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
_NUMBERS = WHO.index("ArrayTaskID") + 1  # what comes first tells a job from all others
_SHAPE_COUNT, _WHO_COUNT = len(shapes.FIELDS), len(WHO)
_MOST_ALIKE = 4096  # kept for one answer
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
_NOWHERE: frozenset[str] = frozenset()  # one for all that wait: Python makes a new one each time
Excluded = Mapping[int, frozenset[str]]

# A Job that may still be written to: for each of its fields a frozen one is asked whether it may be set.
_Draft: Any = make_dataclass("_Draft", [(each.name, each.type) for each in fields(Job)], slots=True)


class _Alike(NamedTuple):
    """What one line says of a job besides its number, understood; in the order of Job's fields."""

    first: tuple[Any, ...]  # user to dependency
    het_job: str
    said: tuple[int, str]  # nice and comment


@dataclass(slots=True)
class _Reading:
    """One answer of squeue's: how it was asked for, and what was read of it more than once."""

    end: str
    terms: Terms
    words: bool
    once: dict[str, str] = field(default_factory=dict)  # words that many jobs have in common, kept once
    alike: dict[tuple[str, str], _Alike] = field(default_factory=dict)


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
    of = _Reading(end, terms, words)
    rests: dict[int, tuple[int, list[int]]] = {}  # number of a pending array -> where its record is, its tasks
    jobs: list[Job] = []
    for record in _records(parts, end, words):
        try:
            job = _job(record, of)
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


def _job(record: str, of: _Reading) -> Job:
    what, _, who = record.partition(PART)
    own, array, task, rest = who.split(FIELD, _NUMBERS)
    key = (what, rest)
    known = of.alike.get(key)
    if known is None:
        if len(of.alike) >= _MOST_ALIKE:
            of.alike.clear()
        known = of.alike[key] = _without_number(what, rest, of)
    job_id, tasks, most = _identity(own, array, task)
    return _made(job_id, *known.first, tasks, most, known.het_job, number(own), *known.said)


def _made(*values: Any) -> Job:
    """A job of the values of its fields, in a tenth of the time that a frozen dataclass takes to set them."""
    made: Any = _Draft(*values)
    made.__class__ = Job
    return cast("Job", made)


def _without_number(what: str, rest: str, of: _Reading) -> _Alike:
    """What is read once for all jobs of which the same is printed: mostly the tasks of an array."""
    said: tuple[int, str] = (0, "")
    if of.words:
        rest, between, words = rest.partition(f"{FIELD}{of.end}{PART}")
        nice, _, comment = words.partition(FIELD)
        if not between:
            raise ValueError("number of fields")
        said = (int(nice), word(comment[:_MOST_COMMENT]))
    (
        het, user, partition, qos, state, reservation, nodes, priority, restarts, limit, submitted,
        started, ends, eligible, batch, licenses, dependency, reason, account,
    ) = _with_plain_qos(rest, of.end).split(FIELD, _WHO_COUNT - _NUMBERS - 1)  # fmt: skip
    at = time(submitted)
    if at is None or not (user and partition and state.isupper()):
        raise ValueError("no time of submission, user, partition or state")
    once = of.once.setdefault
    account, qos = word(account), word(qos)
    held = hosts(nodes) if state not in _WITHOUT_NODES else _NOWHERE
    first = (
        once(user, user),
        once(state, state),
        _partitions(partition),
        at,
        once(account, account),
        once(qos, qos),
        once(reason, reason),
        word(reservation),
        held,
        number(priority),
        number(restarts),
        duration(limit),
        time(started) if held else None,  # while a job waits this is no more than an estimate
        time(ends) if held else None,
        time(eligible),
        _shape(what, of.terms),
        _flag(batch),
        word(licenses),
        word(dependency),
    )
    return _Alike(first, word(het), said)


def _with_plain_qos(rest: str, end: str) -> str:
    """The same with nothing in the QOS that could be taken for the end of a field."""
    head, between, tail = rest.partition(f"{FIELD}{end}{_AFTER_QOS}")
    if not between:
        return rest
    *before, qos = head.split(FIELD, _QOS - _NUMBERS)
    return FIELD.join([*before, qos.replace(FIELD, " "), tail])


def _identity(own: str, array: str, task: str) -> tuple[str, tuple[int, ...], int]:
    """The id that Slurm's commands take, the pending tasks it stands for, and the most that may run at once."""
    if task == "N/A":
        return str(number(own)), (), 0
    if task.isascii() and task.isdigit():  # the tasks of an array are many
        return f"{number(array)}_{int(task)}", (), 0
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
