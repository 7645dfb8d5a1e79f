"""A cluster of containers, up and down, by the compose file."""

from __future__ import annotations

import os
import subprocess
import time

from tools.containers.engine import EngineError
from tools.containers.images import DOCKER, SUITES, build, quiet, run

PATIENCE = 180.0  # seconds until every host is healthy


def project(release: str) -> str:
    """The name before every container, network and volume of a release's cluster."""
    return f"slurm-reserve-{release.replace('.', '')}"


def container(release: str, host: str) -> str:
    """The name of a host's container; the first compose wrote it with lines below, the second writes dashes."""
    found = _docker(
        "ps",
        "--all",
        f"--filter=label=com.docker.compose.project={project(release)}",
        f"--filter=label=com.docker.compose.service={host}",
        "--format={{.Names}}",
    )
    return found.strip()


def up(release: str, daemon: str = "daemon") -> None:
    """Build what is missing, start every host and wait until each is healthy; raises EngineError.

    With `daemon="login"` no daemon is started on the daemon's host.
    """
    build(release)
    compose(release, "up", "--detach", says=f"starting a cluster of Slurm {release}", daemon=daemon)
    deadline = time.monotonic() + PATIENCE
    while bad := _unhealthy(release):
        if time.monotonic() > deadline:
            raise EngineError(f"not healthy: {', '.join(bad)}\n{logs(release)}")
        time.sleep(0.5)


def down(release: str) -> None:
    """Remove a release's cluster: containers, networks and volumes."""
    compose(release, "down", "--volumes", "--timeout=2", says=f"removing the cluster of Slurm {release}")


def is_there(release: str) -> bool:
    """Whether anything of a release's cluster exists."""
    return bool(_docker("ps", "--all", "--quiet", f"--filter=label=com.docker.compose.project={project(release)}"))


def compose(release: str, *words: str, says: str, daemon: str = "daemon") -> None:
    """Run docker compose on the release's cluster."""
    program = ["docker", "compose"] if quiet("docker", "compose", "version") else ["docker-compose"]
    net = f"10.98.{list(SUITES).index(release) + 1}"
    settings = {"RELEASE": release, "NET": net, "COMPOSE_PROJECT_NAME": project(release), "DAEMON": daemon}
    run([*program, f"--file={DOCKER / 'compose.yaml'}", *words], says, env=os.environ | settings)


def logs(release: str) -> str:
    """The last words of every host."""
    shown = []
    for name in _docker("ps", "--all", f"--filter=name={project(release)}", "--format={{.Names}}").split():
        shown.append(f"== {name}\n{_docker('logs', '--tail=15', name)}")
    return "\n".join(shown)


def _unhealthy(release: str) -> list[str]:
    lines = _docker("ps", "--all", f"--filter=name={project(release)}", "--format={{.Names}} {{.Status}}").splitlines()
    return [line.split()[0] for line in lines if "(healthy)" not in line] or ([] if lines else ["everything"])


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    return (done.stdout + (done.stderr if words[0] == "logs" else "")).strip()
