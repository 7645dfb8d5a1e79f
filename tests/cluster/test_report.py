"""Accounts that agree with Slurm's own database to the second (B40)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
RESERVED = {"n1", "n2", "n3"}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Lab.boot(LabSpec(kill_wait=5, accounting=True, slurm_conf=(QUICK,))) as lab:
        made = Stage(lab, user="reserve")
        yield made
        made.close()
        made.replay()


def rows(stage: Stage) -> list[dict[str, str]]:
    """What sacct says by itself, of runs on the reserved nodes."""
    names = ("JobID", "Partition", "State", "Start", "End", "NodeList", "NNodes")
    argv = ["sacct", "-a", "-D", "-X", "-n", "-P", "-S", "now-1hours", "-o", ",".join(names)]
    text = stage.lab.run(argv, env={"TZ": "UTC"}).stdout
    found = [dict(zip(names, line.split("|"), strict=True)) for line in text.splitlines()]
    return [row for row in found if row["NodeList"] in RESERVED and row["Start"] not in ("Unknown", "None")]


def seconds(row: dict[str, str]) -> int:
    start, end = (datetime.fromisoformat(row[name]).replace(tzinfo=UTC) for name in ("Start", "End"))
    return int((end - start).total_seconds())


def agrees(stage: Stage, loans: int, timeout: float) -> dict[str, Any]:
    """Lend so often, take back in between, and compare."""
    stage.start(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-3]"})
    stage.fill("n4")
    long = stage.borrow("dave", "--exclusive", "--time=5", wrap="sleep 60")
    stage.runs(long, timeout=30)
    array = stage.borrow("bob", f"--array=1-{loans}", "--time=5", wrap="sleep 1")
    for _ in range(2):
        stage.runs(stage.submit("alice", "--exclusive", "--reservation=physics", wrap="sleep 1"), timeout=30)
    stage.cancel(long)

    def left() -> list[str]:
        return [job for job in stage.jobs() if job.split("_")[0] in (array, long)]

    stage.wait(lambda: not left(), timeout, "all borrowers are done")

    def is_in_sacct() -> bool:
        found = rows(stage)
        is_whole = len([row for row in found if row["Partition"] == "preempt"]) >= loans
        return is_whole and not any("Unknown" in row["End"] for row in found)

    stage.wait(is_in_sacct, 60, "sacct has them all, with their ends")
    return dict(json.loads(stage.cli("--json", "report", "--since", "1h").stdout))


def compare(stage: Stage, said: dict[str, Any], loans: int) -> None:
    """Each run, each total, to the second."""
    runs = rows(stage)
    borrowed = [row for row in runs if row["Partition"] == "preempt"]
    owners = [row for row in runs if row["Partition"] == "main"]
    assert said["source"] == "Slurm's database"
    assert len(borrowed) >= loans
    theirs = sorted((row["JobID"], row["Start"], seconds(row), row["NodeList"]) for row in borrowed)
    ours = sorted(
        (loan["job"], loan["started"].removesuffix("+00:00"), loan["node_seconds"], *loan["nodes"])
        for loan in said["loans"]
    )
    assert ours == theirs
    physics = said["reservations"][0]
    assert sum(each["received"] for each in said["borrowers"]) == sum(map(seconds, borrowed))
    assert physics["used"] == sum(map(seconds, owners))
    assert physics["owned"] == sum(physics[part] for part in ("used", "lent", "idle", "down"))
    assert physics["loans"] == len(borrowed)
    assert float(physics["credit"]) == pytest.approx(sum(map(seconds, borrowed)) / 3600)
    assert all(loan["cause"] for loan in said["loans"])


@pytest.mark.behaviour("B40")
def test_accounts_agree_with_sacct_to_the_second(stage: Stage) -> None:
    said = agrees(stage, 30, 240)
    compare(stage, said, 30)
    evicted = [loan for loan in said["loans"] if loan["cause"].startswith("evicted for job ")]
    assert {loan["user"] for loan in evicted} <= {"bob", "dave"}
    listed = list(csv.DictReader(io.StringIO(stage.cli("report", "--since", "1h", "--csv").stdout)))
    assert [row["node_seconds"] for row in listed] == [str(loan["node_seconds"]) for loan in said["loans"]]
    assert "Slurm's database" in stage.cli("report").stdout
    stage.cli("report", "--html", f"{stage.folder}/page.html")
    assert "What lending won on lab" in stage.lab.read(f"{stage.folder}/page.html")
    idle = next(r for r in json.loads(stage.cli("--json", "idle", "--since", "1h").stdout) if r["name"] == "physics")
    assert idle["nodes"] == 3
    assert idle["reserved"] == idle["used"] + idle["idle"]
    assert sum(gap[2] for gap in idle["gaps"]) == idle["idle"]


@pytest.mark.long
@pytest.mark.behaviour("B40")
def test_accounts_of_500_loans_agree_with_sacct_to_the_second(stage: Stage) -> None:
    compare(stage, agrees(stage, 500, 900), 500)


def test_without_a_database_the_report_says_where_its_times_are_from(lab: Lab) -> None:
    made = Stage(lab)
    made.start()
    made.fill("n2", "n3", "n4")
    borrower = made.borrow("bob", "--exclusive", wrap="sleep 6")
    made.runs(borrower, "n1")
    made.wait(lambda: not made.jobs().get(borrower), 20, "it is over")
    said = made.wait(
        lambda: found if (found := json.loads(made.cli("--json", "report").stdout))["loans"] else None, 10, "it is told"
    )
    made.close()
    assert said["source"] == "what the daemon saw"
    assert "cannot be read" in said["remark"]
    assert 4 <= said["loans"][0]["node_seconds"] <= 30
    assert "accounting" in made.cli("idle", check=False).stderr
