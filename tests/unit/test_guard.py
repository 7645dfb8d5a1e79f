"""slurmctld's plugin in a Lua of its own: what it refuses, how it chains, and that nothing can make it fail."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from lupa import lua51

PLUGIN = Path(__file__).parents[2] / "plugins" / "job_submit" / "job_submit.lua"
SUCCESS, ACCESS_DENIED = 0, 2002
MAIN = {"main": {"flag_default": 1}, "preempt": {"flag_default": 0}}


class Plugin:
    """The script as slurmctld has it, with what slurmctld gives it."""

    def __init__(self, folder: Path, site_script: str | None = None, **settings: str) -> None:
        text = PLUGIN.read_text().replace("/run/slurm-reserve/wake", str(folder / "wake"))
        for old, new in settings.items():
            assert f"{old} = " in text
            text = text.replace(f"{old} = {{}}", f"{old} = {new}")
        path = folder / "job_submit.lua"
        path.write_text(text)
        if site_script is not None:
            (folder / "job_submit_site.lua").write_text(site_script)
        self.said: list[str] = []
        self.told: list[str] = []
        self._lua = lua51.LuaRuntime(unpack_returned_tuples=True)
        slurm = {
            "SUCCESS": SUCCESS,
            "ERROR": -1,
            "ESLURM_ACCESS_DENIED": ACCESS_DENIED,
            "log_user": lambda pattern, text: self.told.append(pattern % text),
            "log_info": lambda pattern, *values: self.said.append(pattern % values),
            "log_error": lambda pattern, *values: self.said.append(pattern % values),
        }
        self._lua.globals().slurm = self._lua.table_from(slurm)
        assert self._lua.execute(f"return assert(loadfile('{path}'))()") == SUCCESS

    def submit(self, uid: int = 1000, **job: object) -> Any:
        found = self._lua.table_from({"user_id": uid, **job})
        known = self._lua.table_from({name: self._lua.table_from(part) for name, part in MAIN.items()})
        return self._lua.globals().slurm_job_submit(found, known, uid)

    def modify(self, change: dict[str, object], job: dict[str, object], uid: int = 1000) -> Any:
        tables = [self._lua.table_from(change), self._lua.table_from({"user_id": 1000, **job})]
        return self._lua.globals().slurm_job_modify(*tables, self._lua.table_from({}), uid)


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


REFUSED = [
    {"partition": "main", "reservation": "physics.lend"},
    {"reservation": "physics.lend"},  # the default partition
    {"partition": "preempt,main", "reservation": "physics.lend"},
    {"partition": "main,preempt", "reservation": "physics,physics.lend"},
    {"partition": "", "reservation": "physics.lend"},
    {"partition": "preempt2", "reservation": ".lend"},
]


@pytest.mark.parametrize("job", REFUSED, ids=str)
def test_an_ordinary_job_that_names_a_lend_reservation_is_refused_and_told_why(
    plugin: Plugin, job: dict[str, object]
) -> None:
    assert plugin.submit(**job) == ACCESS_DENIED
    assert "is a lend reservation: only jobs of the lendable partitions (preempt) may be in it" in plugin.told[0]


ADMITTED: list[dict[str, object]] = [
    {"partition": "preempt", "reservation": "physics.lend"},
    {"partition": "main", "reservation": "physics"},
    {"partition": "main", "reservation": "physics.lending"},
    {"partition": "main"},
    {"partition": "main", "reservation": ""},
    {},
]


@pytest.mark.parametrize("job", ADMITTED, ids=str)
def test_all_else_is_admitted(plugin: Plugin, job: dict[str, object]) -> None:
    assert plugin.submit(**job) == SUCCESS
    assert not plugin.told
    assert not plugin.said


def test_a_qos_can_be_lendable_too(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, qos='{ "scavenger" }')
    named = {"partition": "main", "reservation": "physics.lend"}
    assert plugin.submit(**named, qos="scavenger") == SUCCESS
    assert plugin.submit(**named, default_qos="scavenger") == SUCCESS
    assert plugin.submit(**named, qos="normal", default_qos="scavenger") == ACCESS_DENIED
    borrower = {"partition": "main", "qos": "scavenger", "resv_name": "physics.lend"}
    assert plugin.modify({"qos": "normal"}, borrower) == ACCESS_DENIED
    assert plugin.modify({"partition": "other"}, borrower) == SUCCESS


CHANGES: list[tuple[dict[str, object], dict[str, object], int]] = [
    ({"partition": "main"}, {"partition": "preempt", "resv_name": "physics.lend"}, ACCESS_DENIED),
    ({"partition": "preempt,main"}, {"partition": "preempt", "resv_name": "physics.lend"}, ACCESS_DENIED),
    ({"reservation": "physics.lend"}, {"partition": "main"}, ACCESS_DENIED),
    ({"reservation": "physics.lend", "partition": "preempt"}, {"partition": "main"}, SUCCESS),
    ({"reservation": "physics.lend"}, {"partition": "preempt"}, SUCCESS),
    ({"reservation": ""}, {"partition": "main", "resv_name": "physics.lend"}, SUCCESS),
    ({"reservation": "", "partition": "main"}, {"partition": "preempt", "resv_name": "physics.lend"}, SUCCESS),
    ({"begin_time": 0}, {"partition": "main", "resv_name": "physics.lend"}, SUCCESS),
    ({"partition": "main"}, {"partition": "preempt"}, SUCCESS),
    ({}, {}, SUCCESS),
]


@pytest.mark.parametrize(("change", "job", "result"), CHANGES, ids=str)
def test_a_job_does_not_leave_the_lendable_partitions_while_in_a_lend_reservation(
    plugin: Plugin, change: dict[str, object], job: dict[str, object], result: int
) -> None:
    assert plugin.modify(change, job, uid=0) == result


SITE = """
calls = (calls or 0) + 1
function slurm_job_submit(job, known, uid)
  if job.account == "bad" then slurm.log_user("%s", "no such account") return 2045 end
  if job.account == "odd" then error("a bug of the site's") end
  if job.account == "none" then return end
  job.partition = job.partition or "preempt"
  return slurm.SUCCESS
end
function slurm_job_modify(change, job, known, uid) return change.account and 2045 or slurm.SUCCESS end
return slurm.SUCCESS
"""


def test_the_sites_own_script_comes_first(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, SITE)
    assert plugin.submit(account="bad") == 2045
    assert plugin.told == ["no such account"]
    assert plugin.submit(account="none") == SUCCESS
    assert plugin.submit(reservation="physics.lend") == SUCCESS  # the site put it into the lendable partition
    assert plugin.submit(account="none", reservation="physics.lend") == ACCESS_DENIED
    assert plugin.modify({"account": "x"}, {}) == 2045
    assert plugin.modify({"partition": "main"}, {"resv_name": "physics.lend"}) == ACCESS_DENIED


def test_a_site_script_that_fails_is_logged_and_the_guard_stands(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, SITE)
    assert plugin.submit(account="odd", partition="main", reservation="physics.lend") == ACCESS_DENIED
    assert plugin.submit(account="odd") == SUCCESS
    assert "a bug of the site's" in plugin.said[0]


@pytest.mark.parametrize("text", ["this is no Lua", "error('at once')", "slurm_job_submit = 5", ""])
def test_a_site_script_that_cannot_be_used_is_left_out(tmp_path: Path, text: str) -> None:
    plugin = Plugin(tmp_path, text)
    assert plugin.submit(partition="main") == SUCCESS
    assert plugin.submit(partition="main", reservation="a.lend") == ACCESS_DENIED
    assert bool(plugin.said[1:]) == bool(text)


def test_hostile_values_make_nothing_fail(plugin: Plugin) -> None:
    odd: list[object] = [5, True, "\0", "%s%n", "," * 70_000, "x" * 70_000 + ".lend", -1, 2.5, "a\n.lend"]
    for value in odd:
        for job in ({"reservation": value}, {"partition": value, "reservation": "a.lend"}, {"user_id": value}):
            assert plugin.submit(**job) in (SUCCESS, ACCESS_DENIED)
        assert plugin.modify({"partition": value}, {"resv_name": value}) in (SUCCESS, ACCESS_DENIED)


def test_the_bell_is_rung_for_who_submits_and_for_a_users_own_change(plugin: Plugin, tmp_path: Path) -> None:
    bell = tmp_path / "wake"
    plugin.submit()
    assert not bell.exists()  # never made by slurmctld
    bell.write_bytes(b"")
    plugin.submit(uid=1234)
    plugin.modify({"begin_time": 0}, {}, uid=1000)
    plugin.modify({"begin_time": 0}, {}, uid=0)  # the daemon's own changes do not wake it
    plugin.submit(reservation="a.lend")  # nor what is refused
    assert bell.read_text() == "submit 1234\nsubmit 1000\n"


def test_a_bell_that_nobody_hears_stays_small(plugin: Plugin, tmp_path: Path) -> None:
    bell = tmp_path / "wake"
    bell.write_bytes(b"x" * 65_530)
    for _ in range(5):
        plugin.submit()
    assert bell.stat().st_size < 65_536 + 20


def test_a_bell_that_is_no_file_is_not_waited_for(plugin: Plugin, tmp_path: Path) -> None:
    bell = tmp_path / "wake"
    os.mkfifo(bell)
    assert plugin.submit() == SUCCESS
    assert stat.S_ISFIFO(bell.stat().st_mode)
    bell.unlink()
    bell.mkdir()
    assert plugin.submit() == SUCCESS
    bell.rmdir()
    bell.symlink_to("/dev/full")
    assert plugin.submit() == SUCCESS
