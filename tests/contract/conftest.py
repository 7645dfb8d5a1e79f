"""One fixture, `on`: each test runs on every backend. A new adapter is one more line in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.contract.backends import Backend, InMemory, OnLab

QUICK = "SchedulerParameters=batch_sched_delay=0,sched_min_interval=50000,bf_interval=1"
LABS: list[Lab] = []


def _lab() -> Lab:
    """Booted when the first test wants it."""
    if not LABS:
        LABS.append(Lab.boot(LabSpec(kill_wait=2, slurm_conf=(QUICK,))))
    LABS[0].clean()
    return LABS[0]


BACKENDS: dict[str, Callable[[], Backend]] = {"fake": InMemory, "cli": lambda: OnLab(_lab())}


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
