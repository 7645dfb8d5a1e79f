"""`status --watch` on a real Slurm: what is lent, for how long, and that slurmctld's absence does not end it."""

from __future__ import annotations

import os
import pty
import select
import time

import pytest

from tests.cluster.stage import Stage

pytestmark = pytest.mark.cluster


def test_the_live_view_shows_loans_and_decisions_and_outlives_slurmctld(stage: Stage) -> None:
    stage.keys = {"slurm": {"max_calls_per_second": 50, "timeout": "5s"}}
    stage.start()
    stage.fill("n2", "n3", "n4")
    borrower = stage.borrow("bob", "--exclusive", "-t", "10")
    stage.runs(borrower, "n1")
    outer, inner = pty.openpty()
    view = stage.lab.popen(
        stage.argv("status", "--watch", "--interval", "0.5"), user=stage.user, env={"TERM": "xterm"},
        stdin=inner, stdout=inner, stderr=inner,
    )  # fmt: skip
    os.close(inner)

    def shows(*words: str) -> None:
        said, end = "", time.monotonic() + 60
        while not all(word in said for word in words):
            assert time.monotonic() < end, said
            if select.select([outer], [], [], 0.5)[0]:
                said = (said + os.read(outer, 65_536).decode(errors="replace"))[-20_000:]

    try:
        shows("lent", f"{borrower} bob", "10m ", "....", "decided last:", "n1")
        stage.lab.stop("slurmctld")
        shows("what is shown is", "lent")
        stage.lab.start("slurmctld")
        shows("the daemon runs")
        os.write(outer, b"q")
        said, end = b"", time.monotonic() + 20
        while b"\x1b[?1049l" not in said and time.monotonic() < end:
            said += os.read(outer, 65_536)
        assert view.wait(20) == 0
    finally:
        stage.lab.start("slurmctld")
        if view.poll() is None:
            view.kill()
        view.wait(20)
        os.close(outer)
