"""What borrowers are told to expect, and how that is scored."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve import estimate, idleness
from slurm_reserve.actions import AttachJob
from slurm_reserve.cli.estimate import MOST_OF_SCRIPT, UnknownJobError, _script
from slurm_reserve.memory import Evicted, Forecast, Memory, Score
from slurm_reserve.slurm.script import time_limit

from tests.builders import NOW, cluster, job, nodes, reservation, site, view

MINUTE = timedelta(minutes=1)
TEN_MINUTES = idleness.counted((), [10 * MINUTE] * 20)
R = reservation("physics", "n1", "n2")
FOUR = nodes("n1", "n2", "n3", "n4")
LENT = job("7").borrower().on("n1").in_("physics.lend")


def test_of_an_owner_of_whom_little_is_known_nothing_is_said() -> None:
    seen = view(site(), cluster(FOUR, R), Memory())
    assert estimate.of_node(seen, "physics", "n1", MINUTE).chance_of_loss is None
    assert estimate.chance_of_loss(idleness.counted((), [MINUTE] * 4), timedelta(0), MINUTE) is None


@pytest.mark.parametrize(("minutes", "chance"), [(1, 0.0), (5, 0.0), (10, 0.5), (15, 1.0), (600, 1.0)])
def test_the_chance_of_loss_grows_with_the_time_limit(minutes: int, chance: float) -> None:
    assert estimate.chance_of_loss(TEN_MINUTES, timedelta(0), minutes * MINUTE) == pytest.approx(chance)


@given(st.lists(st.integers(0, 20_000), min_size=5, max_size=60), st.integers(0, 9000), st.integers(1, 9000))
def test_a_chance_is_one_and_never_falls_with_time(minutes: list[int], idle: int, runs: int) -> None:
    spells = idleness.counted((), [each * MINUTE for each in minutes])
    shorter, longer = (estimate.chance_of_loss(spells, idle * MINUTE, n * runs * MINUTE) for n in (1, 2))
    if shorter is None or longer is None:
        assert shorter is longer
    else:
        assert 0 <= shorter <= longer <= 1


def test_a_forecast_is_made_when_a_borrower_is_sent_and_settled_when_it_has_gone() -> None:
    waits = job("7").borrower().but(time_limit=30 * MINUTE)
    memory = Memory(made={"physics": NOW}, spells={"physics": TEN_MINUTES})
    sent = AttachJob(waits.job.key, "physics.lend", "x")
    (forecast,) = estimate.forecasts(view(site(), cluster(FOUR, R, waits), memory), [sent]).values()
    assert forecast == Forecast("physics", 1.0)
    said = replace(memory, forecasts={LENT.job.key: forecast})
    running = view(site(), cluster(FOUR, R, LENT), said)
    assert estimate.begun(running) == [LENT.job.key]
    assert estimate.settled(running) == {}
    has_run = replace(said, forecasts={LENT.job.key: replace(forecast, has_run=True)})
    over = cluster(FOUR, R)
    assert estimate.settled(view(site(), over, has_run)) == {LENT.job.key: False}
    assert estimate.settled(view(site(), over, said)) == {LENT.job.key: None}  # it never ran
    lost = replace(has_run, evicted={LENT.job.key: Evicted(NOW, "job 9 of alice", "physics")})
    assert estimate.settled(view(site(), over, lost)) == {LENT.job.key: True}
    again = cluster(FOUR, R, LENT.but(state="PENDING", nodes=frozenset(), restarts=1, submitted=NOW))
    assert estimate.settled(view(site(), again, has_run)) == {LENT.job.key: True}  # by Slurm's own preemption


def test_a_score_is_the_mean_squared_error() -> None:
    score = estimate.scored(estimate.scored(Score(), 0.5, was_lost=True), 0.0, was_lost=False)
    assert (score.count, score.lost, score.brier) == (2, 1, 0.125)


@pytest.mark.parametrize(
    ("line", "limit"), [("#SBATCH --time=2:00:00", "2:00:00"), ("#SBATCH -p x -t30", "30"), ("#SBATCH -t 1-0", "1-0")]
)
def test_a_scripts_time_limit_is_found(line: str, limit: str) -> None:
    assert time_limit(f"#!/bin/sh\n{line}\nsbatch --time=9\n") == limit


def test_of_a_script_the_beginning_is_read_and_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    long = tmp_path / "long.sh"
    with long.open("wb") as file:
        file.write(b"#!/bin/sh\n#SBATCH -t 30\n# \xff\n")
        file.truncate(MOST_OF_SCRIPT * 1000)  # a sparse file: to read all of it would take a gigabyte
    assert len(_script(str(long))) == MOST_OF_SCRIPT
    assert time_limit(_script(str(long))) == "30"
    with pytest.raises(UnknownJobError, match="neither a job that Slurm knows nor a script"):
        _script(str(tmp_path))
    with pytest.raises(UnknownJobError, match="no script to read: File name too long"):
        _script("x" * 300)
