"""The table of `make behaviours`: a failure is never hidden by a success, and what was skipped is no success."""

from __future__ import annotations

import pytest

from tests.behaviours import line

PASSED = {"test": "tests/a.py::test_a", "outcome": "passed"}
FAILED = {"test": "tests/b.py::test_b", "outcome": "failed"}
SKIPPED = {"test": "tests/c.py::test_c", "outcome": "skipped", "why": "not on this release"}


@pytest.mark.parametrize(
    ("tests", "state"),
    [
        ([], "untested"),
        ([PASSED], "passed"),
        ([PASSED, FAILED, SKIPPED], "failed"),
        ([SKIPPED, PASSED], "passed"),
        ([SKIPPED], "skipped"),
    ],
)
def test_a_behaviour_is_shown_by_a_test_that_passed_where_none_failed(tests: list[dict[str, str]], state: str) -> None:
    text, is_shown = line("B1", "slurm-wlm 1", tests, is_due=True)
    assert text.split()[:3] == ["B1", state, "due"]
    assert is_shown is (state == "passed")
    assert ("skipped test_c: not on this release" in text) is (SKIPPED in tests)
