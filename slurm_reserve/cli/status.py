"""`status`: nodes, loans, who waits."""

from __future__ import annotations

import fcntl
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from slurm_reserve.cli.common import Setting, console, look

if TYPE_CHECKING:
    from slurm_reserve.cycle import Result
    from slurm_reserve.site import Site


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve status\n  slurm-reserve status --watch\n  slurm-reserve --json status"
)
@click.option("--watch", is_flag=True, help="Keep showing it, until q or Ctrl-C.")
@click.option(
    "--interval", default=2.0, show_default=True, help="Seconds between two looks.", type=click.FloatRange(0.5)
)
@click.pass_context
def status(ctx: click.Context, watch: bool, interval: float) -> None:
    """Show for each reservation its nodes, its loans, who waits, and what was decided last. Changes nothing.

    An ordinary user is shown the reservations that they own, by the daemon. Ends with 1 while the daemon cannot write
    its journal or its ledger.
    """
    setting: Setting = ctx.obj
    if setting.as_json:
        found = _admins(setting)[1] if setting.is_admin() else _told(setting)
        setting.show(found)
        ctx.exit(1 if found.get("problems") else 0)

    from rich.text import Text

    from slurm_reserve.cli import board, watching

    if not setting.is_admin():
        if not watch:
            click.echo("\n".join(_of_owner(setting)))
        else:
            watching.watch(lambda: Text("\n".join(_of_owner(setting))), interval)
    elif watch:
        watching.watch(lambda: board.page(*_admins(setting)), interval)
    else:
        result, data = _admins(setting)
        console().print(board.page(result, data))
        ctx.exit(1 if data["problems"] else 0)


def _admins(setting: Setting) -> tuple[Result, dict[str, Any]]:
    """What would be decided now, and all of it that is shown."""
    result, remark = look(setting)
    return result, _data(result, remark)


def _told(setting: Setting) -> dict[str, Any]:
    """What the daemon tells an owner of what is theirs."""
    from slurm_reserve import control

    told = control.ask(setting.run_dir(), {"do": "status"})
    if told is None:
        where = setting.run_dir() / control.SOCKET_NAME
        raise control.OrderError(f"no daemon answers on {where}; it does not run, so tell an admin")
    return told


def _problems(site: Site) -> dict[str, str]:
    """What the daemon cannot write; where none says so, whether the journal can be read at all."""
    from slurm_reserve import control
    from slurm_reserve.evidence.reading import reading
    from slurm_reserve.journal import FILE_NAME, JournalError

    try:
        answer = control.ask(site.daemon.run_dir, {"do": "health"})
    except control.OrderError:
        answer = None
    if answer is not None:
        return dict(answer.get("problems", {}))
    path = site.daemon.state_dir / FILE_NAME
    try:
        if path.exists():
            with reading(path):
                return {}
    except PermissionError:  # closed to this user: no trouble of the daemon's
        return {}
    except (JournalError, OSError) as error:
        return {"journal": str(error)}
    return {}


def _of_owner(setting: Setting) -> list[str]:
    """The same in lines."""
    from slurm_reserve.durations import format_duration
    from slurm_reserve.words import printable

    said = []
    for name, each in _told(setting).get("reservations", {}).items():
        more = each["unmet"] or each["period"]
        lent = (
            "idle nodes are lent" if each["lending"] == "on" else f"nothing more is lent: {printable(each['lending'])}"
        )
        said.append(f"{name}: {lent}" + (f"; {more}" if more else ""))
        for node, seen in each["nodes"].items():
            said.append(f"  {node}: {seen['state']}" + "".join(f" {job}" for job in seen["jobs"]))
        said += [f"  job {job['job']} {job['verdict']}: {printable(job['why'])}" for job in each["waiting"]]
        said += [f"  {printable(text)}" for text in each["reports"]]
        longest = format_duration(timedelta(seconds=each["longest_wait_seconds"]))
        said.append(f"  you wait at most {longest} for lent nodes")
    return said


def is_running(site: Site) -> bool | None:
    """Whether a daemon holds the lock; None where that cannot be seen.

    The lock is shared among those who look: none of them takes another for a daemon.
    """
    from slurm_reserve.daemon import LOCK_NAME

    try:
        with (site.daemon.run_dir / LOCK_NAME).open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # closed to most users
        return None
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
        "problems": _problems(view.site),
        "reservations": reservations,
        "reports": dict(plan.reports),
        "waiting_borrowers": dict(plan.not_lent) | {loan.job.id: "about to be lent to" for loan in plan.loans},
        "remark": remark,
    }
