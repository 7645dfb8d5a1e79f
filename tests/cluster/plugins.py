"""A lab whose slurmctld has the shipped plugins, set to ring where the stage's daemon listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurm_reserve.lab import Lab
from slurm_reserve.lab.spec import DIRECTORY

SHIPPED = Path(__file__).parents[2] / "plugins"
USUAL, HERE = "/run/slurm-reserve/wake", f"{DIRECTORY}/reserve/run/wake"
BELL, EPILOG = f"{DIRECTORY}/etc/slurm-reserve-wake", f"{DIRECTORY}/etc/slurm-reserve-epilog"
PRIVATE, REPORT = f"{DIRECTORY}/tmp/private-%j", f"{DIRECTORY}/log/left.jsonl"


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
    """What rings at starts and ends. It is there before slurm.conf names it: newer slurmctld ask for that."""
    lab.put(BELL, _read("slurmctld/slurm-reserve-wake"), 0o755)
    lab.reconfigure([f"PrologSlurmctld={BELL}", f"EpilogSlurmctld={BELL}"])
    lab.stop("slurmctld")  # it looks at its start whether its epilog is there
    lab.start("slurmctld")


def put_epilog(lab: Lab, **words: str) -> None:
    """slurmd's epilog, with the settings that are shipped, and these."""
    text = (SHIPPED / "epilog/slurm-reserve-epilog").read_text(encoding="utf-8")
    folder, shebang = f"{DIRECTORY}/etc", text.splitlines()[0]
    text = text.replace(shebang, f"#!{lab.python} -IS", 1).replace(
        "/etc/slurm-reserve/epilog.conf", f"{folder}/epilog.conf"
    )
    settings = (SHIPPED.parent / "configs/epilog.conf").read_text(encoding="utf-8")
    words = {"private": PRIVATE, "report": REPORT, **words}
    lab.put(f"{folder}/epilog.conf", settings + "".join(f"{word} = {value}\n" for word, value in words.items()))
    lab.put(EPILOG, text, 0o755)
    lab.reconfigure([f"Epilog={EPILOG}"])
