"""`report` and `idle`: accounts, for owners and for people who pay."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_reserve.cli.common import Setting, console, now
from slurm_reserve.cli.evidence import SINCE, journal_of, time_of
from slurm_reserve.errors import ReserveError

if TYPE_CHECKING:
    from slurm_reserve.evidence.collect import Report
    from slurm_reserve.site import Site
    from slurm_reserve.slurm.accounting import Database

HOUR = 3600
_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would calculate


class ReportError(ReserveError):
    """The report cannot be written."""


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve report --since 30d\n  slurm-reserve report --html lending.html\n"
    "  slurm-reserve report --since 2030-01-01 --until 2030-02-01 --csv > jan.csv"
)
@SINCE
@click.option("--until", help="A time, or how long ago; now by default, and at most.")
@click.option("--csv", "as_csv", is_flag=True, help="Each borrowed run, as comma-separated values.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write one page that opens offline.")
@click.pass_context
def report(ctx: click.Context, since: str | None, until: str | None, as_csv: bool, html: Path | None) -> None:
    """Account for what was owned, used, lent and earned; 30 days by default.

    Times are those of Slurm's database, where there is one.
    """
    from slurm_reserve.evidence.collect import collect

    setting: Setting = ctx.obj
    site = setting.site()
    begin, end = _period(since, until)
    with journal_of(site) as reader:
        found = collect(site, reader, _database(site), begin, end)
    if html is not None:
        _write_page(html, site, found)
        click.echo(f"{html} is written", err=setting.as_json or as_csv)
    if setting.as_json:
        setting.show(as_data(found))
    elif as_csv:
        _csv(found)
    elif html is None:
        _print(found)


def _period(since: str | None, until: str | None = None) -> tuple[datetime, datetime]:
    """What is accounted for: 30 days by default, and nothing that is yet to come."""
    at = now()
    end = min(time_of(until) or at, at)
    begin = time_of(since) or end - timedelta(days=30)
    if begin >= end:
        raise click.UsageError("--since must be before --until, and before now")
    return begin, end


def _database(site: Site) -> Database:
    from slurm_reserve.slurm.accounting import Database
    from slurm_reserve.slurm.command import Commands

    return Database(Commands(site.slurm))


def _write_page(path: Path, site: Site, found: Report) -> None:
    try:
        from slurm_reserve.evidence.page import page
    except ImportError as error:
        raise ReportError(
            f"the page needs plotly, which is not there ({error}); pip install 'slurm-reserve[report]'"
        ) from error
    written = page(site.cluster, found).encode(errors="replace")  # before the page of yesterday is touched
    try:
        path.write_bytes(written)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error


def as_data(found: Report) -> dict[str, Any]:
    """For machines; node-seconds."""
    made = found.statement
    return {
        "since": made.since,
        "until": made.until,
        "source": made.source,
        "remark": found.remark,
        "reservations": [
            {"name": r.name, "owned": r.owned, "used": r.used, "lent": r.lent, "idle": r.idle, "down": r.down,
             "loans": r.loans, "evictions": r.evictions, "credit": r.credit}
            for r in made.reservations
        ],
        "borrowers": [asdict(each) for each in made.borrowers],
        "loans": [asdict(loan) | {"node_seconds": loan.node_seconds} for loan in made.loans],
        "promises": [asdict(each) for each in found.promises],
    }  # fmt: skip


def _csv(found: Report) -> None:
    columns = ("job", "user", "account", "reservation", "nodes", "bid", "lent_at", "started", "ended", "cause",
               "node_seconds")  # fmt: skip
    made = io.StringIO(newline="")
    writer = csv.writer(made)
    writer.writerow(columns)
    for loan in found.statement.loans:
        values = (getattr(loan, name) for name in columns)
        writer.writerow([_cell(value) for value in values])
    # Whatever the terminal speaks: it will be a file.
    click.echo(made.getvalue().encode("utf-8", "surrogateescape"), nl=False)


def _cell(value: object) -> str:
    if isinstance(value, frozenset):
        return " ".join(sorted(value))
    text = value.isoformat() if hasattr(value, "isoformat") else str(value if value is not None else "")
    return f"'{text}" if text.startswith(_FORMULA) else text


def _print(found: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from slurm_reserve.evidence.explain import moment, span
    from slurm_reserve.words import printable

    made, out = found.statement, console()
    out.print(Text(f"from {moment(made.since)} to {moment(made.until)}, by {made.source}"))
    if found.remark:
        out.print(Text(found.remark, style="yellow"))
    table = Table(box=None, pad_edge=False)
    for title in ("node-hours of", "owned", "used", "lent", "idle", "down", "loans", "evicted", "credit"):
        table.add_column(title, justify="left" if title == "node-hours of" else "right", overflow="fold")
    for r in made.reservations:
        hours = (f"{seconds / HOUR:.2f}" for seconds in (r.owned, r.used, r.lent, r.idle, r.down))
        table.add_row(r.name, *hours, str(r.loans), str(r.evictions), f"{r.credit:.2f}")
    out.print(table)
    others = Table(box=None, pad_edge=False)
    for title in ("borrower", "node-hours received", "lost at most", "loans", "evicted"):
        others.add_column(title, justify="left" if title == "borrower" else "right")
    for b in made.borrowers:
        others.add_row(Text(printable(b.user, 40)), f"{b.received / HOUR:.2f}", f"{b.lost / HOUR:.2f}", str(b.loans),
                       str(b.evictions))  # fmt: skip
    out.print(others)
    for p in found.promises:
        taken = p.taken_back
        figures = f"median {span(taken.median)}, p95 {span(taken.p95)}, most {span(taken.most)}"
        waited = (
            f"waited {figures} for lent nodes, {taken.count} times" if taken.count else "never waited for lent nodes"
        )
        out.print(Text(f"{p.reservation}: its owner {waited}; {len(p.breaches)} times longer than promised"))


@click.command(epilog="\b\nExamples:\n  slurm-reserve idle --since 30d\n  slurm-reserve --json idle --since 7d")
@SINCE
@click.pass_context
def idle(ctx: click.Context, since: str | None) -> None:
    """Say of each reservation that Slurm has had how much lay idle, in gaps of what length.

    From Slurm's database alone, so before anything is lent, and of reservations that are none of ours too.
    """
    from slurm_reserve.evidence.collect import idle_of

    setting: Setting = ctx.obj
    begin, end = _period(since)
    found = idle_of(_database(setting.site()), begin, end)
    if setting.as_json:
        setting.show([asdict(each) | {"idle": each.idle} for each in found])
        return
    for each in found:
        share = f" ({each.idle / each.reserved:.0%})" if each.reserved else ""
        click.echo(
            f"{each.name}: {each.nodes} nodes, {each.reserved / HOUR:.1f} node-hours reserved, "
            f"{each.used / HOUR:.1f} used, {each.idle / HOUR:.1f} idle{share}"
        )
        for words, count, seconds in each.gaps:
            if count:
                click.echo(f"  gaps {words}: {count}, {seconds / HOUR:.1f} node-hours")
    if not found:
        click.echo("Slurm's database knows no reservation of that time")
