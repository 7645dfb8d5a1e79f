"""What sacct and sacctmgr print, understood; what cannot be is refused, never guessed."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.accounting import Database, parse_held, parse_runs
from slurm_reserve.slurm.command import Commands
from slurm_reserve.slurm.port import SlurmUnavailableError, SlurmUnreadableError

TIMES = "2030-05-06T11:59:00", "2030-05-06T11:59:00", "2030-05-06T12:00:00", "2030-05-06T12:01:30"


def line(
    job: str = "7", state: str = "COMPLETED", nodes: str = "n[1-2]", user: str = "bob", times: tuple[str, ...] = TIMES
) -> str:
    return "\x1f".join([job, user, "general", "preempt,spare", "normal", state, *times, nodes]) + "\n"


def test_a_run_is_read_with_its_nodes_and_times() -> None:
    (run,) = parse_runs(line(state="CANCELLED by 65001"))
    assert (run.job, run.user, run.state, run.nodes) == ("7", "bob", "CANCELLED", {"n1", "n2"})
    assert run.partitions == {"preempt", "spare"}
    assert run.start == datetime(2030, 5, 6, 12, 0, tzinfo=UTC)
    assert run.end == datetime(2030, 5, 6, 12, 1, 30, tzinfo=UTC)


def test_what_runs_on_has_no_end_and_what_never_ran_is_left_out() -> None:
    text = line("7", "RUNNING", times=(*TIMES[:3], "Unknown")) + line("8_[3-9]", "PENDING", nodes="None assigned")
    text += line("9", "CANCELLED", nodes="None assigned")
    (run,) = parse_runs(text)
    assert run.end is None


@pytest.mark.parametrize(
    "text",
    [line()[:-1], "7|bob\n", line(nodes="n[1-"), line(state="?"), line(times=("x", *TIMES[1:])), line(user="a\x1fb"),
     line(user="a\nb"), line(nodes="n[1-99999999]")],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(SlurmUnreadableError):
        parse_runs(text)


@given(st.text(max_size=200))
def test_nothing_that_is_printed_raises_anything_else(text: str) -> None:
    for parse in (parse_runs, parse_held):
        with contextlib.suppress(SlurmUnreadableError):
            parse(text)


def test_a_reservation_is_read_and_its_name_may_hold_a_bar() -> None:
    (held,) = parse_held("odd|name|n[1-3]|2030-05-06T12:00:00|2030-05-07T12:00:00\n")
    assert (held.name, len(held.nodes)) == ("odd|name", 3)


def test_without_a_database_nothing_is_taken_for_empty() -> None:
    database = Database(Commands(SlurmSettings(bin_dir=Path("/nonexistent"))))
    with pytest.raises(SlurmUnavailableError):
        database.runs(datetime(2030, 5, 6, tzinfo=UTC), datetime(2030, 5, 7, tzinfo=UTC))
