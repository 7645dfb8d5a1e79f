"""The daemon on a real Slurm: one at a time, signals, configuration, crashes; nothing stays behind."""

from __future__ import annotations

import signal

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster


def test_a_second_daemon_is_refused(stage: Stage) -> None:
    stage.start()
    second = stage.cli("run", check=False)
    assert second.returncode == 5
    assert "runs already" in second.stderr


def test_sigterm_ends_it_cleanly_and_leaves_loans_above_the_net(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob")
    stage.runs(borrower, "n1")
    assert stage.end() == 0
    assert stage.jobs()[borrower].state == "RUNNING"
    assert "stopped" in stage.log()
    assert stage.lab.run(["ls", f"{stage.folder}/run"]).stdout.split() == ["daemon.lock"]


def test_a_bad_site_file_keeps_the_old_one_and_says_so(stage: Stage) -> None:
    stage.start()
    stage.lab.put(stage.site_file, "cluster: lab\nlendign: {}\n", user=stage.user)
    stage.send(signal.SIGHUP)
    stage.wait(lambda: "the old configuration stays" in stage.log(), 10, "it is said")
    assert "lendign" in stage.log()
    stage.fill("n2", "n3", "n4")
    stage.runs(stage.borrow("bob"), "n1")


def test_a_dry_run_says_what_would_be_done_and_does_nothing(stage: Stage) -> None:
    stage.site()
    said = stage.cli("run", "--once", "--dry-run").stdout
    assert "physics" in said
    assert stage.reservations() == {}
    assert "physics" in stage.cli("plan").stdout
    assert stage.reservations() == {}


@pytest.mark.behaviour("B11")
def test_an_unreachable_slurmctld_means_no_action_and_one_message(stage: Stage) -> None:
    stage.start()
    stage.lab.stop("slurmctld")
    stage.wait(lambda: "no action is taken" in stage.log(), 60, "it is said")
    stage.lab.start("slurmctld")
    stage.wait(lambda: "can be read again" in stage.log(), 30, "it goes on")
    assert stage.log().count("no action is taken") <= 2
    stage.fill("n2", "n3", "n4")
    stage.runs(stage.borrow("bob"), "n1")


def test_killed_in_the_middle_of_a_notice_it_goes_on_where_it_was(stage: Stage) -> None:
    stage.start(
        physics={"owner": {"users": ["alice"]}, "nodes": "n1", "reclaim": {"notice": "4s", "signal": "USR1"}}
    )  # fmt: skip
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow(
        "bob", "--exclusive", wrap="trap 'echo told >> $HOME/again' USR1; while true; do sleep 0.2; done"
    )
    stage.runs(borrower, "n1")
    stage.heeds(borrower, signal.SIGUSR1)
    owners = stage.submit("alice", "--exclusive")
    stage.wait(lambda: f"signal job {borrower}" in stage.log(), says="the daemon knows that it has told bob")
    stage.wait(lambda: stage.lab.run(["cat", "again"], user="bob", check=False).stdout, 10, "bob is told")
    stage.end(signal.SIGKILL)
    stage.restart()
    stage.runs(owners, "n1")
    assert stage.lab.run(["cat", "again"], user="bob").stdout == "told\n"
    assert stage.field(borrower, "Restarts") == "1"
    stage.cancel(owners)
    stage.runs(borrower, "n1")
    stage.cancel(borrower)
    stage.wait(lambda: list(stage.reservations()) == ["physics"], 15, "nothing is left but the reservation")


def test_a_reservation_no_longer_declared_goes_with_all_that_belongs_to_it(stage: Stage) -> None:
    stage.start(
        physics={"owner": {"users": ["alice"]}, "nodes": "n1"}, chemistry={"owner": {"users": ["dave"]}, "nodes": "n2"}
    )  # fmt: skip
    stage.fill("n3", "n4")
    stage.runs(stage.borrow("bob", "--exclusive"))
    other = stage.borrow("bob", "--exclusive")
    stage.runs(other)
    stage.site(physics={"owner": {"users": ["alice"]}, "nodes": "n1"})
    stage.send(signal.SIGHUP)
    stage.wait(lambda: not [r for r in stage.reservations() if r.startswith("chemistry")], 20, "it goes")
    assert sorted(stage.reservations()) == ["physics", "physics.lend"]
