"""Measure and print: `python -m bench [--rounds N] [--json FILE] [planner|latency|notice|reading ...]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import latency, planner, reading

ALL = ("planner", "reading", "notice", "latency")


def main() -> int:
    """Run what is asked for; all of it by default."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*ALL, []], default=list(ALL))
    parser.add_argument("--rounds", type=int, default=60, help="of each latency; a sixth of it with a notice")
    parser.add_argument("--strangers", type=int, default=20_000, help="waiting jobs on the busy cluster")
    parser.add_argument("--pending", type=int, default=50_000, help="waiting jobs when reading is measured")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    begun, found = time.monotonic(), dict[str, Any]()

    def keep(name: str, what: Callable[[], Any], show: Callable[[Any], list[str]]) -> None:
        found[name] = what()
        sys.stdout.write("\n".join(["", *show(found[name])]) + "\n")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")

    if "planner" in options.what:
        keep("planner", planner.measure, planner.table)
    if "reading" in options.what:
        keep("reading", lambda: reading.measure(options.pending, latency.say), reading.table)
    if "notice" in options.what:
        keep("notice", lambda: latency.with_notice(max(options.rounds // 6, 1), latency.say), latency.notice_table)
    for name, strangers in (("quiet", 0), ("busy", options.strangers)):
        if "latency" in options.what:
            keep(name, lambda s=strangers: latency.measure(options.rounds, s, latency.say), latency.table)  # type: ignore[misc]
    sys.stdout.write(f"\ntook {(time.monotonic() - begun) / 60:.1f} minutes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
