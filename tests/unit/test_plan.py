"""The planner's decisions, as sentences."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from slurm_reserve import invariants, plan
from slurm_reserve.actions import (
    AttachJob,
    CreateReservation,
    DeleteReservation,
    DetachJob,
    EndWait,
    EvictJob,
    NotifyJob,
    UpdateReservation,
)
from slurm_reserve.demand import is_waiting_for_nodes
from slurm_reserve.memory import Attached, Evicted, LendOrder, Memory, Notice, Orders
from slurm_reserve.plan import Plan
from slurm_reserve.reclaim import Verdict
from slurm_reserve.site import EvictBy, Find, NodeRequest, Owner
from slurm_reserve.view import View

from tests.builders import NOW, JobBuilder, cluster, job, nodes, reservation, site, spec, view

FOUR = nodes("n1", "n2", "n3", "n4")
R = reservation("physics", "n1", "n2")
BUSY_ELSEWHERE = [job("90").of("carol").whole_nodes(2).on("n3", "n4")]


def make(seen: View) -> Plan:
    """Plan, and hold every plan of these tests to the invariants."""
    made = plan.make(seen)
    assert invariants.violations(seen, made) == []
    return made


def kinds(made: Plan) -> list[str]:
    return [type(action).__name__ for action in made.actions]


def test_a_declared_reservation_is_made_on_its_nodes() -> None:
    made = make(view(site(), cluster(FOUR), Memory()))
    (create,) = made.actions
    assert isinstance(create, CreateReservation)
    assert create.nodes == {"n1", "n2"}
    assert create.users == {"alice"}
    assert {"OVERLAP", "IGNORE_JOBS"} <= create.flags
    assert "FLEX" not in create.flags


def test_a_reservation_that_begins_in_some_years_ends_after_its_start() -> None:
    (create,) = make(view(site(spec(start=NOW + timedelta(days=3000))), cluster(FOUR), Memory())).actions
    assert isinstance(create, CreateReservation)
    assert create.start is not None
    assert create.end > create.start


def test_nothing_is_done_when_all_is_as_declared() -> None:
    assert make(view(site(), cluster(FOUR, R))).actions == ()


def test_a_reservation_over_someone_elses_nodes_is_refused() -> None:
    other = reservation("chemistry", "n2", "n3")
    made = make(view(site(), cluster(FOUR, other), Memory()))
    assert made.actions == ()
    assert made.unmet == {"physics": "nodes are already bound by reservation chemistry"}


def test_a_reservation_of_that_name_that_is_not_ours_is_left_alone() -> None:
    foreign = reservation("physics", "n1", "n2", flags=frozenset({"SPEC_NODES"}))
    made = make(view(site(), cluster(FOUR, foreign), Memory()))
    assert made.actions == ()
    assert "adopt" in made.unmet["physics"]


def test_an_idle_node_is_lent_to_a_waiting_borrower() -> None:
    made = make(view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, job("7").borrower())))
    assert kinds(made) == ["CreateReservation", "AttachJob"]
    create, attach = made.actions
    assert isinstance(create, CreateReservation)
    assert (create.name, create.users) == ("physics.lend", {"bob"})
    assert len(create.nodes) == 1
    assert isinstance(attach, AttachJob)
    assert attach.reservation == "physics.lend"


def test_an_ordinary_job_is_never_lent_to() -> None:
    made = make(view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, job("7").of("carol"))))
    assert made.actions == ()


@pytest.mark.parametrize(
    ("borrower", "why"),
    [
        (job("7").borrower().but(partitions=("preempt", "main")), None),
        (job("7").borrower().but(licenses="matlab:1"), "licences"),
        (job("7").borrower().but(het_job="7"), "heterogeneous"),
        (job("7").borrower().waiting_for("Dependency"), "another reason"),
        (job("7").borrower().but(priority=0), "held"),
        (job("7").borrower().wanting(unproven=("contiguous",)), "cannot prove"),
    ],
)
def test_who_is_not_lent_to(borrower: object, why: str | None) -> None:
    made = make(view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, borrower)))  # type: ignore[arg-type]  # a parameter
    assert made.actions == ()
    assert why is None or why in made.not_lent["7"]


def test_nothing_is_lent_without_a_net() -> None:
    seen = cluster(FOUR, R, *BUSY_ELSEWHERE, job("7").borrower())
    flat = {**seen.partitions, "main": replace(seen.partitions["main"], tier=1)}
    made = make(view(site(), replace(seen, partitions=flat)))
    assert made.actions == ()
    assert "PriorityTier" in made.withheld["physics"]


def test_nothing_is_lent_while_paused_but_reclaim_goes_on() -> None:
    paused = Memory(made={"physics": NOW}, orders=Orders(paused=True))
    lent = [job("7").borrower().on("n1").in_("physics.lend"), reservation("physics.lend", "n1")]
    assert make(view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, job("8").borrower()), paused)).actions == ()
    busy = [job("5").of("alice").whole_nodes(1).on("n2")]
    made = make(
        view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, *busy, *lent, job("9").of("alice").whole_nodes(1)), paused)
    )
    assert "EvictJob" in kinds(made)


def test_an_owners_job_that_fits_on_an_idle_node_evicts_nobody() -> None:
    lent = [job("7").borrower().on("n1").in_("physics.lend"), reservation("physics.lend", "n1")]
    made = make(view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, *lent, job("9").of("alice").whole_nodes(1))))
    assert kinds(made) == ["AttachJob"]
    assert made.decisions[0].verdict is Verdict.STARTS


def test_an_owners_job_that_may_start_elsewhere_evicts_nobody() -> None:
    lent = [
        job("7").borrower().whole_nodes(2).on("n1", "n2").in_("physics.lend"),
        reservation("physics.lend", "n1", "n2"),
    ]
    fresh = job("9").of("alice").whole_nodes(1).seconds_old(1)
    made = make(view(site(), cluster(FOUR, R, *lent, fresh)))
    assert made.decisions[0].verdict is Verdict.ELSEWHERE
    assert made.actions == ()


def test_the_owner_gets_just_as_many_nodes_back_as_needed_closed_before_evicted() -> None:
    lent = [
        job("7").borrower().whole_nodes(1).on("n1", for_minutes=50).in_("physics.lend"),
        job("8").borrower().whole_nodes(1).on("n2", for_minutes=5).in_("physics.lend"),
        reservation("physics.lend", "n1", "n2"),
        job("6").borrower().in_("physics.lend"),
    ]
    made = make(view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, *lent, job("9").of("alice").whole_nodes(1))))
    assert kinds(made) == ["DetachJob", "EvictJob", "AttachJob", "UpdateReservation"]
    evict = made.actions[1]
    assert isinstance(evict, EvictJob)
    assert (evict.job.id, evict.cause) == ("8", "job 9 of alice")  # the younger one loses less
    shrink = made.actions[3]
    assert isinstance(shrink, UpdateReservation)
    assert shrink.nodes == {"n1"}


def test_slurm_is_not_tempted_to_evict_one_more_while_a_victim_takes_its_time() -> None:
    going = job("8").borrower().whole_nodes(1).on("n2").in_("physics.lend").completing()
    stays = job("7").borrower().whole_nodes(1).on("n1").in_("physics.lend")
    owners = job("9").of("alice").whole_nodes(1).in_("physics")
    sent = Memory(made={"physics": NOW}, attached={owners.job.key: Attached("physics", NOW)})
    parts = (R, reservation("physics.lend", "n1"), *BUSY_ELSEWHERE, going, owners)
    assert kinds(make(view(site(), cluster(FOUR, *parts, stays), sent))) == ["DetachJob"]
    assert "DetachJob" not in kinds(make(view(site(), cluster(FOUR, *parts), sent)))  # nobody else is there to evict
    off = replace(owners.job, reservation="")
    again = make(view(site(), cluster(FOUR, *parts[:-1], stays, owners.but(reservation=off.reservation))))
    assert "AttachJob" not in kinds(again)
    over = cluster(FOUR, *parts[:-2], stays, owners.but(reservation=""))
    assert "AttachJob" in kinds(make(view(site(), over)))  # its node is clean


def test_where_slurm_would_evict_as_well_it_does_so_alone() -> None:
    lent = [job(n).borrower().whole_nodes(1).on(f"n{i}").in_("physics.lend") for i, n in ((1, "7"), (2, "8"))]
    seen = cluster(
        FOUR, R, reservation("physics.lend", "n1", "n2"), *lent, job("9").of("alice").whole_nodes(1).in_("physics")
    )
    assert "EvictJob" not in kinds(make(view(site(), seen)))
    late = Memory(made={"physics": NOW}, waiting_since={seen.jobs[2].key: NOW - timedelta(minutes=1)})
    assert "EvictJob" in kinds(make(view(site(), seen, late)))
    netless = replace(seen, config=replace(seen.config, preempt_type="preempt/none"))
    assert "EvictJob" in kinds(make(view(site(), netless)))


def test_the_last_loan_takes_the_lend_reservation_with_it() -> None:
    one = site(spec("physics", "n1"))
    lent = [job("7").borrower().on("n1").in_("physics.lend"), reservation("physics.lend", "n1")]
    made = make(view(one, cluster(FOUR, reservation("physics", "n1"), *lent, job("9").of("alice").whole_nodes(1))))
    assert kinds(made)[-1] == "DeleteReservation"
    assert isinstance(made.actions[-1], DeleteReservation)


def test_a_notice_comes_first_and_the_owner_is_attached_after_it() -> None:
    one = site(spec("physics", "n1", notice=timedelta(seconds=30), signal="USR1"))
    victim = job("7").borrower().on("n1").in_("physics.lend")
    seen = cluster(
        FOUR,
        reservation("physics", "n1"),
        victim,
        reservation("physics.lend", "n1"),
        job("9").of("alice").whole_nodes(1),
    )
    first = make(view(one, seen))
    (notify,) = first.actions
    assert isinstance(notify, NotifyJob)
    assert notify.deadline == NOW + timedelta(seconds=30)
    assert first.wake_at == NOW + timedelta(seconds=1)  # it may end before its deadline
    told = Memory(made={"physics": NOW}, notices={victim.job.key: Notice(NOW, notify.deadline, "job 9 of alice")})
    assert make(view(one, seen, told)).actions == ()
    later = make(view(one, replace(seen, at=notify.deadline), told))
    assert kinds(later) == ["EvictJob", "AttachJob", "DeleteReservation"]


def test_an_eviction_is_issued_once_and_again_when_it_has_not_shown() -> None:
    one = site(spec("physics", "n1"))
    victim = job("7").borrower().on("n1").in_("physics.lend")
    seen = cluster(FOUR, reservation("physics", "n1"), victim, job("9").of("alice").whole_nodes(1))
    issued = Memory(made={"physics": NOW}, evicted={victim.job.key: Evicted(NOW, "job 9 of alice", "physics")})
    assert "EvictJob" not in kinds(make(view(one, seen, issued)))
    assert "EvictJob" in kinds(make(view(one, replace(seen, at=NOW + timedelta(seconds=20)), issued)))


def test_what_slurm_is_to_evict_is_left_to_slurm() -> None:
    one = site(spec("physics", "n1", evict_by=EvictBy.SLURM))
    victim = job("7").borrower().on("n1").in_("physics.lend")
    seen = cluster(
        FOUR,
        reservation("physics", "n1"),
        victim,
        reservation("physics.lend", "n1"),
        job("9").of("alice").whole_nodes(1),
    )
    assert kinds(make(view(one, seen))) == ["AttachJob"]


def requeued(seconds_ago: int) -> tuple[JobBuilder, Memory]:
    at = NOW - timedelta(seconds=seconds_ago)
    back = job("7").borrower().but(restarts=1, reason="BeginTime", submitted=at, eligible=at + timedelta(minutes=2))
    before = back.job.key._replace(restarts=0, submitted=at - timedelta(hours=1))
    return back, Memory(made={"physics": NOW}, evicted={before: Evicted(at, "job 9 of alice", "physics")})


def test_a_requeued_victim_comes_back_without_slurms_two_minutes() -> None:
    back, issued = requeued(seconds_ago=3)
    wait, _ = make(view(site(), cluster(FOUR, R, back), issued)).actions
    assert isinstance(wait, EndWait)
    assert wait.at is None


def test_whom_slurm_itself_preempted_on_a_loan_comes_back_as_soon() -> None:
    back, issued = requeued(seconds_ago=3)
    (before,) = issued.evicted
    sent = Memory(made={"physics": NOW}, attached={before: Attached("physics.lend", NOW - timedelta(days=2))})
    made = make(view(site(), cluster(FOUR, R, back), sent))
    assert made.forestalled == {before: Evicted(back.job.submitted, "a job that Slurm put first", "physics")}
    again = replace(sent, evicted=made.forestalled)
    assert any(isinstance(a, EndWait) for a in make(view(site(), cluster(FOUR, R, back), again)).actions)


def test_it_does_not_come_back_in_the_second_of_its_requeue() -> None:
    back, issued = requeued(seconds_ago=1)
    made = make(view(site(), cluster(FOUR, R, back), issued))
    assert not [action for action in made.actions if isinstance(action, EndWait)]
    assert made.wake_at == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(("back_off", "waits"), [(60, 0), (600, 1)])
def test_it_stays_out_for_the_back_off(back_off: int, waits: int) -> None:
    back, issued = requeued(seconds_ago=3)
    off = site(spec("physics", "n1", "n2", back_off=timedelta(seconds=back_off)))
    actions = make(view(off, cluster(FOUR, R, back), issued)).actions
    assert [a.at for a in actions if isinstance(a, EndWait)] == [NOW + timedelta(seconds=back_off - 3)] * waits


def test_a_demand_that_nodes_cannot_cure_is_none() -> None:
    lent = [
        job("7").borrower().whole_nodes(2).on("n1", "n2").in_("physics.lend"),
        reservation("physics.lend", "n1", "n2"),
    ]
    for reason in ("Dependency", "JobHeldUser", "AssocGrpCpuLimit", "PartitionTimeLimit", "BeginTime"):
        waits = job("9").of("alice").in_("physics").waiting_for(reason)
        assert make(view(site(), cluster(FOUR, R, *lent, waits))).actions == ()


@pytest.mark.parametrize(
    "reason",
    [
        "None", "Priority", "Resources", "ReqNodeNotAvail, UnavailableNodes:n1", "(Resources)",
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
        "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions",
    ],
)  # fmt: skip
def test_what_slurm_says_of_a_job_that_nodes_would_cure(reason: str) -> None:
    assert is_waiting_for_nodes(reason.strip("()"))


def test_a_job_larger_than_the_reservation_is_no_demand() -> None:
    lent = [
        job("7").borrower().whole_nodes(2).on("n1", "n2").in_("physics.lend"),
        reservation("physics.lend", "n1", "n2"),
    ]
    made = make(view(site(), cluster(FOUR, R, *lent, job("9").of("alice").whole_nodes(3).in_("physics"))))
    assert made.decisions[0].verdict is Verdict.TOO_LARGE
    assert made.actions == ()


def test_more_demand_than_the_reservation_holds_is_queued_and_other_owners_are_untouched() -> None:
    two = site(spec("physics", "n1"), replace(spec("chemistry", "n2"), owner=Owner(users=frozenset({"dave"}))))
    seen = cluster(
        FOUR, reservation("physics", "n1"), reservation("chemistry", "n2", users=frozenset({"dave"})),
        reservation("chemistry.lend", "n2"), *BUSY_ELSEWHERE,
        job("5").of("alice").whole_nodes(1).on("n1").in_("physics"),
        job("7").borrower().on("n2").in_("chemistry.lend"),
        job("9").of("alice").whole_nodes(1).in_("physics"),
    )  # fmt: skip
    made = make(view(two, seen))
    assert [d.verdict for d in made.decisions] == [Verdict.QUEUED]
    assert made.actions == ()


def test_a_job_that_cannot_be_proved_to_fit_gets_everything_back_after_two_passes() -> None:
    lent = [
        job("7").borrower().whole_nodes(2).on("n1", "n2").in_("physics.lend"),
        reservation("physics.lend", "n1", "n2"),
    ]
    odd = job("9").of("alice").in_("physics").wanting(unproven=("contiguous",))
    seen = cluster(FOUR, R, *lent, odd)
    assert make(view(site(), seen)).actions == ()
    waited = Memory(made={"physics": NOW}, waiting_since={odd.job.key: NOW - timedelta(seconds=10)})
    made = make(view(site(), seen, waited))
    assert made.decisions[0].verdict is Verdict.OVERDUE
    assert "EvictJob" in kinds(made)


def test_an_intruder_is_put_out_and_the_owners_own_job_is_not() -> None:
    lend = reservation("physics.lend", "n1", "n2")
    intruder = job("7").of("carol").on("n1").in_("physics.lend")
    own = job("8").of("alice").on("n2").in_("physics.lend")
    made = make(view(site(), cluster(FOUR, R, lend, intruder, own)))
    evict, attach = made.actions[:2]
    assert isinstance(evict, EvictJob)
    assert (evict.job.id, evict.is_intruder) == ("7", True)
    assert isinstance(attach, AttachJob)
    assert (attach.job.id, attach.reservation) == ("8", "physics")
    assert "job 7" in made.reports


def test_an_attached_borrower_that_does_not_start_is_detached_and_not_sent_again_at_once() -> None:
    waits = job("7").borrower().in_("physics.lend")
    sent = Memory(
        made={"physics": NOW}, attached={waits.job.key: Attached("physics.lend", NOW - timedelta(seconds=99))}
    )
    made = make(view(site(), cluster(FOUR, R, reservation("physics.lend", "n1"), waits), sent))
    detach = made.actions[0]
    assert isinstance(detach, DetachJob)
    assert detach.retry_at == NOW + timedelta(minutes=1)


def test_an_attached_borrower_is_given_backfills_time_to_start() -> None:
    waits = job("7").borrower().in_("physics.lend")
    sent = Memory(
        made={"physics": NOW}, attached={waits.job.key: Attached("physics.lend", NOW - timedelta(seconds=50))}
    )
    made = make(view(site(), cluster(FOUR, R, reservation("physics.lend", "n1"), waits), sent))
    assert not [action for action in made.actions if isinstance(action, DetachJob)]


def test_a_reservation_without_an_end_is_extended_long_before_slurms() -> None:
    late = reservation("physics", "n1", "n2", end=NOW + timedelta(days=100))
    (update,) = make(view(site(), cluster(FOUR, late))).actions
    assert isinstance(update, UpdateReservation)
    assert update.end == NOW + timedelta(days=365)


def test_lending_off_takes_back_what_is_lent() -> None:
    off = Memory(made={"physics": NOW}, orders=Orders(lend={"physics": LendOrder(enabled=False)}))
    lent = [job("7").borrower().on("n1").in_("physics.lend"), reservation("physics.lend", "n1")]
    assert kinds(make(view(site(), cluster(FOUR, R, *lent), off))) == ["EvictJob", "DeleteReservation"]


def test_maintenance_wins() -> None:
    lent = [job("7").borrower().on("n1").in_("physics.lend"), reservation("physics.lend", "n1")]
    upkeep = reservation("upkeep", "n1", start=NOW + timedelta(seconds=10), flags=frozenset({"MAINT"}), is_active=False)
    made = make(view(site(), cluster(FOUR, R, *lent, upkeep)))
    assert kinds(made) == ["EvictJob", "DeleteReservation"]


def test_borrowers_are_out_before_the_reservation_ends() -> None:
    ending = site(spec("physics", "n1", "n2", end=NOW + timedelta(seconds=20)))
    lent = [job("7").borrower().on("n1").in_("physics.lend"), reservation("physics.lend", "n1")]
    short = reservation("physics", "n1", "n2", end=NOW + timedelta(seconds=20))
    assert "EvictJob" in kinds(make(view(ending, cluster(FOUR, short, *lent))))


def test_a_failed_node_of_so_many_is_replaced() -> None:
    counted = site(spec("physics", nodes=NodeRequest(2, "main")))
    down = replace(FOUR[0], states=frozenset({"DOWN"}))
    made = make(view(counted, cluster([down, *FOUR[1:]], R)))
    (update,) = made.actions
    assert isinstance(update, UpdateReservation)
    assert update.nodes == {"n2", "n3"}


def test_a_reservation_that_is_no_longer_declared_goes_after_its_loans() -> None:
    made_before = Memory(made={"old": NOW})
    old = reservation("old", "n3")
    lent = [job("7").borrower().on("n3").in_("old.lend"), reservation("old.lend", "n3")]
    with_loans = make(
        view(site(), cluster(FOUR, R, old, *lent), replace(made_before, made={"old": NOW, "old.lend": NOW}))
    )
    assert kinds(with_loans) == ["EvictJob", "DeleteReservation"]
    assert kinds(make(view(site(), cluster(FOUR, R, old), made_before))) == ["DeleteReservation"]


def test_tasks_of_an_array_are_sent_one_by_one() -> None:
    array = job("7").borrower().but(array_tasks=(3, 4, 5, 6, 7)).whole_nodes(1)
    made = make(view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, array)))
    assert [a.job.id for a in made.actions if isinstance(a, AttachJob)] == ["7_3", "7_4"]


def test_nodes_are_kept_idle_as_declared() -> None:
    keeping = site(spec("physics", "n1", "n2", keep_idle_nodes=1))
    waiting = [job("7").borrower().whole_nodes(1), job("8").borrower().whole_nodes(1)]
    made = make(view(keeping, cluster(FOUR, R, *BUSY_ELSEWHERE, *waiting)))
    assert len(made.loans) == 1


def test_a_magnetic_reservation_does_without_attaching_at_first() -> None:
    magnetic = site(spec("physics", "n1", "n2", find=Find.MAGNETIC))
    flags = reservation("physics", "n1", "n2").flags | {"MAGNETIC"}
    seen = cluster(FOUR, reservation("physics", "n1", "n2", flags=flags), *BUSY_ELSEWHERE, job("9").of("alice"))
    assert make(view(magnetic, seen)).actions == ()


def test_a_node_that_an_owners_job_is_about_to_use_is_idle_no_more() -> None:
    """That job may be over before anybody looks, and after_idle counts from its end."""
    memory = Memory(made={"physics": NOW}, idle_since=dict.fromkeys(("n1", "n2"), NOW - timedelta(hours=1)))
    owners = job("9").of("alice").whole_nodes(1)
    made = make(view(site(), cluster(FOUR, R, *BUSY_ELSEWHERE, owners), memory))
    assert made.idle_since == {"n2": NOW - timedelta(hours=1)}


def test_a_task_that_was_sent_keeps_its_place_before_the_rest_of_its_array() -> None:
    rest = job("7").borrower().but(array_tasks=(4, 5)).whole_nodes(1)
    sent = job("7_3").borrower().but(job_id=12, array_tasks=()).whole_nodes(1).in_("physics.lend")
    running = job("8").borrower().whole_nodes(1).on("n1").in_("physics.lend")
    lend = reservation("physics.lend", "n1", "n2")
    made = make(view(site(), cluster(FOUR, R, lend, *BUSY_ELSEWHERE, rest, sent, running)))
    assert kinds(made) == []
