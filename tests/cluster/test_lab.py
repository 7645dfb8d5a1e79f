"""The lab itself: a real cluster that is there in a moment and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from slurm_reserve.lab import Lab, LabError, LabSpec, NodeSpec
from slurm_reserve.lab.commands import lab as lab_commands

pytestmark = pytest.mark.cluster

# Boots a lab, says how far it is, and then waits to be killed.
BOOTER = """
import sys, time
from slurm_reserve.lab import Lab
lab = Lab.boot(name=sys.argv[1], progress=lambda what: print(what, flush=True))
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def one() -> Iterator[Lab]:
    with Lab.boot(LabSpec(nodes=2)) as lab:
        yield lab


@pytest.fixture
def detached() -> Iterator[Lab]:
    lab = Lab.boot(LabSpec(nodes=(NodeSpec("a1", gres="gpu:2"),)), name=f"detached-{os.getpid()}", detach=True)
    yield lab
    lab.down()


def states(lab: Lab) -> dict[str, str]:
    """Give the state of every job."""
    return dict(line.split() for line in lab.run(["squeue", "-h", "-a", "-o", "%i %T"]).stdout.splitlines())


def processes_inside(init: int) -> set[int]:
    """Give every process in the pid namespace of a lab's first process, as the host numbers them."""
    namespace = Path(f"/proc/{init}/ns/pid").readlink()
    inside = set()
    for pid in psutil.pids():
        try:
            if Path(f"/proc/{pid}/ns/pid").readlink() == namespace:
                inside.add(pid)
        except OSError:
            continue
    return inside


def named(name: str) -> list[list[str]]:
    """Give the commands of the processes that a lab of this name consists of, outside as well as inside."""
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if name in command and any(arg.endswith("init.py") for arg in command)]


def host() -> list[object]:
    """Give what a lab could change on this machine."""
    links = sorted(line.split(":")[0] for line in Path("/proc/net/dev").read_text().splitlines() if ":" in line)
    names = [sorted(Path(folder).iterdir()) for folder in ("/run", "/etc")]
    files = [Path(path).read_text() for path in ("/proc/self/mounts", "/etc/passwd", "/etc/group", "/etc/hosts")]
    return [links, names, files]


def within(seconds: float, what: Callable[[], bool]) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_new_lab_has_every_node_idle(one: Lab) -> None:
    assert sorted(one.run(["sinfo", "-h", "-N", "-o", "%N %P %T"]).stdout.splitlines()) == [
        "n1 main* idle",
        "n1 preempt idle",
        "n2 main* idle",
        "n2 preempt idle",
    ]


def test_jobs_run_under_the_uid_of_whoever_submits_them(one: Lab) -> None:
    out = f"{one.spec.home('alice')}/out"
    one.sbatch("alice", f"--output={out}", wrap="id -un; id -Gn; pwd")
    one.wait(lambda: len(one.run(["cat", out], check=False).stdout.split()) == 4, 60, "the job has not run")
    assert one.read(out).split() == ["alice", "alice", "physics", str(one.spec.home("alice"))]


def test_a_refused_job_says_what_slurm_said(one: Lab) -> None:
    with pytest.raises(LabError, match="invalid partition"):
        one.sbatch("bob", "--partition=nowhere")


def test_nothing_of_the_host_s_environment_gets_in(one: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    env = dict(line.split("=", 1) for line in one.run(["env"], "carol", env={"MINE": "1"}).stdout.splitlines())
    assert "SBATCH_PARTITION" not in env
    assert (env["SLURM_CONF"], env["USER"], env["MINE"]) == (str(one.conf), "carol", "1")


def test_a_command_for_others_to_start_costs_little(one: Lab) -> None:
    argv = one.command(["true"], user="bob")
    took = []
    for _ in range(20):
        began = time.monotonic()
        subprocess.run(argv, check=True)
        took.append(time.monotonic() - began)
    assert min(took) < 0.05  # 5 ms; the others may have had to wait for the machine


def test_signals_reach_the_process_inside_and_its_exit_code_comes_out(one: Lab) -> None:
    script = "import signal, sys; signal.signal(15, lambda *_: sys.exit(5)); print('on', flush=True); signal.pause()"
    process = one.popen(["python3", "-c", script], "reserve", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    process.terminate()
    assert process.wait(10) == 5


def test_what_takes_too_long_is_ended_inside_as_well(one: Lab) -> None:
    with pytest.raises(LabError, match="longer than"):
        one.run(["sleep", "4321"], timeout=0.2)
    assert within(15, lambda: "sleep 4321" not in one.run(["ps", "-eo", "args"]).stdout)


def test_files_go_in_and_out(one: Lab) -> None:
    path = one.directory / "conf" / "new" / "file"
    one.put(path, "käse\n", 0o640, "dave")
    assert one.read(path) == "käse\n"
    assert one.run(["stat", "-c", "%a %U %G", path]).stdout == "640 dave dave\n"


def test_clean_gets_rid_of_stubborn_jobs_reservations_and_drained_nodes(one: Lab) -> None:
    one.run(["scontrol", "create", "reservation", "reservationname=R", "users=alice", "nodes=n1", "starttime=now",
             "duration=60", "flags=OVERLAP,IGNORE_JOBS"])  # fmt: skip
    stubborn = one.sbatch("alice", "--reservation=R", wrap="trap '' TERM; while :; do sleep 1; done")
    one.sbatch("bob", "--array=1-9", "--exclusive")
    one.sbatch("carol", "--hold")
    one.wait(lambda: states(one).get(stubborn) == "RUNNING", 60, "the job does not start")
    one.run(["scontrol", "update", "nodename=n2", "state=drain", "reason=broken"])
    one.kill("slurmctld")
    one.stop("slurmd@n2")
    one.clean()
    assert states(one) == {}
    assert "No reservations" in one.run(["scontrol", "show", "reservation"]).stdout
    assert set(one.run(["sinfo", "-h", "-o", "%T"]).stdout.split()) == {"idle"}


def test_slurm_conf_can_be_changed(one: Lab) -> None:
    one.reconfigure(["KillWait=7"])
    one.reconfigure(["PriorityType=priority/basic"])  # needs a restart
    config = one.run(["scontrol", "show", "config"]).stdout
    assert "KillWait                = 7 sec" in config
    one.clean()


def test_waiting_in_vain_shows_the_cluster(one: Lab) -> None:
    with pytest.raises(LabError, match=r"no miracle \(waited 0.1 s\)(?s:.*)squeue(?s:.*)slurmctld version"):
        one.wait(lambda: False, 0.1, "no miracle")


def test_several_labs_run_at_once_and_leave_nothing(one: Lab) -> None:
    before = host()
    with Lab.boot(LabSpec(nodes=1)) as two:
        pids = processes_inside(two.init.pid)
        assert len(pids) >= 5
        assert two.sbatch("alice") == "1"
        assert "n2" not in two.run(["sinfo"]).stdout
        assert {one.name, two.name} <= {lab.name for lab in Lab.running()}
        with pytest.raises(LabError, match="running already"):
            Lab.boot(name=two.name)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert host() == before
    assert not two.is_up
    with pytest.raises(LabError, match="is down"):
        two.run(["true"])


@pytest.mark.parametrize("moment", ["namespaces", "munged", "slurmctld", "slurmd of every node", "up"])
def test_killing_the_booter_leaves_nothing(moment: str) -> None:
    before, name = host(), f"killed-{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", BOOTER, name], stdout=subprocess.PIPE, text=True) as booter:
        assert booter.stdout is not None
        while booter.stdout.readline().strip() != moment:
            assert booter.poll() is None
        inside = {pid for lab in Lab.running() if lab.name == name for pid in processes_inside(lab.init.pid)}
        booter.send_signal(signal.SIGKILL)
    assert within(20, lambda: not named(name))
    assert within(20, lambda: not [pid for pid in inside if psutil.pid_exists(pid)])
    assert host() == before


def test_a_detached_lab_outlives_its_booter_and_is_found_by_name(detached: Lab) -> None:
    ask = "import sys; from slurm_reserve.lab import Lab; print(Lab.find(sys.argv[1]).sbatch('alice', '--gres=gpu:2'))"
    done = subprocess.run(
        [sys.executable, "-c", ask, detached.name], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "1\n"
    found = Lab.find(detached.name)
    assert (found.spec, found.is_detached) == (detached.spec, True)
    found.down()
    assert not named(detached.name)
    with pytest.raises(LabError, match="no lab called"):
        Lab.find(detached.name)


def test_the_commands_boot_enter_list_and_end_a_lab() -> None:
    name = f"cli-{os.getpid()}"
    up = CliRunner().invoke(lab_commands, ["up", "--name", name, "--nodes", "1", "--json"], catch_exceptions=False)
    try:
        assert json.loads(up.stdout)["nodes"] == ["n1"]
        again = CliRunner().invoke(lab_commands, ["up", "--name", name])
        assert (again.exit_code, "running already" in again.output) == (1, True)
        listed = json.loads(CliRunner().invoke(lab_commands, ["list", "--json"]).stdout)
        assert name in [lab["name"] for lab in listed]
        enter = "from slurm_reserve.lab.commands import lab; lab()"
        argv = [sys.executable, "-c", enter, "shell", name, "--user", "alice", "--", "sh", "-c", "id -un; exit 7"]
        shell = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (shell.stdout, shell.returncode) == ("alice\n", 7)
    finally:
        down = CliRunner().invoke(lab_commands, ["down", name])
    assert down.exit_code == 0
    assert not named(name)


def test_with_accounting_jobs_are_on_record_and_the_service_is_an_operator() -> None:
    spec = LabSpec(
        nodes=1, accounting=True, slurm_conf=("AccountingStorageEnforce=associations",), sacctmgr=("add qos high",)
    )
    with Lab.boot(spec) as lab:
        job = lab.sbatch("alice", "--time=1", wrap="true")
        with pytest.raises(LabError, match="Invalid account"):
            lab.sbatch("bob", "--account=physics")
        users = lab.run(["sacctmgr", "-nP", "show", "user", "reserve", "format=adminlevel"]).stdout
        assert users == "Operator\n"
        assert "high\n" in lab.run(["sacctmgr", "-nP", "show", "qos", "format=name"]).stdout
        created = ["scontrol", "create", "reservation", "reservationname=R", "users=alice", "nodes=n1",
                   "starttime=now+1hour", "duration=60"]  # fmt: skip
        lab.run(created, "reserve")
        query = ["sacct", "-nXP", "-j", job, "-o", "account,state"]
        lab.wait(lambda: lab.run(query).stdout == "physics|COMPLETED\n", 60, "the job is not on record")
        assert "QOS=normal " in lab.run(["scontrol", "-o", "show", "job", job]).stdout
        lab.clean()
