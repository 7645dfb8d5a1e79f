"""`give-back`: what the service runs when the daemon has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slurm_reserve.cli.common import Setting, ledger_of, look, now

if TYPE_CHECKING:
    from slurm_reserve.site import Site


@click.command(
    "give-back",
    epilog="\b\nExamples:\n  slurm-reserve give-back\n  slurm-reserve give-back --all --dry-run",
)
@click.option("--all", "is_all", is_flag=True, help="Also what Slurm's own preemption would give back.")
@click.option("--within", default="45s", show_default=True, help="Give up after so long.")
@click.option("--dry-run", is_flag=True, help="Only say which jobs would go.")
@click.pass_context
def give_back(ctx: click.Context, is_all: bool, within: str, dry_run: bool) -> None:
    """End loans that nobody would take back without a daemon, at once and without notice.

    The service's fail-safe: systemd runs it whenever the daemon has ended, however that came about. Loans above
    Slurm's own preemption stay. Refused while a daemon runs: then use `lend NAME off`. Where a daemon on another host
    acts, loans are left to it, and nothing is changed.
    """
    from slurm_reserve.durations import parse_duration

    setting: Setting = ctx.obj
    longest = parse_duration(within)
    if dry_run:
        if other := _other(setting, setting.site()):
            _leave_to(setting, other)
        else:
            _tell(setting, _who(setting, is_all), "would be requeued or cancelled")
        return
    from slurm_reserve.cli.run import make_log, make_recorder
    from slurm_reserve.daemon import only_one
    from slurm_reserve.giveback import GiveBack
    from slurm_reserve.lease import TakenError

    site = setting.site()
    with only_one(site.daemon.run_dir, site.daemon.state_dir), ledger_of(site, may_be_lost=True) as ledger:
        recorder = make_recorder(site, ledger, make_log("text"))
        try:
            done = GiveBack(site, setting.slurm(site), ledger, recorder, now, is_all).run_in_turn(longest)
        except TakenError as other:
            _leave_to(setting, str(other))
            return
    from slurm_reserve.actions import EvictJob

    gone = [outcome.action.job.id for outcome in done if isinstance(outcome.action, EvictJob)]
    _tell(setting, sorted(set(gone)), "gone from lent nodes")


def _who(setting: Setting, is_all: bool) -> list[str]:
    from slurm_reserve import failsafe

    result, _ = look(setting)
    return [job.id for job in failsafe.still_lent(result.view, is_all)]


def _other(setting: Setting, site: Site) -> str:
    """That another daemon acts, where one does: looked up without taking the lease."""
    if site.daemon.lease is None:
        return ""
    from slurm_reserve import lease
    from slurm_reserve.ledger import FILE_NAME, LedgerError, noted

    found = setting.slurm(site).read_nodes([])[0].get(lease.NAME)
    try:
        start = noted(site.daemon.state_dir / FILE_NAME, "lease", "start")
    except LedgerError:  # as good as none
        start = None
    return lease.taken(found) if found is not None and not lease.is_of(found, start) else ""


def _leave_to(setting: Setting, other: str) -> None:
    said = f"{other}; loans are left to it"
    if setting.as_json:
        setting.show({"jobs": [], "text": said})
    else:
        click.echo(said)


def _tell(setting: Setting, jobs: list[str], what: str) -> None:
    if setting.as_json:
        setting.show({"jobs": jobs, "text": what})
    else:
        click.echo(f"jobs {', '.join(jobs)} {what}" if jobs else "nothing has to be given back")
