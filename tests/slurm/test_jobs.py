"""Jobs, as real Slurm printed them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest
from slurm_reserve.model import Job
from slurm_reserve.slurm.jobs import FIELD, is_excluded_known, parse_excluded, parse_jobs, with_excluded, with_titles
from slurm_reserve.slurm.port import SlurmUnreadableError
from slurm_reserve.slurm.shapes import Terms

from tests.slurm.record import END, REQUESTS
from tests.slurm.recordings import OLDEST, jobs, recorded, releases_with, requested

pytestmark = pytest.mark.usefixtures("release")

ONE = frozenset({"n1"})


def test_what_is_printed_alike_is_read_once_and_as_if_alone(release: str) -> None:
    printed = recorded("jobs.requests", release)
    header, *records = printed.split(f"{FIELD}{END}\n")[:-1]
    alone = [job for record in records for job in parse_jobs([_answer(header, record)], END, Terms())]
    plain = [number for number, job in enumerate(alone) if not job.array_tasks and "_" not in job.id]
    records, alone = [records[number] for number in plain], [alone[number] for number in plain]
    twice = parse_jobs([_answer(header, *records, *records)], END, Terms())
    assert len(twice) > len(REQUESTS)
    assert list(twice) == [*alone, *alone]
    assert {type(job) for job in twice} == {Job}
    with pytest.raises(FrozenInstanceError):
        twice[0].user = "mallory"  # type: ignore[misc]  # that it cannot be set is what is tested


def _answer(*records: str) -> str:
    return "".join(f"{record}{FIELD}{END}\n" for record in records)


# Who, where, when


def test_time_limits_are_read() -> None:
    assert requested("-t", "90").time_limit == timedelta(minutes=90)
    assert requested("-t", "2-3").time_limit == timedelta(days=2, hours=3)
    assert requested("-n1").time_limit is None
    assert requested("-t", "400-0").time_limit is None  # squeue prints INVALID for more than a year


def test_partitions_licences_dependencies_and_a_later_begin_are_read() -> None:
    assert requested("-p", "main,preempt").partitions == ("main", "preempt")
    assert requested("-L", "matlab:2").licenses == "matlab:2"
    assert requested("-d", "afterany:1").dependency == "afterany:1(unfulfilled)"
    assert requested("--begin=2040-01-02T03:04:05").eligible == datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert requested("-n1").eligible is None  # held


def test_an_account_may_hold_separators_and_line_ends() -> None:
    """Without accounting anybody may call an account anything; every other job must be read all the same."""
    job = requested("--account=strange \x1f\x1dname\nJOBID")
    assert job.account == "strange \x1f\x1dname\njobid"
    assert len(jobs("requests")) == len(REQUESTS)


def test_account_and_qos_are_read() -> None:
    (job,) = jobs("accounting").values()
    assert (job.user, job.account, job.qos) == ("alice", "physics", "high")


@pytest.mark.parametrize(
    "reason",
    [
        "Resources", "Licenses", "Dependency", "Reservation", "BeginTime", "JobArrayTaskLimit", "JobHeldUser",
        "PartitionTimeLimit", "ReqNodeNotAvail, May be reserved for other job",
    ],
)  # fmt: skip
def test_every_reason_to_wait_is_read(reason: str) -> None:
    waiting = [job for job in jobs("reasons").values() if job.reason == reason]
    assert waiting
    assert all(job.is_pending and job.started is None and job.ends is None for job in waiting)


def test_a_reason_that_names_nodes_is_read() -> None:
    found = parse_jobs([recorded("jobs.reasons", OLDEST)], END, Terms())
    assert "ReqNodeNotAvail, UnavailableNodes:n3" in {job.reason for job in found}


def test_a_running_job_holds_its_nodes_since_its_start() -> None:
    (job,) = (job for job in jobs("running").values() if job.time_limit == timedelta(minutes=30))
    assert job.nodes == {"n3"}
    assert (job.state, job.batch, job.user) == ("RUNNING", True, "alice")
    assert job.started is not None
    assert job.ends == job.started + timedelta(minutes=30)


def test_a_suspended_job_holds_its_node() -> None:
    (job,) = (job for job in jobs("running").values() if job.state == "SUSPENDED")
    assert job.holds_nodes
    assert job.nodes == {"n4"}


def test_a_requeued_job_holds_its_node_until_it_is_clean() -> None:
    (completing,) = (job for job in jobs("running").values() if job.is_completing and job.restarts)
    assert completing.nodes == {"n5"}
    assert (completing.restarts, completing.is_pending) == (1, False)
    (waiting,) = (job for job in jobs("running").values() if job.is_pending and job.restarts)
    assert (waiting.restarts, waiting.nodes, waiting.reason) == (1, frozenset(), "BeginTime")
    assert waiting.eligible is not None
    assert waiting.eligible > waiting.submitted


def test_a_job_of_srun_is_no_batch_job() -> None:
    (job,) = (job for job in jobs("running").values() if not job.batch)
    assert (job.nodes, job.shape.gres_per_node) == (ONE, {"gpu": 1, "gpu:a100": 1})


def test_the_parts_of_a_heterogeneous_job_name_its_leader() -> None:
    parts = [job for job in jobs("running").values() if job.het_job]
    assert len(parts) == 2
    assert {job.het_job for job in parts} == {min(job.id for job in parts)}


@pytest.mark.parametrize("release", releases_with("jobs.planned"), indirect=True)
def test_parts_of_heterogeneous_jobs_that_wait_do_so_one_by_one() -> None:
    parts = [job for job in sorted(jobs("planned").values(), key=lambda job: job.job_id) if job.het_job]
    assert [(job.is_pending, job.partitions) for job in parts] == [
        (False, ("main",)), (False, ("main",)), (True, ("main",)), (True, ("preempt",)),
    ]  # fmt: skip


@pytest.mark.parametrize("release", releases_with("jobs.power"), indirect=True)
def test_a_job_whose_node_is_being_powered_up_holds_it() -> None:
    (job,) = (job for job in jobs("power").values() if job.state == "CONFIGURING")
    assert job.nodes == {"n6"}


def test_a_job_that_is_over_holds_nothing() -> None:
    over = jobs("over", kind="all-jobs")
    assert {job.state for job in over.values()} == {"COMPLETED", "FAILED", "CANCELLED", "RUNNING"}
    assert [job.state for job in over.values() if job.holds_nodes] == ["RUNNING"]


def test_a_waiting_job_holds_nothing_though_slurmctld_prints_the_node_of_a_run_that_it_lost() -> None:
    text = recorded("jobs.over").replace("RUNNING", "PENDING")
    (job,) = (job for job in parse_jobs([text], END, Terms()) if job.state == "PENDING")
    assert (job.nodes, job.is_pending, job.started) == (frozenset(), True, None)


def test_a_state_nobody_knows_is_taken_to_hold_nodes() -> None:
    text = recorded("jobs.over").replace("RUNNING", "JUGGLING")
    (job,) = (job for job in parse_jobs([text], END, Terms()) if job.state == "JUGGLING")
    assert job.nodes == {"n5"}


# Arrays


def test_the_pending_rest_of_an_array_is_one_job_with_its_tasks(release: str) -> None:
    most = 2 if release == OLDEST else 0  # from 23.11 on squeue prints no limit with single tasks
    first, second = requested("--array=1-9:2%2"), requested("--array=1,3-5,100")
    assert (first.id, first.array_tasks, first.array_limit) == (str(first.job_id), (1, 3, 5, 7, 9), most)
    assert (second.array_tasks, second.array_limit) == ((1, 3, 4, 5, 100), 0)


def test_an_array_of_one_task_is_that_task() -> None:
    job = requested("--array=7")
    assert (job.id, job.array_tasks) == (f"{job.job_id}_7", ())


def test_running_tasks_and_tasks_that_were_changed_are_jobs_by_themselves(release: str) -> None:
    """A pending task that was sent to a reservation is told from the rest of its array, which was not."""
    most = 2 if release == OLDEST else 0
    found = jobs("running")
    (rest,) = (job for job in found.values() if job.array_tasks)
    assert (rest.array_tasks, rest.array_limit, rest.reservation) == ((3, 5, 6), most, "")
    assert found[f"{rest.id}_1"].nodes == found[f"{rest.id}_2"].nodes == {"n2"}
    sent = found[f"{rest.id}_4"]
    assert (sent.reservation, sent.is_pending) == ("physics", True)


@pytest.mark.parametrize("scene", ["requests", "running"])
def test_tasks_printed_one_by_one_are_put_together_again(scene: str) -> None:
    """Releases without --array-unique print them so; the limit of an array's tasks is lost then."""
    together, single = jobs(scene), jobs(scene, kind="jobs-one-by-one")
    assert single.keys() == together.keys()
    assert {job.id: job.array_tasks for job in single.values()} == {
        job.id: job.array_tasks for job in together.values()
    }


# Excluded nodes


def test_excluded_nodes_are_added_where_the_release_prints_them_elsewhere(release: str) -> None:
    assert is_excluded_known(recorded("jobs.requests")) == (release != OLDEST)
    excluded = parse_excluded(recorded("excluded.requests"))
    assert with_excluded(requested("-x", "n[3-4]"), excluded).shape.excluded_nodes == {"n3", "n4"}
    assert with_excluded(requested("-n1"), excluded) == requested("-n1")


def test_excluded_nodes_are_read_where_the_release_has_the_field(release: str) -> None:
    known = frozenset({"n3", "n4"}) if release != OLDEST else frozenset()
    assert requested("-x", "n[3-4]").shape.excluded_nodes == known


# What is no answer


def test_no_jobs_are_told_from_no_answer() -> None:
    assert parse_jobs([recorded("jobs.empty")], END, Terms()) == ()
    with pytest.raises(SlurmUnreadableError):
        parse_jobs([""], END, Terms())


def test_an_answer_that_is_cut_off_anywhere_is_unreadable_or_ends_with_a_whole_job() -> None:
    text = recorded("jobs.running")
    for length in range(len(text)):
        if text[:length].endswith(f"{END}\n"):
            continue
        with pytest.raises(SlurmUnreadableError):
            parse_jobs([text[:length]], END, Terms())


@pytest.mark.parametrize("length", [1, 7, 64, 4096])
def test_an_answer_in_parts_of_any_length_says_the_same(length: int) -> None:
    text = recorded("jobs.requests")
    parts = [text[begin : begin + length] for begin in range(0, len(text), length)]
    titles, again = with_titles(iter(parts))
    assert titles == text.partition("\n")[0]
    assert parse_jobs(again, END, Terms()) == parse_jobs([text], END, Terms())
    with pytest.raises(SlurmUnreadableError):
        parse_jobs(parts[:-1], END, Terms())


def test_a_guessed_end_of_a_record_forges_no_job() -> None:
    """What ends a record holds a new secret in every call: an account that holds an old one is an account."""
    text = recorded("jobs.requests").replace(END, "secret").replace("strange ", f"strange {END}\n")
    assert len(parse_jobs([text], "secret", Terms())) == len(REQUESTS)


def test_a_batch_job_whose_launch_failed_is_one_all_the_same() -> None:
    """BatchFlag counts failed launches: seen as 2 on 25.11, after a node had failed to start the job."""
    text = recorded("jobs.over").replace("\x1f1\x1f(null)\x1f(null)\x1f", "\x1f2\x1f(null)\x1f(null)\x1f")
    assert text != recorded("jobs.over")
    assert all(job.batch for job in parse_jobs([text], END, Terms()))
