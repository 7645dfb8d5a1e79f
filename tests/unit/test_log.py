"""The daemon's log as machines read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from slurm_reserve.cli.run import make_log
log = make_log(sys.argv[1])
log.info('a "sentence"\\n of a job', actions=2, refused=0)
log.error("no action is taken", cause="\\x1b[31m")
"""


def said(how: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_each_line_is_an_object_with_a_time_a_level_and_its_values() -> None:
    first, second = map(json.loads, said("json"))
    assert first | {"timestamp": ""} == {
        "event": 'a "sentence"\n of a job', "level": "info", "timestamp": "", "actions": 2, "refused": 0,
    }  # fmt: skip
    assert (second["level"], second["cause"]) == ("error", "\x1b[31m")
    assert first["timestamp"].endswith("Z")


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    argv = [sys.executable, "-c", PROGRAM + "print('on')", "text"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=full, check=True)
    assert done.stdout == b"on\n"


def test_people_read_a_sentence_a_line_and_nothing_speaks_to_their_terminal() -> None:
    first, second = said("text")
    assert first.endswith('a "sentence";  of a job actions=2 refused=0')
    assert second.endswith("no action is taken cause=?[31m")
