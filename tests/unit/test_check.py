"""Each setting that would break the promise is found, with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from slurm_reserve.bound import bound
from slurm_reserve.check import Level, findings, protector
from slurm_reserve.memory import Memory
from slurm_reserve.model import Cluster, Partition
from slurm_reserve.site import Find, Owner, Site

from tests.builders import cluster, nodes, reservation, site, spec, view

FOUR = nodes("n1", "n2", "n3", "n4")
SOUND = cluster(FOUR, reservation("physics", "n1", "n2"))


def partition(name: str, **changes: object) -> Callable[[Cluster], Cluster]:
    def change(seen: Cluster) -> Cluster:
        changed: Partition = replace(seen.partitions[name], **changes)  # type: ignore[arg-type]  # any field
        return replace(seen, partitions={**seen.partitions, name: changed})

    return change


def config(**changes: object) -> Callable[[Cluster], Cluster]:
    return lambda seen: replace(seen, config=replace(seen.config, **changes))  # type: ignore[arg-type]  # any field


BROKEN: list[tuple[Callable[[Cluster], Cluster], Site, str, str]] = [
    (config(preempt_type="preempt/none"), site(), "PreemptType is preempt/none", "set preempt/partition_prio"),
    (partition("preempt", preempt_mode="OFF"), site(), "PreemptMode of partition preempt is OFF", "set REQUEUE"),
    (partition("preempt", preempt_mode="SUSPEND"), site(), "PreemptMode of partition preempt", "set REQUEUE"),
    (partition("main", tier=1), site(), "PriorityTier of partition main is 1", "set it above 1"),
    (partition("preempt", is_up=False), site(), "not up", "state=up"),
    (partition("preempt", nodes=frozenset({"n1"})), site(), "n2 is in no lendable partition", "add the nodes"),
    (partition("main", nodes=frozenset({"n1"})), site(), "n2 is in lendable partitions only", "add the nodes"),
    (config(requeue=False), site(), "JobRequeue=0", "set JobRequeue=1"),
    (config(kill_wait=timedelta(minutes=5)), site(), "KillWait is 300 s", "KillWait=30"),
    (config(version="22.05.8"), site(), "--signal=R:TERM@0", "update to"),
    (config(version="24.11.5"), site(), "by naming it", "AllowedPartitions"),
    (config(scheduler_parameters="bf_interval=60"), site(), "every 60 s", "bf_interval=10"),
    (lambda seen: seen, site(spec(notice=timedelta(seconds=30))), "cuts the notice", "GraceTime=30"),
    (lambda seen: seen, site(spec(find=Find.MAGNETIC)), "MAGNETIC", "find: attach"),
    (lambda seen: seen, site(replace(spec(), owner=Owner(accounts=frozenset({"a"})))), "no accounting", "slurmdbd"),
    (lambda seen: seen, site(replace(spec(), owner=Owner(groups=frozenset({"g"})))), "group g is not known", "groups"),
    (lambda seen: seen, site(spec("bio", "n2", "n3")), "already bound by reservation physics", "change it"),
    (
        lambda seen: cluster(FOUR, reservation("physics", "n1", "n2"), reservation("theirs", "n2")),
        site(), "reservation theirs lies over its nodes", "delete reservation=theirs",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("breaks", "of_site", "said", "remedy"), BROKEN)
def test_a_setting_that_breaks_the_promise_is_named_with_its_remedy(
    breaks: Callable[[Cluster], Cluster], of_site: Site, said: str, remedy: str
) -> None:
    found = findings(view(of_site, breaks(SOUND), Memory(made={"physics": SOUND.at})))
    assert [f for f in found if said in f.text and remedy in f.remedy], found


def test_a_reservation_that_is_not_ours_is_named() -> None:
    foreign = cluster(FOUR, reservation("physics", "n1", flags=frozenset({"SPEC_NODES"})))
    assert any("left alone" in f.text for f in findings(view(site(), foreign, Memory())))


def test_a_sound_site_has_no_errors() -> None:
    sound = config(version="25.11.7", scheduler_parameters="bf_interval=10")(SOUND)
    assert [f for f in findings(view(site(), sound)) if f.level is Level.ERROR] == []
    assert findings(view(site(), sound)) == []


def test_who_protects_the_owner_when_the_daemon_is_dead() -> None:
    assert protector(view(site(), SOUND), spec()) == "slurmctld, by its own preemption"
    assert protector(view(site(), partition("main", tier=1)(SOUND)), spec()).startswith("nobody")


def test_the_bound_is_the_sum_of_its_parts() -> None:
    limit = bound(site(), SOUND.config, spec(notice=timedelta(seconds=30)))
    assert limit.total == timedelta(seconds=5 + 30 + 5 + 2 + 3)
