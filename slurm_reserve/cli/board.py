"""The page that `status` shows: nodes, loans, who waits, what was decided last."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from slurm_reserve import hostlist
from slurm_reserve.cycle import Result
from slurm_reserve.durations import format_duration
from slurm_reserve.errors import ReserveError
from slurm_reserve.evidence.reading import reading
from slurm_reserve.journal import FILE_NAME
from slurm_reserve.model import Job
from slurm_reserve.view import View
from slurm_reserve.words import printable

MOST_DECISIONS = 6
BAR = 20  # characters of a loan's progress


DAEMON = {
    True: "the daemon runs",
    False: "the daemon does not run",
    None: "whether the daemon runs cannot be seen, for its lock cannot be read",
}
STYLES = {"owner": "blue", "lent": "green", "idle": "", "down": "red", "others": "yellow"}


def page(result: Result, data: dict[str, Any]) -> Group:
    """All of it; what matters most comes first, for a screen may be short."""
    view = result.view
    return Group(*_head(view, data), _nodes(data), *_loans(view), *_waits(data), *_decisions(view))


def _head(view: View, data: dict[str, Any]) -> list[Text]:
    """What holds for the whole of it."""
    daemon = DAEMON[data["daemon_runs"]]
    head = f"{view.site.cluster}, {view.cluster.at.astimezone():%H:%M:%S}: {daemon}"
    parts = [Text(head + (", lending is paused" if data["paused"] else ""), style="bold")]
    for what, why in data["problems"].items():
        parts.append(Text(f"the {what} cannot be written, so nothing new is lent: {printable(why)}", style="red"))
    if data["remark"]:
        parts.append(Text(data["remark"], style="yellow"))
    if data["brake"]:
        parts.append(Text(f"the brake is on: {data['brake']}; `slurm-reserve resume` takes it off", style="red"))
    if (load := view.memory.load).limit:
        said = f"asks slurmctld {load.calls_per_second:.1f} times a second of at most {load.limit:g}, which takes "
        parts.append(Text(f"{said}{load.share_of_core:.1%} of a core; looks every {load.interval:.0f} s", style="dim"))
    return parts


def _nodes(data: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("reservation", "node", "state", "jobs"):
        table.add_column(title, overflow="fold")
    for name, each in data["reservations"].items():
        for node, seen in each["nodes"].items():
            jobs = ", ".join(f"{job['id']} {printable(job['user'], 20)}" for job in seen["jobs"][:4])
            table.add_row(name, node, Text(seen["state"], style=STYLES[seen["state"]]), Text(jobs))
        if not each["nodes"]:
            table.add_row(name, "-", Text("not there", style="red"), Text(each["unmet"]))
    return table


def _waits(data: dict[str, Any]) -> list[Text]:
    """Owners' jobs, why nothing is lent, reports, and borrowers that wait."""
    parts = []
    for name, each in data["reservations"].items():
        parts += [
            Text(f"{name}: job {w['job']} of {printable(w['user'], 20)} {w['verdict']}: {printable(w['why'])}")
            for w in each["waiting"]
        ]
        if each["not_lent_because"]:
            parts.append(Text(f"{name}: nothing new is lent: {each['not_lent_because']}", style="yellow"))
    reports = [f"{subject}: {printable(text)}" for subject, text in data["reports"].items()]
    parts += [Text(text, style="yellow") for text in reports[:20]]
    if len(reports) > 20:
        more = f"and {len(reports) - 20} more reports; `slurm-reserve --json plan` has them"
        parts.append(Text(more, style="yellow"))
    waiting = list(data["waiting_borrowers"].items())
    parts += [Text(f"waiting borrower {job}: {printable(why)}") for job, why in waiting[:10]]
    if len(waiting) > 10:
        parts.append(Text(f"and {len(waiting) - 10} more waiting borrowers"))
    return parts


def _loans(view: View) -> list[Table]:
    """Borrowers on lent nodes, and how far they are of what they asked for."""
    lent = {
        node for name, there in view.cluster.reservations.items() if name in view.lend_names for node in there.nodes
    }
    jobs = [job for job in view.cluster.jobs if job.nodes & lent and view.is_borrower(job)]
    if not jobs:
        return []
    table = Table(box=None, pad_edge=False)
    for title in ("loan", "user", "nodes", "runs for", "of"):
        table.add_column(title, overflow="fold")
    for job in jobs[:20]:
        cells = (job.id, printable(job.user, 20), hostlist.fold(job.nodes), *_progress(job, view.cluster.at))
        table.add_row(*map(Text, cells))
    return [table]


def _progress(job: Job, now: datetime) -> tuple[str, str]:
    """How long it has run; and its limit, with a bar."""
    if job.started is None:
        return "", ""
    ran = max(now - job.started, timedelta(0))
    if not job.time_limit:
        return format_duration(ran), "no limit"
    done = min(round(BAR * (ran / job.time_limit)), BAR)
    return format_duration(ran), f"{format_duration(job.time_limit)} {'#' * done}{'.' * (BAR - done)}"


def _decisions(view: View) -> list[Text]:
    """What was decided last; nothing where the journal cannot be read, which is told elsewhere."""
    try:
        with reading(view.site.daemon.state_dir / FILE_NAME) as reader:
            latest = reader.latest(MOST_DECISIONS)
    except (ReserveError, OSError):
        return []
    said = [Text(f"{e.at.astimezone():%H:%M:%S} {printable(e.text, 300)}", style="dim") for e in latest]
    return [Text("decided last:", style="bold"), *said] if said else []
