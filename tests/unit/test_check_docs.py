"""docs/checks.md is written from the code: `python tests/unit/test_check_docs.py > docs/checks.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from slurm_reserve.check import CHECKS, id_of

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
HEAD = """\
# What `slurm-reserve check` knows

Each finding carries one of these ids (`"id"` with `--json`), which stay as they are. Errors make it end with 1: the
promise does not hold. A warning may surprise somebody; a note costs time. What to do about it is printed with it.

| id | what is found |
|---|---|
"""


def page() -> str:
    lines = [f"| `{id_of(check)}` | {(check.__doc__ or '').splitlines()[0]} |" for check in CHECKS]
    return HEAD + "\n".join(lines) + "\n"


def test_the_page_lists_every_check_in_its_own_words() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_an_id_belongs_to_one_check() -> None:
    assert len({id_of(check) for check in CHECKS}) == len(CHECKS) >= 15


if __name__ == "__main__":
    sys.stdout.write(page())
