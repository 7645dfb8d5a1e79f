"""What :mod:`slurm_reserve.fit` says about real sbatch options, beside what Slurm then does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from slurm_reserve.fit import Answer, Room, fit
from slurm_reserve.lab import Lab, LabSpec, NodeSpec
from slurm_reserve.memory import Memory
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.view import View

from tests.builders import site
from tests.cluster.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.each_release]

# Four nodes: n1 empty, n2 with 3 of 4 CPUs in use, n3 with two GPUs, n4 full. All options are tried on these.
NODES = (
    NodeSpec("n1", cpus=4, memory_mb=4000, features=("intel", "ib")),
    NodeSpec("n2", cpus=4, memory_mb=4000, features=("intel",)),
    NodeSpec("n3", cpus=8, memory_mb=8000, features=("amd", "ib"), gres="gpu:2"),
    NodeSpec("n4", cpus=4, memory_mb=4000, features=("amd",)),
)
PARTITIONS = """\
PartitionName=main Nodes=ALL Default=YES PriorityTier=10
PartitionName=small Nodes=n[1-2] PriorityTier=10
PartitionName=whole Nodes=n[1,3] PriorityTier=10 OverSubscribe=EXCLUSIVE
"""
TABLE = """\
-n1
-n4
-n5
-n8
-n9
-n13
-n14
-N1 -n4
-N1 -n8
-N1 -n9
-N2
-N3
-N4
-N2-3
-N1-2 -n12
-N2 -n12
-N2 --ntasks-per-node=4
-N2 --ntasks-per-node=5
-N3 --ntasks-per-node=1
-N3 --ntasks-per-node=2
-n2 -c4
-n3 -c4
-n4 -c4
-n2 -c3
-n1 -c5
-n1 -c8
--mincpus=4
--mincpus=8
--mem=2000
--mem=4000
--mem=8000
-N2 --mem=3500
-N3 --mem=3500
-n4 --mem-per-cpu=1000
-n6 --mem-per-cpu=1000
-N1 -n6 --mem-per-cpu=1200
-n8 --mem-per-cpu=2000
--exclusive
--exclusive -N2
--exclusive -N3
--exclusive -n8
--gres=gpu:1
--gres=gpu:2
-N2 --gres=gpu:1
--gpus=2
--gpus-per-task=1 -n2
--gpus-per-task=1 -n2 -c4
-C intel
-C amd
-C ib -N2
-C intel -N2
-C intel&ib
-C intel&ib -N2
-C intel|ib -N3
-w n1
-w n2
-w n2 -n2
-w n4
-w n1,n3
-w n1,n2 -n5
-x n1
-x n3 -n8
-x n1,n3
-x n1,n3 -n2
-p small -n5
-p small -n6
-p small,main -n8
-p whole
-p whole -N2
-p small,whole -n8
""".splitlines()


@dataclass(frozen=True)
class Row:
    """One set of options, what was said and what happened."""

    options: str
    said: Answer
    why: str
    started: bool

    @property
    def is_right(self) -> bool:
        return self.said is Answer.UNPROVEN or (self.said is Answer.YES) == self.started


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    spec = LabSpec(
        nodes=NODES, partitions=PARTITIONS, slurm_conf=("SchedulerParameters=sched_min_interval=50000,bf_interval=1",)
    )
    with Lab.boot(spec) as lab:
        yield Stage(lab)


@pytest.fixture(scope="module")
def rows(stage: Stage) -> list[Row]:
    """Every set of options, submitted held, judged, then released on its own."""
    lab = stage.lab
    for options in (("-w", "n2", "-n3"), ("-w", "n4", "--exclusive")):
        stage.runs(stage.submit("carol", *options))
    slurm = CliSlurm(SlurmSettings(), wrap=lab.command)
    held = {}
    for options in TABLE:
        held[lab.sbatch("alice", "--hold", *options.split())] = options
    seen = slurm.observe()
    jobs = {job.id: job for job in seen.jobs}
    view = View(site(), seen, Memory())
    rooms = [Room.left(node) for node in seen.nodes.values()]
    found = []
    for job_id, options in held.items():
        said = fit(jobs[job_id], rooms, view.exclusive_partitions)
        found.append(Row(options, said.answer, said.why, _starts(stage, job_id)))
    return found


def _starts(stage: Stage, job_id: str) -> bool:
    """Release one job and see whether Slurm starts it; a job that it has considered carries a reason."""
    lab = stage.lab
    lab.run(["scontrol", "release", job_id])

    def considered() -> str:
        seen = stage.job(job_id)
        assert seen is not None
        settled = seen.state == "RUNNING" or seen.reason not in ("None", "Priority", "JobHeldUser")
        return seen.state if settled else ""

    state = stage.wait(considered, 15, f"job {job_id} is considered")
    lab.run(["scancel", job_id])
    stage.wait(lambda: stage.job(job_id) is None, 15, f"job {job_id} is gone")
    return state == "RUNNING"


def test_no_answer_is_wrong(rows: list[Row]) -> None:
    wrong = [row for row in rows if not row.is_right]
    assert len(rows) >= 40
    assert wrong == []


def test_few_cannot_be_proved(rows: list[Row], stage: Stage) -> None:
    """After 22.05 squeue does not tell a maximum of nodes that is lower than its own estimate."""
    assert len([row for row in rows if row.said is Answer.UNPROVEN]) <= (2 if stage.release() < (23, 2) else 8)


def test_both_answers_occur_often(rows: list[Row]) -> None:
    assert min(sum(row.started for row in rows), sum(not row.started for row in rows)) >= 15
