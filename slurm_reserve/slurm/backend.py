"""Which adapter a site gets: `slurm.backend`."""

from __future__ import annotations

from slurm_reserve.site import Backend, SlurmSettings
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.port import SlurmUnavailableError
from slurm_reserve.slurm.pyslurm import PyslurmSlurm, is_installed

REMEDY = "pip install slurm-reserve[pyslurm]"


def adapter(settings: SlurmSettings) -> CliSlurm:
    """The adapter; raises SlurmUnavailableError when pyslurm is asked for and is not installed."""
    if settings.backend is Backend.CLI:
        return CliSlurm(settings)
    if is_installed():
        return PyslurmSlurm(settings, or_else=settings.backend is Backend.AUTO)
    if settings.backend is Backend.PYSLURM:
        raise SlurmUnavailableError(
            "slurm.backend is pyslurm, which is not installed: pip install slurm-reserve[pyslurm]"
        )
    return CliSlurm(settings)
