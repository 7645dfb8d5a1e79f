"""What is counted, over whole cycles on a Slurm in memory, and what an admin is called for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from slurm_reserve import control
from slurm_reserve.alarms import Alarm, Alarms, Event, Limits
from slurm_reserve.figures import METRICS, Figures
from slurm_reserve.meter import Kind, Meter, Metric, Spread
from slurm_reserve.model import SlurmConfig
from slurm_reserve.news import Ended, News, Round
from slurm_reserve.record import Recorder

from tests.builders import job, nodes, site, spec
from tests.cycle.test_cycle import BORROWER, OWNERS, Mortal, Rig


class Watched(Rig):
    """With figures and alarms that hear of each cycle; a second of Slurm's is a second of theirs."""

    def start(self) -> None:
        super().start()
        self.figures, self.alarms, self.events = Figures(), Alarms(), list[Event]()
        self.figures.declared(self.site)
        self.recorder = Recorder(self.journal, self.ledger, self._log, self.hear)

    def hear(self, news: News) -> None:
        self.figures.look(news, self.slurm.now.timestamp())
        self.events += self.alarms.look(news)

    def rows(self, name: str) -> dict[tuple[str, ...], float | Spread]:
        rows = {metric.name: rows for metric, rows in self.figures.meter.picture()}[f"slurm_reserve_{name}"]
        return {labels: held for labels, held in rows.items() if held}

    def kinds(self) -> list[str]:
        return [str(event.alarm) for event in self.events]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Watched]:
    busy = job("90").of("carol").whole_nodes(2).on("n3", "n4")
    made = Watched(tmp_path, site(spec("physics", "n1")), Mortal(nodes("n1", "n3", "n4"), busy))
    yield made
    made.replay()


def test_a_loan_and_its_end_are_counted_and_the_owners_wait(rig: Watched) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(5)
    assert rig.rows("nodes") == {("physics", "lent"): 1}
    assert rig.rows("loans_open") == {("physics",): 1}
    assert rig.rows("loans_started_total") == {("physics",): 1}
    rig.slurm.submit(OWNERS)
    rig.go_on(8)
    assert rig.rows("nodes") == {("physics", "owner"): 1}
    assert rig.rows("loans_open") == {}
    assert rig.rows("evictions_total") == {("physics", "owner"): 1}
    (waited,) = rig.rows("owner_wait_seconds").items()
    assert waited[0] == ("physics", "yes")
    assert isinstance(waited[1], Spread)
    assert sum(waited[1].counts) == 1
    assert rig.rows("owner_wait_bound_seconds")["physics",] > waited[1].total > 0
    assert rig.kinds() == []
    seen = rig.rows("node_seconds_total")
    assert seen.keys() == {("physics", state) for state in ("idle", "lent", "owner")}
    assert sum(v for v in seen.values() if isinstance(v, float)) == 11  # twelve looks at one node; the first made it
    assert rig.rows("actions_total")["evict_job", "done"] == 1


def test_time_in_which_nothing_could_be_seen_is_not_counted(rig: Watched) -> None:
    rig.go_on(3)
    before = rig.rows("node_seconds_total")
    rig.figures.went(Round(1.0, Ended.UNREACHABLE))
    rig.slurm.now += timedelta(hours=3)
    rig.go_on(1)
    assert rig.rows("node_seconds_total") == before
    assert rig.rows("cycles_total") == {("unreachable",): 1}


def test_a_loan_that_a_daemon_finds_is_open_and_was_not_started_by_it(rig: Watched) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(5)
    rig.start()
    rig.go_on(2)
    assert rig.rows("loans_open") == {("physics",): 1}
    assert rig.rows("loans_started_total") == {}


def test_a_reservation_that_is_declared_no_more_is_counted_no_more(rig: Watched) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(5)
    rig.site = site(spec("chemistry", "n3"))
    rig.figures.declared(rig.site)
    rig.go_on(3)
    named = {
        labels[metric.labels.index("reservation")]
        for metric, rows in rig.figures.meter.picture()
        if "reservation" in metric.labels
        for labels in rows
    }
    assert named == {"chemistry"}


def test_no_label_holds_a_user_a_job_or_a_node(rig: Watched) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(5)
    rig.slurm.submit(OWNERS)
    rig.go_on(8)
    values = {value for _, rows in rig.figures.meter.picture() for labels in rows for value in labels}
    assert not values & {"alice", "bob", "carol", "7", "9", "90", "n1", "n3", "n4"}


def test_an_owner_who_waits_beyond_the_bound_is_told_of_once_while_the_job_still_waits(rig: Watched) -> None:
    rig.slurm.submit(BORROWER)
    rig.go_on(5)
    rig.slurm.stuck.add("7")
    rig.slurm.submit(OWNERS)
    rig.go_on(40)
    assert rig.kinds() == ["breach"]
    (event,) = rig.events
    bound = rig.rows("owner_wait_bound_seconds")["physics",]
    assert event.reservation == "physics"
    assert (event.data["job"], event.data["user"], event.data["bound"]) == ("9", "alice", bound)
    assert event.text.startswith("job 9 of alice has waited ")
    assert rig.rows("owner_waiting_seconds")["physics",] > bound
    rig.slurm.stuck.clear()
    rig.go_on(8)
    assert rig.rows("owner_waiting_seconds") == {}
    assert rig.kinds() == ["breach"]


def test_nobody_is_called_for_a_job_that_may_well_wait_for_its_owners_own(rig: Watched) -> None:
    rig.slurm.submit(OWNERS)
    rig.go_on(3)
    rig.slurm.submit(job("10").of("alice").whole_nodes(1).wanting(unproven=("contiguous",)))
    rig.slurm.submit(job("11").of("alice").whole_nodes(1))
    rig.go_on(40)
    assert rig.slurm.jobs["10"].state == rig.slurm.jobs["11"].state == "PENDING"
    assert rig.kinds() == []
    assert rig.rows("owner_waiting_seconds") == {}


def test_a_node_that_goes_down_is_told_of_with_its_reason_and_one_that_saves_power_is_not(rig: Watched) -> None:
    rig.go_on(3)
    whole = rig.slurm.nodes
    rig.slurm.nodes = [replace(n, states=frozenset({"IDLE", "POWERED_DOWN"})) for n in whole]
    rig.go_on(2)
    assert rig.kinds() == []
    rig.slurm.nodes = whole
    rig.go_on(2)
    rig.slurm.nodes = [replace(n, states=frozenset({"IDLE", "DRAIN"}), reason="left \x1b[31mdirt") for n in whole]
    rig.go_on(3)
    assert [event.text for event in rig.events] == ["n1 of physics cannot be used (DRAIN+IDLE): left ?[31mdirt"]
    assert rig.rows("nodes") == {("physics", "down"): 1}


def test_a_failing_ledger_is_told_of_once_and_the_brake_when_it_goes_on(rig: Watched) -> None:
    rig.site = site(spec("physics", "n1"), lending=replace(rig.site.lending, max_evictions_per_hour=1))
    rig.slurm.submit(BORROWER)
    rig.go_on(5)
    rig.slurm.submit(OWNERS)
    rig.go_on(8)
    assert rig.kinds() == ["brake"]
    assert rig.rows("brake_on") == {(): 1}
    rig.journal.problem = "disk full"
    rig.journal._retry_at = float("inf")
    rig.journal.close()
    rig.go_on(3)
    assert rig.kinds() == ["brake", "record"]
    assert rig.rows("record_failing") == {("journal",): 1}


def test_lending_that_stops_though_nobody_said_so_is_told_of(rig: Watched) -> None:
    rig.go_on(3)
    rig.slurm.config = SlurmConfig(version="22.05.8")  # an admin takes Slurm's own preemption away
    rig.go_on(3)
    (event,) = rig.events
    said = "nothing of physics is lent: nothing would give the nodes back if this daemon died: PreemptType is not set"
    assert event.text.startswith(said)
    assert rig.rows("lending_stopped") == {("physics",): 1}
    control.apply(rig.ledger, {"do": "pause"}, rig.slurm.now)
    rig.go_on(1)
    assert rig.rows("lending_stopped") == {}
    assert rig.rows("paused") == {(): 1}


def test_a_cluster_that_cannot_be_read_is_told_of_after_a_while_and_once() -> None:
    alarms = Alarms()
    blind = Round(0.1, Ended.UNREACHABLE, text="no answer")
    assert [e.alarm for at in range(0, 300, 5) for e in alarms.went(blind, at, 5)] == [Alarm.NO_OBSERVATION]
    assert alarms.went(Round(0.1), 300, 5) == []
    assert alarms.went(blind, 305, 60) == []
    assert alarms.went(blind, 600, 60) == []  # polls are a minute apart here
    assert [e.alarm for e in alarms.went(blind, 606, 60)] == [Alarm.NO_OBSERVATION]
    assert alarms.went(Round(0.1, Ended.STANDING_BY), 700, 5) == []
    unsound = Round(0.1, Ended.UNSOUND, text="4: ...")
    assert [e.alarm for _ in range(3) for e in alarms.went(unsound, 800, 5)] == [Alarm.UNSOUND]


def test_of_many_events_of_a_kind_one_a_minute_is_told_and_the_others_are_counted() -> None:
    limits = Limits(60.0)
    breach = Event(Alarm.BREACH, "first", "physics")
    assert limits.let_through([breach, Event(Alarm.BREACH, "other", "chemistry")], 0.0) == [
        breach,
        Event(Alarm.BREACH, "other", "chemistry"),
    ]
    for second in range(1, 60):
        assert limits.let_through([Event(Alarm.BREACH, f"at {second}", "physics")], float(second)) == []
    assert limits.let_through([], 60.0) == [Event(Alarm.BREACH, "at 59", "physics", held_back=58)]
    assert limits.let_through([], 600.0) == []


def test_counts_are_of_the_declared_kind_and_labels() -> None:
    meter = Meter([Metric("a", Kind.COUNTER, "", ("x",)), Metric("h", Kind.HISTOGRAM, "", (), (1.0, 2.0))])
    meter.add("a", 2, "one")
    meter.add("a", 3, "one")
    for value in (0.5, 1.0, 1.5, 9.0):
        meter.observe("h", value)
    before = meter.picture()
    meter.add("a", 1, "one")
    assert [dict(rows) for _, rows in before] == [{("one",): 5.0}, {(): Spread((2, 1, 1), 12.0)}]
    for wrong in (lambda: meter.add("a", 1), lambda: meter.observe("a", 1, "one"), lambda: meter.set("h", 1)):
        with pytest.raises(ValueError, match=r"is a (counter|histogram) of"):
            wrong()


def test_names_follow_prometheus_customs() -> None:
    for metric in METRICS:
        assert metric.name.startswith("slurm_reserve_")
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert not set(metric.labels) & {"user", "job", "node", "account"}
