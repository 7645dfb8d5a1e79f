"""(c), (d) and (e): a second user's job that may be terminated runs on nodes that their owner leaves idle."""

from __future__ import annotations

import signal

import pytest
from slurm_reserve.lab import LabError

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster


@pytest.mark.behaviour("B7", "B10")
def test_a_borrower_is_accepted_while_the_node_is_busy_and_starts_when_it_falls_idle(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    owners = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.runs(owners, "n1")
    borrower = stage.borrow("bob")
    assert stage.waits(borrower).partition == "preempt"
    stage.never(lambda: stage.jobs()[borrower].nodes, 3)
    stage.cancel(owners)
    stage.runs(borrower, "n1")


@pytest.mark.behaviour("B10", "B14", "B15")
def test_a_borrower_runs_under_its_own_user_on_a_node_that_stays_the_owners(stage: Stage) -> None:
    stage.start()
    before = stage.reservations()["physics"]
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", wrap="id -un > $HOME/who; sleep 1000")
    stage.runs(borrower, "n1")
    assert stage.wait(lambda: stage.lab.run(["cat", "who"], user="bob", check=False).stdout, 5) == "bob\n"
    after = stage.reservations()
    assert after["physics"] == before
    assert (after["physics.lend"]["Nodes"], after["physics.lend"]["Users"]) == ("n1", "bob")
    assert {"OVERLAP", "IGNORE_JOBS"} <= set(after["physics.lend"]["Flags"].split(","))
    stranger = stage.submit("carol")
    stage.never(lambda: stage.jobs()[stranger].nodes == "n1", 3)


@pytest.mark.behaviour("B8")
def test_an_ordinary_job_is_never_placed_on_lent_nodes_and_is_put_out_when_it_names_them(stage: Stage) -> None:
    stage.start(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-2]"})
    stage.fill("n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    where = stage.runs(borrower).nodes
    stage.send(signal.SIGSTOP)  # so that it gets in before the daemon looks
    opened = ["nodes=n[1-2]"]
    if stage.release() >= (25, 11):  # AllowedPartitions: Slurm itself keeps it out, unless an admin takes that off
        with pytest.raises(LabError, match="Problem using reservation"):
            stage.submit("bob", "-p", "main", "--reservation=physics.lend", "--exclusive")
        opened.append("AllowedPartitions=main,preempt")
    stage.lab.run(["scontrol", "update", "reservation=physics.lend", *opened])
    intruder = stage.submit("bob", "-p", "main", "--reservation=physics.lend", "--exclusive")
    stage.runs(intruder)
    stage.send(signal.SIGCONT)
    stage.wait(lambda: f"job {intruder}: bob ran an ordinary job in physics.lend" in stage.log(), 20, "it is reported")
    stage.wait(lambda: not stage.jobs()[intruder].nodes and "lend" not in stage.jobs()[intruder].reservation, 20)
    stage.lab.run(["scontrol", "update", "reservation=physics.lend", *opened])
    waiting = stage.submit("bob", "-p", "main", "--reservation=physics.lend", "--begin=now+1hour")
    stage.wait(lambda: "lend" not in stage.jobs()[waiting].reservation, 20, "one that waits is taken off")
    assert stage.jobs()[borrower].nodes == where
    assert stage.field(borrower, "Restarts") == "0"


@pytest.mark.behaviour("B12")
def test_a_node_is_idle_only_when_no_job_of_the_owner_holds_it(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    first, second = (stage.submit("alice", "--reservation=physics") for _ in range(2))
    stage.runs(first, "n1")
    stage.runs(second, "n1")
    borrower = stage.borrow("bob")
    stage.cancel(first)
    stage.never(lambda: stage.jobs()[borrower].nodes, 4)
    stage.lab.run(["scontrol", "suspend", second])
    stage.wait(lambda: stage.jobs()[second].state == "SUSPENDED", 10, "it is suspended")
    stage.never(lambda: stage.jobs()[borrower].nodes, 4)
    stage.lab.run(["scontrol", "resume", second])
    stage.cancel(second)
    stage.runs(borrower, "n1")


@pytest.mark.behaviour("B12")
def test_an_interactive_job_of_the_owner_and_a_completing_one_keep_the_node(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    shell = stage.lab.popen(
        ["salloc", "--reservation=physics", "--exclusive", "sleep", "1000"], user="alice", text=True, stderr=-1
    )
    owners = stage.wait(lambda: [j for j in stage.jobs().values() if j.user == "alice" and j.nodes], 15)[0]
    borrower = stage.borrow("bob")
    stage.never(lambda: stage.jobs()[borrower].nodes, 3)
    stage.cancel(owners.id)
    stage.runs(borrower, "n1")
    shell.kill()
    shell.wait(10)


ENDS = [
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    *(pytest.param(how, marks=pytest.mark.long) for how in ("TIMEOUT", "NODE_FAIL")),
]


@pytest.mark.behaviour("B13")
@pytest.mark.parametrize("how", ENDS)
def test_idleness_is_noticed_however_the_owners_job_ended(stage: Stage, how: str) -> None:
    stage.start()
    stage.wait(lambda: stage.journal("idle"), 5, "n1 is idle at first")
    seen = len(stage.journal("idle"))
    stage.lab.run(["rm", "-f", "go"], user="alice")
    until = "until [ -e $HOME/go ]; do sleep 0.1; done"
    wrap = {"COMPLETED": until, "FAILED": f"{until}; exit 3"}.get(how, "sleep 1000")
    owners = stage.submit("alice", "--reservation=physics", "--no-requeue", "--time=1", wrap=wrap)
    stage.runs(owners, "n1")
    stage.sees("n1", "owner")
    assert len(stage.journal("idle")) == seen
    if "go" in wrap:
        stage.lab.run(["touch", "go"], user="alice")
    if how == "CANCELLED":
        stage.cancel(owners)
    if how == "NODE_FAIL":
        stage.lab.run(["scontrol", "update", "nodename=n1", "state=down", "reason=failed"])
    stage.wait(lambda: len(stage.journal("idle")) == seen + 1, 120 if how == "TIMEOUT" else 10, "it is noticed")
    evidence = stage.journal("idle")[-1]["text"]
    stage.wait(lambda: stage.field(owners, "JobState") == how, says=f"it has {how}")
    assert evidence.startswith("n1 is idle of its owner: no owner's job holds it; node ")


def test_lending_stops_while_paused_and_over_a_restart(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    stage.cli("pause")
    borrower = stage.borrow("bob")
    stage.never(lambda: stage.jobs()[borrower].nodes, 3)
    assert stage.end() == 0
    stage.restart()
    stage.never(lambda: stage.jobs()[borrower].nodes, 3)
    stage.cli("resume")
    stage.runs(borrower, "n1")


@pytest.mark.each_release
def test_tasks_of_an_array_are_lent_to_one_by_one(stage: Stage) -> None:
    stage.start(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-2]"})
    stage.fill("n3", "n4")
    array = stage.borrow("bob", "--exclusive", "--array=1-4")
    stage.wait(lambda: sum(j.nodes in ("n1", "n2") for j in stage.jobs().values()) == 2, 20, "two tasks run")

    def is_free() -> bool:
        waiting = [j for j in stage.jobs().values() if j.id.startswith(array) and not j.nodes]
        return all(j.reservation in ("", "(null)") for j in waiting)

    stage.wait(is_free, 20, "the others are sent nowhere")
    owners = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.runs(owners)
    running = [j for j in stage.jobs().values() if j.user == "bob" and j.state == "RUNNING"]
    assert len(running) == 1
