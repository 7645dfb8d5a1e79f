"""(f): on the owner's next request borrowers are chosen, told, evicted, and the owner's jobs run."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}
TWO = {"physics": {"owner": ALICE, "nodes": "n[1-2]"}}


def lend_both(stage: Stage, *options: str, **policy: object) -> tuple[str, str]:
    """Two borrowers on the two reserved nodes, the rest full; the second is the younger one."""
    stage.start(physics={**TWO["physics"], **policy})
    stage.fill("n3", "n4")
    first = stage.borrow("bob", "--exclusive", *options)
    stage.runs(first)
    time.sleep(1.1)  # Slurm tells start times in whole seconds
    second = stage.borrow("dave", "--exclusive", *options)
    stage.runs(second)
    return first, second


@pytest.mark.behaviour("B9", "B18", "B20")
def test_the_owner_gets_one_node_and_one_borrower_goes(stage: Stage) -> None:
    first, second = lend_both(stage)
    freed = stage.jobs()[second].nodes
    begun = time.monotonic()
    owners = stage.submit("alice", "--exclusive")  # a plain sbatch: the daemon sends it to her nodes
    stage.runs(owners, freed)
    assert time.monotonic() - begun < 1 + 5 + 1 + 3 + 5  # poll, KillWait, epilog, pass; 5 s for this test's own looking
    assert stage.jobs()[first].state == "RUNNING"
    assert stage.field(first, "Restarts") == "0"
    stage.waits_outside(second)


@pytest.mark.behaviour("B17")
def test_the_decision_is_recorded_before_any_signal(stage: Stage) -> None:
    note = "trap 'date +%s.%N > $HOME/told' USR1; while true; do sleep 0.1; done"
    stage.lab.run(["rm", "-f", "told"], user="bob")
    stage.start(physics={"owner": ALICE, "nodes": "n1", "reclaim": {"notice": "5s", "signal": "USR1"}})
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", wrap=note)
    stage.runs(borrower, "n1")
    stage.heeds(borrower, signal.SIGUSR1)
    owners = stage.submit("alice", "--exclusive")
    told = float(stage.wait(lambda: stage.lab.run(["cat", "told"], user="bob", check=False).stdout, 10, "bob is told"))
    decision = next(e for e in stage.journal("decision") if f"job {borrower}" in e["text"] and "signal" in e["text"])
    assert f"job {owners} of alice" in decision["text"]
    assert "n1" in decision["text"]
    assert decision["data"]
    assert json.loads(decision["data"])["cause"] == f"job {owners} of alice"
    assert decision["at"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(told + 1))
    runs = stage.wait(lambda: stage.jobs()[owners].state == "RUNNING" and time.time(), says="the owner's job runs")
    assert runs - told >= 2.5  # it had its notice, though Slurm itself might have preempted it at once


@pytest.mark.behaviour("B18")
def test_nobody_goes_while_another_node_of_hers_is_free(stage: Stage) -> None:
    stage.start(**TWO)
    stage.fill("n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower)
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners)
    assert stage.field(borrower, "Restarts") == "0"
    assert stage.jobs()[borrower].state == "RUNNING"


@pytest.mark.behaviour("B18")
def test_nobody_goes_while_the_owner_can_start_on_free_nodes(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    strangers = next(j.id for j in stage.jobs().values() if j.nodes == "n4")
    stage.cancel(strangers)
    stage.wait(lambda: "idle" in stage.lab.run(["sinfo", "-h", "-n", "n4", "-o", "%t"]).stdout, 10)
    stage.runs(stage.submit("alice", "--exclusive"), "n4")
    assert stage.field(borrower, "Restarts") == "0"


@pytest.mark.behaviour("B19", "B20")
def test_a_borrower_that_ignores_sigterm_is_gone_within_killwait(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", wrap="trap '' TERM; while true; do sleep 1; done")
    stage.runs(borrower, "n1")
    stage.heeds(borrower, signal.SIGTERM)
    begun = time.monotonic()
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    assert 4 < time.monotonic() - begun < 1 + 5 + 1 + 3 + 8  # a machine that is busy takes its time
    stage.waits(borrower)


@pytest.mark.behaviour("B20")
def test_several_jobs_of_the_owner_all_start(stage: Stage) -> None:
    first, second = lend_both(stage)
    owners = [stage.submit("alice", "--exclusive") for _ in range(2)]
    for job in owners:
        stage.runs(job)
    assert {stage.jobs()[job].nodes for job in owners} == {"n1", "n2"}
    for borrower in (first, second):
        stage.waits(borrower)


@pytest.mark.behaviour("B25", "B39")
def test_more_demand_than_is_reserved_is_queued_and_other_owners_loans_go_on(stage: Stage) -> None:
    stage.start(
        physics={"owner": ALICE, "nodes": "n1"}, chemistry={"owner": {"users": ["carol"]}, "nodes": "n2"}
    )  # fmt: skip
    stage.lab.run(["scontrol", "update", "nodename=n[3-4]", "state=drain", "reason=test"])
    owners = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.runs(owners, "n1")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n2")
    more = [stage.submit("alice", "--exclusive", "--reservation=physics") for _ in range(2)]
    stage.never(lambda: any(stage.jobs()[job].nodes for job in more), 5)
    assert stage.jobs()[borrower].state == "RUNNING"
    assert stage.jobs()[owners].state == "RUNNING"
    assert all(stage.field(job, "Restarts") == "0" for job in (owners, borrower))


@pytest.mark.behaviour("B43")
def test_a_second_cycle_on_the_same_cluster_does_nothing(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    stage.runs(stage.borrow("bob"), "n1")
    stage.end()
    stage.cli("run", "--once")
    again = json.loads(stage.cli("--json", "run", "--once").stdout)
    assert again["actions"] == []
    before = stage.lab.run(["scontrol", "-o", "show", "reservation"]).stdout
    stage.cli("run", "--once")
    assert stage.lab.run(["scontrol", "-o", "show", "reservation"]).stdout == before


@pytest.mark.behaviour("B20")
def test_slurm_evicts_where_the_site_says_so(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "reclaim": {"evict_by": "slurm"}})
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    stage.waits_outside(borrower)
    assert not [e for e in stage.journal("decision") if "requeue" in e["text"]]


@pytest.mark.behaviour("B20", "B44")
def test_with_the_daemon_dead_slurm_itself_gives_the_node_back(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    stage.end(signal.SIGKILL)
    owners = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.runs(owners, "n1")
    stage.restart()
    stage.wait(lambda: stage.jobs()[borrower].reservation in ("", "(null)"), 10, "what was left attached is detached")
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 10, "the lend reservation goes")


def test_a_requeued_borrower_comes_back_without_slurms_two_minutes(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    stage.cancel(next(j.id for j in stage.jobs().values() if j.nodes == "n3"))
    stage.runs(borrower, "n3", timeout=15)


def test_a_magnetic_reservation_draws_the_owners_job_and_the_borrower_goes(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "find": "magnetic"})
    assert "MAGNETIC" in stage.reservations()["physics"]["Flags"]
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    stage.wait(lambda: stage.jobs()[borrower].reservation in ("", "(null)"), 10, "the victim is detached")


@pytest.mark.parametrize("why", ["--begin=now+1hour", "--hold", "--dependency=afterok:{other}", "--nodes=2"])
def test_what_nodes_cannot_cure_is_no_demand(stage: Stage, why: str) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    other = next(j.id for j in stage.jobs().values() if j.nodes == "n2")
    names_it = [] if why == "--nodes=2" else ["--reservation=physics"]  # Slurm itself refuses one that is too large
    stage.submit("alice", *names_it, why.format(other=other))
    stage.never(lambda: stage.jobs()[borrower].state != "RUNNING", 5)


def test_a_borrower_that_cannot_be_requeued_is_cancelled(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", "--no-requeue")
    stage.runs(borrower, "n1")
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    assert stage.field(borrower, "JobState") == "CANCELLED"


def test_a_borrower_that_ends_during_its_notice_frees_the_node_at_once(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "reclaim": {"notice": "60s", "signal": "USR1"}})
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", wrap="trap 'exit 0' USR1; while true; do sleep 0.2; done")
    stage.runs(borrower, "n1")
    stage.heeds(borrower, signal.SIGUSR1)
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    assert stage.field(borrower, "JobState") == "COMPLETED"


def test_nodes_come_back_at_a_word(stage: Stage) -> None:
    first, second = lend_both(stage)
    where = stage.jobs()[second].nodes
    stage.cli("reclaim", "physics", "--nodes", where)
    stage.wait(lambda: stage.jobs()[second].nodes != where, 15, "the node comes back")
    assert stage.jobs()[first].state == "RUNNING"
    stage.cli("lend", "physics", "off")
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 15, "all come back")
    stage.wait(lambda: stage.jobs()[first].state == "PENDING", 15, "what ran there waits again")
