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


def test_the_daemon_has_no_rights_but_an_operators(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    pid = stage.lab.run(["pgrep", "-u", "reserve", "-f", "slurm_reserve.*run"]).stdout.split()[0]
    status = dict(line.split(":\t", 1) for line in stage.lab.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {str(stage.lab.spec.uid("reserve"))}
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    level = stage.lab.run(["sacctmgr", "-nP", "show", "user", "reserve", "format=adminlevel"]).stdout.strip()
    assert level == "Operator"
    refused = stage.lab.run(["scontrol", "update", "nodename=n1", "state=drain", "reason=x"], "reserve", check=False)
    assert "Invalid user id" in refused.stderr  # nodes are an administrator's


def test_its_files_and_sockets_are_for_itself_and_its_group(stage: Stage) -> None:
    stage.start()
    found = stage.lab.run(["find", f"{stage.folder}/state", f"{stage.folder}/run", "-printf", "%m %y %f\n"]).stdout
    modes = {name: (mode, kind) for mode, kind, name in (line.split(maxsplit=2) for line in found.splitlines())}
    assert modes.pop("run") == ("755", "d")  # the socket in it is the door
    assert modes.pop("state") == ("750", "d")
    assert modes.pop("control.sock") == ("666", "s")  # who asks for what is decided by who they are
    assert modes.pop("wake") == ("620", "f")  # slurmctld rings there
    assert {"ledger.db", "journal.db", "daemon.lock"} <= modes.keys()
    assert {mode for mode, _ in modes.values()} == {"640"}
    said = stage.lab.run(stage.argv("pause"), "bob", check=False)
    assert "takes root or the daemon's own user" in said.stderr
    assert said.returncode == 1
    assert "error:" in said.stderr
    assert stage.cli("--json", "status").stdout.count('"paused": false') == 1


def test_check_warns_when_run_as_root(stage: Stage) -> None:
    stage.site()
    assert "run as root" not in stage.cli("check", check=False).stdout
    assert "run as root, which it does not need" in stage.lab.run(stage.argv("check"), "root", check=False).stdout
