"""Which adapter a site gets: `slurm.backend`."""

from __future__ import annotations

from slurm_reserve.site import Backend, SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.port import SlurmUnavailableError
from slurm_reserve.slurm.pyslurm import PyslurmSlurm, is_installed

REMEDY = "pip install slurm-reserve[pyslurm]"


def adapter(settings: SlurmSettings) -> CliSlurm:
    """The adapter; raises SlurmUnavailableError when pyslurm is asked for and is not installed."""
    if settings.backend is not Backend.PYSLURM:
        return CliSlurm(settings)
    if not is_installed():
        raise SlurmUnavailableError(f"slurm.backend is pyslurm, which is not installed: {REMEDY}")
    return PyslurmSlurm(settings)
