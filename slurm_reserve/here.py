"""What `check` reads on this host: who runs it, what Slurm lets them do, the plugin beside slurm.conf."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from slurm_reserve.check import Here, guardfile
from slurm_reserve.model import Cluster
from slurm_reserve.site import Site
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.port import SlurmError

_MOST_BYTES = 1_048_576


def look(site: Site, cluster: Cluster, slurm: CliSlurm) -> Here:
    """Look round; what cannot be known stays None."""
    uid = os.geteuid()
    user = _name(uid)
    return Here(
        user=user,
        is_root=uid == 0,
        is_operator=uid == 0 or _is_operator(user, cluster, slurm),
        guard=_guard(cluster.config.printed.get("SLURM_CONF", "")),
        unknown_users=frozenset(name for spec in site.reservations for name in spec.owner.users if not _is_known(name)),
        hook_problem=_hook_problem(site.daemon.hook, user),
    )


def _hook_problem(argv: tuple[str, ...], user: str) -> str:
    if not argv or os.access(argv[0], os.F_OK | os.X_OK):
        return ""
    return f"{argv[0]} is not there, or no program that {user} may run"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _is_operator(user: str, cluster: Cluster, slurm: CliSlurm) -> bool | None:
    if user == cluster.config.slurm_user:
        return True
    if not cluster.config.accounting:
        return False
    try:
        return slurm.admin_level(user) in ("Operator", "Administrator")
    except SlurmError:
        return None


def _guard(slurm_conf: str) -> guardfile.Guard | None:
    """None where it cannot be read: slurmctld may run elsewhere, with files that this host has not."""
    path = Path(slurm_conf or "/nonexistent").with_name("job_submit.lua")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return guardfile.read(file.read(_MOST_BYTES))
    except OSError:
        return None
