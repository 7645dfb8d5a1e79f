"""slurmctld with the shipped plugin: nobody gets into a lend reservation by naming it, and the daemon goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from slurm_reserve.lab import Lab, LabError, LabSpec

from tests.cluster.conftest import QUICK
from tests.cluster.plugins import with_guard
from tests.cluster.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.each_release]
SITE_SCRIPT = """
function slurm_job_submit(job, known, uid)
  if job.name == "unwanted" then slurm.log_user("%s", "not on this site") return slurm.ERROR end
  if job.name == "broken" then error("a bug of the site's") end
  return slurm.SUCCESS
end
function slurm_job_modify(change, job, known, uid) return slurm.SUCCESS end
return slurm.SUCCESS
"""


@pytest.fixture(scope="module")
def guarded() -> Iterator[Lab]:
    lines = with_guard(QUICK, **{"job_submit_site.lua": SITE_SCRIPT})
    with Lab.boot(LabSpec(kill_wait=5, **lines)) as lab:
        yield lab


@pytest.fixture
def stage(guarded: Lab) -> Iterator[Stage]:
    guarded.clean()
    made = Stage(guarded)
    yield made
    made.close()


def update(stage: Stage, user: str, job: str, *changes: str) -> str:
    """What scontrol says to it; empty when it is done."""
    done = stage.lab.run(["scontrol", "update", f"jobid={job}", *changes], user=user, check=False)
    return done.stderr.strip()


@pytest.mark.behaviour("B8")
@pytest.mark.trap(5)
def test_an_ordinary_job_that_names_a_lend_reservation_is_refused(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    stage.runs(stage.borrow("bob"), "n1")  # so physics.lend is there and admits bob
    for options in (("-p", "main"), (), ("-p", "preempt,main")):
        with pytest.raises(LabError, match=r"(?s)physics.lend is a lend reservation.*Access(/permission)? denied"):
            stage.submit("bob", *options, "--reservation=physics.lend")
    with pytest.raises(LabError, match="is a lend reservation"):
        stage.submit("root", "--uid=bob", "--reservation=physics.lend")
    interactive = stage.lab.run(["srun", "-p", "main", "--reservation=physics.lend", "true"], "bob", check=False)
    assert "is a lend reservation" in interactive.stderr
    stage.submit("bob", "-p", "main")


@pytest.mark.behaviour("B8")
@pytest.mark.trap(4)
def test_a_job_cannot_be_made_ordinary_while_it_is_lent_to(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    stage.end(signal.SIGKILL)  # so that nothing but the plugin is there
    waiting = stage.borrow("bob", "--exclusive", "--reservation=physics.lend")
    ordinary = stage.submit("bob", "-p", "main", "--exclusive")
    for user in ("bob", "slurm"):  # nor by an operator
        assert "denied" in update(stage, user, waiting, "partition=main")
        assert "denied" in update(stage, user, waiting, "partition=main,preempt")
        assert "denied" in update(stage, user, ordinary, "reservationname=physics.lend")
    stage.lab.run(["scontrol", "requeue", borrower])
    stage.wait(lambda: stage.jobs()[borrower].state == "PENDING", 15, "it waits again")
    assert "denied" in update(stage, "bob", borrower, "partition=main", "starttime=now")
    back = ("reservationname=", "partition=main")
    stage.wait(lambda: update(stage, "bob", borrower, *back) == "", 15, "it becomes ordinary elsewhere")
    assert update(stage, "bob", waiting, "jobname=other") == ""


def test_the_daemon_lends_and_takes_back_under_the_guard(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    stage.waits(borrower)
    stage.cancel(owners)
    stage.runs(borrower, "n1")


def test_the_sites_own_script_goes_on_and_may_fail(stage: Stage) -> None:
    with pytest.raises(LabError, match="not on this site"):
        stage.submit("bob", "-J", "unwanted")
    stage.submit("bob", "-J", "broken")
    assert "a bug of the site's" in stage.lab.read("/run/slurm-lab/log/slurmctld.log")


def test_slurmctld_does_without_the_daemon_and_its_folder(stage: Stage) -> None:
    folder = f"{stage.folder}/run"
    for made in (["true"], ["mkdir", folder], ["mkfifo", f"{folder}/wake"]):
        stage.lab.run(made)
        stage.runs(stage.submit("bob"))
    stage.lab.run(["sh", "-c", f"rm {folder}/wake; : > {folder}/wake; chmod 0 {folder}/wake"])
    stage.runs(stage.submit("bob"))
    stage.lab.run(["sh", "-c", f"rm -r {folder}; mkdir {folder}; mount -t tmpfs -o size=4k none {folder}"])
    try:
        fill = f"head -c 4096 /dev/zero > {folder}/wake; chown slurm {folder}/wake"
        stage.lab.run(["sh", "-c", fill])
        stage.runs(stage.submit("bob"))
        assert stage.lab.run(["stat", "-c", "%s", f"{folder}/wake"]).stdout == "4096\n"
    finally:
        stage.lab.run(["umount", folder])
