"""The command line: help with examples, exit statuses, JSON, clear errors; Slurm's commands are not needed here."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from slurm_reserve import codec, inputs
from slurm_reserve.cli import evidence
from slurm_reserve.cli.common import remembered
from slurm_reserve.cli.main import COMMANDS, cli
from slurm_reserve.config import load
from slurm_reserve.facts import LoanFact, Use, UseFact
from slurm_reserve.journal import Decided, Journal
from slurm_reserve.ledger import Ledger
from slurm_reserve.memory import Memory
from slurm_reserve.tracking import Changes

from tests import builders

ONE = """\
cluster: lab
lending: {partitions: [preempt]}
reservations: {physics: {owner: {users: [alice]}, nodes: 'n[1-2]'}}
"""


def run(*words: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    options = ["--site", str(site)] if site else []
    argv = [sys.executable, "-m", "slurm_reserve", *options, *words]
    return subprocess.run(argv, capture_output=True, encoding="utf-8", check=False, timeout=60)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site whose Slurm is not there, and whose daemon keeps its things in a folder of the test."""
    file = tmp_path / "site.yaml"
    file.write_text(
        ONE + f"daemon: {{state_dir: {tmp_path}/state, run_dir: {tmp_path}/run}}\nslurm: {{bin_dir: {tmp_path}}}\n"
    )
    return file


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "lab"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    said = run(command, "--help").stdout
    assert "Example" in said
    assert f"slurm-reserve {command}" in said.replace("--json ", "")
    assert max(map(len, said.splitlines())) <= 80


def test_the_group_tells_its_exit_statuses() -> None:
    said = run("--help").stdout
    assert "Exit status" in said
    assert all(command in said for command in COMMANDS)


def test_wrong_usage_ends_with_2(site: Path) -> None:
    assert run("nothing").returncode == 2
    assert run("lend", "physics", "until", site=site).returncode == 2
    assert run("create", "bio", "--nodes", "n3", site=site).returncode == 2


def test_an_invalid_configuration_ends_with_3_and_names_the_line(tmp_path: Path) -> None:
    bad = tmp_path / "site.yaml"
    bad.write_text("cluster: lab\nlendign: {}\n")
    done = run("--json", "list", site=bad)
    assert done.returncode == 3
    assert "site.yaml:2: lendign" in done.stderr
    assert json.loads(done.stdout)["error"] == "ConfigError"


def test_a_slurm_that_cannot_be_reached_ends_with_4(site: Path) -> None:
    for words in (("plan",), ("status",), ("check",), ("run", "--once"), ("show", "physics")):
        done = run(*words, site=site)
        assert done.returncode == 4, (words, done)
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr


def test_what_is_declared_is_listed(site: Path) -> None:
    (found,) = json.loads(run("--json", "list", site=site).stdout)
    assert (found["name"], found["nodes"]) == ("physics", ["n1", "n2"])
    assert "users=alice" in run("list", site=site).stdout


def test_an_unknown_reservation_is_refused_with_those_that_are_known(site: Path) -> None:
    done = run("lend", "phsics", "off", site=site)
    assert done.returncode == 1
    assert "declared are: physics" in done.stderr


def test_an_order_without_a_daemon_is_kept_for_the_next_one(site: Path) -> None:
    assert "no daemon runs" in run("pause", site=site).stdout
    assert "paused" in run("pause", site=site).stdout
    assert run("lend", "physics", "off", "--dry-run", site=site).stdout.startswith("would order")


def test_a_reservation_of_the_site_file_is_changed_there(site: Path) -> None:
    done = run("delete", "physics", "--yes", site=site)
    assert done.returncode == 1
    assert "change it there" in done.stderr


def test_completion_knows_commands_and_reservations(site: Path) -> None:
    assert "_SLURM_RESERVE_COMPLETE" in run("completion", "bash").stdout


def journal(site: Path, user: str = "=cmd()") -> None:
    """A journal with one loan of a user whose name a spreadsheet would calculate."""
    at = datetime(2020, 5, 6, 12, 0, tzinfo=UTC)
    loan = LoanFact("7", at, 0, user, "physics", frozenset({"n1"}), lent_at=at, started=at, ended=at + HOUR)
    made = Journal(site.parent / "state" / "journal.db")
    made.write(changes=Changes(loans=[loan], uses=[UseFact(at, "physics", frozenset({"n1", "n2"}), Use.IDLE)]))
    made.close()


HOUR = timedelta(hours=1)
WHEN = ("--since", "2020-05-06T12:00:00Z", "--until", "2020-05-06T14:00:00Z")


def test_what_was_recorded_is_reported_without_slurm(site: Path) -> None:
    journal(site)
    said = json.loads(run("--json", "report", *WHEN, site=site).stdout)
    assert said["reservations"][0] | {"credit": 1} == {
        "name": "physics", "owned": 14400, "used": 0, "lent": 3600, "idle": 10800, "down": 0, "loans": 1,
        "evictions": 0, "credit": 1,
    }  # fmt: skip
    assert said["source"] == "what the daemon saw"
    rows = run("report", "--csv", *WHEN, site=site).stdout.splitlines()
    assert rows[0].startswith("job,user,")
    assert rows[1].startswith("7,'=cmd(),")
    page = site.parent / "page.html"
    assert run("report", "--html", str(page), *WHEN, site=site).returncode == 0
    assert page.stat().st_size > 1_000_000
    assert "ran on n1 of physics" in run("history", "physics", site=site).stdout


def test_the_page_is_utf8_whatever_the_locale(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the values beside it as a file of their own."""
    journal(site, "=cmd(ü)")
    for name, value in (("LC_ALL", "C"), ("PYTHONCOERCECLOCALE", "0"), ("PYTHONUTF8", "0")):
        monkeypatch.setenv(name, value)
    page = site.parent / "page.html"
    done = run("report", "--html", str(page), "--csv", *WHEN, site=site)
    assert done.returncode == 0, done.stderr
    assert not page.read_text(encoding="utf-8").isascii()  # plotly's own script is not
    assert done.stdout.splitlines()[1].startswith("7,'=cmd(ü),")
    assert done.stderr == f"{page} is written\n"


def test_a_decision_whose_inputs_were_too_large_is_not_passed_off_as_the_same(site: Path) -> None:
    kept = Journal(site.parent / "state" / "journal.db")
    kept.write(decided=Decided(datetime.now(UTC), "1", b"", inputs.pack([])))
    kept.close()
    done = run("replay", "1", site=site)
    assert done.returncode == 6
    assert "cannot be made again: its inputs were too large to be kept" in done.stdout
    assert json.loads(run("--json", "replay", "--all", site=site).stdout)[0]["is_same"] is None


def test_what_was_never_recorded_is_said_to_be_so(site: Path) -> None:
    for words in (("report",), ("history", "physics"), ("explain", "7"), ("promise",), ("replay", "--all")):
        done = run(*words, site=site)
        assert done.returncode == 1
        assert "nothing was recorded" in done.stderr
    assert run("idle", site=site).returncode == 4
    journal(site)
    assert run("replay", "3", site=site).returncode == 1
    assert run("report", "--since", "1d", "--until", "2d", site=site).returncode == 2


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_job_of_which_nothing_is_known_ends_with_1_in_either_form(
    options: tuple[str, ...], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(site)
    monkeypatch.setattr(evidence, "_now", lambda *_: [])  # it wants nothing of ours now
    done = CliRunner().invoke(cli, ["--site", str(site), *options, "explain", "999999"])
    assert done.exit_code == 1
    assert CliRunner().invoke(cli, ["--site", str(site), *options, "explain", "7"]).exit_code == 0


@pytest.mark.parametrize(
    "unreadable",
    [
        b"nonsense",
        inputs.pack({"site": 3}),
        inputs.pack({"site": {}, "cluster": {}, "memory": {}}),  # fields that an older release did not write
        inputs.pack({"memory": {"load": {"interval": "x"}}}),
    ],
)
def test_a_decision_that_cannot_be_read_is_said_to_be_so_and_the_others_are_made_again(
    unreadable: bytes, site: Path
) -> None:
    of_site, seen = builders.site(), builders.cluster(builders.nodes("n1", "n2"))
    kept = Journal(site.parent / "state" / "journal.db")
    whole = inputs.pack(codec.encode(inputs.Inputs(of_site, seen, Memory())))
    answer = inputs.pack(inputs.unpack(whole).answer())
    for packed, follows in ((whole, answer), (unreadable, answer), (whole, b"nonsense"), (whole, answer)):
        kept.write(decided=Decided(datetime.now(UTC), "1", packed, follows))
    kept.close()
    done = run("replay", "--all", site=site)
    assert (done.returncode, done.stderr) == (6, "")
    told = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert [each.partition(": ")[0] for each in told] == [
        "the same follows", "cannot be made again", "cannot be made again", "the same follows"
    ]  # fmt: skip
    assert "cannot be read" in told[1]
    assert run("replay", "2", site=site).returncode == 6


def test_a_number_that_no_decision_can_have_is_said_to_be_none(site: Path) -> None:
    journal(site)
    done = run("replay", "99999999999999999999", site=site)
    assert (done.returncode, done.stderr[:27]) == (1, "error: there is no decision")


def test_what_is_yet_to_come_is_not_accounted_for(site: Path) -> None:
    journal(site)
    made = json.loads(run("--json", "report", "--since", "1h", "--until", "2099-01-01", site=site).stdout)
    assert datetime.fromisoformat(made["until"]) <= datetime.now(UTC)
    for command in ("idle", "report"):
        done = run(command, "--since", "2099-01-01", site=site)
        assert (done.returncode, "--since must be before" in done.stderr) == (2, True)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A site whose state directory cannot be looked into, as it is for ordinary users: here, for root too."""
    file = tmp_path / "site.yaml"
    state = tmp_path / ("x" * 300)  # no such name can be
    file.write_text(ONE + f"daemon: {{state_dir: {state}, run_dir: {tmp_path}/run}}\nslurm: {{bin_dir: {tmp_path}}}\n")
    return file


def test_who_may_not_read_the_journal_is_told_so(closed: Path) -> None:
    for words in (("report",), ("history", "physics"), ("explain", "7"), ("promise",), ("replay", "--all")):
        done = run(*words, site=closed)
        assert done.returncode == 1
        assert "journal.db cannot be read: File name too long" in done.stderr
        assert "Traceback" not in done.stderr


def test_who_may_not_read_the_ledger_is_shown_the_plan_without_it(closed: Path) -> None:
    memory, remark = remembered(load(closed, datetime.now(UTC)))
    assert memory == Memory()
    assert remark.startswith("as if for the first time: ")
    assert remark.endswith("ledger.db cannot be read: File name too long")


def test_orders_for_nodes_that_are_not_there_and_for_the_past_are_refused(site: Path) -> None:
    done = run("reclaim", "physics", "--nodes", "n[2-3]", "--dry-run", site=site)
    assert (done.returncode, "physics has no node n3; it has n[1-2]" in done.stderr) == (1, True)
    done = run("lend", "physics", "until", "2020-01-01", "--dry-run", site=site)
    assert (done.returncode, "is over" in done.stderr) == (1, True)
    for names in ("n1", "n2"):
        assert run("reclaim", "physics", "--nodes", names, "--for", "2h", site=site).returncode == 0
    with contextlib.closing(Ledger(site.parent / "state" / "ledger.db")) as ledger:
        held = ledger.memory().orders.reclaims("physics", datetime.now(UTC))
    assert {name for each in held for name in each.nodes} == {"n1", "n2"}
