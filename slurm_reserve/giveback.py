"""Gives loans back when no daemon will: the end of a daemon, or the service's fail-safe after its death."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from slurm_reserve import cycle, failsafe
from slurm_reserve.errors import ReserveError
from slurm_reserve.execute import Clock, Outcome, Status
from slurm_reserve.lease import Lease, LeasedSlurm, StandingByError, TakenError
from slurm_reserve.ledger import Ledger
from slurm_reserve.record import Recorder
from slurm_reserve.site import Site
from slurm_reserve.slurm.port import Slurm, SlurmUnavailableError

LOOK_EVERY = timedelta(milliseconds=500)


class StillLentError(ReserveError):
    """The time was over before everything was given back."""


@dataclass(slots=True)
class GiveBack:
    """Runs cycles that only take back, until nothing is lent that may not be."""

    site: Site
    slurm: Slurm
    ledger: Ledger
    recorder: Recorder
    clock: Clock
    is_all: bool = False  # also what Slurm would give back by itself
    sleep: Callable[[float], None] = time.sleep

    def run(self, within: timedelta) -> list[Outcome]:
        """Take back; returns what was done. Raises StillLentError, or SlurmError when Slurm stays out of reach.

        A slurmctld that is down or hung is tried again until the time is over, and so is a lease that nobody can be
        seen to hold; TakenError is raised at once where another daemon does.
        """
        end, done = time.monotonic() + within.total_seconds(), list[Outcome]()
        while True:
            try:
                result = self._once()
            except TakenError:
                raise
            except (SlurmUnavailableError, StandingByError):
                if time.monotonic() >= end:
                    raise
            else:
                done += result.outcomes
                left = failsafe.still_lent(result.view, self.is_all)
                # What was evicted a moment ago is seen to be gone before this is over.
                if not left and not any(outcome.status is Status.DONE for outcome in result.outcomes):
                    return done
                if time.monotonic() >= end:
                    raise StillLentError(f"jobs still hold lent nodes: {', '.join(job.id for job in left)}")
            self.sleep(LOOK_EVERY.total_seconds())

    def run_in_turn(self, within: timedelta) -> list[Outcome]:
        """The same for who is no daemon: only as its daemon's fail-safe, or while none acts, where they take turns."""
        length = self.site.daemon.lease
        if length is None:
            return self.run(within)
        lease = Lease(self.slurm, self.site, self.ledger, self.clock, length)
        slurm: Any = LeasedSlurm(self.slurm, lease)
        with lease.left_as_found():
            return replace(self, slurm=slurm).run(within)

    def _once(self) -> cycle.Result:
        see = partial(failsafe.giving_back, is_all=self.is_all)
        return cycle.run_once(self.site, self.slurm, self.ledger, self.recorder, self.clock, see)
