"""Changes that somebody made by hand to a reservation of ours: put right once, then reported, not fought. Pure.

The daemon cannot know why an admin changes what is declared. Once may be a slip; twice is meant, and then the site file
is where it belongs. What slurmctld itself forgot in a crash is no edit, nor is what the site file newly says.
"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

from slurm_reserve import hostlist
from slurm_reserve.actions import Correction, UpdateReservation
from slurm_reserve.site import ReservationSpec
from slurm_reserve.view import View

# An edit after so long is a new one, and put right again.
FORGOTTEN_AFTER = timedelta(days=7)
_ASPECTS = {
    "nodes": ("nodes",),
    "times": ("start", "end"),
    "flags": ("add_flags", "drop_flags"),
    "owner": ("users", "accounts", "groups"),
}
_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(UpdateReservation)}


def correction(view: View, name: str, aspect: str, wanted: str, is_edit: bool = True) -> Correction | None:
    """What to note when this is put right; None when it was put right before and must be left.

    `is_edit` says whether a difference never noted before comes from somebody's hand.
    """
    before = view.memory.corrected.get(f"{name} {aspect}")
    if before is None:
        return Correction(aspect, wanted, int(is_edit))
    if before.wanted != wanted:
        return Correction(aspect, wanted, 0)
    booted = view.cluster.config.booted
    if booted is not None and booted > before.at:
        return Correction(aspect, wanted, before.count)
    if view.cluster.at - before.at > FORGOTTEN_AFTER:
        return Correction(aspect, wanted, 1)
    return Correction(aspect, wanted, 1) if before.count == 0 else None


def settle(view: View, spec: ReservationSpec, change: UpdateReservation) -> tuple[UpdateReservation, dict[str, str]]:
    """The change without what is left as somebody made it; and, for each such aspect, what to report."""
    noted, left = [], {}
    for aspect, names in _ASPECTS.items():
        if all(getattr(change, name) == _DEFAULTS[name] for name in names):
            continue
        found = correction(view, spec.name, aspect, _wanted(spec, change, aspect))
        if found is None:
            change = replace(change, **{name: _DEFAULTS[name] for name in names})
            left[aspect] = f"changed by hand again, and left so: {remedy(spec.name)}"
        else:
            noted.append(found)
    return replace(change, corrections=tuple(noted)), left


def remedy(name: str) -> str:
    """What an admin can do about an edit that stays."""
    return f"change what is declared, or `slurm-reserve restore {name}`"


def _wanted(spec: ReservationSpec, change: UpdateReservation, aspect: str) -> str:
    match aspect:
        case "nodes":
            return hostlist.fold(spec.nodes if isinstance(spec.nodes, frozenset) else change.nodes or frozenset())
        case "times":
            times = (change.start, change.end) if spec.windows else (spec.start, spec.end)  # each window has its own
            return f"{times[0]} {times[1]}"
        case "flags":
            return str(spec.find)
        case _:
            return " ".join(
                ",".join(sorted(names)) for names in (spec.owner.users, spec.owner.accounts, spec.owner.groups)
            )
