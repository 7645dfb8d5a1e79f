"""The owner's hand: owners offer their nodes and take them back by themselves, and nobody else does."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster

# Opens as many connections as it is let, says half a request in each, and reads nothing.
HOLD = """
import socket, sys, time
held = []
for _ in range(60):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(1)
    try:
        client.connect(sys.argv[1])
        client.send(b'{"do": "lend", ')
    except OSError:
        continue
    held.append(client)
print("held", flush=True)
time.sleep(60)
"""


def by(stage: Stage, user: str, *words: str) -> tuple[int, str]:
    """The CLI, run by a user inside the lab."""
    done = stage.lab.run(stage.argv(*words), user=user, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.behaviour("B32")
def test_an_owner_takes_her_nodes_back_and_offers_them_again_and_nobody_else_can(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    for stranger in ("bob", "carol"):
        status, said = by(stage, stranger, "lend", "physics", "off")
        assert status == 1
        assert f"{stranger} is no owner of a reservation physics" in said
        assert by(stage, stranger, "reclaim", "physics")[0] == 1
        assert "owns no reservation" in by(stage, stranger, "status")[1]
    for order in (["pause"], ["resume"], ["restore", "physics"]):
        status, said = by(stage, "alice", *order)
        assert status == 1
        assert "takes root or the daemon's own user" in said
    assert stage.jobs()[borrower].nodes == "n1"  # nothing came of it

    assert by(stage, "alice", "lend", "physics", "off") == (0, "lending of physics is off\n")
    stage.waits(borrower)
    assert stage.field(borrower, "Restarts") == "1"
    words = ("n1: idle", "physics: nothing more is lent: lending is off")  # as the daemon last looked
    stage.wait(lambda: all(each in by(stage, "alice", "status")[1] for each in words), says="she sees it idle")
    by(stage, "alice", "lend", "physics", "on")
    stage.runs(borrower, "n1")

    def hers() -> dict[str, Any]:
        return dict(json.loads(by(stage, "alice", "--json", "status")[1])["reservations"]["physics"])

    stage.wait(lambda: hers()["nodes"] == {"n1": {"state": "lent", "jobs": [borrower]}}, 15, "she sees it lent")
    seen = hers()
    assert seen["lending"] == "on"
    assert "bob" not in json.dumps(seen)
    assert by(stage, "alice", "reclaim", "physics", "--for", "1h")[0] == 0
    stage.waits(borrower)
    stage.wait(lambda: "alice, an owner: all nodes of physics come back" in stage.log(), says="it is told")
    assert "ordered back by alice" in str(stage.journal("decision"))


@pytest.mark.behaviour("B32")
def test_what_owners_may_order_is_the_sites_choice_and_groups_own_too(stage: Stage) -> None:
    stage.start(
        physics={"owner": {"groups": ["physics"]}, "nodes": "n1", "owner_may": ["lend"]},
        chemistry={"owner": {"users": ["dave"]}, "nodes": "n2", "owner_may": []},
    )
    assert by(stage, "alice", "lend", "physics", "until", "now+1hour")[0] == 0
    assert "owner_may" in by(stage, "alice", "reclaim", "physics")[1]
    assert "owner_may" in by(stage, "dave", "lend", "chemistry", "off")[1]
    assert list(json.loads(by(stage, "dave", "--json", "status")[1])["reservations"]) == ["chemistry"]
    stage.end()
    status, said = by(stage, "alice", "lend", "physics", "off")
    assert status == 1
    assert "no daemon runs" in said


def test_who_holds_the_door_open_holds_up_neither_owners_nor_the_daemon(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    hostile = stage.lab.popen(
        [sys.executable, "-c", HOLD, f"{stage.folder}/run/control.sock"], user="carol", stdout=-1, text=True
    )
    try:
        assert hostile.stdout is not None
        assert hostile.stdout.readline() == "held\n"
        borrower = stage.borrow("bob", "--exclusive")
        stage.runs(borrower, "n1")
        assert by(stage, "alice", "lend", "physics", "off")[0] == 0
        stage.waits(borrower)
    finally:
        hostile.kill()
        hostile.wait(10)
