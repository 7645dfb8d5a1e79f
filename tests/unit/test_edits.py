"""What somebody changed by hand is put right once, then reported."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from slurm_reserve import desired
from slurm_reserve.actions import Action, CreateReservation, UpdateReservation
from slurm_reserve.memory import Corrected, Memory
from slurm_reserve.model import Reservation

from tests.builders import NOW, cluster, nodes, reservation, site, spec, view

HOUR_AGO = NOW - timedelta(hours=1)
SPEC = spec("physics", "n1", "n2")


def decide(existing: Reservation | None, booted: bool = False, **corrected: Corrected) -> desired.Desired:
    seen = cluster(nodes("n1", "n2", "n3"), *([existing] if existing else []))
    if booted:
        seen = replace(seen, config=replace(seen.config, booted=NOW))
    facts = {key.replace("_", " "): fact for key, fact in corrected.items()}
    return desired.decide(view(site(SPEC), seen, Memory(made={"physics": HOUR_AGO}, corrected=facts)))


def actions(found: desired.Desired) -> list[Action]:
    return [action for each in found.actions.values() for action in each]


SHRUNK = reservation("physics", "n1")


def test_the_first_edit_is_put_right_and_noted() -> None:
    (action,) = actions(decide(SHRUNK))
    assert isinstance(action, UpdateReservation)
    assert action.nodes == {"n1", "n2"}
    assert [(each.aspect, each.wanted, each.count) for each in action.corrections] == [("nodes", "n[1-2]", 1)]


def test_the_second_is_left_and_reported_with_its_remedy() -> None:
    found = decide(SHRUNK, physics_nodes=Corrected("n[1-2]", 1, HOUR_AGO))
    assert actions(found) == []
    assert "slurm-reserve restore physics" in found.reports["physics nodes"]


def test_another_aspect_is_put_right_all_the_same() -> None:
    both = replace(SHRUNK, users=frozenset({"carol"}))
    found = decide(both, physics_nodes=Corrected("n[1-2]", 1, HOUR_AGO))
    (action,) = actions(found)
    assert isinstance(action, UpdateReservation)
    assert (action.nodes, action.users) == (None, {"alice"})


def test_what_the_site_file_newly_says_is_no_edit() -> None:
    found = decide(SHRUNK, physics_nodes=Corrected("n1", 1, HOUR_AGO))
    (action,) = actions(found)
    assert isinstance(action, UpdateReservation)
    assert action.corrections[0].count == 0


def test_what_slurmctld_forgot_in_a_crash_is_no_edit() -> None:
    found = decide(SHRUNK, booted=True, physics_nodes=Corrected("n[1-2]", 1, HOUR_AGO))
    assert len(actions(found)) == 1


def test_an_edit_a_week_later_is_a_new_one() -> None:
    found = decide(SHRUNK, physics_nodes=Corrected("n[1-2]", 1, NOW - timedelta(days=8)))
    assert len(actions(found)) == 1


def test_a_deleted_reservation_is_made_again_once() -> None:
    (action,) = actions(decide(None))
    assert isinstance(action, CreateReservation)
    assert action.corrections[0].count == 1
    again = decide(None, physics_existence=Corrected("None", 1, HOUR_AGO))
    assert actions(again) == []
    assert "restore physics" in again.refused["physics"]
