"""What an owner is promised: the longest wait for a lent node (B20). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from slurm_reserve.model import SlurmConfig
from slurm_reserve.site import AfterMost, ReservationSpec, Site

_LEAST_KILL_WAIT = timedelta(seconds=5)  # slurmd waits so long at the least
# It sleeps for a second or two between its looks, before SIGKILL and after: a job that ignores SIGTERM is gone 2.4 to
# 2.6 s after KillWait, be that 5 s or 30 s.
_SLURMD_LOOKS = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class Bound:
    """The parts of the wait, in the order in which they pass."""

    detect: timedelta  # until the daemon sees the job
    notice: timedelta  # with the extra time, or the run time that borrowers are promised, whichever is longer
    kill: timedelta  # KillWait, between SIGTERM and SIGKILL, slurm.conf(5), and what slurmd takes to look and kill
    epilog: timedelta
    scheduling: timedelta  # until the next scheduling pass

    @property
    def total(self) -> timedelta:
        """The bound itself."""
        return self.detect + self.notice + self.kill + self.epilog + self.scheduling


def bound(site: Site, config: SlurmConfig, spec: ReservationSpec) -> Bound:
    """The bound of a reservation, from what site and cluster declare."""
    daemon = site.daemon
    kill = max(config.kill_wait, _LEAST_KILL_WAIT) + _SLURMD_LOOKS
    return Bound(daemon.poll, longest_stay(site, spec), kill, daemon.epilog_time, daemon.scheduling_pass)


def longest_stay(site: Site, spec: ReservationSpec) -> timedelta:
    """How long a borrower may go on after its nodes were wanted back."""
    lending, policy = site.lending, spec.reclaim
    is_protecting = lending.max_evictions and lending.after_max_evictions is AfterMost.PROTECT
    promised = max(policy.min_run_time, lending.protect_for if is_protecting else timedelta(0))
    return max(policy.notice, promised) + policy.extra_time
