"""Every folder and file that a lab starts with: the plan that its first process carries out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm_reserve.lab import conf
from slurm_reserve.lab.spec import DIRECTORY, TMP, LabSpec, to_json

ETC = DIRECTORY / "etc"
SPEC_FILE = DIRECTORY / "spec.json"
MUNGE_KEY = DIRECTORY / "munge.key"
# The one place that clients of every distribution look in unasked; /run is the lab's own.
MUNGE_SOCKET = "/run/munge/munge.socket.2"
DATABASE = DIRECTORY / "mariadb"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder inside the lab."""

    path: str
    mode: int = 0o755
    uid: int = 0


@dataclass(frozen=True, slots=True)
class File:
    """A file inside the lab."""

    path: str
    text: str | None  # None: a secret, drawn inside the lab
    mode: int = 0o644
    uid: int = 0


def plan(spec: LabSpec, host: str, reveal: Iterable[Path] = ()) -> dict[str, object]:
    """Say what the lab's first process shall make, as plain JSON values.

    `reveal` are folders of the host that every user of the lab shall be able to reach.
    """
    return {
        "host": host,
        "address": conf.ADDRESS,
        "directory": str(DIRECTORY),
        "reveal": [str(path) for path in reveal],
        "folders": [list(asdict(folder).values()) for folder in folders(spec)],
        "files": [[file.path, file.mode, file.uid, file.text] for file in files(spec, host)],
    }


def folders(spec: LabSpec) -> list[Folder]:
    """List the folders, parents first."""
    slurm = spec.uid("slurm")
    return [
        *(Folder(str(DIRECTORY / name)) for name in ("home", "conf", "etc", "etc/munge", "spool", "munge")),
        Folder("/run/munge"),
        Folder("/run/mysqld"),
        Folder("/run/lock", 0o1777),
        Folder(str(conf.LOG_DIRECTORY), 0o755, slurm),
        Folder(str(DIRECTORY / "state"), 0o700, slurm),
        Folder(str(TMP), 0o1777),
        *(Folder(str(DIRECTORY / name / node.name)) for node in spec.node_specs for name in ("spool", "devices")),
        *(Folder(str(spec.home(user)), 0o755, spec.uid(user)) for user in ("root", *names(spec))),
    ]


def files(spec: LabSpec, host: str) -> list[File]:
    """List the files."""
    slurm = spec.uid("slurm")
    made = [
        File(str(SPEC_FILE), to_json(spec)),
        File(str(MUNGE_KEY), None, 0o400),
        File(str(ETC / "passwd"), passwd(spec)),
        File(str(ETC / "group"), group(spec)),
        File(str(ETC / "hosts"), f"127.0.0.1 localhost\n{conf.ADDRESS} {host}\n"),
        File(str(ETC / "hostname"), f"{host}\n"),
        File(str(ETC / "nsswitch.conf"), "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"),
        File(str(conf.SLURM_CONF), conf.slurm_conf(spec, host)),
        File(str(conf.CONF_DIRECTORY / "gres.conf"), conf.gres_conf(spec)),
    ]
    if spec.accounting:
        path = str(conf.CONF_DIRECTORY / "slurmdbd.conf")
        made.append(File(path, conf.slurmdbd_conf(spec, host), 0o600, slurm))  # slurmdbd refuses any other mode
        made.append(File(str(DIRECTORY / "mariadb.sql"), grants()))
    for node in spec.node_specs:
        made += [File(str(path), "", 0o666) for paths in conf.devices(node) for path in paths]
    made += [File(str(conf.CONF_DIRECTORY / name), text) for name, text in spec.conf_files.items()]
    return made


def names(spec: LabSpec) -> list[str]:
    """Give the users' names."""
    return [user.name for user in spec.all_users]


def passwd(spec: LabSpec) -> str:
    """Render /etc/passwd."""
    lines = [f"root:x:0:0:root:{spec.home('root')}:/bin/bash"]
    lines += [f"{name}:x:{spec.uid(name)}:{spec.uid(name)}:{name}:{spec.home(name)}:/bin/bash" for name in names(spec)]
    lines.append("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin")
    return "\n".join(lines) + "\n"


def group(spec: LabSpec) -> str:
    """Render /etc/group."""
    lines = ["root:x:0:", "tty:x:5:"]
    lines += [f"{name}:x:{gid}:{','.join(who)}" for name, (gid, who) in spec.groups().items()]
    lines.append("nogroup:x:65534:")
    return "\n".join(lines) + "\n"


def grants() -> str:
    """Give what mariadbd is told at every start.

    The database is made here: slurmdbd would make it itself, on a connection that MariaDB's client library of 11.8.9
    leaves unusable once it has failed for want of that database.
    """
    return (
        f"CREATE DATABASE IF NOT EXISTS {conf.DATABASE_NAME};\n"
        f"CREATE USER IF NOT EXISTS slurm@'%' IDENTIFIED BY '{conf.DATABASE_PASSWORD}';\n"
        "GRANT ALL ON *.* TO slurm@'%';\n"
    )
