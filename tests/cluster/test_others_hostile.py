"""What nobody would do by accident: floods, hostile words, other people's sockets, two daemons, a clock that jumps."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ALICE = {"users": ["alice"]}
TWO = {"owner": ALICE, "nodes": "n[1-2]"}
DEAF = "trap '' USR1; sleep 1000 & wait; wait"
HOSTILE = (
    "$(touch /run/slurm-lab/tmp/PWNED)`touch /run/slurm-lab/tmp/PWNED`'\"|=;,% JobId=1 NodeList=n1\x1f\x1d\r\nx \\ ☃"
)


# Hostile words


def test_a_whole_reclaim_with_hostile_jobs_runs_nothing_and_breaks_nothing(stage: Stage) -> None:
    stage.start(physics={"owner": ALICE, "nodes": "n1", "reclaim": {"notice": "1s", "signal": "USR1"}})
    stage.fill("n2", "n3", "n4")
    longest = HOSTILE + "x" * (1000 - len(HOSTILE.encode()))  # Slurm itself takes no more than 1023 bytes
    words = [f"--job-name={longest}", f"--account={longest}", f"--comment={longest}"]
    borrower = stage.borrow("bob", "--exclusive", *words, wrap=DEAF)
    stage.runs(borrower, "n1")
    owners = stage.submit("alice", "--exclusive", *words)
    stage.runs(owners, "n1", 25)
    assert stage.field(borrower, "Restarts") == "1"
    for command in (["status"], ["plan"], ["--json", "status"], ["--json", "plan"]):
        printed = stage.cli(*command).stdout
        assert printed.replace("\n", "").isprintable()
    stage.cancel(owners)
    stage.runs(borrower, "n1")
    assert "no action is taken" not in stage.log()
    assert "Traceback" not in stage.log()
    assert len(stage.log()) < 20_000
    assert not stage.lab.run(["find", "/run/slurm-lab", "/tmp", "-name", "PWNED"], check=False).stdout
    assert [entry for entry in stage.journal("decision") if borrower in entry["text"]]


# The control socket

ASK = """
import json, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
    client.settimeout(20)
    client.connect(sys.argv[1])
    client.sendall(sys.stdin.buffer.read())
    print(client.recv(65536).decode())
"""


def ask(stage: Stage, user: str, sent: str) -> tuple[int, str]:
    """What the daemon answers a user who writes to its socket."""
    argv = [sys.executable, "-c", ASK, f"{stage.folder}/run/control.sock"]
    done = stage.lab.run(argv, user=user, check=False, input=sent)
    return done.returncode, done.stdout + done.stderr


def test_the_socket_takes_orders_from_nobody_else_and_survives_what_it_is_sent(stage: Stage) -> None:
    stage.start()
    pause = '{"do": "pause"}\n'
    for user in ("carol", "alice"):
        _, said = ask(stage, user, pause)
        told = json.loads(said)
        assert not told["ok"]
        assert "takes root or the daemon's own user" in told["text"]
    for garbage in (
        "x" * 1_000_000 + "\n",
        "[" * 50_000 + "\n",
        "\x00\n",
        '{"do": "lend", "reservation": "physics"}\n',
    ):
        ask(stage, stage.user, garbage)
    assert not json.loads(stage.cli("--json", "status").stdout)["paused"]
    stage.fill("n2", "n3", "n4")
    stage.runs(stage.borrow("bob", "--exclusive"), "n1")  # it goes on
    assert json.loads(ask(stage, "root", pause)[1])["ok"]
    assert json.loads(stage.cli("--json", "status").stdout)["paused"]


# Two daemons


def test_two_daemons_on_one_state_never_act_both(stage: Stage) -> None:
    stage.start()
    elsewhere = stage.lab.read(stage.site_file).replace("reserve/run", "reserve/run2")
    other = f"{stage.folder}/etc/other.yaml"
    stage.lab.put(other, elsewhere, user=stage.user)
    argv = [sys.executable, "-m", "slurm_reserve", "--site", other]
    for command in (["run"], ["run", "--once"], ["give-back", "--all"]):
        second = stage.lab.run([*argv, *command], user=stage.user, check=False, timeout=20)
        assert second.returncode == 5
        assert re.search(
            r"error: a daemon runs already \(process \d+, .*/state/daemon.lock\); stop it first", second.stderr
        )


# The clock


@pytest.fixture
def jumping(stage: Stage) -> Stage:
    """A daemon whose clock can be put."""
    put(stage, 0)
    plain = stage.argv

    def argv(*words: str) -> list[str]:
        script = str(Path(__file__).with_name("jumping.py"))
        return [sys.executable, script, f"{stage.folder}/offset", "--site", stage.site_file, *words]

    stage.argv = lambda *words: argv(*words) if words[0] == "run" else plain(*words)  # type: ignore[method-assign]  # of this stage alone
    return stage


def put(stage: Stage, seconds: int) -> None:
    """Put the daemon's clock: so far from the true time."""
    stage.lab.put(f"{stage.folder}/offset", str(seconds), user=stage.user)


@pytest.mark.long
@pytest.mark.parametrize("by", [3600, -3600])
def test_a_jump_of_the_clock_evicts_nobody_and_cuts_or_draws_out_no_notice(jumping: Stage, by: int) -> None:
    stage, word = jumping, "ahead" if by > 0 else "back"
    stage.start(physics=TWO | {"reclaim": {"notice": "6s", "signal": "USR1"}})
    stage.fill("n3", "n4")
    borrowers = [stage.borrow("bob", "--exclusive", wrap=DEAF) for _ in range(2)]
    for borrower in borrowers:
        stage.runs(borrower)
    put(stage, by)
    stage.wait(lambda: f"the clock was put {word} by 3600 s" in stage.log(), 10, "it is seen")
    stage.never(lambda: any(stage.jobs()[b].state != "RUNNING" for b in borrowers), 5)
    owners = stage.submit("alice", "--exclusive")  # by slurmctld's clock, an hour from the daemon's
    stage.wait(lambda: "to go by" in stage.log(), 10, "a borrower is told")
    told = time.monotonic()
    put(stage, 0)
    stage.wait(lambda: any(stage.jobs()[b].state != "RUNNING" for b in borrowers), 14, "the notice is over")
    assert time.monotonic() - told > 4  # of the six seconds
    stage.runs(owners, None, 15)
    assert sum(stage.jobs()[b].state == "RUNNING" for b in borrowers) == 1
    stage.never(lambda: not any(stage.jobs()[b].state == "RUNNING" for b in borrowers), 4)
    assert stage.log().count("the clock was put") == 2
    assert "no action is taken" not in stage.log()


# Floods


def memory_of(stage: Stage) -> float:
    """What the daemon holds in memory, in MB."""
    pid = stage.lab.read(f"{stage.folder}/state/daemon.lock").strip()
    found = re.search(r"VmRSS:\s+(\d+) kB", stage.lab.read(f"/proc/{pid}/status"))
    assert found
    return int(found[1]) / 1024


def asked_by(stage: Stage, user: str) -> int:
    """How many calls slurmctld has had from a user."""
    text = stage.lab.run(["sdiag"]).stdout.partition("statistics by user")[2]
    found = re.search(rf"\b{user}\s*\(\s*\d+\) count:(\d+)", text)
    return int(found[1]) if found else 0


@pytest.mark.long
def test_an_owner_is_served_while_others_submit_thousands_of_jobs(stage: Stage) -> None:
    stage.keys = {"slurm": {"max_calls_per_second": 4}}
    stage.start(physics=TWO)
    stage.fill("n3", "n4")
    for borrower in [stage.borrow("bob", "--exclusive") for _ in range(2)]:
        stage.runs(borrower)
    small, asked, begun = memory_of(stage), asked_by(stage, stage.user), time.monotonic()
    loop = "for i in $(seq {n}); do sbatch -Q -o /dev/null {o} --wrap 'sleep 1000'; done"
    floods = [
        stage.lab.popen(["sh", "-c", loop.format(n=500, o=options)], user=user)
        for user, options in [("bob", "-p preempt"), ("carol", "-p main")]
    ]
    array = stage.borrow("dave", "--array=0-999")
    waits = []
    for _ in range(4):
        submitted = time.monotonic()
        owners = stage.submit("alice", "--exclusive")
        stage.runs(owners, None, 25)
        waits.append(time.monotonic() - submitted)
        stage.cancel(owners)
        time.sleep(1)  # her node is lent again, or not yet: both happen
    for flood in floods:
        flood.wait(120)
    queued = int(stage.lab.run(["sh", "-c", "squeue -h -r | wc -l"]).stdout)
    assert queued > 1900
    peak = [memory_of(stage) for _ in range(30) if not time.sleep(0.5)]  # type: ignore[func-returns-value]  # sleeps between two looks
    owners = stage.submit("alice", "--exclusive")
    submitted = time.monotonic()
    stage.runs(owners, None, 25)
    waits.append(time.monotonic() - submitted)
    seconds = time.monotonic() - begun
    asked = asked_by(stage, stage.user) - asked
    said = f"waits {waits}, {small:.0f} to {max(peak):.0f} MB, {asked} calls in {seconds:.0f} s, {queued} jobs"
    assert max(waits) < 20, said  # 5 s of poll at that load, 5 s of KillWait, 1 s of epilog, a pass, this machine
    assert asked < 4 * (seconds + 60) + 40, said  # with what may be saved up in a quiet minute
    assert max(peak) - min(peak) < 8, said
    assert max(peak) < small + 60, said
    assert "Traceback" not in stage.log()
    stage.cancel(array)
