"""A cluster of containers that can be used as a lab is: the tests of the one run on the other.

The docker SDK starts, stops and disconnects hosts. What runs in them is started by entering their namespaces, as in a
lab: that takes a tenth of the time of `docker exec`, and signals reach the process itself.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import PurePath, PurePosixPath
from typing import Any

import docker
import psutil
from slurm_reserve.lab import Lab, LabError, LabSpec
from slurm_reserve.lab.inside import Inside, InsideProcess
from tools.containers import cluster

SLURM_UID = 64030  # Debian's
DAEMONS = {"slurmctld": "controller", "slurmdbd": "slurmdbd", "mariadbd": "database"}


class Spec(LabSpec):
    """What the image's users are."""

    def uid(self, user: str) -> int:
        return SLURM_UID if user == "slurm" else super().uid(user)

    def home(self, user: str) -> PurePosixPath:
        return PurePosixPath("/root" if user == "root" else f"/home/{user}")


class Host(Inside):
    """The inside of one container."""

    directory = PurePosixPath("/home/shared")  # on a volume that every host has
    conf = PurePosixPath("/etc/slurm/slurm.conf")
    python = "/usr/bin/python3"

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(name, Spec(), psutil.Process(pid))
        self._env |= {"SLURM_CONF": str(self.conf), "TMPDIR": "/tmp"}


class ContainerCluster:
    """A running cluster of one release."""

    directory, conf, python = Host.directory, Host.conf, Host.python
    sbatch, wait = Lab.sbatch, Lab.wait  # they do with what is here

    def __init__(self, release: str) -> None:
        self.name = cluster.project(release)
        self.release = release
        self.spec = Spec()
        self.docker = docker.from_env()
        self._hosts: dict[str, Host] = {}

    # The hosts

    def container(self, host: str) -> Any:
        """The SDK's handle of a host."""
        return self.docker.containers.get(cluster.container(self.release, host))

    def host(self, name: str) -> Host:
        """A host's inside; raises LabError when it does not run."""
        known = self._hosts.get(name)
        if known is None or not known.is_up:
            pid = self.container(name).attrs["State"]["Pid"]
            if not pid:
                raise LabError(f"host {name} does not run")
            known = self._hosts[name] = Host(name, pid)
        return known

    def _where(self, daemon: str) -> str:
        return DAEMONS.get(daemon) or daemon.removeprefix("slurmd@")

    def stop(self, daemon: str) -> None:
        """Stop the host on which this runs."""
        self.container(self._where(daemon)).stop(timeout=10)

    def kill(self, daemon: str, sig: signal.Signals = signal.SIGKILL) -> None:
        """The host on which this runs is gone at once."""
        self.container(self._where(daemon)).kill(signal=sig.value)

    def start(self, daemon: str) -> None:
        """Start the host on which this runs and wait until it is healthy."""
        name = self._where(daemon)
        self.container(name).start()
        self.wait(lambda: self.is_healthy(name), 90, f"{name} is healthy")

    def restart(self, daemon: str) -> None:
        """Restart the host on which this runs and wait until it is healthy."""
        self.container(self._where(daemon)).restart(timeout=10)
        self.wait(lambda: self.is_healthy(self._where(daemon)), 90, f"{daemon} is healthy")

    def is_healthy(self, host: str) -> bool:
        state = self.container(host).attrs["State"]
        return bool(state["Running"]) and state.get("Health", {}).get("Status") == "healthy"

    def cut(self, host: str) -> None:
        """No packet reaches this host any more, or leaves it."""
        self._network().disconnect(self.container(host))

    def heal(self, host: str) -> None:
        """Connect a host that was cut off, with the address that it had."""
        last = {"login": 5, "daemon": 6, "standby": 7}[host]
        subnet = self._network().attrs["IPAM"]["Config"][0]["Subnet"]
        address = subnet.replace(".0/24", f".{last}")
        self._network().connect(self.container(host), ipv4_address=address, aliases=[host])

    def _network(self) -> Any:
        return self.docker.networks.get(f"{self.name}_cluster")

    # What a lab can do: people on the login host, the daemon's user on the daemon's

    def on(self, user: str) -> Host:
        """Where a user is at home."""
        return self.host("daemon" if user == "reserve" else "login")

    def command(self, argv: Sequence[str | PurePath], user: str = "root", *more: Any) -> list[str]:
        return self.on(user).command(argv, user, *more)

    def popen(self, argv: Sequence[str | PurePath], user: str = "root", **options: Any) -> InsideProcess:
        return self.on(user).popen(argv, user, **options)

    def run(
        self, argv: Sequence[str | PurePath], user: str = "root", check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        return self.on(user).run(argv, user, check, **options)

    def put(self, path: str | PurePath, text: str, mode: int = 0o644, user: str = "root") -> None:
        self.on(user).put(path, text, mode, user)

    def read(self, path: str | PurePath) -> str:
        return self.on("root").read(path)

    def clean(self, timeout: float = 120) -> None:
        """Make it as it was after it came up: every host healthy, no job, no reservation, every node idle."""
        for host in ("database", "slurmdbd", "controller", "n1", "n2", "n3", "n4", "login", "daemon", "standby"):
            container = self.container(host)
            if container.attrs["State"]["Status"] != "running":
                container.start()
            if not container.attrs["NetworkSettings"]["Networks"]:
                self.heal(host)
        deadline = time.monotonic() + timeout
        while not self._is_clean():
            if time.monotonic() > deadline:
                raise LabError(f"the cluster does not get clean\n{cluster.logs(self.release)}")
            time.sleep(0.1)

    def _is_clean(self) -> bool:
        jobs = self._lines("squeue", "-h", "-a", "-o", "%A")
        if jobs:
            self.run(["scancel", *sorted(set(jobs))], check=False)
            self._kill_processes_of_jobs()
        reservations = [line for line in self._lines("scontrol", "-o", "show", "reservation") if "=" in line]
        commands = [f"delete {line.split(maxsplit=1)[0]}" for line in reservations]
        nodes = dict(line.split() for line in self._lines("sinfo", "-h", "-a", "-N", "-o", "%N %T"))
        marred = [node for node, state in nodes.items() if state.startswith(("drain", "down", "fail"))]
        commands += [f"update nodename={','.join(marred)} state=resume"] if marred and not jobs else []
        if commands:
            self.run(["scontrol"], input="\n".join([*commands, "quit"]) + "\n", check=False)
        if not jobs and any(state.startswith("planned") for state in nodes.values()):
            self.restart("slurmctld")
        return len(nodes) == 4 and not jobs and not commands and set(nodes.values()) == {"idle"}

    def _lines(self, *argv: str) -> list[str]:
        return self.run(argv, check=False).stdout.splitlines()

    def _kill_processes_of_jobs(self) -> None:
        for node in ("n1", "n2", "n3", "n4"):
            for process in self.host(node).init.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.name() == "slurmstepd":
                        for child in process.children(recursive=True):
                            child.kill()
