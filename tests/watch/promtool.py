"""promtool, Prometheus's own checker (Debian: prometheus), where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROMTOOL = shutil.which("promtool")
needed = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus has it)")


def promtool(*words: str | Path, told: str = "") -> str:
    """What it says; it must be content."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *words], input=told, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
