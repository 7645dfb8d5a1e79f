"""What keeps a daemon from acting is said once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from slurm_reserve.ledger import Ledger
from slurm_reserve.rounds import Rounds
from slurm_reserve.slurm.port import SlurmError, SlurmUnavailableError, SlurmUnreadableError

from tests.builders import site

NOW = datetime(2030, 5, 6, 12, tzinfo=UTC)


class Failing:
    """A Slurm that cannot be read, each time for the next of some reasons; and a log."""

    requests = 0
    is_writable = True

    def __init__(self, *reasons: SlurmError) -> None:
        self.calls: Counter[str] = Counter()
        self.reasons = iter(reasons)
        self.said: list[str] = []

    def observe(self, *_: object, **__: object) -> None:
        raise next(self.reasons)

    def info(self, event: str, **values: object) -> None:
        self.said.append(f"{event}: {values.get('cause', '')}")

    error = info


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.db")
    yield made
    made.close()


def test_what_is_wrong_is_said_once_whichever_command_met_it_first(ledger: Ledger) -> None:
    late = "no answer within 10 s"
    failing = Failing(
        SlurmUnavailableError(f"squeue -h: {late}"), SlurmUnavailableError(f"scontrol show node: {late}"),
        SlurmUnreadableError("squeue -h: half a line"),
    )  # fmt: skip
    rounds = Rounds(site(), failing, ledger, failing, lambda: NOW, failing)  # type: ignore[arg-type]  # it cannot be read
    for _ in range(3):
        rounds.hurry()
        rounds.step()
    assert [each.partition(": ")[2] for each in failing.said if "no action" in each] == [
        "SlurmUnavailableError: squeue -h: no answer within 10 s",
        "SlurmUnreadableError: squeue -h: half a line",
    ]
