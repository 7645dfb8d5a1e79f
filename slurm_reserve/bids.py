"""What a borrower bids, from the field that the site has chosen, and in which order borrowers wait (B26). Pure.

A comment is its user's free text: whatever is not exactly one well-formed word of ours in it means nothing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from slurm_reserve.model import Job
from slurm_reserve.site import BidBy, Lending

NOTHING = Decimal(0)
_WORDS = re.compile(r"[\s;,]+")
_BID = re.compile(r"\d{1,6}(?:\.\d{1,6})?", re.ASCII)
_SPAN = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def bid(lending: Lending, job: Job) -> Decimal:
    """The bid for a node and hour, in whatever the site counts; nothing where none is made or asked for."""
    match lending.bid:
        case BidBy.NONE:
            return NOTHING
        case BidBy.QOS:
            found = lending.bids.get(job.qos, NOTHING)
        case BidBy.NICE:
            return Decimal(-job.nice)
        case BidBy.COMMENT:
            found = bid_in(job.comment)
    return min(found, lending.max_bid)


def by_bid(lending: Lending, job: Job) -> tuple[Decimal, bool, int, datetime, int, str]:
    """The order in which waiting borrowers have their turn: the higher bid, who was sent, Slurm's priority, age."""
    return (-bid(lending, job), not job.reservation, -job.priority, job.submitted, job.job_id, job.id)


@lru_cache(maxsize=4096)
def bid_in(comment: str) -> Decimal:
    """`bid=0.08` in a comment."""
    said = value(comment, "bid")
    return Decimal(said) if _BID.fullmatch(said) else NOTHING


@lru_cache(maxsize=4096)
def expires_in(comment: str) -> datetime | None:
    """`expires=2030-01-31T18:00+01:00` in a comment; the zone, or Z, must be given, for nobody knows the user's."""
    said = value(comment, "expires")
    try:
        found = datetime.fromisoformat(said) if said else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


@lru_cache(maxsize=4096)
def run_time_in(comment: str) -> timedelta | None:
    """`run_time=2h` in a comment: 90s, 30m, 2h or 3d."""
    found = _SPAN.fullmatch(value(comment, "run_time"))
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None


@lru_cache(maxsize=4096)
def saved_in(comment: str) -> datetime | None:
    """`saved=2030-01-31T18:00:00Z` in a comment: when the job last saved its work, by its own word."""
    said = value(comment, "saved")
    try:
        found = datetime.fromisoformat(said) if said else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def value(comment: str, key: str) -> str:
    """What stands behind `key=` in a comment; "" where it stands there twice, or not at all."""
    if f"{key}=" not in comment:
        return ""
    found = [word[len(key) + 1 :] for word in _WORDS.split(comment) if word.startswith(f"{key}=")]
    return found[0] if len(found) == 1 else ""
