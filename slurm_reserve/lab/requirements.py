"""What this machine must have for a lab, and what to do about what it lacks."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from slurm_reserve.lab.errors import LabError

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # not on everybody's PATH; daemons live there
UIDS = 65536  # what a user namespace must map for every uid of a lab to exist in it

# Command -> the Debian package that holds it.
PROGRAMS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
    "env": "coreutils",
    "ip": "iproute2",
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "scontrol": "slurm-client",
}
ACCOUNTING_PROGRAMS = {
    "slurmdbd": "slurmdbd",
    "sacctmgr": "slurm-client",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mariadb-admin": "mariadb-client",
}
ROOTLESS_PROGRAMS = {"newuidmap": "uidmap", "newgidmap": "uidmap"}


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a lab needs and this machine has not."""

    what: str
    remedy: str
    package: str = ""  # Debian's, where installing one is the remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def search_path() -> str:
    """Give PATH with the folders of daemons at its end."""
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"


@cache
def find(program: str) -> str:
    """Give a program's path; raises LabError when there is none."""
    path = shutil.which(program, path=search_path())
    if path is None:
        raise LabError(f"{program} is not on this machine")
    return path


def missing(accounting: bool = False) -> list[Missing]:
    """List everything that keeps the present user from booting a lab; empty when nothing does."""
    rootless = os.geteuid() != 0
    programs = PROGRAMS | (ACCOUNTING_PROGRAMS if accounting else {}) | (ROOTLESS_PROGRAMS if rootless else {})
    found = [
        Missing(program, f"not on PATH; install Debian's {package} or its equivalent", package)
        for program, package in programs.items()
        if shutil.which(program, path=search_path()) is None
    ]
    return found + (_missing_for_rootless() if rootless else [])


def _missing_for_rootless() -> list[Missing]:
    found = [ids for path in ("/etc/subuid", "/etc/subgid") if (ids := missing_ids(Path(path)))]
    for setting, bad, good in (
        ("/proc/sys/user/max_user_namespaces", "0", "15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        path = Path(setting)
        if path.exists() and path.read_text().strip() == bad:
            name = setting.removeprefix("/proc/sys/").replace("/", ".")
            found.append(Missing("user namespaces for ordinary users", f"as root: sysctl -w {name}={good}"))
    return found or _missing_by_trial()


def missing_ids(path: Path) -> Missing | None:
    user = getpass.getuser()
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        owner, _, count = (line + "::").split(":")[:3]
        if owner in (user, str(os.getuid())) and count.isdigit() and int(count) >= UIDS:
            return None
    option = "--add-subuids" if path.name == "subuid" else "--add-subgids"
    remedy = f"as root: usermod {option} 1000000-{1000000 + UIDS - 1} {user} (a range nobody else has)"
    return Missing(f"{UIDS} subordinate ids of {user} in {path}", remedy)


def _missing_by_trial() -> list[Missing]:
    """Try what no file can tell: containers and security modules have their own ways to refuse."""
    if any(shutil.which(program, path=search_path()) is None for program in ("unshare", *ROOTLESS_PROGRAMS)):
        return []  # named already
    argv = [find("unshare"), *USER_NAMESPACE, "--mount", "--pid", "--fork", "--net", find("true")]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return []
    remedy = "boot the lab as root, or allow this (util-linux 2.38 or newer is needed)"
    return [Missing(f"user namespaces with mapped ids ({tried.stderr.strip()})", remedy)]


# Root inside is the user who boots; everybody else inside is one of the user's subordinate ids.
USER_NAMESPACE = ("--user", "--map-root-user", "--map-auto")


def ensure_possible(accounting: bool) -> None:
    """Raise LabError naming everything that is missing, each with its remedy."""
    lacking = missing(accounting)
    if lacking:
        raise LabError("a lab cannot run here:\n" + "\n".join(f"  {each}" for each in lacking))
