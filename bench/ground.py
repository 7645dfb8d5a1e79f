"""The lab on which latencies are measured, and what slurmctld's own log says of when things happened."""

from __future__ import annotations

import queue
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from slurm_reserve.lab import Lab, LabSpec, UserSpec
from tests.cluster.plugins import HERE, hang_bell, with_guard
from tests.cluster.stage import Stage

KILL_WAIT, NOTICE = 5, 10  # seconds; slurmd makes 7.5 of the 5
# Slurm's own timing, but for what lets borrowers start while ordinary jobs wait. It hurries Slurm's preemption too.
BUSY = "bf_interval=5,bf_max_job_part=50"
SLOWEST = 180.0  # seconds to wait for anything
ARRAY = 1000
CALLS = 60  # a second
OWNERS = ("idle", "woken", "net", "polled", "heeds", "ignores")  # reservation and owner have one name; a node each
NODES = {name: f"n{number}" for number, name in enumerate(OWNERS, start=1)}
THEIRS = {
    "slurm-heeds": "n7",
    "slurm-ignores": "n8",
}  # reservations with MaxStartDelay, none of ours
_LINE = re.compile(
    r"\[(?P<at>[\dT:.-]+)\] (?:(?:sched: Allocate|sched/backfill: _start_job: Started) JobId=(?P<started>\d+)"
    r"|_slurm_rpc_submit_batch_job: JobId=(?P<submitted>\d+)"
    r"|_job_complete: JobId=(?P<ended>\d+) done"
    r"|slurmctld_req: received opcode (?P<asked>\w+) from \S+ uid (?P<uid>\d+))"
)
Event = tuple[str, str]  # "started", "submitted" or "ended", and the job


@dataclass(frozen=True)
class Call:
    """Something that slurmctld was asked."""

    at: float  # seconds since the epoch
    name: str
    uid: int


class Watch:
    """When slurmctld did what, by its log, which has milliseconds."""

    def __init__(self, lab: Lab) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._seen: dict[Event, float] = {}
        self._calls: list[Call] = []
        path = "/run/slurm-lab/log/slurmctld.log"
        self._tail = lab.popen(["tail", "-n0", "-s0.01", "-F", path], stdout=-1, stderr=-3)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._tail.stdout or ():
            self._lines.put(line)

    def at(self, event: str, job: str, since: float, timeout: float = SLOWEST) -> float:
        """Seconds since the epoch; waits for it. The latest of its kind after `since`."""
        end = time.monotonic() + timeout
        while self._seen.get((event, job), 0) < since - 0.002:
            try:
                self._note(self._lines.get(timeout=max(end - time.monotonic(), 0.01)))
            except queue.Empty:
                raise TimeoutError(f"job {job} was not {event} within {timeout:g} s") from None
        return self._seen[event, job]

    def _note(self, line: str) -> None:
        if not (found := _LINE.match(line)):
            return
        at = datetime.fromisoformat(found["at"]).timestamp()
        if found["asked"]:
            self._calls.append(Call(at, found["asked"], int(found["uid"])))
            return
        event = next(each for each in ("started", "submitted", "ended") if found[each])
        self._seen[event, found[event]] = at

    def calls(self, since: float, until: float) -> list[Call]:
        """What slurmctld was asked in between, as far as the log was read."""
        return [call for call in self._calls if since <= call.at <= until]

    def close(self) -> None:
        """Stop reading."""
        self._tail.kill()
        self._tail.wait()


class Ground:
    """The lab, the daemon on it, and its doings."""

    def __init__(self, lab: Lab, strangers: int) -> None:
        self.lab, self.stage, self.watch = lab, Stage(lab), Watch(lab)
        self.scheduler = ""  # SchedulerParameters
        self._borrowers: dict[str, str] = {}  # name -> the job that borrows its node
        self.daemon_uid = lab.spec.uid(self.stage.user)
        # Here something happens all the time: the shipped limit of 2 calls a second is for steadier owners.
        self.stage.keys = {"slurm": {"max_calls_per_second": CALLS}, "daemon": {"poll": "5s", "scheduling_pass": "5s"}}
        told = {"notice": f"{NOTICE}s", "signal": "USR1"}
        self.stage.start(
            **{
                name: {
                    "owner": {"users": [name]},
                    "nodes": node,
                    "lend": {"enabled": name != "idle"},
                    "reclaim": dict(told) if name in ("heeds", "ignores") else {},
                }
                for name, node in NODES.items()
            }
        )
        self.stage.fill("n9", "n10")
        queue_up(lab, "carol", strangers)

    def submit(self, owner: str, *options: str) -> tuple[str, float]:
        """An owner's job for the whole node; gives its id, and when sbatch was started."""
        begun = time.time()
        return self.lab.sbatch(owner, "--exclusive", "-t30", f"--reservation={owner}", *options), begun

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The daemon stands still."""
        self.stage.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.stage.send(signal.SIGCONT)

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Nobody rings: the daemon polls."""
        self.lab.run(["chmod", "0", HERE])
        try:
            yield
        finally:
            self.lab.run(["chmod", "620", HERE])

    def lent(self, *names: str, **options: str) -> list[str]:
        """Wait until a borrower runs on each of the nodes; submits one where none is there."""
        found = [self._mine(name) or self._borrower(name, **options) for name in names]
        for job, name in zip(found, names, strict=True):
            self.stage.runs(job, NODES[name], timeout=SLOWEST)
        return found

    def renew(self, *names: str) -> None:
        """A borrower for each of the nodes, to run there soon, in place of one that was evicted and would wait."""
        for name in names:
            if job := self._mine(name):
                self.stage.cancel(job)
            self._borrower(name)

    def _mine(self, name: str) -> str:
        job = self._borrowers.get(name, "")
        return job if job in self.stage.jobs() else ""

    def _borrower(self, name: str, **options: str) -> str:
        self._borrowers[name] = self.stage.borrow("bob", "--exclusive", "-t30", "-w", NODES[name], **options)
        return self._borrowers[name]

    def close(self) -> None:
        """End the daemon and the watch."""
        self.watch.close()
        self.stage.close()


def queue_up(lab: Lab, user: str, count: int) -> None:
    """Jobs that wait, each a record of its own: a task that is changed leaves its array's common record."""
    for _ in range(0, count, ARRAY):
        array = lab.sbatch(user, "--exclusive", "-t30", f"--array=0-{ARRAY}")
        lab.run(["scontrol", "update", f"JobId={array}_[1-{ARRAY}]", "nice=1"], user)


@contextmanager
def ground(strangers: int, scheduler: str | None = None) -> Iterator[Ground]:
    """A lab with that many strangers' jobs waiting, and these SchedulerParameters."""
    chosen = scheduler if scheduler is not None else BUSY if strangers else ""
    lines = with_guard(
        *([f"SchedulerParameters={chosen}"] if chosen else []), "DebugFlags=Protocol",
        "MaxJobCount=60000", "MaxArraySize=2000",
    )  # fmt: skip
    users = tuple(UserSpec(name) for name in (*OWNERS, "bob", "carol", "dave"))
    with Lab.boot(LabSpec(nodes=10, users=users, kill_wait=KILL_WAIT, **lines)) as lab:
        hang_bell(lab)
        made = Ground(lab, strangers)
        made.scheduler = chosen
        try:
            yield made
        finally:
            made.close()


def settle(least: float = 0.0) -> None:
    """A random moment: passes are two seconds apart, so nothing is measured at a fixed distance from the last one."""
    time.sleep(least + random.uniform(0, 2))
