"""A real Slurm for each test, on one lab a session; and the daemon on it, as an admin would run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.stage import Stage

# Scheduling passes as often as on a busy cluster, so that the tests need not wait for Slurm's idle rhythm.
QUICK = "SchedulerParameters=batch_sched_delay=0,sched_min_interval=200000,bf_interval=2,bf_max_job_part=50"


@pytest.fixture(scope="session")
def booted() -> Iterator[Lab]:
    """One lab for all tests; a lab that does not boot fails them."""
    with Lab.boot(LabSpec(kill_wait=5, slurm_conf=(QUICK,))) as lab:
        yield lab


@pytest.fixture
def lab(booted: Lab) -> Lab:
    """The lab, as it was after boot."""
    booted.clean()
    return booted


@pytest.fixture
def stage(lab: Lab) -> Iterator[Stage]:
    """The lab with a site file and a daemon to start and kill; in the end every decision is made again."""
    made = Stage(lab)
    yield made
    made.close()
    made.replay()
