"""What a batch script says of itself in its `#SBATCH` lines. Pure; the script is anybody's text."""

from __future__ import annotations

import re
from collections.abc import Iterator

# sbatch(1): --signal=[{R|B}:]<sig_num>[@sig_time]; options stand before the first command.
_DIRECTIVE = re.compile(r"#SBATCH\s+(?P<options>\S.*)")
_SIGNAL = re.compile(
    r"(?:^|\s)--signal[=\s]\s*[\"']?(?:(?P<whom>[RB]{1,2}):)?(?:SIG)?(?P<name>[A-Z0-9]{1,8})(?:@\d{1,5})?"
)
_KNOWN = frozenset({"ABRT", "ALRM", "CONT", "HUP", "INT", "QUIT", "TERM", "TSTP", "URG", "USR1", "USR2", "XCPU"})
_NUMBERS = {"1": "HUP", "2": "INT", "3": "QUIT", "10": "USR1", "12": "USR2", "15": "TERM", "18": "CONT", "24": "XCPU"}
_MOST_LINES = 2000


_TIME = re.compile(r"(?:^|\s)(?:--time[=\s]|-t)\s*[\"']?(?P<limit>[0-9:-]{1,20})")


def time_limit(script: str) -> str:
    """What the script asks for as `--time`, as Slurm writes it; "" when it says nothing."""
    found = ""
    for options in _options(script):
        said = _TIME.search(options)
        found = said["limit"] if said else found
    return found


_APPEND = re.compile(r"(?:^|\s)--open-mode[=\s]\s*[\"']?a(?:ppend)?\b")


def appends(script: str) -> bool:
    """Whether the job goes on in its output files when it starts again: sbatch(1), --open-mode."""
    return any(_APPEND.search(options) for options in _options(script))


def own_signal(script: str) -> tuple[str, bool] | None:
    """The signal that the job wants before it ends, and whether only its batch shell is to get it."""
    found = None
    for options in _options(script):
        said = _SIGNAL.search(options)
        name = _NUMBERS.get(said["name"], said["name"]) if said else ""
        if said and name in _KNOWN:
            found = name, "B" in (said["whom"] or "")
    return found


def _options(script: str) -> Iterator[str]:
    """The options of each directive; they stand before the first command."""
    for line in script.splitlines()[:_MOST_LINES]:
        text = line.strip()
        if text and not text.startswith("#"):
            return
        if directive := _DIRECTIVE.match(text):
            yield directive["options"]
