"""Single values, in the spellings of all releases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from slurm_reserve.slurm.values import array_tasks, count, duration, gres, megabytes, time, tres


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(null)", {}),
        ("gpu:2", {"gpu": 2}),
        ("gpu", {"gpu": 1}),
        ("gpu:a100:2(S:0-1)", {"gpu": 2, "gpu:a100": 2}),
        ("gpu:a100:2(S:0,1),gpu:v100:1(S:1)", {"gpu": 3, "gpu:a100": 2, "gpu:v100": 1}),
        ("gpu:a100:1(IDX:0,2-3),shard:a100:0(IDX:N/A)", {"gpu": 1, "gpu:a100": 1, "shard": 0, "shard:a100": 0}),
        ("gpu:3090:2", {"gpu": 2, "gpu:3090": 2}),
        ("gpu:1g.5gb:7", {"gpu": 7, "gpu:1g.5gb": 7}),
        ("bandwidth:lustre:no_consume:4G", {"bandwidth": 4 << 30, "bandwidth:lustre": 4 << 30}),
        ("gres:gpu:a100:1,gres:shard:2", {"gpu": 1, "gpu:a100": 1, "shard": 2}),
        ("gres/gpu:a100:1", {"gpu": 1, "gpu:a100": 1}),
        ("cpu=2,gres/gpu=1", {"cpu": 2, "gpu": 1}),
        ("gres:none", {}),
    ],
)
def test_gres_count_by_name_and_by_type(text: str, found: dict[str, int]) -> None:
    assert gres(text) == found


@pytest.mark.parametrize(
    ("text", "tasks", "limit"),
    [
        ("7", (7,), 0),
        ("3-5", (3, 4, 5), 0),
        ("0-10:4", (0, 4, 8), 0),
        ("1,3-4,9%2", (1, 3, 4, 9), 2),
    ],
)
def test_array_tasks_are_counted_out(text: str, tasks: tuple[int, ...], limit: int) -> None:
    assert array_tasks(text) == (tasks, limit)


@pytest.mark.parametrize("text", ["", "5-3", "1-9:0", "1,,2", "1-9999999999", "1-4...", "1%x", "-1"])
def test_nonsense_is_no_list_of_tasks(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whatever it says is put into SlurmUnreadableError
        array_tasks(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1:00", timedelta(minutes=1)),
        ("00:30:00", timedelta(minutes=30)),
        ("2-03:00:00", timedelta(days=2, hours=3)),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("NOT_SET", None),
    ],
)
def test_durations(text: str, found: timedelta | None) -> None:
    assert duration(text) == found


def test_sizes_are_megabytes() -> None:
    assert [megabytes(text) for text in ("0", "4000M", "1.5G", "2T", "(null)")] == [0, 4000, 1536, 2 << 20, 0]


def test_times_are_utc() -> None:
    assert time("2030-05-06T12:00:00") == datetime(2030, 5, 6, 12, tzinfo=UTC)
    assert time("N/A") is None


def test_slurms_numbers_for_nothing_count_nothing() -> None:
    assert [count(text) for text in ("4", "N/A", "*", "4294967294")] == [4, 0, 0, 0]


def test_a_total_is_split() -> None:
    assert tres("cpu=4,mem=8G,node=1") == {"cpu": "4", "mem": "8G", "node": "1"}
    assert tres("(null)") == {}
