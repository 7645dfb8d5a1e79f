"""How many loans one cycle makes, and what the others are told."""

from __future__ import annotations

import pytest
from slurm_reserve import choice, plan
from slurm_reserve.actions import AttachJob

from tests.builders import cluster, job, nodes, reservation, site, view


def test_who_comes_after_the_last_loan_of_a_cycle_is_told_that_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MOST_LOANS_PER_CYCLE", 1)
    waiting = [job(number).borrower().whole_nodes(1) for number in ("5", "6", "7")]
    array = job("8").borrower().whole_nodes(1).but(array_tasks=(1, 2))
    seen = cluster(nodes("n1", "n2"), reservation("physics", "n1", "n2"), *waiting, array)
    made = plan.make(view(site(), seen))
    assert [action.job.id for action in made.actions if isinstance(action, AttachJob)] == ["5"]
    assert {job_id for job_id, why in made.not_lent.items() if why == choice.ITS_TURN_COMES} == {"6", "7", "8_1"}
