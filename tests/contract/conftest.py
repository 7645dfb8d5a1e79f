"""One fixture, `on`: each test runs on every backend. A new adapter is one more line in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from slurm_reserve.lab import Lab, LabSpec
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.pyslurm import PyslurmSlurm, is_installed

from tests.contract.backends import Backend, InMemory, OnLab

QUICK = "SchedulerParameters=batch_sched_delay=0,sched_min_interval=50000,bf_interval=1"
LABS: list[Lab] = []


def _lab() -> Lab:
    """Booted when the first test wants it."""
    if not LABS:
        LABS.append(Lab.boot(LabSpec(kill_wait=2, slurm_conf=(QUICK,))))
    LABS[0].clean()
    return LABS[0]


def _pyslurm() -> Backend:
    if not is_installed():
        pytest.skip("pyslurm is not installed: it needs Slurm 25.11 and its headers")
    lab = _lab()
    return OnLab(lab, PyslurmSlurm(SlurmSettings(timeout=timedelta(seconds=20)), lab.command))


BACKENDS: dict[str, Callable[[], Backend]] = {
    "fake": InMemory,
    "cli": lambda: OnLab(_lab()),
    "pyslurm": _pyslurm,
}


@pytest.fixture(scope="session", autouse=True)
def labs_end() -> Iterator[None]:
    yield
    for lab in LABS:
        lab.down()


@pytest.fixture(params=[name if name == "fake" else pytest.param(name, marks=pytest.mark.cluster) for name in BACKENDS])
def on(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made = BACKENDS[request.param]()
    yield made
    made.close()
