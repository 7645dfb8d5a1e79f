"""Reads jobs, nodes and partitions through pyslurm: `python -m slurm_reserve.slurm.pyslurm_worker`.

pyslurm holds the GIL while slurmctld is asked, and reads slurm.conf when it is imported: so whoever needs it runs it
here, and ends this process when it hangs. For each line of input, `jobs END`, `jobs END words`, `nodes` or
`partitions`, one answer is written, in blocks: a line with a letter and a length, and then so many bytes. Blocks of `t`
hold what squeue would have printed for :func:`slurm_reserve.slurm.jobs.job_format`, or scontrol, so that it is
understood by the same code, while the next is being made. The last block is one of `p`, or of `e`, which says why there
is no answer.

What pyslurm does not give is named in `p`: jobs of which it makes nothing (it takes a number's suffix, or what is not
UTF-8, for an error), and nodes with GRES, of what is in use of which it keeps neither type nor, for some, the count. Of
what jobs ask for of GRES it keeps even less, so where there are any all is read with the commands.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from slurm_reserve.garbage import collected_later
from slurm_reserve.slurm import pyslurm_text
from slurm_reserve.slurm.pyslurm_jobs import render

_END = re.compile(r"[0-9a-z-]+")


@contextmanager
def without_statistics() -> Iterator[None]:
    """Half of the time that pyslurm takes to read many jobs goes to dir(), asked of the empty statistics of each.

    They are 0 anyhow, and nobody here looks at them. Of a pyslurm that makes them otherwise nothing is changed.
    """
    stats: Any = import_module("pyslurm.db.stats")
    was = getattr(stats, "instance_to_dict", None)
    if was is None:
        yield
        return
    stats.instance_to_dict = lambda _: {}
    try:
        yield
    finally:
        stats.instance_to_dict = was


def answer(line: str) -> Iterator[tuple[str, str]]:
    """The blocks that are written for one line of input, each with its letter.

    What pyslurm gave is let go only after the last: to free many jobs takes a while, which nobody waits for then.
    """
    pyslurm: Any = import_module("pyslurm")  # reads slurm.conf; ends the process when there is none
    partial: list[str] = []
    match line.split():
        case ["jobs", end, *words] if _END.fullmatch(end):
            with without_statistics():
                found = pyslurm.Jobs.load().values()
            for part in render(found, end, bool(words), partial):
                yield "t", part
        case ["nodes"]:
            found = pyslurm.Nodes.load().values()
            yield "t", pyslurm_text.nodes(found, partial)
        case ["partitions"]:
            found = pyslurm.Partitions.load().values()
            yield "t", pyslurm_text.partitions(found)
        case _:
            raise ValueError("not a question")
    yield "p", ",".join(partial)


def main() -> None:
    """Answer until the input ends."""
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # pyslurm prints; that is no part of an answer

    def write(kind: str, text: str) -> None:
        said = text.encode(errors="replace")
        out.write(b"%s%d\n" % (kind.encode(), len(said)))
        out.write(said)
        out.flush()

    for line in sys.stdin:
        try:
            with collected_later():
                for kind, text in answer(line):
                    write(kind, text)
        except Exception as error:  # pyslurm's own kind is not known before it is imported
            write("e", str(error))


if __name__ == "__main__":
    main()
