"""With accounting: an owner by account, and the daemon as a Slurm operator under a user of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from slurm_reserve.lab import Lab, LabSpec
from slurm_reserve.lab.spec import PARTITIONS

from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage
from tests.cluster.test_owner import by

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


@pytest.mark.behaviour("B32")
def test_whoever_is_in_the_owning_account_has_the_owners_hand_and_nobody_else(stage: Stage) -> None:
    lending = {"owner": {"accounts": ["physics"]}, "nodes": "n1", "owner_may": ["lend"]}
    stage.start(physics=lending, biology={"owner": {"accounts": ["general"], "users": ["dave"]}, "nodes": "n2"})
    stage.fill("n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", "-w", "n1")
    stage.runs(borrower, "n1")
    for stranger in ("bob", "carol"):  # in the other account, but not on its list of users
        for name in ("physics", "biology"):
            assert f"{stranger} is no owner of a reservation {name}" in by(stage, stranger, "lend", name, "off")[1]
        assert "owns no reservation" in by(stage, stranger, "status")[1]
    assert list(json.loads(by(stage, "dave", "--json", "status")[1])["reservations"]) == ["biology"]
    assert by(stage, "alice", "lend", "physics", "off") == (0, "lending of physics is off\n")
    stage.waits(borrower)
    assert "owner_may" in by(stage, "alice", "reclaim", "physics")[1]
    stage.wait(lambda: "n1: idle" in by(stage, "alice", "status")[1], 15, "she sees it idle")
    assert "biology" not in by(stage, "alice", "status")[1]
    assert by(stage, "alice", "lend", "physics", "on")[0] == 0
    stage.runs(borrower, "n1")


def test_what_an_eviction_costs_in_fairshare_is_as_the_readme_says_and_can_be_wiped() -> None:
    weights = PARTITIONS.replace("PreemptMode=REQUEUE", 'PreemptMode=REQUEUE TRESBillingWeights="CPU=0.25"')
    fair = (QUICK, "PriorityType=priority/multifactor", "PriorityWeightFairshare=1", "AccountingStorageEnforce=limits")
    with Lab.boot(LabSpec(kill_wait=5, accounting=True, slurm_conf=fair, partitions=weights)) as lab:
        stage = Stage(lab, user="reserve")
        stage.start()
        stage.fill("n2", "n3", "n4")
        begun = time.monotonic()
        borrower = stage.borrow("bob", "--exclusive")
        stage.runs(borrower, "n1")
        time.sleep(8)  # something to pay for: a node of four CPUs at a quarter each
        stage.runs(stage.submit("alice", "--exclusive"), "n1")
        most = time.monotonic() - begun + 1

        def usage() -> int:
            said = lab.run(["sshare", "-nP", "-u", "bob", "-o", "User,RawUsage"]).stdout.split()
            return sum(int(line.split("|")[1]) for line in said if line.startswith("bob|"))

        stage.wait(lambda: 6 <= usage() <= most, 20, "it counts, at the partition's weight")
        lab.run(["sacctmgr", "-i", "modify", "user", "where", "name=bob", "account=general", "set", "RawUsage=0"])
        stage.wait(lambda: usage() == 0, 20, "it is wiped")
        stage.close()


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
