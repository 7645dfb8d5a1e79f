"""What real Slurm printed (see `record.py`), one folder a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slurm_reserve.model import Job
from slurm_reserve.slurm.jobs import parse_jobs
from slurm_reserve.slurm.shapes import Terms

from tests.slurm.record import END, FOLDER, REQUESTS

RELEASES = sorted(folder.name for folder in FOLDER.iterdir())
OLDEST = "22.05.8"  # prints some things as no later one does
present = OLDEST  # the release that is asked where none is named; the fixture `release` sets it


def recorded(name: str, release: str = "") -> str:
    """One answer, byte for byte: `recorded("jobs.running")`."""
    return (FOLDER / (release or present) / f"{name}.txt").read_bytes().decode()


def releases_with(name: str) -> list[str]:
    """The releases on which that answer was recorded: `releases_with("nodes.power")`."""
    return [release for release in RELEASES if (FOLDER / release / f"{name}.txt").exists()]


def named(kind: str) -> list[Path]:
    """The recordings of a kind, whatever the scene and the release: `named("nodes")`."""
    return sorted(FOLDER.glob(f"*/{kind}.*.txt"))


def failures(release: str = "") -> dict[str, dict[str, Any]]:
    """How commands failed: name -> command, status, printed, errors."""
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / (release or present) / "failures.json").read_text())
    return found


def jobs(scene: str, terms: Terms = Terms(), kind: str = "jobs") -> dict[str, Job]:  # noqa: B008 -- frozen
    """The jobs of a scene by their ids."""
    found = parse_jobs([recorded(f"{kind}.{scene}")], END, terms)
    assert len({job.id for job in found}) == len(found)
    return {job.id: job for job in found}


def requested(*options: str, terms: Terms = Terms()) -> Job:  # noqa: B008 -- frozen
    """The held job that was submitted with these options."""
    found = sorted(jobs("requests", terms).values(), key=lambda job: job.job_id)
    return found[REQUESTS.index(options)]
