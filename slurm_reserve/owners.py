"""Who owns a reservation, and what owners may order by themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slurm_reserve.site import OwnerMay, ReservationSpec, Site
from slurm_reserve.words import printable


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the system knows them."""

    user: str
    groups: frozenset[str] = frozenset()


def is_owner(spec: ReservationSpec, asker: Asker, members: Mapping[str, frozenset[str]]) -> bool:
    """Whether every list that is declared has them; `members` are the users of each account."""
    owner = spec.owner
    return (
        bool(owner.users or owner.accounts or owner.groups)
        and (not owner.users or asker.user in owner.users)
        and (not owner.groups or bool(asker.groups & owner.groups))
        and (not owner.accounts or any(asker.user in members.get(name, ()) for name in owner.accounts))
    )


def refusal(site: Site, asker: Asker, members: Mapping[str, frozenset[str]], request: Mapping[str, Any]) -> str:
    """Why somebody who is no admin may not have what they ask for; "" when they may."""
    what, name, user = str(request.get("do", ""))[:40], request.get("reservation"), printable(asker.user, 40)
    if what not in ("status", *OwnerMay):
        return f"{user} may not order {printable(what)!r}; that takes root or the daemon's own user"
    if what == "status" and name is None:
        return ""
    spec = site.reservation(name) if isinstance(name, str) else None
    if spec is None or not is_owner(spec, asker, members):
        return f"{user} is no owner of a reservation {printable(str(name), 80)}; its owners and admins may do that"
    if what != "status" and what not in spec.owner_may:
        return f"the site does not let owners of {spec.name} order {what!r} (owner_may); ask an admin"
    return ""
