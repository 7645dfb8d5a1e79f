"""Whether a lend reservation draws borrowers in by itself (MAGNETIC), so that none need be attached. Pure.

Slurm then starts waiting borrowers on the lent nodes in its own order, also when one of them ends and the daemon does
not look. That is safe only where Slurm itself keeps every other job out, by AllowedPartitions or QOS (25.11 on), takes
the nodes back for the owner without us, and would choose as we do; so whatever of the site's policy Slurm cannot know
makes it attach as ever. Which nodes are lent, and to whose jobs the reservation is open, is decided as ever.
"""

from __future__ import annotations

from collections.abc import Mapping

from slurm_reserve.choice import Lending, Loan
from slurm_reserve.ground import Ground
from slurm_reserve.lots import begins
from slurm_reserve.model import Reservation
from slurm_reserve.net import net_missing
from slurm_reserve.site import BidBy, Magnetic, Mode
from slurm_reserve.site import Lending as LendingSettings
from slurm_reserve.view import View

FLAG = "MAGNETIC"


def reasons(view: View, grounds: Mapping[str, Ground]) -> dict[str, str]:
    """For each reservation why its lend reservation is not to draw borrowers in; "" where it is to."""
    everywhere = _policy(view) or _queue(view)
    return {name: everywhere or _place(view, ground) for name, ground in grounds.items()}


def admitted(lending: LendingSettings) -> tuple[frozenset[str], frozenset[str]]:
    """The partitions, or the QOS, that a lend reservation is open to; none where it is the one or the other.

    Slurm wants every list that a reservation has to hold; a borrower needs to be told by one of them only.
    """
    is_either = lending.partitions and lending.qos
    return (frozenset(), frozenset()) if is_either else (lending.partitions, lending.qos)


def admits_borrowers_only(lending: LendingSettings, lend: Reservation) -> bool:
    """Whether it is open to whom the site calls borrowers, and to nobody else."""
    wanted = admitted(lending)
    return any(wanted) and (lend.allowed_partitions, lend.allowed_qos) == wanted


def flags(draws: bool) -> frozenset[str]:
    """What a lend reservation that draws borrowers in has besides."""
    return frozenset({FLAG}) if draws else frozenset()


def why_shut(view: View, ground: Ground, lend: Reservation, lent: Lending, not_drawn: str) -> str:
    """Why a reservation that draws borrowers in is to draw no more of them; "" where it may go on, or does not."""
    if FLAG not in lend.flags:
        return ""
    if not admits_borrowers_only(view.site.lending, lend):
        return "it is open to others than borrowers"
    if ground.victims:
        return "borrowers are leaving"
    return lent.withheld.get(ground.spec.name, "") or not_drawn


def may_draw(view: View, loan: Loan) -> bool:
    """Whether this borrower is left to Slurm: not one that it has passed over, nor one that it never draws in.

    A job without a time limit would outlast any reservation: Slurm draws it into none.
    """
    if loan.job.time_limit is None or loan.job.reservation:
        return False
    sent = view.memory.attached.get(loan.job.key)
    return sent is None or not sent.is_drawn or view.cluster.at - sent.at <= view.grace


def is_offered(view: View, loan: Loan) -> bool:
    """Whether Slurm was left to draw it in a moment ago."""
    sent = view.memory.attached.get(loan.job.key)
    return sent is not None and sent.is_drawn


def _policy(view: View) -> str:
    """What the site wants that Slurm cannot know of."""
    lending = view.site.lending
    if lending.magnetic is Magnetic.NO or view.site.mode is not Mode.ACTIVE:
        return "the site does not want it"
    if not all(each.can_name_partitions for each in view.cluster.reservations.values()):
        return "this release of Slurm has no AllowedPartitions"
    if lending.partitions and lending.qos:
        return "borrowers are told by their partition or their QOS, and Slurm would want both"
    if lending.bid is not BidBy.NONE:
        return "borrowers bid, which Slurm does not know"
    if lending.max_nodes_per_user or lending.max_nodes_per_account:
        return "what one may be lent is limited"
    if lending.refuse:
        return "some borrowers are refused for what an eviction would cost them"
    return ""


def _queue(view: View) -> str:
    """Who waits that must not be drawn in."""
    for job in view.waiting_borrowers:
        if job.licenses:
            return f"job {job.id} holds licences"
        if job.het_job:
            return f"job {job.id} is heterogeneous"
    owners = view.from_owners(view.waiting_borrowers)
    if own := next((job for job in owners if view.owned_by(job)), None):
        return f"an owner's own borrower waits, which comes first: job {own.id}"
    return ""


def _place(view: View, ground: Ground) -> str:
    """What is so of this reservation alone."""
    spec = ground.spec
    if spec.lend.max_time is not None:
        return "its loans are limited in time"
    if spec.end is not None or spec.windows or spec.lend.windows:
        return "it, or its lending, ends"
    if begins(ground):
        return "something begins on its nodes"
    if why := net_missing(view, ground.reservation.nodes):
        return f"nothing but this daemon would take its nodes back: {why}"
    return ""
