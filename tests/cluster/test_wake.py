"""slurmctld's plugins wake the daemon: it need not wait for its next poll."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.plugins import hang_bell, with_guard
from tests.cluster.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.each_release]
SLOW_POLL = {"slurm": {"max_calls_per_second": 50}, "daemon": {"poll": "10m"}}


@pytest.fixture(scope="module")
def woken() -> Iterator[Lab]:
    with Lab.boot(LabSpec(kill_wait=5, **with_guard())) as lab:
        hang_bell(lab)
        yield lab


@pytest.fixture
def stage(woken: Lab) -> Iterator[Stage]:
    woken.clean()
    made = Stage(woken)
    made.keys = SLOW_POLL  # so that nothing here can be the next poll's doing
    yield made
    made.close()


def test_the_owner_need_not_wait_for_the_next_poll(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    owners = stage.submit("alice", "--exclusive")  # not knowing of any reservation
    stage.runs(owners, "n1", timeout=10)
    stage.waits(borrower)


def test_a_borrower_need_not_wait_for_the_next_poll_when_the_owner_ends(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    borrower = stage.borrow("bob", "--exclusive")
    stage.never(lambda: stage.jobs()[borrower].nodes, 2)
    stage.cancel(owners)
    stage.runs(borrower, "n1", timeout=15)


def test_the_start_of_a_job_is_known_before_the_next_poll(stage: Stage) -> None:
    stage.start()
    stage.runs(stage.submit("alice", "--exclusive", "--reservation=physics"), "n1")

    def told() -> bool:
        return "n1: owner" in stage.lab.run(stage.argv("status"), user="alice", check=False).stdout

    stage.wait(told, 20, "the daemon knows that alice's job runs")


def test_a_restarted_daemon_is_woken_again(stage: Stage) -> None:
    stage.start()
    stage.end(signal.SIGKILL)
    stage.submit("alice", "--hold")  # rings at nobody
    stage.restart()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1", timeout=15)
    stage.runs(stage.submit("alice", "--exclusive"), "n1", timeout=10)


def test_without_the_bell_polling_serves(stage: Stage) -> None:
    stage.keys = {**SLOW_POLL, "daemon": {"poll": "1s"}}
    stage.start()
    stage.lab.run(["rm", f"{stage.folder}/run/wake"])
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    stage.runs(stage.submit("alice", "--exclusive"), "n1")


def test_many_submissions_do_not_make_many_calls(stage: Stage) -> None:
    stage.keys = {**SLOW_POLL, "slurm": {"max_calls_per_second": 2}}
    stage.start()

    def calls() -> int:
        text = stage.lab.run(["sdiag"]).stdout
        line = next(line for line in text.splitlines() if line.strip().startswith("slurm "))
        return int(line.split("count:")[1].split()[0])

    begun, before = time.monotonic(), calls()
    for user in ("alice", "bob"):
        stage.lab.run(["sh", "-c", "for i in $(seq 300); do sbatch -Q -H -o /dev/null --wrap true; done"], user=user)
    time.sleep(3)
    passed = time.monotonic() - begun
    # What a quiet minute saved up, what owners may spend in advance, and what came in since.
    assert calls() - before < 2 * (60 + 30 + passed) + 30
