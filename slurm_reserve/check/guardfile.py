"""The settings at the top of `plugins/job_submit/job_submit.lua`, read as text. Pure.

Lua is not run to know them: they are literals in one table, and what is written otherwise is not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LIST = r"^\s*{}\s*=\s*\{{([^{{}}]*)\}}"
_NAME = re.compile(r"""["']([^"']+)["']""")
_WAKE_FILE = re.compile(r"""^\s*wake_file\s*=\s*(?:["']([^"']*)["']|(false))""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a job_submit.lua says of itself."""

    is_ours: bool
    partitions: frozenset[str] = frozenset()
    qos: frozenset[str] = frozenset()
    wake_file: str = ""  # "" where it rings nowhere


def read(text: str) -> Guard:
    """Read the file; one that is not the guard is given as such."""
    if "slurm_reserve" not in text or "guard_submission" not in text:
        return Guard(is_ours=False)
    wake = _WAKE_FILE.search(text)
    return Guard(True, _names(text, "partitions"), _names(text, "qos"), (wake[1] or "") if wake else "")


def _names(text: str, key: str) -> frozenset[str]:
    found = re.search(_LIST.format(key), text, re.MULTILINE)
    return frozenset(_NAME.findall(found[1])) if found else frozenset()
