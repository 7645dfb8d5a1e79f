"""What the tests on a real Slurm do and see: users submit, the daemon runs, Slurm says what is so."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml
from slurm_reserve.evidence.reading import reading
from slurm_reserve.lab import Lab, LabError

T = TypeVar("T")

# Seconds that a busy machine is left for anything to happen; where the time itself is tested, tests look at the clock.
PATIENCE = 30
DROPPED = ("Broken pipe", "Connection reset", "Socket timed out")  # slurmctld on a busy machine, now and then

SITE: dict[str, Any] = {
    "cluster": "lab",
    "lending": {"partitions": ["preempt"]},
    "reservations": {"physics": {"owner": {"users": ["alice"]}, "nodes": "n1"}},
    "slurm": {"max_calls_per_second": 50},  # the tests look often, so as not to wait long
    "daemon": {"poll": "1s", "scheduling_pass": "3s", "epilog_time": "1s"},
}


@dataclass(frozen=True)
class Seen:
    """A job as squeue prints it."""

    id: str
    user: str
    partition: str
    state: str
    nodes: str
    reason: str
    reservation: str


class Stage:
    """One test's play."""

    def __init__(self, lab: Lab, user: str = "slurm") -> None:
        self.lab = lab
        self.folder = f"{lab.directory}/reserve"
        self.site_file = f"{self.folder}/etc/site.yaml"
        self.user = user
        self.keys: dict[str, Any] = {}  # laid over the standard site file
        self._daemon: subprocess.Popen[str] | None = None
        lab.run(["rm", "-rf", self.folder])
        lab.run(["install", "-d", "-o", self.user, self.folder, f"{self.folder}/etc"])

    # The site and its daemon

    def site(self, **reservations: dict[str, Any]) -> None:
        """Write the site file: the standard one, with these reservations."""
        folders = {"state_dir": f"{self.folder}/state", "run_dir": f"{self.folder}/run"}
        text = {**SITE, **self.keys, "daemon": {**SITE["daemon"], **folders, **self.keys.get("daemon", {})}}
        if reservations:
            text["reservations"] = reservations
        self.lab.put(self.site_file, yaml.safe_dump(text), user=self.user)

    def argv(self, *words: str) -> list[str]:
        return [self.lab.python, "-m", "slurm_reserve", "--site", self.site_file, *words]

    def cli(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the CLI inside the lab, as the daemon's user."""
        return self.lab.run(self.argv(*words), user=self.user, check=check)

    def start(self, **reservations: dict[str, Any]) -> None:
        """Write the site file, start the daemon, and wait until its reservations are there."""
        self.site(**reservations)
        self.restart()
        names = list(reservations or SITE["reservations"])
        self.wait(lambda: all(name in self.reservations() for name in names), 15, f"{names} are made")

    def restart(self) -> None:
        """Start the daemon, and wait until it serves; its log goes to a file in the lab."""
        log, lives = f"{self.folder}/daemon.log", self._lives()
        shell = ["sh", "-c", 'exec "$@" 2>>"$0"', log, *self.argv("run")]
        self._daemon = self.lab.popen(shell, user=self.user, text=True)
        self.wait(lambda: self._lives() > lives, says="the daemon serves")

    def _lives(self) -> int:
        """How often a daemon has started here."""
        return self.log().count("] started ")

    def daemon_is(self, process: subprocess.Popen[str]) -> None:
        """It was started in another way."""
        self._daemon = process

    def end(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Send the daemon a signal that ends it; gives its exit status."""
        assert self._daemon is not None
        daemon, self._daemon = self._daemon, None
        daemon.send_signal(sig)
        return daemon.wait(60)

    def send(self, sig: signal.Signals) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(sig)

    def reload(self) -> None:
        """Have the daemon read the site file again."""
        self.send(signal.SIGHUP)

    def close(self) -> None:
        """End the daemon, if it runs."""
        if self._daemon is not None:
            self.end(signal.SIGKILL)

    def replay(self) -> int:
        """Make every decision in the journal again on what was recorded with it; gives how many."""
        state = Path(f"/proc/{self.lab.init.pid}/root{self.folder}/state")
        found = [path for path in state.glob("journal.db*") if not path.name.endswith("-shm")]
        with tempfile.TemporaryDirectory() as folder:
            for path in found:
                shutil.copy(path, folder)
            if not found:
                return 0
            with reading(Path(folder) / "journal.db") as reader:
                numbers = reader.decisions()
                for replayed in map(reader.replay, numbers):
                    assert replayed.again is not None, f"inputs of decision {replayed.number} are too large"
                    assert replayed.again == replayed.recorded, f"decision {replayed.number} is not made again"
        return len(numbers)

    def log(self) -> str:
        return self.lab.run(["cat", f"{self.folder}/daemon.log"], check=False).stdout

    def journal(self, kind: str = "") -> list[dict[str, str]]:
        """The journal's entries, oldest first."""
        entries = self._ask_journal("SELECT * FROM entries ORDER BY id")
        return [entry for entry in entries if kind in ("", entry["kind"])]

    def _ask_journal(self, query: str, *values: str) -> list[dict[str, str]]:
        script = (
            "import json,sqlite3,sys; db=sqlite3.connect(sys.argv[1]); db.row_factory=sqlite3.Row;"
            "print(json.dumps([dict(r) for r in db.execute(sys.argv[2], sys.argv[3:])]))"
        )
        done = self.lab.run([self.lab.python, "-c", script, f"{self.folder}/state/journal.db", query, *values])
        found: list[dict[str, str]] = json.loads(done.stdout)
        return found

    # What users do

    def submit(self, user: str, *options: str, wrap: str = "sleep 1000") -> str:
        return self.lab.sbatch(user, *options, wrap=wrap)

    def borrow(self, user: str, *options: str, wrap: str = "sleep 1000") -> str:
        return self.submit(user, "-p", "preempt", *options, wrap=wrap)

    def cancel(self, job: str) -> None:
        self.lab.run(["scancel", job])

    def fill(self, *names: str) -> None:
        """An ordinary user's jobs on whole nodes."""
        for job, name in [(self.submit("carol", "--exclusive", "-w", name), name) for name in names]:
            self.runs(job, name)

    # What Slurm says

    def release(self) -> tuple[int, ...]:
        """Of Slurm: (22, 5)."""
        printed = self.lab.run(["scontrol", "--version"]).stdout.split()[-1]
        return tuple(int(part) for part in printed.split(".")[:2])

    def _read(self, *argv: str) -> str:
        """What a command of Slurm's prints, asked again where its connection was dropped."""
        for _ in range(2):
            done = self.lab.run(argv, check=False)
            if done.returncode == 0:
                return done.stdout
        return self.lab.run(argv).stdout

    def jobs(self) -> dict[str, Seen]:
        """What squeue prints, by job id."""
        text = self._read("squeue", "-a", "-h", "-o", "%i|%u|%P|%T|%N|%r|%v")
        found = [Seen(*line.split("|")) for line in text.splitlines()]
        return {job.id: job for job in found}

    def job(self, job_id: str) -> Seen | None:
        return self.jobs().get(job_id)

    def field(self, job_id: str, name: str) -> str:
        """One field of `scontrol show job`."""
        text = self._read("scontrol", "-o", "show", "job", job_id)
        found = re.search(rf"\b{re.escape(name)}=(\S*)", text)
        return found.group(1) if found else ""

    def reservations(self) -> dict[str, dict[str, str]]:
        """What scontrol prints, by name."""
        text = self._read("scontrol", "-o", "show", "reservation")
        found = {}
        for line in text.splitlines():
            if line.startswith("ReservationName="):
                fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
                found[fields["ReservationName"]] = fields
        return found

    def wait(self, what: Callable[[], T], timeout: float = PATIENCE, says: str = "it happens") -> T:
        """Wait until it is so; what is said to take less than PATIENCE is given as long as that."""

        def seen() -> T | None:
            try:
                return what()
            except LabError as error:
                if not any(words in str(error) for words in DROPPED):
                    raise
                return None

        try:
            found = self.lab.wait(seen, max(timeout, PATIENCE), says)
            assert found is not None
            return found
        except Exception as error:
            error.add_note(f"daemon.log:\n{self.log()[-4000:]}")
            raise

    def runs(self, job_id: str, where: str | None = None, timeout: float = PATIENCE) -> Seen:
        """Wait until a job runs (on that node)."""

        def running() -> Seen | None:
            seen = self.job(job_id)
            good = seen is not None and seen.state == "RUNNING" and where in (None, seen.nodes)
            return seen if good else None

        seen = self.wait(running, timeout, f"job {job_id} runs" + (f" on {where}" if where else ""))
        assert seen is not None
        return seen

    def heeds(self, job_id: str, *signals: signal.Signals) -> None:
        """Wait until the script of a running batch job catches or ignores these: it has set its traps."""
        wanted = sum(1 << (sig - 1) for sig in signals)
        self.wait(lambda: wanted & ~self._heeded(job_id) == 0, says=f"the script of job {job_id} has set its traps")

    def steps(self) -> list[psutil.Process]:
        """What of slurmstepd runs is among these."""
        return self.lab.init.children()

    def _heeded(self, job_id: str) -> int:
        """The signals that the script of a job catches or ignores, as a mask; none when it has not begun."""
        for step in self.steps():
            with suppress(psutil.Error, OSError):
                if f"[{job_id}.batch]" in " ".join(step.cmdline()):
                    for script in step.children():
                        if script.name() != step.name():  # else it is still slurmstepd's own
                            status = Path(f"/proc/{script.pid}/status").read_text()
                            masks = re.findall(r"^Sig(?:Ign|Cgt):\s*(\w+)", status, re.MULTILINE)
                            return int(masks[0], 16) | int(masks[1], 16)
        return 0

    def sees(self, node: str, use: str) -> None:
        """Wait until the daemon has seen a reserved node used so: by its "owner", "lent", "idle"."""

        def last() -> bool:
            query = "SELECT use FROM uses WHERE nodes = ? ORDER BY id DESC LIMIT 1"
            return [row["use"] for row in self._ask_journal(query, node)] == [use]

        self.wait(last, says=f"{node} is seen: {use}")

    def waits(self, job_id: str, timeout: float = PATIENCE) -> Seen:
        """Wait until a job is pending."""
        seen = self.wait(
            lambda: s if (s := self.job(job_id)) and s.state == "PENDING" else None, timeout, f"job {job_id} waits"
        )
        assert seen is not None
        return seen

    def waits_outside(self, job_id: str, timeout: float = PATIENCE) -> Seen:
        """Wait until a job is pending and in no reservation: a victim is detached a moment after its requeue."""

        def outside() -> Seen | None:
            seen = self.job(job_id)
            return seen if seen and seen.state == "PENDING" and seen.reservation in ("", "(null)") else None

        seen = self.wait(outside, timeout, f"job {job_id} waits in no reservation")
        assert seen is not None
        return seen

    def never(self, what: Callable[[], object], seconds: float) -> None:
        """Nothing of that kind is seen for so long: two scheduling passes, if not said otherwise."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert not what()
            time.sleep(0.1)
