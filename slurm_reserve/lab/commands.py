"""`slurm-reserve lab`: a private Slurm cluster for trying things out. Parses and prints, decides nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from slurm_reserve.lab import Lab, LabError, LabSpec
from slurm_reserve.lab import demo as demonstration

META_COMMAND = "slurm_reserve.lab.command"


class LabGroup(click.Group):
    """A group whose commands may raise LabError: it is told in one line, and the exit code is 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise click.ClickException(str(error)) from error


class CommandAfterDashes(click.Command):
    """A command that keeps what follows `--` apart, so that an optional argument before it stays optional."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before `--`."""
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta[META_COMMAND] = args[cut + 1 :]
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Say so in the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@click.group("lab", cls=LabGroup)
def lab() -> None:
    r"""Run a private, real Slurm cluster on this machine.

    It lives in namespaces and in memory: it can neither see nor touch a Slurm on this machine, writes nothing to
    disk, and leaves nothing when it goes. Root can boot one, and so can an ordinary user who has subordinate ids.

    \b
    Users inside: alice (who owns a reservation, group physics), bob, carol,
    dave, reserve (the service) and root. Partitions: main, preempt.

    Exit codes: 0 done, 1 not possible (the message says why), 2 wrong usage.
    """


@lab.command()
@click.option("--name", default="lab", show_default=True, help="What to call it; several may run at once.")
@click.option("--nodes", type=click.IntRange(1, 200), default=4, show_default=True, help="How many nodes.")
@click.option("--accounting", is_flag=True, help="Run MariaDB and slurmdbd as well: accounts, QOS, sacct.")
@click.option("--json", "as_json", is_flag=True, help="Print what was booted as JSON.")
def up(name: str, nodes: int, accounting: bool, as_json: bool) -> None:
    r"""Boot a lab that runs until `lab down`.

    \b
    Examples:
      slurm-reserve lab up
      slurm-reserve lab up --name policy --nodes 8 --accounting
    """
    began = time.monotonic()

    def say(what: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"starting {what} ...", err=True)

    booted = Lab.boot(LabSpec(nodes=nodes, accounting=accounting), name, detach=True, progress=say)
    if as_json:
        click.echo(json.dumps(describe(booted), indent=2))
        return
    click.echo(f"Lab {name} is up after {time.monotonic() - began:.1f} s, with {nodes} nodes.")
    click.echo(f"  slurm-reserve lab shell {name} --user alice                  a shell inside, as alice")
    click.echo(f"  slurm-reserve lab shell {name} --user bob -- sbatch -p preempt --wrap 'sleep 600'")
    click.echo(f"  slurm-reserve lab down {name}")


def describe(one: Lab) -> dict[str, object]:
    """Say what a lab is, in plain JSON values."""
    return {
        "name": one.name,
        "pid": one.init.pid,
        "started": one.init.create_time(),
        "detached": one.is_detached,
        "accounting": one.spec.accounting,
        "nodes": [node.name for node in one.spec.node_specs],
        "users": [user.name for user in one.spec.all_users],
        "slurm_conf": str(one.conf),
        "enter": one.command(["bash"]),
    }


@lab.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_labs(as_json: bool) -> None:
    r"""List your running labs.

    \b
    Examples:
      slurm-reserve lab list
      slurm-reserve lab list --json
    """
    labs = Lab.running()
    if as_json:
        click.echo(json.dumps([describe(one) for one in labs], indent=2))
        return
    if not labs:
        click.echo("No lab is running.")
        return
    click.echo(f"{'NAME':<20} {'PID':>8} {'NODES':>5} {'ACCOUNTING':<10} {'RUNS UNTIL':<15} AGE")
    for one in labs:
        until = "lab down" if one.is_detached else "its booter ends"
        age = timedelta(seconds=int(time.time() - one.init.create_time()))
        accounting = "yes" if one.spec.accounting else "no"
        nodes = len(one.spec.node_specs)
        click.echo(f"{one.name:<20} {one.init.pid:>8} {nodes:>5} {accounting:<10} {until:<15} {age}")


@lab.command(cls=CommandAfterDashes)
@click.argument("name", required=False)
@click.option("--user", default="root", show_default=True, help="As whom: alice, bob, carol, dave, reserve, root.")
@click.pass_context
def shell(ctx: click.Context, name: str | None, user: str) -> None:
    r"""Open a shell in a lab, or run one command there; its exit code is the command's.

    NAME can be left out while one lab runs.

    \b
    Examples:
      slurm-reserve lab shell
      slurm-reserve lab shell --user alice -- squeue --me
    """
    argv = only(name).command(ctx.meta[META_COMMAND] or ["bash"], user)
    os.execv(argv[0], argv)  # noqa: S606  the terminal goes with it, and no shell reads the arguments


@lab.command()
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, writable=True), help="Write steps and times to FILE."
)
def demo(json_file: str | None) -> None:
    r"""Tell the story on a lab of its own: reserve, lend, reclaim.

    It submits real jobs as the lab's users and waits until Slurm's own commands show each step. Ends with 0 only if
    every step was seen.

    \b
    Examples:
      slurm-reserve lab demo
      slurm-reserve lab demo --json steps.json
    """
    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    story = demonstration.tell(console)
    if json_file:
        Path(json_file).write_text(demonstration.as_json(story))


@lab.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="End all of your labs.")
def down(name: str | None, every: bool) -> None:
    r"""End a lab with everything in it.

    NAME can be left out while one lab runs.

    \b
    Examples:
      slurm-reserve lab down policy
      slurm-reserve lab down --all
    """
    if name and every:
        raise click.UsageError("give a NAME or --all, not both")
    for one in Lab.running() if every else [only(name)]:
        one.down()
        click.echo(f"Lab {one.name} is down.")


def only(name: str | None) -> Lab:
    """Give the lab of that name, or the one that runs; raises LabError when that does not say which."""
    if name:
        return Lab.find(name)
    labs = Lab.running()
    if len(labs) != 1:
        names = ", ".join(one.name for one in labs)
        raise LabError(f"several labs are running, say which: {names}" if labs else "no lab is running")
    return labs[0]
