"""Who borrows: bids, the owner's own first, caps, what is lent last, hold-down, ranges, and what is expected."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}
BY_COMMENT = {"partitions": ["preempt"], "bid": "comment"}


def lending(stage: Stage, **keys: Any) -> None:
    """Lay these keys over the site's `lending`."""
    stage.keys["lending"] = {**BY_COMMENT, **keys}


def bid(stage: Stage, user: str, comment: str, *options: str) -> str:
    return stage.borrow(user, "--exclusive", f"--comment={comment}", *options)


def busy(stage: Stage, node: str = "n1") -> str:
    """The owner's own job on the reserved node."""
    job = stage.submit("alice", "--exclusive", "--reservation=physics", "-w", node)
    stage.runs(job, node)
    return job


def started(stage: Stage, job: str) -> datetime:
    return datetime.fromisoformat(stage.field(job, "StartTime")).replace(tzinfo=UTC)


@pytest.mark.behaviour("B26")
def test_the_higher_bid_goes_first_and_of_equal_ones_the_earlier(stage: Stage) -> None:
    lending(stage)
    stage.start()
    stage.fill("n2", "n3", "n4")
    owners = busy(stage)
    hostile = bid(stage, "bob", "bid=999;bid=1 ünïcode\x1f\x1d $(id) 'bid=\n")
    low, first = bid(stage, "bob", "bid=0.05"), bid(stage, "dave", "bid=0.08 for my thesis")
    second = bid(stage, "bob", "bid=0.080")
    stage.cancel(owners)
    order = []
    for _ in range(4):
        running = stage.wait(
            lambda: [j for j in stage.jobs().values() if j.nodes == "n1" and j.state == "RUNNING"], 20, "one is lent to"
        )
        assert len(running) == 1
        order.append(running[0].id)
        stage.cancel(running[0].id)
        stage.wait(lambda: order[-1] not in stage.jobs(), 15, "it is gone")
    assert order == [first, second, low, hostile]
    attached = [e for e in stage.journal("decision") if e["job"] == first and '"action": "AttachJob"' in e["data"]]
    assert '"bid": "0.08"' in attached[0]["data"]


@pytest.mark.behaviour("B27")
def test_a_higher_bid_displaces_a_lower_borrower_and_an_equal_one_does_not(stage: Stage) -> None:
    lending(stage, displace=True)
    stage.start()
    stage.fill("n2", "n3", "n4")
    low = bid(stage, "bob", "bid=0.05")
    stage.runs(low, "n1")
    equal = bid(stage, "dave", "bid=0.05")
    stage.never(lambda: stage.jobs()[equal].nodes or stage.jobs()[low].state != "RUNNING", 4)
    high = bid(stage, "dave", "bid=0.08")
    stage.runs(high, "n1")
    stage.waits_outside(low)
    assert stage.field(low, "Restarts") == "1"
    evictions = [e for e in stage.journal("decision") if e["job"] == low and "requeue" in e["text"]]
    assert f"job {high} of dave bids 0.08, more than 0.05, for n1" in evictions[0]["text"]
    owners = busy(stage)  # and the owner comes before any bid
    stage.never(lambda: stage.jobs()[owners].state != "RUNNING", 2)


@pytest.mark.behaviour("B27")
def test_who_raises_a_bid_after_the_loan_gives_way_all_the_same(stage: Stage) -> None:
    lending(stage, displace=True)
    stage.start()
    stage.fill("n2", "n3", "n4")
    low = bid(stage, "bob", "bid=0.05")
    stage.runs(low, "n1")
    stage.lab.run(["scontrol", "update", f"JobId={low}", "Comment=bid=99"], user="bob")
    stage.runs(bid(stage, "dave", "bid=0.08"), "n1")
    stage.wait(lambda: [e for e in stage.journal("outcome") if f"requeue job {low}" in e["text"]], 15, "it went")


@pytest.mark.behaviour("B26", "B27")
def test_bids_displace_nobody_unless_the_site_says_so(stage: Stage) -> None:
    lending(stage)
    stage.start()
    stage.fill("n2", "n3", "n4")
    low = bid(stage, "bob", "bid=0.05")
    stage.runs(low, "n1")
    high = bid(stage, "dave", "bid=0.08")
    stage.never(lambda: stage.jobs()[high].nodes or stage.jobs()[low].state != "RUNNING", 4)


@pytest.mark.behaviour("B28")
@pytest.mark.parametrize("order", ["least_loss", "youngest"])
def test_the_victim_is_the_one_with_the_lowest_bid_unless_the_site_says_otherwise(stage: Stage, order: str) -> None:
    lending(stage)
    stage.start(physics={"owner": ALICE, "nodes": "n[1-2]", "reclaim": {"victims": order}})
    stage.fill("n3", "n4")
    older = bid(stage, "bob", "bid=0.05")
    stage.runs(older)
    time.sleep(1.1)  # Slurm tells start times in whole seconds
    younger = bid(stage, "dave", "bid=0.08")
    stage.runs(younger)
    stage.runs(stage.submit("alice", "--exclusive"))
    victim, other = (older, younger) if order == "least_loss" else (younger, older)
    stage.waits(victim)
    assert stage.jobs()[other].state == "RUNNING"
    assert (stage.field(victim, "Restarts"), stage.field(other, "Restarts")) == ("1", "0")


@pytest.mark.behaviour("B41")
@pytest.mark.trap(17)
def test_the_owners_own_borrowers_come_first_on_her_nodes_and_yield_to_her_reserved_jobs(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    owners = busy(stage)
    others = stage.borrow("bob", "--exclusive")
    own = stage.borrow("alice", "--exclusive")
    stage.cancel(owners)
    stage.runs(own, "n1")
    assert stage.jobs()[others].state == "PENDING"
    reserved = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.runs(reserved, "n1")
    stage.waits_outside(own)


@pytest.mark.behaviour("B41")
@pytest.mark.trap(17)
def test_the_owners_borrower_that_a_magnetic_reservation_drew_in_is_a_borrower(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "find": "magnetic"})
    stage.fill("n2", "n3", "n4")
    stage.cli("pause")  # so that it is Slurm that starts it
    own = stage.borrow("alice", "--exclusive", "--time=5")
    stage.runs(own, "n1")
    assert stage.jobs()[own].reservation == "physics"
    ordinary = stage.submit("alice", "--exclusive", "--time=5")
    stage.runs(ordinary, "n1")
    assert stage.waits(own).state == "PENDING"


@pytest.mark.behaviour("B33")
def test_a_reservation_that_is_lent_last_is_lent_last(stage: Stage) -> None:
    chemistry = {"owner": {"users": ["carol"]}, "nodes": "n1", "lend": {"last": True}}
    stage.start(chemistry=chemistry, physics={"owner": ALICE, "nodes": "n2"})
    stage.lab.run(["scontrol", "update", "nodename=n[3-4]", "state=drain", "reason=test"])
    first = stage.borrow("bob", "--exclusive")
    stage.runs(first, "n2")
    stage.runs(stage.borrow("bob", "--exclusive"), "n1")


@pytest.mark.behaviour("B33")
def test_how_long_nodes_used_to_stay_idle_is_remembered_and_decides_which_is_lent_first(stage: Stage) -> None:
    stage.start(chemistry={"owner": {"users": ["carol"]}, "nodes": "n1"}, physics={"owner": ALICE, "nodes": "n2"})
    stage.lab.run(["scontrol", "update", "nodename=n[3-4]", "state=drain", "reason=test"])
    stage.cli("pause")
    for _ in range(5):  # carol is back within seconds, each time
        hers = stage.submit("carol", "--exclusive", "--reservation=chemistry")
        stage.sees("n1", "owner")
        stage.cancel(hers)
        stage.sees("n1", "idle")
    stage.cli("resume")
    stage.runs(stage.borrow("bob", "--exclusive"), "n2")


@pytest.mark.behaviour("B28")
def test_a_borrower_that_has_just_saved_loses_least_and_goes_first(stage: Stage) -> None:
    stage.keys["lending"] = {"partitions": ["preempt"], "saved_in_comment": True}
    stage.start(physics={"owner": ALICE, "nodes": "n[1-2]"})
    stage.fill("n3", "n4")
    save = 'while :; do scontrol update JobId=$SLURM_JOB_ID Comment="saved=$(date -u +%FT%TZ)"; sleep 1; done'
    old = stage.borrow("bob", "--exclusive", wrap=save)
    stage.runs(old)
    young = stage.borrow("dave", "--exclusive")
    stage.runs(young)

    def has_saved() -> bool:
        """Five seconds after the other one has begun, which has saved nothing since."""
        said = stage.lab.run(["squeue", "-h", "-j", old, "-o", "%k"]).stdout.strip()  # scontrol prints the script, too
        at = datetime.fromisoformat(said.removeprefix("saved=")) if said.startswith("saved=") else None
        return at is not None and at - started(stage, young) >= timedelta(seconds=5)

    stage.wait(has_saved, says="the older one has saved")
    stage.runs(stage.submit("alice", "--exclusive"))
    stage.waits_outside(old)
    assert stage.jobs()[young].state == "RUNNING"


@pytest.mark.behaviour("B34")
def test_a_node_is_not_lent_before_it_has_been_idle_for_long_enough(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "lend": {"after_idle": "6s"}})
    stage.fill("n2", "n3", "n4")
    owners = busy(stage)
    borrower = stage.borrow("bob", "--exclusive")
    stage.never(lambda: stage.jobs()[borrower].nodes, 2)
    stage.cancel(owners)
    ended = datetime.now(UTC)
    stage.runs(borrower, "n1")
    assert started(stage, borrower) - ended >= timedelta(seconds=5)  # whole seconds


def test_nodes_are_kept_idle_and_long_jobs_are_kept_out(stage: Stage) -> None:
    lend = {"keep_idle_nodes": 1, "max_time": "2m"}
    stage.start(physics={"owner": ALICE, "nodes": "n[1-2]", "lend": lend})
    stage.fill("n3", "n4")
    endless, long = stage.borrow("bob", "--exclusive"), stage.borrow("bob", "--exclusive", "--time=3")
    first, second = (stage.borrow("dave", "--exclusive", "--time=2") for _ in range(2))
    stage.runs(first)
    stage.never(lambda: any(stage.jobs()[job].nodes for job in (endless, long, second)), 4)


@pytest.mark.parametrize("cap", ["user", "account"])
def test_nobody_is_lent_more_nodes_than_the_site_allows(stage: Stage, cap: str) -> None:
    lending(stage, **{f"max_nodes_per_{cap}": 1})
    stage.start(physics={"owner": ALICE, "nodes": "n[1-3]", "lend": {"max_nodes": 2}})
    stage.fill("n4")
    greedy = [stage.borrow("bob", "--exclusive", "-A", "biology") for _ in range(2)]
    modest = [stage.borrow("dave", "--exclusive", "-A", "history") for _ in range(2)]
    stage.runs(greedy[0])
    stage.runs(modest[0])
    stage.never(lambda: any(stage.jobs()[job].nodes for job in (greedy[1], modest[1])), 4)
    own = stage.borrow("alice", "--exclusive")  # what is hers does not count, but only two are lent in all
    stage.never(lambda: stage.jobs()[own].nodes, 3)
    stage.cancel(modest[0])
    stage.runs(own)


@pytest.mark.behaviour("B29")
def test_a_borrower_that_asks_for_a_range_starts_with_its_minimum_and_takes_what_is_there(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n[1-3]"})
    stage.fill("n4")
    hers = [busy(stage, node) for node in ("n1", "n2")]
    borrower = stage.borrow("bob", "--exclusive", "-N2-3")
    stage.never(lambda: stage.jobs()[borrower].nodes, 3)
    stage.cancel(hers[0])
    stage.runs(borrower, "n[1,3]")
    stage.cancel(borrower)
    stage.cancel(hers[1])
    stage.wait(lambda: borrower not in stage.jobs() and hers[1] not in stage.jobs(), 15, "all is idle")
    stage.runs(stage.borrow("bob", "--exclusive", "-N1-3"), "n[1-3]")


@pytest.mark.behaviour("B24", "B25")
def test_an_ordinary_job_displaces_borrowers_by_slurm_itself_but_only_outside_reserved_nodes(stage: Stage) -> None:
    stage.start()
    outside = stage.borrow("bob", "--exclusive", "-w", "n4")
    stage.runs(outside, "n4")
    ordinary = [stage.submit("carol", "--exclusive") for _ in range(2)]
    assert {stage.runs(job).nodes for job in ordinary} == {"n2", "n3"}
    lent = stage.borrow("dave", "--exclusive")
    stage.runs(lent, "n1")
    another = stage.submit("carol", "--exclusive")
    stage.runs(another, "n4")
    assert stage.jobs()[outside].state == "PENDING"
    more = stage.submit("carol", "--exclusive")
    stage.never(lambda: stage.jobs()[more].nodes, 3)
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    assert {stage.jobs()[job].state for job in (*ordinary, another, owners)} == {"RUNNING"}
    assert {stage.field(job, "Restarts") for job in (*ordinary, another, owners)} == {"0"}


@pytest.mark.behaviour("B20")
def test_nodes_are_free_when_an_owners_job_begins_as_it_said(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", wrap="trap '' TERM; while true; do sleep 1; done")
    stage.runs(borrower, "n1")
    stage.heeds(borrower, signal.SIGTERM)
    owners = stage.submit("alice", "--exclusive", "--reservation=physics", "--begin=now+20")
    begin = datetime.fromisoformat(stage.field(owners, "EligibleTime")).replace(tzinfo=UTC)
    # Not sooner than needed: KillWait, epilog, looks and a pass before, which are twelve seconds.
    stage.never(lambda: stage.jobs()[borrower].state != "RUNNING", (begin - datetime.now(UTC)).total_seconds() - 14)
    stage.waits(borrower)
    assert datetime.now(UTC) < begin
    stage.runs(owners, "n1")


def test_long_borrowers_are_not_started_into_an_owners_job_that_is_expected(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    stage.submit("alice", "--exclusive", "--reservation=physics", "--begin=now+5minutes")
    endless = stage.borrow("bob", "--exclusive")
    stage.never(lambda: stage.jobs()[endless].nodes, 2)
    assert "it would run into an owner's job that is expected" in stage.cli("plan").stdout
    short = stage.borrow("dave", "--exclusive", "--time=2")
    stage.runs(short, "n1")
    assert not stage.jobs()[endless].nodes
