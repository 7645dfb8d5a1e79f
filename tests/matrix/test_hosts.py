"""What one host cannot show: hosts that stop, networks that are cut, daemons on two hosts. On each release."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.stage import SITE, Stage
from tests.matrix.cluster import ContainerCluster

ALICE = {"users": ["alice"]}
TWO = {"owner": ALICE, "nodes": "n[1-2]"}
TAKEN_OVER = 120  # seconds: 30 of lease, up to 30 until slurmctld removes what has ended, and the next looks
DEAF = "trap '' USR1; sleep 1000 & wait; wait"


def test_each_part_runs_on_a_host_with_an_address_of_its_own_and_the_daemon_is_no_root(stage: Stage) -> None:
    lab = containers(stage)
    stage.start()
    hosts = ("database", "slurmdbd", "controller", "n1", "n2", "n3", "n4", "login", "daemon", "standby")
    networks = [lab.container(host).attrs["NetworkSettings"]["Networks"] for host in hosts]
    addresses = [network["IPAddress"] for each in networks for network in each.values()]
    assert len(set(addresses)) == len(hosts)
    programs = lab.run(["ps", "-eo", "user:20,args"], "reserve").stdout
    assert any(line.startswith("reserve ") and "slurm_reserve" in line for line in programs.splitlines())
    for daemon in ("slurmctld", "slurmd", "slurmdbd"):
        assert lab.run(["sh", "-c", f"command -v {daemon}"], "reserve", check=False).returncode != 0
    said = lab.run(["sacctmgr", "-nP", "show", "user", "reserve", "format=AdminLevel"]).stdout
    assert said.strip() == "Operator"


@pytest.mark.behaviour("B44")
def test_a_compute_host_that_stops_while_lent_leaves_the_loan(stage: Stage) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    where = stage.runs(borrower).nodes
    other = {"n1": "n2", "n2": "n1"}[where]
    stage.lab.kill(f"slurmd@{where}")
    stage.wait(lambda: f"guarantee broken: {where}" in stage.log(), 90, "it is reported")
    stage.waits(borrower, 60)  # requeued by Slurm
    stage.cancel(borrower)
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 30, "the loan is over")
    next_one = stage.borrow("dave", "--exclusive")
    stage.runs(next_one, other, timeout=30)  # what is left is lent
    assert stage.reservations()["physics.lend"]["Nodes"] == other
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, other, timeout=30)
    stage.lab.start(f"slurmd@{where}")
    stage.runs(next_one, where, timeout=60)


@pytest.mark.behaviour("B11")
def test_the_controllers_host_is_restarted_and_everything_goes_on(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    before = stage.reservations()
    containers(stage).restart("slurmctld")
    stage.runs(borrower, "n1")
    assert stage.field(borrower, "Restarts") == "0"
    after = stage.reservations()
    assert {name: each["Nodes"] for name, each in after.items()} == {n: e["Nodes"] for n, e in before.items()}
    stage.runs(stage.submit("alice", "--exclusive"), "n1", timeout=30)
    stage.waits(borrower)


@pytest.mark.behaviour("B11", "B44")
def test_cut_off_from_the_controller_the_daemon_does_nothing_and_the_owner_is_served_by_slurm(stage: Stage) -> None:
    lab = containers(stage)
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    borrowers = [stage.borrow("bob", "--exclusive") for _ in range(2)]
    for borrower in borrowers:
        stage.runs(borrower)
    begun = time.monotonic()
    lab.cut("daemon")
    try:
        owners = stage.submit("alice", "--exclusive", "--reservation=physics")
        stage.runs(owners, timeout=30)  # the net
        stage.wait(lambda: "no action is taken" in stage.log(), 60, "it is said")
        assert sum(stage.jobs()[borrower].state == "RUNNING" for borrower in borrowers) == 1
        decided = len(stage.journal("decision"))
        time.sleep(max(0.0, 60 - (time.monotonic() - begun)))
        assert len(stage.journal("decision")) == decided
    finally:
        lab.heal("daemon")
    stage.wait(lambda: "can be read again" in stage.log(), 60, "it goes on")
    stage.runs(stage.submit("alice", "--exclusive"), timeout=30)
    stage.wait(lambda: "physics.lend" not in stage.reservations(), 30, "nothing is lent")
    for borrower in borrowers:
        stage.waits(borrower)


# Two daemons


class Turn(Stage):
    """A daemon of two, on a host of its own with folders of its own: nothing but Slurm and the site file is shared."""

    def __init__(self, lab: ContainerCluster, host: str) -> None:
        self.host = lab.host(host)
        super().__init__(lab, user="reserve")  # type: ignore[arg-type]  # as good as a lab
        self.local = "/var/lib/slurm-reserve"
        self.host.run(["sh", "-c", f"rm -rf {self.local}/*"])
        self.folder = f"{lab.directory}/{host}"  # its log and its site file; what it remembers is in self.local
        self.site_file = f"{self.folder}/etc/site.yaml"
        lab.run(["rm", "-rf", self.folder])
        lab.run(["install", "-d", "-o", self.user, self.folder, f"{self.folder}/etc"])
        local = {"state_dir": self.local, "run_dir": f"{self.local}/run"}
        self.keys = {"daemon": {**SITE["daemon"], "lease": "30s", **local}}

    def restart(self) -> None:
        shell = ["sh", "-c", 'exec "$@" 2>>"$0"', f"{self.folder}/daemon.log", *self.argv("run")]
        self._daemon = self.host.popen(shell, user=self.user, text=True)

    def stands_by(self) -> bool:
        return self.log().rstrip().splitlines()[-1:] != [] and "another daemon acts" in self.log().splitlines()[-1]

    def did(self) -> list[str]:
        """The times of what it did, as it logged them."""
        return [line.split()[0] for line in self.log().splitlines() if "actions=" in line and "actions=0" not in line]


@pytest.fixture
def turns(lab: ContainerCluster) -> Iterator[tuple[Turn, Turn]]:
    both = Turn(lab, "daemon"), Turn(lab, "standby")
    yield both
    for each in both:
        each.close()


def begin(turns: tuple[Turn, Turn]) -> tuple[Turn, Turn, str]:
    """The first acts, the second stands by, a borrower is on alice's node."""
    first, second = turns
    for each in turns:
        each.site(physics={"owner": ALICE, "nodes": "n1"})
    first.restart()
    first.wait(lambda: "slurm-reserve.lease" in first.reservations(), 30, "there is a lease")
    second.restart()
    second.wait(second.stands_by, 30, "the second stands by")
    first.fill("n2", "n3", "n4")
    borrower = first.borrow("bob", "--exclusive")
    first.runs(borrower, "n1")
    return first, second, borrower


@pytest.mark.behaviour("B11", "B44")
def test_of_two_daemons_one_acts_and_the_other_takes_over_when_its_host_dies(turns: tuple[Turn, Turn]) -> None:
    first, second, borrower = begin(turns)
    lease = first.reservations()["slurm-reserve.lease"]
    first.wait(lambda: first.reservations()["slurm-reserve.lease"]["EndTime"] > lease["EndTime"], 30, "it is extended")
    assert first.reservations()["slurm-reserve.lease"]["StartTime"] == lease["StartTime"]
    assert not second.did()
    first.end(signal.SIGKILL)
    second.wait(lambda: not second.stands_by(), TAKEN_OVER, "the second takes over")
    owners = second.submit("alice", "--exclusive")
    second.runs(owners, "n1", timeout=30)  # by what Slurm holds: it has never seen the loan being made
    second.waits(borrower)
    assert second.field(owners, "Reservation") == "physics"
    first.restart()  # back again, it does not know better
    first.wait(first.stands_by, 30, "the first stands by")
    second.cancel(owners)
    second.runs(borrower, "n1", timeout=30)
    assert max(first.did()) < min(second.did())
    second.end(signal.SIGTERM)  # gives the lease up, so nobody waits for its end
    first.wait(lambda: not first.stands_by(), 10, "the first takes over at once")


@pytest.mark.behaviour("B11")
def test_a_daemon_that_is_cut_off_acts_no_more_when_another_does(turns: tuple[Turn, Turn]) -> None:
    first, second, borrower = begin(turns)
    lab = containers(first)
    lab.cut("daemon")
    try:
        second.wait(lambda: not second.stands_by(), TAKEN_OVER, "the second takes over")
        second.runs(second.submit("alice", "--exclusive"), "n1", timeout=30)
    finally:
        lab.heal("daemon")
    first.wait(first.stands_by, 60, "the first stands by")
    second.waits(borrower)
    assert max(first.did()) < min(second.did())
    assert second.field(borrower, "Restarts") == "1"


def test_one_that_was_stopped_in_its_tracks_does_nothing_with_a_lease_that_ran_out(turns: tuple[Turn, Turn]) -> None:
    first, second, borrower = begin(turns)
    first.send(signal.SIGSTOP)
    second.wait(lambda: not second.stands_by(), TAKEN_OVER, "the second takes over")
    second.runs(second.submit("alice", "--exclusive"), "n1", timeout=30)
    first.send(signal.SIGCONT)
    first.wait(first.stands_by, 30, "the first stands by")
    second.waits(borrower)
    assert max(first.did()) < min(second.did())


# Jobs of every kind


@pytest.mark.parametrize("kind", ["array", "heterogeneous", "interactive"])
def test_an_owners_job_of_every_kind_gets_the_nodes(stage: Stage, kind: str) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    borrowers = [stage.borrow("bob", "--exclusive") for _ in range(2)]
    for borrower in borrowers:
        stage.runs(borrower)
    started = submit(stage, "alice", kind)
    stage.wait(lambda: owners_nodes(stage) == {"n1", "n2"}, 60, f"the {kind} job has both nodes")
    for borrower in borrowers:
        stage.waits(borrower)
    end(started)


def submit(stage: Stage, user: str, kind: str, *options: str) -> Any:
    """Two whole nodes' work of a kind; gives the process of an interactive one."""
    if kind == "array":
        return stage.submit(user, *options, "--exclusive", "--array=1-2")
    if kind == "heterogeneous":
        return stage.submit(user, *options, "--exclusive", "-N1", ":", *options, "--exclusive", "-N1")
    argv = ["srun", *options, "--exclusive", "-N2", "sleep", "1000"]
    return stage.lab.popen(argv, user, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def end(started: Any) -> None:
    if isinstance(started, subprocess.Popen):
        started.kill()
        started.communicate()


def owners_nodes(stage: Stage, user: str = "alice") -> set[str]:
    argv = ["squeue", "-h", "-t", "R", "-u", user, "-o", "%N"]
    names = stage.lab.run(argv).stdout.split()
    if not names:
        return set()
    return set(stage.lab.run(["scontrol", "show", "hostnames", ",".join(names)]).stdout.split())


@pytest.mark.parametrize("kind", ["array", "interactive"])
def test_a_borrower_of_every_kind_is_lent_to_and_goes(stage: Stage, kind: str) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    started = submit(stage, "bob", kind, "-p", "preempt")
    stage.wait(lambda: owners_nodes(stage, "bob") == {"n1", "n2"}, 60, f"the {kind} job is lent both nodes")
    owners = [stage.submit("alice", "--exclusive") for _ in range(2)]
    for job in owners:
        stage.runs(job, timeout=60)
    assert not owners_nodes(stage, "bob")
    end(started)


def test_a_heterogeneous_job_is_not_lent_to(stage: Stage) -> None:
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    submit(stage, "bob", "heterogeneous", "-p", "preempt")
    stage.never(lambda: owners_nodes(stage, "bob"), 6)
    stage.runs(stage.borrow("dave", "--exclusive"))


# Maintenance


def test_borrowers_leave_before_maintenance_and_nothing_is_lent_into_it(stage: Stage) -> None:
    stage.start(physics=TWO | {"reclaim": {"notice": "3s", "signal": "USR1"}})
    stage.fill("n3", "n4")
    on = {stage.runs(job).nodes: job for job in [stage.borrow("bob", "--exclusive", wrap=DEAF) for _ in range(2)]}
    begins = time.time() + 60
    words = ["ReservationName=upkeep", "StartTime=now+60", "Duration=60", "Users=root", "Nodes=n1"]
    stage.lab.run(["scontrol", "create", "reservation", *words, "Flags=MAINT,OVERLAP,IGNORE_JOBS"])
    stage.wait(lambda: "reservation upkeep lies over n1" in stage.log(), 15, "the owner is told")
    stage.waits(on["n1"], 50)
    assert time.time() < begins
    stage.wait(lambda: stage.reservations()["physics.lend"]["Nodes"] == "n2", 15, "n1 is no longer lent")
    stage.never(lambda: stage.jobs()[on["n1"]].state == "RUNNING", 5)
    assert stage.jobs()[on["n2"]].state == "RUNNING"
    assert "upkeep" in " ".join(stage.cli("status").stdout.split())
    stage.lab.run(["scontrol", "delete", "reservation=upkeep"])
    stage.runs(on["n1"], "n1", timeout=60)


def containers(stage: Stage) -> ContainerCluster:
    lab: Any = stage.lab
    assert isinstance(lab, ContainerCluster)
    return lab
