"""Which names can be given to Slurm's commands without being read as anything else. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

_DANGEROUS = re.compile(r"[\s,=\"'\\()\[\]*|;&<>$`]")


def is_word(value: str) -> bool:
    """Whether Slurm takes it for one word, in a list too; there a minus sign before it denies."""
    return bool(value) and value != "-" and value.isprintable() and not _DANGEROUS.search(value)


@lru_cache(maxsize=4096)
def is_user(name: str) -> bool:
    r"""Whether a user can be named in a list; `CORP\alice`, as some directories have it, cannot."""
    return is_word(name) and name[0] not in "+-"
