"""`estimate`: what a borrower may expect."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_reserve.cli.common import Setting, console, look
from slurm_reserve.errors import ReserveError

if TYPE_CHECKING:
    from slurm_reserve.estimate import Estimate
    from slurm_reserve.view import View


MOST_OF_SCRIPT = 1_000_000  # characters; what a script asks for stands at its beginning


class UnknownJobError(ReserveError):
    """Neither a job that Slurm knows nor a script."""


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve estimate 1234\n  slurm-reserve estimate train.sh\n"
    "  slurm-reserve estimate --time 2h\n  slurm-reserve --json estimate train.sh"
)
@click.argument("what", required=False, metavar="[JOBID|SCRIPT]")
@click.option("--time", "limit", help="The time limit, such as 2h; that of the job or script by default.")
@click.pass_context
def estimate(ctx: click.Context, what: str | None, limit: str | None) -> None:
    """Say for how long a borrower is likely to run undisturbed, and the chance that it is evicted first.

    From how long the owners' nodes used to stay idle; "unknown" where too little is known of an owner. A guess to plan
    by, scored against what happens, and no promise.
    """
    from slurm_reserve.durations import parse_duration
    from slurm_reserve.estimate import of_node

    setting: Setting = ctx.obj
    result, remark = look(setting)
    view = result.view
    runs_for, nodes = _of(view, what)
    if limit is not None:
        runs_for = parse_duration(limit)
    found = [of_node(view, name, node, runs_for) for name, node in nodes or _idle(view)]
    scores = {name: {"forecasts": s.count, "lost": s.lost, "brier": s.brier} for name, s in view.memory.scores.items()}
    if setting.as_json:
        setting.show({"time_limit": runs_for, "estimates": found, "scores": scores, "remark": remark})
        return
    _print(found, runs_for, scores, remark)


def _of(view: View, what: str | None) -> tuple[timedelta | None, list[tuple[str, str]]]:
    """The time limit of a job or script, and the lent nodes that a running job has."""
    from slurm_reserve.slurm.script import time_limit
    from slurm_reserve.slurm.values import duration

    if what is None:
        return None, []
    job = next((job for job in view.cluster.jobs if job.id == what), None)
    if job is not None:
        ours = [spec.name for spec in view.site.reservations if spec.name in view.cluster.reservations]
        held = [(name, node) for name in ours for node in sorted(job.nodes & view.cluster.reservations[name].nodes)]
        return job.time_limit, held
    asked = time_limit(_script(what))
    try:
        return (duration(asked) if asked else None), []
    except ValueError as error:
        raise UnknownJobError(f"{what}: --time={asked} is no time limit; write one such as 2:00:00") from error


def _script(what: str) -> str:
    """Its beginning; raises UnknownJobError where it is no file, or one that cannot be read."""
    path = Path(what)
    try:
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                return file.read(MOST_OF_SCRIPT)
    except OSError as error:
        raise UnknownJobError(f"{what}: no job that Slurm knows, and no script to read: {error.strerror}") from error
    raise UnknownJobError(f"{what}: neither a job that Slurm knows nor a script; see squeue, or check the path")


def _idle(view: View) -> list[tuple[str, str]]:
    """The nodes that might be lent now."""
    return [
        (spec.name, node.name)
        for spec in view.site.reservations
        if spec.lend.enabled and spec.name in view.cluster.reservations
        for node in view.usable(view.cluster.reservations[spec.name].nodes)
        if node.name not in view.holders
    ]


def _print(found: list[Estimate], runs_for: timedelta | None, scores: dict[str, Any], remark: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from slurm_reserve.durations import format_duration

    out = console()
    if remark:
        out.print(Text(remark, style="yellow"))
    limit = f"a time limit of {format_duration(runs_for)}" if runs_for else "no time limit"
    if not found:
        out.print("no reserved node is idle now")
    else:
        table = Table(
            box=None, pad_edge=False, title=f"for a job with {limit}" if found else None, title_justify="left"
        )
        for title in ("reservation", "node", "undisturbed for", "chance of loss"):
            table.add_column(title)
        for each in found:
            spared = format_duration(each.undisturbed) if each.undisturbed is not None else "unknown"
            chance = f"{each.chance_of_loss:.0%}" if each.chance_of_loss is not None else "unknown"
            table.add_row(each.reservation, each.node, spared, chance)
        out.print(table)
    for name, score in scores.items():
        said = f"{name}: of {score['forecasts']} forecasts {score['lost']} were lost, Brier score {score['brier']:.2f}"
        out.print(Text(f"{said} (0 is perfect, 0.25 a coin)", style="dim"))
