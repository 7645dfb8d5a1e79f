"""The planner keeps its invariants on generated clusters, and a planted bug in it is caught for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slurm_reserve import invariants, plan
from slurm_reserve.actions import AttachJob, CreateReservation, DeleteReservation, DetachJob, EvictJob, ExpireJob, Group
from slurm_reserve.memory import Attached, Evicted, Memory, Notice, Orders
from slurm_reserve.model import Job
from slurm_reserve.plan import Plan
from slurm_reserve.reclaim import Verdict, Victim
from slurm_reserve.site import BidBy, EvictBy, Lending, Owner, Site, Victims
from slurm_reserve.view import View

from tests.builders import NOW, JobBuilder, cluster, job, nodes, reservation, site, spec

NAMES = ("n1", "n2", "n3", "n4", "n5", "n6")
REASONS = ("Resources", "Priority", "None", "Dependency", "BeginTime", "ReqNodeNotAvail, UnavailableNodes:n1")
COMMENTS = ("", "", "bid=0.05", "bid=0.08", "bid=0.1 run_time=2m", "expires=2030-05-06T11:59:00Z")
SLOW = [HealthCheck.too_slow]
MANY = settings(max_examples=150, deadline=None, suppress_health_check=SLOW)


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """One or two reservations with policies of every kind."""
    cut = draw(st.integers(1, 4))
    notice = st.sampled_from([timedelta(0), timedelta(seconds=30)])
    policy = st.fixed_dictionaries(
        {
            "notice": notice,
            "evict_by": st.sampled_from(EvictBy),
            "enabled": st.booleans(),
            "keep_idle_nodes": st.integers(0, 1),
            "max_nodes": st.sampled_from([None, 1, 2]),
            "last": st.booleans(),
            "victims": st.sampled_from(Victims),
        }
    )
    first = spec("physics", *NAMES[:cut], **draw(policy))
    second = replace(spec("chemistry", *NAMES[cut:5], **draw(policy)), owner=Owner(users=frozenset({"dave"})))
    lending = draw(
        st.builds(
            Lending,
            partitions=st.just(frozenset({"preempt"})),
            bid=st.just(BidBy.COMMENT),
            displace=st.booleans(),
            max_nodes_per_user=st.sampled_from([None, 1]),
            max_run_time=st.sampled_from([None, timedelta(minutes=5)]),
            expires_in_comment=st.booleans(),
        )
        | st.just(Lending(frozenset({"preempt"})))
    )
    return site(*draw(st.sampled_from([(first,), (first, second)])), lending=lending)


@st.composite
def jobs(draw: st.DrawFn, of_site: Site) -> list[JobBuilder]:
    """Jobs of everybody, waiting and running, in reservations and not, and never more on a node than it holds."""
    free = dict.fromkeys(NAMES, 4)
    found = _contested(of_site) if draw(st.booleans()) else []
    free["n1"] = 0 if found else 4
    for number in range(draw(st.integers(0, 10))):
        built = job(str(number + 1)).of(draw(st.sampled_from(["alice", "bob", "carol", "dave"])))
        if draw(st.booleans()):
            built = built.borrower()
        cpus = draw(st.integers(1, 4))
        count = draw(st.integers(1, 3))
        built = built.whole_nodes(count) if draw(st.booleans()) else built.wanting(cpus=cpus, cpus_per_task=cpus)
        if draw(st.integers(0, 9)) == 0:
            built = built.wanting(unproven=("contiguous",))
        built = built.but(comment=draw(st.sampled_from(COMMENTS)))
        every = [name for r in of_site.reservations for name in (r.name, r.lend_name)]
        likely = [of_site.reservations[0].lend_name] * 2 if built.job.partitions == ("preempt",) else ["physics"]
        built = built.in_(draw(st.sampled_from(["", "", *likely, *every, "strangers"])))
        wide = count if built.job.shape.exclusive else 1
        room = [name for name in NAMES if free[name] >= (4 if built.job.shape.exclusive else cpus)]
        if draw(st.booleans()) and len(room) >= wide:
            where = room[:wide]
            for name in where:
                free[name] -= 4 if built.job.shape.exclusive else cpus
            built = built.on(*where, for_minutes=draw(st.integers(0, 300)))
            built = built.completing() if draw(st.integers(0, 4)) == 0 else built
        else:
            built = built.waiting_for(draw(st.sampled_from(REASONS))).seconds_old(draw(st.integers(0, 500)))
            if built.job.reason == "BeginTime":
                built = built.but(eligible=NOW + timedelta(seconds=draw(st.integers(1, 4000))))
        found.append(built)
    return found


def _contested(of_site: Site) -> list[JobBuilder]:
    """What all of this is about, and chance would seldom make: a loan, its owner back, and one more who waits."""
    nodes_of = of_site.reservations[0].nodes
    assert isinstance(nodes_of, frozenset)
    return [
        job("51").borrower().whole_nodes(1).on("n1").in_("physics.lend"),
        job("52").of("alice").whole_nodes(len(nodes_of)).in_("physics"),
        job("53").borrower().in_("physics.lend"),
    ]


@st.composite
def views(draw: st.DrawFn) -> View:
    """A site, a cluster in any state of it, and any memory of what was done before."""
    of_site = draw(sites())
    some = draw(jobs(of_site))
    parts = []
    for declared in of_site.reservations:
        names = declared.nodes
        assert isinstance(names, frozenset)
        if draw(st.integers(0, 5)):
            users = declared.owner.users
            parts.append(reservation(declared.name, *names, users=users))
            lent = draw(st.frozensets(st.sampled_from(sorted(names)), max_size=2))
            if lent:
                parts.append(reservation(declared.lend_name, *lent))
    if draw(st.booleans()):
        flags = frozenset(draw(st.sampled_from([("MAINT",), ("SPEC_NODES",)])))
        parts.append(reservation("strangers", *draw(st.frozensets(st.sampled_from(NAMES), min_size=1)), flags=flags))
    of_nodes = [replace(n, states=n.states | {"DRAIN"}) if draw(st.integers(0, 9)) == 0 else n for n in nodes(*NAMES)]
    return View(of_site, cluster(of_nodes, *parts, *some), draw(memories(some, of_site)))


@st.composite
def memories(draw: st.DrawFn, some: list[JobBuilder], of_site: Site) -> Memory:
    keys = [built.job.key for built in some]
    some_keys = st.frozensets(st.sampled_from(keys)) if keys else st.just(frozenset())
    ago = st.integers(0, 100).map(lambda s: NOW - timedelta(seconds=s))
    return Memory(
        made={r.name: NOW for r in of_site.reservations},
        attached={key: Attached("physics.lend", draw(ago)) for key in draw(some_keys)},
        notices={key: Notice(NOW, draw(ago) + timedelta(seconds=30), "job 1 of alice") for key in draw(some_keys)},
        evicted={key: Evicted(draw(ago), "job 1 of alice", "physics") for key in draw(some_keys)},
        waiting_since={key: draw(ago) for key in draw(some_keys)},
        orders=Orders(paused=draw(st.booleans())),
        is_writable=draw(st.booleans()),
    )


@MANY
@given(views())
def test_no_plan_breaks_an_invariant(seen: View) -> None:
    assert invariants.violations(seen, plan.make(seen)) == []


@MANY
@given(views())
def test_planning_twice_gives_the_same_plan(seen: View) -> None:
    assert plan.make(seen) == plan.make(View(seen.site, seen.cluster, seen.memory))


@MANY
@given(views())
def test_what_is_named_in_no_reservation_of_ours_is_never_changed(seen: View) -> None:
    names = {"physics", "chemistry", "physics.lend", "chemistry.lend"}
    for action in plan.make(seen).actions:
        name = getattr(action, "name", None) or getattr(action, "reservation", None)
        assert name is None or name in names


def _regroup(made: Plan, *actions: object) -> Plan:
    return replace(made, groups=(Group("planted", tuple(actions)),))  # type: ignore[arg-type]  # planted on purpose


def _lose_owners(seen: View, made: Plan) -> Plan:
    return replace(made, decisions=())


def _queue_owners(seen: View, made: Plan) -> Plan:
    verdicts = tuple(replace(d, verdict=Verdict.QUEUED, nodes=frozenset()) for d in made.decisions)
    return replace(made, decisions=verdicts)


def _evict_anybody(seen: View, made: Plan) -> Plan:
    running = [j for j in seen.cluster.jobs if j.holds_nodes]
    return _regroup(made, *(_eviction(j) for j in running))


def _eviction(j: Job) -> EvictJob:
    return EvictJob(j.key, "physics", j.nodes, "job 1 of alice", "planted")


def _lend_beyond(seen: View, made: Plan) -> Plan:
    beyond = frozenset(NAMES)
    flags = frozenset({"OVERLAP", "IGNORE_JOBS"})
    return _regroup(made, CreateReservation("physics.lend", beyond, None, NOW, flags, "planted"))


def _lend_with_flex(seen: View, made: Plan) -> Plan:
    flags = frozenset({"OVERLAP", "IGNORE_JOBS", "FLEX"})
    return _regroup(made, CreateReservation("physics", frozenset({"n1"}), None, NOW, flags, "planted"))


def _forget_to_close(seen: View, made: Plan) -> Plan:
    return _regroup(made, *(a for a in made.actions if not isinstance(a, DetachJob)))


def _evict_twice(seen: View, made: Plan) -> Plan:
    return _regroup(made, *made.actions, *(a for a in made.actions if isinstance(a, EvictJob)))


def _delete_strangers(seen: View, made: Plan) -> Plan:
    return _regroup(made, *(DeleteReservation(name, "planted") for name in seen.cluster.reservations))


def _displace_anybody(seen: View, made: Plan) -> Plan:
    waiting = seen.waiting_borrowers
    running = [j for j in seen.touched.values() if j.holds_nodes and seen.is_borrower(j)]
    victims = [Victim(j, "physics", "bid of a job", "planted", outbid_by=w.key) for j in running for w in waiting]
    return replace(made, victims=tuple(victims))


def _end_anybody(seen: View, made: Plan) -> Plan:
    return _regroup(made, *(ExpireJob(j.key, "planted") for j in seen.cluster.jobs))


def _attach_everybody(seen: View, made: Plan) -> Plan:
    return _regroup(made, *(AttachJob(j.key, "physics.lend", "planted") for j in seen.pending))


BUGS: list[tuple[str, Callable[[View, Plan], Plan]]] = [
    ("1", _lose_owners),
    ("1", _queue_owners),
    ("2", _evict_anybody),
    ("2", _attach_everybody),
    ("2", _end_anybody),
    ("3", _lend_beyond),
    ("3", _lend_with_flex),
    ("4", _forget_to_close),
    ("5", _evict_twice),
    ("6", _delete_strangers),
    ("6", _attach_everybody),
    ("9", _displace_anybody),
]


@pytest.fixture(scope="module")
def caught() -> set[tuple[str, str]]:
    """Which planted bugs break which invariants, on any of a fixed set of generated clusters."""
    found: set[tuple[str, str]] = set()

    @settings(max_examples=500, derandomize=True, database=None, deadline=None, suppress_health_check=SLOW)
    @given(views())
    def search(seen: View) -> None:
        made = plan.make(seen)
        for _, bug in BUGS:
            found.update((text[0], bug.__name__) for text in invariants.violations(seen, bug(seen, made)))

    search()
    return found


@pytest.mark.parametrize(("number", "bug"), BUGS)
def test_a_planted_bug_is_caught(number: str, bug: Callable[[View, Plan], Plan], caught: set[tuple[str, str]]) -> None:
    assert (number, bug.__name__) in caught
