"""A loan and a reclaim in which somebody is killed at a given step; and what must have come of it all the same."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from tests.cluster import crash
from tests.cluster.stage import Stage

MORTAL = Path(__file__).with_name("mortal.py")
# What a daemon does to Slurm, in order; a test holds on to it.
LOAN = ("create", "attach")
RECLAIM = ("requeue", "detach", "hand_over", "delete", "note", "end_wait")
RECLAIM_WITH_NOTICE = ("signal", *RECLAIM)
NOTICE = {"notice": "2s", "signal": "USR1"}
PHYSICS = {"owner": {"users": ["alice"]}, "nodes": "n1"}
DIARY = "trap 'echo told >> $HOME/diary' USR1; echo started >> $HOME/diary; while true; do sleep 0.2; done"


class Fated:
    """One play on a stage: bob borrows alice's only node, alice wants it back; carol and dave wait for it too."""

    def __init__(self, stage: Stage, notice: bool = False) -> None:
        self.stage, self.lab = stage, stage.lab
        self.notes = f"{stage.folder}/notes"
        self.physics: dict[str, Any] = {**PHYSICS, "reclaim": NOTICE} if notice else PHYSICS
        self.is_told = notice
        self.submitted = 0.0
        for user in ("bob", "dave", "carol"):
            self.lab.run(["rm", "-f", "diary"], user=user)
        self.lab.put(f"{stage.folder}/mortal.py", MORTAL.read_text())
        stage.site(physics=self.physics)
        stage.fill("n2", "n3", "n4")
        self.ordinary = [job.id for job in stage.jobs().values()]

    def run_daemon(self, whom: str = "nobody", when: str = "after", what: str = "", delay: float = 0) -> None:
        """Start the daemon; in each of its lives it notes what it does."""
        words = [self.notes, whom, when, what or "-", str(delay), "--site", self.stage.site_file, "run"]
        log = f"{self.stage.folder}/daemon.log"
        shell = ["sh", "-c", 'exec "$@" 2>>"$0"', log, self.lab.python, f"{self.stage.folder}/mortal.py", *words]
        self.stage.daemon_is(self.lab.popen(shell, user=self.stage.user, text=True))

    def noted(self) -> list[str]:
        """What was done, by all of its lives."""
        return self.lab.run(["cat", self.notes], check=False).stdout.splitlines()

    def done(self) -> list[str]:
        """The names of what was done, without what makes the reservation itself."""
        return [line.split()[0] for line in self.noted() if line != "create physics" and "killed" not in line]

    def reserve(self) -> None:
        """The reservation is there, the daemon is not."""
        self.stage.cli("run", "--once")

    def saved(self) -> None:
        """Slurmctld has written down all that was submitted, so that it forgets only what comes now."""
        self.stage.wait(lambda: crash.written(self.lab) > self.submitted, 20, "it is saved")

    def lend(self) -> str:
        """Bob runs on alice's node, and no daemon does."""
        self.reserve()
        bob = self.stage.borrow("bob", "--exclusive", wrap=DIARY)
        self.stage.cli("run", "--once")
        self.stage.runs(bob, "n1", 40)
        self.stage.wait(lambda: "started" in self.diary("bob"), 10, "bob's script runs")
        time.sleep(0.3)  # it has set its trap before it wrote that; the shell's children come after
        return bob

    def want(self) -> str:
        """Alice submits while no daemon runs; others want the node too."""
        self.stage.borrow("dave", "--exclusive", wrap=DIARY)
        self.stage.submit("carol", "--exclusive", wrap=DIARY)
        self.submitted = time.time()
        return self.stage.submit("alice", "--exclusive")

    def diary(self, user: str) -> list[str]:
        """What a user's jobs have written."""
        return self.lab.run(["cat", "diary"], user=user, check=False).stdout.splitlines()

    def struck(self, whom: str) -> None:
        """Wait for the kill, and start who was killed again."""
        self.stage.wait(lambda: any("killed" in line for line in self.noted()), 40, f"{whom} is killed")
        if whom == "daemon":
            self.stage.end(signal.SIGKILL)  # it is dead already
            self.run_daemon()
        else:
            crash.start_again(self.lab)

    def comes_to_the_same_end(self, bob: str, alice: str, starts: int = 1, *restarts: str) -> None:
        """Alice runs; bob was evicted once and comes back after her; nobody else was touched; nothing is left.

        How often he started he has written down himself; `restarts` are what Slurm may say of it, once by default.
        """
        stage = self.stage
        stage.runs(alice, "n1", 60)
        assert stage.field(alice, "Reservation") == "physics"
        stage.waits_outside(bob)
        restarted = stage.field(bob, "Restarts")
        assert restarted in (restarts or ("1",))
        assert self.diary("bob").count("started") == starts
        assert self.diary("bob").count("told") <= (2 if self.is_told else 0)
        assert (self.diary("dave"), self.diary("carol")) == ([], [])  # the freed node was nobody else's
        self.touched_nobody_else()
        others = [job.id for job in stage.jobs().values() if job.user in ("dave", "carol") and job.state == "PENDING"]
        stage.lab.run(["scancel", *others])
        stage.cancel(alice)
        crash.mend(self.lab, bob)
        stage.runs(bob, "n1", 60 if len(restarts) < 2 else 180)  # Slurm's two minutes, where it requeued him itself
        stage.cancel(bob)
        self.leaves_nothing()

    def touched_nobody_else(self) -> None:
        """The ordinary jobs run as they did."""
        jobs = self.stage.jobs()
        for job in self.ordinary:
            assert (jobs[job].state, self.stage.field(job, "Restarts")) == ("RUNNING", "0")

    def leaves_nothing(self) -> None:
        """No job held or attached, no lend reservation, no node drained."""
        stage = self.stage
        stage.wait(lambda: list(stage.reservations()) == ["physics"], 30, "no lend reservation is left")
        stage.wait(lambda: stage.jobs().keys() <= set(self.ordinary), says="no job is left")
        states = self.lab.run(["sinfo", "-h", "-N", "-o", "%T"]).stdout
        assert not [state for state in states.split() if state.startswith(("drain", "down"))]
        stage.end()
