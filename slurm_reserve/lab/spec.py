"""What a lab shall be: nodes, users, accounts, lines of slurm.conf. Plain frozen types, pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

DIRECTORY = PurePosixPath("/run/slurm-lab")  # inside the lab; all of /run is the lab's own
TMP = DIRECTORY / "tmp"
FIRST_UID = 65001  # Debian reserves 65000 to 65533, so no account of the host is likely to have it
PARTITIONS = """\
PartitionName=main Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=preempt Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE
"""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node. Its resources are claimed, not had: Slurm is told to believe them."""

    name: str
    cpus: int = 4
    memory_mb: int = 4000
    features: tuple[str, ...] = ()
    gres: str = ""  # as in slurm.conf: "gpu:2", "gpu:a100:2,shard:4"; no device stands behind it
    threads_per_core: int = 1


@dataclass(frozen=True, slots=True)
class UserSpec:
    """Somebody who may submit. Each has a uid, a group of the same name and number, and a home."""

    name: str
    groups: tuple[str, ...] = ()  # further groups, also other users'; made when first named
    accounts: tuple[str, ...] = ("general",)  # the first is the default; used with accounting only
    admin_level: str = "None"  # None, Operator or Administrator; used with accounting, and needs an account


USERS = (
    UserSpec("alice", groups=("physics",), accounts=("physics",)),
    UserSpec("bob"),
    UserSpec("carol"),
    UserSpec("dave"),
)
SERVICES = (  # always there, before the others
    UserSpec("slurm", accounts=()),
    UserSpec("reserve", groups=("slurm",), accounts=("service",), admin_level="Operator"),  # so that slurmctld may ring
)


def nodes(count: int, cpus: int = 4, memory_mb: int = 4000) -> tuple[NodeSpec, ...]:
    """Give `count` nodes that are all alike: n1, n2, ..."""
    return tuple(NodeSpec(f"n{number}", cpus, memory_mb) for number in range(1, count + 1))


@dataclass(frozen=True)
class LabSpec:
    """A whole lab. The defaults are a small cluster on which Slurm preempts by partition tier."""

    nodes: tuple[NodeSpec, ...] | int = 4  # a number: so many nodes alike, n1, n2, ...
    partitions: str = PARTITIONS
    kill_wait: int = 5  # seconds that a job has between SIGTERM and SIGKILL
    accounting: bool = False  # mariadbd and slurmdbd as well
    users: tuple[UserSpec, ...] = USERS
    slurm_conf: tuple[str, ...] = ()  # lines; a later line replaces an earlier one of the same key, `Key=` removes it
    slurmdbd_conf: tuple[str, ...] = ()  # the same for slurmdbd.conf
    conf_files: Mapping[str, str] = field(
        default_factory=dict, hash=False
    )  # further files beside slurm.conf: name -> text
    sacctmgr: tuple[str, ...] = ()  # commands such as "add qos high Preempt=normal", run in order at boot

    @property
    def node_specs(self) -> tuple[NodeSpec, ...]:
        """The nodes, one by one."""
        return nodes(self.nodes) if isinstance(self.nodes, int) else tuple(self.nodes)

    @property
    def all_users(self) -> tuple[UserSpec, ...]:
        """The services' users and the people, in the order of their uids."""
        return SERVICES + tuple(self.users)

    def uid(self, user: str) -> int:
        """Give the uid, which is the number of the user's own group too; raises KeyError for a stranger."""
        if user == "root":
            return 0
        names = [each.name for each in self.all_users]
        if user not in names:
            raise KeyError(user)
        return FIRST_UID + names.index(user)

    def home(self, user: str) -> PurePosixPath:
        """Give the home inside the lab."""
        return DIRECTORY / "home" / user

    def groups(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Give every group: name -> (gid, members besides the user whose own it is)."""
        members: dict[str, list[str]] = {user.name: [] for user in self.all_users}
        for user in self.all_users:
            for group in user.groups:
                members.setdefault(group, []).append(user.name)
        return {name: (FIRST_UID + i, tuple(who)) for i, (name, who) in enumerate(members.items())}


def to_json(spec: LabSpec) -> str:
    """Write a spec so that a later process can know what it found."""
    return json.dumps(asdict(spec))


def from_json(text: str) -> LabSpec:
    """Read what :func:`to_json` wrote; raises ValueError, KeyError or TypeError when it is something else."""
    raw: dict[str, Any] = json.loads(text)
    if not isinstance(raw["nodes"], int):
        raw["nodes"] = tuple(NodeSpec(**{**node, "features": tuple(node["features"])}) for node in raw["nodes"])
    raw["users"] = tuple(
        UserSpec(user["name"], tuple(user["groups"]), tuple(user["accounts"]), user["admin_level"])
        for user in raw["users"]
    )
    for key in ("slurm_conf", "slurmdbd_conf", "sacctmgr"):
        raw[key] = tuple(raw[key])
    return LabSpec(**raw)
