"""Notes, for each behaviour, which tests of this run showed it, for `make behaviours`."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Machines are noisy: no test is timed. The suite tries the same examples each time, `make test-long` ever others.
settings.register_profile("here", deadline=None, derandomize=True)
settings.register_profile("others", deadline=None)
settings.load_profile("here")

# BEHAVIOURS says where to write, for runs whose checkout is not theirs to write to.
RESULTS = Path(os.environ.get("BEHAVIOURS") or Path(__file__).parent.parent / "behaviours.json")
MOST_NUMBERS = 3

_found: dict[str, list[dict[str, str]]] = defaultdict(list)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test shows few behaviours, or it shows none of them clearly."""
    for item in items:
        numbers = [str(number) for mark in item.iter_markers("behaviour") for number in mark.args]
        if len(numbers) > MOST_NUMBERS:
            raise pytest.UsageError(f"{item.nodeid} is marked with {len(numbers)} behaviours; at most {MOST_NUMBERS}")
        item.user_properties.append(("behaviours", numbers))  # travels with the report, also between processes


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test that fails in any phase has failed; one that was skipped has not shown anything."""
    is_run_again = report.outcome == "rerun"  # pytest-rerunfailures
    if not is_run_again and (report.when == "call" or not report.passed):
        for number in dict(report.user_properties).get("behaviours", ()):
            found = {"test": report.nodeid, "outcome": report.outcome}
            if isinstance(report.longrepr, tuple | list):  # of a test that was skipped: file, line, reason
                found["why"] = report.longrepr[2].removeprefix("Skipped: ")
            _found[number].append(found)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what this run showed; a run that collects only leaves the file as it is."""
    if session.config.option.collectonly or not _found or hasattr(session.config, "workerinput"):
        return
    result: dict[str, Any] = {"release": _release(), "behaviours": _found}
    RESULTS.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Of a test that was run again, what was wrong the first time."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"was run again: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def _release() -> str:
    if elsewhere := os.environ.get("BEHAVIOURS_RELEASE"):  # the Slurm that was tested is not this host's
        return elsewhere
    try:
        said = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=False)
    except OSError:
        return "no Slurm"
    return said.stdout.strip() or "no Slurm"
