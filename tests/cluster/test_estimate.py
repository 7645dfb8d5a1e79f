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
    for times in range(1, 7):  # she comes back within seconds
        owners = stage.submit("alice", "--exclusive", wrap="sleep 0.5")
        stage.runs(owners, "n1")
        stage.wait(lambda: "idle" in stage.cli("status").stdout, 20, f"{times} times idle again")
    (known,) = json.loads(stage.cli("--json", "estimate", "--time", "10m").stdout)["estimates"]
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
