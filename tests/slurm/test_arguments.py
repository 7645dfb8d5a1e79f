"""What is given to scontrol and scancel, and what never is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import TypeAdapter, ValidationError
from slurm_reserve import naming, schema
from slurm_reserve.actions import CreateReservation, UpdateReservation
from slurm_reserve.slurm import arguments

END = datetime(2030, 5, 6, 12, tzinfo=UTC)


def new(**changes: object) -> CreateReservation:
    plain: dict[str, object] = {
        "name": "physics", "nodes": frozenset({"n2", "n1", "n3"}), "start": None, "end": END, "reason": "declared",
        "flags": frozenset({"OVERLAP", "IGNORE_JOBS"}), "users": frozenset({"bob", "alice"}),
    }  # fmt: skip
    return CreateReservation(**(plain | changes))  # type: ignore[arg-type]  # a test's keywords


def test_a_reservation_is_created_on_named_nodes() -> None:
    assert arguments.create(new()) == [
        "create", "reservation", "ReservationName=physics", "StartTime=now", "EndTime=2030-05-06T12:00:00",
        "Nodes=n[1-3]", "Users=alice,bob", "Flags=IGNORE_JOBS,OVERLAP",
    ]  # fmt: skip


def test_times_are_given_in_utc() -> None:
    elsewhere = END.astimezone(timezone(timedelta(hours=2)))
    assert "StartTime=2030-05-06T12:00:00" in arguments.create(new(start=elsewhere))


def test_everybody_but_root_can_be_let_in() -> None:
    assert "Users=-root" in arguments.create(new(users=frozenset({"-root"})))


def test_only_what_changes_is_given() -> None:
    what = UpdateReservation(
        "physics", "why", nodes=frozenset({"n1"}), end=END, add_flags=frozenset({"MAGNETIC"}), users=frozenset()
    )
    assert arguments.update(what) == [
        "update", "reservation", "ReservationName=physics", "EndTime=2030-05-06T12:00:00", "Nodes=n1",
        "Flags+=MAGNETIC", "Users=",
    ]  # fmt: skip


def test_nodes_are_never_empty() -> None:
    """Slurm would take nodes of its own choice."""
    with pytest.raises(ValueError, match="needs nodes"):
        arguments.create(new(nodes=frozenset()))
    with pytest.raises(ValueError, match="needs nodes"):
        arguments.update(UpdateReservation("physics", "why", nodes=frozenset()))


def test_an_update_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="nothing to change"):
        arguments.update(UpdateReservation("physics", "why"))


@pytest.mark.parametrize(
    "value", ["", "-", "a b", "a,b", "a=b", "a\nb", "a\x00b", "a'b", 'a"b', "a;b", "$(id)", "`id`", "n[1-2]", "a*"]
)
def test_a_value_that_could_be_more_than_a_name_is_refused(value: str) -> None:
    for what in (
        {"name": value},
        {"users": frozenset({value})},
        {"accounts": frozenset({value})},
        {"groups": frozenset({value})},
        {"flags": frozenset({value})},
        {"nodes": frozenset({value})},
    ):
        with pytest.raises(ValueError, match=r"cannot be given to Slurm|minus sign"):
            arguments.create(new(**what))


@pytest.mark.parametrize("mark", [each for each in map(chr, range(32, 127)) if not each.isalnum()])
def test_what_a_site_file_may_name_can_be_given_to_slurm(mark: str) -> None:
    """A name that only the command refuses would keep the daemon from every cycle."""
    try:
        (name,) = TypeAdapter(schema.Words).validate_python(f"a{mark}b")
    except ValidationError:
        return
    assert arguments.reservation_name(name) == name
    assert naming.is_user(name)


@pytest.mark.parametrize("name", [r"CORP\alice", "domain users", "host$", "-bob", "+bob", ""])
def test_a_user_whom_a_list_would_misread_is_told_apart(name: str) -> None:
    """Slurm takes +bob and -bob in a list for a change of that list."""
    assert not naming.is_user(name)


def test_a_name_that_could_be_an_option_is_refused() -> None:
    with pytest.raises(ValueError, match="minus sign"):
        arguments.reservation_name("-delete")


@pytest.mark.parametrize("job_id", ["", "12_", "12_[3-4]", "12+1", "-1", "12 13", "12,13", "all", "٣"])
def test_only_one_job_is_ever_addressed(job_id: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        arguments.job(job_id)


def test_jobs_tasks_signals_and_starts_are_passed_on() -> None:
    assert [arguments.job(job_id) for job_id in ("12", "12_3")] == ["12", "12_3"]
    assert [arguments.signal_name(name) for name in ("USR1", "RTMIN+1", "10")] == ["USR1", "RTMIN+1", "10"]
    starts = ["now", "now+30", "now+2hours", "2030-05-06T12:00:00"]
    assert [arguments.start(at) for at in starts] == starts


@pytest.mark.parametrize("at", ["", "tomorrow now", "now;", "2030-05-06", "now+1 hour"])
def test_a_start_in_other_words_is_refused(at: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        arguments.start(at)


@pytest.mark.parametrize("signal", ["", "usr1 ", "-9", "USR1,USR2", "USR1 -f"])
def test_a_signal_in_other_words_is_refused(signal: str) -> None:
    with pytest.raises(ValueError, match="not a signal"):
        arguments.signal_name(signal)
