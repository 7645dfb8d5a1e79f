"""`slurm-reserve`: the group of commands, each imported only when it is used."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from slurm_reserve import __version__
from slurm_reserve.errors import ReserveError

# command -> (module below slurm_reserve, name in it, one line of help)
COMMANDS = {
    "run": ("cli.run", "run", "Run the daemon, or one cycle."),
    "plan": ("cli.run", "plan", "Say what would be done now, and why."),
    "status": ("cli.status", "status", "Show nodes, loans and who waits."),
    "explain": ("cli.evidence", "explain", "Say what became of a job, and why."),
    "history": ("cli.evidence", "history", "Print the chain of each borrowed interval."),
    "replay": ("cli.evidence", "replay", "Make a recorded decision again."),
    "promise": ("cli.evidence", "promise", "Say how long owners waited."),
    "report": ("cli.report", "report", "Account for what was owned, used, lent and earned."),
    "idle": ("cli.report", "idle", "Say how much of what is reserved lies idle."),
    "create": ("cli.declare", "create", "Declare a reservation."),
    "list": ("cli.declare", "list_", "List declared reservations."),
    "show": ("cli.declare", "show", "Show one reservation, with its bound."),
    "update": ("cli.declare", "update", "Change a reservation that was created here."),
    "delete": ("cli.declare", "delete", "Withdraw a reservation that was created here."),
    "lend": ("cli.orders", "lend", "Turn lending of a reservation on or off."),
    "reclaim": ("cli.orders", "reclaim", "Take lent nodes back now."),
    "pause": ("cli.orders", "pause", "Lend nothing new; reclaim goes on."),
    "resume": ("cli.orders", "resume", "Lend again after a pause."),
    "restore": ("cli.orders", "restore", "Make a reservation that was changed by hand what is declared."),
    "adopt": ("cli.adopt", "adopt", "Take over a reservation that exists."),
    "give-back": ("cli.giveback", "give_back", "End loans that nobody would take back without a daemon."),
    "estimate": ("cli.estimate", "estimate", "Say what a borrower may expect."),
    "check": ("cli.check", "check", "Name every setting that would break the promise."),
    "completion": ("cli.completion", "completion", "Print a script for shell completion."),
    "lab": ("lab.commands", "lab", "Private real clusters on this machine."),
}
EPILOG = """\b
Examples:
  slurm-reserve check
  slurm-reserve create physics --nodes n[1-2] --user alice --notice 30s
  slurm-reserve --json status
  slurm-reserve lab demo

\b
Exit status:
  0  done
  1  refused, or a problem was found
  2  wrong usage
  3  the configuration is invalid
  4  Slurm cannot be reached or read
  5  a daemon runs already
  6  replay: a decision's inputs were too large to be kept, or cannot be read
"""


class Lazy(click.Group):
    """Knows its commands by name and imports a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are most used."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(f"slurm_reserve.{module}"), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, _, help_) in COMMANDS.items()])


@click.group(cls=Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.option(
    "--site", "site_file", type=click.Path(path_type=Path), default=Path("/etc/slurm-reserve/site.yaml"),
    envvar="SLURM_RESERVE_SITE", show_default=True, show_envvar=True, help="The site file.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.version_option(__version__, prog_name="slurm-reserve")
@click.pass_context
def cli(ctx: click.Context, site_file: Path, as_json: bool) -> None:
    """Lend idle reserved Slurm nodes to preemptible jobs, and give them back when their owner submits."""
    from slurm_reserve.cli.common import Setting

    ctx.obj = Setting(site_file, as_json)


def main() -> None:
    """Run a command; every error of this package is one clear message and an exit status."""
    try:
        sys.exit(cli(prog_name="slurm-reserve", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ReserveError as error:
        sys.exit(_tell(error))


def _tell(error: ReserveError) -> int:
    status = _status(error)
    if "--json" in sys.argv:
        told: dict[str, Any] = {"error": type(error).__name__, "text": str(error), "status": status}
        click.echo(json.dumps(told))
    click.echo(f"error: {error}", err=True)
    return status


def _status(error: ReserveError) -> int:
    """The exit status by the error's kind; the modules are loaded already when such an error comes from them."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ConfigError" in kinds:
        return 3
    if kinds & {"SlurmUnavailableError", "SlurmUnreadableError"}:
        return 4
    return 5 if "AlreadyRunningError" in kinds else 1
