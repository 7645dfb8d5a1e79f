"""What Prometheus reads of a live daemon, and the hook that is run when an owner waits for longer than promised."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.conftest import QUICK
from tests.cluster.stage import Stage
from tests.watch.promtool import PROMTOOL, promtool

pytestmark = pytest.mark.cluster
PORT = 9841  # in the lab's own network
HOOK = """import os, sys
with open(sys.argv[1], "a") as file:
    file.write(sys.stdin.read() + chr(10))
"""


class Watched:
    """A stage with the hook and the endpoint."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.port = stage, PORT
        self.heard = f"{stage.folder}/heard"
        stage.lab.put(f"{stage.folder}/hook.py", HOOK, user=stage.user)
        argv = [stage.lab.python, f"{stage.folder}/hook.py", self.heard]
        stage.keys = {"daemon": {"metrics": f"127.0.0.1:{PORT}", "hook": argv}}

    def text(self) -> str:
        """What the live daemon serves."""
        get = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode(), end='')"
        argv = [self.stage.lab.python, "-c", get, f"http://127.0.0.1:{self.port}/metrics"]
        return self.stage.lab.run(argv, check=False).stdout  # nothing, while it does not listen

    def value(self, name: str, **labels: str) -> float | None:
        families = text_string_to_metric_families(self.text())
        samples = [sample for family in families for sample in family.samples if sample.name == f"slurm_reserve_{name}"]
        return next((s.value for s in samples if labels.items() <= s.labels.items()), None)

    def reaches(self, wanted: float, name: str, **labels: str) -> None:
        """Wait until a value is that, or more."""
        self.stage.wait(lambda: (self.value(name, **labels) or 0) >= wanted, 20, f"{name} of {labels} is {wanted}")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the hook was told, of one kind."""
        lines = self.stage.lab.run(["cat", self.heard], check=False).stdout.splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.fixture
def patient(stage: Stage) -> Iterator[Stage]:
    """slurmctld waits longer for a node than an owner is promised to: a node that does not answer is nobody's wait."""
    stage.lab.reconfigure([QUICK, "MessageTimeout=60"])
    yield stage
    stage.close()
    stage.lab.reconfigure([QUICK, "MessageTimeout="])


@pytest.mark.behaviour("B20")
def test_an_owner_who_waits_too_long_runs_the_hook_and_metrics_show_wait_loan_and_eviction(patient: Stage) -> None:
    stage = patient
    watched = Watched(stage)
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive")
    stage.runs(borrower, "n1")
    watched.reaches(1, "loans_open", reservation="physics")
    watched.reaches(1, "nodes", reservation="physics", state="lent")
    assert watched.value("owner_wait_bound_seconds", reservation="physics") == 13
    stage.lab.kill("slurmd@n1", signal.SIGSTOP)  # it hangs: its node is not handed over
    try:
        owners = stage.submit("alice", "--exclusive")
        (event,) = stage.wait(lambda: watched.events("breach"), 60, "the hook is run")
    finally:
        stage.lab.kill("slurmd@n1", signal.SIGCONT)
    assert (event["reservation"], event["cluster"]) == ("physics", "lab")
    assert event["data"]["job"] == owners
    assert event["data"]["user"] == "alice"
    assert event["data"]["seconds"] >= event["data"]["bound"] == 13  # both in whole tenths
    stage.runs(owners, "n1", timeout=60)
    watched.reaches(1, "owner_wait_seconds_count", reservation="physics", taken_back="yes")
    watched.reaches(10, "owner_wait_seconds_sum", reservation="physics", taken_back="yes")
    watched.reaches(1, "nodes", reservation="physics", state="owner")
    watched.reaches(1, "hook_runs_total", event="breach", outcome="done")
    assert watched.value("loans_started_total", reservation="physics") == 1
    assert watched.value("evictions_total", reservation="physics", cause="owner") == 1
    assert watched.value("events_total", event="breach", reservation="physics") == 1
    assert watched.value("actions_total", action="evict_job", outcome="done") == 1
    assert (watched.value("node_seconds_total", reservation="physics", state="lent") or 0) > 1
    assert (watched.value("slurm_commands_total", command="squeue", outcome="ok") or 0) > 3
    assert (watched.value("cycle_seconds_count", scope="whole") or 0) > 3
    assert len(watched.events("breach")) == 1
    (loan,) = json.loads(stage.cli("--json", "history", "physics").stdout)  # however long it took to go
    assert loan["loan"]["cause"] == f"evicted for job {owners} of alice"
    text = watched.text()
    assert not any(f'="{name}"' in text for name in ("alice", "bob", owners, borrower, "n1"))
    if PROMTOOL is not None:  # prometheus_client's parser has read it in any case
        promtool("check", "metrics", told=text)


def test_a_port_in_use_keeps_no_owner_waiting_and_another_is_taken_at_a_word(stage: Stage) -> None:
    watched = Watched(stage)
    hold = "import socket,time; s=socket.create_server(('127.0.0.1', int(__import__('sys').argv[1]))); time.sleep(600)"
    holder = stage.lab.popen([stage.lab.python, "-c", hold, str(PORT)])
    try:
        busy = f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 5)"
        stage.wait(lambda: stage.lab.run([stage.lab.python, "-c", busy], check=False).returncode == 0, 20, "it is held")
        stage.start()  # its reservation is made all the same
        said = f"no metrics: daemon.metrics: 127.0.0.1:{PORT}: Address already in use"
        stage.wait(lambda: said in stage.log(), 20, "it is said")
        watched.port = PORT + 1
        stage.keys = {"daemon": {"metrics": f"127.0.0.1:{watched.port}"}}
        stage.site()
        stage.reload()
        stage.wait(lambda: "read the site file again" in stage.log(), 20, "it is read")
        watched.reaches(1, "cycles_total", outcome="done")
        assert stage.log().count("no metrics") == 1
    finally:
        holder.kill()
        holder.wait(10)
