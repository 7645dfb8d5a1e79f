"""`give-back` where daemons on several hosts take turns: who holds the lease gives back, and nobody else does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from slurm_reserve import lease
from slurm_reserve.cli import giveback as command
from slurm_reserve.cli.common import Setting
from slurm_reserve.giveback import GiveBack
from slurm_reserve.ledger import FILE_NAME, Ledger
from slurm_reserve.model import SlurmConfig
from slurm_reserve.site import DaemonSettings, Site

from tests.builders import job, nodes, reservation, site, spec
from tests.cycle.fake_slurm import FakeSlurm

NO_NET = SlurmConfig(version="22.05.8", preempt_type="preempt/none", kill_wait=timedelta(seconds=5))
LENT = (
    reservation("physics", "n1"),
    reservation("physics.lend", "n1"),
    job("7").borrower().whole_nodes(1).in_("physics.lend").on("n1"),
)
LENGTH = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class Here(Setting):
    """A host whose Slurm is the one in memory."""

    of_site: Site
    of_slurm: FakeSlurm

    def site(self) -> Site:
        return self.of_site

    def slurm(self, site: Site) -> Any:
        return self.of_slurm


class Host:
    """One of several hosts: it shares nothing with the others but Slurm."""

    def __init__(self, folder: Path, slurm: FakeSlurm, length: timedelta | None = LENGTH) -> None:
        settings = DaemonSettings(state_dir=folder, run_dir=folder, lease=length)
        self.site = site(spec("physics", "n1"), daemon=settings)
        self.folder, self.slurm = folder, slurm
        folder.mkdir()

    def lives(self) -> None:
        """Its daemon looks once, keeps the lease, and is killed."""
        ledger = Ledger(self.folder / FILE_NAME)
        held = lease.Lease(self.slurm, self.site, ledger, lambda: self.slurm.now, LENGTH)
        lease.LeasedSlurm(self.slurm, held).observe()
        ledger.close()

    def give_back(self, *words: str) -> Result:
        return CliRunner().invoke(
            command.give_back, words, obj=Here(Path("site.yaml"), False, self.site, self.slurm), standalone_mode=False
        )


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Without a net; while `give-back` waits the time of this Slurm goes on."""
    made = FakeSlurm(nodes("n1", "n2"), *LENT)
    made.config = NO_NET
    monkeypatch.setattr(command, "now", lambda: made.now)
    was = GiveBack.run

    def ticking(self: GiveBack, within: timedelta) -> Any:
        return was(replace(self, sleep=lambda _: made.tick(2)), within)

    monkeypatch.setattr(GiveBack, "run", ticking)
    return made


def test_one_that_stands_by_gives_nothing_back(slurm: FakeSlurm, tmp_path: Path) -> None:
    acts, stands_by = Host(tmp_path / "a", slurm), Host(tmp_path / "b", slurm)
    acts.lives()
    before = list(slurm.calls)
    for words in ((), ("--all",), ("--dry-run",)):
        done = stands_by.give_back(*words)
        assert done.exception is None
        assert done.stdout.startswith("another daemon acts for this cluster; its lease ends at 12:02:00 UTC")
    assert slurm.calls == before
    assert slurm.jobs["7"].state == "RUNNING"


def test_the_fail_safe_of_the_one_that_acted_counts_as_it(slurm: FakeSlurm, tmp_path: Path) -> None:
    """Its daemon was killed; the lease stays, for the service starts the daemon again."""
    acts, other = Host(tmp_path / "a", slurm), Host(tmp_path / "b", slurm)
    acts.lives()
    assert acts.give_back("--dry-run").stdout == "jobs 7 would be requeued or cancelled\n"
    assert acts.give_back().stdout == "jobs 7 gone from lent nodes\n"
    assert "n1" not in slurm.jobs["7"].nodes
    assert lease.NAME in slurm.reservations
    acts.lives()
    assert "another daemon acts" in other.give_back().stdout


@pytest.mark.parametrize("left", [timedelta(seconds=25), timedelta(seconds=-5)])
def test_a_lease_that_runs_out_is_waited_for(slurm: FakeSlurm, tmp_path: Path, left: timedelta) -> None:
    """The daemon hung until its lease was nearly over, or was; slurmctld removes it later than that."""
    acts = Host(tmp_path / "a", slurm)
    acts.lives()
    slurm.now += LENGTH - left
    gone = slurm.now + timedelta(seconds=40)
    tick = slurm.tick

    def removing(seconds: float = 1) -> None:
        tick(seconds)
        if slurm.now >= gone and lease.NAME in slurm.reservations and slurm.reservations[lease.NAME].end < slurm.now:
            del slurm.reservations[lease.NAME]

    slurm.tick = removing  # type: ignore[method-assign]
    assert acts.give_back().stdout == "jobs 7 gone from lent nodes\n"
    assert slurm.now > gone
    assert lease.NAME not in slurm.reservations


def test_where_nobody_acts_the_lease_is_taken_for_it_and_given_up(slurm: FakeSlurm, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", slurm)
    assert host.give_back().stdout == "jobs 7 gone from lent nodes\n"
    assert f"create {lease.NAME}" in slurm.calls
    assert lease.NAME not in slurm.reservations


def test_without_a_lease_nobody_is_asked(slurm: FakeSlurm, tmp_path: Path) -> None:
    assert Host(tmp_path / "a", slurm, length=None).give_back().stdout == "jobs 7 gone from lent nodes\n"
    assert f"create {lease.NAME}" not in slurm.calls
