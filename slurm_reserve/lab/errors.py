"""Why a lab could not be had, or could not do what it was asked."""

from __future__ import annotations

from slurm_reserve.errors import ReserveError


class LabError(ReserveError):
    """The lab cannot be booted, entered or found, or the cluster in it did not do what was expected in time."""
