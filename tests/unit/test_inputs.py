"""What a decision rests on is written down small, and gives the same decision again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from slurm_reserve import codec, inputs, plan
from slurm_reserve.inputs import MOST_BYTES, Inputs, InputsError
from slurm_reserve.memory import Evicted, Memory, Tally
from slurm_reserve.model import Cluster
from slurm_reserve.view import View

from tests.builders import NOW, cluster, job, nodes, reservation, site, spec, view


def example() -> View:
    of_site = site(spec("physics", "n1", "n2", notice=timedelta(seconds=3)), spec("chemistry", "n3"))
    parts = (
        reservation("physics", "n1", "n2"),
        reservation("physics.lend", "n1", "n2"),
        reservation("chemistry", "n3"),
        job("7").borrower().whole_nodes(1).on("n1").in_("physics.lend"),
        job("8").borrower().whole_nodes(1).on("n2").in_("physics.lend"),
        job("9").of("alice").whole_nodes(1).in_("physics"),
        job("90").of("carol").whole_nodes(1).on("n4"),
    )
    return view(of_site, cluster(nodes("n1", "n2", "n3", "n4"), *parts))


def test_everything_that_is_written_down_is_read_back_as_it_was() -> None:
    seen = example()
    key = seen.cluster.jobs[0].key
    memory = replace(
        seen.memory, evicted={key: Evicted(NOW, "job 9 of alice", "physics")}, tallies={"7": Tally("bob", since=NOW)},
        spells={"physics": (1, 2, 3)}, eviction_times=(NOW, NOW),
    )  # fmt: skip
    whole = Inputs(seen.site, seen.cluster, memory, frozenset({"physics"}))
    assert codec.decode(Inputs, json.loads(json.dumps(codec.encode(whole)))) == whole


def test_the_same_follows_from_the_part_that_is_kept() -> None:
    seen = example()
    made = plan.make(seen)
    assert made.actions
    packed, is_kept = inputs.of(seen, made)
    assert is_kept
    part = inputs.unpack(packed)
    assert part.answer() == inputs.answer(made)
    assert {each.id for each in part.cluster.jobs} >= {"7", "8", "9"}


def test_a_part_that_misleads_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller part that leaves out a borrower would give another answer: a wider one is kept."""
    seen = example()
    made = plan.make(seen)
    blind = replace(seen.cluster, jobs=())
    honest = inputs._parts

    def parts(v: View, m: plan.Plan) -> object:
        yield v.site, blind, v.memory
        yield from honest(v, m)

    monkeypatch.setattr(inputs, "_parts", parts)
    packed, is_kept = inputs.of(seen, made)
    assert is_kept
    assert inputs.unpack(packed).cluster.jobs


def test_inputs_of_a_large_cluster_are_small() -> None:
    names = [f"n{number}" for number in range(1, 2001)]
    borrowers = [job(str(100 + i)).borrower().whole_nodes(1).on(names[i]).in_("physics.lend") for i in range(20)]
    crowd = [job(str(10_000 + i)).of(f"u{i % 50}") for i in range(3_000)]
    mine = names[:20]
    seen: Cluster = cluster(
        nodes(*names), reservation("physics", *mine), reservation("physics.lend", *mine), *borrowers,
        job("9").of("alice").whole_nodes(3).in_("physics"), *crowd,
    )  # fmt: skip
    of_site = site(spec("physics", *mine))
    made = plan.make(view(of_site, seen))
    packed, is_kept = inputs.of(view(of_site, seen), made)
    assert is_kept
    assert len(packed) < MOST_BYTES // 8
    assert len(inputs.unpack(packed).cluster.jobs) < 100


def test_what_cannot_be_kept_is_not_kept_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_BYTES", 10)
    seen = example()
    assert inputs.of(seen, plan.make(seen)) == (b"", False)


@pytest.mark.parametrize("packed", [b"", b"nonsense", inputs.pack({"site": 3}), inputs.pack([1])])
def test_what_cannot_be_read_is_said_to_be_so(packed: bytes) -> None:
    with pytest.raises(InputsError):
        inputs.unpack(packed)


def test_memory_alone() -> None:
    assert codec.decode(Memory, codec.encode(Memory())) == Memory()
    assert codec.encode(Memory()) == {}
