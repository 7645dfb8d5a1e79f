"""`check` on a real Slurm: each setting that would break the promise is broken, and seen reported with its remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from slurm_reserve.check import CHECKS, id_of
from slurm_reserve.lab import Lab, LabSpec
from slurm_reserve.lab.conf import key_of

from tests.cluster.conftest import QUICK
from tests.cluster.plugins import SHIPPED, USUAL, with_guard
from tests.cluster.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.each_release]
PLAIN = {"ends-not-heard", "output-lost", "left-behind"}  # what a lab has by itself


def usual(stage: Stage) -> set[str]:
    """What a lab without plugins is told, beside what its release has."""
    return PLAIN | hole(stage) | (set() if stage.release() >= (25, 11) else {"unguarded"})


def hole(stage: Stage) -> set[str]:
    return {"signal-hole"} if stage.release() < (23, 11) else set()


# Lines of slurm.conf, keys of the reservation and of the site file, and the findings that come of them, each with a
# word of what is said and of the remedy. What does not get in each other's way is broken together.
BROKEN: list[tuple[tuple[str, ...], dict[str, Any], dict[str, Any], dict[str, tuple[str, str]]]] = [
    (
        (
            "PreemptType=preempt/none", "PreemptMode=OFF", "PartitionName=preempt Nodes=ALL PriorityTier=1",
            "SchedulerType=sched/builtin", "KillWait=90",
        ), {}, {},
        {
            "no-net": ("PreemptType", "set preempt/partition_prio"),
            "no-backfill": ("sched/builtin", "sched/backfill"),
            "long-kill-wait": ("KillWait is 90 s", "KillWait=30"),
        },
    ),
    (
        ("PartitionName=preempt Nodes=ALL PriorityTier=1 PreemptMode=OFF", "JobRequeue=0"), {}, {},
        {"no-net": ("PreemptMode of partition preempt is OFF", "REQUEUE"), "not-requeued": ("JobRequeue=0", "=1")},
    ),
    (
        ("PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=OFF",), {"find": "magnetic"},
        {"daemon": {"fail_safe": True}},
        {"no-net": ("only the service's fail-safe", "set it above 1"), "magnetic": ("MAGNETIC", "find: attach")},
    ),
    (
        ("PartitionName=preempt Nodes=ALL PriorityTier=1 PreemptMode=CANCEL GraceTime=5", "PreemptExemptTime=1:00"),
        {"reclaim": {"notice": "30s"}}, {},
        {
            "net-cancels": ("cancelled, not requeued", "PreemptMode=REQUEUE"),
            "net-waits": ("PreemptExemptTime=00:01:00", "remove"),
            "notice-cut": ("cuts the notice", "GraceTime=30"),
        },
    ),
    (
        (
            "SchedulerParameters=bf_interval=40,batch_sched_delay=20,defer", "CompleteWait=7", "SuspendTime=600",
            "SuspendProgram=/bin/true", "ResumeProgram=/bin/true", "ResvOverRun=5",
        ), {"end": "2035-01-01T00:00", "lend": {"max_time": "1h"}}, {},
        {
            "slow-passes": ("batch_sched_delay lets 20 s", "21s"),
            "deferred": ("not considered when it is submitted", "remove defer"),
            "slow-backfill": ("every 40 s", "bf_interval=10"),
            "unhurried-passes": ("20 s apart", "batch_sched_delay=0"),
            "passed-over": ("looks at 500 jobs", "bf_max_job_part=50"),
            "completing-held-back": ("CompleteWait=7", "remove"),
            "powered-down": ("SuspendTime=600", "SuspendExcNodes"),
            "outlasts-end": ("ResvOverRun=5", "remove"),
            "without-time-limit": ("physics has a max_time or an end", "DefaultTime"),
        },
    ),
    (
        (
            "PartitionName=preempt Nodes=n[2-4] PriorityTier=1 PreemptMode=REQUEUE State=DOWN",
            "PartitionName=main Nodes=n[2-4] Default=YES PriorityTier=10 PreemptMode=OFF",
            "PartitionName=other Nodes=n1 PriorityTier=10 PreemptMode=OFF",
        ), {"owner": {"users": ["alcie"]}}, {"lending": {"partitions": ["preempt", "other"]}},
        {
            "lendable-down": ("not up", "partition=preempt state=up"),
            "no-net": ("PreemptMode of partition other is OFF", "REQUEUE"),
            "only-lendable": ("n1 is in lendable partitions only", "not lendable"),
            "strangers-named": ("user alcie is not known", "correct owner.users"),
        },
    ),
    (
        ("PartitionName=preempt Nodes=n[2-4] PriorityTier=1 PreemptMode=REQUEUE",),
        {"owner": {"accounts": ["physics"]}}, {},
        {"never-lent": ("n1 is in no lendable", "add the nodes"), "accounts-unknown": ("no accounting", "slurmdbd")},
    ),
    (
        (), {"owner": {"groups": ["nobodys"]}, "nodes": {"node_count": 9, "partition": "main"}}, {},
        {
            "strangers-named": ("group nobodys is not known", "owner.groups"),
            "unmet": ("fewer than 9 usable nodes", "change it at"),
        },
    ),
]  # fmt: skip


def check(stage: Stage, user: str = "") -> dict[str, dict[str, str]]:
    """What is found, by id."""
    done = stage.lab.run(stage.argv("--json", "check"), user=user or stage.user, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == int(not said["ok"]) == int(any(f["level"] == "error" for f in said["findings"]))
    return {each["id"]: each for each in said["findings"]}


@contextmanager
def reconfigured(lab: Lab, *lines: str) -> Iterator[None]:
    """slurm.conf with these lines, and then again as it was."""
    before = lab.read(lab.conf)
    try:
        lab.reconfigure(lines)
        yield
    finally:
        lab.put(lab.conf, before)
        changed = {key_of(line) for line in lines}
        lab.reconfigure(line for line in before.splitlines() if key_of(line) in changed)


def test_a_sound_cluster_has_no_finding_but_those_of_its_release(stage: Stage) -> None:
    stage.site()
    found = check(stage)
    assert found.keys() == usual(stage)
    assert "slurmctld, by its own preemption" in stage.cli("check").stdout


@pytest.mark.parametrize(("lines", "reservation", "keys", "wanted"), BROKEN)
def test_each_setting_that_breaks_the_promise_is_found(
    stage: Stage,
    lines: tuple[str, ...],
    reservation: dict[str, Any],
    keys: dict[str, Any],
    wanted: dict[str, tuple[str, str]],
) -> None:
    stage.keys = keys
    stage.site(physics={"owner": {"users": ["alice"]}, "nodes": "n1", **reservation})
    with reconfigured(stage.lab, *lines):
        found = check(stage)
    for name, (said, remedy) in wanted.items():
        assert said in found[name]["text"], found[name]
        assert remedy in found[name]["remedy"], found[name]
    assert found.keys() - usual(stage) == wanted.keys()


def test_what_others_do_to_reservations_is_found(stage: Stage) -> None:
    stage.site()
    made = ["scontrol", "create", "reservation", "users=carol", "starttime=now", "duration=10"]
    stage.lab.run([*made, "nodes=n1", "reservationname=physics"])
    assert check(stage).keys() - usual(stage) == {"not-ours"}
    stage.lab.run(["scontrol", "delete", "reservation=physics"])
    stage.cli("run", "--once")
    stage.lab.run(["scontrol", "update", "reservation=physics", "flags+=flex"])
    stage.lab.run([*made, "nodes=n1", "flags=overlap,ignore_jobs", "reservationname=theirs"])
    stage.lab.run(["scontrol", "update", "nodename=n1", "state=drain", "reason=test"])
    found = check(stage)
    assert found.keys() - usual(stage) == {"wrong-flags", "overlaid", "nodes-lost"}
    assert "has FLEX" in found["wrong-flags"]["text"]
    assert "theirs lies over its nodes" in found["overlaid"]["text"]


def test_an_ordinary_job_among_reserved_nodes_is_found(stage: Stage) -> None:
    if not hole(stage):
        pytest.skip("this release lets no ordinary job among reserved nodes")
    stage.site()
    stage.cli("run", "--once")
    stage.fill("n2", "n3", "n4")
    stray = stage.submit("carol", "--signal=R:TERM@0")  # the hole of this release
    stage.runs(stray, "n1")
    assert f"scancel {stray}" in check(stage)["uninvited"]["remedy"]


def test_who_runs_it_is_looked_at(stage: Stage) -> None:
    stage.site()
    assert check(stage, "root").keys() - usual(stage) == {"run-as-root"}
    found = check(stage, "carol")["no-operator"]
    assert "carol is no operator" in found["text"]
    assert "as slurm" in found["remedy"]


@pytest.fixture(scope="module")
def accounted() -> Iterator[Lab]:
    """With accounting, and slurmctld with the plugin."""
    lines = with_guard(QUICK, "JobFileAppend=1")
    with Lab.boot(LabSpec(kill_wait=5, accounting=True, **lines)) as lab:
        yield lab


def test_with_accounting_and_the_plugin(accounted: Lab) -> None:
    stage = Stage(accounted, user="reserve")
    stage.site(physics={"owner": {"accounts": ["physics"]}, "nodes": "n1"})
    found = check(stage)
    assert found.keys() == {"ends-not-heard", "left-behind"} | hole(stage)  # the plugin is as it should be
    assert "adminlevel=Operator" in check(stage, "bob")["no-operator"]["remedy"]
    shipped = (SHIPPED / "job_submit/job_submit.lua").read_text(encoding="utf-8")
    path = accounted.conf.with_name("job_submit.lua")
    accounted.put(path, shipped.replace('{ "preempt" }', '{ "preempt", "main" }'), user="slurm")
    found = check(stage)
    assert "lets jobs of main into" in found["guard-differs"]["text"]
    assert USUAL in found["not-woken"]["text"]
    accounted.put(path, "function slurm_job_submit() return slurm.SUCCESS end", user="slurm")
    if stage.release() < (25, 11):  # from then on Slurm itself keeps ordinary jobs out
        assert "not the guard" in check(stage)["unguarded"]["text"]


def test_every_check_is_tried_here() -> None:
    """All but the few that a lab cannot show, or that are about a file alone and tried without one."""
    text = Path(__file__).read_text(encoding="utf-8")
    untried = {id_of(each) for each in CHECKS if f'"{id_of(each)}"' not in text}
    assert untried <= {"clocks-differ", "whole-nodes-only", "hook-not-run"}
