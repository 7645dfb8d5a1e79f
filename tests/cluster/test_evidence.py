"""Every decision can be explained and made again; the journal's troubles stop lending and nothing else."""

from __future__ import annotations

import json
import re
import signal
import sys

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
LOCK = (
    "import sqlite3,sys,time; db=sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN IMMEDIATE');"
    "print('held', flush=True); time.sleep(600)"
)


def borrowed_and_taken_back(stage: Stage) -> tuple[str, str]:
    """One borrower on n1 that does not go at a word, evicted for the owner's job."""
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", wrap="trap : USR1; touch set; while true; do sleep 0.2; done")
    stage.runs(borrower, "n1")
    stage.wait(lambda: stage.lab.run(["rm", "set"], user="bob", check=False).returncode == 0, 10, "its trap is set")
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    return borrower, owners


@pytest.mark.behaviour("B46")
def test_one_command_prints_the_chain_of_a_borrowed_interval(stage: Stage) -> None:
    stage.start(physics={"owner": {"users": ["alice"]}, "nodes": "n1", "reclaim": {"notice": "1s", "signal": "USR1"}})
    borrower, owners = borrowed_and_taken_back(stage)
    order = [
        f"job {borrower} of bob ran on n1 of physics, which was idle, from",
        "reserve n1 as physics",
        "n1 is idle of its owner: no owner's job holds it; node IDLE",
        f"lend physics to job {borrower} of bob",
        f"job {borrower} began on n1",
        f"signal job {borrower} of bob on n1 with USR1",
        f"requeue job {borrower} of bob on n1: job {owners} of alice needs n1",
        f"job {borrower} evicted for job {owners} of alice",
        f"job {owners} of alice began",
    ]
    chain = stage.wait(
        lambda: text if all(each in (text := stage.cli("history", "physics").stdout) for each in order) else None,
        says="it is all written",
    )
    said = [line.strip() for line in chain.splitlines()]
    places = [next(i for i, line in enumerate(said) if text in line) for text in order]
    # Slurm tells whole seconds: she may begin in the second in which he was evicted, and be told of first.
    assert places[1:-1] == sorted(places[1:-1]), chain
    assert places[-1] > places[-3], chain
    assert places[0] == 0
    loan = json.loads(stage.cli("--json", "history", "physics").stdout)[0]["loan"]
    assert (loan["user"], loan["nodes"], loan["cause"]) == ("bob", ["n1"], f"evicted for job {owners} of alice")
    number = re.search(r"\[decision (\d+)\]", chain)
    assert number is not None
    assert "the same follows" in stage.cli("replay", number[1]).stdout
    assert stage.cli("replay", "--all").returncode == 0
    stage.end()  # so that its files stay as they are while they are copied
    assert stage.replay() >= 4


@pytest.mark.behaviour("B46")
def test_a_job_is_explained_whoevers_it_is(stage: Stage) -> None:
    stage.start()
    borrower, owners = borrowed_and_taken_back(stage)
    stage.waits(borrower)
    words = (
        "ran on n1 of physics, which was idle, from", f"evicted for job {owners} of alice", "it is not lent to: ",
    )  # fmt: skip
    stage.wait(lambda: all(each in stage.cli("explain", borrower).stdout for each in words), says="it is told")
    about = stage.wait(
        lambda: text if "and ran from" in (text := stage.cli("explain", owners).stdout) else None,
        10,
        "its start is told",
    )
    assert "an owner's of physics, might start from" in about
    assert "of the 13 s that are promised" in about
    assert "lent nodes had to come back for it" in about
    assert f"job {owners} of alice needs nodes back: borrowers {borrower} go from n1" in about
    assert f"requeue job {borrower} of bob on n1" in about
    nobody = stage.cli("explain", "999999", check=False)
    assert (nobody.returncode, "nothing is known of job 999999" in nobody.stdout) == (1, True)
    kept = json.loads(stage.cli("--json", "promise", "physics").stdout)[0]
    assert kept["taken_back"]["count"] == 1
    assert kept["taken_back"]["most"] >= 0  # Slurm tells whole seconds
    assert bool(kept["breaches"]) == (kept["taken_back"]["most"] > 10)  # none, but on a machine that is very busy
    assert abs(sum(part["most"] for part in kept["parts"].values()) - kept["taken_back"]["most"]) < 0.1


def lending_stops_and_reclaim_goes_on(stage: Stage, borrower: str) -> None:
    """With a borrower on n1 and the journal failing."""
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    stage.waits(borrower)
    words = (
        f"requeue job {borrower}", f"job {owners} of alice",
        "the journal cannot be written, so nothing new is lent and this log is the record",
    )  # fmt: skip
    stage.wait(lambda: all(each in stage.log() for each in words), says="the log has it")
    shown = stage.cli("status", check=False)
    assert (shown.returncode, "the journal cannot be written" in shown.stdout) == (1, True)
    assert "journal" in json.loads(stage.cli("--json", "status", check=False).stdout)["problems"]
    stage.cancel(owners)
    stage.never(lambda: stage.jobs()[borrower].nodes, 3)


def lending_goes_on(stage: Stage, borrower: str) -> None:
    """Once it can be written again."""
    stage.runs(borrower, "n1", timeout=30)
    stage.wait(lambda: "the journal can be written again" in stage.log(), says="it is told")
    stage.wait(lambda: stage.journal("gap"), says="the gap is written down")
    stage.wait(lambda: stage.cli("status", check=False).returncode == 0, says="status finds nothing wrong any more")


def test_a_full_filesystem_stops_lending_and_nothing_else(stage: Stage) -> None:
    disk = f"{stage.folder}/state"
    stage.lab.run(["install", "-d", "-o", stage.user, disk])
    stage.lab.run(["mount", "-t", "tmpfs", "-o", f"size=512k,uid={stage.lab.spec.uid(stage.user)}", "none", disk])
    try:
        stage.start()
        stage.fill("n2", "n3", "n4")
        borrower = stage.borrow("bob", "--exclusive")
        stage.runs(borrower, "n1")
        full = stage.lab.run(["dd", "if=/dev/zero", f"of={disk}/filler", "bs=1k"], check=False)
        assert "No space left" in full.stderr
        stage.lab.run(["sh", "-c", f"cat /dev/zero >> {disk}/filler"], check=False)
        lending_stops_and_reclaim_goes_on(stage, borrower)
        stage.lab.run(["rm", f"{disk}/filler"])
        lending_goes_on(stage, borrower)
        stage.end(signal.SIGTERM)
    finally:
        stage.close()
        stage.lab.run(["umount", "-l", disk])


def test_a_journal_that_another_process_holds_stops_lending_and_nothing_else(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    argv = [sys.executable, "-c", LOCK, f"{stage.folder}/state/journal.db"]
    holder = stage.lab.popen(argv, user=stage.user, stdout=-1)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lending_stops_and_reclaim_goes_on(stage, borrower)
    holder.kill()
    holder.wait(10)
    lending_goes_on(stage, borrower)


def test_a_damaged_journal_stops_lending_and_nothing_else_and_is_made_anew(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    file = f"{stage.folder}/state/journal.db"
    damage = f"for f in {file}*; do dd if=/dev/urandom of=$f bs=1k count=200 conv=notrunc; done"
    stage.lab.run(["sh", "-c", damage])
    lending_stops_and_reclaim_goes_on(stage, borrower)
    stage.end()  # and found damaged at the next start
    stage.restart()
    stage.wait(lambda: stage.log().count("the journal cannot be written") >= 2, 10, "it is told again")
    assert stage.waits(borrower).nodes == ""
    stage.lab.run(["sh", "-c", f"rm {file}*"])
    lending_goes_on(stage, borrower)


def test_a_journal_of_a_newer_release_is_refused(stage: Stage) -> None:
    stage.site()
    stage.cli("run", "--once")
    newer = "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version = 99')"
    stage.lab.run([sys.executable, "-c", newer, f"{stage.folder}/state/journal.db"], user=stage.user)
    done = stage.cli("run", "--once", check=False)
    assert done.returncode == 1
    assert "was written by a newer release (version 99" in done.stderr
    stage.lab.run(["rm", "-r", f"{stage.folder}/state"])


def test_a_damaged_ledger_stops_lending_and_nothing_else_and_is_made_anew(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    stage.end(signal.SIGKILL)
    file = f"{stage.folder}/state/ledger.db"
    stage.lab.run(["sh", "-c", f"rm -f {file}-*; dd if=/dev/urandom of={file} bs=1k count=64"])
    stage.restart()
    owners = stage.submit("alice", "--exclusive")
    stage.runs(owners, "n1")
    stage.wait(lambda: "the ledger cannot be written, so nothing new is lent" in stage.log(), 10, "it is told")
    shown = stage.cli("status", check=False)
    assert (shown.returncode, "the ledger cannot be written" in shown.stdout) == (1, True)
    assert "ledger" in json.loads(stage.cli("--json", "status", check=False).stdout)["problems"]
    stage.cancel(owners)
    stage.never(lambda: stage.jobs()[borrower].nodes, 3)
    stage.lab.run(["sh", "-c", f"rm {file}*"])
    stage.runs(borrower, "n1", timeout=30)
    stage.wait(lambda: "the ledger can be written again" in stage.log(), says="it is told")
