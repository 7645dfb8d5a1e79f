"""The answers of a large cluster, as Slurm's commands print them: a recorded answer, with other names and numbers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from slurm_reserve.garbage import collected_later
from slurm_reserve.model import Cluster, Partition, SlurmConfig
from slurm_reserve.site import DaemonSettings, Lending, Owner, ReservationSpec, Site
from slurm_reserve.slurm.jobs import parse_jobs
from slurm_reserve.slurm.shapes import FIELDS, Terms
from slurm_reserve.slurm.text import parse_nodes, parse_reservations
from tests.slurm.record import END
from tests.slurm.recordings import recorded

NOW = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)
FIELD, PART = "\x1f", "\x1d"
LENT = (1.0, 0.5)  # share of the nodes that are lent, of every other reservation: all of them, or half
IN_USE = 0.9  # share of the nodes that nobody has reserved
SHAPES = 200  # kinds of requests: people ask for the same again and again


@dataclass(frozen=True)
class Size:
    """How large the cluster is."""

    nodes: int
    reservations: int
    jobs: int

    @property
    def each(self) -> int:
        """Nodes of one reservation: two fifths of all are reserved."""
        return self.nodes * 2 // 5 // self.reservations


@dataclass(frozen=True)
class Answers:
    """What the commands print."""

    jobs: str
    nodes: str
    reservations: str

    @property
    def megabytes(self) -> float:
        """All of it."""
        return sum(map(len, (self.jobs, self.nodes, self.reservations))) / 1e6

    def parse(self) -> Cluster:
        """As the daemon does."""
        nodes = parse_nodes(self.nodes)
        both = {
            "main": Partition("main", frozenset(nodes), tier=10, preempt_mode="OFF"),
            "preempt": Partition("preempt", frozenset(nodes), tier=1, preempt_mode="REQUEUE"),
        }
        config = SlurmConfig(
            version="22.05.8", preempt_type="preempt/partition_prio", preempt_mode="REQUEUE",
            select_type_parameters="CR_CORE_MEMORY",
        )  # fmt: skip
        with collected_later():
            jobs = parse_jobs([self.jobs], END, Terms())
        return Cluster(NOW, nodes, parse_reservations(self.reservations), jobs, both, config)


def site(size: Size) -> Site:
    """One owner for each reservation."""
    specs = tuple(
        ReservationSpec(f"r{k}", Owner(users=frozenset({f"owner{k}"})), frozenset(_names(size, k)))
        for k in range(size.reservations)
    )
    return Site("bench", Lending(partitions=frozenset({"preempt"})), specs, daemon=DaemonSettings())


def answers(size: Size, seed: int = 1) -> Answers:
    """Print it: lent and busy nodes, waiting owners here and there, borrowers and strangers in the queue."""
    rng = random.Random(seed)
    reserved = size.each * size.reservations
    shares = [LENT[n // size.each % 2] if n < reserved else IN_USE for n in range(size.nodes)]
    taken = {n: rng.random() < share for n, share in enumerate(shares)}
    nodes = "".join(_node(n, is_taken) for n, is_taken in taken.items())
    header = recorded("jobs.running").split(f"{FIELD}{END}\n")[0]
    records = [header]
    for number, (node, is_taken) in enumerate(taken.items(), start=1):
        if is_taken and node < reserved:
            records.append(_job(rng, number, "bob", "preempt", f"r{node // size.each}.lend", f"n{node}"))
        elif is_taken:
            records.append(_job(rng, number, "carol", "main", "", f"n{node}"))
    for number in range(size.nodes + 1, size.nodes + 1 + size.jobs - len(records) + 1):
        records.append(_waiting(rng, size, number))
    return Answers("".join(f"{record}{FIELD}{END}\n" for record in records), nodes, _reservations(size, taken))


def _names(size: Size, k: int) -> list[str]:
    return [f"n{n}" for n in range(k * size.each, (k + 1) * size.each)]


def _node(number: int, is_taken: bool) -> str:
    cpus, memory, state = (4, 4000, "ALLOCATED") if is_taken else (0, 0, "IDLE")
    return (
        f"NodeName=n{number} Arch=x86_64 CoresPerSocket=4  CPUAlloc={cpus} CPUEfctv=4 CPUTot=4 CPULoad=0.28 "
        "AvailableFeatures=big,fast ActiveFeatures=big,fast Gres=(null) NodeAddr=10.99.0.1 "
        f"NodeHostName=n{number} Port=17001 Version=22.05.8 OS=Linux 6.1.0 #1 SMP  RealMemory=4000 AllocMem={memory} "
        f"FreeMem=20000 Sockets=1 Boards=1 State={state} ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A "
        "Partitions=main,preempt  BootTime=2026-01-04T19:09:21 SlurmdStartTime=2026-01-04T20:25:35 "
        "LastBusyTime=2026-01-05T10:25:35 CfgTRES=cpu=4,mem=4000M,billing=4 AllocTRES=\n"
    )


def _reservations(size: Size, taken: dict[int, bool]) -> str:
    lines = []
    for k in range(size.reservations):
        lent = [f"n{n}" for n in range(k * size.each, (k + 1) * size.each) if taken[n]]
        for name, nodes, users in ((f"r{k}", _names(size, k), f"owner{k}"), (f"r{k}.lend", lent, "bob")):
            if nodes:
                lines.append(_reservation(name, nodes, users))
    return "".join(lines)


def _reservation(name: str, nodes: list[str], users: str) -> str:
    return (
        f"ReservationName={name} StartTime=2026-01-01T00:00:00 EndTime=2027-01-01T00:00:00 Duration=365-00:00:00 "
        f"Nodes={','.join(nodes)} NodeCnt={len(nodes)} CoreCnt={4 * len(nodes)} Features=(null) PartitionName=(null) "
        f"Flags=OVERLAP,IGNORE_JOBS,SPEC_NODES,NO_HOLD_JOBS_AFTER_END TRES=cpu={4 * len(nodes)} Users={users} "
        "Groups=(null) Accounts=(null) Licenses=(null) State=ACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)\n"
    )


def _waiting(rng: random.Random, size: Size, number: int) -> str:
    chance = rng.random()
    if chance < 0.001:
        k = rng.randrange(size.reservations)
        return _job(rng, number, f"owner{k}", "main", f"r{k}", "")
    return _job(rng, number, f"user{rng.randrange(300)}", "preempt" if chance < 0.35 else "main", "", "")


def _job(rng: random.Random, number: int, user: str, partition: str, reservation: str, node: str) -> str:
    cpus = 4 if node else 1 + rng.randrange(SHAPES) % 4
    memory = 4000 if node else 100 * (1 + rng.randrange(SHAPES // 4))
    submitted = NOW - timedelta(seconds=rng.randrange(60, 100_000))
    at = f"{submitted:%Y-%m-%dT%H:%M:%S}"
    shape = dict.fromkeys(FIELDS, "N/A") | {
        "NumNodes": "1", "MaxNodes": "1", "NumCPUs": str(cpus), "NumTasks": str(cpus), "cpus-per-task": "1",
        "NTPerNode": "0", "MinCPUs": "1", "MinMemory": f"{memory}M", "tres-alloc": f"cpu={cpus},mem={memory}M,node=1",
        "Feature": "(null)", "ReqNodes": "", "ExcNodes": "", "OverSubscribe": "OK", "Exclusive": "", "Contiguous": "0",
        "Sockets": "*", "Cores": "*", "Threads": "*", "NTPerBoard": "0", "ReqSwitch": "0", "MinTmpDisk": "0",
        "Reboot": "0",
    }  # fmt: skip
    who = (
        str(number), str(number), "N/A", "N/A", user, partition, "(null)", "RUNNING" if node else "PENDING",
        reservation or "(null)", node, str(4_294_901_755 - number), "0", "30:00", at, at if node else "N/A",
        "2026-01-06T00:00:00" if node else "N/A", at, "1", "(null)", "(null)", "None" if node else "Priority", "(null)",
    )  # fmt: skip
    return FIELD.join(shape[field] for field in FIELDS) + PART + FIELD.join(who)
