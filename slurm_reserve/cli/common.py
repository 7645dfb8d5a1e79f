"""What several commands need: the site, Slurm, the ledger, the console, JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_reserve.errors import ReserveError

if TYPE_CHECKING:
    from rich.console import Console

    from slurm_reserve.cycle import Result
    from slurm_reserve.ledger import Ledger
    from slurm_reserve.memory import Memory
    from slurm_reserve.site import ReservationSpec, Site
    from slurm_reserve.slurm.cli import CliSlurm


class UnknownReservationError(ReserveError):
    """No such reservation is declared."""


def now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the options before the command said."""

    site_file: Path
    as_json: bool

    def site(self) -> Site:
        """The configuration; raises ConfigError. Times without a zone are local ones."""
        from slurm_reserve.config import load

        return load(self.site_file, datetime.now().astimezone())

    def run_dir(self) -> Path:
        """Where the daemon's socket is: as the site file says; where a user may not read that, the default."""
        from slurm_reserve.config import ConfigError
        from slurm_reserve.site import DaemonSettings

        try:
            return self.site().daemon.run_dir
        except ConfigError:
            return DaemonSettings().run_dir

    def is_admin(self) -> bool:
        """Whether this is root or the daemon's own user; anybody, where no daemon's socket is there to say whose it is.

        The others ask the daemon, which decides by who they are.
        """
        from slurm_reserve.control import SOCKET_NAME

        try:
            return os.geteuid() in (0, (self.run_dir() / SOCKET_NAME).stat().st_uid)
        except OSError:
            return True

    def slurm(self, site: Site) -> CliSlurm:
        """Slurm by its commands, or with pyslurm; raises SlurmUnavailableError when that is to be and is missing."""
        from slurm_reserve.slurm.backend import adapter

        return adapter(site.slurm)

    def spec(self, site: Site, name: str) -> ReservationSpec:
        """The declared reservation; raises UnknownReservationError."""
        found = site.reservation(name)
        if found is None:
            names = ", ".join(spec.name for spec in site.reservations) or "none"
            raise UnknownReservationError(f"no reservation {name} is declared; declared are: {names}")
        return found

    def show(self, value: object) -> None:
        """Print JSON."""
        click.echo(json.dumps(value, default=plain, indent=2, sort_keys=True))


def plain(value: object) -> object:
    """A value of ours as JSON has it: times in ISO form, durations in seconds, sets sorted."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, frozenset | set):
        return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


@contextmanager
def ledger_of(site: Site, may_be_lost: bool = False) -> Iterator[Ledger]:
    """The ledger on disk; for a daemon, which serves owners without it too, it `may_be_lost`."""
    from slurm_reserve.ledger import FILE_NAME, Ledger

    ledger = Ledger(site.daemon.state_dir / FILE_NAME, may_be_lost)
    try:
        yield ledger
    finally:
        ledger.close()


def remembered(site: Site) -> tuple[Memory, str]:
    """What the daemon remembers, for looking only; and why it could not be read, "" when it could."""
    from slurm_reserve.ledger import FILE_NAME, LedgerError, read_only
    from slurm_reserve.memory import Memory

    path = site.daemon.state_dir / FILE_NAME
    try:
        return read_only(path), ""
    except LedgerError as error:
        return Memory(), f"as if for the first time: {error}"


def look(setting: Setting) -> tuple[Result, str]:
    """Observe and decide, without doing anything; and a remark when the daemon's memory could not be read."""
    from slurm_reserve import cycle

    site = setting.site()
    cluster = cycle.observe(site, setting.slurm(site))
    memory, remark = remembered(site)
    return cycle.decide(site, cluster, memory), remark


def console() -> Console:
    """Colours on a terminal only; 80 columns where there is none."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 80, highlight=False)


def reservation_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For completion: the declared names; nothing where the site file cannot be read."""
    del param
    root = ctx.find_root()
    path = root.params.get("site_file") or Path("/etc/slurm-reserve/site.yaml")
    try:
        site = Setting(Path(path), as_json=False).site()
    except ReserveError:
        return []
    return [spec.name for spec in site.reservations if spec.name.startswith(incomplete)]
