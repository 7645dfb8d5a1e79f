"""A slurmctld that was killed is started again, and what then goes wrong by Slurm's own doing is put right.

Both are seen on 22.05, with the daemon and without; where slurmctld has written everything down neither is needed.
"""

from __future__ import annotations

import signal
from contextlib import suppress

import psutil
from slurm_reserve.lab import Lab

NODES = ("n1", "n2", "n3", "n4")


def written(lab: Lab) -> float:
    """When slurmctld last wrote down what it knows of jobs, in seconds since 1970: a few seconds ago, usually."""
    path = f"{lab.directory}/state/job_state"
    return float(lab.run(["stat", "-c", "%.9Y", path], check=False).stdout or 0)


def start_again(lab: Lab) -> None:
    """Start it; where it has forgotten the start of a job, have each slurmd tell it at once what runs there.

    It asks them some seconds later anyway, but may start that job a second time until then. slurmd refuses that, and
    slurmctld drains the node ("Duplicate jobid") and holds the job.
    """
    known = written(lab)
    lab.start("slurmctld")
    if _has_begun_since(lab, known):
        for name in NODES:
            lab.kill(f"slurmd@{name}", signal.SIGHUP)


def _has_begun_since(lab: Lab, at: float) -> bool:
    """Whether a job has begun since then; in doubt, yes: the kernel tells its own start in whole seconds."""
    begun = []
    for step in lab.init.children():
        with suppress(psutil.Error):
            if step.name() == "slurmstepd":
                begun.append(step.create_time())
    return any(each > at - 1.5 for each in begun)


def mend(lab: Lab, job: str) -> None:
    """Start it once more, the clean way, where it has lost count of a node's CPUs in the lendable partition.

    One that forgot a requeue hears from slurmd that the job which it takes for running has ended, and takes the node
    from it. When it is requeued once more, there are "no nodes to be killed on", and its CPUs stay in use until
    slurmctld starts again. Owners' jobs are of another partition and start all the same; no borrower does.
    """
    log = lab.read("/run/slurm-lab/log/slurmctld.log")
    if f"deallocate_nodes: JobId={job} allocated no nodes to be killed on" in log:
        lab.stop("slurmctld")
        lab.start("slurmctld")
