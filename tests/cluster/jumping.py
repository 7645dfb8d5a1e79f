"""The daemon by a clock that is put ahead or back while it runs. Usage: jumping.py FILE SLURM-RESERVE'S ARGUMENTS.

FILE holds by how many seconds, and may be written at any time.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slurm_reserve.cli import main, run
from slurm_reserve.slurm.cli import CliSlurm

OFFSET = Path(sys.argv.pop(1))


def now() -> datetime:
    """The time, as the clock that was put ahead or back says."""
    return datetime.now(UTC) + timedelta(seconds=float(OFFSET.read_text() or 0))


if __name__ == "__main__":
    run.now = now  # type: ignore[attr-defined]  # imported there by name
    CliSlurm.__init__.__kwdefaults__["now"] = now
    main.main()
