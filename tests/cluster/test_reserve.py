"""(a) and (b): nodes are bound to their owner, and nobody else's ordinary job gets them."""

from __future__ import annotations

import pytest
from slurm_reserve.lab import LabError

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}


@pytest.mark.behaviour("B1", "B2")
def test_a_request_ends_with_the_declared_nodes_bound_and_recorded_first(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n[1-2]"})
    seen = stage.reservations()["physics"]
    assert (seen["Nodes"], seen["Users"]) == ("n[1-2]", "alice")
    assert {"OVERLAP", "IGNORE_JOBS"} <= set(seen["Flags"].split(","))
    stage.wait(lambda: stage.journal("outcome"), says="what came of it is written down")
    entries = stage.journal()
    kinds = [(e["kind"], e["reservation"]) for e in entries if "physics" in e["text"]]
    assert kinds[0] == ("decision", "physics")
    made = next(e for e in entries if e["kind"] == "outcome")
    assert entries[0]["id"] < made["id"]
    assert "n1,n2" in entries[0]["text"]


@pytest.mark.behaviour("B1", "B38")
def test_two_requests_at_once_never_bind_one_node_twice(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1"})
    both = [
        stage.lab.popen(
            stage.argv("create", name, "--node-count", "2", "--partition", "main", "--user", user),
            user=stage.user, text=True, stdout=-1, stderr=-2,
        )
        for name, user in (("chemistry", "bob"), ("biology", "dave"))
    ]  # fmt: skip
    said = [process.communicate(timeout=60)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    refused = next(text for process, text in zip(both, said, strict=True) if process.returncode)
    assert "fewer than 2 usable nodes" in refused
    stage.wait(lambda: len(stage.reservations()) == 2, says="one of them is made")
    assert len({found["Nodes"] for found in stage.reservations().values()}) == 2
    assert stage.lab.run(["scontrol", "-o", "show", "reservation"]).stdout.count("Nodes=n1 ") == 1


@pytest.mark.behaviour("B3")
def test_an_ordinary_job_never_starts_on_a_reserved_node(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    ordinary = stage.submit("carol", "--exclusive")
    owners = stage.submit("alice", "--exclusive")  # no free node but hers: the daemon sends it there
    stage.never(lambda: "n1" in stage.jobs()[ordinary].nodes, 4)
    stage.runs(owners, "n1")
    stage.never(lambda: "n1" in stage.jobs()[ordinary].nodes, 2)
    stage.cancel(owners)
    stage.runs(stage.borrow("bob"), "n1")
    stage.never(lambda: "n1" in stage.jobs()[ordinary].nodes, 2)


@pytest.mark.behaviour("B4", "B6")
def test_the_owner_starts_at_once_before_a_long_older_queue(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    older = [stage.submit("carol", "--exclusive") for _ in range(10)]
    stage.never(lambda: [j for j in stage.jobs().values() if j.user == "alice"], 1)
    owners = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.runs(owners, "n1")
    second = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.never(lambda: stage.jobs()[second].nodes, 2)
    assert all(stage.jobs()[job].state == "PENDING" for job in older)


@pytest.mark.behaviour("B5")
def test_who_is_not_the_owner_is_refused(stage: Stage) -> None:
    stage.start()
    with pytest.raises(LabError, match="Access denied to requested reservation"):
        stage.submit("carol", "--reservation=physics")
    stage.runs(stage.submit("alice", "--reservation=physics"), "n1")


@pytest.mark.behaviour("B36")
def test_so_many_nodes_of_a_kind_are_chosen_and_replaced_when_one_fails(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": {"node_count": 2, "partition": "main"}})
    first = stage.reservations()["physics"]["Nodes"]
    assert first == "n[1-2]"
    stage.lab.run(["scontrol", "update", "nodename=n1", "state=down", "reason=failed"])
    stage.wait(lambda: stage.reservations()["physics"]["Nodes"] == "n[2-3]", 10, "n1 is replaced")


@pytest.mark.behaviour("B38")
def test_what_cannot_be_met_is_refused_with_the_reason(stage: Stage) -> None:
    stage.start()
    refused = stage.cli("create", "chemistry", "--nodes", "n[1-2]", "--user", "dave", check=False)
    assert refused.returncode == 1
    assert "physics" in refused.stderr
    unknown = stage.cli("create", "chemistry", "--nodes", "n9", "--user", "dave", check=False)
    assert unknown.returncode == 1
    assert "n9" in unknown.stderr
    assert list(stage.reservations()) == ["physics"]


@pytest.mark.behaviour("B38")
def test_a_strangers_reservation_is_never_overbooked(stage: Stage) -> None:
    stage.lab.run(
        ["scontrol", "create", "reservation", "ReservationName=theirs", "Users=carol", "Nodes=n2", "StartTime=now",
         "Duration=60"]
    )  # fmt: skip
    stage.site(physics={"owner": ALICE, "nodes": "n[1-2]"})
    stage.restart()
    stage.wait(lambda: "already bound by reservation theirs" in stage.log(), 15, "the refusal is logged")
    assert list(stage.reservations()) == ["theirs"]
    stage.lab.run(["scontrol", "delete", "reservation=theirs"])
    stage.wait(lambda: "physics" in stage.reservations(), 10, "it is made once it can be")


def test_an_end_is_kept_and_a_later_one_is_sent(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "end": "2035-01-01T00:00:00+00:00"})
    assert stage.reservations()["physics"]["EndTime"].startswith(("2035-01-01", "2034-12-31"))
    stage.site(physics={"owner": ALICE, "nodes": "n[1-2]", "end": "2036-01-01T00:00:00+00:00"})
    stage.send(__import__("signal").SIGHUP)
    stage.wait(lambda: stage.reservations()["physics"]["Nodes"] == "n[1-2]", 10, "the nodes are corrected")
    ends = ("2036-01-01", "2035-12-31")
    stage.wait(lambda: stage.reservations()["physics"]["EndTime"].startswith(ends), says="the end is sent")


def test_a_reservation_that_begins_later_is_held_but_not_lent_before(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "start": "2035-01-01T00:00:00Z"})
    assert stage.reservations()["physics"]["State"] == "INACTIVE"
    assert "physics.lend" not in stage.reservations()


def test_a_reservation_created_by_hand_is_updated_and_deleted(stage: Stage) -> None:
    stage.start()
    stage.cli("create", "chemistry", "--nodes", "n2", "--user", "dave")
    stage.wait(lambda: "chemistry" in stage.reservations(), 10, "it is made")
    stage.cli("update", "chemistry", "--nodes", "n[2-3]")
    stage.wait(lambda: stage.reservations()["chemistry"]["Nodes"] == "n[2-3]", 10, "it is changed")
    stage.cli("delete", "chemistry", "--yes")
    stage.wait(lambda: "chemistry" not in stage.reservations(), 10, "it is deleted")
    assert "physics" in stage.reservations()
