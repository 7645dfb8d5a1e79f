"""Accounting in a lab: its own MariaDB, and the accounts, users and QOS of its spec."""

from __future__ import annotations

import shlex

from slurm_reserve.lab import files
from slurm_reserve.lab.inside import Inside
from slurm_reserve.lab.spec import LabSpec


def make_database(inside: Inside) -> None:
    """Make the empty database that mariadbd starts from."""
    options = ["--no-defaults", f"--datadir={files.DATABASE}", "--user=root", "--skip-name-resolve"]
    options += ["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M"]
    inside.run(["mariadb-install-db", *options])


def fill(inside: Inside) -> None:
    """Tell slurmdbd of the cluster and of whoever may use it."""
    for command in commands(inside.spec):
        inside.run(["sacctmgr", "--immediate", *shlex.split(command)])


def commands(spec: LabSpec) -> list[str]:
    """Give the commands for sacctmgr, in order."""
    accounts = sorted({account for user in spec.all_users for account in user.accounts})
    lines = ["add cluster lab qos=normal defaultqos=normal"]
    lines += [f"add account {','.join(accounts)}"] if accounts else []
    for user in spec.all_users:
        for account in user.accounts:
            lines.append(f"add user {user.name} account={account} defaultaccount={user.accounts[0]}")
        if user.admin_level != "None":
            lines.append(f"modify user {user.name} set adminlevel={user.admin_level}")
    return lines + list(spec.sacctmgr)
