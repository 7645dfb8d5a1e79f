"""Where Slurm would not take nodes back by itself: the shipped unit, its commands run, gives everything back."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_reserve.lab import Lab, LabSpec

from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
UNIT = ROOT / "plugins/systemd/slurm-reserve.service"
SAME_TIER = """\
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=OFF
PartitionName=preempt Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE
"""


class Served(Stage):
    """The daemon as a service of the unit."""

    watchdog = 8.0  # a machine that is busy does not bite

    def serve(self, **daemon: str) -> None:
        self.keys = {"daemon": {"fail_safe": True, **daemon}}
        self.site()
        here = f"{self.folder}/unit"
        self.lab.put(here, UNIT.read_text())
        self.lab.put(f"{self.folder}/service.py", (ROOT / "tests/cluster/service.py").read_text())
        script = [sys.executable, f"{self.folder}/service.py", here, sys.executable, self.site_file, f"{self.watchdog}"]
        shell = ["sh", "-c", 'exec "$@" >>"$0" 2>&1', f"{self.folder}/daemon.log", *script]
        self._daemon = self.lab.popen(shell, user=self.user)
        self.wait(lambda: "physics" in self.reservations(), 15, "it serves")

    def main(self) -> str:
        """The daemon's process, inside the lab."""
        return re.findall(r"^started (\d+)", self.log(), re.MULTILINE)[-1]

    def close(self) -> None:
        """Kill the daemon with its service: of a killed service nothing else would be left either."""
        if self._daemon is not None:
            super().close()
            self.lab.run(["pkill", "-KILL", "-f", self.site_file], check=False)


@pytest.fixture(scope="module")
def no_net() -> Iterator[Lab]:
    with Lab.boot(LabSpec(slurm_conf=(QUICK,), partitions=SAME_TIER)) as lab:
        yield lab


@pytest.fixture
def served(no_net: Lab) -> Iterator[Served]:
    no_net.clean()
    made = Served(no_net)
    yield made
    made.close()


@pytest.fixture
def lent(served: Served) -> tuple[Served, str]:
    """A borrower on alice's node, with nobody but the service to give it back."""
    served.serve()
    served.fill("n2", "n3", "n4")
    borrower = served.borrow("bob", "--exclusive")
    served.runs(borrower, "n1")
    return served, borrower


@pytest.mark.behaviour("B44", "B20")
def test_a_daemon_killed_for_good_gives_the_node_back_by_the_fail_safe(lent: tuple[Served, str]) -> None:
    stage, borrower = lent
    stage.lab.run(["kill", "-KILL", stage.main()])
    owners = stage.submit("alice", "--exclusive", "--reservation=physics")
    stage.runs(owners, "n1")
    assert stage.field(borrower, "Restarts") == "1"
    cleaned = stage.wait(lambda: re.findall("^cleaned up with 0.*", stage.log(), re.MULTILINE), 15, "it ends well")
    assert f"requeue job {borrower}" in cleaned[0]  # by the fail-safe, not by a daemon started again


def test_a_daemon_that_looks_more_rarely_than_the_watchdog_waits_is_not_bitten(served: Served) -> None:
    served.watchdog = 3.0
    served.serve(poll="60s")
    served.never(lambda: "the watchdog bites" in served.log(), 8)


@pytest.mark.behaviour("B44")
def test_a_daemon_that_hangs_is_killed_by_the_watchdog_and_its_loans_end(lent: tuple[Served, str]) -> None:
    stage, borrower = lent
    stage.lab.run(["kill", "-STOP", stage.main()])
    stage.wait(lambda: "the watchdog bites" in stage.log(), 15, "the watchdog bites")
    stage.wait(lambda: stage.field(borrower, "Restarts") == "1", 15, "the borrower goes")
    stage.runs(borrower, "n1", timeout=30)  # the service has started again, and lends


def test_a_stopped_service_leaves_nothing_lent(lent: tuple[Served, str]) -> None:
    stage, borrower = lent
    stage.end(signal.SIGTERM)
    assert stage.waits(borrower).reservation in ("", "(null)")
    assert list(stage.reservations()) == ["physics"]
    assert "gave back what nobody else would" in stage.log()


def test_a_daemon_that_nobody_watches_lends_nothing_without_a_net(served: Served) -> None:
    served.keys = {"daemon": {"fail_safe": True}}
    served.start()
    served.fill("n2", "n3", "n4")
    borrower = served.borrow("bob", "--exclusive")
    served.wait(lambda: "no service watches this process" in served.log(), 10, "it is said")
    served.never(lambda: served.jobs()[borrower].state == "RUNNING", 4)
    said = served.cli("check", check=False).stdout
    assert "the service's fail-safe" in " ".join(said.split())


def test_a_reload_by_the_unit_reads_the_site_file_again(served: Served) -> None:
    served.serve()
    served.site(physics={"owner": {"users": ["alice"]}, "nodes": "n[1-2]"})
    reload = next(line for line in UNIT.read_text().splitlines() if line.startswith("ExecReload="))
    words = reload.removeprefix("ExecReload=").replace("$MAINPID", served.main()).split()
    served.lab.run(words, user=served.user)
    served.wait(lambda: served.reservations()["physics"]["Nodes"] == "n[1-2]", 10, "it is read again")


def test_give_back_by_hand_ends_all_loans_and_a_dry_run_none(stage: Stage) -> None:
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    assert "runs already" in stage.cli("give-back", "--all", check=False).stderr
    stage.end()
    assert stage.cli("give-back").stdout == "nothing has to be given back\n"
    assert borrower in stage.cli("give-back", "--all", "--dry-run").stdout
    assert stage.jobs()[borrower].state == "RUNNING"
    assert borrower in stage.cli("give-back", "--all").stdout
    assert stage.waits(borrower).reservation in ("", "(null)")
    assert list(stage.reservations()) == ["physics"]
