"""What is not known for sure after a while in which nobody looked: no daemon ran, or slurmctld did not answer. Pure.

A node that was idle before may have had a job of its owner's meanwhile, so it counts as idle from now on: it is held
down anew (B34), and no idle time is learnt that may not have been one. A run that ended unseen is counted until it was
last seen (B30), unless Slurm says when it ended: in doubt a borrower may run longer, not less.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from slurm_reserve.memory import Memory

NOTED_EVERY = timedelta(minutes=1)  # how often it is noted that the cluster was looked at
LONGEST = timedelta(minutes=3)  # between two looks; the pace slows down to less


def is_to_note(memory: Memory, at: datetime) -> bool:
    """Whether this look is to be noted, so that a later one knows of it."""
    return memory.looked is None or not timedelta(0) <= at - memory.looked < NOTED_EVERY


def after(memory: Memory, at: datetime, poll: timedelta) -> Memory:
    """What is still known at this look."""
    if memory.looked is None or at - memory.looked <= LONGEST + 3 * poll:
        return memory
    return replace(memory, idle_since={}, unseen_since=memory.looked)
