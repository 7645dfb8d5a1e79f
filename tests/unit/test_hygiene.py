"""How gently borrowers are treated: promised time, more time, back-off, holding, what they are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_reserve import failsafe, hygiene, invariants, words
from slurm_reserve.actions import AttachJob, EndWait, EvictJob, Group, HoldJob, LetStay, NoteJob, NotifyJob
from slurm_reserve.bound import bound
from slurm_reserve.memory import Evicted, Memory, Notice
from slurm_reserve.model import JobKey
from slurm_reserve.plan import Plan, make
from slurm_reserve.site import AfterMost, Lending, ReclaimPolicy, Reluctance, ReservationSpec, Site
from slurm_reserve.slurm.script import appends, own_signal

from tests.builders import NOW, JobBuilder, cluster, job, nodes, reservation, site, spec, view

FOUR = nodes("n1", "n2", "n3", "n4")
R = reservation("physics", "n1", "n2")
L = reservation("physics.lend", "n1", "n2")
OWNERS = job("9").of("alice").whole_nodes(2).in_("physics")
MINUTE = timedelta(minutes=1)
MADE = {"physics": NOW, "physics.lend": NOW}


def lent(for_minutes: float = 10) -> list[JobBuilder]:
    return [
        job(number).borrower().whole_nodes(1).on(node, for_minutes=for_minutes).in_("physics.lend")
        for number, node in (("7", "n1"), ("8", "n2"))
    ]


def one(**reclaim: object) -> ReservationSpec:
    return replace(spec("physics", "n1", "n2"), reclaim=ReclaimPolicy(**reclaim))  # type: ignore[arg-type]


def limited(after: AfterMost = AfterMost.HOLD, **lending: object) -> Site:
    changes = {"max_evictions": 2, "after_max_evictions": after, **lending}
    return site(one(), lending=Lending(frozenset({"preempt"}), **changes))  # type: ignore[arg-type]


def returned(times: int, reason: str = "BeginTime", minutes_ago: float = 1) -> tuple[JobBuilder, Memory]:
    """Job 7, back in the queue after so many evictions, of which the last was so long ago."""
    at = NOW - timedelta(minutes=minutes_ago)
    back = job("7").borrower().but(restarts=times, reason=reason, submitted=at, eligible=at + 2 * MINUTE)
    evicted = {
        JobKey("7", at - (times - n) * MINUTE, n): Evicted(
            at - (times - 1 - n) * MINUTE,
            "job 9 of alice",
            "physics",
            "n1",
            is_noted=n < times - 1,
            is_back=n < times - 1,
        )
        for n in range(times)
    }
    return back, Memory(made=MADE, evicted=evicted)


# Promised run time


def test_a_borrower_is_not_evicted_before_the_time_it_was_promised_is_over() -> None:
    for ran, goes in ((1, False), (6, True)):
        seen = cluster(FOUR, R, L, *lent(ran), OWNERS)
        made = make(view(site(one(min_run_time=5 * MINUTE)), seen, Memory(made=MADE)))
        assert bool([a for a in made.actions if isinstance(a, EvictJob)]) is goes
        assert not invariants.violations(view(site(), seen, Memory(made=MADE)), made)
        if not goes:
            assert made.wake_at == NOW + 4 * MINUTE


def test_a_notice_ends_no_sooner_than_the_promised_time() -> None:
    told = site(one(min_run_time=5 * MINUTE, notice=MINUTE))
    made = make(view(told, cluster(FOUR, R, L, *lent(1), OWNERS), Memory(made=MADE)))
    assert {a.deadline for a in made.actions if isinstance(a, NotifyJob)} == {NOW + 4 * MINUTE}


def test_while_a_borrower_stays_by_promise_the_owners_job_is_not_sent_where_slurm_would_preempt() -> None:
    plain = replace(OWNERS.job, reservation="")
    waiting = OWNERS.but(reservation=plain.reservation)
    full = job("90").of("carol").whole_nodes(2).on("n3", "n4")
    for ran, sent in ((1, False), (6, True)):
        seen = cluster(FOUR, R, L, *lent(ran), waiting, full)
        made = make(view(site(one(min_run_time=5 * MINUTE)), seen, Memory(made=MADE)))
        assert bool([a for a in made.actions if isinstance(a, AttachJob)]) is sent


def test_the_bound_holds_what_borrowers_are_promised() -> None:
    plain, config = site(one(notice=MINUTE)), cluster(FOUR).config
    assert bound(plain, config, plain.reservations[0]).notice == MINUTE
    more = site(one(notice=MINUTE, extra_time=MINUTE, min_run_time=5 * MINUTE))
    assert bound(more, config, more.reservations[0]).notice == 6 * MINUTE
    protecting = limited(AfterMost.PROTECT, protect_for=10 * MINUTE)
    assert bound(protecting, config, protecting.reservations[0]).notice == 10 * MINUTE


def test_without_a_daemon_to_come_nobody_is_protected() -> None:
    promised = site(one(min_run_time=5 * MINUTE, notice=MINUTE, extra_time=MINUTE))
    seen = view(promised, cluster(FOUR, R, L, *lent(1)), Memory(made=MADE))
    made = make(failsafe.giving_back(seen, is_all=True))
    assert {a.job.id for a in made.actions if isinstance(a, EvictJob)} == {"7", "8"}


# More time


@pytest.mark.parametrize(
    ("comment", "seconds"),
    [("more=30", 30), ("bid=3 more=20s x", 20), ("more=9999", 60), ("", 0), ("nomore=50", 0), ("more=-5", 0)],
)
def test_a_job_that_asks_gets_more_time_as_far_as_the_owner_allows(comment: str, seconds: int) -> None:
    notice = Notice(NOW - MINUTE, NOW, "job 9 of alice", "physics")
    seen = replace(cluster(FOUR, R, L, *lent()), comments={"7": comment})
    asked = hygiene.deadline(view(site(), seen), one(extra_time=MINUTE), lent()[0].job, notice)
    assert asked == NOW + timedelta(seconds=seconds)
    assert hygiene.deadline(view(site(), seen), one(), lent()[0].job, notice) == NOW


# Told, and then


def told(deadline_in: float = 30) -> Memory:
    notice = Notice(NOW, NOW + timedelta(seconds=deadline_in), "job 9 of alice", "physics")
    return Memory(made=MADE, notices={each.job.key: notice for each in lent()})


def test_a_borrower_that_may_stay_is_told_so() -> None:
    made = make(view(site(one(notice=MINUTE)), cluster(FOUR, R, L, *lent()), told()))
    assert {(a.job.id, a.signal) for a in made.actions if isinstance(a, LetStay)} == {("7", "CONT"), ("8", "CONT")}
    silent = make(view(site(one(notice=MINUTE, go_on_signal="")), cluster(FOUR, R, L, *lent()), told()))
    assert not silent.actions


def test_a_borrower_that_requeues_itself_when_told_counts_as_evicted() -> None:
    left = job("7").borrower().but(restarts=1, reason="BeginTime", submitted=NOW)
    made = make(view(site(one(notice=MINUTE)), cluster(FOUR, R, L, left, lent()[1], OWNERS), told()))
    ((key, evicted),) = made.forestalled.items()
    assert (key, evicted.cause, evicted.reservation) == (lent()[0].job.key, "job 9 of alice", "physics")


# Back in the queue


@pytest.mark.parametrize(("times", "seconds"), [(1, 60), (2, 120), (3, 240), (4, 300), (40, 300)])
def test_the_back_off_grows_with_each_eviction(times: int, seconds: int) -> None:
    back, memory = returned(times, minutes_ago=0)
    policy = one(back_off=MINUTE, back_off_max=5 * MINUTE)
    assert hygiene.back_off(view(site(policy), cluster(FOUR, R, back), memory), policy, back.job) == timedelta(
        seconds=seconds
    )


def test_evictions_are_forgotten_after_a_quiet_time() -> None:
    back, memory = returned(3, minutes_ago=60)
    for after, times in ((2 * timedelta(hours=1), 3), (timedelta(minutes=30), 0)):
        forgetful = limited(forget_evictions_after=after)
        assert hygiene.times_evicted(view(forgetful, cluster(FOUR, R, back), memory), back.job) == times


def test_evictions_of_another_job_that_had_the_same_number_do_not_count() -> None:
    _, memory = returned(3)
    fresh = job("7").borrower()
    assert hygiene.times_evicted(view(site(), cluster(FOUR, R, fresh), memory), fresh.job) == 0


def test_a_job_evicted_as_often_as_the_site_allows_is_held_and_told() -> None:
    back, memory = returned(2)
    seen = view(limited(), cluster(FOUR, R, back), memory)
    made = make(seen)
    hold, note = made.actions
    assert isinstance(hold, HoldJob)
    assert isinstance(note, NoteJob)
    assert note.text.startswith("evicted 2 times, last 2030-05-06T11:59:00+0000 from n1, which physics had lent it")
    assert note.text.endswith("for job 9 of alice; held after that many evictions: scontrol release 7")
    assert not invariants.violations(seen, made)
    once = make(view(limited(), cluster(FOUR, R, returned(1)[0]), returned(1)[1]))
    assert [type(a) for a in once.actions] == [EndWait, NoteJob]


def test_or_it_is_protected_the_next_time() -> None:
    protecting = limited(AfterMost.PROTECT, protect_for=20 * MINUTE)
    borrower, other = lent()
    again = borrower.but(restarts=2)
    seen = cluster(FOUR, R, L, again, other, OWNERS)
    _, memory = returned(2)
    made = make(view(protecting, seen, memory))
    assert {a.job.id for a in made.actions if isinstance(a, EvictJob)} == {"8"}


def test_what_is_done_and_told_already_is_not_done_again() -> None:
    back, memory = returned(1)
    done = {key: replace(each, is_back=True, is_noted=True) for key, each in memory.evicted.items()}
    assert not make(view(site(), cluster(FOUR, R, back), replace(memory, evicted=done))).actions


def test_a_wait_that_slurmctld_forgot_to_have_ended_is_ended_again_and_one_its_user_set_is_not() -> None:
    back, memory = returned(1)
    (end,) = (a for a in make(view(site(), cluster(FOUR, R, back), memory)).actions if isinstance(a, EndWait))
    done = {key: replace(each, is_back=True, is_noted=True, wait=end.wait) for key, each in memory.evicted.items()}
    later = back.job.submitted + timedelta(seconds=5)
    for waits, is_ended in (
        (back, True),  # as it was
        (back.but(submitted=later, eligible=later + 2 * MINUTE), True),  # requeued anew by slurmctld
        (back.but(eligible=NOW + 9 * MINUTE), False),  # begins when its user wants
    ):
        actions = make(view(site(), cluster(FOUR, R, waits), replace(memory, evicted=done))).actions
        assert any(isinstance(a, EndWait) for a in actions) is is_ended


def test_only_those_that_were_evicted_or_told_are_held_or_written_to() -> None:
    seen = view(site(), cluster(FOUR, R, job("5").borrower()), Memory(made=MADE))
    key = job("5").job.key
    for action in (HoldJob(key, "x"), NoteJob(key, "x", "x"), LetStay(key, "CONT", "x")):
        broken = Plan(groups=(Group("x", (action,)),))
        assert any("neither evicted nor told" in text for text in invariants.violations(seen, broken))


# Whom not to lend to


def test_what_would_be_lost_is_lent_to_only_where_the_site_allows_it() -> None:
    waits = job("5").borrower().whole_nodes(1).but(batch=False)
    full = job("90").of("carol").whole_nodes(2).on("n3", "n4")
    choosy = limited(refuse=frozenset({Reluctance.INTERACTIVE, Reluctance.NO_REQUEUE, Reluctance.OVERWRITES}))
    assert make(view(site(one()), cluster(FOUR, R, waits, full))).loans
    refused = make(view(choosy, cluster(FOUR, R, waits, full)))
    assert refused.not_lent == {"5": "it would be lost, for it is interactive"}
    batch = cluster(FOUR, R, waits.but(batch=True), full)
    (sent,) = [a for a in make(view(choosy, batch)).actions if isinstance(a, AttachJob)]
    assert sent.is_requeue_needed
    assert sent.is_append_needed
    unfit = Memory(made=MADE, unfit={waits.job.key: "it would be lost"})
    assert make(view(choosy, batch, unfit)).not_lent == {"5": "it would be lost"}


# Texts from outside


@given(st.text(), st.text())
def test_what_others_wrote_in_a_comment_is_kept(comment: str, text: str) -> None:
    if "[slurm_reserve: " in comment:
        return
    once = words.with_note(comment[:4000], text)
    assert once.startswith(comment[:4000].lstrip()) or not comment.strip()
    assert words.with_note(once, "another") == words.with_note(comment[:4000], "another")


def test_a_comment_that_is_too_long_is_left_alone() -> None:
    with pytest.raises(ValueError, match="too long"):
        words.with_note("x" * 5000, "text")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("#SBATCH --signal=USR2@60", ("USR2", False)),
        ("#SBATCH --signal=B:SIGUSR1@120", ("USR1", True)),
        ("#SBATCH -p preempt --signal=B:10@30 -t5", ("USR1", True)),
        ("#SBATCH --signal USR2", ("USR2", False)),
        ('#SBATCH --signal="R:TERM@10"', ("TERM", False)),
        ("#SBATCH --signal=KILL@5", None),
        ("#SBATCH --comment=--signal", None),
        ("##SBATCH --signal=USR2", None),
        ("# SBATCH --signal=USR2", None),
        ("", None),
    ],
)
def test_a_scripts_own_signal_is_found(line: str, found: tuple[str, bool] | None) -> None:
    assert own_signal(f"#!/bin/bash\n{line}\nsleep 1\n#SBATCH --signal=HUP\n") == found


@pytest.mark.parametrize(
    ("line", "does"),
    [
        ("#SBATCH --open-mode=append", True),
        ("#SBATCH -t5 --open-mode=a", True),
        ("#SBATCH --open-mode=truncate", False),
        ("", False),
    ],
)
def test_a_script_that_appends_to_its_output_is_known(line: str, does: bool) -> None:
    assert appends(f"#!/bin/bash\n{line}\nsleep 1\n#SBATCH --open-mode=append\n") is does


@given(st.text())
def test_no_script_is_too_odd(script: str) -> None:
    own_signal(script)
    own_signal("#SBATCH " + script)
