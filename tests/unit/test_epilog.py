"""slurmd's epilog on this machine's own processes and files: what goes, what stays, and that it never ends badly."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import psutil
import pytest

SCRIPT = Path(__file__).parents[2] / "plugins/epilog/slurm-reserve-epilog"
SHIPPED = Path(__file__).parents[2] / "configs/epilog.conf"
UID = 64_901 if os.getuid() == 0 else os.getuid()  # root's are never touched
STUBBORN = "trap '' TERM; exec sleep 1000"


@dataclass
class Node:
    """A folder that has what a node has: the settings, and commands that note how they are called."""

    folder: Path
    words: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >>{self.folder}/calls\n{script}\n')
        path.chmod(0o755)

    def process(self, **environ: str) -> psutil.Process:
        """Of the job's user, not minding SIGTERM."""
        env = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", **environ}
        user = {"user": UID, "group": UID} if os.getuid() == 0 else {}
        argv = ["/bin/sh", "-c", STUBBORN]
        self.started.append(subprocess.Popen(argv, env={k: v for k, v in env.items() if v}, **user))  # type: ignore[call-overload]
        process, until = psutil.Process(self.started[-1].pid), time.monotonic() + 20
        while process.name() != "sleep" and time.monotonic() < until:
            time.sleep(0.01)
        return process

    def private(self, job: int = 7) -> Path:
        """The job's private folder, on which it may have written anything."""
        path = self.folder / f"private-{job}"
        path.mkdir()
        os.chown(path, UID, UID if os.getuid() == 0 else -1)
        return path

    @property
    def settings(self) -> str:
        return "\n".join(f"{word} = {value}" for word, value in self.words.items())

    def environ(self, **environ: str) -> dict[str, str]:
        job = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": str(UID), "SLURM_JOB_USER": "bob", "SLURMD_NODENAME": "n1"}
        return {**job, "SLURM_JOB_PARTITION": "preempt", **environ}

    def epilog(self, **environ: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "conf").write_text(self.settings)
        argv = [sys.executable, "-IS", str(SCRIPT), str(self.folder / "conf")]
        return subprocess.run(argv, env=self.environ(**environ), capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def report(self) -> dict[str, object]:
        line: dict[str, object] = json.loads((self.folder / "report").read_text())
        return line


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    (tmp_path / "bin").mkdir()
    words = {"partitions": "preempt", "private": f"{tmp_path}/private-%j", "report": f"{tmp_path}/report"}
    made = Node(tmp_path, words | {"path": f"{tmp_path}/bin", "notice": "1", "timeout": "10"})
    made.command("scontrol", 'case "$*" in *show*) echo NodeName=n1 State=IDLE;; esac')
    yield made
    for process in made.started:
        process.kill()
        process.wait()


@pytest.fixture
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("epilog", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("epilog", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    return module


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_what_is_left_of_the_job_goes_even_if_it_ignores_sigterm_and_nothing_else_does(node: Node) -> None:
    its, another, elsewhere = node.process(), node.process(SLURM_JOB_ID="8"), node.process(SLURMD_NODENAME="n2")
    done = node.epilog()
    assert (done.returncode, is_alive(its)) == (0, False)
    assert is_alive(another)
    assert is_alive(elsewhere)  # of another slurmd of this host
    found = node.report()["found"]
    assert isinstance(found, dict)
    assert found["processes"] == [f"{its.pid} sleep"]
    assert (node.calls(), "removed of job 7 of bob: 1 processes" in done.stderr) == ([], True)


def test_jobs_that_are_not_lent_to_are_left_alone(node: Node) -> None:
    its, private = node.process(), node.private()
    done = node.epilog(SLURM_JOB_PARTITION="main")
    assert (done.returncode, done.stderr, node.calls()) == (0, "", [])
    assert is_alive(its)
    assert private.exists()
    assert not (node.folder / "report").exists()


@pytest.mark.parametrize("reservation", ["physics", "physics.lend"])
def test_jobs_in_a_reservation_are_cleaned_up_after(node: Node, reservation: str) -> None:
    node.words |= {"reservations": "chemistry physics"}
    private = node.private()
    assert node.epilog(SLURM_JOB_PARTITION="main", SLURM_JOB_RESERVATION=reservation).returncode == 0
    assert not private.exists()


def test_a_slurmd_that_does_not_say_the_partition_has_squeue_asked(node: Node) -> None:
    node.command("squeue", "echo 'preempt|normal|'")
    private = node.private()
    assert node.epilog(SLURM_JOB_PARTITION="").returncode == 0
    assert not private.exists()
    assert node.calls() == ["squeue -h -a -t all -j 7 -o %P|%q|%v"]


def test_nothing_takes_long_and_no_psutil_is_imported_for_others_jobs(node: Node) -> None:
    (node.folder / "conf").write_text(node.settings)
    env = node.environ(SLURM_JOB_PARTITION="main")
    argv = [sys.executable, "-IS", "-X", "importtime", str(SCRIPT), str(node.folder / "conf")]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"psutil", "subprocess", "json", "re", "site", "pathlib", "syslog"}


@pytest.mark.parametrize(
    "settings",
    ["", "partition = preempt", "partitions = preempt\nnotice = soon", "partitions", "\0", None,
     "partitions = preempt\nprivate = /tmp", "partitions = preempt\nprivate = /tmp/../%j",
     "partitions = preempt\neverything = maybe"],
)  # fmt: skip
def test_settings_that_are_not_understood_or_not_there_change_nothing(node: Node, settings: str | None) -> None:
    its, path = node.process(), node.folder / "conf"
    if settings is not None:
        path.write_text(settings)
    argv = [sys.executable, "-IS", str(SCRIPT), str(path)]
    done = subprocess.run(argv, env=node.environ(), capture_output=True, text=True, check=False)
    assert (done.returncode, node.calls()) == (0, [])
    assert "does nothing: " in done.stderr
    assert is_alive(its)


def test_the_shipped_settings_are_understood(script: ModuleType) -> None:
    assert script.settings_in(str(SHIPPED))["partitions"] == "preempt"


@pytest.mark.parametrize(
    "environ",
    [{"SLURM_JOB_ID": ""}, {"SLURM_JOB_ID": "7; reboot"}, {"SLURM_JOB_UID": ""}, {"SLURM_JOB_UID": "0"},
     {"SLURM_JOB_UID": "33"}],
)  # fmt: skip
def test_no_job_or_a_system_users_is_nothing_to_clean(node: Node, environ: dict[str, str]) -> None:
    its = node.process()
    done = node.epilog(**environ)
    assert (done.returncode, is_alive(its)) == (0, True)


def test_a_private_folder_goes_whatever_is_in_it_and_links_are_not_followed(node: Node) -> None:
    outside = node.folder / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    private = node.private()
    for name in ("-rf", "a\nb", "*", "…", ".hidden"):
        (private / name).write_text("x")
    (private / "link").symlink_to(outside)
    os.mkfifo(private / "fifo")
    handle = os.open(private, os.O_RDONLY)
    for _ in range(3000):  # deeper than Python's stack, and than a path may be long
        os.mkdir("d", dir_fd=handle)
        handle, above = os.open("d", os.O_RDONLY, dir_fd=handle), handle
        os.close(above)
    os.close(handle)
    done = node.epilog()
    assert (done.returncode, private.exists(), node.calls()) == (0, False, [])
    assert (outside / "kept").exists()


def test_a_folder_that_is_a_link_or_lies_behind_one_is_left(node: Node) -> None:
    outside = node.folder / "outside"
    (outside / "7").mkdir(parents=True)
    os.chown(outside / "7", UID, -1)
    (node.folder / "private-7").symlink_to(outside / "7")
    (node.folder / "of-7").symlink_to(outside)
    node.words["private"] += f" {node.folder}/of-%j/7"
    assert node.epilog().returncode == 0
    assert (outside / "7").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="to give a folder to somebody else takes root")
def test_a_folder_of_somebody_else_is_left(node: Node) -> None:
    private = node.private()
    os.chown(private, UID + 1, -1)
    assert node.epilog().returncode == 0
    assert private.exists()


def test_what_holds_the_jobs_gpus_goes_with_it(node: Node) -> None:
    hidden = node.process(SLURM_JOB_ID="")  # has wiped its environment
    node.command("nvidia-smi", f"kill -0 {hidden.pid} 2>/dev/null && echo {hidden.pid}; echo 1; exit 0")
    done = node.epilog(SLURM_JOB_GPUS="0,1")
    assert (done.returncode, is_alive(hidden)) == (0, False)
    assert node.calls()[0] == "nvidia-smi --query-compute-apps=pid --format=csv,noheader --id=0,1"
    found = node.report()["found"]
    assert isinstance(found, dict)
    assert found["gpu"] == [f"process {hidden.pid}"]


def test_an_nvidia_smi_that_fails_is_told_of_and_drains_nothing(node: Node) -> None:
    node.command("nvidia-smi", "exit 9")
    done = node.epilog(SLURM_JOB_GPUS="0")
    assert (done.returncode, "nvidia-smi cannot be asked" in done.stderr) == (0, True)
    assert not [call for call in node.calls() if call.startswith("scontrol")]


def test_with_everything_what_names_no_job_goes_where_the_user_has_no_other_job(node: Node) -> None:
    node.words |= {"everything": "yes"}
    hidden, another = node.process(SLURM_JOB_ID=""), node.process(SLURM_JOB_ID="8")
    node.command("squeue", "echo 7; echo 8")
    node.epilog()
    assert is_alive(hidden)
    if os.getuid() == 0:  # else this test itself would go
        node.command("squeue", "echo 7")
        node.epilog()
        assert (is_alive(hidden), is_alive(another)) == (False, True)


def run(script: ModuleType, node: Node, **environ: str) -> int:
    (node.folder / "conf").write_text(node.settings)
    status: int = script.main(["epilog", str(node.folder / "conf")], node.environ(**environ))
    return status


def test_a_node_that_cannot_be_cleaned_is_drained_with_one_reason(
    script: ModuleType, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.words |= {"notice": "0", "timeout": "1"}
    node.process()
    monkeypatch.setattr(psutil.Process, "kill", lambda self: None)  # as for one that waits for a disk that is gone
    assert run(script, node) == 0
    reason = "reason=slurm-reserve: 1 process of job 7 of bob cannot be removed"
    assert node.calls() == ["scontrol -o show node n1", f"scontrol update nodename=n1 state=drain {reason}"]
    assert node.report()["left"] == ["1 process"]


def test_a_reason_that_stands_there_already_is_left(
    script: ModuleType, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.words |= {"notice": "0", "timeout": "0"}
    node.process()
    monkeypatch.setattr(psutil.Process, "kill", lambda self: None)
    node.command("scontrol", "echo NodeName=n1 State=IDLE+DRAIN Reason=disk")
    assert run(script, node) == 0
    assert node.calls() == ["scontrol -o show node n1"]


def test_where_slurmctld_cannot_be_told_slurmd_drains_the_node(
    script: ModuleType, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.words |= {"notice": "0", "timeout": "0"}
    node.process()
    monkeypatch.setattr(psutil.Process, "kill", lambda self: None)
    node.command("scontrol", "exit 1")
    assert run(script, node) == 1  # slurmd drains a node whose epilog fails: here it is meant to


def test_what_cannot_be_deleted_in_time_drains_the_node(node: Node) -> None:
    node.words |= {"timeout": "0"}
    private = node.private()
    (private / "much").touch()
    assert node.epilog().returncode == 0
    assert f"reason=slurm-reserve: files in {private} of job 7 of bob cannot be removed"[:60] in node.calls()[-1]


def test_an_error_of_ours_never_drains_a_node(node: Node) -> None:
    broken = node.folder / "epilog"
    broken.write_text(SCRIPT.read_text().replace("cleaner.clean()", "cleaner.clean(1 / 0)"))
    (node.folder / "conf").write_text(node.settings)
    argv = [sys.executable, "-IS", str(broken), str(node.folder / "conf")]
    done = subprocess.run(argv, env=node.environ(), capture_output=True, text=True, check=False)
    assert (done.returncode, "failed: ZeroDivisionError" in done.stderr) == (0, True)


def test_without_psutil_it_says_so_and_does_nothing(node: Node) -> None:
    (node.folder / "conf").write_text(node.settings)
    broken = node.folder / "epilog"
    broken.write_text(
        SCRIPT.read_text().replace("import psutil\n\n        self", "import psutil_is_not_there\n\n        self")
    )
    argv = [sys.executable, "-IS", str(broken), str(node.folder / "conf")]
    done = subprocess.run(argv, env=node.environ(), capture_output=True, text=True, check=False)
    assert (done.returncode, "install python3-psutil" in done.stderr) == (0, True)
