"""What lending depends on of the port: one suite for the Slurm in memory and for real ones, so that none drifts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from slurm_reserve.actions import CreateReservation, UpdateReservation
from slurm_reserve.model import Job, JobKey
from slurm_reserve.slurm.port import SlurmRefusedError

from tests.contract.backends import Backend

FLAGS = frozenset({"OVERLAP", "IGNORE_JOBS", "NO_HOLD_JOBS_AFTER_END"})


def new(on: Backend, name: str, *nodes: str, user: str = "alice", **changes: object) -> None:
    end = on.slurm.observe().at.replace(microsecond=0) + timedelta(days=30)
    made = CreateReservation(name, frozenset(nodes), None, end, FLAGS, "a test", frozenset({user}))
    on.slurm.create_reservation(made)


def key(on: Backend, job_id: str) -> JobKey:
    return job(on, job_id).key


def job(on: Backend, job_id: str) -> Job:
    found = on.slurm.read_job(job_id)
    assert found is not None
    return found


def runs(on: Backend, job_id: str) -> Job:
    return on.until(job_id, lambda found: found.state == "RUNNING")


def fill(on: Backend, *names: str) -> None:
    for job_id in [on.submit("carol", on=name) for name in names]:
        runs(on, job_id)


NOBODY = JobKey("99999", datetime(2030, 1, 1, tzinfo=UTC), 0)


# Reservations


def test_a_reservation_is_there_at_once_with_what_it_was_given(on: Backend) -> None:
    new(on, "physics", "n1", "n2")
    made = on.slurm.observe().reservations["physics"]
    assert (made.nodes, made.users, made.is_active) == ({"n1", "n2"}, {"alice"}, True)
    assert made.flags >= FLAGS | {"SPEC_NODES"}


def test_a_second_one_of_the_name_is_refused(on: Backend) -> None:
    new(on, "physics", "n1")
    with pytest.raises(SlurmRefusedError, match="Duplicate"):
        new(on, "physics", "n2")
    assert on.slurm.observe().reservations["physics"].nodes == {"n1"}


def test_nodes_that_are_not_there_are_refused(on: Backend) -> None:
    new(on, "physics", "n1")
    with pytest.raises(SlurmRefusedError, match=r"Invalid node name|reservation is invalid"):
        new(on, "other", "n77")
    with pytest.raises(SlurmRefusedError, match=r"Invalid node name|reservation is invalid"):
        on.slurm.update_reservation(UpdateReservation("physics", "a test", nodes=frozenset({"n77"})))
    assert on.slurm.observe().reservations.keys() == {"physics"}


def test_what_says_nothing_is_refused_before_anything_is_done(on: Backend) -> None:
    new(on, "physics", "n1")
    with pytest.raises(ValueError, match="nothing to change"):
        on.slurm.update_reservation(UpdateReservation("physics", "a test"))
    with pytest.raises(ValueError, match="needs nodes"):
        on.slurm.update_reservation(UpdateReservation("physics", "a test", nodes=frozenset()))
    with pytest.raises(ValueError, match="needs nodes"):
        new(on, "other")


def test_what_is_not_there_is_neither_changed_nor_deleted_nor_given_to_a_job(on: Backend) -> None:
    waiting = key(on, on.submit("bob", held=True))
    for change in (
        lambda: on.slurm.update_reservation(UpdateReservation("nowhere", "a test", nodes=frozenset({"n1"}))),
        lambda: on.slurm.delete_reservation("nowhere"),
        lambda: on.slurm.set_job_reservation(waiting, "nowhere"),
    ):
        with pytest.raises(SlurmRefusedError, match="reservation is invalid"):
            change()


def test_two_may_share_nodes(on: Backend) -> None:
    new(on, "physics", "n1", "n2")
    new(on, "physics.lend", "n1", user="bob")
    on.slurm.update_reservation(UpdateReservation("physics.lend", "a test", nodes=frozenset({"n2"})))
    assert on.slurm.observe().reservations["physics.lend"].nodes == {"n2"}
    assert on.slurm.observe().reservations["physics"].nodes == {"n1", "n2"}


@pytest.mark.parametrize("state", ["held", "waiting", "running"])
def test_one_that_a_job_refers_to_is_not_deleted(on: Backend, state: str) -> None:
    new(on, "physics", "n1", user="bob")
    if state == "waiting":
        fill(on, *("n2", "n3", "n4"))
    number = on.submit("bob", held=True)
    on.slurm.set_job_reservation(key(on, number), "physics")
    if state == "running":
        other = on.submit("bob", on="n1")
        on.slurm.set_job_reservation(key(on, other), "physics")
        runs(on, other)
        on.slurm.set_job_reservation(key(on, number), "")
        number = other
    with pytest.raises(SlurmRefusedError, match="in use"):
        on.slurm.delete_reservation("physics")
    on.slurm.set_job_reservation(key(on, number), "")
    on.slurm.delete_reservation("physics")
    assert on.slurm.observe().reservations == {}


# Who starts where


def test_reserved_nodes_are_for_jobs_in_the_reservation_alone(on: Backend) -> None:
    new(on, "physics", "n1")
    fill(on, "n2", "n3", "n4")
    stranger, owners = on.submit("carol"), on.submit("alice")
    on.never(stranger, lambda found: bool(found.nodes))
    assert not job(on, owners).nodes  # she named none
    on.slurm.set_job_reservation(key(on, owners), "physics")
    assert runs(on, owners).nodes == {"n1"}
    assert job(on, stranger).is_pending


def test_a_job_in_a_reservation_waits_for_its_nodes_alone(on: Backend) -> None:
    new(on, "physics", "n1", "n2")
    new(on, "physics.lend", "n1", user="bob")
    first, second = (on.submit("bob", "preempt", held=True) for _ in range(2))
    for number in (first, second):
        on.slurm.set_job_reservation(key(on, number), "physics.lend")
        on.release(number)
    assert runs(on, first).nodes == {"n1"}
    on.never(second, lambda found: bool(found.nodes))  # though n2 to n4 are idle
    on.slurm.set_job_reservation(key(on, second), "")
    assert runs(on, second).nodes <= {"n3", "n4"}


def test_who_is_not_admitted_is_not_attached(on: Backend) -> None:
    new(on, "physics", "n1")
    waiting = on.submit("carol", held=True)
    with pytest.raises(SlurmRefusedError, match="Access denied to requested reservation"):
        on.slurm.set_job_reservation(key(on, waiting), "physics")
    assert job(on, waiting).reservation == ""


def test_the_list_of_users_is_replaced(on: Backend) -> None:
    new(on, "physics", "n1")
    on.slurm.update_reservation(UpdateReservation("physics", "a test", users=frozenset({"bob", "dave"})))
    assert on.slurm.observe().reservations["physics"].users == {"bob", "dave"}
    waiting = on.submit("dave", held=True)
    on.slurm.set_job_reservation(key(on, waiting), "physics")
    assert job(on, waiting).reservation == "physics"


def test_a_running_job_stays_where_it_is_whatever_becomes_of_its_reservation(on: Backend) -> None:
    new(on, "physics", "n1", user="bob")
    number = on.submit("bob", "preempt", on="n1")
    on.slurm.set_job_reservation(key(on, number), "physics")
    before = runs(on, number)
    on.slurm.set_job_reservation(before.key, "")
    assert (job(on, number).reservation, job(on, number).nodes, job(on, number).key) == ("", {"n1"}, before.key)
    on.slurm.set_job_reservation(before.key, "physics")
    assert (job(on, number).reservation, job(on, number).nodes) == ("physics", {"n1"})
    on.slurm.update_reservation(UpdateReservation("physics", "a test", nodes=frozenset({"n2"})))
    on.never(number, lambda found: found.state != "RUNNING")


# Requeue, cancel, start, signal, hold


def test_a_requeued_job_waits_is_another_run_and_keeps_its_reservation(on: Backend) -> None:
    new(on, "physics", "n1", user="bob")
    number = on.submit("bob", "preempt", on="n1")
    on.slurm.set_job_reservation(key(on, number), "physics")
    first = runs(on, number)
    on.slurm.requeue_job(first.key)
    assert job(on, number).restarts == 1  # at once
    waiting = on.until(number, lambda found: found.is_pending and found.reason == "BeginTime")
    assert (waiting.restarts, waiting.reservation) == (1, "physics")
    assert waiting.submitted >= first.submitted
    assert waiting.key != first.key
    assert waiting.eligible is not None
    assert waiting.eligible - waiting.submitted > timedelta(seconds=60)
    on.never(number, lambda found: bool(found.nodes))
    on.slurm.set_job_reservation(waiting.key, "")
    assert job(on, number).reservation == ""


def test_the_wait_of_a_requeued_job_is_ended(on: Backend) -> None:
    number = on.submit("bob", "preempt")
    on.slurm.requeue_job(runs(on, number).key)
    on.until(number, lambda found: found.is_pending)
    on.never(number, lambda found: not found.is_pending)  # its credential is of another second by then
    on.slurm.set_job_start(key(on, number), "now")
    assert runs(on, number).restarts == 1


def test_what_cannot_be_requeued_is_refused_and_runs_on(on: Backend) -> None:
    fixed = runs(on, on.submit("bob", "preempt", requeue=False))
    with pytest.raises(SlurmRefusedError, match="disabled"):
        on.slurm.requeue_job(fixed.key)
    by_hand = job(on, on.by_hand("dave"))
    assert not by_hand.batch
    with pytest.raises(SlurmRefusedError, match="batch job"):
        on.slurm.requeue_job(by_hand.key)
    assert [job(on, each.id).state for each in (fixed, by_hand)] == ["RUNNING", "RUNNING"]
    assert not on.slurm.is_requeued(fixed.id)


def test_a_job_that_is_over_is_not_run_again(on: Backend) -> None:
    first = runs(on, on.submit("bob", "preempt"))
    on.slurm.cancel_job(first.key)
    on.until(first.id, lambda found: found.state == "CANCELLED")
    _may_be_refused(lambda: on.slurm.requeue_job(first.key))
    on.slurm.cancel_job(first.key)  # nor is it an error to cancel it once more
    on.never(first.id, lambda found: found.state != "CANCELLED" or bool(found.nodes))
    assert first.id not in {each.id for each in on.slurm.observe().jobs}


def _may_be_refused(call: Callable[[], None]) -> None:
    """Slurm says nothing about it on one release, and that it is over on another: both will do."""
    words = ""
    try:
        call()
    except SlurmRefusedError as error:
        words = str(error)
    assert not words or any(each in words for each in ("finished", "completing", "Invalid job id"))


def test_a_pending_job_is_not_requeued_but_cancelled(on: Backend) -> None:
    waiting = key(on, on.submit("bob", "preempt", held=True))
    on.slurm.requeue_job(waiting)  # accepted, and nothing happens
    assert job(on, waiting.id).key == waiting
    on.slurm.cancel_job(waiting)
    on.until(waiting.id, lambda found: found.state == "CANCELLED")


def test_what_is_no_job_is_refused(on: Backend) -> None:
    new(on, "physics", "n1")
    for change in (
        lambda: on.slurm.set_job_reservation(NOBODY, "physics"),
        lambda: on.slurm.set_job_start(NOBODY, "now"),
        lambda: on.slurm.signal_job(NOBODY, "USR1"),
        lambda: on.slurm.requeue_job(NOBODY),
        lambda: on.slurm.hold_job(NOBODY),
        lambda: on.slurm.set_job_comment(NOBODY, "x"),
    ):
        with pytest.raises(SlurmRefusedError, match="Invalid job id"):
            change()
    assert on.slurm.read_job(NOBODY.id) is None


def test_a_start_is_set_for_pending_jobs_alone(on: Backend) -> None:
    running = runs(on, on.submit("bob"))
    with pytest.raises(SlurmRefusedError, match="no longer pending"):
        on.slurm.set_job_start(running.key, "now")
    waiting = key(on, on.submit("bob", held=True))
    at = (on.slurm.observe().at + timedelta(hours=1)).replace(microsecond=0)
    on.slurm.set_job_start(waiting, f"{at:%Y-%m-%dT%H:%M:%S}")
    assert job(on, waiting.id).eligible == at


def test_a_job_without_processes_is_not_signalled(on: Backend) -> None:
    waiting = key(on, on.submit("bob", held=True))
    with pytest.raises(SlurmRefusedError, match="transitional"):
        on.slurm.signal_job(waiting, "USR1")


def test_a_held_job_waits(on: Backend) -> None:
    fill(on, "n1", "n2", "n3")
    busy = runs(on, on.submit("carol", on="n4"))
    waiting = key(on, on.submit("bob"))
    on.slurm.hold_job(waiting)
    assert (job(on, waiting.id).priority, job(on, waiting.id).reason) == (0, "JobHeldUser")
    on.slurm.cancel_job(busy.key)
    on.never(waiting.id, lambda found: bool(found.nodes))


def test_a_comment_is_replaced_in_any_state(on: Backend) -> None:
    waiting, running = on.submit("bob", held=True), runs(on, on.submit("bob")).id
    for number in (waiting, running):
        on.slurm.set_job_comment(key(on, number), "evicted once")
    assert on.slurm.read_comments([waiting, running]) == {waiting: "evicted once", running: "evicted once"}


def test_what_one_user_submitted_is_read_with_reservations_and_nodes(on: Backend) -> None:
    new(on, "physics", "n1")
    waiting, running = on.submit("bob", held=True), runs(on, on.submit("bob")).id
    on.submit("dave", held=True)
    jobs, reservations, nodes = on.slurm.read_submission(["bob"], ["n1", "n2"])
    assert {waiting, running} <= {each.id for each in jobs if each.user == "bob"}
    assert not any(each.user == "dave" for each in jobs)
    assert (reservations.keys(), nodes.keys()) == ({"physics"}, {"n1", "n2"})
