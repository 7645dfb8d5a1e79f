"""What the CLI declares: one file each in reservations.d, written atomically under one lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from slurm_reserve import hostlist, yamlfile
from slurm_reserve.config import FOLDER, ConfigError
from slurm_reserve.durations import format_duration
from slurm_reserve.errors import ReserveError
from slurm_reserve.schema import UNLIMITED, check_name
from slurm_reserve.site import Defaults, LendPolicy, NodeRequest, ReclaimPolicy, ReservationSpec

_STANDARD = Defaults()


class DeclareError(ReserveError):
    """The folder of declared reservations cannot be written."""


@contextmanager
def declared_lock(site_path: Path) -> Iterator[Path]:
    """Hold the one lock under which reservations are declared; gives the folder. Raises DeclareError."""
    folder = site_path.parent / FOLDER
    try:
        _ensure(folder)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DeclareError(f"{folder}: {error.strerror}; it must belong to whoever declares reservations") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(handle)


def _ensure(folder: Path) -> None:
    """The folder, readable for all whatever the umask: the daemon may run as somebody else."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)


def file_of(site_path: Path, name: str) -> Path:
    """The file that holds a reservation which the CLI declared; raises ValueError for a name that is none."""
    return site_path.parent / FOLDER / f"{check_name(name)}.yaml"


def dump_reservation(spec: ReservationSpec, requested_by: str, at: datetime, defaults: Defaults = _STANDARD) -> str:
    """A file of reservations.d, which :func:`slurm_reserve.config.load` reads back.

    What the site's defaults say as well is left out, and so goes on following them.
    """
    body: dict[str, Any] = {
        "requested": {"by": requested_by, "at": at.isoformat(timespec="seconds")},
        "owner": {
            key: sorted(getattr(spec.owner, key)) for key in ("users", "accounts", "groups") if getattr(spec.owner, key)
        },
        "nodes": _nodes(spec),
        "find": str(spec.find) if spec.find != defaults.find else None,
    }
    for key in ("start", "end"):
        if (when := getattr(spec, key)) is not None:
            body[key] = when.isoformat(timespec="seconds")
    body["windows"] = [str(window) for window in spec.windows]
    if spec.at_end != defaults.at_end:
        body["at_end"] = str(spec.at_end)
    body["lend"] = _changed(spec.lend, defaults.lend)
    body["reclaim"] = _changed(spec.reclaim, defaults.reclaim)
    kept = {key: value for key, value in body.items() if value}
    if spec.owner_may != defaults.owner_may:
        kept["owner_may"] = sorted(map(str, spec.owner_may))
    return yaml.safe_dump({"reservations": {spec.name: kept}}, sort_keys=False)


def _nodes(spec: ReservationSpec) -> str | dict[str, Any]:
    if not isinstance(spec.nodes, NodeRequest):
        return hostlist.fold(spec.nodes)
    request: dict[str, Any] = {"node_count": spec.nodes.node_count, "partition": spec.nodes.partition}
    return request | ({"features": sorted(spec.nodes.features)} if spec.nodes.features else {})


def _changed(policy: LendPolicy | ReclaimPolicy, standard: LendPolicy | ReclaimPolicy) -> dict[str, Any]:
    """What differs from the defaults, as it is written."""
    found: dict[str, Any] = {}
    for key in policy.__slots__:
        value = getattr(policy, key)
        if value != getattr(standard, key):
            if key == "windows":
                found[key] = [str(window) for window in value] or "always"
            else:
                found[key] = value if isinstance(value, bool | int) else _text(value)
    return found


def _text(value: timedelta | str | None) -> str:
    if value == "":  # only a signal can be left out
        return "none"
    if value is None or value == UNLIMITED:  # only a time limit can be absent
        return "unlimited"
    return format_duration(value) if isinstance(value, timedelta) else str(value)


def write_reservation(
    site_path: Path, spec: ReservationSpec, requested_by: str, at: datetime, defaults: Defaults = _STANDARD
) -> Path:
    """Write or replace a reservation's file as a whole, or not at all; hold :func:`declared_lock`."""
    path = file_of(site_path, spec.name)
    refuse_shared(site_path, spec.name)
    try:
        _replace(path, dump_reservation(spec, requested_by, at, defaults).encode())
    except OSError as error:
        raise DeclareError(f"{path}: {error.strerror}; nothing was declared") from error
    return path


@contextmanager
def put_back(site_path: Path, name: str) -> Iterator[None]:
    """Leave a reservation's file as it was before, should anything go wrong within, an interrupt too."""
    path = file_of(site_path, name)
    try:
        before = _content(path)
    except OSError as error:
        raise DeclareError(f"{path}: {error.strerror}; nothing was declared") from error
    try:
        yield
    except BaseException:
        try:
            _restore(path, before)
        except OSError as error:
            raise DeclareError(f"{path}: {error.strerror}; it could not be made what it was before") from error
        raise


def _content(path: Path) -> bytes | None:
    """None when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _restore(path: Path, content: bytes | None) -> None:
    if _content(path) == content:
        return
    if content is None:
        path.unlink()
        _sync(path.parent)
    else:
        _replace(path, content)


def _replace(path: Path, content: bytes) -> None:
    """As a whole or not at all: written beside, and renamed."""
    draft = path.with_name(f".{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            draft.unlink()
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)  # whatever the umask: the daemon may run as somebody else
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def delete_reservation_file(site_path: Path, name: str) -> None:
    """Withdraw a reservation that the CLI declared; hold :func:`declared_lock`."""
    path = file_of(site_path, name)
    refuse_shared(site_path, name)
    try:
        path.unlink()
        _sync(path.parent)
    except OSError as error:
        raise DeclareError(f"{path}: {error.strerror}; nothing was withdrawn") from error


def refuse_shared(site_path: Path, name: str) -> None:
    """Raise DeclareError for a file that somebody wrote by hand with other reservations in it: they would go too."""
    path = file_of(site_path, name)
    if not path.exists():
        return
    try:
        found = yamlfile.read(path).data.get("reservations")
    except ConfigError as error:
        raise DeclareError(str(error)) from error
    if isinstance(found, dict) and (others := sorted(found.keys() - {name})):
        raise DeclareError(f"{path} declares {', '.join(others)} as well; change it by hand, then reload the daemon")


def _sync(folder: Path) -> None:
    """A file's name is on disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
