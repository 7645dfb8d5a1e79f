"""What the command line declares: every key of a reservation in the site file, by the same rules, written and read."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from slurm_reserve import declared
from slurm_reserve.cli.declare import with_options
from slurm_reserve.cli.options import blank, build
from slurm_reserve.config import ConfigError, load
from slurm_reserve.schema import LendModel, ReclaimModel, ReservationModel
from slurm_reserve.site import LendPolicy, ReclaimPolicy, ReservationSpec

NOW = datetime(2030, 5, 6, 12, tzinfo=UTC)
SITE = "cluster: lab\nlending: {partitions: [preempt]}\n"
WHO = ("--user", "alice", "--nodes", "n1")

# The words, the key of the site file, and what it says then.
WORDS: list[tuple[tuple[str, ...], str, Any]] = [
    (("--start", "2031-01-01"), "start", "2031-01-01"),
    (("--end", "2032-01-01"), "end", "2032-01-01"),
    (("--window", "mon-fri 08:00-18:00", "--window", "sat 08:00-12:00"), "windows",
     ["mon-fri 08:00-18:00", "sat 08:00-12:00"]),
    (("--at-end", "keep"), "at_end", "keep"),
    (("--owner-may", "lend"), "owner_may", ["lend"]),
    (("--owner-may", "none"), "owner_may", []),
    (("--find", "name"), "find", "name"),
    (("--no-lend",), "lend.enabled", False),
    (("--after-idle", "5m"), "lend.after_idle", "5m"),
    (("--lend-window", "mon-fri 18:00-08:00"), "lend.windows", ["mon-fri 18:00-08:00"]),
    (("--keep-idle-nodes", "1"), "lend.keep_idle_nodes", 1),
    (("--max-time", "2h"), "lend.max_time", "2h"),
    (("--max-nodes", "3"), "lend.max_nodes", 3),
    (("--last",), "lend.last", True),
    (("--look-ahead", "1h"), "lend.look_ahead", "1h"),
    (("--notice", "30s"), "reclaim.notice", "30s"),
    (("--signal", "SIGUSR1"), "reclaim.signal", "USR1"),
    (("--evict-by", "slurm"), "reclaim.evict_by", "slurm"),
    (("--evict", "cancel"), "reclaim.evict", "cancel"),
    (("--back-off", "1m"), "reclaim.back_off", "1m"),
    (("--victims", "spread"), "reclaim.victims", "spread"),
    (("--back-off-max", "2h"), "reclaim.back_off_max", "2h"),
    (("--extra-time", "1m"), "reclaim.extra_time", "1m"),
    (("--min-run-time", "10m"), "reclaim.min_run_time", "10m"),
    (("--no-own-signal",), "reclaim.own_signal", False),
    (("--go-on-signal", "none"), "reclaim.go_on_signal", "none"),
]  # fmt: skip


def said(*words: str, base: ReservationSpec | None = None, folder: Path) -> ReservationSpec:
    """The reservation that these words declare."""
    found: list[ReservationSpec] = []

    @click.command()
    @with_options
    def command(**values: Any) -> None:
        found.append(build(values, base or blank("physics", load(site_file(folder), NOW))))

    done = CliRunner().invoke(command, words, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return found[0]


def site_file(folder: Path, body: str = "") -> Path:
    file = folder / "site.yaml"
    file.write_text(SITE + body)
    return file


def in_yaml(folder: Path, key: str, value: Any) -> ReservationSpec:
    """The same, declared in the site file."""
    body: dict[str, Any] = {"owner": {"users": ["alice"]}, "nodes": "n1"}
    within = body
    *above, last = key.split(".")
    for part in above:
        within = within.setdefault(part, {})
    within[last] = value
    (spec,) = load(site_file(folder, f"reservations: {{physics: {body}}}\n"), NOW).reservations
    return spec


def same(one: ReservationSpec, other: ReservationSpec) -> bool:
    return all(getattr(one, f.name) == getattr(other, f.name) for f in fields(one) if f.name != "origin")


@pytest.mark.parametrize(("words", "key", "value"), WORDS, ids=[" ".join(words) for words, _, _ in WORDS])
def test_each_key_is_declared_as_in_the_site_file_and_written_so(
    words: tuple[str, ...], key: str, value: Any, tmp_path: Path
) -> None:
    spec = said(*WHO, *words, folder=tmp_path)
    assert same(spec, in_yaml(tmp_path, key, value))
    site = site_file(tmp_path)
    with declared.declared_lock(site):
        declared.write_reservation(site, spec, "root", NOW)
    (read,) = load(site, NOW).reservations
    assert same(read, spec)


def test_no_key_is_missing() -> None:
    keys = {f"lend.{key}" for key in LendModel.model_fields} | {f"reclaim.{key}" for key in ReclaimModel.model_fields}
    keys |= ReservationModel.model_fields.keys() - {"owner", "nodes", "lend", "reclaim", "requested"}
    assert {key for _, key, _ in WORDS} == keys
    assert set(LendModel.model_fields) == {field.name for field in fields(LendPolicy)}
    assert set(ReclaimModel.model_fields) == {field.name for field in fields(ReclaimPolicy)}


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("--max-nodes", "0"), "lend.max_nodes"),
        (("--go-on-signal", "KILL"), "reclaim.go_on_signal"),
        (("--lend-window", "daily"), "lend.windows"),
        (("--owner-may", "lend,everything"), "owner_may"),
        (("--back-off-max", "0s"), "reclaim.back_off_max"),
        (("--end", "soon"), "end"),
    ],
)
def test_what_the_site_file_refuses_the_command_line_does_too(words: tuple[str, ...], key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"command line.*{key}"):
        said(*WHO, *words, folder=tmp_path)


def test_an_update_changes_what_is_given_and_takes_off_what_is_said_to_go(tmp_path: Path) -> None:
    first = said(
        *WHO, "--end", "2032-01-01", "--window", "daily 08:00-18:00", "--lend-window", "daily 09:00-10:00",
        "--max-time", "1h", "--last", "--notice", "30s", folder=tmp_path,
    )  # fmt: skip
    words = ("--end", "never", "--window", "always", "--lend-window", "always", "--max-time", "unlimited", "--not-last")
    spec = said(*words, base=first, folder=tmp_path)
    assert (spec.end, spec.windows, spec.lend.windows, spec.lend.last) == (None, (), (), False)
    assert spec.reclaim == first.reclaim
    assert (spec.owner, spec.nodes) == (first.owner, first.nodes)


def test_of_so_many_nodes_of_a_kind_each_part_may_be_changed(tmp_path: Path) -> None:
    base = said(
        "--user", "alice", "--node-count", "2", "--partition", "main", "--feature", "big", folder=tmp_path
    )  # fmt: skip
    more = said("--node-count", "3", base=base, folder=tmp_path).nodes
    other = said("--feature", "fast", base=base, folder=tmp_path).nodes
    assert (more.node_count, more.features) == (3, {"big"})  # type: ignore[union-attr]  # so many of a kind
    assert (other.node_count, other.features) == (2, {"fast"})  # type: ignore[union-attr]  # so many of a kind
    for words in (("--nodes", "n1", "--feature", "big"), ("--nodes", "n1", "--node-count", "2")):
        with pytest.raises(click.UsageError):
            said(*words, base=base, folder=tmp_path)
