"""The first process of a lab: it makes the lab's world, and when it ends the kernel ends everything in it.

Run by path as `init.py --name NAME`, already inside fresh mount, pid, net, uts and ipc namespaces. It stands alone
(standard library only, nothing of this package), so that it starts quickly and runs from wherever the package lies.
It reads one line of JSON, the plan (see :mod:`slurm_reserve.lab.files`), answers "ready" or says what went wrong, and
then waits: for the death of the process that booted it, or, once told "detach", for its own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any


def tool(*argv: str, text: str = "") -> None:
    """Run a command; raises CalledProcessError."""
    subprocess.run(argv, input=text, text=True, check=True, capture_output=True)


def mount_over_host(directory: Path) -> None:
    """Cover what a daemon might share with the host, with memory that goes when the lab goes."""
    tool("mount", "-n", "-t", "tmpfs", "-o", "mode=755", "slurm-lab", "/run")
    tool("mount", "-n", "-t", "tmpfs", "-o", "mode=1777", "slurm-lab", "/dev/shm")  # noqa: S108  covered, not used
    directory.mkdir()


def make(plan: dict[str, Any]) -> None:
    """Make the folders and files of the plan."""
    for path, mode, uid in plan["folders"]:
        Path(path).mkdir(parents=True, exist_ok=True)
        Path(path).chmod(mode)
        os.chown(path, uid, uid)
    for path, mode, uid, text in plan["files"]:
        data = os.urandom(128) if text is None else text.encode()
        Path(path).write_bytes(data)
        Path(path).chmod(mode)
        os.chown(path, uid, uid)


def cover_etc(directory: Path) -> None:
    """Give the lab an /etc of its own: links to the host's, but for what the plan has put there.

    Not single files mounted over single files: those mounts vanish when somebody on the host adds a user.
    """
    etc, host = directory / "etc", directory / ".host-etc"
    host.mkdir()
    tool("mount", "-n", "--rbind", "/etc", str(host))
    (etc / "slurm").symlink_to(directory / "conf")
    for entry in os.scandir("/etc"):
        link = etc / entry.name
        if not link.is_symlink() and not link.exists():
            link.symlink_to(Path(entry.path).readlink() if entry.is_symlink() else host / entry.name)
    tool("mount", "-n", "--bind", str(etc), "/etc")


def reveal(paths: list[Path], directory: Path) -> None:
    """Let everybody in the lab reach these, where only the one who boots it could: a Python in a closed home, say."""
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        doors = [parent for parent in reversed(path.parents) if not parent.stat().st_mode & stat.S_IXOTH]
        if doors:
            closed.setdefault(doors[0], []).append(path)
    for door, behind in closed.items():
        held = [(path, directory / ".reveal" / str(i)) for i, path in enumerate(behind)]
        for path, hold in held:
            hold.mkdir(parents=True, exist_ok=True)
            tool("mount", "-n", "--rbind", str(path), str(hold))
        tool("mount", "-n", "-t", "tmpfs", "-o", "mode=755", "slurm-lab", str(door))
        for path, hold in held:
            path.mkdir(parents=True)
            tool("mount", "-n", "--move", str(hold), str(path))


def make_network(address: str) -> None:
    """Bring up a network that ends inside the lab.

    Not loopback alone: Slurm resolves names only where some other interface has an address.
    """
    commands = [
        "link set lo up",
        "link add lab0 type veth peer name lab1",
        f"addr add {address}/24 dev lab0",
        "link set lab0 up",
        "link set lab1 up",
        # slurmdbd sends a message in two parts, the second once the first is acknowledged: after 40 ms otherwise.
        f"route replace table local local {address} dev lab0 proto kernel scope host src {address} quickack 1",
    ]
    tool("ip", "-batch", "-", text="\n".join(commands) + "\n")


def build(plan: dict[str, Any]) -> None:
    """Make the lab's world, in the order in which its parts hide the host's."""
    directory = Path(plan["directory"])
    os.umask(0o022)
    socket.sethostname(plan["host"])
    mount_over_host(directory)
    make(plan)
    cover_etc(directory)
    reveal([Path(path) for path in plan["reveal"]], directory)
    make_network(plan["address"])
    os.chdir(directory)


def wait_for_the_end(booter: int) -> None:
    """Return when the process behind the pidfd `booter` is gone, or has let go of our input without "detach"."""
    poll = select.poll()
    poll.register(booter, select.POLLIN)
    poll.register(0, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if 0 not in ready or os.read(0, 100) != b"detach\n":
            return
        poll.unregister(booter)
        poll.unregister(0)


def main() -> None:
    """Build, answer, wait, end."""
    booter = int(os.environ["SLURM_LAB_BOOTER_FD"])
    plan = sys.stdin.readline()
    if not plan:
        return  # the booter has died
    try:
        build(json.loads(plan))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)}: {error.stderr.strip()}")
    except OSError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whatever is orphaned to us is reaped by the kernel
    os.write(1, b"ready\n")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    wait_for_the_end(booter)
    os._exit(0)


if __name__ == "__main__":
    main()
