"""The container engine: one that runs is used; where none does, one is started, and may be stopped again.

The one that is started changes nothing on the host: no iptables rules, no bridge of its own, no forwarding. Containers
reach each other, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("/run/slurm-reserve-engine")
PID, LOG = FOLDER / "pid", FOLDER / "log"
OPTIONS = ("--iptables=false", "--ip-masq=false", "--ip-forward=false", "--bridge=none")
PATIENCE = 60.0  # seconds for the engine to answer; it takes two


class EngineError(Exception):
    """There is no engine, and none can be started."""


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(f"containers: {text}\n")
    sys.stdout.flush()


def answers() -> bool:
    """Whether an engine runs that this user may use."""
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def start() -> None:
    """Have an engine; raises EngineError with its last words when it does not start here."""
    if answers():
        return
    if os.geteuid() != 0 or (dockerd := shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        raise EngineError("no container engine answers `docker version`, and only root can start one, by dockerd")
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    say(f"starting a container engine of our own; its log is {LOG}; `make engine-down` stops it")
    with LOG.open("wb") as log:
        argv = [dockerd, *OPTIONS]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    PID.write_text(f"{process.pid}\n")
    deadline = time.monotonic() + PATIENCE
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            PID.unlink()
            words = LOG.read_text(errors="replace")[-2000:]
            raise EngineError(f"the container engine does not run on this machine:\n{words}")
        time.sleep(0.2)


def stop() -> None:
    """Stop the engine that :func:`start` started; another one is left alone."""
    pid = _ours()
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while _ours() is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    PID.unlink(missing_ok=True)
    say("the container engine is stopped")


def _ours() -> int | None:
    try:
        pid = int(PID.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return pid if name == "dockerd" and state != "Z" else None
