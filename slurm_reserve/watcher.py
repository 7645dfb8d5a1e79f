"""What is told to those who watch the daemon: metrics and the hook. It decides nothing, and fails nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from slurm_reserve.alarms import Alarms, Event, Limits
from slurm_reserve.figures import Figures
from slurm_reserve.hook import Command, Hook, Log
from slurm_reserve.metrics import Endpoint
from slurm_reserve.news import News, Round
from slurm_reserve.site import Listen, Site

TRY_AGAIN = 60.0  # seconds until an address that could not be had is asked for again

P = ParamSpec("P")


def _harmless(method: Callable[Concatenate[Watcher, P], None]) -> Callable[Concatenate[Watcher, P], None]:
    """Whatever goes wrong in it is logged once and fails no cycle: owners are served, watched or not."""

    def guarded(self: Watcher, /, *args: P.args, **named: P.kwargs) -> None:
        try:
            method(self, *args, **named)
        except Exception as error:  # as it says above
            self.complain(f"{type(error).__name__}: {error}")

    guarded.__doc__ = method.__doc__
    return guarded


class Watcher:
    """Counts what cycles tell, publishes it, and calls the hook."""

    def __init__(self, log: Log, steady: Callable[[], float] = time.monotonic) -> None:
        self._log, self._steady = log, steady
        self._complaint = ""
        self._poll = self._interval = 0.0
        self._alarms, self._figures, self._limits = Alarms(), Figures(), Limits(0.0)
        self._listen: Listen | None = None
        self._endpoint: Endpoint | None = None
        self._try_at: float | None = None  # when to ask for the address again
        self._hook: Hook | None = None

    def complain(self, text: str) -> None:
        """Say once what is wrong with the watching itself."""
        if text != self._complaint:
            self._log.error("what is watched is not told; the daemon goes on", cause=text)
        self._complaint = text

    @_harmless
    def took_over(self, site: Site) -> None:
        """Go by this configuration from now on."""
        settings = site.daemon
        self._poll = settings.poll.total_seconds()
        if (interval := settings.hook_interval.total_seconds()) != self._interval:
            self._interval, self._limits = interval, Limits(interval)
        self._figures.declared(site)
        command = Command(settings.hook, settings.hook_timeout.total_seconds())
        if self._hook is not None and self._hook.command != command:
            self._hook.close()
            self._hook = None
        if self._hook is None and settings.hook:
            self._hook = Hook(command, site.cluster, self._log)
        if settings.metrics != self._listen:
            self._stop_listening()
            self._listen, self._try_at = settings.metrics, None
        self._publish()

    @_harmless
    def news(self, news: News) -> None:
        """A cycle has seen, decided and done this."""
        self._figures.look(news, self._steady())
        self._tell(self._alarms.look(news))

    @_harmless
    def went(self, done: Round) -> None:
        """So a cycle went."""
        self._figures.went(done)
        self._tell(self._alarms.went(done, self._steady(), self._poll))
        while self._hook is not None and self._hook.results:
            self._figures.hook(*self._hook.results.popleft())
        self._publish()

    @_harmless
    def close(self) -> None:
        """Let go of the address, and of the hook."""
        self._stop_listening()
        if self._hook is not None:
            self._hook.close()
            self._hook = None

    def _tell(self, events: list[Event]) -> None:
        self._figures.events(events)
        for event in self._limits.let_through(events, self._steady()):
            if self._hook is not None:
                self._hook.tell(event)

    def _publish(self) -> None:
        if self._listen is None:
            return
        now = self._steady()
        if self._endpoint is None and (self._try_at is None or now >= self._try_at):
            self._open(self._listen, now)
        if self._endpoint is not None:
            self._endpoint.exposed.picture = self._figures.meter.picture()

    def _open(self, listen: Listen, now: float) -> None:
        """An address that cannot be had is said once, and asked for again: nobody waits for metrics."""
        try:
            self._endpoint = Endpoint(listen, self._figures.meter.picture())
        except OSError as error:
            if self._try_at is None:
                self._log.error(
                    f"no metrics: daemon.metrics: {listen}: {error.strerror or error}; free it, or write another "
                    "address and reload; it is tried again every minute"
                )
            self._try_at = now + TRY_AGAIN

    def _stop_listening(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
