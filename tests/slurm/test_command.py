"""Running commands: what reaches them, and what their failures mean. The commands are small scripts."""

from __future__ import annotations

import os
import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from slurm_reserve.actions import CreateReservation
from slurm_reserve.model import JobKey
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.command import Answer, Commands, requests_of
from slurm_reserve.slurm.port import SlurmError, SlurmRefusedError, SlurmUnavailableError, SlurmUnreadableError

from tests.slurm.recordings import failures


class Folder:
    """A folder of commands, as a site's bin_dir."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, name: str, script: str) -> None:
        command = self.path / name
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)

    def commands(self, seconds: float = 5) -> Commands:
        return Commands(SlurmSettings(bin_dir=self.path, timeout=timedelta(seconds=seconds)))

    def slurm(self) -> CliSlurm:
        return CliSlurm(SlurmSettings(bin_dir=self.path, timeout=timedelta(seconds=5)))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_arguments_reach_the_command_as_they_are(folder: Folder) -> None:
    folder.has("scontrol", 'printf "<%s>" "$@"')
    assert folder.commands().read("scontrol", "a b", "$(id)", "*", "") == "<a b><$(id)><*><>"


def test_variables_that_change_what_slurm_prints_do_not_reach_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SQUEUE_FORMAT2", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS", "SCONTROL_ALL", "SINFO_SORT"):
        monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("SLURM_CONF", "/etc/somewhere/slurm.conf")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    folder.has("squeue", "env")
    seen = dict(line.split("=", 1) for line in folder.commands().read("squeue").splitlines())
    assert "relative" not in seen.values()
    assert (seen["TZ"], seen["SLURM_BITSTR_LEN"], seen["SLURM_TIME_FORMAT"]) == ("UTC", "0", "standard")
    assert seen["SLURM_CONF"] == "/etc/somewhere/slurm.conf"
    assert seen["PATH"] == os.environ["PATH"]


def test_the_environment_reaches_a_command_that_runs_elsewhere() -> None:
    settings = SlurmSettings(conf=Path("/etc/other.conf"))
    commands = Commands(settings, wrap=lambda argv: ["env", "-i", f"PATH={os.environ['PATH']}", *argv])
    seen = commands.read("env").splitlines()
    assert {"TZ=UTC", "SLURM_BITSTR_LEN=0", "SLURM_CONF=/etc/other.conf"} <= set(seen)


def test_only_slurms_commands_are_where_slurm_is(folder: Folder) -> None:
    folder.has("getent", "echo not this one")
    assert folder.commands().read("getent", "passwd", "root").startswith("root:")


def test_calls_are_counted(folder: Folder) -> None:
    folder.has("scontrol", "true")
    commands = folder.commands()
    commands.read("scontrol", "ping")
    commands.change("scontrol", "update")
    assert commands.calls == {"scontrol": 2}
    assert commands.requests == 2
    assert commands.seconds > 0


def test_what_slurmctld_answers_for_a_command_is_counted() -> None:
    assert requests_of(["squeue", "-h"]) == 2
    assert requests_of(["squeue", "-h", "-u", "alice"]) == 3
    assert requests_of(["scontrol", "-o", "show", "node"]) == 2
    assert requests_of(["scontrol", "-o", "show", "reservation"]) == 1
    assert requests_of(["getent", "group", "physics"]) == 0


def test_no_answer_in_time_is_unavailable(folder: Folder) -> None:
    folder.has("squeue", "exec sleep 60")
    with pytest.raises(SlurmUnavailableError, match=r"no answer within 0\.2 s"):
        folder.commands(0.2).read("squeue")


def test_a_command_that_is_missing_or_killed_is_unavailable(folder: Folder) -> None:
    with pytest.raises(SlurmUnavailableError, match="No such file"):
        folder.commands().read("squeue")
    folder.has("squeue", "kill -9 $$")
    with pytest.raises(SlurmUnavailableError, match="killed by signal 9"):
        folder.commands().read("squeue")


def test_what_is_not_utf8_is_read_all_the_same(folder: Folder) -> None:
    folder.has("squeue", r"printf 'caf\351'")
    assert folder.commands().read("squeue") == "caf\N{REPLACEMENT CHARACTER}"


def test_a_long_answer_is_given_while_the_command_goes_on(folder: Folder) -> None:
    folder.has(
        "squeue", f"echo one; while [ ! -e {folder.path}/taken ]; do sleep 0.01; done; printf 'z\\303'; printf '\\274'"
    )
    commands = folder.commands()
    with commands.printing("squeue") as parts:
        assert next(parts) == "one\n"
        (folder.path / "taken").touch()
        assert "".join(parts) == "z\N{LATIN SMALL LETTER U WITH DIAERESIS}"
    assert commands.outcomes == {("squeue", "ok"): 1}
    assert commands.seconds > 0


@pytest.mark.parametrize(
    ("script", "why", "outcome"),
    [
        ("echo one; echo 'error: Unable to contact slurm controller' >&2; exit 1", "Unable to contact", "no_answer"),
        ("echo one; echo 'error: Invalid user' >&2; exit 1", "Invalid user", "refused"),
        ("echo one; kill -9 $$", "killed by signal 9", "no_answer"),
        ("echo one; exec sleep 60", "no answer within 1 s", "no_answer"),
        ("echo one; exec >&- 2>&-; exec sleep 60", "no answer within 1 s", "no_answer"),
    ],
)
def test_of_an_answer_that_does_not_end_well_nothing_is_known(
    folder: Folder, script: str, why: str, outcome: str
) -> None:
    folder.has("squeue", script)
    commands, given = folder.commands(1), list[str]()
    with pytest.raises(SlurmUnavailableError, match=why), commands.printing("squeue") as parts:
        given.extend(parts)
    assert given == ["one\n"]
    assert commands.outcomes == {("squeue", outcome): 1}


def test_an_answer_without_an_end_is_none(folder: Folder) -> None:
    folder.has("squeue", "exec yes")
    with (
        pytest.raises(SlurmUnavailableError, match=r"no answer within 0\.3 s"),
        folder.commands(0.3).printing("squeue") as parts,
    ):
        deque(parts, maxlen=0)


def test_however_much_is_said_beside_an_answer_it_is_taken(folder: Folder) -> None:
    folder.has("squeue", "yes error | head -c 3000000 >&2; echo one; yes two | head -c 3000000; exit 3")
    with pytest.raises(SlurmUnavailableError, match="error"), folder.commands().printing("squeue") as parts:
        assert len("".join(parts)) > 0


def test_whoever_takes_no_more_leaves_no_command_behind(folder: Folder) -> None:
    folder.has("squeue", f"echo $$ > {folder.path}/number; echo one; exec sleep 60")
    with folder.commands().printing("squeue") as parts:
        next(parts)
    assert not Path("/proc", (folder.path / "number").read_text().strip()).exists()


@pytest.mark.parametrize("name", sorted(failures()))
def test_slurms_failures_are_told_apart(folder: Folder, name: str) -> None:
    """What slurmctld refused was refused; when it could not be reached nothing is known."""
    said = failures()[name]
    (folder.path / "errors").write_text(said["errors"])
    folder.has("scontrol", f"cat {folder.path}/errors >&2; exit {said['status']}")
    expected = SlurmUnavailableError if name.startswith("down:") else SlurmRefusedError
    with pytest.raises(expected) as caught:
        folder.commands().change("scontrol", "update")
    assert said["errors"].strip().split("\n")[-1 if "scancel" in said["command"] else 0] in str(caught.value)


def test_an_error_with_exit_status_0_is_a_refusal(folder: Folder) -> None:
    folder.has("scontrol", "echo 'slurm_update error: Requested nodes are busy' >&2")
    with pytest.raises(SlurmRefusedError) as caught:
        folder.commands().change("scontrol", "update")
    assert caught.value.code == "slurm_update error: Requested nodes are busy"


def test_what_scancel_says_beside_a_success_is_no_refusal(folder: Folder) -> None:
    folder.has("scancel", "echo 'scancel: cred/munge: init: Munge plugin loaded, no error' >&2")
    folder.commands().change("scancel", "-v", "12")


def test_signalling_a_job_without_processes_is_refused_soon(folder: Folder) -> None:
    """scancel itself would try again for minutes."""
    folder.has("scancel", "echo 'scancel: Job is in transitional state, retrying' >&2; exec sleep 60")
    key = JobKey("12", None, 0)  # type: ignore[arg-type]  # its time does not matter here
    with pytest.raises(SlurmRefusedError, match="transitional"):
        folder.slurm().signal_job(key, "USR1")


def test_one_failing_part_fails_the_whole_observation(folder: Folder) -> None:
    folder.has("scontrol", "echo 'slurm_load_reservations error: Unable to contact slurm controller' >&2; exit 1")
    folder.has("squeue", "true")
    with pytest.raises(SlurmUnavailableError):
        folder.slurm().observe()


def test_an_empty_answer_is_no_empty_cluster(folder: Folder) -> None:
    folder.has("scontrol", "true")
    folder.has("squeue", "true")
    with pytest.raises(SlurmUnreadableError):
        folder.slurm().observe()
    with pytest.raises(SlurmUnreadableError):
        folder.slurm().read_job("12")


def test_a_long_list_that_an_older_release_does_not_know_is_left_out(folder: Folder) -> None:
    """What is shown of a complaint is cut, and the complaint repeats the list."""
    folder.has(
        "scontrol",
        f"""
        case "$*" in *AllowedPartitions*) for last; do :; done; echo "Unknown parameter $last" >&2; exit 1;; esac
        echo "$*" > {folder.path}/asked
        """,
    )
    partitions = frozenset(f"partition-with-a-long-name-{number}" for number in range(20))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    what = CreateReservation("r.lend", frozenset({"n1"}), at, at, frozenset(), "", allowed_partitions=partitions)
    folder.slurm().create_reservation(what)
    assert "AllowedPartitions" not in (folder.path / "asked").read_text()


def test_a_group_that_is_missing_for_a_while_keeps_its_members(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """getent ends with 2 also where the directory that knows the group cannot be asked."""
    monkeypatch.setenv("PATH", f"{folder.path}:{os.environ['PATH']}")
    now = [0.0]
    slurm = CliSlurm(SlurmSettings(bin_dir=folder.path), clock=lambda: now[0])
    folder.has("getent", "[ $1 = passwd ] || echo 'physics:*:7:alice,erin'")
    assert slurm._groups(frozenset({"physics"})) == {"physics": {"alice", "erin"}}
    folder.has("getent", "[ $1 = passwd ] || exit 2")
    now[0] += 61
    assert slurm._groups(frozenset({"physics"})) == {"physics": {"alice", "erin"}}
    asked_for_more = slurm._groups(frozenset({"physics", "nobody-knows-it"}))
    assert asked_for_more == {"physics": {"alice", "erin"}}
    folder.has("getent", "[ $1 = passwd ] || echo 'physics:*:7:erin'")
    now[0] += 61
    assert slurm._groups(frozenset({"physics"})) == {"physics": {"erin"}}


def test_every_error_is_a_slurm_error() -> None:
    assert all(issubclass(kind, SlurmError) for kind in (SlurmRefusedError, SlurmUnavailableError))


def test_a_failure_without_words_shows_its_status() -> None:
    assert Answer(3, "", "").why == "exit status 3"


def test_a_release_without_array_unique_is_asked_in_another_way(folder: Folder) -> None:
    """From 23.11 on squeue has no --array-unique; -r shows tasks that were changed by themselves, too."""
    script = f"""
    case "$*" in *--array-unique*) echo "squeue: unrecognized option '--array-unique'" >&2; exit 1;; esac
    exec {sys.executable} -c 'import sys; print(sys.argv[1])' "$*" > {folder.path}/asked
    """
    folder.has("squeue", script)
    with pytest.raises(SlurmUnreadableError):
        folder.slurm().read_job("12")
    assert (folder.path / "asked").read_text().rstrip().endswith("-r")
