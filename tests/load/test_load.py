"""A quarter of an hour of random load on ten reservations: sacct is checked, and what was lent is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_reserve.lab import Lab

from tests.load import check, harvest, plan
from tests.load.drive import Load, dump
from tests.load.evidence import load as read

SEED, SECONDS = 20260101, 15 * 60
LEAST = 0.85  # of what can be harvested; more than nine tenths on a machine that does nothing else


@pytest.mark.cluster
@pytest.mark.long
@pytest.mark.behaviour("B21", "B25")
def test_owners_come_first_and_idle_nodes_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Lab.boot(plan.spec()) as lab:
        load = Load.prepare(lab, SEED, keep_journal="1h")
        try:
            load.play(SECONDS)
            found = load.evidence()
            load.finish()
        finally:
            load.close()
    dump(str(tmp_path / "evidence.json"), found)
    evidence = read(tmp_path / "evidence.json")
    with capsys.disabled():
        print("\n" + check.summary(evidence))  # noqa: T201 -- the share is what this run is for
    assert check.violations(evidence) == []
    counted = harvest.of(evidence)
    assert all(lent for lent, _ in counted.by_reservation.values())
    assert sum(run.is_evicted for run in evidence.runs) > 30
    assert counted.share > LEAST
