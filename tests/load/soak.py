"""An hour at full churn: does anything grow, or drift? `python -m tests.load.soak --minutes 60 --json FILE`."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from slurm_reserve.lab import Lab

from tests.load import plan
from tests.load.drive import Load, dump

EVERY = 10.0  # seconds between two samples
KEPT = "5m"  # of the journal, so that an hour shows whether it stays as large as it is
COUNT = "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from entries').fetchone()[0])"


@dataclass(frozen=True)
class Sample:
    """What is there at one moment."""

    seconds: float
    rss_kb: int
    descriptors: int
    ledger_kb: int
    journal_kb: int
    entries: int  # of the journal
    reservations: int
    held: int
    drained: int
    jobs: int


class Soak:
    """Samples while the load goes on."""

    def __init__(self, load: Load) -> None:
        self.load, self.lab, self.samples = load, load.lab, list[Sample]()
        self.pid = self._pid()

    def _pid(self) -> str:
        return self.lab.run(["pgrep", "-o", "-u", "reserve", "-f", "slurm_reserve.*run"]).stdout.split()[0]

    def sample(self, now: float) -> None:
        """Take one if it is time."""
        if self.samples and now - self.samples[-1].seconds < EVERY:
            return
        assert self._pid() == self.pid, "the daemon is another one"
        state = f"{self.load.stage.folder}/state"
        status = self.lab.read(f"/proc/{self.pid}/status")
        jobs = self.lab.run(["squeue", "-h", "-a", "-o", "%T|%r|%Q"]).stdout.splitlines()
        nodes = self.lab.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%T"]).stdout.split()
        made = Sample(
            seconds=round(now, 1),
            rss_kb=int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]),
            descriptors=len(self.lab.run(["ls", f"/proc/{self.pid}/fd"]).stdout.split()),
            ledger_kb=self._kb(f"{state}/ledger.db"),
            journal_kb=self._kb(f"{state}/journal.db"),
            entries=int(self.lab.run([sys.executable, "-c", COUNT, f"{state}/journal.db"]).stdout),
            reservations=len(self.load.stage.reservations()),
            held=sum("JobHeld" in job or job.endswith("|0") for job in jobs),
            drained=sum("drain" in node or "down" in node for node in nodes),
            jobs=len(jobs),
        )
        self.samples.append(made)
        if len(self.samples) % 6 == 1:
            sys.stdout.write("".join(f"{value:>12}" for value in asdict(made).values()) + "\n")
            sys.stdout.flush()

    def _kb(self, path: str) -> int:
        sizes = self.lab.run(["stat", "-c", "%s", path, f"{path}-wal"], check=False).stdout.split()
        return sum(map(int, sizes)) // 1024

    def verdict(self) -> dict[str, Any]:
        """Medians of the second tenth and of the last tenth: what is flat is nearly the same in both."""
        tenth = max(len(self.samples) // 10, 1)
        early, late = self.samples[tenth : 2 * tenth], self.samples[-tenth:]
        found = {}
        for name in ("rss_kb", "descriptors", "ledger_kb", "journal_kb", "entries"):
            before, after = (statistics.median(getattr(s, name) for s in some) for some in (early, late))
            found[name] = {"early": before, "late": after, "ratio": round(after / before, 3) if before else 0.0}
        return {
            "medians": found,
            "most_reservations": max(s.reservations for s in self.samples),
            "most_held": max(s.held for s in self.samples),
            "most_drained": max(s.drained for s in self.samples),
        }


def main() -> int:
    """Run it; the exit status says whether all is flat and nothing drifted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--evidence", type=Path, help="for python -m tests.load.check")
    options = parser.parse_args()
    with Lab.boot(plan.spec()) as lab:
        load = Load.prepare(lab, options.seed, keep_journal=KEPT)
        try:
            soak = Soak(load)
            sys.stdout.write("".join(f"{field.name[:11]:>12}" for field in fields(Sample)) + "\n")
            load.play(options.minutes * 60, soak.sample)
            evidence = load.evidence()
            load.finish()
            left = sorted(load.stage.reservations())
            found = soak.verdict() | {"submitted": load.submitted, "left": left, "minutes": options.minutes}
        finally:
            load.close()
    if options.json:
        dump(str(options.json), found | {"samples": [asdict(sample) for sample in soak.samples]})
    if options.evidence:
        dump(str(options.evidence), evidence)
    return _say(found)


def _say(found: dict[str, Any]) -> int:
    grown = [name for name, each in found["medians"].items() if each["ratio"] > 1.2]
    drift = found["most_held"] or found["most_drained"] or set(found["left"]) != set(plan.RESERVATIONS)
    for name, each in found["medians"].items():
        sys.stdout.write(f"{name:<14}{each['early']:>12g}{each['late']:>12g}   x {each['ratio']}\n")
    sys.stdout.write(f"submitted {found['submitted']} jobs in {found['minutes']:g} minutes\n")
    sys.stdout.write(f"most reservations at once {found['most_reservations']}, held jobs {found['most_held']}, ")
    sys.stdout.write(f"drained nodes {found['most_drained']}; left at the end: {len(found['left'])} reservations\n")
    sys.stdout.write("something drifted\n" if drift else "nothing drifted in Slurm\n")
    sys.stdout.write(f"grown: {', '.join(grown)}\n" if grown else "nothing grew\n")
    return 1 if grown or drift else 0


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    sys.stdout.write(f"took {time.monotonic() - started:.0f} s\n")
    sys.exit(code)
