"""What an owner is shown of a reservation: its nodes and jobs, without anybody else's name."""

from __future__ import annotations

import json

from slurm_reserve import plan, standing

from tests.builders import cluster, job, nodes, reservation, site, spec, view


def test_an_owner_sees_nodes_loans_and_her_waiting_jobs_but_no_names() -> None:
    seen = cluster(
        nodes("n1", "n2", "n3"),
        reservation("physics", "n1", "n2"),
        reservation("physics.lend", "n1"),
        job("7").borrower().on("n1").in_("physics.lend"),
        job("8").of("alice").on("n2"),
        job("9").of("alice").whole_nodes(2).in_("physics"),
    )
    looked = view(site(), seen)
    told = standing.for_owner(looked, plan.make(looked), spec())
    assert told["nodes"] == {"n1": {"state": "lent", "jobs": ["7"]}, "n2": {"state": "owner", "jobs": ["8"]}}
    assert [each["job"] for each in told["waiting"]] == ["9"]
    assert told["lending"] == "on"
    assert told["longest_wait_seconds"] > 0
    assert "bob" not in json.dumps(told)


def test_what_is_not_there_yet_says_why() -> None:
    looked = view(site(spec("physics", "n9")), cluster(nodes("n1")))
    assert "n9" in standing.for_owner(looked, plan.make(looked), spec("physics", "n9"))["unmet"]
