"""What the daemon answers at its door: orders of admins, of owners as far as the site lets them, owners' status."""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slurm_reserve import control, owners, standing
from slurm_reserve.control import OrderError
from slurm_reserve.errors import ReserveError
from slurm_reserve.owners import Asker
from slurm_reserve.rounds import Rounds
from slurm_reserve.view import View

KEEP_MEMBERS = 60.0  # seconds; so the accounts are asked for once a minute, however often somebody knocks
Members = Mapping[str, frozenset[str]]


def _nobody(_: frozenset[str]) -> Members:
    return {}


@dataclass(slots=True)
class Desk:
    """Decides about each request by who asks."""

    rounds: Rounds
    read_members: Callable[[frozenset[str]], Members] = _nobody  # accounts -> their users; raises ReserveError
    _members: Members = field(default_factory=dict)
    _asked: float = float("-inf")

    def decide(self, uid: int, request: dict[str, Any]) -> dict[str, Any]:
        """Answer, or raise OrderError with the reason."""
        if uid in (0, os.geteuid()):
            if request == {"do": "health"}:
                return {"text": "", "problems": self.rounds.recorder.problems}
            self._refuse_unknown(request)
            return {"text": control.apply(self.rounds.ledger, request, self.rounds.clock())}
        asker, site = _asker(uid), self.rounds.site
        members = self._of_accounts()
        if why := owners.refusal(site, asker, members, request):
            raise OrderError(why)
        if request["do"] == "status":
            return self._status(asker, members, request.get("reservation"))
        by = {"by": asker.user} if request["do"] == "reclaim" else {}
        self._refuse_unknown(request)
        said = control.apply(self.rounds.ledger, request | by, self.rounds.clock(), is_owner=True)
        self.rounds.log.info(f"{asker.user}, an owner: {said}")
        return {"text": said}

    def _refuse_unknown(self, request: dict[str, Any]) -> None:
        """Raise OrderError where nodes are ordered back that the reservation does not have."""
        match request:
            case {"do": "reclaim", "reservation": str(name), "nodes": list(nodes)}:
                if (spec := self.rounds.site.reservation(name)) is not None:
                    there = self.rounds.told[0].reservations.get(name) if self.rounds.told is not None else None
                    control.refuse_unknown(name, nodes, control.nodes_of(spec, there))

    def _status(self, asker: Asker, members: Members, name: str | None) -> dict[str, Any]:
        told, site = self.rounds.told, self.rounds.site
        mine = [s for s in site.reservations if name in (None, s.name) and owners.is_owner(s, asker, members)]
        if not mine:
            raise OrderError(f"{asker.user} owns no reservation")
        if told is None:
            raise OrderError("the daemon has not seen the cluster yet; try again in a few seconds")
        cluster, plan = told
        view = View(site, cluster, self.rounds.ledger.memory())
        return {"text": "", "reservations": {spec.name: standing.for_owner(view, plan, spec) for spec in mine}}

    def _of_accounts(self) -> Members:
        """The users of the accounts that own something; the last that were known, where they cannot be read."""
        wanted = frozenset().union(*(spec.owner.accounts for spec in self.rounds.site.reservations))
        if wanted and time.monotonic() - self._asked > KEEP_MEMBERS:
            self._asked = time.monotonic()
            try:
                self._members = self.read_members(wanted)
            except ReserveError as error:
                self.rounds.log.error("the users of owning accounts are not known", cause=str(error))
        return self._members


def _asker(uid: int) -> Asker:
    try:
        user = pwd.getpwuid(uid)
    except KeyError as error:
        raise OrderError(f"user id {uid} is not known on this host") from error
    names = set()
    for gid in os.getgrouplist(user.pw_name, user.pw_gid):
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue  # a group without a name owns nothing
    return Asker(user.pw_name, frozenset(names))
