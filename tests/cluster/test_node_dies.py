"""A lent node dies: it leaves the loan, its borrower runs again, and the owner is served by another, or told (B44)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}


@pytest.fixture(scope="module")
def watchful() -> Iterator[Lab]:
    """A lab whose slurmctld misses a node soon."""
    with Lab.boot(LabSpec(slurm_conf=(QUICK, "SlurmdTimeout=10"))) as lab:
        yield lab


@pytest.fixture
def stage(watchful: Lab) -> Iterator[Stage]:
    watchful.clean()
    made = Stage(watchful)
    yield made
    made.close()


def dies(stage: Stage, node: str, job: str) -> None:
    """Its slurmd and all that ran there are gone, as when it loses its power: nobody reports the job's end."""
    step = rf"^slurmstepd: \[{job}\.batch"
    stage.wait(lambda: stage.lab.run(["pgrep", "-f", step], check=False).stdout, says="its job has begun")
    stage.lab.kill(f"slurmd@{node}")
    stage.lab.run(["pkill", "-KILL", "-f", rf"^slurmstepd: \[{job}\."], check=False)  # it may have ended of that
    stage.lab.run(["pkill", "-KILL", "-u", "bob"], check=False)
    stage.wait(
        lambda: "down" in stage.lab.run(["sinfo", "-h", "-n", node, "-o", "%T"]).stdout, 60, "slurmctld misses it"
    )


@pytest.mark.behaviour("B44")
def test_of_named_nodes_the_guarantee_is_reported_broken_and_the_other_node_serves(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n[1-2]"})
    stage.fill("n3", "n4")
    bob = stage.borrow("bob", "--exclusive")
    died = stage.runs(bob).nodes
    other = "n1" if died == "n2" else "n2"
    dies(stage, died, bob)
    stage.wait(lambda: f"guarantee broken: {died}" in stage.log(), 20, "it is reported")
    stage.wait(
        lambda: f"guarantee broken: {died}" in " ".join(stage.cli("status").stdout.split()), says="and in the status"
    )
    stage.runs(bob, other, 60)  # Slurm put it back into the queue
    assert stage.field(bob, "Restarts") == "1"
    stage.wait(lambda: stage.reservations().get("physics.lend", {}).get("Nodes") == other, 15, "it has left the loan")
    alice = stage.submit("alice", "--exclusive")
    stage.runs(alice, other)
    assert stage.field(bob, "Restarts") == "2"
    assert stage.waits(bob).nodes == ""


@pytest.mark.behaviour("B44")
def test_of_so_many_nodes_another_one_takes_its_place(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": {"node_count": 1, "partition": "main"}})
    died = stage.reservations()["physics"]["Nodes"]
    bob = stage.borrow("bob", "--exclusive", "-w", died)
    stage.runs(bob, died)
    dies(stage, died, bob)
    stage.wait(lambda: stage.reservations()["physics"]["Nodes"] != died, 20, "another node is hers")
    now = stage.reservations()["physics"]["Nodes"]
    stage.runs(stage.submit("alice", "--exclusive", "--reservation=physics"), now)
    assert stage.waits(bob).nodes == ""
    assert stage.field(bob, "Restarts") == "1"
    stage.wait(lambda: list(stage.reservations()) == ["physics"], 20, "the loan is over")
