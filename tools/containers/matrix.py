"""The tests on each release: the suite of one host in the release's image, and those of several hosts on a cluster.

Both run at the same time, for those of several hosts wait most of it; what they printed is shown when they are done.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import PIPE, STDOUT

from tools.containers import cluster, images
from tools.containers.engine import say

# Five clusters at a time may be more than a machine of two cores can take: what fails is run again, and told of.
PYTEST = ("-m", "pytest", "-q", "-rR", "--reruns=2", "--durations=8", "-p", "no:cacheprovider")
# On one host: what shows a behaviour or holds on to a trap, and what a release may do differently. The rest of the
# suite is the same on each.
CHOSEN = "not long and not browser and (behaviour or trap or each_release)"
# What namespaces, mounts and networks of a lab's own need. All of --privileged is more than some machines can give.
LAB_MAY = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_NICE")
LAB_SEES = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")


def run(releases: list[str]) -> int:
    """Test these releases one after the other; 0 when all passed."""
    failed = []
    for release in releases:
        begun = time.monotonic()
        images.build(release)
        (images.CACHE / "results").mkdir(exist_ok=True)
        with ThreadPoolExecutor(1) as beside:
            several = beside.submit(several_hosts, release)
            failed += [f"{release} on one host"] if one_host(release) else []
        code, printed = several.result()
        say(f"the tests of several hosts on Slurm {release}\n{printed}")
        failed += [f"{release} on several hosts"] if code else []
        say(f"Slurm {release} took {time.monotonic() - begun:.0f} s")
    for each in failed:
        say(f"FAILED: {each}")
    return 1 if failed else 0


def results(release: str, kind: str) -> str:
    """The file that a run notes its behaviours in."""
    return f"behaviours-{release}-{kind}.json"


def one_host(release: str) -> int:
    """Run tests/cluster in a container of the release: each lab is a whole cluster in it."""
    say(f"the tests of one host on Slurm {release}")
    noted = [f"--volume={images.CACHE}/results:/found", f"--env=BEHAVIOURS=/found/{results(release, 'one')}"]
    argv = [*in_image(release, *noted), *PYTEST, "-m", CHOSEN, "-n3", "--dist=loadfile", "tests/cluster"]
    return subprocess.run(argv, check=False).returncode


def bench(release: str, words: list[str]) -> int:
    """Measure what the words say on another release: `python -m bench` in a container of it."""
    images.build(release)
    return subprocess.run([*in_image(release), "-m", "bench", *words], check=False).returncode


def in_image(release: str, *options: str) -> list[str]:
    """What runs Python in a container of the release that may have labs."""
    argv = ["docker", "run", "--rm", "--init", "--network=none", "--memory=8g", "--tmpfs=/tmp:exec", "--workdir=/src"]
    argv += [f"--cap-add={each}" for each in LAB_MAY] + [f"--security-opt={each}" for each in LAB_SEES]
    argv += [f"--volume={images.TOP}:/src:ro", f"--volume={images.CACHE}/python-{release}:/opt/python:ro"]
    return [*argv, *options, "--entrypoint=python3", images.image(release)]


def several_hosts(release: str) -> tuple[int, str]:
    """Run tests/matrix on a cluster of containers, which is removed afterwards; exit status and what was printed."""
    settings = {"RELEASE": release, "BEHAVIOURS": str(images.CACHE / "results" / results(release, "several"))}
    settings["BEHAVIOURS_RELEASE"] = images.version(release)
    try:
        cluster.up(release, daemon="login")
        argv, env = [sys.executable, *PYTEST, "tests/matrix"], os.environ | settings
        done = subprocess.run(argv, env=env, check=False, cwd=images.TOP, stdout=PIPE, stderr=STDOUT, text=True)
        return done.returncode, done.stdout
    finally:
        cluster.down(release)
