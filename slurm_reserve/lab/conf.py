"""slurm.conf, slurmdbd.conf and gres.conf of a lab, as text. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from slurm_reserve.lab.spec import DIRECTORY, TMP, LabSpec, NodeSpec

ADDRESS = "10.99.0.1"  # in a network of the lab's own, so every lab can have it
FIRST_SLURMD_PORT = 17001
CONF_DIRECTORY = DIRECTORY / "conf"
SLURM_CONF = CONF_DIRECTORY / "slurm.conf"
LOG_DIRECTORY = DIRECTORY / "log"
DATABASE_NAME = "slurm_acct_db"
DATABASE_PASSWORD = "lab"  # noqa: S105  guards nothing: the database is reachable from inside the lab only

# Keys that may stand on many lines, each of them named by its value.
NAMED_LINES = frozenset({"nodename", "partitionname", "nodeset", "downnodes", "frontendname"})
# Keys that slurmctld reads at its start only, on one release or another.
RESTART_KEYS = frozenset(
    {
        "accountingstoragehost", "accountingstoragetype", "authinfo", "authtype", "clustername", "credtype",
        "grestypes", "jobsubmitplugins", "nodename", "nodeset", "preempttype", "prioritytype", "proctracktype",
        "schedulertype", "selecttype", "slurmctldhost", "slurmctldport", "slurmdport", "slurmuser",
        "statesavelocation", "switchtype", "topologyplugin",
    }
)  # fmt: skip


def key_of(line: str) -> str:
    """Give the key of a line, in lower case: Slurm does not tell them apart by case."""
    return line.split("=", 1)[0].strip().lower()


def _identity(line: str) -> str:
    """Say what a line is about: two lines with the same identity exclude each other."""
    key = key_of(line)
    return line.split(maxsplit=1)[0].lower() if key in NAMED_LINES else key


def merge(*texts: Iterable[str]) -> list[str]:
    """Lay lines over lines: a later one replaces an earlier one in its place; `Key=` removes it."""
    merged: dict[str, str] = {}
    for line in (each.strip() for text in texts for each in text):
        if not line or line.startswith("#"):
            continue
        if line.endswith("=") and key_of(line) not in NAMED_LINES:
            merged.pop(_identity(line), None)
        else:
            merged[_identity(line)] = line
    return list(merged.values())


def needs_restart(lines: Iterable[str]) -> bool:
    """Whether `scontrol reconfigure` is not enough to bring these lines to bear."""
    return any(key_of(line) in RESTART_KEYS for line in lines)


def slurm_conf(spec: LabSpec, host: str) -> str:
    """Render slurm.conf for a lab whose machine is called `host`."""
    lines = merge(
        _daemons(spec, host),
        _scheduling(spec),
        _accounting(spec, host),
        [node_line(node, FIRST_SLURMD_PORT + i, host) for i, node in enumerate(spec.node_specs)],
        spec.partitions.splitlines(),
        spec.slurm_conf,
    )
    return "\n".join(lines) + "\n"


def _daemons(spec: LabSpec, host: str) -> list[str]:
    return [
        "ClusterName=lab",
        f"SlurmctldHost={host}({ADDRESS})",
        "SlurmUser=slurm",
        "AuthType=auth/munge",
        f"StateSaveLocation={DIRECTORY}/state",
        f"SlurmdSpoolDir={DIRECTORY}/spool/%n",
        f"SlurmctldPidFile={DIRECTORY}/slurmctld.pid",
        f"SlurmdPidFile={DIRECTORY}/slurmd-%n.pid",
        f"SlurmctldLogFile={LOG_DIRECTORY}/slurmctld.log",
        f"SlurmdLogFile={LOG_DIRECTORY}/slurmd-%n.log",
        "SlurmctldDebug=verbose",
        "SlurmdDebug=verbose",
        "SlurmctldSyslogDebug=quiet",  # the host's log is none of the lab's business
        "SlurmdSyslogDebug=quiet",
        "MailProg=/bin/true",
        "ProctrackType=proctrack/linuxproc",  # needs no cgroup of the host
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "MpiDefault=none",
        "PropagateResourceLimits=NONE",
        "SlurmdParameters=config_overrides",  # believe what the node lines claim
        f"TmpFS={TMP}",
        f"KillWait={spec.kill_wait}",
        "MinJobAge=300",
        "ReturnToService=2",
        "JobRequeue=1",
    ]


def _scheduling(spec: LabSpec) -> list[str]:
    # Without a default a job that names no memory takes all of a node's.
    memory = min(node.memory_mb // node.cpus for node in spec.node_specs)
    return [
        "SchedulerType=sched/backfill",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        f"DefMemPerCPU={memory}",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
    ]


def _accounting(spec: LabSpec, host: str) -> list[str]:
    kinds = sorted({each.kind for node in spec.node_specs for each in gres(node)})
    lines = [f"GresTypes={','.join(kinds)}"] if kinds else []
    if spec.accounting:
        lines += ["AccountingStorageType=accounting_storage/slurmdbd", f"AccountingStorageHost={host}"]
    return lines


def node_line(node: NodeSpec, port: int, host: str) -> str:
    """Render the NodeName line of a node whose slurmd listens on `port` of `host`."""
    fields = [
        f"NodeName={node.name} NodeHostname={host} NodeAddr={ADDRESS} Port={port}",
        f"CPUs={node.cpus} Sockets=1 CoresPerSocket={node.cpus // node.threads_per_core}",
        f"ThreadsPerCore={node.threads_per_core} RealMemory={node.memory_mb}",
    ]
    if node.features:
        fields.append(f"Features={','.join(node.features)}")
    if node.gres:
        fields.append(f"Gres={node.gres}")
    return " ".join([*fields, "State=UNKNOWN"])


@dataclass(frozen=True, slots=True)
class Gres:
    """A number of generic resources of a kind: "gpu:a100:2" is kind gpu, type a100, count 2."""

    kind: str
    type: str
    count: int


def gres(node: NodeSpec) -> list[Gres]:
    """Give a node's generic resources."""
    found = []
    for part in filter(None, node.gres.split(",")):
        kind, *rest = part.split(":")
        count = int(rest.pop()) if rest and rest[-1].isdigit() else 1
        found.append(Gres(kind, rest[0] if rest else "", count))
    return found


def devices(node: NodeSpec) -> list[list[PurePosixPath]]:
    """Give the files that pose as devices, for each of the node's gres: slurmd counts a GPU by its file alone."""
    folder = DIRECTORY / "devices" / node.name
    return [
        [folder / f"{each.kind}{i}-{number}" for number in range(each.count)] if each.kind == "gpu" else []
        for i, each in enumerate(gres(node))
    ]


def gres_conf(spec: LabSpec) -> str:
    """Render gres.conf. No device stands behind any of it."""
    lines = ["AutoDetect=off"]
    for node in spec.node_specs:
        for each, files in zip(gres(node), devices(node), strict=True):
            kind = f" Type={each.type}" if each.type else ""
            file = f" File={','.join(map(str, files))}" if files else ""
            lines.append(f"NodeName={node.name} Name={each.kind}{kind} Count={each.count}{file}")
    return "\n".join(lines) + "\n"


def slurmdbd_conf(spec: LabSpec, host: str) -> str:
    """Render slurmdbd.conf for the database that the lab runs for itself."""
    lines = [
        "AuthType=auth/munge",
        f"DbdHost={host}",
        "SlurmUser=slurm",
        "StorageType=accounting_storage/mysql",
        "StorageHost=127.0.0.1",
        "StorageUser=slurm",
        f"StoragePass={DATABASE_PASSWORD}",
        f"StorageLoc={DATABASE_NAME}",
        f"LogFile={LOG_DIRECTORY}/slurmdbd.log",
        f"PidFile={DIRECTORY}/slurmdbd.pid",
        "DebugLevel=verbose",
        "DebugLevelSyslog=quiet",
    ]
    return "\n".join(merge(lines, spec.slurmdbd_conf)) + "\n"
