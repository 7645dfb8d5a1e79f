"""`create`, `update`, `delete` and `adopt` beside a Slurm in memory: what is refused, written, waited for and told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from slurm_reserve import control, declared
from slurm_reserve.cli import declare
from slurm_reserve.cli.common import Setting
from slurm_reserve.cli.declare import RefusedError
from slurm_reserve.cli.main import cli
from slurm_reserve.config import ConfigError
from slurm_reserve.control import OrderError
from slurm_reserve.declared import DeclareError
from slurm_reserve.site import Site
from slurm_reserve.slurm.port import SlurmUnavailableError

from tests.builders import job, nodes, reservation
from tests.cycle.fake_slurm import FakeSlurm

SITE = (
    "cluster: lab\nlending: {partitions: [preempt]}\nreservations: {chemistry: {owner: {users: [dave]}, nodes: n4}}\n"
)
WHO = ("--user", "alice", "--nodes", "n[1-2]")
NO_WAIT = 0.0  # seconds


@dataclass
class Desk:
    """A site, its Slurm, and what the daemon does at a word."""

    site: Path
    slurm: FakeSlurm
    at_a_word: Callable[[], None] | None = None  # None: no daemon runs

    @property
    def folder(self) -> Path:
        return self.site.parent / "reservations.d"

    def files(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in self.folder.glob("*")} if self.folder.exists() else {}

    def run(self, *words: str, typed: str = "") -> Result:
        return CliRunner().invoke(cli, ["--site", str(self.site), *words], input=typed)

    def give(self, _: Path, order: dict[str, object]) -> str | None:
        if self.at_a_word is None:
            return None
        self.at_a_word()
        return str(order)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Nobody waits longer than it takes to look."""
    file = tmp_path / "site.yaml"
    file.write_text(f"{SITE}daemon: {{state_dir: {tmp_path}/state, run_dir: {tmp_path}/run}}\n")
    made = Desk(file, FakeSlurm(nodes("n1", "n2", "n3", "n4")))
    monkeypatch.setattr(Setting, "slurm", lambda *_: made.slurm)
    monkeypatch.setattr(control, "give", made.give)
    monkeypatch.setattr(declare, "LONGEST_WAIT", NO_WAIT)
    return made


REFUSED = [
    (("--user", "alice", "--group", "physics"), "users and groups, which Slurm refuses together"),
    (("--start", "2032-01-01", "--end", "2031-01-01"), "is not after its start"),
    (("--keep-idle-nodes", "3"), "is more than the 2 nodes"),
]


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["real", "dry"])
@pytest.mark.parametrize(("words", "why"), REFUSED)
def test_what_cannot_be_declared_is_refused_by_a_dry_run_too_and_never_written(
    words: tuple[str, ...], why: str, dry: tuple[str, ...], desk: Desk
) -> None:
    done = desk.run("create", "physics", *WHO, *words, *dry)
    assert isinstance(done.exception, ConfigError)
    assert re.match(rf"command line: .*{why}", str(done.exception))
    assert set(desk.files()) <= {".lock"}


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["real", "dry"])
@pytest.mark.parametrize(("words", "why"), REFUSED)
def test_nor_is_it_taken_over(words: tuple[str, ...], why: str, dry: tuple[str, ...], desk: Desk) -> None:
    desk.slurm.reservations["physics"] = reservation("physics", "n1", "n2")
    done = desk.run("adopt", "physics", *words, *dry)
    assert isinstance(done.exception, ConfigError)
    assert why in str(done.exception)
    assert set(desk.files()) <= {".lock"}


def test_nodes_that_are_another_s_in_a_later_window_are_refused_by_a_dry_run_too(desk: Desk) -> None:
    """The windows next to come do not meet, so that the cluster alone does not show it."""
    desk.run("create", "physics", *WHO, "--window", "sat 08:00-12:00", "--window", "sun 08:00-12:00")
    for dry in ((), ("--dry-run",)):
        words = ("--window", "tue 08:00-09:00", "--window", "sun 11:00-13:00")
        done = desk.run("create", "biology", "--user", "bob", "--nodes", "n1", *words, *dry)
        assert isinstance(done.exception, ConfigError)
        assert "shares n1 with physics" in str(done.exception)
    assert "biology.yaml" not in desk.files()


def test_a_file_with_other_reservations_in_it_is_left_alone_by_a_dry_run_s_word_too(desk: Desk) -> None:
    desk.folder.mkdir()
    body = "{owner: {users: [dave]}, nodes: n3}"
    (desk.folder / "physics.yaml").write_text(f"reservations: {{biology: {body}}}\n")
    for dry in ((), ("--dry-run",)):
        assert isinstance(desk.run("create", "physics", *WHO, *dry).exception, DeclareError)


def test_a_dry_run_makes_no_folder_and_waits_for_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "would be declared" in desk.run("create", "physics", *WHO, "--dry-run").output
    desk.slurm.reservations["physics"] = reservation("physics", "n1", "n2")
    assert "would be taken over" in desk.run("adopt", "physics", "--dry-run").output
    assert not desk.folder.exists()
    assert desk.run("create", "biology", "--user", "bob", "--nodes", "n3").exit_code == 0

    def wait(_: Path) -> None:
        raise AssertionError("somebody else may hold it")

    monkeypatch.setattr(declared, "declared_lock", wait)
    assert "would be declared" in desk.run("update", "biology", "--notice", "1m", "--dry-run").output
    assert "would be withdrawn" in desk.run("delete", "biology", "--dry-run").output


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, ConfigError([]), MemoryError])
def test_who_is_stopped_before_it_was_read_back_leaves_things_as_they_were(
    stopped: BaseException | type[BaseException], desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.run("create", "physics", *WHO)
    before, honest, written = desk.files(), Setting.site, list[str]()

    def site(setting: Setting) -> Site:
        if desk.files() != before and not written:
            written.extend(desk.files())
            raise stopped
        return honest(setting)

    monkeypatch.setattr(Setting, "site", site)
    for words in (("update", "physics", "--notice", "1m"), ("create", "biology", "--user", "bob", "--nodes", "n3")):
        assert desk.run(*words).exit_code == 1
        assert written
        assert desk.files() == before
        written.clear()


def test_a_machine_gets_one_document_when_all_is_over(desk: Desk) -> None:
    said = json.loads(desk.run("--json", "create", "physics", *WHO).stdout)
    assert said == {"reservation": "physics", "text": "is declared", "slurm": declare.NO_DAEMON}

    def make() -> None:
        desk.slurm.reservations["physics"] = reservation("physics", "n1", "n2", "n3")

    desk.at_a_word = make
    said = json.loads(desk.run("--json", "update", "physics", "--nodes", "n[1-3]").stdout)
    assert said["slurm"] == "Slurm shows physics on n[1-3]"
    assert json.loads(desk.run("--json", "update", "physics", "--notice", "1m", "--no-wait").stdout)["slurm"] == ""
    desk.at_a_word = lambda: None
    late = desk.run("--json", "update", "physics", "--nodes", "n1")
    assert isinstance(late.exception, RefusedError)  # which is what is printed
    assert late.stdout == ""
    assert str(late.exception).startswith("physics is declared, but Slurm does not show that after")


def test_who_waits_while_slurm_goes_away_is_told_that_it_is_declared(desk: Desk) -> None:
    desk.run("create", "physics", *WHO)

    def go() -> None:
        desk.slurm.is_reachable = False

    desk.at_a_word = go
    lost = desk.run("update", "physics", "--nodes", "n1")
    assert isinstance(lost.exception, SlurmUnavailableError)
    assert str(lost.exception).startswith("physics is declared; what Slurm shows is not known: ")


def test_so_many_nodes_are_not_there_before_slurm_shows_as_many(desk: Desk) -> None:
    desk.run("create", "physics", "--user", "alice", "--node-count", "2", "--partition", "main")
    desk.slurm.reservations["physics"] = reservation("physics", "n1", "n2")
    desk.at_a_word = lambda: None
    assert isinstance(desk.run("update", "physics", "--node-count", "3").exception, RefusedError)

    def add() -> None:
        desk.slurm.reservations["physics"] = reservation("physics", "n1", "n2", "n3")

    desk.at_a_word = add
    assert "Slurm shows physics on n[1-3]" in desk.run("update", "physics", "--node-count", "3").stdout


@pytest.mark.parametrize(("where", "stays"), [("physics", True), ("physics.lend", True), ("", False)])
def test_a_withdrawn_reservation_stays_while_jobs_run_in_it(where: str, stays: bool, desk: Desk) -> None:
    desk.run("create", "physics", *WHO)
    desk.slurm.reservations["physics"] = reservation("physics", "n1", "n2")
    desk.slurm.jobs["9"] = job("9").of("alice").whole_nodes(1).on("n1").in_(where).job
    desk.at_a_word = lambda: None
    done = desk.run("delete", "physics", "--yes")
    assert (done.exit_code == 0) is stays
    shown = "Slurm still shows physics, for job 9 of alice runs in it; it goes when they have ended"
    assert (shown in done.stdout) is stays
    assert stays or "physics is withdrawn, but" in str(done.exception)
    assert "physics.yaml" not in desk.files()


def test_a_question_is_no_part_of_what_a_machine_reads(desk: Desk) -> None:
    desk.run("create", "physics", *WHO)
    done = desk.run("--json", "delete", "physics", typed="y\n")
    assert json.loads(done.stdout)["text"] == "is withdrawn"
    assert "withdraw physics?" in done.stderr


def test_nothing_is_taken_over_before_the_order_is_given(desk: Desk) -> None:
    mine = reservation("physics", "n1", "n2")
    desk.slurm.reservations["physics"] = replace(mine, flags=frozenset({"FLEX"}))

    def no() -> None:
        raise OrderError("no")

    desk.at_a_word = no
    refused = desk.run("adopt", "physics")
    assert isinstance(refused.exception, OrderError)
    assert "taken over" not in refused.stdout
    desk.at_a_word = lambda: desk.slurm.reservations.update(physics=mine)
    said = json.loads(desk.run("--json", "adopt", "physics").stdout)
    assert (said["text"], said["slurm"]) == ("is taken over", "Slurm shows physics on n[1-2]")
    assert said["nodes"] == "n[1-2]"
