"""Decisions and actions as sentences, the same in the log, the journal and the CLI. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from slurm_reserve.actions import (
    Action,
    AttachJob,
    CreateReservation,
    DeleteReservation,
    DetachJob,
    EndWait,
    EvictJob,
    ExpireJob,
    HoldJob,
    LetStay,
    NoteJob,
    NotifyJob,
    RequeueJob,
    RestoreJob,
    UpdateReservation,
)
from slurm_reserve.model import Job, JobKey
from slurm_reserve.site import LEND_SUFFIX

_MOST_NAMES = 8
_NOTE = re.compile(r" ?\[slurm_reserve: [^\]]*\]")
_MOST_COMMENT = 4096  # characters of a comment that we would send back to slurmctld


def nodes(names: Iterable[str]) -> str:
    """Node names for a sentence, few of them."""
    listed = sorted(names)
    more = len(listed) - _MOST_NAMES
    return ",".join(listed[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def who(key: JobKey, jobs: Mapping[JobKey, Job]) -> str:
    """A job with its user, who is found under the array's id while a task is still part of it."""
    job = jobs.get(key) or jobs.get(key._replace(id=key.id.split("_")[0]))
    return f"job {key.id} of {job.user}" if job else f"job {key.id}"


def describe(action: Action, jobs: Mapping[JobKey, Job]) -> str:
    """What an action does, without its reason."""
    match action:
        case CreateReservation():
            begin = f", from {action.start:%Y-%m-%d %H:%M}" if action.start else ""
            return f"reserve {nodes(action.nodes)} as {action.name}{begin}"
        case UpdateReservation():
            return f"change {action.name}: {_changes(action)}"
        case DeleteReservation():
            return f"delete reservation {action.name}"
        case AttachJob() if action.reservation.endswith(LEND_SUFFIX):
            how = ", whom Slurm draws in" if action.is_drawn else ""
            return f"lend {action.reservation.removesuffix(LEND_SUFFIX)} to {who(action.job, jobs)}{how}"
        case AttachJob():
            return f"send {who(action.job, jobs)} to {action.reservation}"
        case DetachJob():
            return f"take {who(action.job, jobs)} off {action.reservation}"
        case NotifyJob():
            told = f"{action.deadline:%H:%M:%S}"
            return f"signal {who(action.job, jobs)} on {nodes(action.nodes)} with {action.signal}, to go by {told}"
        case EvictJob():
            how = "requeue" if action.requeue else "cancel"
            return f"{how} {who(action.job, jobs)} on {nodes(action.nodes)}"
        case RequeueJob():
            return f"requeue the owner's {who(action.job, jobs)} on {nodes(action.nodes)}"
        case ExpireJob():
            return f"end {who(action.job, jobs)} for good"
        case _:
            return _afterwards(action, jobs)


def _afterwards(action: LetStay | HoldJob | NoteJob | RestoreJob | EndWait, jobs: Mapping[JobKey, Job]) -> str:
    """What becomes of those that were told to go, or have gone."""
    match action:
        case LetStay():
            return f"tell {who(action.job, jobs)} to go on, with {action.signal}"
        case HoldJob():
            return f"hold {who(action.job, jobs)}"
        case RestoreJob():
            return f"put {who(action.job, jobs)}, which slurmctld lost, back into the queue"
        case NoteJob():
            return f"tell {who(action.job, jobs)} in its comment: {action.text}"
        case EndWait():
            at = f" from {action.at:%H:%M:%S}" if action.at else " now"
            return f"let {who(action.job, jobs)} run again{at}"


def _changes(action: UpdateReservation) -> str:
    parts = [
        f"nodes {nodes(action.nodes)}" if action.nodes is not None else "",
        f"start {action.start:%Y-%m-%d %H:%M}" if action.start else "",
        f"end {action.end:%Y-%m-%d %H:%M}" if action.end else "",
        f"add {','.join(sorted(action.add_flags))}" if action.add_flags else "",
        f"drop {','.join(sorted(action.drop_flags))}" if action.drop_flags else "",
        f"users {','.join(sorted(action.users))}" if action.users is not None else "",
        f"accounts {','.join(sorted(action.accounts))}" if action.accounts is not None else "",
        f"groups {','.join(sorted(action.groups))}" if action.groups is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def with_note(comment: str, text: str) -> str:
    """A job's comment with our note at its end, in place of an earlier one; what others wrote is kept.

    Raises ValueError where there is no room for it.
    """
    kept = _NOTE.sub("", comment)
    if len(kept) > _MOST_COMMENT:
        raise ValueError("the comment is too long already")
    inner = printable(text, 400).translate({ord("["): "(", ord("]"): ")"})
    return f"{kept} [slurm_reserve: {inner}]".lstrip()


def printable(text: str, most: int = 200) -> str:
    """Text from outside, safe for a terminal and a log line: no control characters, not endless."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"
