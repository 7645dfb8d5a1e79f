"""A lab whose slurmctld has the shipped plugins, set to ring where the stage's daemon listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurm_reserve.lab import Lab
from slurm_reserve.lab.spec import DIRECTORY

SHIPPED = Path(__file__).parents[2] / "plugins"
USUAL, HERE = "/run/slurm-reserve/wake", f"{DIRECTORY}/reserve/run/wake"
EPILOG = f"{DIRECTORY}/etc/slurm-reserve-wake"


def _read(name: str) -> str:
    text = (SHIPPED / name).read_text(encoding="utf-8")
    assert USUAL in text
    return text.replace(USUAL, HERE)


def with_guard(*lines: str, **files: str) -> dict[str, Any]:
    """For a LabSpec: the job_submit plugin, further lines of slurm.conf and further files beside it."""
    return {
        "slurm_conf": ("JobSubmitPlugins=lua", *lines),
        "conf_files": {"job_submit.lua": _read("job_submit/job_submit.lua"), **files},
    }


def hang_bell(lab: Lab) -> None:
    """The epilog that rings. It is there before slurm.conf names it: newer slurmctld do not start without it."""
    lab.put(EPILOG, _read("epilogslurmctld/slurm-reserve-wake"))
    lab.run(["chmod", "755", EPILOG])
    lab.reconfigure([f"EpilogSlurmctld={EPILOG}"])
    lab.stop("slurmctld")  # it looks at its start whether its epilog is there
    lab.start("slurmctld")
