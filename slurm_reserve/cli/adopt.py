"""`adopt`: take over a reservation that exists in Slurm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurm_reserve.cli.common import Setting, ledger_of, now
from slurm_reserve.cli.declare import DRY, WAIT, Done, RefusedError, finish, locked, refuse, with_options, write_down

if TYPE_CHECKING:
    from slurm_reserve.model import Reservation
    from slurm_reserve.site import ReservationSpec, Site


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve adopt physics --dry-run\n  slurm-reserve adopt physics --notice 30s"
)
@click.argument("name")
@with_options
@DRY
@WAIT
@click.pass_context
def adopt(ctx: click.Context, /, name: str, dry_run: bool, wait: bool, **values: Any) -> None:
    """Take over a reservation that an admin made in Slurm, with its nodes, owners and period.

    It is declared in reservations.d as it is, unless it is declared already; options change what is declared. From
    then on it is ours: corrected, extended, lent from. Its running and waiting jobs are not touched.
    """
    from slurm_reserve import adoption, cycle, declared

    setting: Setting = ctx.obj
    with locked(setting, dry_run):
        site = setting.site()
        cluster = cycle.observe(site, setting.slurm(site))
        existing = cluster.reservations.get(name)
        if existing is None:
            raise RefusedError(f"Slurm has no reservation {name}; it has {', '.join(cluster.reservations) or 'none'}")
        known = site.reservation(name)
        spec = known or _described(site, existing, values)
        if known is not None and any(value not in (None, ()) for value in values.values()):
            raise RefusedError(f"{name} is declared already, at {known.origin}; change it there, or use update")
        if why := list(adoption.obstacles(cluster, existing)):
            raise RefusedError(f"{name} cannot be taken over: " + "; ".join(why))
        refuse(site, spec, cluster)
        if known is None:
            declared.refuse_shared(setting.site_file, name)
        if not dry_run and known is None:
            write_down(setting, site, spec)
    done = _done(existing, spec, dry_run)
    if not dry_run:
        _take_over(site, name)
        finish(setting, done, wait, lambda there: there is not None and "OVERLAP" in there.flags)
    elif setting.as_json:
        setting.show({"reservation": name, "text": done.said, **done.data})
    else:
        click.echo("\n".join([done.told, *done.more]))


def _described(site: Site, existing: Reservation, values: dict[str, Any]) -> ReservationSpec:
    from slurm_reserve import adoption
    from slurm_reserve.cli.options import blank, build

    spec = adoption.declaration(existing, blank(existing.name, site))
    everybody = existing.users | existing.accounts | existing.groups
    if not everybody or any(name.startswith("-") for name in everybody):
        return spec  # an obstacle that is told as such
    return build(values, spec)


def _take_over(site: Site, name: str) -> None:
    from slurm_reserve import control

    order = {"do": "adopt", "reservation": name}
    if control.give(site.daemon.run_dir, order) is None:
        with ledger_of(site) as ledger:
            control.apply(ledger, order, now())


def _done(existing: Reservation, spec: ReservationSpec, dry_run: bool) -> Done:
    from slurm_reserve import adoption, hostlist

    said = f"{'would be' if dry_run else 'is'} taken over"
    changes = tuple(adoption.consequences(existing))
    nodes = hostlist.fold(existing.nodes)
    until = (
        () if spec.end is None else (f"it ends at {spec.end:%Y-%m-%d %H:%M %Z}, as before; update --end changes that",)
    )
    return Done(
        spec.name,
        said,
        told=f"{spec.name} on {nodes} {said}",
        more=tuple(f"  {line}" for line in (*changes, *until)),
        data={"nodes": nodes, "changes": changes, "dry_run": dry_run},
    )
