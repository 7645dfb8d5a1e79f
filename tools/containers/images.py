"""The images: a base of each Debian suite, Slurm on top of it, and the project's dependencies for its Python."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.containers.engine import EngineError, say

TOP = Path(__file__).resolve().parents[2]
DOCKER = TOP / "docker"
CACHE = TOP / ".containers"
SUITES = {"22.05": "bookworm", "24.11": "trixie", "26.05": "forky"}  # Slurm's release -> Debian's
# What only the linters need is not wanted in a container.
NOT_WANTED = re.compile(r"(ruff|mypy|mypy_extensions|import-linter|grimp|librt|ast_serialize|pathspec|types-.*)==")


def image(release: str) -> str:
    """The name of a release's image; the stage of it that has Slurm's commands only ends in -client."""
    return f"slurm-reserve-test:{release}"


def build(release: str) -> None:
    """Have the image of a release, and the Python packages for it; seconds when nothing has changed."""
    suite = SUITES[release]
    base = _base(suite)
    for target, name in (("client", f"{image(release)}-client"), ("cluster", image(release))):
        argv = ["docker", "build", "--quiet", "--network=host", f"--build-arg=BASE={base}"]
        run([*argv, f"--target={target}", f"--tag={name}", str(DOCKER)], f"building {name}")
    _packages(release)


def _base(suite: str) -> str:
    """Debian's image of that suite: one that is here, one from a registry, or one that debootstrap makes."""
    ours, official = f"slurm-reserve-base:{suite}", f"debian:{suite}"
    for name in (ours, official):
        if quiet("docker", "image", "inspect", name):
            return name
    if quiet("docker", "pull", "--quiet", official, timeout=120):
        return official
    run([str(DOCKER / "base"), suite, ours], f"no registry has {official} for us; making a base by debootstrap")
    return ours


def _packages(release: str) -> None:
    """Have pip fetch the pinned dependencies for the image's Python, by this machine's own settings."""
    wanted = [line for line in (TOP / "requirements.lock").read_text().splitlines() if not NOT_WANTED.match(line)]
    python = ask(release, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    folder = CACHE / f"python-{release}"
    stamp = folder / ".made-from"
    made_from = hashlib.sha256("\n".join([python, *wanted]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == made_from:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pinned = folder / ".requirements"
    pinned.write_text("\n".join(wanted) + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", f"--target={folder}"]
    pip += [f"--python-version={python}", "--implementation=cp", "--only-binary=:all:", "--no-deps"]
    run([*pip, f"--requirement={pinned}"], f"fetching dependencies for Python {python}")
    mount = ["docker", "run", "--rm", f"--volume={folder}:/opt/python", "--entrypoint=python3", image(release)]
    run([*mount, "-m", "compileall", "-q", "-j", "2", "/opt/python"], "compiling them")
    stamp.write_text(made_from)


def ask(release: str, program: str, *words: str) -> str:
    """What a program in the image says."""
    argv = ["docker", "run", "--rm", "--network=none", f"--entrypoint={program}", image(release), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def version(release: str) -> str:
    """What the image's slurmctld says it is."""
    return ask(release, "slurmctld", "-V")


def quiet(*argv: str, timeout: float = 60) -> bool:
    """Whether a command succeeds."""
    try:
        return subprocess.run(argv, capture_output=True, check=False, timeout=timeout).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def run(argv: list[str], what: str, **options: object) -> None:
    """Say what is done and do it; raises EngineError with its last words."""
    say(what)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise EngineError(f"{what} failed:\n{(done.stdout + done.stderr)[-3000:]}")
