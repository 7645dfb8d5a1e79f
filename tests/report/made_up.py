"""A month of lending that is made up, with names that somebody means harm by."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from slurm_reserve.accounts import Ran, statement
from slurm_reserve.evidence.collect import Report
from slurm_reserve.evidence.promise import measured
from slurm_reserve.facts import LoanFact, Use, UseFact, WaitFact

START = datetime(2030, 5, 1, tzinfo=UTC)
END = START + timedelta(days=14)
HOSTILE = "<img src=http://evil.example/x onerror=alert(1)></script><script>document.title='owned'</script>"


def report(node_count: int = 8, seed: int = 1) -> Report:
    """Two reservations, owners who work by day, borrowers who fill the rest."""
    dice = random.Random(seed)
    uses, loans, runs, waits = [], [], [], []
    for name in ("physics", "chemistry"):
        nodes = [f"{name[0]}{number}" for number in range(1, node_count + 1)]
        uses.append(UseFact(START, name, frozenset(nodes), Use.IDLE))
        for node in nodes:
            number, at = 0, START + timedelta(hours=dice.uniform(0, 10))
            while at < END:
                number += 1
                key = f"{len(runs) + 1}"
                work = timedelta(hours=dice.uniform(1, 9))
                runs.append(Ran(key, "alice", frozenset({node}), at, min(at + work, END), "COMPLETED", False))
                wait = WaitFact(key, at, 0, "alice", name, at - timedelta(seconds=dice.uniform(1, 9)), 14.0, True)
                late = timedelta(seconds=20 if dice.random() < 0.01 else 0)
                seen = wait.eligible + timedelta(seconds=0.4)
                waits.append(
                    WaitFact(key, at, 0, "alice", name, wait.eligible, 14.0, dice.random() < 0.4, wait.eligible, seen,
                             None, seen, seen, at + late)
                )  # fmt: skip
                at += work
                rest = timedelta(hours=dice.uniform(2, 16))
                user = dice.choice(["bob", "dave", HOSTILE, "erin"])
                began = at + timedelta(minutes=dice.uniform(1, 50))
                ended = at + rest - timedelta(minutes=dice.uniform(0, 60))
                if began < ended < END and dice.random() < 0.85:
                    cause = "evicted for job 9 of alice" if dice.random() < 0.3 else "ended by itself"
                    loans.append(
                        LoanFact(f"b{key}", at, 0, user, name, frozenset({node}), "", "", at, began, ended, cause)
                    )
                    runs.append(Ran(f"b{key}", user, frozenset({node}), began, ended, "COMPLETED", True))
                at += rest
        uses.append(UseFact(START + timedelta(days=9), name, frozenset({nodes[-1]}), Use.DOWN))
    made = statement(uses, loans, runs, START, END, Decimal(1))
    return Report(made, tuple(measured(waits)), tuple(waits), remark=HOSTILE)
