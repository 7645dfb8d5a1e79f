"""Every trap of tests/traps.txt has a test that carries its number, and no test carries a number that is not there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
LINE = re.compile(r"(?P<number>\d+) (?P<what>[^\[\]]+?)(?: \[(?P<since>\d\d\.\d\d) on\])?")


def traps() -> dict[int, str]:
    lines = [line for line in (TESTS / "traps.txt").read_text().splitlines() if not line.startswith("#")]
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    return {int(each["number"]): each["what"] for each in found if each}


@cache
def marked() -> dict[int, list[str]]:
    """Numbers in marks, and the tests that carry them."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.trap":
                    for number in mark.args:
                        found.setdefault(ast.literal_eval(number), []).append(f"{path.name}::{node.name}")
    return found


def test_the_list_is_whole() -> None:
    assert list(traps()) == list(range(1, 24))


def test_every_trap_has_a_test() -> None:
    missing = {number: what for number, what in traps().items() if number not in marked()}
    assert missing == {}


def test_no_test_names_a_trap_that_is_not_listed() -> None:
    assert marked().keys() <= traps().keys()
