"""When a reservation is in force: its start and end, and its windows between them. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from slurm_reserve import windows
from slurm_reserve.site import ReservationSpec


class Period(NamedTuple):
    """From when until when nodes are bound, without a break."""

    begin: datetime
    end: datetime | None  # None: for good


def of(spec: ReservationSpec, now: datetime) -> Period | None:
    """The period that holds now, else the next one; None when there will be none any more."""
    if spec.end is not None and spec.end <= now:
        return None
    at = max(now, spec.start or now)
    if not spec.windows:
        return Period(spec.start or now, spec.end)
    span = windows.current(spec.windows, at) or windows.following(spec.windows, at)
    if span is None or (spec.end is not None and span.begin >= spec.end):
        return None
    return Period(max(span.begin, spec.start or span.begin), min(span.end, spec.end or span.end))


def is_bounded(spec: ReservationSpec) -> bool:
    """Whether it ends some time."""
    return spec.end is not None or bool(spec.windows)


def ends(spec: ReservationSpec, now: datetime) -> datetime | None:
    """When a reservation that is in force must have given everything back; None when it never ends.

    `now` where it is in force outside its period: its windows were changed.
    """
    if not is_bounded(spec):
        return None
    period = of(spec, now)
    return now if period is None or period.begin > now else period.end


def next_lending(spec: ReservationSpec, now: datetime, lead: timedelta) -> tuple[str, datetime | None]:
    """Why nothing is lent by the windows of lending, "" when something may be; and when that changes."""
    if not spec.lend.windows:
        return "", None
    here, after = windows.current(spec.lend.windows, now), windows.following(spec.lend.windows, now)
    if here is not None and now < here.end - lead:
        return "", here.end
    again = f"; again from {_shown(after.begin)}" if after else ""
    ended = f"its window of lending ends at {_shown(here.end)}" if here else "it is outside its windows of lending"
    return ended + again, after.begin if after else None


def describe(spec: ReservationSpec, now: datetime) -> str:
    """Where it stands in its windows; "" when it has none."""
    said = []
    if spec.windows:
        period = of(spec, now)
        if period is None:
            said.append("no window any more")
        elif period.begin > now:
            said.append(f"next window from {_shown(period.begin)} to {_shown(period.end)}")
        else:
            said.append(f"in its window until {_shown(period.end)}")
            if after := windows.following(spec.windows, now):
                said.append(f"the next one from {_shown(after.begin)}")
    if spec.lend.windows:
        why, until = next_lending(spec, now, timedelta(0))
        said.append(why.replace("it is outside", "outside") or f"lent until {_shown(until)}")
    return ", ".join(said)


def _shown(at: datetime | None) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z}" if at else "ever"
