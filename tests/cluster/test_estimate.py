"""What a borrower is told to expect, from what its owner did before on a real Slurm, and what came of it."""

from __future__ import annotations

import json

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster


@pytest.mark.behaviour("B42")
def test_from_the_owners_past_a_borrower_is_told_what_to_expect_and_that_is_scored(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    (unknown,) = json.loads(stage.cli("--json", "estimate", "--time", "10m").stdout)["estimates"]
    assert (unknown["node"], unknown["undisturbed"], unknown["chance_of_loss"]) == ("n1", None, None)
    assert "unknown" in stage.cli("estimate").stdout

    def told() -> dict[str, float]:
        found = json.loads(stage.cli("--json", "estimate", "--time", "10m").stdout)["estimates"]
        return dict(found[0]) if found and found[0]["chance_of_loss"] is not None else {}

    for _ in range(12):  # she comes back within seconds, at least five times of which the daemon sees
        seen = len(stage.journal("idle"))
        stage.runs(stage.submit("alice", "--exclusive", wrap="sleep 0.5"), "n1")
        stage.wait(lambda seen=seen: len(stage.journal("idle")) > seen, 20, "the node is idle again")
        if told():
            break
    known = told()
    assert known["chance_of_loss"] > 0.9
    assert known["undisturbed"] < 60
    borrower = stage.borrow("bob", "--exclusive", "-t", "60")
    stage.runs(borrower, "n1")
    stage.wait(lambda: "chance of loss" in stage.cli("estimate", borrower).stdout, 10, "of a running job too")
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")

    def score() -> dict[str, float]:
        return dict(json.loads(stage.cli("--json", "estimate").stdout)["scores"].get("physics", {}))

    stage.wait(lambda: score().get("forecasts") == 1, 20, "the forecast is scored")
    assert score()["lost"] == 1
    assert score()["brier"] < 0.02
    refused = stage.cli("estimate", "no-such-thing", check=False)
    assert (refused.returncode, "neither a job that Slurm knows nor a script" in refused.stderr) == (1, True)
