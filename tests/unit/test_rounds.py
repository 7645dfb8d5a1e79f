"""What keeps a daemon from acting is said once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import pytest
from slurm_reserve import wake
from slurm_reserve.ledger import Ledger
from slurm_reserve.rounds import Rounds
from slurm_reserve.site import Owner
from slurm_reserve.slurm.port import SlurmUnavailableError, SlurmUnreadableError

from tests.builders import cluster, nodes, site, spec

NOW = datetime(2030, 5, 6, 12, tzinfo=UTC)


class Failing:
    """A Slurm that cannot be read, each time for the next of some reasons; and a log."""

    requests = 0
    is_writable = True
    outcomes: ClassVar[dict[tuple[str, str], int]] = {}

    def __init__(self, *reasons: Exception) -> None:
        self.calls: Counter[str] = Counter()
        self.reasons = iter(reasons)
        self.said: list[str] = []
        self.asked: list[list[str]] = []

    def observe(self, *_: object, **__: object) -> None:
        raise next(self.reasons)

    def read_submission(self, users: Sequence[str], names: Sequence[str]) -> None:
        self.asked.append(list(users))
        raise ValueError("cannot be given to Slurm")

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


def test_what_was_measured_before_a_failure_is_not_gone_by_after_it(ledger: Ledger) -> None:
    failing = Failing(SlurmUnavailableError("squeue -h: late"))
    rounds = Rounds(site(), failing, ledger, failing, lambda: NOW, failing)  # type: ignore[arg-type]  # it cannot be read
    now = time.monotonic()
    rounds._pace.measured(1.0, now)
    assert not rounds._pace.is_to_measure(now)
    rounds.step()
    assert rounds._pace.is_to_measure(now)


def test_a_name_that_no_command_can_carry_ends_no_daemon(ledger: Ledger) -> None:
    failing = Failing(ValueError("cannot be given to Slurm"), SlurmUnavailableError("squeue -h: late"))
    rounds = Rounds(site(), failing, ledger, failing, lambda: NOW, failing)  # type: ignore[arg-type]  # it cannot be read
    rounds.step()
    assert [each for each in failing.said if "no action" in each] == [
        "no action is taken: ValueError: cannot be given to Slurm"
    ]
    rounds.seen, rounds._next = cluster(nodes("n1")), time.monotonic() + 3600
    rounds._looks.add(frozenset({"alice"}), 0.0)
    rounds.step()
    assert failing.asked == [["alice"]]
    assert rounds.due < time.monotonic() + 60  # a whole look, instead


def test_a_user_whom_no_command_can_name_is_looked_for_by_a_whole_cycle(ledger: Ledger) -> None:
    """Where an account owns, anybody may be an owner."""
    failing = Failing()
    of_site = site(spec(owner=Owner(accounts=frozenset({"physics"}))))
    rounds = Rounds(of_site, failing, ledger, failing, lambda: NOW, failing)  # type: ignore[arg-type]  # it cannot be read
    rounds.seen, rounds._next = cluster(nodes("n1")), time.monotonic() + 3600
    rounds.rung(wake.Wake(frozenset({r"CORP\alice"})))
    assert rounds._looks.next_at() is None
    assert rounds.due < time.monotonic() + 60
    rounds.rung(wake.Wake(frozenset({"alice"})))
    assert rounds._looks.next_at() is not None
