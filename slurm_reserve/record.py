"""Step 6: what was decided and done goes to the journal, the log and the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from slurm_reserve import __version__, estimate, idleness, inputs, outage, words
from slurm_reserve.actions import Action, AttachJob, DetachJob, EvictJob, NotifyJob
from slurm_reserve.execute import Outcome, Status
from slurm_reserve.journal import Decided, Entry, Journal, as_json
from slurm_reserve.ledger import Ledger
from slurm_reserve.memory import Score
from slurm_reserve.model import Job, JobKey
from slurm_reserve.news import News
from slurm_reserve.plan import Plan
from slurm_reserve.returns import BACK_TO_QUEUE_WITHIN
from slurm_reserve.tracking import Tracker
from slurm_reserve.view import View

Log = Callable[..., Any]  # log(sentence, **structured values)
MOST_VERDICTS = 200  # that are written down of one cycle; the others' turn comes


class Recorder:
    """Remembers what was reported, so that what stays the same is said once."""

    def __init__(
        self, journal: Journal, ledger: Ledger, log: Log, tell: Callable[[News], None] = lambda _: None
    ) -> None:
        """`tell` is called when a cycle is over; it must return at once, and raise nothing."""
        self._journal, self._ledger, self._log, self._tell = journal, ledger, log, tell
        self._said: dict[str, str] = {}
        self._verdicts: dict[JobKey, str] = {}
        self._sentence = ""
        self._troubles: dict[str, str] = {}
        self._tracker = Tracker(journal.open_loans())

    @property
    def is_writable(self) -> bool:
        """Whether decisions can be written down; nothing new is lent while they cannot."""
        return not self._journal.problem

    @property
    def problems(self) -> dict[str, str]:
        """What cannot be written, and why: the journal, the ledger."""
        found = {"journal": self._journal.problem, "ledger": self._ledger.problem}
        return {what: why for what, why in found.items() if why}

    def decided(self, view: View, plan: Plan, is_whole: bool = True, only: frozenset[str] = frozenset()) -> bool:
        """Before anything is done: decisions, with victim, node, cause and reason (B2, B17), and idleness (B13).

        False when the journal could not take them; then the log has, and nothing may be lent. `only` names the
        reservations that were looked at, when not all were.
        """
        jobs = _by_key(view, plan.actions)
        entries = [self._decision(view, action, jobs) for action in plan.actions]
        entries += self._new_verdicts(view, plan, is_whole)
        if is_whole:
            entries += self._idle(view, plan)
            self._report(plan)
        decided = None
        if plan.actions and self.is_writable:
            kept, _ = inputs.of(view, plan, only)
            decided = Decided(view.cluster.at, __version__, kept, inputs.pack(inputs.answer(plan)))
        return self._write(entries, decided)

    def done(self, view: View, plan: Plan, outcomes: Sequence[Outcome], is_whole: bool = True) -> None:
        """Outcomes, one sentence to the log, and the clocks that the next cycle needs.

        Where not the whole cluster was looked at, what was not seen is not forgotten.
        """
        jobs = _by_key(view, [outcome.action for outcome in outcomes])
        at = view.cluster.at
        entries = [
            Entry(
                at,
                "outcome",
                f"{words.describe(o.action, jobs)}: {o.status}" + (f" ({o.text})" if o.text else ""),
                str(getattr(o.action, "reservation", "")),
                _job_of(o.action),
                as_json(status=o.status, seconds=round(o.seconds, 4), action=type(o.action).__name__),
            )
            for o in outcomes
        ]
        changes = self._tracker.look(view, plan, outcomes, is_whole)
        self._told_of_trouble(self._journal.write(*entries, changes=changes), entries)
        if is_whole:
            self._remember(view, plan)
            self._forecast(view, [o.action for o in outcomes if o.status is Status.DONE])
        else:
            for key, since in plan.waiting_since.items():
                self._ledger.put("waiting_since", key, since)
            taken = frozenset().union(*(decision.nodes for decision in plan.decisions))
            self._count_idleness(view, view.memory.idle_since.keys() - taken)
            for node in taken:
                self._ledger.drop("idle_since", node)
        sentence, refused = _sentence(outcomes, jobs), _count(outcomes, Status.REFUSED)
        if outcomes and not (refused and sentence == self._sentence):  # the same refusal again is no news
            self._log(sentence, actions=len(outcomes), refused=refused)
        self._sentence = sentence
        tracker, problems = self._tracker, {"journal": self._journal.problem, "ledger": self._ledger.problem}
        seen = (tracker.waits, tuple(tracker.loans.values()), tracker.uses)
        self._tell(News(view, plan, tuple(outcomes), changes, is_whole, *seen, problems))

    def _decision(self, view: View, action: Action, jobs: dict[JobKey, Job]) -> Entry:
        text = f"{words.describe(action, jobs)}: {action.reason}"
        data = as_json(action=type(action).__name__, **{f: getattr(action, f) for f in action.__slots__})
        name = str(getattr(action, "reservation", "") or getattr(action, "name", ""))
        return Entry(view.cluster.at, "decision", text, name, _job_of(action), data)

    def _new_verdicts(self, view: View, plan: Plan, is_whole: bool) -> list[Entry]:
        """What is decided about each owner's job, when that is another verdict than before."""
        entries: list[Entry] = []
        now = {d.job.key: str(d.verdict) for d in plan.decisions}
        for d in plan.decisions:
            if self._verdicts.get(d.job.key) != now[d.job.key]:
                if len(entries) >= MOST_VERDICTS:
                    now.pop(d.job.key)
                    continue
                text = f"job {d.job.id} of {d.job.user} {d.verdict}: {d.why}"
                data = as_json(verdict=str(d.verdict), why=d.why, nodes=d.nodes)
                entries.append(Entry(view.cluster.at, "verdict", text, d.reservation, d.job.id, data))
        self._verdicts = now if is_whole else self._verdicts | now
        return entries

    def _idle(self, view: View, plan: Plan) -> list[Entry]:
        fresh = sorted(plan.idle_since.keys() - view.memory.idle_since.keys())
        entries = []
        for name in fresh:
            node = view.cluster.nodes.get(name)
            states = "+".join(sorted(node.states)) if node else "unknown"
            loans = [job.id for job in view.holders.get(name, ())]
            text = f"{name} is idle of its owner: no owner's job holds it; node {states}"
            text += f", borrowers {','.join(loans)}" if loans else ""
            entries.append(
                Entry(view.cluster.at, "idle", text, data=as_json(node=name, states=states, borrowers=loans))
            )
        return entries

    def _report(self, plan: Plan) -> None:
        """Refusals and reports, each once until it changes."""
        now = {**{f"reservation {k} cannot be met": v for k, v in plan.unmet.items()}, **plan.reports}
        for subject, text in now.items():
            if self._said.get(subject) != text:
                self._log(f"{subject}: {text}")
        self._said = dict(now)

    def forget(self, before: datetime) -> None:
        """Let go of what is older than the site wants to keep."""
        self._journal.forget(before)

    def _remember(self, view: View, plan: Plan) -> None:
        ledger = self._ledger
        if outage.is_to_note(view.memory, view.cluster.at):
            ledger.put("looked", "cluster", view.cluster.at)
        ledger.replace("waiting_since", plan.waiting_since)
        ledger.replace("idle_since", plan.idle_since)
        ledger.replace("tallies", {name: asdict(tally) for name, tally in plan.tallies.items()})
        self._count_idleness(view, plan.idle_since.keys())
        ledger.keep_only(frozenset(job.id for job in (*view.cluster.jobs, *view.cluster.lost)))
        if plan.brake and not view.memory.orders.brake:
            self._log(f"the brake is on: {plan.brake}; nothing is lent until `slurm-reserve resume`")
            ledger.put("orders", "brake", plan.brake)
        ledger.forget_evictions(view.cluster.at - timedelta(hours=1))
        for key, evicted in plan.forestalled.items():
            ledger.put_evicted(key, evicted)
        oldest = view.cluster.at - max(view.site.lending.forget_evictions_after, BACK_TO_QUEUE_WITHIN)
        for key, evicted in view.memory.evicted.items():
            if evicted.at < oldest:
                ledger.drop("evicted", key)
        going = {victim.job.key for victim in plan.victims}
        for key in view.memory.notices.keys() - going:
            ledger.drop("notices", key)

    def _count_idleness(self, view: View, idle: Iterable[str]) -> None:
        """How long nodes were idle that are so no more."""
        ours = view.memory.made.keys() - view.lend_names
        reservations = [there for name, there in view.cluster.reservations.items() if name in ours]
        for name, counts in idleness.remembered(view, reservations, idle).items():
            self._ledger.put("spells", name, counts)

    def _forecast(self, view: View, done: list[Action]) -> None:
        """What borrowers were told to expect is compared with what became of them (B42)."""
        scores = dict(view.memory.scores)
        for key, was_lost in estimate.settled(view).items():
            said = view.memory.forecasts[key]
            if was_lost is not None:
                old = scores.get(said.reservation, Score())
                scores[said.reservation] = estimate.scored(old, said.chance_of_loss, was_lost)
                self._ledger.put("scores", said.reservation, asdict(scores[said.reservation]))
            self._ledger.drop("forecasts", key)
        for key in estimate.begun(view):
            self._ledger.put("forecasts", key, asdict(replace(view.memory.forecasts[key], has_run=True)))
        sent = [action for action in done if isinstance(action, AttachJob)]
        for key, forecast in estimate.forecasts(view, sent).items():
            self._ledger.put("forecasts", key, asdict(forecast))

    def _write(self, entries: list[Entry], decided: Decided | None = None) -> bool:
        """To the journal; where that fails, to the log."""
        if not entries and decided is None:
            return True
        return self._told_of_trouble(self._journal.write(*entries, decided=decided), entries)

    def _told_of_trouble(self, is_written: bool, entries: list[Entry]) -> bool:
        """The operator hears once that a file fails and once that it is well; the log has what was not taken."""
        for what, trouble in (("journal", self._journal.problem), ("ledger", self._ledger.problem)):
            before = self._troubles.get(what, "")
            if trouble and not before:
                self._log(f"the {what} cannot be written, so nothing new is lent and this log is the record: {trouble}")
            elif before and not trouble:
                self._log(f"the {what} can be written again; what was decided in between is in this log alone")
            self._troubles[what] = trouble
        if not is_written:
            for entry in entries:
                self._log(entry.text, kind=entry.kind, journal="cannot be written")
        return is_written


def _sentence(outcomes: Sequence[Outcome], jobs: dict[JobKey, Job]) -> str:
    parts = []
    for outcome in outcomes:
        action = outcome.action
        why = f" for {action.cause}" if isinstance(action, EvictJob | NotifyJob) else ""
        why = f", for {action.reason}" if isinstance(action, DetachJob) else why
        result = "" if outcome.status is Status.DONE else f" ({outcome.status}: {words.printable(outcome.text)})"
        parts.append(words.describe(action, jobs) + why + result)
    return "; ".join(parts)


def _count(outcomes: Sequence[Outcome], status: Status) -> int:
    return sum(outcome.status is status for outcome in outcomes)


def _job_of(action: Action) -> str:
    key = getattr(action, "job", None)
    return key.id if isinstance(key, JobKey) else ""


def _by_key(view: View, actions: Iterable[Action]) -> dict[JobKey, Job]:
    """The jobs that the actions are about."""
    named = {_job_of(action) for action in actions}
    ids = named | {job_id.split("_")[0] for job_id in named}  # a task may be part of its array's record
    return {job.key: job for job in view.cluster.jobs if job.id in ids}
