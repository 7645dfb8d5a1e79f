"""The figures of `make bench` and their tables: small numbers, by hand."""

from __future__ import annotations

import pytest
from bench import drawing, latency, planner, reading, victims
from bench.apart import shares
from bench.figures import comparison, median, percentile, row, summary
from bench.ground import Call

DAEMON = 7


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([3.0], 0.95, 3.0), ([2.0, 1.0], 0.5, 1.5), (list(range(101)), 0.95, 95), ([0.0, 10.0], 0.95, 9.5)],
)
def test_a_percentile_lies_between_its_neighbours(values: list[float], share: float, found: float) -> None:
    assert percentile(values, share) == pytest.approx(found)


def test_median_95th_and_maximum_are_in_order() -> None:
    assert summary([4.0, 1.0, 2.0]) == pytest.approx((2.0, 3.8, 4.0))
    assert median([1, 2, 3, 4]) == 2.5


def test_rounds_are_shared_out_among_labs() -> None:
    assert shares("quiet", 7, 3) == [("quiet", 3), ("quiet", 2), ("quiet", 2)]
    assert shares("quiet", 1, 2) == [("quiet", 1)]


def test_what_several_labs_found_is_put_together() -> None:
    one = {"rounds": 2, "strangers": 0, "scheduler": "", "minutes": 1.0, "seconds": {"woken": [0.1, 0.2]}}
    other = one | {"rounds": 1, "minutes": 2.0, "seconds": {"woken": [0.3], "other ways": [0.3]}}
    found = latency.joined([one, other])
    assert (found["rounds"], found["labs"], found["minutes"]) == (3, 2, 2.0)
    assert found["seconds"] == {"woken": [0.1, 0.2, 0.3], "other ways": [0.3]}


def test_where_nobody_is_drawn_in_the_table_says_so() -> None:
    assert "not offered: Slurm 22.5" in drawing.table({"release": "22.5", "loans": 12, "ways": {}})[-1]
    ways = {"drawn in": {"waits": [1.0], "changes_per_loan": 0.1}, "sent": {"waits": [2.0], "changes_per_loan": 1.0}}
    lines = drawing.table({"release": "25.11", "loans": 2, "ways": ways})
    assert lines[-2].endswith(" 0.50")
    assert lines[-1].endswith("drawn in 0.1, sent 1")


def test_of_nothing_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    assert row("nothing", []).split() == ["nothing", "-", "-", "-"]


def test_ratios_are_of_medians_of_95ths_and_of_maxima() -> None:
    times = {"a": [1.0, 1.0, 2.0], "b": [4.0, 4.0, 4.0]}
    assert comparison(times, "a", "b").split()[-3:] == ["0.25", "0.47", "0.50"]


def calls(*names: str) -> list[Call]:
    uids = {"REQUEST_SUBMIT_BATCH_JOB": 1, "REQUEST_COMPLETE_BATCH_SCRIPT": 0, "MESSAGE_EPILOG_COMPLETE": 0}
    return [Call(float(at), name, uids.get(name, DAEMON)) for at, name in enumerate(names, start=1)]


def test_a_reclaims_time_is_split_where_one_step_follows_the_other() -> None:
    wanted = [name for name in latency.STEPS.values() if name]
    assert latency.marks_of(calls(*wanted), DAEMON) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_reclaim_that_slurm_did_itself_is_not_split() -> None:
    left = [name for name in latency.STEPS.values() if name and name != "REQUEST_JOB_REQUEUE"]
    assert latency.marks_of(calls(*left), DAEMON) is None


def test_the_tables_print_what_was_measured() -> None:
    seconds = {key: [0.1, 0.2] for key in (*latency.TITLES, *latency.STEPS, "calls")}
    seconds["net"] = [1.0, 2.0]
    lines = latency.table({"rounds": 2, "strangers": 5, "scheduler": "", "seconds": seconds})
    assert any(line.split()[-3:] == ["0.10", "0.10", "0.10"] for line in lines)  # woken by net
    notice = {"notice": 10, "kill_wait": 5, "rounds": 2, "seconds": {"daemon, heeds": [1.0, 3.0]}}
    assert latency.notice_table(notice)[2].split()[-3:] == ["2.00", "2.90", "3.00"]
    one = dict.fromkeys(reading.ROWS, 0.5)
    steady = {"seconds": 60.0, "calls_per_second": 1.0, "share_of_core": 0.01, "interval_s": 20.0}
    read = reading.table({"nodes": 5, "pending": 9, "backends": {"cli": one, "other": one}, **steady})
    assert read[2].split()[-5:] == ["0.5", "0.5", "aim:", "<", "2"]


def test_a_small_cluster_that_is_made_up_is_planned() -> None:
    found = planner.one(planner.Size(nodes=500, reservations=10, jobs=5000), rounds=1)
    assert found["jobs"] == 5000
    assert found["reasons"] > 0
    # It costs little to find out that nothing can be done: something must be lent and taken back.
    assert found["loans"] >= 20
    assert found["evictions"] > 0
    assert any("plan and invariants" in line for line in planner.table({"small": found, "large": found}))


def test_orders_of_victims_are_compared_seed_by_seed() -> None:
    none, one = victims.Played(victims.slurms), victims.Played(victims.slurms)
    none.waits, none.lost = [0.0, 0.02], 3.0
    one.waits, one.lost = [0.02, 0.02], 6.0
    found = victims._compared([none, one], [one, one])
    assert (found["lost"], found["idle_found"], found["wait_mean_s"]) == (9.0, 1, 54.0)
    assert (found["shares"], found["later_s"]) == ([0.5, 1.0], [-36.0, 0.0])
    lines = victims.table({victims.SLURM: found, "ours": found})
    assert "0.75 (0.50 to 1.00)" in lines[-1]
