"""What is counted for Prometheus, and how it follows from a cycle. Pure.

No label ever holds the name of a user, a job or a node: their values are the declared reservations and short lists.
Counters begin at nothing when the daemon starts, as Prometheus expects; nothing is read from the journal for them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from slurm_reserve import __version__
from slurm_reserve.actions import EvictJob
from slurm_reserve.alarms import Alarm, Event, stopped
from slurm_reserve.bound import bound
from slurm_reserve.execute import Status
from slurm_reserve.facts import LoanFact, Use
from slurm_reserve.meter import Kind, Meter, Metric
from slurm_reserve.news import Ended, News, Round, waiting
from slurm_reserve.site import Site

STATES = tuple(use for use in Use if use is not Use.GONE)
CAUSES = ("owner", "order", "lending off", "end", "maintenance", "bid", "slurm", "intruder", "shadow mode", "other")
FILES = ("journal", "ledger")
WAITS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
CYCLES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_R = ("reservation",)

METRICS = (
    Metric("slurm_reserve_build_info", _G, "The daemon's release; always 1", ("version",)),
    Metric("slurm_reserve_acting", _G, "1, or 0 while another daemon holds the lease"),
    Metric("slurm_reserve_nodes", _G, "Nodes of a reservation by what they are used for", ("reservation", "state")),
    Metric(
        "slurm_reserve_node_seconds_total", _C,
        "Time of a reservation's nodes by what they were used for, as far as it was seen", ("reservation", "state"),
    ),
    Metric("slurm_reserve_loans_open", _G, "Borrowers that run on a reservation's nodes", _R),
    Metric("slurm_reserve_loans_started_total", _C, "Borrowers that began on a reservation's nodes", _R),
    Metric(
        "slurm_reserve_evictions_total", _C, "Borrowers that had to go, by what for", ("reservation", "cause"),
    ),
    Metric(
        "slurm_reserve_owner_wait_seconds", _H,
        "From an owner's job's turn to its start; taken_back: lent nodes had to come back for it",
        ("reservation", "taken_back"), WAITS,
    ),
    Metric("slurm_reserve_owner_waiting_seconds", _G, "How long the owner's job has waited that waits longest now", _R),
    Metric("slurm_reserve_owner_wait_bound_seconds", _G, "The longest wait that is promised", _R),
    Metric("slurm_reserve_lending_stopped", _G, "1 while nothing is lent though nobody ordered or declared so", _R),
    Metric("slurm_reserve_unmet", _G, "1 while a declared reservation cannot be made", _R),
    Metric("slurm_reserve_waiting_borrowers", _G, "Borrowers that wait"),
    Metric("slurm_reserve_paused", _G, "1 while an admin has paused lending"),
    Metric("slurm_reserve_brake_on", _G, "1 while nothing is lent after too many evictions, until an admin resumes"),
    Metric("slurm_reserve_record_failing", _G, "1 while that file cannot be written", ("file",)),
    Metric("slurm_reserve_actions_total", _C, "What was done to Slurm, and what came of it", ("action", "outcome")),
    Metric("slurm_reserve_cycles_total", _C, "Cycles by how they ended", ("outcome",)),
    Metric("slurm_reserve_cycle_seconds", _H, "How long cycles took", ("scope",), CYCLES),
    Metric("slurm_reserve_last_observation_timestamp_seconds", _G, "When the cluster was last read whole; 0: never"),
    Metric("slurm_reserve_poll_interval_seconds", _G, "Time between two looks when nothing happens"),
    Metric("slurm_reserve_slurm_commands_total", _C, "Slurm's commands that were run", ("command", "outcome")),
    Metric("slurm_reserve_slurmctld_requests_total", _C, "Remote procedure calls that slurmctld had to answer"),
    Metric("slurm_reserve_slurmctld_requests_per_second_limit", _G, "How many of them are allowed in steady state"),
    Metric("slurm_reserve_slurmctld_share_of_core", _G, "Of a core, what slurmctld spends on us; not what calls wait"),
    Metric("slurm_reserve_events_total", _C, "What the hook is for, called or not", ("event", "reservation")),
    Metric("slurm_reserve_hook_runs_total", _C, "Calls of the hook", ("event", "outcome")),
)  # fmt: skip

_Run = tuple[str, object, int, object]


class Figures:
    """Keeps what was seen last, to count what is new."""

    def __init__(self) -> None:
        self.meter = Meter(METRICS)
        self._uses: dict[tuple[str, str], Use] = {}
        self._at: float | None = None  # when that was seen; monotonic seconds
        self._loans: frozenset[_Run] | None = None
        self.meter.set("slurm_reserve_build_info", 1, __version__)
        self.meter.set("slurm_reserve_acting", 1)
        self.meter.set("slurm_reserve_last_observation_timestamp_seconds", 0)
        for ended in Ended:
            self.meter.add("slurm_reserve_cycles_total", 0, ended)
        for alarm in Alarm:
            for outcome in ("done", "failed", "dropped"):
                self.meter.add("slurm_reserve_hook_runs_total", 0, alarm, outcome)

    def declared(self, site: Site) -> None:
        """Rows for each declared reservation, before anything has happened; none for those that are gone."""
        names = [spec.name for spec in site.reservations]
        self.meter.keep_only("reservation", {*names, ""})
        for name in names:
            self.meter.add("slurm_reserve_loans_started_total", 0, name)
            for cause in CAUSES:
                self.meter.add("slurm_reserve_evictions_total", 0, name, _slug(cause))
            for state in STATES:
                self.meter.add("slurm_reserve_node_seconds_total", 0, name, state)
            self.meter.add("slurm_reserve_events_total", 0, Alarm.BREACH, name)
        self.meter.set("slurm_reserve_slurmctld_requests_per_second_limit", site.slurm.max_calls_per_second)

    def look(self, news: News, steady: float) -> None:
        """What a cycle saw and did; `steady` is the time, in monotonic seconds."""
        meter = self.meter
        names = {spec.name for spec in news.view.site.reservations}
        for outcome in news.outcomes:
            words = _slug(re.sub(r"(?<!^)(?=[A-Z])", "_", type(outcome.action).__name__))
            meter.add("slurm_reserve_actions_total", 1, words, outcome.status.name.lower())
        for name, cause in evictions(news):
            if name in names:
                meter.add("slurm_reserve_evictions_total", 1, name, _slug(cause))
        self._count_loans(news, names)
        for file in FILES:
            meter.set("slurm_reserve_record_failing", bool(news.problems.get(file)), file)
        if news.is_whole:
            self._see_nodes(news, names, steady)
            self._see_waits(news, names)
            self._see_lending(news)
            meter.set("slurm_reserve_last_observation_timestamp_seconds", news.view.cluster.at.timestamp())

    def events(self, events: list[Event]) -> None:
        """What an admin should hear of."""
        for event in events:
            self.meter.add("slurm_reserve_events_total", 1, event.alarm, event.reservation)

    def hook(self, alarm: str, outcome: str) -> None:
        """The hook was called, or could not be."""
        self.meter.add("slurm_reserve_hook_runs_total", 1, alarm, outcome)

    def went(self, done: Round) -> None:
        """How a cycle went; one that saw nothing leaves the time since the last that did uncounted."""
        meter = self.meter
        if done.is_whole:
            meter.add("slurm_reserve_cycles_total", 1, done.ended)
            meter.set("slurm_reserve_acting", done.ended is not Ended.STANDING_BY)
            meter.set("slurm_reserve_poll_interval_seconds", done.interval)
        if done.ended is Ended.DONE:
            meter.observe("slurm_reserve_cycle_seconds", done.seconds, "whole" if done.is_whole else "submission")
        else:
            self._at = None
        for (command, outcome), count in done.commands.items():
            meter.set("slurm_reserve_slurm_commands_total", count, command, outcome)
        meter.set("slurm_reserve_slurmctld_requests_total", done.requests)
        meter.set("slurm_reserve_slurmctld_share_of_core", done.load.share_of_core)

    def _count_loans(self, news: News, names: set[str]) -> None:
        began = {_run(loan): loan.reservation for loan in (*news.loans, *news.changes.loans) if loan.started}
        going = frozenset(_run(loan) for loan in news.loans)
        for run in began.keys() - self._loans if self._loans is not None else ():
            if began[run] in names:
                self.meter.add("slurm_reserve_loans_started_total", 1, began[run])
        if news.is_whole or self._loans is None:
            self._loans = going | frozenset(began)
        else:
            self._loans |= frozenset(began)

    def _see_nodes(self, news: News, names: set[str], steady: float) -> None:
        passed = steady - self._at if self._at is not None else 0.0
        for (name, _), use in self._uses.items():
            if name in names and use is not Use.GONE:
                self.meter.add("slurm_reserve_node_seconds_total", passed, name, use)
        self._uses, self._at = dict(news.uses), steady
        now = Counter((name, use) for (name, _), use in news.uses.items())
        running = Counter(loan.reservation for loan in news.loans if loan.started and loan.is_open)
        for name in names:
            self.meter.set("slurm_reserve_loans_open", running[name], name)
            for state in STATES:
                self.meter.set("slurm_reserve_nodes", now[name, state], name, state)

    def _see_waits(self, news: News, names: set[str]) -> None:
        for wait in news.changes.waits:
            if wait.started is not None and wait.wanted is not None and wait.reservation in names:
                back = "yes" if wait.needed else "no"
                self.meter.observe("slurm_reserve_owner_wait_seconds", wait.seconds or 0.0, wait.reservation, back)
        longest = dict.fromkeys(names, 0.0)
        for each in waiting(news):
            longest[each.fact.reservation] = max(longest[each.fact.reservation], each.seconds)
        site, config = news.view.site, news.view.cluster.config
        for spec in site.reservations:
            self.meter.set("slurm_reserve_owner_waiting_seconds", longest[spec.name], spec.name)
            promised = bound(site, config, spec).total.total_seconds()
            self.meter.set("slurm_reserve_owner_wait_bound_seconds", promised, spec.name)

    def _see_lending(self, news: News) -> None:
        meter, plan = self.meter, news.plan
        for spec in news.view.site.reservations:
            meter.set("slurm_reserve_lending_stopped", bool(stopped(news, spec)), spec.name)
            meter.set("slurm_reserve_unmet", spec.name in plan.unmet, spec.name)
        meter.set("slurm_reserve_waiting_borrowers", len(news.view.waiting_borrowers))
        meter.set("slurm_reserve_paused", news.view.memory.orders.paused)
        meter.set("slurm_reserve_brake_on", bool(plan.brake))


def evictions(news: News) -> Iterator[tuple[str, str]]:
    """The reservation and the cause of each eviction that is new: one that is issued again was counted."""
    known = news.view.memory.evicted
    for outcome in news.outcomes:
        action = outcome.action
        if isinstance(action, EvictJob) and outcome.status is Status.DONE and action.job not in known:
            yield action.reservation, _cause(action.cause)
    if news.is_whole:
        for key, gone in news.plan.forestalled.items():
            told = key in news.view.memory.notices
            yield gone.reservation, _cause(gone.cause) if told else "slurm"


def _cause(text: str) -> str:
    if text.startswith("job "):
        return "owner"
    if text.startswith("bid of "):
        return "bid"
    return text if text in CAUSES else "other"


def _slug(text: str) -> str:
    return text.lower().replace(" ", "_")


def _run(loan: LoanFact) -> _Run:
    return loan.job, loan.submitted, loan.restarts, loan.started
