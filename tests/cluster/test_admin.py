"""What an admin does beside the daemon: edits by hand, the brake, shadow mode."""

from __future__ import annotations

import signal

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}


def edit(stage: Stage, *words: str) -> None:
    stage.lab.run(["scontrol", "update", "ReservationName=physics", *words])


def test_an_edit_by_hand_is_put_right_once_then_left_and_reported(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n[1-2]"})
    edit(stage, "Nodes=n[1-3]")
    stage.wait(lambda: stage.reservations()["physics"]["Nodes"] == "n[1-2]", 10, "it is put right")
    edit(stage, "Nodes=n[1-3]")
    stage.wait(lambda: "changed by hand again, and left so" in stage.log(), 10, "it is reported")
    stage.never(lambda: stage.reservations()["physics"]["Nodes"] != "n[1-3]", 4)
    stage.fill("n4")
    assert "restore physics" in stage.log()
    stage.end(signal.SIGKILL)
    stage.restart()  # it is not forgotten
    stage.never(lambda: stage.reservations()["physics"]["Nodes"] != "n[1-3]", 4)
    stage.cli("restore", "physics")
    stage.wait(lambda: stage.reservations()["physics"]["Nodes"] == "n[1-2]", 10, "it is put right at a word")


def test_a_node_that_an_admin_took_away_is_neither_lent_nor_fought_for(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n[1-2]"})
    edit(stage, "Nodes=n1")
    stage.wait(lambda: stage.reservations()["physics"]["Nodes"] == "n[1-2]", 10, "it is put right")
    stage.fill("n3", "n4")
    borrowers = [stage.borrow("bob", "--exclusive") for _ in range(2)]
    for borrower in borrowers:
        stage.runs(borrower)
    edit(stage, "Nodes=n1")
    stage.wait(lambda: stage.reservations()["physics.lend"]["Nodes"] == "n1", 15, "the lend reservation follows")
    assert all(stage.jobs()[borrower].state == "RUNNING" for borrower in borrowers)


def test_a_deleted_reservation_is_made_again_once(stage: Stage) -> None:
    stage.start()
    stage.lab.run(["scontrol", "delete", "reservation=physics"])
    stage.wait(lambda: "physics" in stage.reservations(), 10, "it is made again")
    stage.lab.run(["scontrol", "delete", "reservation=physics"])
    stage.wait(lambda: "deleted by hand again" in stage.log(), 10, "it is reported")
    stage.never(lambda: "physics" in stage.reservations(), 4)
    assert "restore physics" in stage.cli("plan").stdout


def test_the_brake_stops_lending_but_not_the_owners(stage: Stage) -> None:
    stage.keys = {"lending": {"partitions": ["preempt"], "max_evictions_per_hour": 1}}
    stage.start(physics={"owner": ALICE, "nodes": "n[1-2]"})
    stage.fill("n3", "n4")
    borrowers = [stage.borrow("bob", "--exclusive") for _ in range(2)]
    for borrower in borrowers:
        stage.runs(borrower)
    first = stage.submit("alice", "--exclusive")
    stage.runs(first)
    stage.wait(lambda: "the brake is on" in stage.log(), 10, "it is said")
    stage.runs(stage.submit("alice", "--exclusive"))  # the second eviction: owners are served all the same
    stage.cancel(first)
    stage.never(lambda: any(stage.jobs()[borrower].state == "RUNNING" for borrower in borrowers), 8)
    assert "the brake is on" in stage.cli("status").stdout
    stage.cli("resume")
    stage.wait(lambda: any(stage.jobs()[b].state == "RUNNING" for b in borrowers), 20, "it lends again")


def test_shadow_mode_lends_nothing_and_says_what_it_would(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    stage.keys = {"mode": "shadow"}
    stage.site()
    stage.send(signal.SIGHUP)
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 15, "what was lent comes back")
    stage.wait(lambda: "shadow: would run on n1" in stage.log(), 15, "it is said")
    stage.never(lambda: stage.jobs()[borrower].state == "RUNNING", 5)
    stage.runs(stage.submit("alice", "--exclusive"), "n1")


@pytest.mark.behaviour("B36")
def test_policy_declared_on_the_command_line_holds_and_a_dry_run_says_what_would_be_written(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "lend": {"enabled": False}})
    stage.fill("n4")
    words = ("create", "chemistry", "--nodes", "n[2-3]", "--user", "dave", "--max-nodes", "1", "--victims", "youngest")
    shown = stage.cli(*words, "--dry-run").stdout
    assert "max_nodes: 1" in shown
    assert "victims: youngest" in shown
    assert "chemistry" not in stage.cli("list").stdout
    stage.cli(*words)
    borrowers = [stage.borrow("bob", "--exclusive") for _ in range(2)]
    stage.runs(borrowers[0])
    stage.never(lambda: stage.jobs()[borrowers[1]].nodes, 3)
    refused = stage.cli("update", "chemistry", "--max-nodes", "0", check=False)
    assert (refused.returncode, "lend.max_nodes" in refused.stderr) == (3, True)
    stage.cli("update", "chemistry", "--max-nodes", "2")
    stage.runs(borrowers[1])
