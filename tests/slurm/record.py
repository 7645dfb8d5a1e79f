"""Records what Slurm's commands print, for the tests of the parsers: `python -m tests.slurm.record`, as root.

It boots labs, sets scenes in them, and writes each answer to `recorded/<release>/`, with the command that made it in
`index.json`. Nodes and users are the lab's; what the host is called and which kernel it has is left out.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from slurm_reserve.lab import Lab, LabSpec, NodeSpec
from slurm_reserve.slurm.jobs import job_format

END = "end-of-record"
ARRAY_UNIQUE = "--array-unique"  # what releases before 23.11 need to show every pending task
FOLDER = Path(__file__).parent / "recorded"
NODES = (
    NodeSpec("n1", 8, 8000, ("big", "fast"), "gpu:a100:2,shard:4", 2),
    NodeSpec("n2", 8, 8000, ("big", "slow"), "gpu:v100:2", 2),
    *(NodeSpec(f"n{number}") for number in range(3, 7)),
)
ENVIRONMENT = {"TZ": "UTC", "SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}
COMMANDS: dict[str, tuple[str, ...]] = {
    "jobs": ("squeue", "-a", "--noconvert", "-O", job_format(END), ARRAY_UNIQUE),
    "jobs-one-by-one": ("squeue", "-a", "--noconvert", "-O", job_format(END), "-r"),
    "all-jobs": ("squeue", "-a", "--noconvert", "-O", job_format(END), ARRAY_UNIQUE, "-t", "all"),
    "excluded": ("squeue", "-a", "-h", "-o", "%A|%x", ARRAY_UNIQUE),
    "nodes": ("scontrol", "-o", "-a", "-d", "show", "node"),
    "reservations": ("scontrol", "-o", "-a", "show", "reservation"),
    "partitions": ("scontrol", "-o", "-a", "show", "partition"),
    "config": ("scontrol", "show", "config"),
    "qos": ("sacctmgr", "-nP", "show", "qos", "format=name,preempt"),
    "groups": ("getent", "group", "physics", "bob", "nobody-knows-it"),
    "passwd": ("getent", "passwd"),
}
# Every kind of request; the jobs are held, so that nothing happens to them, and numbered in this order.
OVERLAY = "OVERLAP,IGNORE_JOBS"
REQUESTS: tuple[tuple[str, ...], ...] = (
    ("-n1",), ("-n8",), ("-N2", "-n8"), ("-N1-3", "-n5"), ("-n300",), ("-N2",), ("-c3",),
    ("-n4", "--ntasks-per-node=2"), ("--mincpus=3",), ("-n4", "--mem=3000"), ("-n4", "--mem-per-cpu=500"),
    ("-N2", "--mem=500"), ("--mem=0",), ("--exclusive",), ("--exclusive=user",), ("--oversubscribe",),
    ("--gres=gpu:a100:1",), ("--gres=gpu",), ("--gpus=2",), ("-n2", "--gpus-per-task=1"),
    ("--gpus-per-node=1", "--cpus-per-gpu=2"), ("--gpus-per-node=1", "--mem-per-gpu=100"),
    ("--gpus-per-node=2", "--gpus-per-socket=1", "--sockets-per-node=2"), ("--gres=shard:2",),
    ("-C", "big&fast"), ("-C", "fast|slow"), ("-C", "[fast*1&slow*1]", "-N2"), ("-w", "n[2-3]", "-N2"),
    ("-x", "n[3-4]"), ("--contiguous",), ("--switches=1@10",), ("--threads-per-core=1",), ("--hint=nomultithread",),
    ("--cores-per-socket=2",), ("--sockets-per-node=1",), ("--ntasks-per-core=1", "-n2"), ("--tmp=100",),
    ("-t", "400-0"), ("-t", "2-3"), ("-t", "90"), ("-p", "main,preempt"), ("-L", "matlab:2"),
    ("--begin=2040-01-02T03:04:05",), ("-d", "afterany:1"), ("--array=1-9:2%2",), ("--array=1,3-5,100",),
    ("--array=7",), ("--no-requeue",), ("--account=strange \x1f\x1dname\nJOBID",),
)  # fmt: skip


class Recorder:
    """Runs commands in a lab and keeps what they print."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        release = lab.run(["scontrol", "--version"]).stdout.split()[1]
        self.folder = FOLDER / release
        self.folder.mkdir(parents=True, exist_ok=True)
        self.index_file = self.folder / "index.json"
        is_known = lab.run(["squeue", ARRAY_UNIQUE], check=False).returncode == 0
        self.array_option = ARRAY_UNIQUE if is_known else "-r"  # as the adapter does

    def command(self, kind: str) -> list[str]:
        """The command of that kind, in the words of this release."""
        return [self.array_option if word == ARRAY_UNIQUE else word for word in COMMANDS[kind]]

    def record(self, scene: str, *kinds: str, user: str = "root") -> None:
        """Write what each kind of command prints now."""
        index = json.loads(self.index_file.read_text()) if self.index_file.exists() else {}
        for kind in kinds:
            argv = self.command(kind)
            done = self.lab.run(argv, user, check=False, env=ENVIRONMENT)
            name = f"{kind}.{scene}.txt"
            (self.folder / name).write_text(without_host(done.stdout, self.lab.name))
            index[name] = {"command": argv, "status": done.returncode, "errors": done.stderr}
        self.index_file.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")

    def says(self, name: str, *argv: str, user: str = "root") -> None:
        """Keep how a command fails."""
        path = self.folder / "failures.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        done = self.lab.run(argv, user, check=False, env=ENVIRONMENT)
        found[name] = {"command": argv, "status": done.returncode, "printed": done.stdout, "errors": done.stderr}
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def without_host(text: str, lab: str) -> str:
    """Leave out what is the host's: its kernel and the lab's random name."""
    text = re.sub(r" OS=Linux .*?  RealMemory=", " OS=Linux 6.1.0 #1 SMP  RealMemory=", text)
    text = re.sub(r"FreeMem=\d+", "FreeMem=20000", text)
    prefix = Path(shutil.which("scontrol") or "/usr/bin/scontrol").parents[1]
    return text.replace(lab, "lab").replace(str(prefix), "/usr")


def waiting(recorder: Recorder) -> None:
    """Jobs that ask for everything there is to ask for, all held."""
    lab = recorder.lab
    for options in REQUESTS:
        lab.sbatch("alice", "-H", *options)
    recorder.record("requests", "jobs", "jobs-one-by-one", "excluded")


def reasons(recorder: Recorder) -> None:
    """Jobs that wait, each for another reason."""
    lab = recorder.lab
    reserve(lab, "later", "StartTime=2040-01-01T00:00:00", "EndTime=2040-02-01T00:00:00", "Nodes=n6", "Users=bob")
    reserve(lab, "closed", "StartTime=now", "EndTime=2039-01-01T00:00:00", "Nodes=n5", "Users=bob", "Flags=MAINT")
    first = lab.sbatch("alice", "-w", "n[3-4]", "-N2", "--exclusive", "-L", "matlab:4", "-t", "60")
    runs(lab, first)
    for options in (
        ("-w", "n3", "-t10"), ("-w", "n3", "-p", "preempt"), ("-L", "matlab:1",), ("-d", f"afterok:{first}"),
        ("-w", "n5",), ("--reservation=later",), ("-p", "short", "-t", "2-0"), ("--begin=now+1hour",), ("-H",),
        ("--array=1-5%1", "-t10", "-w", "n2"), ("-w", "n[1-3]", "-N3", "--exclusive", "-t10"),
    ):  # fmt: skip
        lab.sbatch("bob" if "--reservation=later" in options else "alice", *options)
    time.sleep(8)  # until both schedulers have looked at all of them
    recorder.record("reasons", "jobs", "nodes", "reservations")


def over(recorder: Recorder) -> None:
    """Jobs that are over, which squeue prints on demand only."""
    lab = recorder.lab
    lab.sbatch("alice", "-w", "n3", wrap="true")
    lab.sbatch("alice", "-w", "n3", wrap="false")
    lab.run(["scancel", lab.sbatch("alice", "-H", "--array=1-3")])
    cancelled = lab.sbatch("alice", "-w", "n4")
    runs(lab, cancelled)
    runs(lab, lab.sbatch("alice", "-w", "n5"))
    lab.run(["scancel", cancelled])
    time.sleep(2)
    recorder.record("over", "all-jobs", "jobs")


def running(recorder: Recorder) -> None:
    """Jobs that hold nodes, in every state in which they do."""
    lab = recorder.lab
    stubborn = "trap '' TERM; while true; do sleep 1; done"
    plain = lab.sbatch("alice", "-w", "n3", "-t", "30")
    stopped = lab.sbatch("alice", "-w", "n4")
    requeued = lab.sbatch("bob", "-p", "preempt", "-w", "n5", wrap=stubborn)
    cancelled = lab.sbatch("bob", "-p", "preempt", "-w", "n6", "--exclusive", wrap=stubborn)
    waits = lab.sbatch("bob", "-p", "preempt", "-w", "n5")
    tasks = lab.sbatch("bob", "-p", "preempt", "--array=1-6%2", "-w", "n2")
    lab.run(["sbatch", "-o/dev/null", "--wrap=sleep 1000", "-xn1", ":", "-xn1", "-n2", "--mem=100"], "carol")
    inside = lab.popen(["srun", "-w", "n1", "--gres=gpu:a100:1", "-n2", "sleep", "1000"], "carol")
    for job in (plain, stopped, requeued, cancelled, waits, f"{tasks}_1", f"{tasks}_2"):
        runs(lab, job)
    lab.wait(lambda: "R" in lab.run(["squeue", "-h", "-n", "sleep", "-o", "%t"]).stdout, 30, "srun runs")
    reserve(lab, "physics", "StartTime=now", "EndTime=2039-01-01T00:00:00", "Nodes=n1", "Users=bob", f"Flags={OVERLAY}")
    for argv in (
        ["scontrol", "suspend", stopped],
        ["scontrol", "requeue", "incomplete", waits],
        ["scontrol", "update", f"JobId={tasks}_4", "ReservationName=physics"],
    ):
        lab.run(argv)
    time.sleep(2)
    lab.run(["scontrol", "requeue", "incomplete", requeued])
    lab.run(["scancel", cancelled])
    time.sleep(1)
    recorder.record("running", "jobs", "jobs-one-by-one", "nodes")
    inside.terminate()
    inside.wait(10)


def reservations(recorder: Recorder) -> None:
    """Reservations of many kinds, and nodes in them."""
    lab = recorder.lab
    now, later, end = "StartTime=now", "StartTime=2040-01-01T00:00:00", "EndTime=2041-01-01T00:00:00"
    reserve(lab, "physics", now, end, "Nodes=n[1-2]", "Users=alice,bob", f"Flags={OVERLAY},MAGNETIC")
    reserve(lab, "physics.lend", now, end, "Nodes=n1", "Users=-root", f"Flags={OVERLAY},NO_HOLD_JOBS_AFTER_END")
    reserve(lab, "group", now, end, "Nodes=n3", "Groups=physics", "Flags=IGNORE_JOBS,FLEX")
    reserve(lab, "service", now, end, "Nodes=n4", "Users=root", "Flags=MAINT,IGNORE_JOBS")
    reserve(lab, "monday", later, "Duration=60", "Nodes=n5", "Users=bob", "Flags=WEEKLY")
    reserve(lab, "some", later, end, "NodeCnt=1", "PartitionName=main", "Accounts=physics")
    reserve(lab, "software", now, end, "Licenses=matlab:1", "Users=bob", "Flags=LICENSE_ONLY")
    lab.wait(lambda: "MAINT" in lab.run(["scontrol", "show", "node", "n4"]).stdout)
    recorder.record("kinds", "reservations", "nodes")


def nodes(recorder: Recorder) -> None:
    """Nodes in trouble."""
    lab = recorder.lab
    runs(lab, lab.sbatch("alice", "-w", "n2"))
    for name, state, reason in (
        ("n1", "drain", "looked at = by bob | CPUTot=999 State=IDLE"),
        ("n2", "drain", "when it is free"),
        ("n3", "down", "on fire"),
        ("n4", "fail", "soon"),
    ):
        lab.run(["scontrol", "update", f"NodeName={name}", f"State={state}", f"Reason={reason}"])
    lab.run(["scontrol", "update", "NodeName=n5", "Comment=two\nlines, and NodeAddr=nowhere"])
    lab.kill("slurmd@n6")
    lab.run(["scontrol", "update", "NodeName=n6", "State=power_down_force"], check=False)
    time.sleep(1)
    recorder.record("trouble", "nodes")
    lab.start("slurmd@n6")
    lab.run(["scontrol", "update", "NodeName=n5", "Comment="])


def specialised(recorder: Recorder) -> None:
    """A node that keeps CPUs and memory for itself, and partitions of other kinds."""
    lab = recorder.lab
    old = next(line for line in lab.read(lab.conf).split("\n") if line.startswith("NodeName=n1 "))
    lab.reconfigure([f"{old} CoreSpecCount=1 MemSpecLimit=500"])
    lab.wait(lambda: "MemSpecLimit=500" in lab.run(["scontrol", "show", "node", "n1"]).stdout)
    recorder.record("specialised", "nodes")


def planned(recorder: Recorder) -> None:
    """A node that backfill keeps for a job that needs another one as well; heterogeneous jobs, waiting and not."""
    lab = recorder.lab
    runs(lab, lab.sbatch("alice", "-w", "n1", "--exclusive", "-t", "10"))
    lab.sbatch("alice", "-w", "n[1-2]", "-N2", "--exclusive", "-t", "10")
    parts = ["-w", "n3", "-n1", "-t20", ":", "-w", "n4", "-n2", "--mem=100", "-t20"]
    runs(lab, heterogeneous(lab, *parts))
    heterogeneous(lab, "-w", "n1", "-t20", ":", "-w", "n2", "-p", "preempt", "-t20")
    lab.wait(lambda: "PLANNED" in lab.run(["scontrol", "show", "node", "n2"]).stdout)
    recorder.record("planned", "jobs", "jobs-one-by-one", "nodes")


def power(recorder: Recorder) -> None:
    """Nodes that reboot, or are powered down or up, idle and with a job; the lab ends after it."""
    lab = recorder.lab
    for name in ("n1", "n4"):
        runs(lab, lab.sbatch("alice", "-w", name))
    lab.run(["scontrol", "reboot", "n[1-2]"])
    power_down(lab, "n3", "n6")
    becomes(lab, "n3", "POWERED_DOWN")
    becomes(lab, "n6", "POWERED_DOWN")
    configured = lab.sbatch("bob", "-w", "n6")  # the node is powered up for it
    becomes(lab, "n6", "POWERING_UP")
    power_down(lab, "n4", "n5")
    becomes(lab, "n5", "POWERING_DOWN")
    recorder.record("power", "nodes", "jobs")
    lab.run(["scancel", configured])


def power_down(lab: Lab, *names: str) -> None:
    for name in names:
        lab.run(["scontrol", "update", f"NodeName={name}", "State=power_down"])


def becomes(lab: Lab, node: str, state: str) -> None:
    lab.wait(lambda: state in lab.run(["scontrol", "show", "node", node]).stdout, 60, f"{node} is {state}")


def heterogeneous(lab: Lab, *parts: str) -> str:
    """Submit a job of several components as carol and give the first one's id."""
    argv = ["sbatch", "--parsable", "-o/dev/null", "--wrap=sleep 1000", *parts]
    return lab.run(argv, "carol").stdout.strip()


def failures(recorder: Recorder) -> None:
    """How Slurm says no, and how its commands say that they cannot reach it."""
    lab, say = recorder.lab, recorder.says
    period = ("StartTime=now", "EndTime=2039-01-01T00:00:00")
    new = ("scontrol", "create", "reservation", "ReservationName=new", *period)
    reserve(lab, "used", *period, "Nodes=n1", "Users=bob", f"Flags={OVERLAY}")
    held = lab.sbatch("bob", "-H", "--reservation=used")
    once = lab.sbatch("bob", "--no-requeue", "-w", "n2")
    runs(lab, once)
    say("exists", "scontrol", "create", "reservation", "ReservationName=used", *period, "Nodes=n3", "Users=bob")
    say("unknown key", *new, "Nodes=n2", "Users=bob", "AllowedPartitions=preempt")
    say("unknown user", *new, "Nodes=n2", "Users=stranger")
    say("unknown node", *new, "Nodes=n77", "Users=bob")
    say("busy nodes", *new, "Nodes=n2", "Users=alice")
    say("for nobody", *new, "Nodes=n3")
    say("in use", "scontrol", "delete", "reservation=used")
    say("no such reservation", "scontrol", "delete", "reservation=none")
    say("not an operator", "scontrol", "delete", "reservation=used", user="alice")
    say("flag that stays", "scontrol", "update", "reservation", "ReservationName=used", "Flags-=OVERLAP")
    say("attach to nothing", "scontrol", "update", f"JobId={held}", "ReservationName=none")
    say("no such job", "scontrol", "update", "JobId=999", "ReservationName=used")
    say("no such task", "scontrol", "update", "JobId=999_3", "ReservationName=used")
    say("running job's start", "scontrol", "update", f"JobId={once}", "StartTime=now")
    say("not to be requeued", "scontrol", "requeue", "incomplete", once)
    say("signal to no job", "scancel", "-v", "--signal=USR1", "--full", "999")
    say("no such job to read", "squeue", "-j", "999")
    say("unknown option", "squeue", "--no-such-option")
    lab.stop("slurmctld")
    for kind in ("jobs", "nodes", "reservations", "partitions", "config"):
        say(f"down: {kind}", *recorder.command(kind))
    say("down: change", "scontrol", "delete", "reservation=used")
    say("down: cancel", "scancel", held)
    lab.start("slurmctld")


def reserve(lab: Lab, name: str, *words: str) -> None:
    lab.run(["scontrol", "create", "reservation", f"ReservationName={name}", *words])


def runs(lab: Lab, job: str) -> None:
    def state() -> bool:
        return "RUNNING" in lab.run(["squeue", "-h", "-j", job, "-O", "state"]).stdout

    lab.wait(state, 30, f"job {job} runs")


PLAIN: tuple[Callable[[Recorder], None], ...] = (
    over, running, waiting, reasons, reservations, nodes, failures, specialised,
)  # fmt: skip


def main() -> None:
    more = (
        "Licenses=matlab:4", "PreemptExemptTime=0", "MaxArraySize=1001", "JobSubmitPlugins=",
        "PartitionName=short Nodes=n[1-4] MaxTime=1-00:00:00 GraceTime=30 PriorityTier=5 OverSubscribe=EXCLUSIVE",
        "PartitionName=closed Nodes=n[5-6] State=DOWN Hidden=YES",
        "PartitionName=none State=INACTIVE",
    )  # fmt: skip
    with Lab.boot(LabSpec(NODES, slurm_conf=more), "recorder") as lab:
        recorder = Recorder(lab)
        recorder.record("empty", "jobs", "nodes", "reservations", "partitions", "config", "groups", "passwd")
        for scene in PLAIN:
            scene(recorder)
            lab.clean()
    program = "/bin/true"
    saving = (
        f"SuspendProgram={program}", f"ResumeProgram={program}", f"RebootProgram={program}",
        "SuspendTime=36000", "SuspendTimeout=15", "ResumeTimeout=600", "SchedulerParameters=bf_interval=2",
    )  # fmt: skip
    for scene in (planned, power):
        with Lab.boot(LabSpec(6, slurm_conf=saving), "recorder") as lab:
            scene(Recorder(lab))
    spec = LabSpec(
        accounting=True,
        slurm_conf=("PreemptType=preempt/qos", "AccountingStorageEnforce=associations,qos"),
        sacctmgr=("add qos high preempt=normal", "add qos top preempt=normal,high", "modify user alice set qos+=high"),
    )
    with Lab.boot(spec, "recorder") as lab:
        recorder = Recorder(lab)
        lab.sbatch("alice", "-H", "--qos=high", "--account=physics")
        recorder.record("accounting", "jobs", "qos", "config")


if __name__ == "__main__":
    main()
