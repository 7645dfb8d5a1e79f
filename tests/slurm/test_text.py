"""Nodes, reservations, partitions and configuration, as real Slurm printed them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from slurm_reserve.slurm.port import SlurmUnreadableError
from slurm_reserve.slurm.text import (
    parse_account_users,
    parse_config,
    parse_groups,
    parse_nodes,
    parse_partitions,
    parse_qos_preempts,
    parse_reservations,
)

from tests.slurm.recordings import OLDEST, recorded, releases_with

pytestmark = pytest.mark.usefixtures("release")

END = datetime(2041, 1, 1, tzinfo=UTC)
NODE = recorded("nodes.empty").split("\n")[2] + "\n"


# Nodes


def test_a_node_has_its_cpus_memory_features_gres_and_partitions() -> None:
    node = parse_nodes(recorded("nodes.empty"))["n1"]
    assert (node.cpus, node.memory, node.threads_per_core) == (8, 8000, 2)
    assert node.features == {"big", "fast"}
    assert node.gres == {"gpu": 2, "gpu:a100": 2, "shard": 4, "shard:a100": 4}
    assert node.partitions == {"main", "preempt", "short"}
    assert node.is_usable
    assert not any((node.alloc_cpus, node.alloc_memory, *node.gres_used.values()))


def test_a_node_without_features_and_gres_has_none() -> None:
    node = parse_nodes(recorded("nodes.empty"))["n3"]
    assert node.features == frozenset()
    assert node.gres == {}


def test_what_jobs_hold_on_a_node_is_counted() -> None:
    node = parse_nodes(recorded("nodes.running"))["n1"]
    assert (node.alloc_cpus, node.alloc_memory) == (2, 2000)
    assert node.gres_used["gpu:a100"] == 1


def test_specialised_cpus_and_memory_are_nobodys_to_use() -> None:
    node = parse_nodes(recorded("nodes.specialised"))["n1"]
    assert (node.cpus, node.memory) == (6, 7500)


def test_specialised_cpus_are_known_where_slurm_prints_no_effective_ones() -> None:
    text = recorded("nodes.specialised").replace(" CPUEfctv=6", "")
    assert parse_nodes(text)["n1"].cpus == 6


@pytest.mark.parametrize(
    ("scene", "name", "states"),
    [
        ("running", "n1", {"MIXED"}),
        ("running", "n6", {"IDLE", "COMPLETING"}),
        ("trouble", "n1", {"IDLE", "DRAIN"}),
        ("trouble", "n2", {"MIXED", "DRAIN"}),
        ("trouble", "n3", {"DOWN"}),
        ("trouble", "n4", {"IDLE", "FAIL"}),
        ("kinds", "n4", {"IDLE", "MAINTENANCE", "RESERVED"}),
    ],
)
def test_states_are_split_into_words(scene: str, name: str, states: set[str]) -> None:
    assert parse_nodes(recorded(f"nodes.{scene}"))[name].states - {"RESERVED"} == states - {"RESERVED"}


@pytest.mark.parametrize("release", releases_with("nodes.power"), indirect=True)
@pytest.mark.parametrize(
    ("scene", "name", "states"),
    [
        ("planned", "n2", {"IDLE", "PLANNED"}),
        ("power", "n1", {"MIXED", "REBOOT_REQUESTED"}),
        ("power", "n2", {"DOWN", "REBOOT_ISSUED"}),
        ("power", "n3", {"IDLE", "POWERED_DOWN"}),
        ("power", "n4", {"MIXED", "POWER_DOWN"}),
        ("power", "n5", {"IDLE", "POWERING_DOWN"}),
        ("power", "n6", {"MIXED", "NOT_RESPONDING", "POWERING_UP"}),
    ],
)
def test_nodes_that_are_planned_reboot_or_save_power_say_so(scene: str, name: str, states: set[str]) -> None:
    assert parse_nodes(recorded(f"nodes.{scene}"))[name].states - {"RESERVED"} == states


@pytest.mark.parametrize(
    ("printed", "states"),
    [
        ("IDLE*", {"IDLE", "NOT_RESPONDING"}),
        ("IDLE~", {"IDLE", "POWERED_DOWN"}),
        ("MIXED#+CLOUD", {"MIXED", "POWERING_UP", "CLOUD"}),
        ("ALLOCATED!", {"ALLOCATED", "POWER_DOWN"}),
        ("IDLE%", {"IDLE", "POWERING_DOWN"}),
        ("DOWN$*", {"DOWN", "MAINT", "NOT_RESPONDING"}),
        ("IDLE@", {"IDLE", "REBOOT_REQUESTED"}),
        ("REBOOT^", {"REBOOT", "REBOOT_ISSUED"}),
        ("IDLE-", {"IDLE", "PLANNED"}),
        ("INVAL", {"INVALID_REG"}),
    ],
)
def test_signs_behind_a_state_are_words_too(printed: str, states: set[str]) -> None:
    assert parse_nodes(NODE.replace("State=IDLE", f"State={printed}"))["n3"].states == states


def test_a_reason_that_looks_like_fields_changes_nothing() -> None:
    node = parse_nodes(recorded("nodes.trouble"))["n1"]
    assert node.reason.startswith("looked at = by bob | CPUTot=999 State=IDLE [root@")
    assert node.states == {"IDLE", "DRAIN"}
    assert node.cpus == 8


def test_a_comment_of_several_lines_is_no_node() -> None:
    assert parse_nodes(recorded("nodes.trouble")).keys() == {f"n{number}" for number in range(1, 7)}


@pytest.mark.parametrize("text", ["", "\n", "slurm_load_node error", NODE[:-1], NODE[:300] + "\n", f"{NODE}rubbish\n"])
def test_an_answer_that_is_cut_off_or_no_answer_is_unreadable(text: str) -> None:
    with pytest.raises(SlurmUnreadableError):
        parse_nodes(text)


# Reservations


def test_no_reservations_are_told_from_no_answer() -> None:
    assert parse_reservations(recorded("reservations.empty")) == {}
    with pytest.raises(SlurmUnreadableError):
        parse_reservations("")


def test_a_reservation_has_its_period_nodes_flags_and_users() -> None:
    found = parse_reservations(recorded("reservations.kinds"))["physics"]
    assert found.nodes == {"n1", "n2"}
    assert found.flags == {"OVERLAP", "IGNORE_JOBS", "SPEC_NODES", "MAGNETIC"}
    assert found.users == {"alice", "bob"}
    assert (found.end, found.is_active) == (END, True)
    assert found.start.tzinfo is UTC
    assert found.start < found.end


def test_reservations_of_every_kind_are_read() -> None:
    found = parse_reservations(recorded("reservations.kinds"))
    assert found["physics.lend"].users == {"-root"}
    assert found["group"].groups == {"physics"}
    assert "FLEX" in found["group"].flags
    assert "MAINT" in found["service"].flags
    assert "WEEKLY" in found["monday"].flags
    assert not found["monday"].is_active
    assert found["some"].accounts == {"physics"}
    assert found["some"].flags == frozenset()
    assert found["software"].nodes == frozenset()


def test_a_later_releases_fields_and_a_comment_do_no_harm() -> None:
    line = recorded("reservations.kinds", OLDEST).split("\n")[0]
    more = " QOS=high AllowedPartitions=preempt,short Comment=Nodes=n9 State=INACTIVE\nof two lines"
    found = parse_reservations(f"{line}{more}\n{recorded('reservations.kinds')}")
    assert found["physics"].nodes == {"n1", "n2"}
    found = parse_reservations(f"{line}{more}\n")
    assert found["physics"].allowed_partitions == {"preempt", "short"}
    assert found["physics"].is_active


# Partitions


def test_a_partition_has_its_nodes_tier_limit_and_preemption() -> None:
    found = parse_partitions(recorded("partitions.empty"))
    assert found.keys() == {"main", "preempt", "short", "closed", "none"}
    assert (found["main"].tier, found["main"].preempt_mode, found["main"].max_time) == (10, "OFF", None)
    assert (found["preempt"].tier, found["preempt"].preempt_mode) == (1, "REQUEUE")
    short = found["short"]
    assert (short.max_time, short.grace, short.exclusive) == (timedelta(days=1), timedelta(seconds=30), True)
    assert short.nodes == {"n1", "n2", "n3", "n4"}
    assert (found["closed"].is_up, found["none"].is_up, found["none"].nodes) == (False, False, frozenset())


def test_a_partition_that_prints_no_preempt_mode_has_the_clusters() -> None:
    text = recorded("partitions.empty").replace(" PreemptMode=OFF", "")
    assert parse_partitions(text, "CANCEL")["main"].preempt_mode == "CANCEL"


# Configuration, QOS, groups


def test_the_configuration_is_read(release: str) -> None:
    found = parse_config(recorded("config.empty"))
    assert (found.version, found.cluster, found.kill_wait) == (release, "lab", timedelta(seconds=5))
    assert (found.preempt_type, found.preempt_mode) == ("preempt/partition_prio", "REQUEUE")
    assert (found.select_type_parameters, found.scheduler_parameters) == ("CR_CORE_MEMORY", "")
    assert (found.accounting, found.requeue) == (False, True)
    assert found.booted is not None


def test_accounting_is_known() -> None:
    found = parse_config(recorded("config.accounting"))
    assert (found.accounting, found.preempt_type) == (True, "preempt/qos")


def test_half_a_configuration_is_unreadable() -> None:
    with pytest.raises(SlurmUnreadableError):
        parse_config(recorded("config.empty")[:3000])


def test_a_qos_names_those_that_it_may_preempt() -> None:
    found = parse_qos_preempts(recorded("qos.accounting"))
    assert found == {"normal": frozenset(), "high": {"normal"}, "top": {"normal", "high"}}


def test_whose_own_group_it_is_belongs_to_it() -> None:
    found = parse_groups(recorded("groups.empty"), recorded("passwd.empty"))
    assert found == {"physics": {"alice"}, "bob": {"bob"}}


def test_the_users_of_accounts() -> None:
    printed = "physics|\nphysics|alice\nphysics|bob\nbio|\n"
    assert parse_account_users(printed) == {"physics": frozenset({"alice", "bob"}), "bio": frozenset()}
    assert parse_account_users("") == {}
    for bad in ("physics\n", "|alice\n", "physics|alice"):
        with pytest.raises(SlurmUnreadableError):
            parse_account_users(bad)
