"""The load: reservations of every kind, and who submits what when. The same seed gives the same plan. Pure.

Owners and strangers submit by the clock. Borrowers come from endless streams of which the driver takes as much as keeps
a queue waiting, so that lending never lacks somebody to lend to.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import exp, log
from typing import Any

from slurm_reserve.lab import LabSpec, UserSpec

from tests.cluster.plugins import with_guard

NODES, CPUS, KILL_WAIT = 16, 4, 5
POLL, EPILOG, PASS = 5, 2, 5  # seconds; the daemon's defaults
LOOKS = 3  # of slurmd, after KillWait
# What a site would have: Slurm's defaults, and what `slurm-reserve check` recommends.
SCHEDULER = "SchedulerParameters=bf_interval=10,bf_max_job_part=50"
GAPS = (20.0, 300.0)  # owners' pauses, log-uniform, in seconds
MAX_TIME = 10  # minutes

# All on nodes n1 to n16; two of these stay unreserved: the node requests choose theirs from those that nobody names.
RESERVATIONS: dict[str, dict[str, Any]] = {
    "plain": {"owner": {"users": ["o0"]}, "nodes": "n[1-2]"},
    "named": {
        "owner": {"users": ["o1"]}, "nodes": "n3", "find": "name", "reclaim": {"notice": "10s", "signal": "USR1"},
    },
    "account": {
        "owner": {"accounts": ["chemistry"]}, "nodes": "n[4-5]", "reclaim": {"notice": "5s", "signal": "USR1"},
    },
    "group": {"owner": {"groups": ["biology"]}, "nodes": {"node_count": 1, "partition": "main"}},
    "spare": {
        "owner": {"users": ["o4"]}, "nodes": {"node_count": 2, "partition": "main"}, "lend": {"keep_idle_nodes": 1},
    },
    "magnet": {"owner": {"users": ["o5"]}, "nodes": "n6", "find": "magnetic"},
    "patient": {"owner": {"users": ["o6"]}, "nodes": "n7", "lend": {"after_idle": "15s"}},
    "short": {"owner": {"users": ["o7"]}, "nodes": "n8", "lend": {"max_time": f"{MAX_TIME}m"}},
    "harsh": {"owner": {"users": ["o8"]}, "nodes": "n9", "reclaim": {"evict": "cancel"}},
    "slurms": {"owner": {"users": ["o9"]}, "nodes": "n[10-11]", "reclaim": {"evict_by": "slurm"}},
}  # fmt: skip
TWO_NODES = frozenset({"plain", "account", "spare", "slurms"})
OWNERS = {name: f"o{i}" for i, name in enumerate(RESERVATIONS)}
BORROWERS, STRANGERS = ("b0", "b1", "b2", "b3"), ("s0", "s1")


@dataclass(frozen=True, slots=True)
class Submission:
    """One submission; `at` is in seconds from the start, and 0 for what comes from a stream."""

    user: str
    options: tuple[str, ...]
    script: str
    at: float = 0.0
    is_interactive: bool = False
    cancel_after: float | None = None  # its user cancels it so many seconds after the submission


def spec() -> LabSpec:
    """The lab of the load: with accounting, and users of its own."""
    groups, accounts = {"o3": ("biology",)}, {"o2": ("chemistry",)}
    names = (*OWNERS.values(), *BORROWERS, *STRANGERS)
    users = tuple(UserSpec(name, groups.get(name, ()), accounts.get(name, ("general",))) for name in names)
    return LabSpec(
        nodes=NODES,
        accounting=True,
        users=users,
        kill_wait=KILL_WAIT,
        **with_guard(SCHEDULER),
    )


def timed(seed: int, duration: float) -> list[Submission]:
    """What owners and strangers submit within `duration` seconds, in order."""
    found = [each for name in RESERVATIONS for each in _owner(seed, name, duration)]
    found += [each for user in STRANGERS for each in _stranger(seed, user, duration)]
    return sorted(found, key=lambda each: (each.at, each.user, each.options))


def _owner(seed: int, name: str, duration: float) -> Iterator[Submission]:
    """Work and pauses in turn: one job or two, on a part of a node, a node, or both."""
    rng = random.Random(f"{seed} {name}")
    by_name = ("--reservation", name)
    at = rng.uniform(10, 90)
    while at < duration:
        longest = 0.0
        for _ in range(rng.choice((1, 1, 1, 2))):
            seconds = rng.uniform(10, 60)
            shape = rng.choice((_cpus(CPUS), _cpus(CPUS), _cpus(2), _nodes(2) if name in TWO_NODES else _cpus(1)))
            names_it = name == "named" or (name != "magnet" and rng.random() < 0.2)
            options = ("-t5", *shape, *(by_name if names_it else ()))
            yield Submission(OWNERS[name], options, f"sleep {seconds:.0f}", round(at, 1))
            longest = max(longest, seconds)
        at += longest + exp(rng.uniform(log(GAPS[0]), log(GAPS[1])))


def _stranger(seed: int, user: str, duration: float) -> Iterator[Submission]:
    """Ordinary jobs, somewhat less than the two unreserved nodes can take."""
    rng = random.Random(f"{seed} {user}")
    at = rng.uniform(0, 30)
    while at < duration:
        seconds = rng.uniform(10, 60)
        shape = rng.choice((_cpus(CPUS), _cpus(CPUS), _cpus(2), _cpus(1), _nodes(2)))
        cancel = seconds / 2 if rng.random() < 0.1 else None
        yield Submission(user, ("-t5", *shape), f"sleep {seconds:.0f}", round(at, 1), cancel_after=cancel)
        at += rng.uniform(20, 90)


def easy_borrowers(seed: int) -> Iterator[Submission]:
    """Borrowers that any lendable node takes: one node or less, and a time limit that every reservation admits."""
    rng = random.Random(f"{seed} easy")
    for _ in count():
        seconds = exp(rng.uniform(log(40), log(500)))
        shape = rng.choice((_cpus(CPUS), _cpus(CPUS), _cpus(2), _cpus(1)))
        yield _borrower(rng, ("-t", str(MAX_TIME), *shape), seconds)


def mixed_borrowers(seed: int) -> Iterator[Submission]:
    """Borrowers of every other kind: two nodes, arrays, long limits, interactive, not to be requeued."""
    rng = random.Random(f"{seed} mixed")
    for number in count():
        seconds = exp(rng.uniform(log(40), log(500)))
        limit = ("-t", str(rng.choice((10, 30, 120))))
        options = (
            (*limit, *_nodes(2)),
            (*limit, *_cpus(2), f"--array=0-{rng.randint(1, 4)}"),
            (*limit, *_cpus(CPUS), "--no-requeue"),
            (*limit, *_cpus(2)),
            (*limit, "--exclusive", *_cpus(CPUS)),
        )[number % 5]
        yield _borrower(rng, options, seconds, may_be_interactive=number % 5 == 3)


def _borrower(
    rng: random.Random, options: tuple[str, ...], seconds: float, may_be_interactive: bool = False
) -> Submission:
    """Most go on when told; some end at once when told, some ignore SIGTERM; some are cancelled by their user."""
    manner = rng.random()
    user = rng.choice(BORROWERS)
    script = f"trap '' USR1; sleep {seconds:.0f}"
    if manner < 0.15:
        script = f"trap 'exit 0' USR1; sleep {seconds:.0f} & wait"
    elif manner < 0.2:
        script = f"trap '' USR1 TERM; sleep {seconds:.0f}"
    cancel = rng.uniform(5, 60) if rng.random() < 0.05 else None
    options = ("-p", "preempt", *options)
    return Submission(user, options, script, is_interactive=may_be_interactive, cancel_after=cancel)


def _cpus(number: int) -> tuple[str, ...]:
    return ("-N1", "-n1", f"-c{number}")


def _nodes(number: int) -> tuple[str, ...]:
    return (f"-N{number}", f"-n{number}", "--ntasks-per-node=1", f"-c{CPUS}")


def bound(name: str) -> int:
    """The longest wait in seconds that the owner of a reservation is promised: README, How it works."""
    notice = str(RESERVATIONS[name].get("reclaim", {}).get("notice", "0s"))
    return POLL + int(notice.rstrip("s")) + max(KILL_WAIT, 5) + LOOKS + EPILOG + PASS
