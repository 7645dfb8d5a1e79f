"""`check`."""

from __future__ import annotations

from dataclasses import asdict

import click

from slurm_reserve.cli.common import Setting, console


@click.command(epilog="\b\nExamples:\n  slurm-reserve check\n  slurm-reserve --json check")
@click.pass_context
def check(ctx: click.Context) -> None:
    """Name every setting of site file and cluster that would break the promise, with its remedy.

    Run it as the daemon's user. Ends with 1 when there is an error among them. docs/checks.md lists all that it knows.
    """
    from rich.text import Text

    from slurm_reserve import check as checks
    from slurm_reserve import cycle, here, periods
    from slurm_reserve.bound import bound
    from slurm_reserve.cli.common import remembered
    from slurm_reserve.config import check_against
    from slurm_reserve.durations import format_duration
    from slurm_reserve.view import View

    setting: Setting = ctx.obj
    site = setting.site()
    slurm = setting.slurm(site)
    cluster = cycle.observe(site, slurm)
    view = View(site, cluster, remembered(site)[0])
    problems = [str(problem) for problem in check_against(site, cluster)]
    found = checks.findings(view, here.look(site, cluster, slurm))
    promises = {
        spec.name: {
            "bound": bound(site, cluster.config, spec).total,
            "windows": periods.describe(spec, cluster.at),
            "without_daemon": checks.protector(view, spec),
        }
        for spec in site.reservations
    }
    is_bad = bool(problems) or any(f.level is checks.Level.ERROR for f in found)
    if setting.as_json:
        setting.show(
            {"problems": problems, "findings": [asdict(f) for f in found], "promises": promises, "ok": not is_bad}
        )
        ctx.exit(int(is_bad))
    out = console()
    for problem in problems:
        out.print(Text(f"error: {problem}", style="red"))
    styles = {checks.Level.ERROR: "red", checks.Level.WARNING: "yellow", checks.Level.NOTE: ""}
    for each in found:
        out.print(Text(f"{each.level}: {each.subject}: {each.text} [{each.id}]", style=styles[each.level]))
        out.print(Text(f"    remedy: {each.remedy}", style="dim"))
    for spec in site.reservations:
        longest = format_duration(bound(site, cluster.config, spec).total)
        out.print(Text(f"{spec.name}: the owner waits at most {longest} for lent nodes", style="bold"))
        if said := periods.describe(spec, cluster.at):
            out.print(Text(f"    {said}"))
        out.print(Text(f"    without the daemon they come back by: {checks.protector(view, spec)}"))
    out.print("errors were found" if is_bad else "no errors")
    ctx.exit(int(is_bad))
