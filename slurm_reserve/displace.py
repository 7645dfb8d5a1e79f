"""Borrowers that give way to a higher bid (B27), where the site has turned that on. Pure.

A waiting borrower for which there was no room may put out running ones that bid less, never one that bids the same, and
only on lent nodes of a reservation that no owner's job is about to use. One that was sent to lent nodes before and did
not start there puts nobody out: what keeps it may be no lack of room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slurm_reserve import lots, victims
from slurm_reserve.caps import Caps
from slurm_reserve.choice import Lending
from slurm_reserve.fit import Fit, Room, Share, fit
from slurm_reserve.ground import Ground
from slurm_reserve.model import Job, JobKey
from slurm_reserve.view import View
from slurm_reserve.words import nodes as listed


def decide(view: View, grounds: Mapping[str, Ground], lent: Lending) -> None:
    """Add to each ground's victims who has to go for a higher bid, and tell the bidder so."""
    if not view.site.lending.displace:
        return
    loans = frozenset().union(*(loan.nodes for loan in lent.loans))
    contests = [
        _Contest(view, ground, loans)
        for name, ground in grounds.items()
        if name not in lent.withheld and any(ground.borrowers())
    ]
    caps = Caps.of(view, grounds.values())
    for job in lent.unplaced:
        if job.key not in view.memory.not_before:
            for contest in contests:
                if said := contest.take(job, caps):
                    lent.refused[job.id] = said
                    break


@dataclass(slots=True)
class _Contest:
    """The lent nodes of one reservation, for which bids are compared."""

    view: View
    ground: Ground
    loans: frozenset[str]  # nodes that somebody is lent in this plan
    taken: dict[str, list[Share]] = field(default_factory=dict)

    def take(self, job: Job, caps: Caps) -> str:
        """What becomes of a waiting borrower here; "" when nobody gives way to it."""
        ground = self.ground
        if job.reservation not in ("", ground.spec.lend_name) or lots.too_long(self.view, job, ground):
            return ""
        mine, going = self.view.bid(job), ground.going()
        lower = {
            key: other
            for key, other in ground.borrowers().items()
            if key not in going and self.view.bid(other) < mine and other.nodes <= ground.reservation.nodes
        }

        def placed(gone: frozenset[JobKey]) -> Fit:
            return self._fit(job, {**going, **{key: lower[key] for key in gone}})

        if where := placed(frozenset()):
            return self._keep(where, f"{listed(where.nodes)} of {ground.spec.name} being freed")
        rate = victims.RATES[ground.spec.reclaim.victims]
        chosen = victims.choose(lower.values(), lambda gone: bool(placed(gone)), victims.Look.of(self.view), rate)
        if not chosen:
            return ""
        where = placed(frozenset(each.key for each in chosen))
        if caps.why_not(ground, job, where.nodes):
            return ""
        highest = max(map(self.view.bid, chosen))
        reason = f"job {job.id} of {job.user} bids {mine}, more than {highest}, for {listed(where.nodes)}"
        ground.add_victims(chosen, f"bid of job {job.id} of {job.user}", reason, outbid_by=job.key)
        return self._keep(where, f"{', '.join(each.id for each in chosen)} give way on {listed(where.nodes)}")

    def _keep(self, where: Fit, said: str) -> str:
        for node, share in where.shares.items():
            self.taken.setdefault(node, []).append(share)
        return said

    def _fit(self, job: Job, gone: Mapping[JobKey, Job]) -> Fit:
        view = self.view
        return fit(job, view.in_time(job, self._rooms(gone), lots.begins(self.ground)), view.exclusive_partitions)

    def _rooms(self, gone: Mapping[JobKey, Job]) -> list[Room]:
        """Nodes that borrowers have, or that may be opened to them."""
        view, ground = self.view, self.ground
        found = []
        for node in view.usable(ground.reservation.nodes - self.loans):
            is_kept = ground.spec.lend.keep_idle_nodes and node.name not in view.holders
            if is_kept or lots.closed(view, ground, node):
                continue
            room = view.room(node, gone)
            for share in self.taken.get(node.name, ()):
                room = room.minus(share)
            found.append(room)
        return found
