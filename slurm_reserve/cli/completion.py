"""`completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(epilog="\b\nExample:\n  slurm-reserve completion bash > /etc/bash_completion.d/slurm-reserve")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and reservation names."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "slurm-reserve", "_SLURM_RESERVE_COMPLETE").source())
