"""Nothing of one user is left for the next, on a real slurmd that does not follow what daemonises itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.conftest import QUICK
from tests.cluster.plugins import PRIVATE, REPORT, put_epilog
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
# A session of its own, forked twice, not minding SIGTERM; and a private folder, with a name that is hard to read.
DAEMON = """(setsid sh -c 'trap "" TERM HUP; echo $$ >child-$SLURM_JOB_ID; exec sleep 1000' <&- >/dev/null 2>&1 &)
umask 077; mkdir "$TMPDIR/private-$SLURM_JOB_ID"; touch "$TMPDIR/private-$SLURM_JOB_ID/-rf
x"; sleep 1000"""
# The next user looks around as soon as it runs.
LOOK = """for child in ~bob/child-* ~alice/child-*; do
[ ! -s "$child" ] || [ ! -d "/proc/$(cat "$child")" ] || echo "$child" >>all-$SLURM_JOB_ID; done
ls -d "$TMPDIR"/private-* >>all-$SLURM_JOB_ID; mv all-$SLURM_JOB_ID seen-$SLURM_JOB_ID; sleep 1000"""


@pytest.fixture(scope="module")
def cleaned() -> Iterator[Lab]:
    with Lab.boot(LabSpec(kill_wait=2, slurm_conf=(QUICK,))) as lab:
        put_epilog(lab)
        yield lab


@pytest.fixture
def stage(cleaned: Lab) -> Iterator[Stage]:
    cleaned.clean()
    cleaned.run(["sh", "-c", f'rm -rf /run/slurm-lab/home/*/child-* /run/slurm-lab/home/*/seen-* "$0" {REPORT}',
                 PRIVATE.replace("%j", "*")])  # fmt: skip
    made = Stage(cleaned)
    yield made
    made.close()
    made.replay()


def child(stage: Stage, user: str, job: str) -> str:
    """The process that the job has left to itself, once it is there."""
    path = f"{stage.lab.spec.home(user)}/child-{job}"
    private = PRIVATE.replace("%j", job)
    stage.wait(lambda: stage.lab.run(["ls", private], check=False).stdout, 20, f"job {job} has its folder")

    def written() -> str:
        return stage.lab.run(["cat", path], check=False).stdout.strip()

    return stage.wait(written, 20, f"{path} is written")


def is_alive(stage: Stage, process: str) -> bool:
    return stage.lab.run(["test", "-d", f"/proc/{process}"], check=False).returncode == 0


def reports(stage: Stage) -> list[dict[str, Any]]:
    text = stage.lab.run(["cat", REPORT], check=False).stdout
    return [json.loads(line) for line in text.splitlines()]


def seen(stage: Stage, user: str, job: str) -> str:
    """What the job found of others."""
    path = f"{stage.lab.spec.home(user)}/seen-{job}"
    stage.wait(lambda: stage.lab.run(["test", "-e", path], check=False).returncode == 0, 20, "it has looked around")
    return stage.lab.read(path)


@pytest.mark.behaviour("B16")
def test_nothing_of_a_borrower_is_left_for_the_owner_and_nothing_of_the_owner_for_a_borrower(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", wrap=DAEMON)
    stage.runs(borrower, "n1")
    its = child(stage, "bob", borrower)
    owners = stage.submit("alice", "--exclusive", wrap=f"{DAEMON.removesuffix('; sleep 1000')}\n{LOOK}")
    stage.runs(owners, "n1", timeout=40)
    hers = child(stage, "alice", owners)
    own = {f"{stage.lab.spec.home('alice')}/child-{owners}", PRIVATE.replace("%j", owners)}
    assert set(seen(stage, "alice", owners).split()) <= own
    assert not is_alive(stage, its)
    stage.waits(borrower)
    stage.lab.run(["scancel", borrower])
    after = stage.borrow("dave", "--exclusive", wrap=LOOK)
    stage.lab.run(["scancel", owners])
    stage.runs(after, "n1", timeout=40)
    assert seen(stage, "dave", after) == ""
    assert not is_alive(stage, hers)
    found = {each["job"]: each["found"] for each in reports(stage)}
    assert found[borrower]["processes"] == [f"{its} sleep"]
    assert found[owners]["files"] == [PRIVATE.replace("%j", owners)]


def test_another_job_of_the_same_user_on_the_same_node_is_untouched(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    both = [stage.borrow("bob", "-c", "2", wrap=DAEMON) for _ in range(2)]
    children = {job: child(stage, "bob", job) for job in both if stage.runs(job, "n1")}
    owners = stage.submit("alice", "-c", "2")
    stage.runs(owners, "n1", timeout=40)
    stays, gone = sorted(both, key=lambda job: stage.jobs()[job].state != "RUNNING")
    stage.waits(gone)
    assert stage.jobs()[stays].state == "RUNNING"
    assert [is_alive(stage, children[job]) for job in (stays, gone)] == [True, False]
    assert stage.lab.run(["ls", PRIVATE.replace("%j", stays)]).stdout


def test_jobs_that_are_not_lent_to_keep_what_they_leave(stage: Stage) -> None:
    stage.start()
    ordinary = stage.submit("carol", "-w", "n2", wrap=DAEMON)
    stage.runs(ordinary, "n2")
    its = child(stage, "carol", ordinary)
    stage.cancel(ordinary)
    stage.wait(lambda: ordinary not in stage.jobs(), 20, "it has ended")
    assert is_alive(stage, its)
    stage.lab.run(["kill", "-KILL", its])
    assert not reports(stage)


def test_a_node_that_cannot_be_cleaned_is_drained_and_the_owner_goes_elsewhere(stage: Stage) -> None:
    stage.start()
    fillers = {name: stage.submit("carol", "--exclusive", "-w", name) for name in ("n2", "n3", "n4")}
    for name, job in fillers.items():
        stage.runs(job, name)
    borrower = stage.borrow("bob", "--exclusive", wrap=DAEMON)
    stage.runs(borrower, "n1")
    child(stage, "bob", borrower)
    private = PRIVATE.replace("%j", borrower)
    stage.lab.run(["mkdir", f"{private}/mounted"])
    stage.lab.run(["mount", "-t", "tmpfs", "none", f"{private}/mounted"])  # not even root can remove it
    try:
        owners = stage.submit("alice", "--exclusive")
        reason = stage.wait(lambda: node_reason(stage, "n1"), 40, "n1 is drained")
        assert reason.startswith(f"slurm-reserve: files in {private} of job {borrower} of bob cannot be removed [")
        stage.waits(owners)
        stage.wait(
            lambda: "n1" in stage.cli("status").stdout and "down" in stage.cli("status").stdout, 20, "it is told"
        )
        stage.cancel(fillers["n2"])
        stage.runs(owners, "n2", timeout=40)
        assert reports(stage)[-1]["left"] == [f"files in {private}"]
    finally:
        stage.lab.run(["umount", f"{private}/mounted"])


def node_reason(stage: Stage, node: str) -> str:
    """Why Slurm says that a node is drained."""
    shown = stage.lab.run(["scontrol", "show", "node", node]).stdout
    reasons = [line.strip() for line in shown.splitlines() if line.strip().startswith("Reason=")]
    assert len(reasons) <= 1
    return reasons[0].removeprefix("Reason=") if reasons and "DRAIN" in shown else ""
