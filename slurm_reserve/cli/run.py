"""`run` and `plan`."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import click

from slurm_reserve.cli.common import Setting, console, look, now

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from slurm_reserve.cycle import Result
    from slurm_reserve.news import News
    from slurm_reserve.record import Recorder
    from slurm_reserve.site import Site


MOST_FOR_ACCOUNTS = timedelta(seconds=3)


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve run\n  slurm-reserve run --once\n  slurm-reserve run --once --dry-run"
)
@click.option("--once", is_flag=True, help="One cycle, then end.")
@click.option("--dry-run", is_flag=True, help="Only say what a cycle would do; the same as `plan`.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def run(ctx: click.Context, once: bool, dry_run: bool, log_format: str) -> None:
    """Run the daemon until SIGTERM.

    SIGHUP reads the site file again; a bad one is reported, and the old one stays in force.
    """
    setting: Setting = ctx.obj
    if dry_run:
        _explain(setting)
        return
    site = setting.site()
    log = make_log(log_format)
    from slurm_reserve.daemon import only_one

    with only_one(site.daemon.run_dir, site.daemon.state_dir):
        _serve(setting, site, log, once)


def _serve(setting: Setting, site: Site, log: Any, once: bool) -> None:
    from slurm_reserve import control, cycle
    from slurm_reserve.cli.common import ledger_of
    from slurm_reserve.daemon import Daemon
    from slurm_reserve.lease import Lease, LeasedSlurm
    from slurm_reserve.rounds import Rounds
    from slurm_reserve.watcher import Watcher

    slurm: Any = setting.slurm(site)
    with ledger_of(site, may_be_lost=True) as ledger:
        lease = None
        if site.daemon.lease is not None:
            lease = Lease(slurm, site, ledger, now, site.daemon.lease)
            slurm = LeasedSlurm(slurm, lease)
        watcher = None if once else Watcher(log)
        recorder = make_recorder(site, ledger, log, watcher.news if watcher else None)
        if once:
            control.forget_past(ledger, now())
            site = replace(site, daemon=replace(site.daemon, fail_safe=False))  # nobody watches what ends at once
            _report(setting, cycle.run_once(site, slurm, ledger, recorder, now))
            if lease is not None:
                lease.release()
        else:
            # Asked on behalf of anybody who knocks: an accounting that hangs must not keep the daemon for long.
            quick = replace(site, slurm=replace(site.slurm, timeout=min(site.slurm.timeout, MOST_FOR_ACCOUNTS)))
            members = setting.slurm(quick).account_users
            Daemon(Rounds(site, slurm, ledger, recorder, now, log, watcher), setting.site, lease, members).run()


def make_recorder(site: Site, ledger: Any, log: Any, tell: Callable[[News], None] | None = None) -> Recorder:
    """Writes to the journal in the state directory, as soon as that can be written; raises NewerJournalError."""
    from slurm_reserve.journal import FILE_NAME, Journal
    from slurm_reserve.record import Recorder

    parts = (Journal(site.daemon.state_dir / FILE_NAME), ledger, log.info)
    return Recorder(*parts, tell) if tell else Recorder(*parts)


def make_log(log_format: str) -> Any:
    """One sentence a line on standard error, with its values behind it."""
    import structlog

    last: list[Any] = [structlog.processors.JSONRenderer()]
    if log_format == "text":
        last = [_on_one_line, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing(sys.stderr))),
    )
    return structlog.get_logger()


class _Unfailing:
    """A stream that loses what cannot be written: a full disk must not end the daemon that gives nodes back."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _on_one_line(_log: Any, _method: str, values: Any) -> Any:
    """What others wrote neither begins a line of its own nor speaks to the terminal."""
    from slurm_reserve.words import printable

    return {
        key: printable("; ".join(value.splitlines()), 10_000) if isinstance(value, str) else value
        for key, value in values.items()
    }


def _report(setting: Setting, result: Result) -> None:
    """What one cycle did."""
    from slurm_reserve import words

    jobs = {job.key: job for job in result.view.cluster.jobs}
    done = [
        {"action": words.describe(o.action, jobs), "reason": o.action.reason, "status": str(o.status), "text": o.text}
        for o in result.outcomes
    ]
    if setting.as_json:
        setting.show({"actions": done, "unmet": dict(result.plan.unmet), "reports": dict(result.plan.reports)})
        return
    for each in done:
        click.echo(f"{each['action']}: {each['status']}" + (f" ({each['text']})" if each["text"] else ""))
    if not done:
        click.echo("nothing to do")


@click.command(epilog="\b\nExamples:\n  slurm-reserve plan\n  slurm-reserve --json plan")
@click.pass_context
def plan(ctx: click.Context) -> None:
    """Say what a cycle would do now, and why: for each reservation and each job. Changes nothing."""
    _explain(ctx.obj)


def _explain(setting: Setting) -> None:
    from slurm_reserve.cli.explain import as_data, print_plan

    result, remark = look(setting)
    if setting.as_json:
        setting.show(as_data(result) | ({"remark": remark} if remark else {}))
    else:
        print_plan(console(), result, remark)
