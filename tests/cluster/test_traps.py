"""What breaks an overlay of reservations on live clusters (tests/traps.txt), on one: nothing of it breaks ours.

Traps that other files show besides carry their marks there.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster import crash
from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}
SELDOM = "SchedulerParameters=batch_sched_delay=0,sched_min_interval=5000000,bf_interval=2"
ONE = {"owner": ALICE, "nodes": "n1"}
TWO = {"owner": ALICE, "nodes": "n[1-2]"}
DEAF = "trap '' TERM; while true; do sleep 1; done"  # leaves its node KillWait after it was told to end


@pytest.fixture(scope="module")
def booted() -> Iterator[Lab]:
    with Lab.boot(LabSpec(kill_wait=4, slurm_conf=(QUICK, "Licenses=matlab:2"))) as lab:
        yield lab


@pytest.fixture
def seldom(stage: Stage) -> Iterator[Stage]:
    """Scheduling passes no sooner than five seconds after another, as on a cluster that has much to do."""
    stage.lab.reconfigure([SELDOM])
    yield stage
    stage.close()
    stage.lab.reconfigure([QUICK])


def is_free(stage: Stage, job: str) -> bool:
    """Carries no reservation."""
    return stage.jobs()[job].reservation in ("", "(null)")


def update(stage: Stage, job: str, *changes: str, user: str = "slurm") -> str:
    """What scontrol says to it; empty when it is done."""
    return stage.lab.run(["scontrol", "update", f"jobid={job}", *changes], user, check=False).stderr.strip()


def lent_one(stage: Stage, *options: str, wrap: str = "sleep 1000") -> str:
    """Bob's job on alice's only node, all other nodes in use."""
    stage.start(physics=ONE)
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", *options, wrap=wrap)
    stage.runs(borrower, "n1")
    return borrower


@pytest.mark.trap(1)
@pytest.mark.behaviour("B1", "B38")
def test_what_slurm_would_book_twice_is_bound_once(stage: Stage) -> None:
    names = ("physics", "biology", "chemistry")  # each written out, for aliases are refused
    wanted = {name: {"owner": {"users": ["alice"]}, "nodes": {"node_count": 2, "partition": "main"}} for name in names}
    stage.site(**wanted, astronomy={"owner": {"users": ["alice"]}, "nodes": "n[1-2]"})
    stage.restart()
    stage.wait(lambda: len(stage.reservations()) == 2, 15, "two are made")  # of four nodes there are no more
    stage.wait(lambda: stage.log().count("cannot be met") == 2, 10, "two are refused")
    nodes = [found["Nodes"] for found in stage.reservations().values()]
    assert sorted(nodes) == ["n[1-2]", "n[3-4]"]
    stage.never(lambda: len(stage.reservations()) > 2, 2)


@pytest.mark.trap(2)
@pytest.mark.behaviour("B36")
def test_so_many_nodes_stay_where_a_borrower_runs(stage: Stage) -> None:
    """Slurm itself would move a reservation of so many nodes away from a drained one within two seconds."""
    stage.start(physics={"owner": ALICE, "nodes": {"node_count": 2, "partition": "main"}})
    stage.fill("n3")
    borrower = stage.borrow("bob", "--exclusive", "-w", "n1")
    other = stage.submit("carol", "--exclusive", "-w", "n4")
    stage.runs(borrower, "n1")
    assert "SPEC_NODES" in stage.reservations()["physics"]["Flags"]
    stage.lab.run(["scontrol", "update", "nodename=n1", "state=drain", "reason=disk"])
    stage.never(lambda: stage.reservations()["physics"]["Nodes"] != "n[1-2]", 4)
    assert stage.reservations()["physics.lend"]["Nodes"] == "n1"
    stage.cancel(other)
    stage.cancel(borrower)
    stage.wait(lambda: stage.reservations()["physics"]["Nodes"] == "n[2,4]", 15, "it is replaced once it is free")
    stage.wait(lambda: "physics.lend" not in stage.reservations(), says="the lend reservation goes")


@pytest.mark.trap(3)
@pytest.mark.behaviour("B8")
def test_only_what_can_run_nowhere_but_in_lendable_partitions_is_lent_to(stage: Stage) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    either = stage.submit("bob", "-p", "preempt,main", "--exclusive")
    mixed = stage.submit("bob", "-p", "preempt", "--exclusive", ":", "-p", "main", "--exclusive")
    stage.runs(stage.borrow("dave", "--exclusive"))
    stage.never(lambda: [j for j in stage.jobs().values() if j.user == "bob" and j.nodes], 5)
    assert all(is_free(stage, job.id) for job in stage.jobs().values() if job.user == "bob")
    stage.cancel(either)
    stage.cancel(mixed)


@pytest.mark.trap(4)
@pytest.mark.behaviour("B8")
def test_a_victim_that_its_user_makes_ordinary_does_not_come_back_to_the_node(stage: Stage) -> None:
    victim = lent_one(stage)
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    stage.waits_outside(victim)

    def is_ordinary() -> bool:
        """Slurm 26.05 without accounting refuses another partition at random, by an errno left from something else."""
        said = update(stage, victim, "partition=main", "starttime=now", user="bob")
        assert said == "" or "Resource temporarily unavailable" in said
        return not said

    stage.wait(is_ordinary, says="its user makes it ordinary")
    stage.cancel(owners)
    stage.never(lambda: stage.jobs()[victim].nodes == "n1", 4)


@pytest.mark.trap(6, 7)
def test_check_says_what_magnetic_costs(stage: Stage) -> None:
    stage.site(physics={**ONE, "find": "magnetic"})
    said = " ".join(stage.cli("check", check=False).stdout.split())
    assert "evicts borrowers although free nodes would serve" in said
    assert "passes over jobs without a time limit" in said
    stage.site(physics=ONE)
    assert "MAGNETIC" not in stage.cli("check", check=False).stdout


@pytest.mark.trap(9)
@pytest.mark.behaviour("B23")
def test_a_victim_that_took_its_time_to_go_comes_back_without_slurms_two_minutes(stage: Stage) -> None:
    victim = lent_one(stage, wrap=DEAF)
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    stage.cancel(next(j.id for j in stage.jobs().values() if j.nodes == "n3"))
    stage.runs(victim, "n3", timeout=15)


@pytest.mark.trap(10)
def test_borrowers_are_put_back_before_the_reservations_end_would_kill_them(stage: Stage) -> None:
    borrower = lent_one(stage)
    end = time.time() + 32  # KillWait, epilog, three looks and a pass before that: 11 s
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
    stage.site(physics={**ONE, "end": at})
    stage.reload()
    late = stage.borrow("dave", "--exclusive", "-t", "1")
    stage.waits(borrower, 40)
    assert stage.field(borrower, "Restarts") == "1"
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 10, "the lend reservation goes")
    assert time.time() < end
    # Its minute would last beyond the end; after that the node is nobody's.
    stage.never(lambda: stage.jobs()[late].nodes, min(3, end - time.time() - 1))


@pytest.mark.trap(11)
@pytest.mark.behaviour("B20")
def test_an_owners_job_that_outlasts_the_reservation_is_served(stage: Stage) -> None:
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1200))
    stage.start(physics={**ONE, "end": end})
    stage.fill("n2", "n3", "n4")
    stage.runs(stage.borrow("bob", "--exclusive", "-t", "10"), "n1")
    owners = stage.submit("alice", "--exclusive", "-t", "60", "--reservation=physics")
    stage.runs(owners, "n1")
    stage.wait(lambda: "job may take longer than physics lasts" in stage.log(), 15, "its owner is warned")


@pytest.mark.trap(12)
def test_nobody_keeps_a_lend_reservation_from_going(stage: Stage) -> None:
    stage.start(physics=ONE)
    elsewhere = stage.submit("bob", "--exclusive", "-w", "n2")
    stage.fill("n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    held = stage.borrow("bob", "--hold", "--reservation=physics.lend")
    assert update(stage, elsewhere, "reservationname=physics.lend", user="bob") == ""
    stage.wait(lambda: is_free(stage, held) and is_free(stage, elsewhere), 15, "both are taken off")
    update(stage, held, "reservationname=physics.lend", user="bob")
    update(stage, elsewhere, "reservationname=physics.lend", user="bob")
    stage.cancel(borrower)
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 15, "it goes")
    assert stage.jobs()[elsewhere].state == "RUNNING"
    assert stage.jobs()[held].state == "PENDING"


@pytest.mark.trap(13)
def test_the_owners_own_job_in_the_lend_reservation_is_moved_to_hers_while_it_runs(stage: Stage) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    stage.runs(stage.borrow("bob", "-n", "1", "-w", "n1"), "n1")
    stage.send(signal.SIGSTOP)  # so that it starts before the daemon looks
    # From 25.11 on Slurm keeps jobs of other partitions out by itself, until an admin lets them in.
    more = ["AllowedPartitions=main,preempt"] if stage.release() >= (25, 11) else []
    stage.lab.run(["scontrol", "update", "reservation=physics.lend", "users=alice,bob", *more])
    owners = stage.submit("alice", "-n", "1", "--reservation=physics.lend")
    stage.runs(owners, "n1")
    stage.send(signal.SIGCONT)
    stage.wait(lambda: stage.jobs()[owners].reservation == "physics", 15, "it is in her own reservation")
    assert stage.field(owners, "Restarts") == "0"
    assert stage.jobs()[owners].state == "RUNNING"


@pytest.mark.trap(14)
@pytest.mark.behaviour("B20", "B25")
def test_what_an_attach_that_lost_its_race_leaves_is_judged_by_nodes(stage: Stage) -> None:
    stage.start(physics=ONE)
    elsewhere = stage.submit("bob", "--exclusive", "-w", "n2")
    stage.fill("n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    assert update(stage, borrower, "reservationname=") == ""  # on a lent node, but carries nothing
    assert update(stage, elsewhere, "reservationname=physics.lend") == ""  # elsewhere, but carries it
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    stage.waits(borrower)
    assert stage.jobs()[elsewhere].nodes == "n2"
    assert stage.field(elsewhere, "Restarts") == "0"
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 15, "the lend reservation goes")


@pytest.mark.trap(15)
@pytest.mark.behaviour("B18", "B21")
def test_nobody_takes_a_node_that_the_owners_job_is_gathering(stage: Stage) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    quick, slow = (stage.borrow("bob", "--exclusive", wrap=wrap) for wrap in ("sleep 1000", DEAF))
    for job in (quick, slow):
        stage.runs(job)
    waiting = [stage.borrow("dave", "--exclusive") for _ in range(3)]
    stage.heeds(slow, signal.SIGTERM)
    owners = stage.submit("alice", "--exclusive", "-N2")
    seen: set[str] = set()

    def gathered() -> bool:
        jobs = stage.jobs()
        seen.update(job for job in waiting if jobs[job].nodes)
        return jobs[owners].state == "RUNNING"

    stage.wait(gathered, 20, "it has both nodes")
    assert not seen
    assert [stage.field(job, "Restarts") for job in (quick, slow)] == ["1", "1"]


@pytest.mark.trap(16)
@pytest.mark.behaviour("B18")
@pytest.mark.parametrize("names_it", [True, False])
def test_for_one_job_of_the_owner_one_borrower_goes_whoever_evicts_it(seldom: Stage, names_it: bool) -> None:
    """Although the first takes its time, for which slurmctld would take the second as well."""
    stage = seldom
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    borrowers = [stage.borrow(user, "--exclusive", wrap=DEAF) for user in ("bob", "dave")]
    for job in borrowers:
        stage.runs(job, timeout=40)
    stage.runs(stage.submit("alice", "--exclusive", *["--reservation=physics"] * names_it), timeout=40)
    assert sorted(stage.field(job, "Restarts") for job in borrowers) == ["0", "1"]


@pytest.mark.trap(18)
def test_a_job_that_wants_licences_is_not_lent_to(stage: Stage) -> None:
    stage.start(physics=ONE)
    stage.fill("n2", "n3", "n4")
    licensed = stage.borrow("bob", "--exclusive", "-L", "matlab:1")
    stage.runs(stage.borrow("dave", "--exclusive"), "n1")
    assert f"{licensed}: holds licences" in stage.cli("plan").stdout
    assert is_free(stage, licensed)


@pytest.mark.trap(20)
@pytest.mark.behaviour("B25")
def test_a_reservation_over_a_running_ordinary_job_is_called_not_yet_whole(stage: Stage) -> None:
    stage.fill("n1")
    strangers = next(iter(stage.jobs()))
    stage.start(
        physics=ONE, biology={"owner": {"users": ["dave"]}, "nodes": {"node_count": 3, "partition": "main"}}
    )  # fmt: skip
    assert stage.reservations()["biology"]["Nodes"] == "n[2-4]"
    stage.wait(lambda: "not yet whole: jobs that were there before still run on n1" in stage.log(), says="it is told")
    owners = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.never(lambda: stage.jobs()[strangers].state != "RUNNING", 4)
    stage.cancel(strangers)
    stage.runs(owners, "n1")


@pytest.mark.trap(21)
def test_a_strangers_reservation_over_ours_is_reported_and_not_lent_under(stage: Stage) -> None:
    stage.start(physics=TWO)
    stage.lab.run(
        ["scontrol", "create", "reservation", "ReservationName=theirs", "Users=carol", "Nodes=n1", "StartTime=now",
         "Duration=60", "Flags=OVERLAP"]
    )  # fmt: skip
    stage.wait(lambda: "reservation theirs lies over n1" in stage.log(), 10, "it is reported")
    assert "reservation theirs lies over its nodes" in " ".join(stage.cli("check", check=False).stdout.split())
    stage.fill("n3", "n4")
    borrowers = [stage.borrow("bob", "--exclusive") for _ in range(2)]
    stage.wait(lambda: any(stage.jobs()[job].nodes == "n2" for job in borrowers), 20, "n2 is lent")
    stage.never(lambda: any(stage.jobs()[job].nodes == "n1" for job in borrowers), 3)
    assert "theirs" in stage.reservations()


@pytest.mark.trap(22)
def test_a_job_that_does_not_fit_is_not_sent_and_one_that_was_is_brought_back(stage: Stage) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    stage.runs(stage.borrow("dave", "--exclusive"))
    unfit = stage.borrow("bob", "--exclusive", "-w", "n3")
    owners = stage.submit("alice", "--exclusive", "-w", "n3")
    stage.never(lambda: not (is_free(stage, unfit) and is_free(stage, owners)), 4)

    def is_sent() -> bool:
        """The daemon may put the list of users right in between."""
        stage.lab.run(["scontrol", "update", "reservation=physics.lend", "users=bob,dave"])
        return update(stage, unfit, "reservationname=physics.lend") == ""

    stage.wait(is_sent, says="it is sent there by hand")
    stage.wait(lambda: is_free(stage, unfit), 15, "it is taken off")
    stage.cancel(owners)
    stage.cancel(next(j.id for j in stage.jobs().values() if j.nodes == "n3"))
    stage.runs(unfit, "n3")


@pytest.mark.trap(23)
@pytest.mark.behaviour("B20")
def test_a_borrower_that_may_not_be_requeued_any_more_is_cancelled(stage: Stage) -> None:
    borrower = lent_one(stage)
    assert update(stage, borrower, "requeue=0", user="bob") == ""
    stage.runs(stage.submit("alice", "--exclusive"), "n1")
    assert stage.field(borrower, "JobState") == "CANCELLED"


@pytest.mark.long
@pytest.mark.trap(8)
@pytest.mark.behaviour("B22")
def test_an_eviction_that_slurmctld_forgets_comes_to_the_same_end(stage: Stage) -> None:
    stage.start(physics={**ONE, "reclaim": {"notice": "8s", "signal": "USR1"}})  # slurmctld saves jobs every 5 s
    stage.fill("n2", "n3", "n4")
    victim = stage.borrow("bob", "--exclusive", wrap="trap '' USR1; sleep 1000 & wait; wait")
    stage.runs(victim, "n1")
    owners = stage.submit("alice", "--exclusive")
    stage.wait(lambda: f"requeue job {victim}" in stage.log(), 30, "it is evicted")
    stage.lab.kill("slurmctld")
    crash.start_again(stage.lab)
    stage.runs(owners, "n1", 90)
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 30, "the lend reservation goes")

    def is_put_back() -> bool:
        left = stage.job(victim)
        return left is None or (left.state, left.reservation in ("", "(null)")) == ("PENDING", True)

    stage.wait(is_put_back, says="the victim waits, or is gone")
    assert stage.field(victim, "Restarts") in ("0", "1")


@pytest.mark.long
@pytest.mark.trap(19)
@pytest.mark.behaviour("B44")
def test_a_lent_node_whose_slurmd_is_dead_gives_way_to_another(stage: Stage) -> None:
    stage.lab.reconfigure(["SlurmdTimeout=10"])
    try:
        stage.start(physics={"owner": ALICE, "nodes": {"node_count": 1, "partition": "main"}})
        stage.fill("n2", "n3", "n4")
        borrower = stage.borrow("bob", "--exclusive")
        stage.runs(borrower, "n1")
        stage.lab.kill("slurmd@n1")
        owners = stage.submit("alice", "--exclusive", "--reservation=physics")
        stage.wait(lambda: "guarantee broken: n1" in stage.log(), 60, "it is told")
        stage.cancel(next(j.id for j in stage.jobs().values() if j.nodes == "n2"))
        stage.runs(owners, "n2", 60)
        stage.waits_outside(borrower, 60)
        stage.wait(lambda: stage.reservations()["physics"]["Nodes"] == "n2", says="n2 is hers instead")
    finally:
        stage.lab.reconfigure(["SlurmdTimeout="])
