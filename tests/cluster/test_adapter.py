"""The adapter on a real Slurm: what it reads is so, what it changes happens, and what Slurm refuses is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from slurm_reserve.actions import CreateReservation, UpdateReservation
from slurm_reserve.lab import Lab, LabSpec, NodeSpec
from slurm_reserve.model import Job, JobKey
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.port import SlurmError, SlurmRefusedError, SlurmUnavailableError

pytestmark = [pytest.mark.cluster, pytest.mark.each_release]

END = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
OVERLAY = frozenset({"OVERLAP", "IGNORE_JOBS"})
HOSTILE = "$(id)`id`'\"|=;,% JobId=1 State=RUNNING\x1f\x1d\x1e\r\nJOBID\x1f7\x1f \\ \N{SNOWMAN}"


@pytest.fixture(scope="module")
def booted() -> Iterator[Lab]:
    nodes = (NodeSpec("n1", features=("big",), gres="gpu:2"), *(NodeSpec(f"n{number}") for number in (2, 3, 4)))
    quick = "SchedulerParameters=batch_sched_delay=0,sched_min_interval=50000,bf_interval=1"
    # Commands try for MessageTimeout to reach slurmctld.
    with Lab.boot(LabSpec(nodes, kill_wait=2, slurm_conf=(quick, "MessageTimeout=2"))) as lab:
        yield lab


@pytest.fixture
def lab(booted: Lab) -> Lab:
    booted.clean()
    return booted


@pytest.fixture
def slurm(lab: Lab) -> CliSlurm:
    return CliSlurm(SlurmSettings(timeout=timedelta(seconds=20)), lab.command)


def new(name: str = "physics", *nodes: str, **changes: object) -> CreateReservation:
    plain: dict[str, object] = {
        "name": name, "nodes": frozenset(nodes or {"n1", "n2"}), "start": None, "end": END, "flags": OVERLAY,
        "reason": "a test", "users": frozenset({"alice", "bob"}),
    }  # fmt: skip
    return CreateReservation(**(plain | changes))  # type: ignore[arg-type]  # a test's keywords


def job(slurm: CliSlurm, job_id: str) -> Job:
    found = slurm.read_job(job_id)
    assert found is not None
    return found


def until(lab: Lab, slurm: CliSlurm, job_id: str, what: Callable[[Job], bool]) -> Job:
    """The job, as soon as it is so."""

    def look() -> Job | None:
        found = slurm.read_job(job_id)
        return found if found is not None and what(found) else None

    found = lab.wait(look, 30, f"job {job_id} is as the test wants it")
    assert found is not None
    return found


def running(lab: Lab, slurm: CliSlurm, job_id: str) -> Job:
    return until(lab, slurm, job_id, lambda found: found.state == "RUNNING")


# Reading


def test_an_idle_cluster_is_read(slurm: CliSlurm) -> None:
    seen = slurm.observe(["physics", "nobody-knows-it"])
    assert seen.nodes.keys() == {"n1", "n2", "n3", "n4"}
    assert all(node.is_usable and node.alloc_cpus == 0 for node in seen.nodes.values())
    assert seen.nodes["n1"].gres == {"gpu": 2}
    assert seen.partitions["main"].nodes == seen.nodes.keys()
    assert (seen.jobs, seen.reservations) == ((), {})
    assert seen.groups == {"physics": frozenset({"alice"})}
    assert seen.config.kill_wait == timedelta(seconds=2)
    assert abs(datetime.now(UTC) - seen.at) < timedelta(seconds=30)


def test_the_configuration_is_asked_for_once_a_minute_and_partitions_now_and_then(lab: Lab) -> None:
    time = 1000.0
    slurm = CliSlurm(SlurmSettings(), lab.command, clock=lambda: time)
    slurm.observe()
    tried = slurm.calls["squeue"] - 1  # to find out what this release's squeue understands
    slurm.observe()
    assert slurm.calls == {"scontrol": 6, "squeue": 2 + tried}
    time += 21
    slurm.observe()
    assert slurm.calls == {"scontrol": 9, "squeue": 3 + tried}
    time += 61
    slurm.observe()
    assert slurm.calls == {"scontrol": 13, "squeue": 4 + tried}


def test_free_text_changes_nothing_that_is_read(lab: Lab, slurm: CliSlurm) -> None:
    """A user may write anything into a name, a comment, a folder or, without accounting, an account."""
    lab.run(["mkdir", "-p", "/run/slurm-lab/tmp/" + HOSTILE.replace("/", "")])
    plain = lab.sbatch("alice", "-H", "-n2", "-t", "10")
    options = ("--job-name", "--comment", "--account", "--wckey", "--qos", "--mcs-label", "--network")
    hostile = [lab.sbatch("bob", "-H", "-n2", "-t", "10", f"{option}={HOSTILE}") for option in options]
    hostile.append(lab.sbatch("bob", "-H", "-n2", "-t", "10", f"--chdir=/run/slurm-lab/tmp/{HOSTILE}"))
    seen = {found.id: found for found in slurm.observe().jobs}
    assert seen.keys() == {plain, *hostile}
    expected = seen[plain]
    for job_id in hostile:
        found = seen[job_id]
        assert (found.user, found.state, found.partitions) == ("bob", "PENDING", ("main",))
        assert (found.shape, found.time_limit, found.reason) == (expected.shape, expected.time_limit, expected.reason)
        assert slurm.read_job(job_id) == found
    assert [job_id for job_id in hostile if seen[job_id].account] == [hostile[options.index("--account")]]


def test_a_variable_of_ours_does_not_change_what_is_read(
    lab: Lab, slurm: CliSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SQUEUE_FORMAT2", "SQUEUE_STATES", "SQUEUE_USERS", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "relative")
    job_id = lab.sbatch("alice", "-H")
    assert [found.id for found in slurm.observe().jobs] == [job_id]


def test_excluded_nodes_are_known_as_soon_as_the_job_is(lab: Lab, slurm: CliSlurm) -> None:
    first = lab.sbatch("alice", "-H", "-x", "n[2-3]")
    assert slurm.observe().jobs[0].shape.excluded_nodes == {"n2", "n3"}
    second = lab.sbatch("alice", "-H", "-x", "n4")
    seen = {found.id: found.shape.excluded_nodes for found in slurm.observe().jobs}
    assert seen == {first: {"n2", "n3"}, second: {"n4"}}
    assert job(slurm, second).shape.excluded_nodes == {"n4"}


def test_a_job_is_read_until_slurm_forgets_it(lab: Lab, slurm: CliSlurm) -> None:
    job_id = lab.sbatch("alice")
    found = running(lab, slurm, job_id)
    assert found.nodes
    slurm.cancel_job(found.key)
    over = until(lab, slurm, job_id, lambda found: found.state == "CANCELLED")
    assert not over.holds_nodes
    assert slurm.read_job("99999") is None
    assert slurm.read_job(f"{job_id}_3") is None
    assert slurm.observe().jobs == ()


def test_each_task_of_an_array_is_found(lab: Lab, slurm: CliSlurm) -> None:
    array = lab.sbatch("bob", "-p", "preempt", "--array=1-6%2")
    task, _ = (running(lab, slurm, f"{array}_{number}") for number in (1, 2))
    assert (task.id, task.array_tasks) == (f"{array}_1", ())
    waiting = job(slurm, f"{array}_5")
    assert (waiting.id, waiting.is_pending, waiting.array_tasks) == (f"{array}_5", True, ())
    rest = job(slurm, array)
    assert (rest.id, rest.array_tasks) == (array, (3, 4, 5, 6))
    assert rest.array_limit == (2 if release(slurm) < (23, 11) else 0)  # later ones do not print it with -r
    assert slurm.read_job(f"{array}_9") is None
    assert {found.id for found in slurm.observe().jobs} == {array, f"{array}_1", f"{array}_2"}


# Reservations


def test_a_reservation_is_made_changed_and_deleted(slurm: CliSlurm) -> None:
    slurm.create_reservation(new(flags=OVERLAY | {"MAGNETIC", "NO_HOLD_JOBS_AFTER_END"}))
    made = slurm.observe().reservations["physics"]
    assert made.nodes == {"n1", "n2"}
    assert made.users == {"alice", "bob"}
    assert made.flags >= OVERLAY | {"MAGNETIC", "NO_HOLD_JOBS_AFTER_END"}
    assert (made.end, made.is_active) == (END, True)

    later = END + timedelta(hours=1)
    change = UpdateReservation(
        "physics", "a test", nodes=frozenset({"n3"}), end=later, drop_flags=frozenset({"MAGNETIC"}),
        users=frozenset({"carol"}),
    )  # fmt: skip
    slurm.update_reservation(change)
    changed = slurm.observe().reservations["physics"]
    assert (changed.nodes, changed.users, changed.end) == (frozenset({"n3"}), frozenset({"carol"}), later)
    assert "MAGNETIC" not in changed.flags
    assert changed.flags >= OVERLAY

    slurm.update_reservation(UpdateReservation("physics", "a test", add_flags=frozenset({"MAGNETIC"})))
    assert "MAGNETIC" in slurm.observe().reservations["physics"].flags
    slurm.delete_reservation("physics")
    assert slurm.observe().reservations == {}


def test_flags_are_added_and_dropped_in_one_change(slurm: CliSlurm) -> None:
    slurm.create_reservation(new(flags=OVERLAY | {"MAGNETIC"}))
    both = UpdateReservation(
        "physics", "a test", add_flags=frozenset({"NO_HOLD_JOBS_AFTER_END"}), drop_flags=frozenset({"MAGNETIC"})
    )
    slurm.update_reservation(both)
    flags = slurm.observe().reservations["physics"].flags
    assert "NO_HOLD_JOBS_AFTER_END" in flags
    assert "MAGNETIC" not in flags


def test_a_reservation_for_later_is_not_active(slurm: CliSlurm) -> None:
    start = END - timedelta(days=1)
    slurm.create_reservation(new(start=start, users=frozenset(), groups=frozenset({"physics"})))
    made = slurm.observe().reservations["physics"]
    assert (made.start, made.is_active) == (start, False)
    assert made.groups == {"physics"}
    slurm.update_reservation(UpdateReservation("physics", "a test", start=start - timedelta(hours=1)))
    assert slurm.observe().reservations["physics"].start == start - timedelta(hours=1)


def release(slurm: CliSlurm) -> tuple[int, ...]:
    return tuple(int(part) for part in slurm.observe().config.version.split(".")[:2])


def test_what_a_release_does_not_know_is_left_out(lab: Lab, slurm: CliSlurm) -> None:
    known = release(slurm)
    preempt = frozenset({"preempt"})
    for name, node in (("one", "n1"), ("two", "n2")):
        slurm.create_reservation(new(name, node, allowed_partitions=preempt))
    seen = slurm.observe().reservations
    assert seen.keys() == {"one", "two"}
    assert all(each.allowed_partitions == (preempt if known >= (25, 11) else frozenset()) for each in seen.values())


def test_a_reservation_that_cannot_be_is_refused_with_the_reason(lab: Lab, slurm: CliSlurm) -> None:
    slurm.create_reservation(new())
    running(lab, slurm, lab.sbatch("bob", "-w", "n4"))
    for what, words in (
        (new("physics"), "Duplicate"),
        (new("other", "n77"), "Invalid node name"),
        (new("other", users=frozenset({"stranger"})), "Invalid user|Unspecified error"),  # as 26.05 says it
        (new("other", users=frozenset()), "must be specified"),
        (new("other", end=END - timedelta(days=90)), "end time"),
        (new("other", flags=frozenset({"SHINY"})), "flags"),
        (new("other", "n4", flags=frozenset({"OVERLAP"})), "busy"),
    ):
        with pytest.raises(SlurmRefusedError, match=words):
            slurm.create_reservation(what)
    assert slurm.observe().reservations.keys() == {"physics"}


def test_a_reservation_in_use_is_not_deleted(lab: Lab, slurm: CliSlurm) -> None:
    slurm.create_reservation(new())
    job_id = lab.sbatch("alice", "-H", "--reservation=physics")
    with pytest.raises(SlurmRefusedError, match="in use"):
        slurm.delete_reservation("physics")
    slurm.set_job_reservation(job(slurm, job_id).key, "")
    slurm.delete_reservation("physics")
    with pytest.raises(SlurmRefusedError, match="invalid"):
        slurm.delete_reservation("physics")


# Jobs


def test_a_pending_job_is_sent_to_a_reservation_and_taken_off_it(lab: Lab, slurm: CliSlurm) -> None:
    slurm.create_reservation(new())
    key = job(slurm, lab.sbatch("bob", "-H")).key
    slurm.set_job_reservation(key, "physics")
    assert job(slurm, key.id).reservation == "physics"
    slurm.set_job_reservation(key, "")
    assert job(slurm, key.id).reservation == ""
    with pytest.raises(SlurmRefusedError, match="reservation is invalid"):
        slurm.set_job_reservation(key, "nowhere")
    with pytest.raises(SlurmRefusedError):  # the reservation does not admit her
        slurm.set_job_reservation(job(slurm, lab.sbatch("carol", "-H")).key, "physics")
    with pytest.raises(SlurmRefusedError, match="Invalid job id"):
        slurm.set_job_reservation(JobKey("99999", key.submitted, 0), "physics")


def test_one_task_is_sent_to_a_reservation_and_the_others_are_not(lab: Lab, slurm: CliSlurm) -> None:
    slurm.create_reservation(new())
    array = lab.sbatch("bob", "-H", "-p", "preempt", "--array=1-4")
    slurm.set_job_reservation(job(slurm, f"{array}_3").key, "physics")
    seen = {found.id: found for found in slurm.observe().jobs}
    assert seen.keys() == {array, f"{array}_3"}
    assert (seen[array].array_tasks, seen[array].reservation) == ((1, 2, 4), "")
    assert seen[f"{array}_3"].reservation == "physics"


def test_a_requeued_job_is_another_run_and_starts_when_it_is_told(lab: Lab, slurm: CliSlurm) -> None:
    job_id = lab.sbatch("bob", "-p", "preempt")
    first = running(lab, slurm, job_id)
    slurm.requeue_job(first.key)
    waiting = until(lab, slurm, job_id, lambda found: found.is_pending)
    assert (first.restarts, waiting.restarts) == (0, 1)
    assert waiting.key != first.key
    assert waiting.eligible is not None
    assert waiting.eligible - waiting.submitted > timedelta(seconds=60)
    # Not at once: started in the second in which its old credential was revoked, slurmd would end it for good.
    lab.wait(lambda: datetime.now(UTC) - waiting.submitted > timedelta(seconds=1.5))
    slurm.set_job_start(waiting.key, "now")
    assert running(lab, slurm, job_id).restarts == 1


def test_a_pending_jobs_start_is_put_off(lab: Lab, slurm: CliSlurm) -> None:
    key = job(slurm, lab.sbatch("bob", "-p", "preempt", "--begin=now+1hour")).key
    at = END - timedelta(days=1)
    slurm.set_job_start(key, f"{at:%Y-%m-%dT%H:%M:%S}")
    assert job(slurm, key.id).eligible == at


def test_one_task_is_requeued_and_the_others_run_on(lab: Lab, slurm: CliSlurm) -> None:
    array = lab.sbatch("bob", "-p", "preempt", "--array=1-2")
    first, last = (running(lab, slurm, f"{array}_{task}") for task in (1, 2))
    slurm.requeue_job(last.key)
    assert until(lab, slurm, last.id, lambda found: found.is_pending).restarts == 1
    assert job(slurm, first.id) == first


def test_what_cannot_be_requeued_is_refused(lab: Lab, slurm: CliSlurm) -> None:
    found = running(lab, slurm, lab.sbatch("bob", "--no-requeue"))
    with pytest.raises(SlurmRefusedError, match="disabled"):
        slurm.requeue_job(found.key)
    with lab.popen(["srun", "sleep", "100"], "bob") as srun:
        by_hand = lab.wait(lambda: next((each for each in slurm.observe().jobs if each.nodes and not each.batch), None))
        assert by_hand is not None
        with pytest.raises(SlurmRefusedError, match="batch job"):
            slurm.requeue_job(by_hand.key)
        slurm.cancel_job(by_hand.key)
        srun.wait(20)


def test_a_signal_reaches_the_batch_shell(lab: Lab, slurm: CliSlurm) -> None:
    lab.run(["rm", "-f", "/run/slurm-lab/tmp/told"])
    script = "#!/bin/sh\ntrap 'date > /run/slurm-lab/tmp/told; exit' USR1\nwhile :; do sleep 0.1; done\n"
    found = running(lab, slurm, lab.sbatch("bob", script=script))
    lab.wait(lambda: lab.run(["pgrep", "-u", "bob", "sleep"], check=False).stdout)  # its trap is set
    slurm.signal_job(found.key, "USR1")
    lab.wait(lambda: lab.run(["cat", "/run/slurm-lab/tmp/told"], check=False).stdout, 30, "the job is told")


def test_a_job_without_processes_is_not_signalled(lab: Lab, slurm: CliSlurm) -> None:
    waiting = job(slurm, lab.sbatch("bob", "-H"))
    with pytest.raises(SlurmRefusedError, match="transitional"):
        slurm.signal_job(waiting.key, "USR1")
    with pytest.raises(SlurmRefusedError, match="Invalid job id"):
        slurm.signal_job(JobKey("99999", waiting.submitted, 0), "USR1")
    with pytest.raises(SlurmRefusedError, match="signal"):
        slurm.signal_job(waiting.key, "NONSENSE")


def test_a_running_jobs_start_is_not_changed(lab: Lab, slurm: CliSlurm) -> None:
    found = running(lab, slurm, lab.sbatch("bob"))
    with pytest.raises(SlurmRefusedError, match="no longer pending"):
        slurm.set_job_start(found.key, "now")


# When slurmctld is away


def test_without_slurmctld_nothing_is_known(lab: Lab, slurm: CliSlurm) -> None:
    slurm.create_reservation(new())
    key = job(slurm, lab.sbatch("alice", "-H")).key
    calls: tuple[Callable[[CliSlurm], object], ...] = (
        lambda slurm: slurm.observe(),
        lambda slurm: slurm.read_job(key.id),
        lambda slurm: slurm.create_reservation(new("other")),
        lambda slurm: slurm.update_reservation(UpdateReservation("physics", "a test", end=END)),
        lambda slurm: slurm.delete_reservation("physics"),
        lambda slurm: slurm.set_job_reservation(key, "physics"),
        lambda slurm: slurm.requeue_job(key),
        lambda slurm: slurm.cancel_job(key),
        lambda slurm: slurm.signal_job(key, "USR1"),
    )

    def outcome(call: Callable[[CliSlurm], object]) -> BaseException | None:
        try:
            call(CliSlurm(SlurmSettings(timeout=timedelta(seconds=20)), lab.command))
        except SlurmError as error:
            return error
        return None

    lab.stop("slurmctld")
    try:
        with ThreadPoolExecutor() as threads:
            found = list(threads.map(outcome, calls))
    finally:
        lab.start("slurmctld")
    assert [type(error) for error in found] == [SlurmUnavailableError] * len(calls), found
    assert [seen.id for seen in slurm.observe().jobs] == [key.id]


# With accounting


def test_an_operator_can_do_it_all_and_sees_qos() -> None:
    spec = LabSpec(
        2,
        accounting=True,
        slurm_conf=("PreemptType=preempt/qos", "AccountingStorageEnforce=associations,qos"),
        sacctmgr=("add qos high Preempt=normal", "modify user alice set qos+=high"),
    )
    with Lab.boot(spec) as lab:
        slurm = CliSlurm(SlurmSettings(), lambda argv: lab.command(argv, user="reserve"))
        slurm.create_reservation(new("physics", "n1", users=frozenset(), accounts=frozenset({"physics"})))
        key = job(slurm, lab.sbatch("alice", "-H", "--qos=high")).key
        slurm.set_job_reservation(key, "physics")
        seen = slurm.observe()
        assert seen.qos_preempts == {"normal": frozenset(), "high": frozenset({"normal"})}
        assert seen.reservations["physics"].accounts == {"physics"}
        assert [(found.account, found.qos, found.reservation) for found in seen.jobs] == [
            ("physics", "high", "physics")
        ]
        slurm.cancel_job(key)
        slurm.delete_reservation("physics")


def test_slurmctld_counts_the_calls_that_the_adapter_counts(lab: Lab, slurm: CliSlurm) -> None:
    job = lab.sbatch("alice", "-H")
    slurm.observe()  # finds out what this release knows
    before, made = _counted(lab), slurm.requests
    slurm.observe()
    slurm.read_job(job)
    slurm.read_submission(["alice"], ["n1"])
    slurm.create_reservation(new())
    slurm.delete_reservation("physics")
    assert _counted(lab) - before == slurm.requests - made + 1  # the first sdiag, which does not count itself


def _counted(lab: Lab) -> int:
    _, _, users = lab.run(["sdiag"]).stdout.partition("statistics by user")
    return int(next(line for line in users.splitlines() if line.split()[:1] == ["root"]).split("count:")[1].split()[0])
