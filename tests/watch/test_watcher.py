"""The endpoint and the hook: what they tell, and that nothing they meet with holds up a cycle."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from slurm_reserve.alarms import Alarm, Event
from slurm_reserve.figures import METRICS
from slurm_reserve.hook import Command, Hook
from slurm_reserve.metrics import MOST_AT_ONCE
from slurm_reserve.news import Ended, Round
from slurm_reserve.site import Listen, Site
from slurm_reserve.watcher import Watcher

from tests.builders import site
from tests.watch.promtool import PROMTOOL, promtool

T = TypeVar("T")
BLIND = Round(0.2, Ended.UNREACHABLE, text="no answer", commands={("squeue", "no_answer"): 3}, requests=7)


@dataclass
class Log:
    said: list[str] = field(default_factory=list)

    def error(self, event: str, **values: Any) -> None:
        self.said.append(" ".join([event, *map(str, values.values())]))


def until(what: Callable[[], T], says: str) -> T:
    end = time.monotonic() + 20
    while not (found := what()):
        assert time.monotonic() < end, says
        time.sleep(0.02)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def read(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def settings(of_site: Site | None = None, **changes: Any) -> Site:
    base = of_site or site()
    return replace(base, daemon=replace(base.daemon, **changes))


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    log = Log()
    made = Watcher(log)
    made.heard = log  # type: ignore[attr-defined]  # for the tests to look at
    yield made
    made.close()


def test_what_is_served_is_what_prometheus_reads(watcher: Watcher) -> None:
    port = free_port()
    watcher.took_over(settings(metrics=Listen("127.0.0.1", port)))
    watcher.went(replace(BLIND, ended=Ended.DONE))
    text = read(port)
    families = {each.name: each for each in text_string_to_metric_families(text)}
    wanted = {metric.name.removesuffix("_total") for metric in METRICS}
    assert wanted <= families.keys()
    assert "process_cpu_seconds" in families
    (cycles,) = [s for s in families["slurm_reserve_cycles"].samples if s.labels == {"outcome": "done"}]
    assert cycles.value == 1
    (calls,) = families["slurm_reserve_slurm_commands"].samples
    assert (calls.labels, calls.value) == ({"command": "squeue", "outcome": "no_answer"}, 3)
    took = families["slurm_reserve_cycle_seconds"].samples
    assert [s.value for s in took if s.labels.get("le") == "+Inf"] == [1]
    if PROMTOOL is not None:  # the parser has read it in any case
        promtool("check", "metrics", told=text)


def test_a_port_in_use_is_said_once_and_had_as_soon_as_it_is_free() -> None:
    log, now = Log(), [0.0]
    watcher = Watcher(log, lambda: now[0])
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        watcher.took_over(settings(metrics=Listen("127.0.0.1", port)))
        for second in range(0, 300, 5):
            now[0] = float(second)
            watcher.went(BLIND)
    (said,) = log.said
    assert f"no metrics: daemon.metrics: 127.0.0.1:{port}: Address already in use; free it" in said
    now[0] = 361.0
    watcher.went(BLIND)
    assert 'slurm_reserve_cycles_total{outcome="unreachable"} 61.0' in read(port)
    watcher.close()


def test_another_address_is_taken_over_and_none_closes_it(watcher: Watcher) -> None:
    first, second = free_port(), free_port()
    watcher.took_over(settings(metrics=Listen("127.0.0.1", first)))
    assert read(first)
    watcher.took_over(settings(metrics=Listen("127.0.0.1", second)))
    assert read(second)
    watcher.took_over(settings())
    for port in (first, second):
        with pytest.raises(OSError, match="refused"):
            read(port)


def test_those_who_connect_and_say_nothing_keep_nobody_waiting(watcher: Watcher) -> None:
    port = free_port()
    watcher.took_over(settings(metrics=Listen("127.0.0.1", port)))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_AT_ONCE - 1)]
    assert read(port)
    more = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    begun = time.monotonic()
    for _ in range(50):
        watcher.went(BLIND)
    assert time.monotonic() - begun < 2

    def is_served() -> bool:
        try:
            return bool(read(port))
        except (OSError, http.client.HTTPException):
            return False

    assert until(is_served, "they are given up")
    for each in silent + more:
        each.close()


def test_what_goes_wrong_in_watching_is_said_once_and_fails_nothing(watcher: Watcher) -> None:
    for _ in range(3):
        watcher.news(None)  # type: ignore[arg-type]  # a bug in it
    (said,) = watcher.heard.said  # type: ignore[attr-defined]
    assert said.startswith("what is watched is not told; the daemon goes on AttributeError")


# The hook


def script(folder: Path, text: str) -> tuple[str, ...]:
    file = folder / "hook.py"
    file.write_text(f"import json, os, sys, time\n{text}")
    return (sys.executable, str(file), str(folder / "out"), "$(touch shell)", "; rm -rf x")


BREACH = Event(Alarm.BREACH, "job 9 of al$(id)ice has waited 99 s", "physics", data={"job": "9", "seconds": 99.0})


def test_the_hook_is_told_by_json_and_environment_without_a_shell(tmp_path: Path) -> None:
    argv = script(
        tmp_path,
        "told = json.load(sys.stdin)\n"
        "told['env'] = {k: v for k, v in os.environ.items() if k.startswith('SLURM_RESERVE') or k == 'NOTIFY_SOCKET'}\n"
        "told['argv'] = sys.argv[2:]\n"
        "open(sys.argv[1] + '.new', 'w').write(json.dumps(told)); os.rename(sys.argv[1] + '.new', sys.argv[1])\n",
    )
    os.environ["NOTIFY_SOCKET"] = "/nonexistent"
    try:
        hook = Hook(Command(argv, 20.0), "lab", Log())
        hook.tell(replace(BREACH, held_back=3))
        until((tmp_path / "out").exists, "it has run")
    finally:
        del os.environ["NOTIFY_SOCKET"]
    told = json.loads((tmp_path / "out").read_text())
    assert (told["event"], told["cluster"], told["reservation"], told["held_back"]) == ("breach", "lab", "physics", 3)
    assert told["data"] == {"job": "9", "seconds": 99.0}
    assert told["argv"] == ["$(touch shell)", "; rm -rf x"]
    assert told["env"] == {
        "SLURM_RESERVE_EVENT": "breach",
        "SLURM_RESERVE_CLUSTER": "lab",
        "SLURM_RESERVE_RESERVATION": "physics",
        "SLURM_RESERVE_TEXT": BREACH.text,
    }
    assert until(lambda: list(hook.results), "it is counted") == [("breach", "done")]
    hook.close()


def test_a_hook_that_hangs_is_ended_with_what_it_started_and_nobody_waits_for_it(tmp_path: Path) -> None:
    argv = script(
        tmp_path,
        "if os.fork() == 0:\n    time.sleep(2); open(sys.argv[1], 'w').close()\ntime.sleep(600)\n",
    )
    log = Log()
    hook = Hook(Command(argv, 0.5), "lab", log)
    begun = time.monotonic()
    hook.tell(BREACH)
    assert time.monotonic() - begun < 0.4
    assert until(lambda: list(hook.results), "it is given up") == [("breach", "failed")]
    assert "not done within 0.5 s, and ended" in log.said[0]
    time.sleep(2.5)  # its child would have written by now
    assert not (tmp_path / "out").exists()
    hook.close()


def test_a_hook_that_fails_is_said_once_until_it_is_well(tmp_path: Path) -> None:
    flag = tmp_path / "out"
    argv = script(tmp_path, "sys.exit(0 if os.path.exists(sys.argv[1]) else 'no such\\x1b mail server')\n")
    log = Log()
    hook = Hook(Command(argv, 20.0), "lab", log)

    def run(count: int) -> list[str]:
        hook.results.clear()
        for _ in range(count):
            hook.tell(BREACH)
        until(lambda: len(hook.results) == count, "all are done")
        return [outcome for _, outcome in hook.results]

    assert run(3) == ["failed"] * 3
    assert len(log.said) == 1
    assert "exit status 1: no such? mail server" in log.said[0]
    flag.touch()
    assert run(1) == ["done"]
    flag.unlink()
    assert run(2) == ["failed"] * 2
    assert len(log.said) == 2
    hook.close()
    missing = Hook(Command(("/nonexistent/hook",), 1.0), "lab", log)
    missing.tell(BREACH)
    until(lambda: list(missing.results), "it is given up")
    assert "/nonexistent/hook: [Errno 2]" in log.said[2]
    missing.close()


def test_more_events_than_a_slow_hook_can_take_are_dropped_and_counted(tmp_path: Path) -> None:
    hook = Hook(Command(script(tmp_path, "time.sleep(60)\n"), 60.0), "lab", Log())
    for _ in range(100):
        hook.tell(BREACH)
    assert sum(outcome == "dropped" for _, outcome in hook.results) >= 35
    begun = time.monotonic()
    hook.close()  # a daemon that stops does not wait for it
    assert time.monotonic() - begun < 10


def test_the_watcher_calls_the_hook_for_a_cluster_that_cannot_be_read(tmp_path: Path) -> None:
    argv = script(tmp_path, "open(sys.argv[1], 'a').write(json.load(sys.stdin)['event'] + '\\n')\n")
    now = [0.0]
    watcher = Watcher(Log(), lambda: now[0])
    port = free_port()
    watcher.took_over(settings(hook=argv, metrics=Listen("127.0.0.1", port), poll=timedelta(seconds=5)))
    for second in range(0, 120, 5):
        now[0] = float(second)
        watcher.went(BLIND)
    until((tmp_path / "out").exists, "it has run")

    def counted() -> bool:
        watcher.went(BLIND)
        text = read(port)
        return 'slurm_reserve_hook_runs_total{event="no_observation",outcome="done"} 1.0' in text

    until(counted, "it is counted")
    assert (tmp_path / "out").read_text() == "no_observation\n"
    watcher.close()
