"""Something read that stays good for a while."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """A value and its age by `clock` (monotonic seconds); what is older than `time` is read again."""

    def __init__(self, clock: Callable[[], float], time: timedelta) -> None:
        self._clock = clock
        self._time = time.total_seconds()
        self._read_at = 0.0
        self.value: T | None = None  # the last one, however old

    def get(self, read: Callable[[], T]) -> T:
        """Give the value, read now or not long ago. What `read` raises is passed on, and nothing is kept."""
        if self.value is None or self._clock() - self._read_at > self._time:
            return self.renew(read)
        return self.value

    def renew(self, read: Callable[[], T]) -> T:
        """Read it now."""
        value = read()
        self.value, self._read_at = value, self._clock()
        return value

    def forget(self) -> None:
        """Make sure that it is read again."""
        self.value = None
