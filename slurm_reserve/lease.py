"""Which of several daemons acts, where a site runs one on each of several hosts.

The lock is a reservation in Slurm itself, `slurm-reserve.lease`. slurmctld makes a reservation of a name once, whoever
asks first, and removes it at its end: so it is a lease, and slurmctld is its judge. Who cannot reach the judge cannot
act either, for what it would act on is the same slurmctld. A holder extends the lease well before its end, acts no
more once a quarter of it is left, and gives it up when it stops. It is known by its start, which extending does not
change, and which its ledger keeps: so a daemon that starts again, and the fail-safe beside it, act on as the same
holder. The reservation lies over a node that is reserved anyway, with OVERLAP: it keeps no job from anywhere.

The hosts' clocks must agree within that quarter, as munge asks of them anyhow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slurm_reserve.actions import CreateReservation, UpdateReservation
from slurm_reserve.errors import ReserveError
from slurm_reserve.execute import Clock
from slurm_reserve.ledger import Ledger
from slurm_reserve.model import Cluster, Reservation
from slurm_reserve.site import Site
from slurm_reserve.slurm.port import SlurmRefusedError

if TYPE_CHECKING:
    from slurm_reserve.slurm.port import Slurm

NAME = "slurm-reserve.lease"
FLAGS = frozenset({"OVERLAP", "IGNORE_JOBS"})
CHANGES = frozenset(
    {
        "create_reservation", "update_reservation", "delete_reservation", "set_job_reservation", "set_job_start",
        "set_job_comment", "hold_job", "signal_job", "requeue_job", "restore_job", "cancel_job",
    }
)  # fmt: skip


class StandingByError(ReserveError):
    """Another daemon acts, or may; this one does nothing."""


class TakenError(StandingByError):
    """Another daemon holds the lease, for certain."""


def without(reservations: Mapping[str, Reservation]) -> dict[str, Reservation]:
    """The reservations but for the lease, which is nobody's business but the daemons'."""
    return {name: each for name, each in reservations.items() if name != NAME}


def is_of(found: Reservation, start: object) -> bool:
    """Whether it is the lease of whoever has noted this start."""
    return start == found.start.isoformat()


def taken(found: Reservation) -> str:
    """A sentence for people."""
    return f"another daemon acts for this cluster; its lease ends at {found.end:%H:%M:%S} UTC"


@dataclass(slots=True)
class Lease:
    """What one daemon holds, or does not hold."""

    slurm: Slurm
    site: Site
    ledger: Ledger
    clock: Clock
    length: timedelta
    _until: float = 0.0  # until then we may act; monotonic seconds

    @property
    def is_held(self) -> bool:
        """Whether we may act now."""
        return time.monotonic() < self._until

    def keep(self, cluster: Cluster) -> None:
        """Take the lease, or extend ours; raises TakenError while it is another's, or StandingByError."""
        found = cluster.reservations.get(NAME)
        if found is None:
            self._take(cluster)
        elif not self._is_ours(found):
            self._until = 0.0
            if self.ledger.problem:  # that ours is ours stands there
                raise StandingByError(f"whose lease it is cannot be told: {self.ledger.problem}")
            raise TakenError(taken(found))
        else:
            self._extend(cluster, found)

    def release(self) -> None:
        """Let another daemon act at once, if the lease is ours."""
        if not self.is_held:
            return
        found = self._read()
        if found is not None and self._is_ours(found):
            self.slurm.delete_reservation(NAME)
            self.ledger.drop("lease", "start")  # another's may begin within the same second
        self._until = 0.0

    @contextmanager
    def left_as_found(self) -> Iterator[None]:
        """A lease that is taken meanwhile is given up afterwards; one that was ours stays, for the daemon to come."""
        before = self.ledger.get("lease", "start")
        try:
            yield
        finally:
            if self.ledger.get("lease", "start") != before:
                with suppress(ReserveError):  # then it runs out
                    self.release()

    def _take(self, cluster: Cluster) -> None:
        self._until, asked = 0.0, time.monotonic()
        nodes = self._nodes(cluster)
        if not nodes:  # nothing of ours is there yet; to make it is slurmctld's to grant once, too
            self._until = asked + self._usable
            return
        what = CreateReservation(NAME, nodes, None, self.clock() + self.length, FLAGS, "one daemon acts", _NOBODY)
        try:
            self.slurm.create_reservation(what)
        except SlurmRefusedError as error:
            raise StandingByError(f"another daemon may act; slurmctld gives us no lease: {error}") from error
        found = self._read()
        if found is None:
            raise StandingByError("our lease cannot be seen yet")
        self.ledger.put("lease", "start", found.start.isoformat())
        self._until = asked + self._usable

    def _extend(self, cluster: Cluster, found: Reservation) -> None:
        """Not once little is left of it: what we send could arrive when it is another's."""
        asked = time.monotonic()
        left = found.end - self.clock()
        self._until = asked + (left - self.length / 4) / timedelta(seconds=1)
        if not self.is_held:
            raise StandingByError("our lease was not extended in time; it ends before it is taken anew")
        nodes = self._nodes(cluster) or found.nodes
        if left > self.length * 2 / 3 and found.nodes == nodes:
            return
        end = self.clock() + self.length
        self.slurm.update_reservation(UpdateReservation(NAME, "one daemon acts", nodes=nodes, end=end))
        self._until = asked + self._usable

    @property
    def _usable(self) -> float:
        return self.length * 3 / 4 / timedelta(seconds=1)

    def _is_ours(self, found: Reservation) -> bool:
        return is_of(found, self.ledger.get("lease", "start"))

    def _read(self) -> Reservation | None:
        return self.slurm.read_nodes([])[0].get(NAME)

    def _nodes(self, cluster: Cluster) -> frozenset[str]:
        """A node of a reservation of ours that is in force, so that ordinary jobs are kept from it already."""
        for spec in sorted(self.site.reservations, key=lambda spec: spec.name):
            made = cluster.reservations.get(spec.name)
            if made is not None and made.is_active and made.nodes and made.flags >= FLAGS:
                return frozenset({min(made.nodes)})
        return frozenset()


_NOBODY = frozenset({"root"})  # a reservation must admit somebody


class LeasedSlurm:
    """Slurm for the holder of the lease: reading keeps it, and nothing is changed without it."""

    def __init__(self, slurm: Slurm, lease: Lease) -> None:
        self._slurm = slurm
        self._lease = lease

    def observe(self, *words: Any, **more: Any) -> Cluster:
        """Read the cluster, and keep the lease; raises StandingByError."""
        cluster = self._slurm.observe(*words, **more)
        self._lease.keep(cluster)
        return cluster

    def __getattr__(self, name: str) -> Any:
        """All else is the backend's, but changes are made only while the lease is held."""
        if name in CHANGES and not self._lease.is_held:
            raise StandingByError("the lease has run out; nothing more is done")
        return getattr(self._slurm, name)
