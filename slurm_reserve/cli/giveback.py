"""`give-back`: what the service runs when the daemon has ended."""

from __future__ import annotations

import click

from slurm_reserve.cli.common import Setting, ledger_of, look, now


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
    Slurm's own preemption stay. Refused while a daemon runs: then use `lend NAME off`.
    """
    from slurm_reserve.durations import parse_duration

    setting: Setting = ctx.obj
    longest = parse_duration(within)
    if dry_run:
        _tell(setting, _who(setting, is_all), "would be requeued or cancelled")
        return
    from slurm_reserve.cli.run import make_log, make_recorder
    from slurm_reserve.daemon import only_one
    from slurm_reserve.giveback import GiveBack

    site = setting.site()
    with only_one(site.daemon.run_dir, site.daemon.state_dir), ledger_of(site, may_be_lost=True) as ledger:
        recorder = make_recorder(site, ledger, make_log("text"))
        done = GiveBack(site, setting.slurm(site), ledger, recorder, now, is_all).run(longest)
    from slurm_reserve.actions import EvictJob

    gone = [outcome.action.job.id for outcome in done if isinstance(outcome.action, EvictJob)]
    _tell(setting, sorted(set(gone)), "gone from lent nodes")


def _who(setting: Setting, is_all: bool) -> list[str]:
    from slurm_reserve import failsafe

    result, _ = look(setting)
    return [job.id for job in failsafe.still_lent(result.view, is_all)]


def _tell(setting: Setting, jobs: list[str], what: str) -> None:
    if setting.as_json:
        setting.show({"jobs": jobs, "text": what})
    else:
        click.echo(f"jobs {', '.join(jobs)} {what}" if jobs else "nothing has to be given back")
