"""How gently borrowers go: their own signal, more time, staying after all, coming back, being held; and their word."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}
JOBS = Path(__file__).parents[2] / "configs" / "jobs"
BACK = 'scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"'


def start(stage: Stage, lending: dict[str, object] | None = None, **reclaim: object) -> None:
    """n1 is alice's, everything else is full."""
    stage.keys["lending"] = {"partitions": ["preempt"], **(lending or {})}
    stage.start(physics={"owner": ALICE, "nodes": "n1", "reclaim": reclaim})
    stage.fill("n2", "n3", "n4")


def borrow(stage: Stage, script: str, *options: str, where: str = "n1") -> str:
    """A borrower with a script of its own, running; it writes what it says to its home."""
    job = stage.lab.sbatch("bob", "-p", "preempt", "--exclusive", *options, script=f"#!/bin/bash\n{script}\n")
    stage.runs(job, where)
    stage.wait(lambda: is_there(stage, "ready"), 15, "the script has begun")
    return job


def is_there(stage: Stage, name: str) -> bool:
    """Whether the script has made a file of that name in its home."""
    return stage.lab.run(["test", "-e", f"{stage.lab.spec.home('bob')}/{name}"], check=False).returncode == 0


@pytest.fixture(autouse=True)
def home(stage: Stage) -> None:
    """Nothing of an earlier test in bob's home."""
    stage.lab.run(["sh", "-c", 'rm -rf "$1"/*', "sh", str(stage.lab.spec.home("bob"))])


def comment(stage: Stage, job: str) -> str:
    shown = stage.lab.run(["squeue", "-h", "-t", "all", "-j", job, "-O", "Comment:0"]).stdout
    return shown.strip()


LOOP = "touch ready; while :; do sleep 0.1; done"


@pytest.mark.behaviour("B35")
def test_a_jobs_own_signal_is_sent_and_one_that_says_it_has_saved_frees_the_node_at_once(stage: Stage) -> None:
    start(stage, notice="100s", signal="TERM")
    job = borrow(stage, f"#SBATCH --signal=B:USR2@60 --comment=mine\ntrap 'touch saved; {BACK}' USR2\n{LOOP}")
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1", timeout=15)
    assert is_there(stage, "saved")
    assert stage.waits(job).user == "bob"
    stage.wait(lambda: "slurm_reserve" in comment(stage, job), 15, "its user can read why")
    assert comment(stage, job).startswith("mine [slurm_reserve: evicted once, last ")
    assert comment(stage, job).endswith(f", for job {owners} of alice]")
    stage.cancel(owners)
    stage.runs(job, "n1", timeout=30)  # not after Slurm's two minutes
    assert stage.field(job, "Restarts") == "1"
    assert stage.field(job, "Reservation") == "physics.lend"


@pytest.mark.behaviour("B35")
def test_a_job_that_is_still_writing_gets_the_time_that_the_owner_allows(stage: Stage) -> None:
    start(stage, notice="5s", signal="USR1", extra_time="40s")
    ask = 'scontrol update JobId=$SLURM_JOB_ID Comment="more=60"'
    job = borrow(stage, f"trap '{ask}; sleep 9; touch saved; exit 0' USR1\n{LOOP}")
    stage.runs(stage.submit("alice", "--exclusive"), "n1", timeout=30)
    assert stage.field(job, "JobState") == "COMPLETED"  # not cut off after its five seconds


@pytest.mark.behaviour("B35")
def test_a_borrower_that_was_told_to_go_stays_when_the_demand_goes_and_is_told_that_too(stage: Stage) -> None:
    start(stage, notice="100s", signal="USR1")
    job = borrow(stage, f"trap 'touch told' USR1; trap 'touch may_stay' CONT\n{LOOP}")
    owners = stage.submit("alice", "--exclusive")
    stage.wait(lambda: is_there(stage, "told"), 15, "the borrower is told")
    assert not is_there(stage, "may_stay")
    stage.cancel(owners)
    stage.wait(lambda: is_there(stage, "may_stay"), 15, "the borrower is told that it may stay")
    assert stage.runs(job, "n1")
    assert stage.field(job, "Restarts") == "0"


@pytest.mark.behaviour("B23")
def test_a_job_evicted_as_often_as_the_site_allows_is_held_until_its_user_releases_it(stage: Stage) -> None:
    start(stage, {"max_evictions": 2})
    job = stage.borrow("bob", "--exclusive")
    for times in (1, 2):
        stage.runs(job, "n1", timeout=30)
        if times == 2:
            stage.end()  # the count survives the daemon
            stage.restart()
        owners = stage.submit("alice", "--exclusive")
        stage.runs(owners, "n1")
        stage.waits(job)
        stage.wait(lambda n=times: f"evicted {'once' if n == 1 else '2 times'}" in comment(stage, job), 20, "noted")
        stage.cancel(owners)
    stage.wait(lambda: stage.jobs()[job].reason == "JobHeldUser", 15, "the job is held")
    stage.wait(lambda: f"scontrol release {job}" in comment(stage, job), says="its user is told what to do")
    stage.lab.run(["scontrol", "release", job], user="bob")
    stage.runs(job, "n1", timeout=30)


@pytest.mark.behaviour("B23")
def test_a_job_that_cannot_be_requeued_ends_with_a_reason(stage: Stage) -> None:
    start(stage)
    job = stage.borrow("bob", "--exclusive", "--no-requeue")
    stage.runs(job, "n1")
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    assert stage.field(job, "JobState") == "CANCELLED"
    assert f"for job {owners} of alice: job {owners} of alice needs n1]" in comment(stage, job)


@pytest.mark.behaviour("B23")
def test_what_would_be_lost_is_not_lent_to_where_the_site_says_so(stage: Stage) -> None:
    start(stage, {"refuse": ["interactive", "no_requeue", "overwrites"]})
    append = "#!/bin/bash\n#SBATCH -p preempt --exclusive --open-mode=append\nsleep 1000\n"
    stubborn = stage.lab.sbatch("bob", "--no-requeue", script=append)
    careless = stage.borrow("bob", "--exclusive")
    for why in ("not to be requeued", "it would overwrite its output"):
        stage.wait(lambda why=why: why in " ".join(stage.cli("plan").stdout.split()), 15, "the plan says why")
    stage.runs(stage.lab.sbatch("dave", script=append), "n1")
    assert all(stage.waits(job).reservation in ("", "(null)") for job in (stubborn, careless))


def test_a_borrower_is_left_the_run_time_that_it_was_promised(stage: Stage) -> None:
    start(stage, min_run_time="8s")
    job = stage.borrow("bob", "--exclusive")
    stage.runs(job, "n1")
    started = datetime.fromisoformat(stage.field(job, "StartTime")).astimezone()
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1", timeout=30)
    (evicted,) = stage.wait(
        lambda: [e for e in stage.journal("outcome") if e["text"].startswith(f"requeue job {job}")], says="it is noted"
    )
    assert (datetime.fromisoformat(evicted["at"]) - started).total_seconds() >= 8
    assert "8s" in stage.cli("show", "physics").stdout


@pytest.mark.behaviour("B23", "B35")
def test_jobs_that_save_their_work_finish_with_the_same_answer_after_five_evictions(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n[1-3]", "reclaim": {"notice": "30s"}})
    stage.fill("n4")
    home = stage.lab.spec.home("bob")
    work = {"steps.sh": "60", "checkpoint.py": "1500", "train.py": "60"}
    jobs = {}
    for name, size in work.items():
        stage.lab.put(f"{home}/{name}", counting((JOBS / name).read_text()), mode=0o755, user="bob")
        argv = ["--exclusive", f"{home}/{name}", size, f"{home}/{name}.work"]
        jobs[name] = stage.lab.run(["sbatch", "--parsable", "-o", "/dev/null", *argv], user="bob").stdout.strip()
    for times in range(1, 6):
        for job in jobs.values():
            stage.runs(job, timeout=40)
        for job in jobs.values():
            stage.heeds(job, signal.SIGUSR1)
        time.sleep(0.5)  # so that each run does something
        owners = stage.submit("alice", "--exclusive", "-N3")
        stage.runs(owners, timeout=30)
        stage.cancel(owners)
        assert {stage.field(job, "Restarts") for job in jobs.values()} == {str(times)}
    stage.wait(lambda: not [j for j in stage.jobs().values() if j.id in jobs.values()], 120, "all three finish")
    for name, job in jobs.items():
        assert (name, stage.field(job, "JobState")) == (name, "COMPLETED")
    answers = {name: stage.lab.read(f"{home}/{name}.work/answer").strip() for name in work}
    assert answers["steps.sh"] == str(sum(n * n for n in range(1, 61)))
    assert answers["checkpoint.py"] == f"{sum(n * n for n in range(1, 1501))} 1500"  # and nothing done twice
    did = {name: len(stage.lab.read(f"{home}/{name}.work/did").split()) for name in ("steps.sh", "train.py")}
    assert did == {"steps.sh": 60, "train.py": 600}  # in all runs together: no step, and no batch, twice
    assert answers["train.py"] == _undisturbed(stage, "train.py", "60")


def counting(script: str) -> str:
    """The same script, which also writes down each piece of work that it begins."""
    script = script.replace("{ sleep 0.5;", '{ echo "$next" >>"$folder/did"; sleep 0.5;')
    return script.replace("train_on(state, [", '(folder / "did").open("a").write("x\\n"); train_on(state, [')


def _undisturbed(stage: Stage, name: str, size: str) -> str:
    """The answer of the same script, run in one go."""
    home = stage.lab.spec.home("bob")
    stage.lab.run([f"{home}/{name}", size, f"{home}/{name}.alone"], user="bob")
    return stage.lab.read(f"{home}/{name}.alone/answer").strip()
