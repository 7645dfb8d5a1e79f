"""`explain`, `history`, `replay` and `promise`: what was recorded, for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from slurm_reserve.cli.common import Setting, look, now, reservation_names

if TYPE_CHECKING:
    from slurm_reserve.evidence.reading import Reader
    from slurm_reserve.site import Site

NOT_KEPT = 6  # exit status: what a decision was made from was too large to be kept, or cannot be read
NAME = click.argument("name", shell_complete=reservation_names)
SINCE = click.option("--since", help="A time, or how long ago: 2030-01-31, 08:00, 7d.")


@contextmanager
def journal_of(site: Site) -> Iterator[Reader]:
    """The journal, for looking; raises JournalError."""
    from slurm_reserve.evidence.reading import reading
    from slurm_reserve.journal import FILE_NAME

    with reading(site.daemon.state_dir / FILE_NAME) as reader:
        yield reader


def time_of(text: str | None) -> datetime | None:
    """`7d` is so long ago, 08:00 was there last; anything else is a time as Slurm writes them."""
    from slurm_reserve.durations import parse_past

    return None if text is None else parse_past(text, datetime.now().astimezone()).astimezone(UTC)


@click.command(epilog="\b\nExamples:\n  slurm-reserve explain 1234\n  slurm-reserve --json explain 1234_7")
@click.argument("job")
@click.pass_context
def explain(ctx: click.Context, job: str) -> None:
    """Say in sentences what became of a job, and why.

    Of a borrower where it ran and for whom it was evicted, of an owner's job what it waited for, of a job that waits
    what is decided about it now.
    """
    from slurm_reserve.errors import ReserveError
    from slurm_reserve.evidence import explain as told

    setting: Setting = ctx.obj
    site = setting.site()
    with journal_of(site) as reader:
        loans, waits = reader.loans(job=job), reader.waits(job=job)
        steps = told.story(reader.entries(job=job))
    try:
        current = _now(setting, job)
    except ReserveError as error:  # what was recorded is told all the same
        current = [f"how it stands now cannot be seen: {error}"]
    said = [*map(told.about_loan, loans), *map(told.about_wait, waits), *current]
    if setting.as_json:
        setting.show({"job": job, "sentences": said, "steps": [asdict(step) for step in steps]})
    else:
        for sentence in said:
            click.echo(sentence)
        _print_steps(steps)
        if not said and not steps:
            click.echo(f"nothing is known of job {job}: it is not in the journal, and wants nothing of ours now")
    ctx.exit(0 if said or steps else 1)


def _now(setting: Setting, job: str) -> list[str]:
    result, _ = look(setting)
    plan, said = result.plan, []
    parts = (job, job.split("_", maxsplit=1)[0])
    said += [f"it now {d.verdict}: {d.why}" for d in plan.decisions if d.job.id in parts]
    said += [f"it is about to be lent {loan.reason}" for loan in plan.loans if loan.job.id == job]
    said += [f"it is not lent to: {why}" for each, why in plan.not_lent.items() if each in parts]
    said += [f"it has to go: {v.reason}" for v in plan.victims if v.job.id == job]
    withheld = [f"{name} lends nothing new: {why}" for name, why in plan.withheld.items()]
    return said + (withheld if any("not lent to" in each for each in said) else [])


def _print_steps(steps: Any) -> None:
    from slurm_reserve.evidence.explain import moment

    for step in steps:
        number = f"  [decision {step.decision}]" if step.decision else ""
        click.echo(f"  {moment(step.at)}  {step.what:8} {step.text}{number}")


@click.command(epilog="\b\nExamples:\n  slurm-reserve history physics\n  slurm-reserve history physics --since 7d")
@NAME
@SINCE
@click.pass_context
def history(ctx: click.Context, name: str, since: str | None) -> None:
    """Print the chain of each borrowed interval.

    Reservation, evidence that the node was idle, loan, decision, signals, end, and the owner's start.
    """
    from slurm_reserve.evidence import explain as told

    setting: Setting = ctx.obj
    begin = time_of(since)
    with journal_of(setting.site()) as reader:
        loans = [loan for loan in reader.loans(name) if begin is None or (loan.ended or now()) >= begin]
        found = told.chains(loans, reader.entries(), reader.waits(name))
    if setting.as_json:
        setting.show([{"loan": asdict(c.loan), "steps": [asdict(step) for step in c.steps]} for c in found])
        return
    for chain in found:
        click.echo(told.about_loan(chain.loan))
        _print_steps(chain.steps)
    if not found:
        click.echo(f"nothing of {name} was lent")


@click.command(epilog="\b\nExamples:\n  slurm-reserve replay 17\n  slurm-reserve replay --all")
@click.argument("decision", type=int, required=False)
@click.option("--all", "is_all", is_flag=True, help="Every decision of the journal.")
@click.pass_context
def replay(ctx: click.Context, decision: int | None, is_all: bool) -> None:
    """Run the planner on what a decision was made from, and see that the same follows.

    Ends with 1 where something else follows, and with 6 where that cannot be known: what a decision was made from is
    kept up to 64 KB, and what another release wrote down may not be readable.
    """
    setting: Setting = ctx.obj
    if (decision is None) != is_all:
        raise click.UsageError("give the number of one decision, or --all")
    with journal_of(setting.site()) as reader:
        numbers = reader.decisions() if is_all else [decision or 0]
        found = [reader.replay(number) for number in numbers]
    if setting.as_json:
        setting.show([asdict(each) | {"is_same": each.is_same} for each in found])
    else:
        for each in found:
            how = "the same follows" if each.is_same else f"something else follows: {each.again}"
            how = f"cannot be made again: {each.problem}" if each.is_same is None else how
            click.echo(f"decision {each.number} of {each.at:%Y-%m-%d %H:%M:%S %Z}: {how}")
            for kind, fields in [] if is_all else each.recorded:
                click.echo(f"  {kind}: {fields}")
    if any(each.is_same is False for each in found):
        ctx.exit(1)
    ctx.exit(NOT_KEPT if any(each.is_same is None for each in found) else 0)


@click.command(epilog="\b\nExamples:\n  slurm-reserve promise\n  slurm-reserve promise physics --since 30d")
@click.argument("name", required=False, shell_complete=reservation_names)
@SINCE
@click.pass_context
def promise(ctx: click.Context, name: str | None, since: str | None) -> None:
    """Say how long owners waited, of what that was made up, and each wait that was longer than promised."""
    from slurm_reserve.evidence.explain import about_wait, span
    from slurm_reserve.evidence.promise import measured

    setting: Setting = ctx.obj
    with journal_of(setting.site()) as reader:
        found = measured(reader.waits(name or ""), time_of(since))
    if setting.as_json:
        setting.show([asdict(each) for each in found])
        return
    for each in found:
        for what, spread in (("all starts", each.starts), ("nodes taken back", each.taken_back)):
            figures = f"median {span(spread.median)}, p95 {span(spread.p95)}, most {span(spread.most)}"
            click.echo(f"{each.reservation}, {what}: {spread.count}" + (f", {figures}" if spread.count else ""))
        if each.taken_back.count:
            parts = (f"{part} {span(s.median)}, {span(s.p95)}, {span(s.most)}" for part, s in each.parts.items())
            click.echo(f"  of which {'; '.join(parts)}")
        click.echo(f"  {len(each.breaches)} longer than promised")
        for wait in each.breaches:
            click.echo(f"  {about_wait(wait)}")
    if not found:
        click.echo("no owner's job was seen to start")
