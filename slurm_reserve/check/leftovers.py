"""What one user could leave on a node for the next. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from slurm_reserve.check.finding import Finding, Level, has_none, printed
from slurm_reserve.view import View

# By these slurmd does not know a process any more that has put itself in the background.
LETS_GO = frozenset({"proctrack/pgid", "proctrack/linuxproc"})


def left_behind(view: View) -> Iterator[Finding]:
    """ProctrackType lets processes get away, and there is no Epilog that would look for them."""
    kind = printed(view, "ProctrackType")
    if kind in LETS_GO and has_none(view, "Epilog"):
        text = f"{kind} loses sight of what a job puts in the background, and it runs on beside the next user's job"
        remedy = "set ProctrackType=proctrack/cgroup, or install plugins/epilog/slurm-reserve-epilog on the nodes"
        yield Finding(Level.WARNING, "slurm.conf", text, remedy)
