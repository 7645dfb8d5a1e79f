"""The parsers are tried on what every release printed."""

from __future__ import annotations

import pytest

from tests.slurm import recordings


@pytest.fixture(params=recordings.RELEASES)
def release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each release in turn: what a test asks of the recordings is that one's."""
    which: str = request.param
    monkeypatch.setattr(recordings, "present", which)
    return which
