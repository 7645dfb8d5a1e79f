"""Finds what must not be, in the evidence of a run; imports nothing of the package. `python -m tests.load.check FILE`.

Owners come first, only borrowers are lent to and evicted, and each policy is kept: as far as sacct can show it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.load import harvest
from tests.load.evidence import NEVER, Declared, Evidence, Run, load

ROUNDING = 1  # sacct tells whole seconds
# A borrower that was sent starts up to so much later; what has changed since, it could not know. Seconds.
UNDER_WAY = 10
# squeue(1), JOB REASON CODES: somebody would have to release these.
HELD = ("JobHeldAdmin", "JobHeldUser", "job requeued in held state", "launch failed requeued held")


def violations(evidence: Evidence) -> list[str]:
    """Everything that must not be, one sentence each."""
    found = [*_strangers(evidence), *_crowded(evidence), *_evicted(evidence), *_waits(evidence), *_drift(evidence)]
    for reservation in evidence.reservations:
        loans = [
            run
            for run in evidence.runs
            if evidence.is_borrower(run) and set(run.nodes) & set(reservation.nodes) and run.start >= evidence.began
        ]
        found += [*_loans(reservation, loans), *_kept_idle(evidence, reservation, loans)]
        found += _hold_down(evidence, reservation, loans)
    return found


def _strangers(evidence: Evidence) -> Iterator[str]:
    """On reserved nodes there are only the owner's jobs and borrowers; a node has one owner."""
    owned: dict[str, str] = {}
    for each in evidence.reservations:
        for node in each.nodes:
            if node in owned:
                yield f"node {node} is bound to {owned[node]} and to {each.name}"
            owned[node] = each.name
    for run in evidence.runs:
        for node in run.nodes:
            reservation = evidence.reservation_on.get(node)
            if reservation and not evidence.is_borrower(run) and run.user not in reservation.owners:
                yield f"job {run.id} of {run.user} ran on {node}, which is of {reservation.name}"


def _crowded(evidence: Evidence) -> Iterator[str]:
    """No node has more work than it takes: owner and borrower do not overlap on one CPU."""
    for node, runs in evidence.on.items():
        changes = sorted([(run.start, run.cpus) for run in runs] + [(run.end, -run.cpus) for run in runs])
        used = 0
        for at, cpus in changes:
            used += cpus
            if used > evidence.cpus[node]:
                yield f"at {at} jobs hold {used} CPUs of {node}, which has {evidence.cpus[node]}"
                break


def _evicted(evidence: Evidence) -> Iterator[str]:
    """Only borrowers are put out, by Slurm or by us; and nobody by the end of a reservation."""
    for run in evidence.runs:
        by_us = run.state == f"CANCELLED by {evidence.daemon_uid}"
        if (run.is_evicted or by_us) and not evidence.is_borrower(run):
            yield f"job {run.id} of {run.user} is no borrower and ended {run.state}"
        if by_us and run.start == NEVER:
            yield f"job {run.id} of {run.user} was cancelled by the daemon while it waited"
        if run.state == "TIMEOUT" and run.minutes and run.end - run.start < 60 * run.minutes - ROUNDING:
            yield f"job {run.id} of {run.user} was ended before its time limit"
        if run.state.split()[0] in ("NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY") or (
            run.state == "FAILED" and run.end - run.start <= ROUNDING
        ):
            yield f"job {run.id} of {run.user} ended {run.state}"


def _waits(evidence: Evidence) -> Iterator[str]:
    """No owner's job waits longer for borrowers than its reservation's bound."""
    for run, reservation, stretch in waits(evidence):
        if stretch > reservation.bound + ROUNDING:
            yield (
                f"job {run.id} of {run.user} waited {stretch} s while it would have fitted on {reservation.name}, "
                f"were nobody lent to; the bound is {reservation.bound} s"
            )


def waits(evidence: Evidence) -> Iterator[tuple[Run, Declared, int]]:
    """Each owner's job, and the longest time on end for which nothing but borrowers and Slurm kept it waiting."""
    for reservation in evidence.reservations:
        for run in evidence.runs:
            if run.user not in reservation.owners or evidence.is_borrower(run) or run.eligible >= evidence.ended:
                continue
            longest = now = 0
            for at in range(run.eligible, min(run.start, run.end, evidence.ended)):
                now = now + 1 if evidence.would_fit(run, reservation, at) else 0
                longest = max(longest, now)
            yield run, reservation, longest


def _loans(reservation: Declared, loans: list[Run]) -> Iterator[str]:
    """A loan lies within one reservation, and is no longer than that admits."""
    for run in loans:
        if beyond := set(run.nodes) - set(reservation.nodes):
            yield f"job {run.id} of {run.user} ran on nodes of {reservation.name} and on {','.join(sorted(beyond))}"
        most = reservation.max_minutes
        if most is not None and (run.minutes is None or run.minutes > most):
            yield f"job {run.id} with a limit of {run.minutes} minutes was lent nodes of {reservation.name}"


def _kept_idle(evidence: Evidence, reservation: Declared, loans: list[Run]) -> Iterator[str]:
    """No loan opens a node that is to be kept idle; when it was sent, an owner's job may not have been there yet."""
    if not reservation.keep_idle_nodes:
        return
    for run in loans:
        before = {node for node in reservation.nodes if any(other.holds(node, run.start - 1) for other in loans)}
        just_come = [
            other
            for node in reservation.nodes
            for other in evidence.others_on(node)
            if 0 <= run.start - other.start < UNDER_WAY
        ]
        used = {n for n in reservation.nodes if any(other.holds(n, run.start) for other in evidence.on.get(n, ()))}
        idle = len(reservation.nodes) - len(used)
        if set(run.nodes) - before and idle < reservation.keep_idle_nodes and not just_come:
            yield f"job {run.id} took a node of {reservation.name} at {run.start}, and {idle} stayed idle"


def _hold_down(evidence: Evidence, reservation: Declared, loans: list[Run]) -> Iterator[str]:
    """A loan begins where the owner has not been for as long as was declared."""
    for run in loans:
        for node in set(run.nodes) & set(reservation.nodes):
            for other in evidence.others_on(node):
                if other.start <= run.start - UNDER_WAY and run.start < other.end:
                    yield f"job {run.id} began on {node} while job {other.id} of {other.user} was there"
                elif other.end <= run.start < other.end + reservation.after_idle - ROUNDING:
                    yield f"job {run.id} began on {node} {run.start - other.end} s after a job of {other.user}"


def _drift(evidence: Evidence) -> Iterator[str]:
    """At the end nothing is held, drained, missing or left over."""
    for job, user, _, state, reason, priority in evidence.squeue:
        if state == "PENDING" and (priority == "0" or reason in HELD):
            yield f"job {job} of {user} is held ({reason})"
    for node, state in evidence.sinfo:
        if state.startswith(("drain", "down", "fail", "maint")):
            yield f"node {node} is {state}"
    names = {each.name for each in evidence.reservations}
    if missing := names - set(evidence.shown):
        yield f"reservations {','.join(sorted(missing))} are gone"
    if extra := set(evidence.shown) - names - {f"{name}.lend" for name in names}:
        yield f"reservations {','.join(sorted(extra))} are nobody's"


def main(argv: list[str]) -> int:
    """Say what was found; the exit status is 1 if anything must not be."""
    evidence = load(Path(argv[0]))
    found = violations(evidence)
    for each in found:
        sys.stdout.write(f"VIOLATION: {each}\n")
    sys.stdout.write(summary(evidence) + "\n")
    return 1 if found else 0


def summary(evidence: Evidence) -> str:
    """What was measured, some lines of it."""
    waited = sorted(stretch for _, _, stretch in waits(evidence))
    runs = [run for run in evidence.runs if run.nodes and evidence.is_borrower(run)]
    lines = [
        f"{len(evidence.runs)} rows of sacct in {evidence.ended - evidence.began} s; "
        f"{sum(run.is_evicted for run in runs)} of {len(runs)} borrowed runs ended by an eviction",
        f"owners' waits: {len(waited)}, median {waited[len(waited) // 2]} s, p95 {waited[len(waited) * 95 // 100]} s, "
        f"longest {waited[-1]} s" if waited else "no owner waited",
        harvest.of(evidence).text(),
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
