"""`status`: nodes, loans, who waits."""

from __future__ import annotations

import fcntl
import time
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from slurm_reserve.cli.common import Setting, console, look

if TYPE_CHECKING:
    from rich.console import Group

    from slurm_reserve.cycle import Result
    from slurm_reserve.site import Site


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve status\n  slurm-reserve status --watch\n  slurm-reserve --json status"
)
@click.option("--watch", is_flag=True, help="Keep showing it, until Ctrl-C.")
@click.option(
    "--interval", default=2.0, show_default=True, help="Seconds between two looks.", type=click.FloatRange(0.5)
)
@click.pass_context
def status(ctx: click.Context, watch: bool, interval: float) -> None:
    """Show for each reservation its nodes, its loans and who waits. Changes nothing.

    An ordinary user is shown the reservations that they own, by the daemon.
    """
    setting: Setting = ctx.obj
    if not setting.is_admin():
        _of_owner(setting)
    elif setting.as_json:
        setting.show(_data(*look(setting)))
    elif watch:
        _watch(setting, interval)
    else:
        console().print(_page(*look(setting)))


def _of_owner(setting: Setting) -> None:
    """What the daemon tells an owner of what is theirs."""
    from slurm_reserve import control
    from slurm_reserve.durations import format_duration
    from slurm_reserve.words import printable

    answer = control.ask(setting.run_dir(), {"do": "status"}) or {}
    if setting.as_json:
        setting.show(answer)
        return
    for name, each in answer["reservations"].items():
        said = each["unmet"] or each["period"]
        lent = (
            "idle nodes are lent" if each["lending"] == "on" else f"nothing more is lent: {printable(each['lending'])}"
        )
        click.echo(f"{name}: {lent}" + (f"; {said}" if said else ""))
        for node, seen in each["nodes"].items():
            click.echo(f"  {node}: {seen['state']}" + "".join(f" {job}" for job in seen["jobs"]))
        for job in each["waiting"]:
            click.echo(f"  job {job['job']} {job['verdict']}: {printable(job['why'])}")
        for text in each["reports"]:
            click.echo(f"  {printable(text)}")
        longest = format_duration(timedelta(seconds=each["longest_wait_seconds"]))
        click.echo(f"  you wait at most {longest} for lent nodes")


def _watch(setting: Setting, interval: float) -> None:
    from rich.live import Live

    with Live(_page(*look(setting)), console=console(), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(interval)
                live.update(_page(*look(setting)), refresh=True)
        except KeyboardInterrupt:
            return


def is_running(site: Site) -> bool:
    """Whether a daemon holds the lock."""
    from slurm_reserve.daemon import LOCK_NAME

    try:
        with (site.daemon.run_dir / LOCK_NAME).open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _data(result: Result, remark: str) -> dict[str, Any]:
    from slurm_reserve import standing

    view, plan = result.view, result.plan
    reservations = {}
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        nodes = sorted(there.nodes) if there else []
        reservations[spec.name] = {
            "is_there": there is not None,
            "nodes": {
                name: {"state": state, "jobs": [{"id": j.id, "user": j.user, "since": j.started} for j in holders]}
                for name in nodes
                for state, holders in [standing.state(view, spec, name)]
            },
            "waiting": [
                {"job": d.job.id, "user": d.job.user, "verdict": str(d.verdict), "why": d.why}
                for d in plan.decisions
                if d.reservation == spec.name
            ],
            "not_lent_because": plan.withheld.get(spec.name, ""),
            "unmet": plan.unmet.get(spec.name, ""),
        }
    orders = view.memory.orders
    return {
        "at": view.cluster.at,
        "daemon_runs": is_running(view.site),
        "paused": orders.paused,
        "slurmctld": asdict(view.memory.load),
        "brake": plan.brake,
        "reservations": reservations,
        "reports": dict(plan.reports),
        "waiting_borrowers": dict(plan.not_lent) | {loan.job.id: "about to be lent to" for loan in plan.loans},
        "remark": remark,
    }


def _page(result: Result, remark: str) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from slurm_reserve.words import printable

    view = result.view
    data = _data(result, remark)
    daemon = "runs" if data["daemon_runs"] else "does not run"
    head = f"{view.site.cluster}, {view.cluster.at.astimezone():%H:%M:%S}: the daemon {daemon}"
    parts: list[Any] = [Text(head + (", lending is paused" if data["paused"] else ""), style="bold")]
    table = Table(box=None, pad_edge=False)
    for title in ("reservation", "node", "state", "jobs"):
        table.add_column(title, overflow="fold")
    styles = {"owner": "blue", "lent": "green", "idle": "", "down": "red", "others": "yellow"}
    for name, each in data["reservations"].items():
        for node, seen in each["nodes"].items():
            jobs = ", ".join(f"{job['id']} {printable(job['user'], 20)}" for job in seen["jobs"][:4])
            table.add_row(name, node, Text(seen["state"], style=styles[seen["state"]]), Text(jobs))
        if not each["nodes"]:
            table.add_row(name, "-", Text("not there", style="red"), Text(each["unmet"]))
    if (load := view.memory.load).limit:
        said = f"asks slurmctld {load.calls_per_second:.1f} times a second of at most {load.limit:g}, which takes "
        parts.append(Text(f"{said}{load.share_of_core:.1%} of a core; looks every {load.interval:.0f} s", style="dim"))
    if data["brake"]:
        parts.append(Text(f"the brake is on: {data['brake']}; `slurm-reserve resume` takes it off", style="red"))
    parts.append(table)
    for name, each in data["reservations"].items():
        parts += [
            Text(f"{name}: job {w['job']} of {printable(w['user'], 20)} {w['verdict']}: {w['why']}")
            for w in each["waiting"]
        ]
        if each["not_lent_because"]:
            parts.append(Text(f"{name}: nothing new is lent: {each['not_lent_because']}", style="yellow"))
    reports = [f"{subject}: {printable(text)}" for subject, text in data["reports"].items()]
    parts += [Text(text, style="yellow") for text in reports[:20]]
    if len(reports) > 20:
        parts.append(
            Text(f"and {len(reports) - 20} more reports; `slurm-reserve --json plan` has them", style="yellow")
        )
    waiting = list(data["waiting_borrowers"].items())
    parts += [Text(f"waiting borrower {job}: {printable(why)}") for job, why in waiting[:10]]
    if len(waiting) > 10:
        parts.append(Text(f"and {len(waiting) - 10} more waiting borrowers"))
    return Group(*parts)
