"""The checker finds each thing that must not be, and counts what was lent; on small evidence made up for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.load import check, harvest
from tests.load.evidence import parse

BEGAN, DAEMON = 1000, 65002
FIELDS = "JobID,User,Account,Partition,State,Submit,Eligible,Start,End,NodeList,AllocCPUS,ReqCPUS,NNodes,TimelimitRaw"
DECLARED = {"bound": 17, "keep_idle_nodes": 0, "after_idle": 0, "max_minutes": None}


def row(
    job: str, user: str, partition: str = "main", state: str = "COMPLETED", nodes: str = "", cpus: int = 4,
    waits: int = 0, runs: tuple[int, int] | None = None, minutes: int = 10,
) -> list[str]:  # fmt: skip
    """One row of sacct; seconds from the beginning. Without `runs` the job waits to the end."""
    start, end = (str(BEGAN + runs[0]), str(BEGAN + runs[1])) if runs else ("Unknown", "Unknown")
    allocated = str(cpus) if nodes else "0"
    count = str(len(nodes.split(","))) if nodes else "1"
    at = str(BEGAN + waits)
    return [
        *(job, user, "general", partition, state, at, at, start, end, nodes),
        *(allocated, str(cpus), count, str(minutes)),
    ]


def borrowed(job: str, nodes: str, runs: tuple[int, int], **more: Any) -> list[str]:
    return row(job, "bob", "preempt", nodes=nodes, runs=runs, **more)


# Bob borrows n1 and is put out for alice; dave waits; carol keeps to n4; spare keeps one of n2 and n3 idle.
SOUND = [
    borrowed("1", "n1", (1, 30), state="REQUEUED"),
    row("2", "alice", nodes="n1", waits=28, runs=(32, 60)),
    borrowed("1", "n1", (63, 100), waits=30),
    row("3", "dave", "preempt", state="PENDING"),
    row("4", "carol", nodes="n4", runs=(0, 100)),
    borrowed("5", "n2", (4, 100)),
    borrowed("6", "n4", (100, 100), state=f"CANCELLED by {DAEMON}"),
]


def evidence(*rows: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "began": BEGAN, "ended": BEGAN + 100, "lendable": ["preempt"], "daemon_uid": DAEMON,
        "nodes": dict.fromkeys(("n1", "n2", "n3", "n4", "n5"), 4),
        "reservations": {
            "physics": {**DECLARED, "owners": ["alice"], "nodes": ["n1"]},
            "spare": {**DECLARED, "owners": ["erin"], "nodes": ["n2", "n3"], "keep_idle_nodes": 1},
            "short": {**DECLARED, "owners": ["frank"], "nodes": ["n5"], "max_minutes": 10, "after_idle": 15},
        },
        "sacct_fields": FIELDS.split(","), "sacct": [*SOUND, *rows],
        "squeue": ["3|dave|preempt|PENDING|Resources|100"], "sinfo": ["n1|allocated", "n2|idle"],
        "shown": ["physics", "physics.lend", "short", "spare"], "sent": [],
    } | changes  # fmt: skip


def found(*rows: list[str], **changes: Any) -> list[str]:
    return check.violations(parse(evidence(*rows, **changes)))


def test_it_finds_nothing_where_all_is_well() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        (row("9", "carol", nodes="n1", cpus=1, runs=(70, 80)), "job 9 of carol ran on n1, which is of physics"),
        (row("9", "erin", nodes="n5", runs=(70, 80)), "job 9 of erin ran on n5, which is of short"),
        (row("9", "carol", "main,preempt", nodes="n3", runs=(70, 80)), "job 9 of carol ran on n3"),
        (row("9", "alice", nodes="n1", cpus=1, runs=(64, 90)), "jobs hold 5 CPUs of n1"),
        (row("9", "carol", nodes="n4", state="REQUEUED", runs=(-9, -1)), "job 9 of carol is no borrower and ended REQ"),
        (
            row("9", "alice", nodes="n1", state="PREEMPTED", runs=(-9, -1)),
            "job 9 of alice is no borrower and ended PRE",
        ),
        (
            row("9", "carol", nodes="n4", state=f"CANCELLED by {DAEMON}", runs=(-9, -1)),
            "job 9 of carol is no borrower and ended CANCELLED",
        ),
        (
            row("9", "dave", "preempt", state=f"CANCELLED by {DAEMON}", runs=(9, 9)),
            "job 9 of dave was cancelled by the",
        ),
        (row("9", "alice", state="PENDING", waits=62), "job 9 of alice waited 38 s while it would have fitted"),
        (row("9", "alice", nodes="n1", waits=80, runs=(100, 101)), "job 9 of alice waited 20 s"),
        (borrowed("9", "n3,n4", (40, 50), cpus=8), "job 9 of bob ran on nodes of spare and on n4"),
        (borrowed("9", "n1,n5", (61, 62), cpus=8), "ran on nodes of physics and on n5"),
        (borrowed("9", "n5", (40, 50), minutes=11), "job 9 with a limit of 11 minutes was lent nodes of short"),
        (borrowed("9", "n3", (40, 50)), "job 9 took a node of spare at 1040, and 0 stayed idle"),
        (borrowed("9", "n5", (40, 50), state="TIMEOUT"), "job 9 of bob was ended before its time limit"),
        (borrowed("9", "n5", (40, 40), state="FAILED"), "job 9 of bob ended FAILED"),
        (borrowed("9", "n5", (40, 50), state="NODE_FAIL"), "job 9 of bob ended NODE_FAIL"),
        (borrowed("9", "n1", (50, 55), cpus=0), "job 9 began on n1 while job 2 of alice was there"),
    ],
)
def test_it_finds_what_is_planted(planted: list[str], said: str) -> None:
    told = found(planted)
    assert any(said in each for each in told), told


def test_it_finds_a_loan_too_soon_after_its_owner() -> None:
    owners = row("8", "frank", nodes="n5", runs=(10, 40))
    assert found(owners, borrowed("9", "n5", (55, 60))) == []
    assert "job 9 began on n5 13 s after a job of frank" in found(owners, borrowed("9", "n5", (53, 60)))[0]


def test_an_owner_who_waits_for_her_own_jobs_or_briefly_is_no_violation() -> None:
    assert found(row("9", "alice", nodes="n1", waits=32, runs=(100, 110))) != []
    other = row("8", "alice", nodes="n1", waits=58, runs=(60, 63))
    assert found(other, row("9", "alice", state="CANCELLED by 1", waits=33, runs=(63, 63))) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"squeue": ["7|bob|preempt|PENDING|JobHeldAdmin|0"]}, "job 7 of bob is held (JobHeldAdmin)"),
        ({"squeue": ["7|bob|preempt|PENDING|BadConstraints|0"]}, "job 7 of bob is held (BadConstraints)"),
        ({"sinfo": ["n1|drained"]}, "node n1 is drained"),
        ({"shown": ["physics", "spare"]}, "reservations short are gone"),
        ({"shown": ["physics", "short", "spare", "old.lend"]}, "reservations old.lend are nobody's"),
        (
            {
                "reservations": {n: {**DECLARED, "owners": [n], "nodes": ["n5"]} for n in ("a", "b")},
                "shown": ["a", "b"],
            },
            "node n5 is bound to a and to b",
        ),
    ],
)
def test_it_finds_what_is_left_behind(changes: dict[str, Any], said: str) -> None:
    assert any(said in each for each in found(**changes))


def test_it_counts_what_was_lent_of_what_could_have_been() -> None:
    only = {"physics": {**DECLARED, "owners": ["alice"], "nodes": ["n1"]}}
    sent = [[BEGAN + 61.0, "attach", "1", "physics.lend"]]
    counted = harvest.of(parse(evidence(reservations=only, sent=sent)))
    assert counted.lent == 29 + 37  # bob's two runs
    assert counted.lost == {
        harvest.UNSENT: 1 + 1,
        harvest.SENT: 2,
    }  # before the first; between alice's end and the second
    assert counted.closed == 2  # alice was about to start
    assert counted.starts == [2.0]
    assert counted.share == pytest.approx(66 / 70)
    assert counted.slurms_share == pytest.approx(66 / 68)


def test_what_is_kept_idle_or_held_down_or_fits_nobody_is_not_harvestable() -> None:
    counted = harvest.of(parse(evidence(borrowed("7", "n5", (0, 20)), row("8", "frank", nodes="n5", runs=(20, 30)))))
    assert counted.by_reservation["spare"] == [96, 4]  # n3 is kept idle while n2 is lent, and one of them before
    assert counted.by_reservation["short"] == [20, 55]  # from 15 s after frank's end
    nobody = evidence()
    nobody["sacct"] = [each for each in nobody["sacct"] if each[0] not in ("3", "6")]
    assert harvest.of(parse(nobody)).by_reservation["short"] == [0, 33]  # while job 1 waited to run again


def test_it_knows_nothing_of_the_package() -> None:
    look = "import sys, tests.load.check; print([m for m in sys.modules if m.startswith('slurm_reserve')])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", look], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
