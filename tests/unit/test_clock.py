"""The clock is put ahead or back: nobody goes sooner for it, and no owner waits longer."""

from __future__ import annotations

import contextlib
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from slurm_reserve import invariants, plan
from slurm_reserve.daemon import AlreadyRunningError, LockError, only_one
from slurm_reserve.ledger import Ledger
from slurm_reserve.memory import Evicted, Memory
from slurm_reserve.plan import Plan
from slurm_reserve.reclaim import Verdict
from slurm_reserve.rounds import Rounds
from slurm_reserve.view import View

from tests.builders import NOW, cluster, job, nodes, reservation, site, view

FOUR = nodes("n1", "n2", "n3", "n4")
R, L = reservation("physics", "n1", "n2"), reservation("physics.lend", "n1", "n2")
LENT = [job(n).borrower().whole_nodes(1).on(node).in_("physics.lend") for n, node in [("5", "n1"), ("6", "n2")]]
OWNERS = job("8").of("alice").whole_nodes(1).seconds_old(1)
HOUR = timedelta(hours=1)


def make(seen: View) -> Plan:
    made = plan.make(seen)
    assert invariants.violations(seen, made) == []
    return made


def test_what_was_noted_by_our_clock_moves_with_it_and_nothing_else(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    key, at = OWNERS.job.key, NOW.isoformat()
    ledger.put("notices", key, {"at": NOW, "deadline": NOW + timedelta(seconds=9), "cause": "job 8"})
    ledger.put("evicted", key, {"at": NOW, "cause": at, "reservation": "physics"})
    ledger.put("attached", key, {"at": NOW, "reservation": "physics.lend"})
    for kind, name in [("waiting_since", key), ("idle_since", "n1"), ("not_before", key), ("eviction_times", key)]:
        ledger.put(kind, name, NOW)
    ledger.put("made", "physics", NOW)
    ledger.put("corrected", "physics nodes", {"wanted": "n1", "count": 1, "at": NOW})
    ledger.put("orders", "reclaim physics", {"nodes": [], "until": at, "by": "root"})
    before = ledger.memory()
    ledger.move_times(-HOUR)
    moved = ledger.memory()
    assert (moved.made, moved.corrected, moved.orders) == (before.made, before.corrected, before.orders)
    assert moved.notices[key].at == NOW - HOUR
    assert moved.notices[key].deadline == NOW - HOUR + timedelta(seconds=9)
    assert (moved.evicted[key].at, moved.evicted[key].cause) == (NOW - HOUR, at)
    assert moved.attached[key].at == NOW - HOUR
    assert {moved.waiting_since[key], moved.idle_since["n1"], moved.not_before[key]} == {NOW - HOUR}
    assert moved.eviction_times == (NOW - HOUR,)
    ledger.read()  # from the disk
    assert ledger.memory() == moved
    ledger.move_times(HOUR)
    assert ledger.memory() == before
    assert ledger.latest() == NOW  # not the deadline, nor what was ordered
    ledger.close()


def test_an_owners_job_of_an_hour_ahead_is_wanted_now() -> None:
    """The daemon's clock was put back, or it runs behind slurmctld's."""
    ahead = OWNERS.but(submitted=NOW + HOUR, eligible=NOW + HOUR)
    made = make(view(site(), cluster(FOUR, R, L, *LENT, ahead)))
    assert [d.verdict for d in made.decisions] == [Verdict.EVICT]  # free nodes elsewhere have had their two passes
    begin = ahead.but(eligible=NOW + 2 * HOUR)
    assert [d.verdict for d in make(view(site(), cluster(FOUR, R, L, *LENT, begin))).decisions] == [Verdict.BLOCKED]


def test_a_clock_that_is_behind_slurmctlds_is_told_of() -> None:
    ahead = OWNERS.but(submitted=NOW + timedelta(seconds=40), eligible=NOW + timedelta(seconds=40))
    assert "set both by NTP" in make(view(site(), cluster(FOUR, R, ahead))).reports["clock"]
    assert "clock" not in make(view(site(), cluster(FOUR, R, OWNERS.but(submitted=NOW + timedelta(seconds=2))))).reports


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_borrower_of_another_hour_is_not_left_to_free_nodes_for_ever(by: timedelta) -> None:
    borrower = job("7").borrower().but(submitted=NOW + by, eligible=NOW + by)
    assert make(view(site(), cluster(FOUR, R, borrower))).loans


def test_an_eviction_that_was_lost_is_issued_again_though_the_clock_was_put_back() -> None:
    evicted = {LENT[0].job.key: Evicted(NOW + HOUR, "job 8", "physics")}
    seen = cluster(FOUR, R, L, *LENT, job("90").of("carol").whole_nodes(2).on("n3", "n4"), OWNERS)
    victims = make(view(site(), seen, Memory(made={"physics": NOW}, evicted=evicted))).victims
    assert len(victims) == 1


def test_of_two_daemons_that_share_a_folder_the_second_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path / "run", tmp_path / "state"):
        assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("run", "state")] == ["0o755", "0o750"]
        for folders in [("run", "other"), ("other", "state")]:
            with (
                pytest.raises(AlreadyRunningError, match=r"runs already \(process \d+, .*daemon.lock\); stop it first"),
                only_one(*(tmp_path / name for name in folders)),
            ):
                raise AssertionError
    with only_one(tmp_path / "state", tmp_path / "state"):  # one folder for both
        pass


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LockError, match="give the daemon's user the folder"), only_one(tmp_path / "file", tmp_path):
        raise AssertionError


class Still:
    """A Slurm that is never asked, and a log."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.said: list[str] = []

    def info(self, event: str, **values: object) -> None:
        self.said.append(event)

    error = info


@pytest.mark.parametrize(
    ("ago", "said"), [(-HOUR, ["the clock was put back by 3600 s"]), (HOUR, []), (timedelta(0), [])]
)
def test_a_clock_that_was_put_back_while_no_daemon_ran_is_noticed(
    tmp_path: Path, ago: timedelta, said: list[str]
) -> None:
    ledger, still = Ledger(tmp_path / "ledger.db"), Still()
    ledger.put("waiting_since", OWNERS.job.key, NOW - ago)
    rounds = Rounds(site(), still, ledger, still, lambda: NOW, still)  # type: ignore[arg-type]  # neither is used
    with contextlib.suppress(AttributeError):  # the cycle, which comes after
        rounds.step()
    assert [each for each in still.said if "clock" in each] == said
    assert ledger.memory().waiting_since[OWNERS.job.key] == NOW - max(ago, timedelta(0))
    ledger.close()
