"""Each setting that would break the promise is found, with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from slurm_reserve.bound import bound
from slurm_reserve.check import Here, Level, findings, guardfile, protector
from slurm_reserve.memory import Memory
from slurm_reserve.model import Cluster, Partition
from slurm_reserve.site import Find, Owner, Site

from tests.builders import NOW, YEAR, cluster, nodes, reservation, site, spec, view

FOUR = nodes("n1", "n2", "n3", "n4")
DOWN = frozenset({"DOWN"})
SOUND = cluster(FOUR, reservation("physics", "n1", "n2"))


def partition(name: str, **changes: object) -> Callable[[Cluster], Cluster]:
    def change(seen: Cluster) -> Cluster:
        changed: Partition = replace(seen.partitions[name], **changes)  # type: ignore[arg-type]  # any field
        return replace(seen, partitions={**seen.partitions, name: changed})

    return change


SHIPPED = Path(__file__).parents[2] / "plugins" / "job_submit" / "job_submit.lua"


def config(**changes: object) -> Callable[[Cluster], Cluster]:
    return lambda seen: replace(seen, config=replace(seen.config, **changes))  # type: ignore[arg-type]  # any field


def printed(**settings: str) -> Callable[[Cluster], Cluster]:
    return config(printed=settings)


GOOD = "bf_interval=10,bf_max_job_part=50,batch_sched_delay=0"
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
    (config(version="24.11.5"), site(), "by naming it", "job_submit.lua"),
    (printed(PreemptExemptTime="00:10:00"), site(), "PreemptExemptTime=00:10:00", "remove"),
    (partition("preempt", preempt_mode="CANCEL"), site(), "cancelled, not requeued", "PreemptMode=REQUEUE"),
    (printed(JobFileAppend="0"), site(), "truncates", "JobFileAppend=1"),
    (config(scheduler_parameters="batch_sched_delay=20"), site(), "batch_sched_delay lets 20 s", "21s"),
    (config(scheduler_parameters="bf_interval=5"), site(), "these are 3 s apart", "batch_sched_delay=0"),
    (config(scheduler_parameters="bf_max_job_test=90,bf_max_job_part=90"), site(), "looks at 90", "bf_max_job_part=50"),
    (config(scheduler_parameters="x=1,defer_batch"), site(), "defer_batch", "remove"),
    (printed(SchedulerType="sched/builtin"), site(), "sched/builtin", "sched/backfill"),
    (printed(CompleteWait="32 sec"), site(), "CompleteWait=32", "remove"),
    (printed(SelectType="select/linear"), site(), "select/linear", "cons_tres"),
    (printed(SuspendTime="600 sec", SuspendProgram="/bin/off"), site(), "SuspendTime=600", "SuspendExcNodes"),
    (lambda seen: seen, site(spec(max_time=timedelta(hours=1))), "without --time", "DefaultTime"),
    (printed(ResvOverRun="10 min"), site(replace(spec(), end=NOW + YEAR)), "ResvOverRun=10 min", "remove"),
    (printed(EpilogSlurmctld="(null)"), site(), "EpilogSlurmctld", "slurm-reserve-wake"),
    (printed(**{"Prolog[0]": "/x"}), site(), "EpilogSlurmctld", "slurm-reserve-wake"),
    (printed(ProctrackType="proctrack/pgid", Epilog="(null)"), site(), "loses sight", "slurm-reserve-epilog"),
    (printed(ProctrackType="proctrack/linuxproc"), site(), "loses sight", "proctrack/cgroup"),
    (
        lambda seen: cluster(FOUR, reservation("physics", "n1", "n2", flags=frozenset({"OVERLAP", "FLEX"}))),
        site(), "has FLEX and lacks IGNORE_JOBS", "restore physics",
    ),
    (
        lambda seen: cluster([replace(n, states=DOWN) for n in FOUR], reservation("physics", "n1", "n2")),
        site(), "n1,n2 are not to be used (down)", "resume",
    ),
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


@pytest.mark.parametrize("key", ["Epilog", "Epilog[0]"])
def test_an_epilog_may_look_for_what_slurmd_lets_go(key: str) -> None:
    changed = printed(**{key: "/etc/slurm/epilog", "ProctrackType": "proctrack/pgid"})(SOUND)
    assert "left-behind" not in {found.id for found in findings(view(site(), changed))}


def guarded(text: str) -> dict[str, str]:
    """What is found, by id, where job_submit.lua says this."""
    seen = config(job_submit_plugins="lua")(SOUND)
    return {f.id: f.text for f in findings(view(site(), seen), Here(guard=guardfile.read(text)))}


def test_the_guard_that_is_installed_as_shipped_is_no_finding() -> None:
    shipped = SHIPPED.read_text(encoding="utf-8")
    assert not {"unguarded", "guard-differs", "not-woken"} & guarded(shipped).keys()


def test_a_guard_that_differs_from_the_site_file_is_named() -> None:
    shipped = SHIPPED.read_text(encoding="utf-8")
    assert "not the guard" in guarded("function slurm_job_submit() return slurm.SUCCESS end")["unguarded"]
    more = guarded(shipped.replace('{ "preempt" }', '{ "preempt", "main" }'))
    assert "lets jobs of main into" in more["guard-differs"]
    other = guarded(shipped.replace("qos = {}", "qos = { 'scavenger' }"))
    assert "scavenger" in other["guard-differs"]
    less = guarded(shipped.replace('{ "preempt" }', "{}"))
    assert "keeps borrowers of preempt out" in less["guard-differs"]
    assert "rings nowhere" in guarded(shipped.replace('"/run/slurm-reserve/wake"', "false"))["not-woken"]


def test_who_runs_it_is_looked_at() -> None:
    found = {f.id: f for f in findings(view(site(), SOUND), Here("bob", is_root=True, is_operator=False))}
    assert found["no-operator"].level is Level.ERROR
    assert "run the daemon (and check) as" in found["no-operator"].remedy
    assert "run-as-root" in found
    no_hook = findings(view(site(), SOUND), Here(hook_problem="/etc/hook is not there"))
    assert [(f.id, f.subject) for f in no_hook if "hook" in f.id] == [("hook-not-run", "daemon.hook")]
    unknown = findings(view(site(), SOUND), Here(unknown_users=frozenset({"alice"})))
    assert any(f.id == "strangers-named" and "alice" in f.text for f in unknown)


def test_a_reservation_that_is_not_ours_is_named() -> None:
    foreign = cluster(FOUR, reservation("physics", "n1", flags=frozenset({"SPEC_NODES"})))
    assert any("left alone" in f.text for f in findings(view(site(), foreign, Memory())))


def test_a_sound_site_has_no_errors() -> None:
    sound = config(version="25.11.7", scheduler_parameters=GOOD)(SOUND)
    assert [f for f in findings(view(site(), sound)) if f.level is Level.ERROR] == []
    assert findings(view(site(), sound), Here("slurm", is_operator=True)) == []


def test_who_protects_the_owner_when_the_daemon_is_dead() -> None:
    assert protector(view(site(), SOUND), spec()) == "slurmctld, by its own preemption"
    assert protector(view(site(), partition("main", tier=1)(SOUND)), spec()).startswith("nobody")


def test_the_bound_is_the_sum_of_its_parts() -> None:
    limit = bound(site(), SOUND.config, spec(notice=timedelta(seconds=30)))
    assert limit.total == timedelta(seconds=5 + 30 + (5 + 3) + 2 + 3)  # slurmd takes a while to look and kill
