"""What is in Slurm's database, through `sacct` and `sacctmgr`: read for reports alone, never to decide.

Fields are named one by one and divided by a character that no name holds; free text (job names, comments) is not asked
for. Every run of a requeued job is a row of its own (`-D`), without steps (`-X`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slurm_reserve.slurm import arguments
from slurm_reserve.slurm.command import Commands
from slurm_reserve.slurm.text import understanding, unreadable
from slurm_reserve.slurm.values import hosts, names, time, word

_FIELD = "\x1f"
_RUN = ("JobID", "User", "Account", "Partition", "QOS", "State", "Submit", "Eligible", "Start", "End", "NodeList")
_HELD = ("Name", "NodeNames", "Start", "End")
_NO_NODES = "None assigned"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one job, on its nodes."""

    job: str
    user: str
    account: str
    partitions: frozenset[str]
    qos: str
    state: str  # Slurm's first word: COMPLETED, REQUEUED, CANCELLED, ...
    submitted: datetime | None
    eligible: datetime | None
    start: datetime
    end: datetime | None  # None: it goes on
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation as it was for a while: each change makes a new row."""

    name: str
    nodes: frozenset[str]
    start: datetime
    end: datetime


class Database:
    """Reads Slurm's database; raises SlurmUnavailableError without accounting, SlurmUnreadableError for nonsense."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def runs(self, since: datetime, until: datetime) -> list[Run]:
        """Every run that was going on at some time of the period, of all users that the caller may see."""
        period = ("-S", arguments.moment(since), "-E", arguments.moment(until))
        form = (f"--delimiter={_FIELD}", "-o", ",".join(_RUN))
        return parse_runs(self._commands.read("sacct", "-a", "-D", "-X", "-P", "-n", *period, *form))

    def reservations(self, since: datetime, until: datetime) -> list[Held]:
        """Every reservation that was there at some time of the period."""
        period = (f"start={arguments.moment(since)}", f"end={arguments.moment(until)}")
        form = f"format={','.join(_HELD)}"
        return parse_held(self._commands.read("sacctmgr", "-n", "-P", "show", "reservation", *period, form))


def parse_runs(text: str) -> list[Run]:
    """Read what sacct printed; what never had nodes is left out."""
    if text and not text.endswith("\n"):
        raise unreadable("sacct's list", text[-160:], "incomplete")
    found = []
    for line in text.split("\n")[:-1]:
        with understanding("a run", line):
            job, user, account, partition, qos, state, submit, eligible, start, end, nodes = line.split(_FIELD)
            begun, first = time(start), state.split(" ", maxsplit=1)[0]
            if begun is None or nodes in ("", _NO_NODES) or "[" in job:
                continue
            if not first.isupper():
                raise ValueError("no state")
            found.append(
                Run(job, user, word(account), names(partition), word(qos), first, time(submit), time(eligible), begun,
                    time(end), hosts(nodes))
            )  # fmt: skip
    return found


def parse_held(text: str) -> list[Held]:
    """Read what sacctmgr printed."""
    found = []
    for line in text.split("\n")[:-1]:
        with understanding("a reservation", line):
            name, nodes, start, end = line.rsplit("|", 3)
            begun, over = time(start), time(end)
            if begun is not None and over is not None and nodes:
                found.append(Held(name, hosts(nodes), begun, over))
    return found
