"""A reservation that an admin made is taken over as it is, or refused with the reason."""

from __future__ import annotations

import json

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster


def make(stage: Stage, name: str, *words: str) -> None:
    """As an admin does; for a year from now."""
    given = ["StartTime=now", "Duration=UNLIMITED", *words]
    stage.lab.run(["scontrol", "create", "reservation", f"ReservationName={name}", *given])


def test_it_is_taken_over_with_its_jobs_and_lent(stage: Stage) -> None:
    stage.start()
    make(stage, "bio", "Nodes=n[2-3]", "Users=dave", "Flags=FLEX,IGNORE_JOBS")
    inside = stage.submit("dave", "--exclusive", "--reservation=bio", "-w", "n2")
    stage.runs(inside, "n2")
    said = stage.cli("adopt", "bio", "--notice", "2s", "--dry-run").stdout
    assert "bio on n[2-3] would be taken over" in said
    assert "OVERLAP added" in said
    assert "OVERLAP" not in stage.reservations()["bio"]["Flags"]
    assert "Slurm shows bio" in stage.cli("adopt", "bio", "--notice", "2s").stdout
    stage.wait(lambda: "FLEX" not in stage.reservations()["bio"]["Flags"], 10, "FLEX goes")
    stage.fill("n4")
    borrower = stage.borrow("bob", "--exclusive", "-w", "n3")
    stage.runs(borrower, "n3")
    assert stage.jobs()[inside].state == "RUNNING"
    stage.runs(stage.submit("dave", "--exclusive"), "n3")
    assert json.loads(stage.cli("--json", "show", "bio").stdout)["declared"]["reclaim"]["notice"] == 2


def test_one_without_ignore_jobs_is_taken_over_while_others_run_on_it(stage: Stage) -> None:
    stage.start()
    make(stage, "bio", "Nodes=n2", "Users=dave")
    stage.runs(stage.submit("dave", "--reservation=bio"), "n2")
    stage.cli("adopt", "bio")
    stage.wait(lambda: "IGNORE_JOBS" in stage.reservations()["bio"]["Flags"], 10, "it is ours")


def test_what_is_declared_already_is_taken_over_as_declared(stage: Stage) -> None:
    make(stage, "physics", "Nodes=n1", "Users=alice")
    stage.site()
    stage.restart()
    stage.wait(lambda: "adopt it" in stage.log(), 10, "it is left alone, and said")
    assert "OVERLAP" not in stage.reservations()["physics"]["Flags"]
    stage.cli("adopt", "physics")
    stage.fill("n2", "n3", "n4")
    stage.runs(stage.borrow("bob"), "n1")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["Nodes=n2", "Users=dave", "Flags=DAILY", "Duration=10"], "it recurs (DAILY): declare it with periods"),
        (["Nodes=n2", "Users=-dave"], "it lets everybody in but -dave"),
        (["Nodes=n2", "Users=root", "Flags=MAINT"], "it is for maintenance"),
        (["NodeCnt=1", "CoreCnt=2", "Users=dave"], "it holds 2 cores, not whole nodes"),
    ],
)
def test_what_cannot_be_lent_is_refused_and_left_alone(stage: Stage, words: list[str], reason: str) -> None:
    stage.start()
    make(stage, "bio", *words)
    before = stage.reservations()["bio"]
    said = stage.cli("adopt", "bio", check=False)
    assert (said.returncode, reason in said.stderr) == (1, True), said.stderr
    after = stage.reservations()["bio"]  # slurmctld may have got round to print its cores
    assert {key: after[key] for key in before} == before
    assert "bio" not in stage.cli("list").stdout


def test_one_that_is_not_there_or_shares_nodes_is_refused(stage: Stage) -> None:
    stage.start()
    assert "Slurm has no reservation bio" in stage.cli("adopt", "bio", check=False).stderr
    make(stage, "bio", "Nodes=n[1-2]", "Users=dave", "Flags=OVERLAP")
    assert "bound by reservation physics" in stage.cli("adopt", "bio", check=False).stderr
