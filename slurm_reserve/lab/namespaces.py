"""The outside of a lab: booting its first process, and finding those that run.

No file says which labs there are. A lab is its first process, and that one says its name on its command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import psutil

from slurm_reserve.lab import files
from slurm_reserve.lab.errors import LabError
from slurm_reserve.lab.requirements import USER_NAMESPACE, find, search_path
from slurm_reserve.lab.spec import LabSpec

INIT = Path(__file__).with_name("init.py")
MARK = str(Path(*INIT.parts[-3:]))  # wherever the package lies, a lab's first process runs this
NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")  # it becomes a host name
PATIENCE = 30.0  # seconds for namespaces, mounts and network; they take a twentieth of one


@dataclass(frozen=True, slots=True)
class Found:
    """A running lab as seen from outside."""

    name: str
    init: psutil.Process  # process 1 of the lab
    detached: bool


def launch(spec: LabSpec, name: str, *, detach: bool) -> tuple[psutil.Process, subprocess.Popen[str]]:
    """Make the namespaces and what is in them; returns the lab's process 1 and what stands before it.

    The lab ends when this process does, until :func:`detach` is called. Raises LabError.
    """
    if not NAME.fullmatch(name):
        raise LabError(f"{name!r} cannot be a lab's name: use letters, digits and dashes, a letter first")
    if any(lab.name == name for lab in running()):
        raise LabError(f"a lab called {name} is running already")
    launcher = _unshare(name, detach=detach)
    try:
        _hand_over(launcher, json.dumps(files.plan(spec, name, _programs())))
        return psutil.Process(launcher.pid).children()[0], launcher
    except BaseException:
        end(launcher)
        raise


def _unshare(name: str, *, detach: bool) -> subprocess.Popen[str]:
    user = USER_NAMESPACE if os.geteuid() != 0 else ()
    kinds = ("--mount", "--pid", "--net", "--uts", "--ipc", "--mount-proc", "--propagation=slave")
    # Slave mounts: what the host unmounts goes here too, nothing that happens here goes there.
    init = [sys.executable, "-I", "-S", str(INIT), "--name", name, *(["--detached"] if detach else [])]
    # A pidfd follows a process, where PR_SET_PDEATHSIG would follow the thread that happens to run this.
    booter = os.pidfd_open(os.getpid())
    try:
        return subprocess.Popen(
            [find("unshare"), *user, *kinds, "--fork", "--kill-child", "--", *init],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env={"PATH": search_path(), "SLURM_LAB_BOOTER_FD": str(booter)},
            pass_fds=[booter],
            start_new_session=True,  # an interrupt from the terminal is for the booter, who ends the lab
        )
    finally:
        os.close(booter)


def _programs() -> list[Path]:
    """Give the folders of this package and of its Python, outermost ones only: services in the lab run them too."""
    python: set[str | Path] = {sys.prefix, sys.base_prefix, Path(sys.executable).resolve().parents[1]}
    paths = {Path(path).resolve() for path in python} | {INIT.resolve().parents[2]}
    return sorted(path for path in paths if paths.isdisjoint(path.parents))


def _hand_over(launcher: subprocess.Popen[str], plan: str) -> None:
    """Send the plan and wait until it is carried out; raises LabError with what went wrong."""
    with contextlib.suppress(BrokenPipeError):  # it has ended; its last words follow
        _tell(launcher, plan)
    output = cast("IO[str]", launcher.stdout)
    answered, _, _ = select.select([output], [], [], PATIENCE)
    answer = output.readline() if answered else f"no answer in {PATIENCE:g} s"
    if answer != "ready\n":
        launcher.kill()  # and with it what it has forked, so that its output ends as well
        raise LabError(f"the lab's namespaces cannot be made: {(answer + output.read()).strip()}")


def _tell(launcher: subprocess.Popen[str], line: str) -> None:
    pipe = cast("IO[str]", launcher.stdin)
    pipe.write(line + "\n")
    pipe.flush()


def detach(launcher: subprocess.Popen[str]) -> None:
    """Let the lab outlive this process."""
    _tell(launcher, "detach")


def end(launcher: subprocess.Popen[str]) -> None:
    """End a lab that this process has launched, and wait until nothing is left."""
    if launcher.poll() is None:
        # The kernel ends all others in the lab before its first process is gone, and unshare waits for that one.
        unshare = psutil.Process(launcher.pid)
        for process in unshare.children() or [unshare]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    launcher.wait()
    for pipe in (launcher.stdin, launcher.stdout):
        cast("IO[str]", pipe).close()


def running() -> list[Found]:
    """List the labs of the present user."""
    labs = []
    for process in psutil.process_iter(["cmdline", "uids"]):
        argv = process.info["cmdline"] or []
        uids = process.info["uids"]
        if uids is not None and uids.real == os.getuid() and (found := _recognise(process, argv)):
            labs.append(found)
    return sorted(labs, key=lambda lab: lab.name)


def _recognise(process: psutil.Process, argv: list[str]) -> Found | None:
    """Tell a lab's first process by its arguments: an interpreter, options, init.py, --name NAME."""
    script = next((i for i, arg in enumerate(argv[:5]) if arg.endswith(f"/{MARK}")), 0)
    if not script or argv[script + 1 : script + 2] != ["--name"] or "unshare" in Path(argv[0]).name:
        return None
    return Found(argv[script + 2], process, "--detached" in argv)
