"""The story that the behaviours end with (B45), on a real Slurm with accounting, and what it costs whom.

N1, N2, N3 are owners' nodes; N2 is not preferred. A (0.05), B (0.08), C (0.10, up to three nodes, two "hours" in all)
and D (0.05) are borrowers. Owners offer their nodes and take them back by their word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from slurm_reserve.charges import Run, by_reservation, by_user
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster

OWNERS = {"N1": "alice", "N2": "carol", "N3": "erin"}
NODE = {"N1": "n1", "N2": "n2", "N3": "n3"}
SHARE = Decimal("0.8")  # of what is charged for a node, what its owner gets


class Story(Stage):
    """The stage, and which nodes are offered by their owners."""

    offered = frozenset(NODE)

    def available(self, *names: str) -> None:
        """These nodes, and no others; the first one first."""
        for name in self.offered - set(names):
            self.cli("lend", name, "off")
        for name in names:
            if name not in self.offered:
                self.cli("lend", name, "on")
        self.offered = frozenset(names)


@pytest.fixture
def stage() -> Iterator[Story]:
    users = (*LabSpec().users, type(LabSpec().users[0])("erin"))
    with Lab.boot(LabSpec(nodes=3, kill_wait=2, accounting=True, slurm_conf=(QUICK,), users=users)) as lab:
        made = Story(lab, user="reserve")
        made.keys["lending"] = {
            "partitions": ["preempt"], "bid": "comment", "displace": True, "expires_in_comment": True,
        }  # fmt: skip
        made.start(
            **{
                name: {"owner": {"users": [OWNERS[name]]}, "nodes": node, "lend": {"last": name == "N2"}}
                for name, node in NODE.items()
            }
        )
        made.available()
        yield made
        made.close()


def arrives(stage: Story, user: str, comment: str, *options: str) -> str:
    return stage.borrow(user, "--exclusive", f"--comment={comment}", *options)


def tasks(stage: Story, job: str) -> dict[str, str]:
    """The tasks of an array that run, and where."""
    return {j.id: j.nodes for j in stage.jobs().values() if j.id.startswith(f"{job}_") and j.state == "RUNNING"}


def is_gone(stage: Story, *jobs: str) -> bool:
    return not any(each.startswith(jobs) for each in stage.jobs())


@pytest.mark.behaviour("B45")
def test_the_story(stage: Story) -> None:
    # 1. N1 is idle. A arrives and runs on N1.
    stage.available("N1")
    a = arrives(stage, "bob", "bid=0.05")
    stage.runs(a, "n1")
    # 2. N1's owner takes it back: A is evicted and stays pending.
    stage.available()
    stage.waits_outside(a)
    # 3. N2 (not preferred) and N3 are available: A runs on N3, N2 stays empty.
    stage.available("N3", "N2")
    stage.runs(a, "n3")
    assert not [job for job in stage.jobs().values() if job.nodes == "n2"]
    # 4. Only N3 is available; B arrives with a higher bid: A is evicted, B runs on N3.
    stage.available("N3")
    b = arrives(stage, "dave", "bid=0.08")
    stage.runs(b, "n3")
    stage.waits_outside(a)
    # 5. A second node is available: B stays where it is, A runs on the second.
    stage.available("N1", "N3")
    stage.runs(a, "n1")
    assert (stage.jobs()[b].nodes, stage.field(b, "Restarts")) == ("n3", "0")
    # 6. Three nodes; C arrives for up to three: A and B are evicted, C runs on all three.
    stage.available("N1", "N2", "N3")
    c = arrives(stage, "bob", "bid=0.10 run_time=30s", "--array=1-3")
    stage.wait(lambda: set(tasks(stage, c).values()) == {"n1", "n2", "n3"}, 15, "C runs on all three")
    stage.waits_outside(a)
    stage.waits_outside(b)
    # 7. One node is reclaimed: C stops on that node only and goes on with two.
    before = tasks(stage, c)
    hers = stage.submit("alice", "--exclusive")
    stage.runs(hers, "n1")
    assert tasks(stage, c) == {task: node for task, node in before.items() if node != "n1"}
    # 8. C has run its two hours in all: it expires, ends and is not restarted.
    stage.cli("pause")
    stage.wait(lambda: is_gone(stage, c), 60, "C has run for its time, and is gone")
    assert all("ended for good" in told(stage, task) for task in before)
    # 9. One node is available: B runs.
    stage.available("N3")
    stage.cli("resume")
    stage.runs(b, "n3")
    stage.waits_outside(a)
    # 10. B's user cancels it: it ends and is gone. D arrives; A is chosen, same bid and earlier.
    d = arrives(stage, "dave", "bid=0.05")
    stage.lab.run(["scancel", b], user="dave")
    stage.runs(a, "n3")
    assert is_gone(stage, b)
    stage.waits_outside(d)
    # 11. Another, not preferred, node is available and nothing else: D runs there.
    stage.available("N2", "N3")
    stage.runs(d, "n2")
    assert stage.jobs()[hers].state == "RUNNING"
    assert is_gone(stage, b, c)
    assert_charges(stage, a, b, c, d)


def told(stage: Story, job: str) -> str:
    return stage.lab.run(["scontrol", "-o", "show", "job", job]).stdout


def assert_charges(stage: Story, *borrowers: str) -> None:
    """Charges are bid times node time, as Slurm's own accounting has it; the owners of lent nodes get their share."""
    for job in borrowers:
        stage.cancel(job)
    stage.wait(lambda: is_gone(stage, *borrowers), 20, "all are over")
    runs = stage.wait(lambda: accounted(stage, borrowers), 20, "all of it is in the accounts")
    charged, earned = by_user(runs), by_reservation(runs, SHARE)
    assert set(charged) == {"bob", "dave"}
    assert set(earned) <= set(NODE)
    assert round(sum(earned.values()) - SHARE * sum(charged.values()), 20) == 0
    for user, total in charged.items():
        own = [run for run in runs if run.user == user]
        seconds = {run.bid: Decimal(0) for run in own}
        for run in own:
            seconds[run.bid] += run.nodes * Decimal((run.end - run.start).total_seconds())
        assert total == sum(bid * count for bid, count in seconds.items()) / 3600
        assert total > 0
    assert {run.bid for run in runs} == {Decimal("0.05"), Decimal("0.08"), Decimal("0.10")}


def accounted(stage: Story, borrowers: tuple[str, ...]) -> list[Run]:
    """Every run of the borrowers, from sacct; whose nodes they were and what was bid, from the journal's loans."""
    argv = ["sacct", "-D", "-n", "-X", "-P", "-j", ",".join(borrowers), "-o", "jobid,user,nodelist,nnodes,start,end"]
    loans = [json.loads(e["data"]) for e in stage.journal("decision") if '"action": "AttachJob"' in e["data"]]
    bids = {loan["job"][0].partition("_")[0]: Decimal(loan["bid"]) for loan in loans if loan["bid"] != "0"}
    owner = {node: name for name, node in NODE.items()}
    found = []
    for line in stage.lab.run(argv, env={"TZ": "UTC"}).stdout.splitlines():
        job, user, nodes, count, start, end = line.split("|")
        if end == "Unknown":
            return []
        if nodes in owner:
            begin, over = (datetime.fromisoformat(at).replace(tzinfo=UTC) for at in (start, end))
            assert over - begin >= timedelta(0)
            found.append(Run(job, user, owner[nodes], int(count), begin, over, bids[job.partition("_")[0]]))
    return found
