"""Durations and times as people and Slurm write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve.durations import DurationError, format_duration, parse_duration, parse_time

NOW = datetime(2030, 5, 6, 12, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("2d", 172800), ("1w", 604800), ("0", 0), ("0s", 0), ("10:00", 600),
     ("01:00:00", 3600), ("1-00:00:00", 86400), ("1-12", 129600), ("1-12:30", 131400)],
)  # fmt: skip
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["90", "", "-5s", "1.5h", "h", "5 s", "1y", "s30", "9" * 30 + "s"])
def test_what_is_no_duration_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(DurationError, match="write"):
        parse_duration(text)


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
        ("2030-06-01", datetime(2030, 6, 1, tzinfo=NOW.tzinfo)),
        ("2030-06-01T10:00", datetime(2030, 6, 1, 10, tzinfo=NOW.tzinfo)),
        ("2030-06-01T10:00:00Z", datetime(2030, 6, 1, 10, tzinfo=UTC)),
        ("13:30", NOW.replace(hour=13, minute=30)),
        ("8:00", NOW.replace(hour=8) + timedelta(days=1)),
        ("1:30 PM", NOW.replace(hour=13, minute=30)),
        ("noon", NOW + timedelta(days=1)),
        ("tomorrow", NOW.replace(hour=0) + timedelta(days=1)),
        ("05/07/30-10:00", datetime(2030, 5, 7, 10, tzinfo=NOW.tzinfo)),
        ("050730", datetime(2030, 5, 7, tzinfo=NOW.tzinfo)),
    ],
)
def test_times(text: str, wanted: datetime) -> None:
    assert parse_time(text, NOW) == wanted


@pytest.mark.parametrize("text", ["", "whenever", "25:00", "now+3x", "13/45/30", "now+999999999weeks"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(DurationError):
        parse_time(text, NOW)


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        assert parse_time(text, NOW).tzinfo
    except DurationError:
        return
