"""The story told live on a real Slurm: reserve, lend, reclaim, in six steps that Slurm itself must show.

The demo only submits, as the lab's users; nothing but the daemon changes anything in Slurm.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import IO

from rich.console import Console
from rich.text import Text

from slurm_reserve.lab.errors import LabError
from slurm_reserve.lab.lab import Lab
from slurm_reserve.lab.spec import LabSpec

SITE = """\
cluster: lab
lending:
  partitions: [preempt]
reservations:
  physics:
    owner: {{users: [alice]}}
    nodes: n[1-2]
    reclaim: {{notice: 5s, signal: USR1}}
daemon:
  poll: 1s
  state_dir: {folder}/state
  run_dir: {folder}/run
"""
BORROWER = "trap 'echo \"saved at $(date +%T)\" >> saved' USR1; while true; do sleep 0.2; done"


@dataclass
class Step:
    """One step of the claim, and what Slurm printed that shows it."""

    letter: str
    title: str
    command: str
    evidence: str
    seconds: float  # from the moment that the step could begin


@dataclass
class Story:
    """What has been seen so far."""

    lab: Lab
    console: Console
    steps: list[Step] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def say(self, text: str, style: str = "") -> None:
        """One line, with the seconds since the beginning."""
        clock = f"{time.monotonic() - self.begun:6.1f} s  "
        line = Text(clock, style="dim")
        line.append(text, style=style)
        self.console.print(line, soft_wrap=False, overflow="fold")

    def submit(self, user: str, what: str, *options: str, wrap: str = "sleep 1000") -> str:
        """Submit as a user, as a user would."""
        job = self.lab.sbatch(user, f"--job-name={what}", *options, wrap=wrap)
        shown = " ".join(options)
        self.say(f"{user}$ sbatch {shown} {what}.sh   → job {job}", "bold cyan")
        return job

    def ask(self, *argv: str) -> str:
        """What one of Slurm's own commands prints."""
        return self.lab.run(list(argv), check=False).stdout.strip()

    def see(self, letter: str, title: str, argv: list[str], wanted: str, timeout: float = 30) -> float:
        """Wait until Slurm prints what shows this step; raises LabError when it does not. Returns the seconds."""
        begun = time.monotonic()
        pattern = re.compile(wanted)

        def shown() -> str:
            return next((line for line in self.ask(*argv).splitlines() if pattern.search(line)), "")

        line = self.lab.wait(shown, timeout, f"step ({letter}) {title}: nothing matched {wanted}")
        seconds = time.monotonic() - begun
        self.steps.append(Step(letter, title, " ".join(argv), line.strip(), round(seconds, 3)))
        self.say(f"({letter}) {title}", "bold green")
        self.console.print(Text(f"           {' '.join(argv)[:66]}", style="dim"))
        for part in _folded(_essence(line.strip())):
            self.console.print(Text(f"           │ {part}", style="green"))
        return seconds

    def show_nodes(self) -> None:
        """Who runs where, now."""
        where: dict[str, str] = {}
        for line in self.ask("squeue", "-h", "-t", "R,CG,S", "-o", "%N|%u|%i|%P").splitlines():
            nodes, user, job, partition = line.split("|")
            for node in nodes.split(","):
                where[node] = f"{user} {job}" + (" lent" if partition == "preempt" and node in ("n1", "n2") else "")
        cells = [f"{node} {where.get(node, 'idle'):<13}" for node in ("n1", "n2", "n3", "n4")]
        self.console.print(Text("           ┌ " + "│ ".join(cells)))
        self.console.print(Text("           └ physics: n1, n2 are alice's".ljust(70), style="dim"))


def _essence(line: str) -> str:
    """Of a reservation's many fields, those that the story is about."""
    if not line.startswith("ReservationName="):
        return line
    return " ".join(
        part for part in line.split() if part.startswith(("ReservationName=", "Nodes=", "Users=", "Flags="))
    )


def _folded(text: str, width: int = 66) -> list[str]:
    return [text[i : i + width] for i in range(0, min(len(text), 3 * width), width)]


SQUEUE = ["squeue", "-h", "-o", "%i %u %P %T %N %r"]


def tell(console: Console, boot: Callable[..., Lab] = Lab.boot) -> Story:
    """Boot a lab, tell the story, and leave nothing behind. Raises LabError when a step was not seen."""
    console.print("[bold]slurm_reserve: reserved nodes, lent while idle, given back at once[/]\n")
    begun = time.monotonic()
    with boot(LabSpec(nodes=4, kill_wait=5, slurm_conf=("SchedulerParameters=bf_interval=2",))) as lab:
        story = Story(lab, console, begun=begun)
        version = story.ask("scontrol", "--version")
        story.say(f"a private {version} with 4 nodes runs")
        daemon = _start_daemon(story)
        try:
            _claim(story)
        finally:
            daemon.terminate()
            daemon.wait(20)
        story.say("the daemon has stopped" if daemon.returncode == 0 else f"the daemon ended with {daemon.returncode}")
    _sum_up(story)
    return story


def _start_daemon(story: Story) -> subprocess.Popen[str]:
    lab = story.lab
    folder = f"{lab.directory}/reserve"
    lab.run(["install", "-d", "-o", "slurm", folder])
    lab.put(f"{folder}/site.yaml", SITE.format(folder=folder), user="slurm")
    argv = [sys.executable, "-m", "slurm_reserve", "--site", f"{folder}/site.yaml", "run", "--log-format", "json"]
    daemon = lab.popen(argv, user="slurm", text=True, stderr=subprocess.PIPE)
    threading.Thread(target=_relay, args=(story, daemon.stderr), daemon=True).start()
    return daemon


def _relay(story: Story, log: IO[str] | None) -> None:
    """The daemon's own sentences, as it says them."""
    for line in log or ():
        try:
            said = json.loads(line)
        except ValueError:
            story.say(f"daemon: {line.strip()[:200]}", "red")
            continue
        cause = f" ({said['cause']})" if "cause" in said else ""
        for part in str(said.get("event", "")).split("; "):
            story.say(f"daemon: {part}{cause}", "yellow")


def _runs(story: Story, job: str) -> Callable[[], bool]:
    """Whether that job runs, to be asked again and again."""
    return lambda: f"{job} R" in story.ask("squeue", "-h", "-o", "%i %t").splitlines()


def _claim(story: Story) -> None:
    """The steps (a) to (f) of the claim."""
    story.see(
        "a", "two nodes are reserved for alice",
        ["scontrol", "-o", "show", "reservation", "physics"], r"Nodes=n\[1-2\] .*Users=alice",
    )  # fmt: skip
    for number in (1, 2):
        job = story.submit("carol", f"other{number}", "--exclusive", f"--nodelist=n{number + 2}")
        story.lab.wait(_runs(story, job), 20, "carol runs")
    stranger = story.submit("carol", "other3", "--exclusive")

    first = story.submit("alice", "first", "--exclusive", "--nodelist=n1", wrap="sleep 8")
    story.times["owner starts on idle reserved nodes"] = story.see(
        "b", "alice's job runs on her node", SQUEUE, rf"^{first} alice main RUNNING n1"
    )
    borrower, other = _borrow(story)
    story.show_nodes()

    second = story.submit("alice", "second", "--exclusive", "--nodelist=n1", wrap="sleep 8")
    seconds = story.see("f", "her node is taken back and alice's job runs", SQUEUE, rf"^{second} alice main RUNNING n1")
    story.times["owner starts on a lent node (5 s of it notice)"] = seconds
    story.see("f", "the borrower was evicted and is back in the queue", SQUEUE, rf"^{borrower} bob preempt PENDING")
    story.see("f", "the other loan was not touched", SQUEUE, rf"^{other} dave preempt RUNNING n2")
    story.see("f", "carol's third job never got a reserved node", SQUEUE, rf"^{stranger} carol main PENDING")
    saved = story.lab.run(["cat", "saved"], user="bob").stdout.strip()
    story.say(f"bob's job was told in time: it {saved}")
    story.show_nodes()
    story.times["borrower runs again after the owner has finished (8 s job)"] = story.see(
        "e", "alice has finished; bob's job runs again", SQUEUE, rf"^{borrower} bob preempt RUNNING n1"
    )
    story.show_nodes()


def _borrow(story: Story) -> tuple[str, str]:
    """Steps (c) to (e): two preemptible jobs; one node is idle, the other will be."""
    other = story.submit("dave", "borrow1", "-p", "preempt", "--exclusive", wrap="sleep 1000")
    story.see("e", "dave's job runs on idle n2, lent", SQUEUE, rf"^{other} dave preempt RUNNING n2")
    borrower = story.submit("bob", "borrow2", "-p", "preempt", "--exclusive", wrap=BORROWER)
    story.see("c", "bob's request, which may be ended at any time, waits", SQUEUE, rf"^{borrower} bob preempt PENDING")
    story.show_nodes()
    story.see(
        "d", "n1 runs nothing for alice any more", ["sinfo", "-h", "-N", "-n", "n1", "-o", "%N %t"], "n1 (idle|resv)"
    )
    story.times["borrower starts once a node is idle"] = story.see(
        "e", "bob's job runs on alice's idle node", SQUEUE, rf"^{borrower} bob preempt RUNNING n1"
    )
    return borrower, other


def _sum_up(story: Story) -> None:
    letters = {step.letter for step in story.steps}
    if missing := set("abcdef") - letters:
        raise LabError(f"steps not seen in Slurm's own output: {', '.join(sorted(missing))}")
    story.console.print("\n[bold]All six steps were seen in Slurm's own output. Measured:[/]")
    for what, seconds in story.times.items():
        story.console.print(f"  {seconds:6.2f} s  {what}")
    story.console.print("Nothing is left behind: the lab is gone, with all its processes and files.")


def as_json(story: Story) -> str:
    """Steps and times, for machines; seconds."""
    rounded = {what: round(seconds, 3) for what, seconds in story.times.items()}
    return json.dumps({"steps": [asdict(step) for step in story.steps], "times": rounded}, indent=2) + "\n"
