"""Durations and times as people and Slurm write them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve.durations import (
    DurationError,
    format_duration,
    is_fixed_time,
    parse_duration,
    parse_past,
    parse_time,
)

SUMMER, WINTER = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))
NOW = datetime(2030, 5, 6, 12, tzinfo=SUMMER)


@pytest.fixture(autouse=True, scope="module")
def _berlin() -> Iterator[None]:
    """A zone that has summer time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("2d", 172800), ("1w", 604800), ("0", 0), (0, 0), ("00", 0), ("0s", 0),
     ("10:00", 600), ("01:00:00", 3600), ("1-00:00:00", 86400), ("1-12", 129600), ("1-12:30", 131400)],
)  # fmt: skip
def test_durations(text: str | int, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "90",
        90,
        -5,
        "",
        "-5s",
        "1.5h",
        "h",
        "5 s",
        "1y",
        "s30",
        "9" * 30 + "s",
        "9" * 5000,
        "\u00b2",
        "\u0663s",
        "999999w",
    ],
)
def test_what_is_no_duration_is_refused_with_a_remedy(text: str | int) -> None:
    with pytest.raises(DurationError, match="write"):
        parse_duration(text)


def test_a_bare_number_is_refused_with_both_readings() -> None:
    with pytest.raises(DurationError, match="Slurm reads minutes, people seconds; write 90m or 90s"):
        parse_duration(90)


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert parse_duration(text) >= timedelta(0)
    except DurationError:
        return


def test_a_negative_duration_is_shown_with_a_minus() -> None:
    assert format_duration(timedelta(seconds=-90)) == "-1m30s"
    assert format_duration(timedelta(seconds=-0.4)) == "0s"


@given(st.integers(0, 10**8))
def test_a_duration_is_read_back_as_written(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", NOW),
        ("now+1h", NOW + timedelta(hours=1)),
        ("now+90", NOW + timedelta(seconds=90)),
        ("now+30minutes", NOW + timedelta(minutes=30)),
        ("2030-06-01", datetime(2030, 6, 1, tzinfo=SUMMER)),
        ("2030-06-01T10:00", datetime(2030, 6, 1, 10, tzinfo=SUMMER)),
        ("2030-06-01T10:00:00Z", datetime(2030, 6, 1, 10, tzinfo=UTC)),
        ("13:30", NOW.replace(hour=13, minute=30)),
        ("8:00", NOW.replace(hour=8) + timedelta(days=1)),
        ("1:30 PM", NOW.replace(hour=13, minute=30)),
        ("noon", NOW + timedelta(days=1)),
        ("tomorrow", NOW.replace(hour=0) + timedelta(days=1)),
        ("05/07/30-10:00", datetime(2030, 5, 7, 10, tzinfo=SUMMER)),
        ("050730", datetime(2030, 5, 7, tzinfo=SUMMER)),
        ("12/24/30", datetime(2030, 12, 24, tzinfo=WINTER)),
        ("2030-12-24", datetime(2030, 12, 24, tzinfo=WINTER)),  # the offset that holds then, not the one that holds now
        ("2030-12-24T10:00+05:00", datetime(2030, 12, 24, 5, tzinfo=UTC)),
        (date(2030, 6, 1), datetime(2030, 6, 1, tzinfo=SUMMER)),
        (datetime(2030, 6, 1, 9), datetime(2030, 6, 1, 9, tzinfo=SUMMER)),  # noqa: DTZ001 -- as YAML gives it
        ("now+2hour", NOW + timedelta(hours=2)),
        ("midnight", NOW.replace(hour=0) + timedelta(days=1)),
        ("teatime", NOW.replace(hour=16)),
        ("today", NOW.replace(hour=0)),
        ("12:15 AM", NOW.replace(hour=0, minute=15) + timedelta(days=1)),
    ],
)
def test_times(text: str | date, wanted: datetime) -> None:
    assert parse_time(text, NOW) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whenever",
        "25:00",
        "now+3x",
        "13/45/30",
        "now+999999999weeks",
        "now+3months",
        "now+9 eggs",
        "13:00 pm",
        "0001-01-01",
        "9999-12-31",
        "01/0230",
    ],
)
def test_what_is_no_time_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(DurationError, match="write"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("1-00:00:00", NOW - timedelta(days=1)),
        ("8:00", NOW.replace(hour=8)),
        ("08:00:30", NOW.replace(hour=8, second=30)),
        ("12:00", NOW),
        ("13:30", NOW.replace(hour=13, minute=30) - timedelta(days=1)),
        ("noon", NOW),
        ("midnight", NOW.replace(hour=0)),
        ("teatime", NOW.replace(hour=16) - timedelta(days=1)),
        ("1:30 PM", NOW.replace(hour=13, minute=30) - timedelta(days=1)),
        ("today", NOW.replace(hour=0)),
        ("2030-05-01", datetime(2030, 5, 1, tzinfo=SUMMER)),
        ("2030-01-01", datetime(2030, 1, 1, tzinfo=WINTER)),
    ],
)
def test_times_to_look_back_to(text: str, wanted: datetime) -> None:
    assert parse_past(text, NOW) == wanted


@pytest.mark.parametrize("text", ["", "90", "whenever", "30:00", "25:00:00", "999999w"])
def test_what_is_no_time_to_look_back_to_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(DurationError, match="write"):
        parse_past(text, NOW)


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        assert parse_time(text, NOW).tzinfo
        assert parse_past(text, NOW).tzinfo
    except DurationError:
        return


def test_a_time_is_fixed_when_it_does_not_depend_on_now() -> None:
    assert all(is_fixed_time(text) for text in ("2030-06-01", "06/01/30", "2030-06-01T10:00Z", date(2030, 6, 1)))
    assert not any(is_fixed_time(text) for text in ("now", "now+1h", "noon", "tomorrow", "08:00", "whenever"))
