"""Parts that are measured side by side, each by a process of its own in a lab of its own: they mostly wait."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

Share = tuple[str, int]  # a part, and its rounds


def shares(part: str, rounds: int, labs: int) -> list[Share]:
    """The rounds of a part, shared out among labs."""
    each, more = divmod(rounds, labs)
    return [(part, each + (number < more)) for number in range(labs) if each + (number < more)]


def side_by_side(wanted: Sequence[Share], options: Sequence[str]) -> list[tuple[str, Any]]:
    """What was found by each, in the order asked for. Raises CalledProcessError when one fails; then all are ended."""
    with ExitStack() as running:
        children = [running.enter_context(Child(part, rounds, options)) for part, rounds in wanted]
        return [(child.part, child.found()) for child in children]


class Child:
    """A part that is measured by a process of its own, which does not outlive the block."""

    def __init__(self, part: str, rounds: int, options: Sequence[str]) -> None:
        self.part, self._folder = part, tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / "found.json"
        argv = [sys.executable, "-m", "bench", part, "--labs=1", f"--rounds={rounds}", f"--json={self._file}", *options]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)

    def __enter__(self) -> Child:
        return self

    def found(self) -> Any:
        """Wait for it; raises CalledProcessError when it failed."""
        if status := self._process.wait():
            raise subprocess.CalledProcessError(status, self._process.args)
        return json.loads(self._file.read_text(encoding="utf-8"))[self.part]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()
