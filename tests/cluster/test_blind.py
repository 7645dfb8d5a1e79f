"""Nothing is done on what cannot be read or reached; and a node on its way to its owner is nobody else's."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}
PATIENT = {"timeout": "2s", "max_calls_per_second": 50}

# squeue, scontrol, ... as they are, unless a file says how they fail.
WRAPPER = """\
#!/bin/sh
how=$(cat "{folder}/how" 2>/dev/null)
case "$how" in
  half) "{real}" "$@" | head -c 600; exit 0;;
  nothing) exit 0;;
  garbage) echo 'slurm: internal error 0x7f'; exit 0;;
esac
exec "{real}" "$@"
"""


def lent_and_wanted(stage: Stage, **keys: object) -> tuple[str, Callable[[], str]]:
    """Bob's job on alice's node, everything else full; gives it and what submits alice's."""
    stage.keys = {"slurm": {**PATIENT, **keys}}
    stage.start(physics={"owner": ALICE, "nodes": "n1"})
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    return borrower, lambda: stage.submit("alice", "--exclusive")


def said(stage: Stage) -> int:
    return stage.log().count("no action is taken")


@pytest.mark.behaviour("B11")
def test_a_slurmctld_that_hangs_is_waited_for_and_the_owner_served_then(stage: Stage) -> None:
    borrower, submit = lent_and_wanted(stage)
    stage.lab.kill("slurmctld", signal.SIGSTOP)
    try:
        before = said(stage)
        stage.wait(lambda: said(stage) > before, 30, "it is said")
        stage.never(lambda: said(stage) > before + 1, 5)  # once
    finally:
        stage.lab.kill("slurmctld", signal.SIGCONT)
    stage.wait(lambda: "can be read again" in stage.log(), 30, "it goes on")
    assert stage.jobs()[borrower].state == "RUNNING"
    stage.runs(submit(), "n1", timeout=30)
    assert stage.field(borrower, "Restarts") == "1"


@pytest.mark.behaviour("B11")
def test_without_munge_nothing_is_done_until_it_is_back(stage: Stage) -> None:
    borrower, submit = lent_and_wanted(stage)
    stage.lab.stop("munged")
    try:
        stage.wait(lambda: said(stage), 60, "it is said")
    finally:
        stage.lab.start("munged")
    stage.wait(lambda: "can be read again" in stage.log(), 60, "it goes on")
    assert stage.jobs()[borrower].state == "RUNNING"
    stage.runs(submit(), "n1", timeout=30)
    assert stage.field(borrower, "Restarts") == "1"


@pytest.mark.behaviour("B11")
@pytest.mark.parametrize("how", ["half", "nothing", "garbage"])
def test_answers_that_cannot_be_understood_are_no_empty_cluster(stage: Stage, how: str) -> None:
    folder = f"{stage.folder}/bin"
    for name in ("squeue", "scontrol", "scancel", "sacctmgr", "sdiag", "sinfo"):
        real = stage.lab.run(["sh", "-c", 'command -v "$1"', "sh", name]).stdout.strip()
        stage.lab.put(f"{folder}/{name}", WRAPPER.format(folder=folder, real=real), mode=0o755)
    borrower, submit = lent_and_wanted(stage, bin_dir=folder)
    other = stage.borrow("dave", "--exclusive")
    before = stage.lab.run(["scontrol", "-o", "show", "reservation"]).stdout
    stage.lab.put(f"{folder}/how", how)
    stage.wait(lambda: said(stage), 30, "it is said")
    owners = submit()
    stage.never(lambda: stage.jobs()[borrower].state != "RUNNING" or stage.jobs()[other].nodes, 4)
    assert stage.lab.run(["scontrol", "-o", "show", "reservation"]).stdout == before
    assert said(stage) <= 2  # as long as the cause is the same it is said once
    stage.lab.run(["rm", f"{folder}/how"])
    stage.runs(owners, "n1", timeout=30)
    assert stage.field(borrower, "Restarts") == "1"


@pytest.mark.behaviour("B21")
def test_nobody_but_the_owner_gets_the_freed_node(stage: Stage) -> None:
    """The victim itself, other borrowers, and ordinary jobs of higher priority wait for just this node."""
    borrower, submit = lent_and_wanted(stage)
    rivals = [stage.borrow(user, "--exclusive") for user in ("dave", "bob", "dave")]
    rivals += [stage.submit("carol", "--exclusive", "-w", "n1") for _ in range(2)]
    for job in rivals[-2:]:
        stage.lab.run(["scontrol", "update", f"jobid={job}", "nice=-1000"])
    rivals += [stage.borrow("alice", "--exclusive")]  # her own, but no more than a borrower
    seen: list[str] = []
    for _ in range(3):
        owners = submit()
        allowed = (owners, borrower)

        def has_started(owners: str = owners, allowed: tuple[str, ...] = allowed) -> bool:
            jobs = stage.jobs()
            seen.extend(job.id for job in jobs.values() if job.nodes == "n1" and job.id not in allowed)
            return jobs[owners].state == "RUNNING"

        stage.wait(has_started, 30, "the owner's job runs")
        assert not seen, f"{seen} got in between"
        stage.cancel(owners)
        stage.wait(lambda: [j for j in stage.jobs().values() if j.nodes == "n1" and j.state == "RUNNING"], 30, "lent")
        borrower = next(j.id for j in stage.jobs().values() if j.nodes == "n1")
        assert stage.jobs()[borrower].partition == "preempt"
    assert all(stage.jobs()[job].state == "PENDING" for job in rivals if stage.jobs()[job].partition == "main")
