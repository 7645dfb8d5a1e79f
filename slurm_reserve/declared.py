"""What the CLI declares: one file each in reservations.d, written atomically under one lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from slurm_reserve import hostlist
from slurm_reserve.config import FOLDER
from slurm_reserve.durations import format_duration
from slurm_reserve.errors import ReserveError
from slurm_reserve.schema import check_name
from slurm_reserve.site import LendPolicy, NodeRequest, ReclaimPolicy, ReservationSpec


class DeclareError(ReserveError):
    """The folder of declared reservations cannot be written."""


@contextmanager
def declared_lock(site_path: Path) -> Iterator[Path]:
    """Hold the one lock under which reservations are declared; gives the folder. Raises DeclareError."""
    folder = site_path.parent / FOLDER
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DeclareError(f"{folder}: {error.strerror}; it must belong to whoever declares reservations") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(handle)


def file_of(site_path: Path, name: str) -> Path:
    """The file that holds a reservation which the CLI declared; raises ValueError for a name that is none."""
    return site_path.parent / FOLDER / f"{check_name(name)}.yaml"


def dump_reservation(spec: ReservationSpec, requested_by: str, at: datetime) -> str:
    """A file of reservations.d, which :func:`slurm_reserve.config.load` reads back."""
    body: dict[str, Any] = {
        "requested": {"by": requested_by, "at": at.isoformat(timespec="seconds")},
        "owner": {
            key: sorted(getattr(spec.owner, key)) for key in ("users", "accounts", "groups") if getattr(spec.owner, key)
        },
        "nodes": _nodes(spec),
        "find": str(spec.find),
    }
    for key in ("start", "end"):
        if (when := getattr(spec, key)) is not None:
            body[key] = when.isoformat(timespec="seconds")
    body["lend"] = _changed(spec.lend, LendPolicy())
    body["reclaim"] = _changed(spec.reclaim, ReclaimPolicy())
    kept = {key: value for key, value in body.items() if value}
    return yaml.safe_dump({"reservations": {spec.name: kept}}, sort_keys=False)


def _nodes(spec: ReservationSpec) -> str | dict[str, Any]:
    if not isinstance(spec.nodes, NodeRequest):
        return hostlist.fold(spec.nodes)
    request: dict[str, Any] = {"node_count": spec.nodes.node_count, "partition": spec.nodes.partition}
    return request | ({"features": sorted(spec.nodes.features)} if spec.nodes.features else {})


def _changed(policy: LendPolicy | ReclaimPolicy, standard: LendPolicy | ReclaimPolicy) -> dict[str, Any]:
    """What differs from the built-in defaults, as it is written."""
    found = {}
    for key in policy.__slots__:
        value = getattr(policy, key)
        if value != getattr(standard, key):
            found[key] = value if isinstance(value, bool | int) else _text(value)
    return found


def _text(value: Any) -> str:
    return format_duration(value) if hasattr(value, "total_seconds") else str(value)


def write_reservation(site_path: Path, spec: ReservationSpec, requested_by: str, at: datetime) -> Path:
    """Write or replace a reservation's file as a whole, or not at all; hold :func:`declared_lock`."""
    path = file_of(site_path, spec.name)
    draft = path.with_name(f".{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            draft.unlink()
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(dump_reservation(spec, requested_by, at))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise DeclareError(f"{path}: {error.strerror}; nothing was declared") from error
    return path


def delete_reservation_file(site_path: Path, name: str) -> None:
    """Withdraw a reservation that the CLI declared; hold :func:`declared_lock`."""
    path = file_of(site_path, name)
    try:
        path.unlink()
        _sync(path.parent)
    except OSError as error:
        raise DeclareError(f"{path}: {error.strerror}; nothing was withdrawn") from error


def _sync(folder: Path) -> None:
    """A file's name is on disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
