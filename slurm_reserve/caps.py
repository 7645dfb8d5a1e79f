"""How many nodes may be lent, of a reservation, to a user, to an account. Pure.

Nodes are counted while a borrower holds them, and from the plan on that lends them. What is lent to the owner's own
borrowers counts against the reservation alone: it is theirs anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from slurm_reserve.ground import Ground
from slurm_reserve.model import Job
from slurm_reserve.view import View


@dataclass(slots=True)
class Caps:
    """What is lent to whom, while a plan is made."""

    view: View
    _by_user: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _by_account: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @staticmethod
    def of(view: View, grounds: Iterable[Ground]) -> Caps:
        """What is lent now, leaving out what is on its way back."""
        caps = Caps(view)
        lending = view.site.lending
        is_asked = lending.max_nodes_per_user or lending.max_nodes_per_account
        for ground in grounds:
            if is_asked or ground.spec.lend.max_nodes:
                for key, job in ground.borrowers().items():
                    if key not in ground.victims:
                        caps.take(ground, job, job.nodes & ground.reservation.nodes)
        return caps

    def take(self, ground: Ground, job: Job, nodes: Iterable[str]) -> None:
        """These are lent to it."""
        nodes = frozenset(nodes)
        self._of[ground.spec.name] |= nodes
        if not self.view.is_from_owner(ground.spec, job):
            self._by_user[job.user] |= nodes
            self._by_account[job.account] |= nodes

    def why_not(self, ground: Ground, job: Job, nodes: frozenset[str]) -> str:
        """Which cap keeps these nodes from it; "" when none does."""
        spec, lending = ground.spec, self.view.site.lending
        if _is_over(self._of[spec.name], nodes, spec.lend.max_nodes):
            return f"{spec.name} lends {spec.lend.max_nodes} nodes at most"
        if self.view.is_from_owner(spec, job):
            return ""
        if _is_over(self._by_user[job.user], nodes, lending.max_nodes_per_user):
            return f"a user is lent {lending.max_nodes_per_user} nodes at most"
        if _is_over(self._by_account[job.account], nodes, lending.max_nodes_per_account):
            return f"an account is lent {lending.max_nodes_per_account} nodes at most"
        return ""


def _is_over(held: set[str], more: frozenset[str], most: int | None) -> bool:
    return most is not None and len(held | more) > most and bool(more - held)
