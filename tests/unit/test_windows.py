"""Recurring windows, over changes of the clock and across midnight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slurm_reserve import windows
from slurm_reserve.windows import Span, Window, WindowError

BERLIN = ZoneInfo("Europe/Berlin")


def berlin(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=BERLIN).astimezone(UTC)  # type: ignore[misc, arg-type]  # year, month, ...


def one(text: str, *now: int) -> Span | None:
    read = [windows.parse(text)]
    return windows.current(read, berlin(*now)) or windows.following(read, berlin(*now))


@pytest.mark.parametrize(
    ("text", "now", "begin", "end"),
    [
        ("mon-fri 08:00-18:00 Europe/Berlin", (2030, 5, 6, 12), (2030, 5, 6, 8), (2030, 5, 6, 18)),
        ("mon-fri 08:00-18:00 Europe/Berlin", (2030, 5, 10, 18), (2030, 5, 13, 8), (2030, 5, 13, 18)),
        ("22:00-06:00 Europe/Berlin", (2030, 5, 6, 3), (2030, 5, 5, 22), (2030, 5, 6, 6)),  # across midnight
        ("fri 20:00-04:00 Europe/Berlin", (2030, 5, 11, 1), (2030, 5, 10, 20), (2030, 5, 11, 4)),
        ("sat-sun 00:00-24:00 Europe/Berlin", (2030, 5, 6, 0), (2030, 5, 11, 0), (2030, 5, 13, 0)),  # one, not two
        ("fri-mon 12:00-13:00:30 Europe/Berlin", (2030, 5, 6, 13, 1), (2030, 5, 10, 12), (2030, 5, 10, 13, 0, 30)),
        # The clock is put ahead on 31 March 2030 at 2, and back on 27 October at 3.
        ("08:00-18:00 Europe/Berlin", (2030, 3, 31, 0), (2030, 3, 31, 8), (2030, 3, 31, 18)),
        ("22:00-06:00 Europe/Berlin", (2030, 3, 30, 23), (2030, 3, 30, 22), (2030, 3, 31, 6)),
    ],
)
def test_a_window_is_what_the_clock_on_the_wall_shows(
    text: str, now: tuple[int, ...], begin: tuple[int, ...], end: tuple[int, ...]
) -> None:
    assert one(text, *now) == Span(berlin(*begin), berlin(*end))


def test_a_night_in_which_the_clock_changes_is_shorter_or_longer() -> None:
    spring, autumn = (
        one("22:00-06:00 Europe/Berlin", 2030, 3, 30, 23),
        one("22:00-06:00 Europe/Berlin", 2030, 10, 26, 23),
    )
    assert spring is not None
    assert autumn is not None
    assert (spring.end - spring.begin, autumn.end - autumn.begin) == (timedelta(hours=7), timedelta(hours=9))


def test_an_hour_that_is_shown_twice_belongs_to_the_window_whole_and_one_that_is_skipped_comes_after() -> None:
    twice = one("02:00-02:30 Europe/Berlin", 2030, 10, 27, 0)
    assert twice is not None
    assert twice.end - twice.begin == timedelta(hours=1, minutes=30)
    assert one("02:15-02:45 Europe/Berlin", 2030, 3, 31, 0) == Span(
        berlin(2030, 3, 31, 3, 15), berlin(2030, 3, 31, 3, 45)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no window"),
        ("mon-fri", "is no window"),
        ("08:00", "is no window"),
        ("mon tue 08:00-09:00", "is no window"),
        ("08:00-09:00 Europe/Berlin x", "is no window"),
        ("mon-fry 08:00-09:00", "'mon-fry', which is no day"),
        ("08:00-25:00", "'25:00', which is no time"),
        ("8:00-9", "'9', which is no time"),
        ("08:00-09:00 Europe/Berln", "'Europe/Berln', which is no time zone"),
        ("08:00-09:00 ../../etc/passwd", "which is no time zone"),
        ("08:00-09:00 " + "x" * 5000, "which is no time zone"),
    ],
)
def test_what_is_no_window_is_told_what_to_write(text: str, said: str) -> None:
    with pytest.raises(WindowError, match=said) as told:
        windows.parse(text)
    assert "; write" in str(told.value)
    assert len(str(told.value)) < 300


WINDOWS = st.builds(
    Window,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.times().map(lambda t: t.replace(microsecond=0)),
    st.times().map(lambda t: t.replace(microsecond=0)),
    st.sampled_from(["", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
SETS = st.lists(WINDOWS, min_size=1, max_size=3)
# Around the changes of the clock of either half of the world, and anywhere.
MOMENTS = st.one_of(
    st.integers(0, 30 * 86_400).map(lambda after: datetime(2030, 3, 9, tzinfo=UTC) + timedelta(seconds=after)),
    st.integers(0, 40 * 86_400).map(lambda after: datetime(2030, 9, 25, tzinfo=UTC) + timedelta(seconds=after)),
    st.integers(0, 3650 * 86_400).map(lambda after: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=after)),
)


@settings(deadline=None)
@given(WINDOWS)
def test_a_window_is_read_back_as_it_was_written(window: Window) -> None:
    assert windows.parse(str(window)) == window


# No end in one zone; what another one adds lies beside what is looked at of it, and within it.
ENDLESS = [windows.parse("mon 00:00-01:47:59 America/New_York"), windows.parse("daily 00:00-24:00 Australia/Lord_Howe")]


def test_windows_without_an_end_are_known_whatever_else_is_declared() -> None:
    assert windows.is_endless(ENDLESS, datetime(2030, 9, 25, 0, 0, 40, tzinfo=UTC))


@settings(deadline=None)
@given(SETS, MOMENTS)
def test_a_moment_is_in_a_span_or_before_one_and_all_moments_of_a_span_agree_on_it(
    declared: list[Window], now: datetime
) -> None:
    assume(not windows.is_endless(declared, now))  # which a site file may not say
    here, after = windows.current(declared, now), windows.following(declared, now)
    found = windows.spans(declared, now)
    assert all(a.end < b.begin for a, b in pairwise(found))
    if after is not None:
        assert after.begin > now
        assert windows.current(declared, after.begin) is not None
        assert windows.current(declared, after.begin - timedelta(microseconds=1)) in (None, here)
    if here is not None:
        assert here.begin <= now < here.end
        last = here.end - timedelta(microseconds=1)
        assert (windows.current(declared, last) or here).end == here.end
        assert windows.current(declared, here.end) is None


@settings(deadline=None)
@given(WINDOWS, MOMENTS)
def test_a_span_begins_and_ends_when_the_clock_shows_it(window: Window, now: datetime) -> None:
    for begin, end in windows.spans([window], now):
        zone = ZoneInfo(window.zone) if window.zone else None
        shown = begin.astimezone(zone).replace(tzinfo=None)
        skipped = abs(datetime.combine(shown.date(), window.begins) - shown)
        assert skipped in (timedelta(0), timedelta(minutes=30), timedelta(hours=1))
        assert end > begin


def test_windows_that_leave_nothing_out_are_known_and_so_are_those_that_meet() -> None:
    now = berlin(2030, 5, 6, 12)

    def read(*texts: str) -> list[Window]:
        return [windows.parse(text) for text in texts]

    assert windows.is_endless(read("00:00-24:00"), now)
    assert windows.is_endless(read("08:00-20:00 Europe/Berlin", "20:00-08:00 Europe/Berlin"), now)
    assert not windows.is_endless(read("00:00-23:59"), now)
    assert not windows.meet(read("08:00-20:00 Europe/Berlin"), read("20:00-08:00 Europe/Berlin"), now)
    assert windows.meet(read("08:00-20:00 Europe/Berlin"), read("sun 18:30-18:45 UTC"), now)
    # Midnight in one of them is not what it is in the other, for some weeks of the year.
    assert windows.meet(read("08:00-14:00 Europe/Berlin"), read("08:00-09:00 America/New_York"), now)
