"""With accounting: an owner by account, and the daemon as a Slurm operator under a user of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Lab.boot(LabSpec(kill_wait=5, accounting=True, slurm_conf=(QUICK,))) as lab:
        made = Stage(lab, user="reserve")
        yield made
        made.close()


@pytest.mark.behaviour("B7", "B20")
def test_an_operator_lends_and_reclaims_for_an_account(stage: Stage) -> None:
    stage.start(physics={"owner": {"accounts": ["physics"]}, "nodes": "n1"})
    assert stage.reservations()["physics"]["Accounts"] == "physics"
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    assert stage.waits(borrower).user == "bob"

    def rows() -> list[str]:
        text = stage.lab.run(["sacct", "-D", "-n", "-X", "-P", "-j", borrower, "-o", "partition,state,nodelist"]).stdout
        return text.splitlines()

    stage.wait(lambda: "preempt|REQUEUED|n1" in rows(), 20, "the loan and its end are in the accounts")
    ps = stage.lab.run(["ps", "-eo", "user:20,args"]).stdout
    assert any(line.startswith("reserve ") and "slurm_reserve" in line for line in ps.splitlines())
