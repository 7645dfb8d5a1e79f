"""Crash before any change of any plan and start again: it comes to the end that it would have come to (invariant 8)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slurm_reserve.model import Job
from slurm_reserve.site import Owner, ReservationSpec

from tests.builders import JobBuilder, job, nodes, site, spec
from tests.cycle.test_cycle import Mortal, Rig

NODES = ("n1", "n2", "n3", "n4")
OWNERS = ("alice", "erin")
STILL, MOST_CYCLES = 18, 200  # an eviction that did not show is issued again after 15 s


@dataclass(frozen=True)
class Story:
    """A small cluster, and what happens on it."""

    specs: tuple[ReservationSpec, ...]
    borrowers: tuple[JobBuilder, ...]
    owners: tuple[JobBuilder, ...]
    done: tuple[int, ...]  # owners' jobs that end before the story does


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """One reservation or two, borrowers of one node or two, owners that want them back and may be done with them."""
    notice = timedelta(seconds=draw(st.sampled_from([0, 3])))
    cut = draw(st.integers(1, 4))
    shares = [NODES[:cut], NODES[cut:]] if draw(st.booleans()) else [NODES[:cut]]
    specs = tuple(
        spec(f"r{number}", *share, owner=Owner(users=frozenset({OWNERS[number]})), notice=notice)
        for number, share in enumerate(shares)
        if share
    )
    sizes = draw(st.lists(st.integers(1, 2), min_size=1, max_size=5))
    borrowers = [job(str(10 + number)).of("bob").borrower().whole_nodes(size) for number, size in enumerate(sizes)]
    wanted = draw(st.lists(st.tuples(st.integers(1, 2), st.booleans(), st.integers(0, len(specs) - 1)), max_size=3))
    owners = []
    for number, (size, names_it, whose) in enumerate(wanted):
        made = job(str(50 + number)).of(OWNERS[whose]).whole_nodes(size)
        owners.append(made.in_(specs[whose].name) if names_it else made)
    done = draw(st.sets(st.integers(0, len(owners) - 1))) if owners else set()
    return Story(specs, tuple(borrowers), tuple(owners), tuple(sorted(done)))


@dataclass(frozen=True)
class End:
    """What the story has come to."""

    jobs: dict[str, Job]
    reservations: dict[str, frozenset[str]]
    restarts: dict[str, int]


def play(story: Story, deaths: tuple[int | None, ...]) -> End:
    """To the end, dying before so many changes of each of its three parts."""
    slurm = Mortal(nodes(*NODES))
    busy = frozenset(NODES) - frozenset().union(
        *(each.nodes for each in story.specs if isinstance(each.nodes, frozenset))
    )
    if busy:
        slurm.jobs["1"] = job("1").of("carol").whole_nodes(len(busy)).on(*busy).job
    with TemporaryDirectory() as folder:
        rig = Rig(Path(folder), site(*story.specs), slurm)
        rig.go_on(2)
        parts = [
            lambda: [slurm.submit(each) for each in story.borrowers],
            lambda: [slurm.submit(each) for each in story.owners],
            lambda: [slurm.finish(story.owners[number].job.id) for number in story.done if _runs(slurm, story, number)],
        ]
        for part, death in zip(parts, deaths, strict=True):
            part()
            slurm.lives = death
            _settle(rig)
            slurm.lives = None
        rig.ledger.close()
    found = dict(slurm.jobs)
    return End(
        found, {name: r.nodes for name, r in slurm.reservations.items()}, {k: j.restarts for k, j in found.items()}
    )


def _runs(slurm: Mortal, story: Story, number: int) -> bool:
    return slurm.jobs[story.owners[number].job.id].state == "RUNNING"


def _settle(rig: Rig) -> None:
    """Until nothing more has been done for so long that nothing is waited for any more."""
    still = 0
    for _ in range(MOST_CYCLES):
        before = len(rig.slurm.calls)
        rig.go_on(1)
        still = still + 1 if len(rig.slurm.calls) == before else 0
        if still == STILL:
            return
    raise AssertionError(f"it never comes to rest: {rig.slurm.calls[-12:]}")


def check(story: Story, end: End, plain: End) -> None:
    owners = {each.job.id for each in story.owners}
    assert {k for k in owners if k in end.jobs and end.jobs[k].state == "RUNNING"} == {
        k for k in owners if k in plain.jobs and plain.jobs[k].state == "RUNNING"
    }
    assert all(end.restarts[k] == 0 for k in owners if k in end.jobs)
    on = [
        {name: sum(len(j.nodes & nodes_) for j in of.jobs.values() if j.user == "bob") for name, nodes_ in r.items()}
        for of, r in ((end, _own(end)), (plain, _own(plain)))
    ]
    assert on[0] == on[1]  # as much is lent of each
    for found in end.jobs.values():
        assert found.state in ("PENDING", "RUNNING")
        assert found.priority > 0  # nothing is held
        if found.user == "bob" and found.state == "PENDING":
            assert found.reservation == ""
            assert found.reason != "BeginTime"
        if found.user == "bob":
            assert found.restarts <= max(plain.restarts.values())
    for name, there in end.reservations.items():
        if name.endswith(".lend"):
            lent = [j.nodes for j in end.jobs.values() if j.reservation == name]
            assert there == frozenset().union(*lent)
    assert end.reservations.keys() == plain.reservations.keys()


def _own(end: End) -> dict[str, frozenset[str]]:
    return {name: there for name, there in end.reservations.items() if not name.endswith(".lend")}


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
death = st.one_of(st.none(), st.integers(0, 9))


@settings(max_examples=25, deadline=None, suppress_health_check=QUIET)
@given(story=stories(), deaths=st.tuples(death, death, death))
def test_a_crash_anywhere_comes_to_the_same_end(story: Story, deaths: tuple[int | None, ...]) -> None:
    check(story, play(story, deaths), play(story, (None, None, None)))


@pytest.mark.long
@settings(max_examples=400, deadline=None, suppress_health_check=QUIET)
@given(story=stories(), deaths=st.tuples(death, death, death))
def test_a_crash_anywhere_comes_to_the_same_end_at_length(story: Story, deaths: tuple[int | None, ...]) -> None:
    check(story, play(story, deaths), play(story, (None, None, None)))
