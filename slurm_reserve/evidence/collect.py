"""Puts together what reports are made from: the journal, and Slurm's database where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from slurm_reserve.accounts import Ran, Statement, statement
from slurm_reserve.evidence.promise import Promise, measured
from slurm_reserve.evidence.reading import Reader
from slurm_reserve.facts import WaitFact
from slurm_reserve.gaps import Idleness, idleness
from slurm_reserve.site import LEND_SUFFIX, Site
from slurm_reserve.slurm.accounting import Database, Run
from slurm_reserve.slurm.port import SlurmUnavailableError


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `report` shows."""

    statement: Statement
    promises: tuple[Promise, ...]
    waits: tuple[WaitFact, ...]
    remark: str = ""  # why Slurm's database was not used


def collect(site: Site, reader: Reader, database: Database, since: datetime, until: datetime) -> Report:
    """Raises SlurmUnreadableError when Slurm's database answers nonsense; without one the journal alone is used."""
    remark, runs = "", None
    try:
        runs = [_ran(site, run) for run in database.runs(since - timedelta(days=1), until)]
    except SlurmUnavailableError as error:
        remark = f"times are as the daemon saw them, for Slurm's database cannot be read: {error}"
    waits = reader.waits()
    made = statement(reader.uses(), reader.loans(), runs, since, until, site.lending.credit)
    over = [w for w in waits if (end := w.started or w.ended) is not None and since <= end < until]
    return Report(made, tuple(measured(over)), tuple(over), remark)


def _ran(site: Site, run: Run) -> Ran:
    lending = site.lending
    borrows = bool(run.partitions) and run.partitions <= lending.partitions
    is_borrower = borrows or run.qos in lending.qos
    return Ran(run.job, run.user, run.nodes, run.start, run.end, run.state, is_borrower, run.account)


def idle_of(database: Database, since: datetime, until: datetime) -> list[Idleness]:
    """Of every reservation that was there, ours or anybody's, but for lend reservations; raises SlurmError."""
    period = (int(since.timestamp()), int(until.timestamp()))
    held = [each for each in database.reservations(since, until) if not each.name.endswith(LEND_SUFFIX)]
    runs = database.runs(since, until)
    busy = [
        (node, (int(run.start.timestamp()), int((run.end or until).timestamp()))) for run in runs for node in run.nodes
    ]
    found = []
    for name in sorted({each.name for each in held}):
        mine = [
            (node, (int(each.start.timestamp()), int(each.end.timestamp())))
            for each in held
            if each.name == name
            for node in each.nodes
        ]
        found.append(idleness(name, mine, busy, period))
    return found
