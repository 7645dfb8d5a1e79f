"""`lend`, `reclaim`, `pause` and `resume`: standing orders."""

from __future__ import annotations

import getpass
import os
from datetime import datetime, timedelta
from typing import Any

import click

from slurm_reserve import control
from slurm_reserve.cli.common import Setting, ledger_of, now, reservation_names
from slurm_reserve.site import Site


def _give(ctx: click.Context, order: dict[str, Any], dry_run: bool) -> None:
    """To the daemon, or to the ledger where none runs; both do the same."""
    setting: Setting = ctx.obj
    if dry_run:
        said = f"would order: {order['do']} {order.get('reservation', '')}".strip()
    else:
        reply = control.give(setting.run_dir(), order)
        if reply is None:
            with ledger_of(_writable(setting.site())) as ledger:
                reply = control.apply(ledger, order, now()) + " (no daemon runs; it will be heeded by the next)"
        said = reply
    if setting.as_json:
        setting.show({"order": order, "text": said, "dry_run": dry_run})
    else:
        click.echo(said)


def _writable(site: Site) -> Site:
    """Without a daemon an order is left for the next, by those who may."""
    folder = site.daemon.state_dir
    if folder.exists() and not os.access(folder, os.W_OK):
        raise control.OrderError("no daemon runs, and only root or its own user may leave an order for the next")
    return site


def _known(setting: Setting, name: str) -> None:
    """Raise UnknownReservationError; others than admins need not be able to read the site file: the daemon says it."""
    if setting.is_admin():
        setting.spec(setting.site(), name)


def _nodes_of(setting: Setting, name: str) -> frozenset[str] | None:
    """The nodes of a reservation; Slurm is asked where it is only declared how many of a kind."""
    from slurm_reserve import cycle

    site = setting.site()
    spec = setting.spec(site, name)
    if isinstance(spec.nodes, frozenset):
        return spec.nodes
    return control.nodes_of(spec, cycle.observe(site, setting.slurm(site)).reservations.get(name))


DRY = click.option("--dry-run", is_flag=True, help="Say what would be ordered, and do nothing.")
NAME = click.argument("name", shell_complete=reservation_names)


@click.command(epilog="\b\nExamples:\n  slurm-reserve pause\n  slurm-reserve pause --dry-run")
@DRY
@click.pass_context
def pause(ctx: click.Context, dry_run: bool) -> None:
    """Lend nothing new, anywhere, until `resume`; reclaim goes on. Persists over restarts."""
    _give(ctx, {"do": "pause"}, dry_run)


@click.command(epilog="\b\nExample:\n  slurm-reserve resume")
@DRY
@click.pass_context
def resume(ctx: click.Context, dry_run: bool) -> None:
    """Lend again after a pause."""
    _give(ctx, {"do": "resume"}, dry_run)


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve lend physics off\n  slurm-reserve lend physics on\n"
    "  slurm-reserve lend physics until 18:00"
)
@NAME
@click.argument("what", type=click.Choice(["on", "off", "until"]))
@click.argument("time", required=False)
@DRY
@click.pass_context
def lend(ctx: click.Context, name: str, what: str, time: str | None, dry_run: bool) -> None:
    """Turn lending of a reservation on or off, whatever the site file says.

    `off` takes back what is lent, with the declared notice. `until TIME` lends until then, takes back, and lends no
    more until `on`. Owners may do this themselves while the daemon runs, where the site lets them.
    """
    from slurm_reserve.durations import parse_time

    if (what == "until") != (time is not None):
        raise click.UsageError("`until` takes a time, `on` and `off` take none")
    _known(ctx.obj, name)
    until = parse_time(time, datetime.now().astimezone()) if time else None
    if until is not None and until <= now():
        raise control.OrderError(f"{until:%Y-%m-%d %H:%M:%S %Z} is over; write a time that is yet to come")
    said = until and until.isoformat()
    _give(ctx, {"do": "lend", "reservation": name, "enabled": what != "off", "until": said}, dry_run)


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve reclaim physics\n  slurm-reserve reclaim physics --nodes n1 --for 2h"
)
@NAME
@click.option("--nodes", default="", help="Only these nodes, such as n[1-2]; all of them by default.")
@click.option("--for", "how_long", default="1h", show_default=True, help="Not lent again for so long.")
@DRY
@click.pass_context
def reclaim(ctx: click.Context, name: str, nodes: str, how_long: str, dry_run: bool) -> None:
    """Take lent nodes back now, with the declared notice, and do not lend them for a while.

    Orders for other nodes go on; one for the very same nodes takes the place of the one before. An owner's ends none
    sooner that somebody else gave.
    """
    from slurm_reserve import hostlist
    from slurm_reserve.durations import parse_duration

    _known(ctx.obj, name)
    until: datetime = now() + max(parse_duration(how_long), timedelta(seconds=1))
    names = sorted(hostlist.expand(nodes))
    if names and ctx.obj.is_admin():
        control.refuse_unknown(name, names, _nodes_of(ctx.obj, name))
    order = {"do": "reclaim", "reservation": name, "nodes": names, "until": until.isoformat(), "by": getpass.getuser()}
    _give(ctx, order, dry_run)


@click.command(epilog="\b\nExamples:\n  slurm-reserve restore physics\n  slurm-reserve restore physics --dry-run")
@NAME
@DRY
@click.pass_context
def restore(ctx: click.Context, name: str, dry_run: bool) -> None:
    """Make a reservation in Slurm what is declared, although somebody changed it by hand more than once.

    The daemon undoes the first change, and then leaves and reports what is changed again.
    """
    _known(ctx.obj, name)
    _give(ctx, {"do": "restore", "reservation": name}, dry_run)
