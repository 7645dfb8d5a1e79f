"""`create`, `list`, `show`, `update` and `delete`: reservations declared in reservations.d."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from slurm_reserve.cli.common import Setting, console, look, now, reservation_names
from slurm_reserve.errors import ReserveError

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_reserve.model import Cluster, Reservation
    from slurm_reserve.site import ReservationSpec, Site

NAME = click.argument("name", shell_complete=reservation_names)
DRY = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
WAIT = click.option("--wait/--no-wait", default=True, show_default=True, help="Until the daemon has made it so.")
LONGEST_WAIT = 30.0  # seconds
NO_DAEMON = "no daemon runs; the next one will make it so"


class RefusedError(ReserveError):
    """What was asked cannot be done; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done about a reservation, before Slurm shows it."""

    name: str
    said: str  # "is declared"
    told: str = ""  # the same for people, where there is more to say
    more: tuple[str, ...] = ()  # lines below
    data: Mapping[str, object] = field(default_factory=dict)  # for machines
    may_stay: bool = False  # Slurm may go on showing it while jobs run


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    from slurm_reserve.cli.options import OPTIONS

    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve create physics --nodes n[1-2] --user alice --notice 30s\n"
    "  slurm-reserve create bio --node-count 2 --partition main --account bio\n"
    "  slurm-reserve create geo --nodes n9 --group geo --max-nodes 2\n"
    "  slurm-reserve create chem --nodes n7 --user dave --dry-run"
)
@click.argument("name")
@with_options
@DRY
@WAIT
@click.pass_context
def create(ctx: click.Context, /, name: str, dry_run: bool, wait: bool, **values: Any) -> None:
    """Declare a reservation, when it can be met on this cluster.

    It is written to reservations.d beside the site file before anything is done in Slurm.
    """
    from slurm_reserve.cli.options import blank, build

    _declare(ctx.obj, name, lambda site: build(values, blank(name, site)), dry_run, wait, is_new=True)


@click.command(
    epilog="\b\nExamples:\n  slurm-reserve update physics --nodes n[1-3]\n  slurm-reserve update physics --notice 1m\n"
    "  slurm-reserve update physics --victims youngest --min-run-time 10m --dry-run"
)
@NAME
@with_options
@DRY
@WAIT
@click.pass_context
def update(ctx: click.Context, /, name: str, dry_run: bool, wait: bool, **values: Any) -> None:
    """Change what is given, of a reservation that was created here."""
    from slurm_reserve.cli.options import build

    def changed(site: Site) -> ReservationSpec:
        return build(values, _ours(ctx.obj, site, name))

    _declare(ctx.obj, name, changed, dry_run, wait, is_new=False)


def _declare(
    setting: Setting, name: str, make: Callable[[Site], ReservationSpec], dry_run: bool, wait: bool, is_new: bool
) -> None:
    from slurm_reserve import cycle, declared

    with locked(setting, dry_run):
        site = setting.site()
        if is_new and site.reservation(name) is not None:
            raise RefusedError(f"{name} is declared already, at {setting.spec(site, name).origin}; use update")
        spec = make(site)
        refuse(site, spec, cycle.observe(site, setting.slurm(site)))
        declared.refuse_shared(setting.site_file, name)
        if not dry_run:
            write_down(setting, site, spec)
    if dry_run:
        text = declared.dump_reservation(spec, getpass.getuser(), now(), site.defaults)
        _tell(setting, name, "would be declared", text)
    else:
        finish(setting, Done(name, "is declared"), wait, lambda there: there is not None and _has_all(spec, there))


def locked(setting: Setting, dry_run: bool) -> AbstractContextManager[object]:
    """Alone among those that declare; who only looks waits for nobody, and makes no folder."""
    from slurm_reserve import declared

    return nullcontext() if dry_run else declared.declared_lock(setting.site_file)


def refuse(site: Site, spec: ReservationSpec, cluster: Cluster) -> None:
    """Raise with the reason when the reservation cannot be met beside all others, or not be declared as it is."""
    from slurm_reserve import config
    from slurm_reserve.desired import why_unmet_beside

    others = tuple(other for other in site.reservations if other.name != spec.name)
    if why := why_unmet_beside(replace(site, reservations=others), cluster, spec):
        raise RefusedError(f"{spec.name} cannot be met: {why}")
    config.refuse(spec, others)


def write_down(setting: Setting, site: Site, spec: ReservationSpec) -> None:
    """What is written must load with all the rest; else the file is as it was before."""
    from slurm_reserve import declared

    with declared.put_back(setting.site_file, spec.name):
        declared.write_reservation(setting.site_file, spec, getpass.getuser(), now(), site.defaults)
        setting.site()


def _has_all(spec: ReservationSpec, there: Reservation) -> bool:
    """Whether Slurm's reservation has just the nodes, or as many, as are declared."""
    return there.nodes == spec.nodes if isinstance(spec.nodes, frozenset) else len(there.nodes) == spec.nodes.node_count


def _ours(setting: Setting, site: Site, name: str) -> ReservationSpec:
    """The reservation, if it stands in reservations.d; raises RefusedError when it stands in the site file."""
    from slurm_reserve import declared

    spec = setting.spec(site, name)
    if spec.origin.rpartition(":")[0] != str(declared.file_of(setting.site_file, name)):
        raise RefusedError(f"{name} is declared at {spec.origin}: change it there, then reload the daemon")
    return spec


def _tell(setting: Setting, name: str, said: str, declaration: str = "") -> None:
    """What was done; and the file that would have been written, where it was not."""
    if setting.as_json:
        setting.show({"reservation": name, "text": said} | ({"declaration": declaration} if declaration else {}))
    else:
        click.echo(f"{name} {said}" + (f":\n{declaration.rstrip()}" if declaration else ""))


def finish(setting: Setting, done: Done, wait: bool, is_shown: Callable[[Any], bool]) -> None:
    """Say what was done, and what Slurm shows of it. In JSON both at once, for it is one document."""
    if not setting.as_json:
        click.echo("\n".join([done.told or f"{done.name} {done.said}", *done.more]))
    shown = _until_shown(setting, done, wait, is_shown)
    if setting.as_json:
        setting.show({"reservation": done.name, "text": done.said, "slurm": shown, **done.data})
    elif shown:
        click.echo(shown, err=shown == NO_DAEMON)


def _until_shown(setting: Setting, done: Done, wait: bool, is_shown: Callable[[Any], bool]) -> str:
    """Wake the daemon, and wait until Slurm shows what was asked; "" when nobody waits."""
    from slurm_reserve import control, cycle
    from slurm_reserve.slurm.port import SlurmUnavailableError

    site = setting.site()
    if control.give(site.daemon.run_dir, {"do": "wake"}) is None:
        return NO_DAEMON
    if not wait:
        return ""
    end = time.monotonic() + LONGEST_WAIT
    slurm = setting.slurm(site)
    while True:
        try:
            cluster = cycle.observe(site, slurm)
        except SlurmUnavailableError as error:
            raise SlurmUnavailableError(f"{done.name} {done.said}; what Slurm shows is not known: {error}") from error
        there = cluster.reservations.get(done.name)
        if is_shown(there):
            return f"Slurm shows {done.name}" + (f" on {_fold(there.nodes)}" if there else " no more")
        if time.monotonic() >= end:
            break
        time.sleep(0.3)
    if done.may_stay and (running := _inside(cluster, done.name)):
        return f"Slurm still shows {done.name}, for {running} in it; it goes when they have ended"
    text = f"{done.name} {done.said}, but Slurm does not show that after {LONGEST_WAIT:.0f} s"
    raise RefusedError(f"{text}; `slurm-reserve plan` says why")


def _inside(cluster: Cluster, name: str) -> str:
    """Who runs in a reservation, or on what is lent of it; "" when nobody does."""
    from slurm_reserve.site import LEND_SUFFIX

    names = {name, name + LEND_SUFFIX}
    jobs = [job for job in cluster.jobs if job.holds_nodes and names.intersection(job.reservation.split(","))]
    if not jobs:
        return ""
    first, others = f"job {jobs[0].id} of {jobs[0].user}", len(jobs) - 1
    return f"{first} and {others} more run" if others else f"{first} runs"


def _fold(nodes: Iterable[str]) -> str:
    from slurm_reserve import hostlist

    return hostlist.fold(nodes)


@click.command(epilog="\b\nExamples:\n  slurm-reserve delete physics\n  slurm-reserve delete physics --dry-run")
@NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
@DRY
@WAIT
@click.pass_context
def delete(ctx: click.Context, name: str, yes: bool, dry_run: bool, wait: bool) -> None:
    """Withdraw a reservation that was created here.

    What is lent of it is taken back; it goes from Slurm once none of the owner's jobs runs in it.
    """
    from slurm_reserve import declared

    setting: Setting = ctx.obj
    if not (yes or dry_run):
        click.confirm(f"withdraw {name}?", abort=True, err=True)  # what is printed may be read by a program
    with locked(setting, dry_run):
        _ours(setting, setting.site(), name)
        declared.refuse_shared(setting.site_file, name)
        if not dry_run:
            declared.delete_reservation_file(setting.site_file, name)
    if dry_run:
        _tell(setting, name, "would be withdrawn")
    else:
        finish(setting, Done(name, "is withdrawn", may_stay=True), wait, lambda there: there is None)


@click.command("list", epilog="\b\nExamples:\n  slurm-reserve list\n  slurm-reserve --json list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List what is declared, in the site file and in reservations.d. Does not ask Slurm."""
    setting: Setting = ctx.obj
    site = setting.site()
    if setting.as_json:
        setting.show([_as_data(spec) for spec in site.reservations])
        return
    from rich.table import Table

    from slurm_reserve import periods

    table = Table(box=None, pad_edge=False)
    for title in ("reservation", "owner", "nodes", "lent", "in force", "declared at"):
        table.add_column(title, overflow="fold")
    for spec in site.reservations:
        lent = "on" if spec.lend.enabled else "off"
        when = periods.describe(spec, now()) or "always"
        table.add_row(spec.name, _owner(spec), _nodes(spec), lent, when, _short(spec.origin, setting.site_file))
    console().print(table)


def _as_data(spec: ReservationSpec) -> dict[str, Any]:
    from slurm_reserve import periods

    lend = asdict(spec.lend) | {"windows": [str(window) for window in spec.lend.windows]}
    said = {"windows": [str(window) for window in spec.windows], "period": periods.describe(spec, now())}
    return asdict(spec) | {"lend": lend} | said


def _short(origin: str, site_file: Path) -> str:
    return origin.removeprefix(f"{site_file.parent}/")


def _owner(spec: ReservationSpec) -> str:
    kinds = ("users", "accounts", "groups")
    return " ".join(
        f"{kind}={','.join(sorted(getattr(spec.owner, kind)))}" for kind in kinds if getattr(spec.owner, kind)
    )


def _nodes(spec: ReservationSpec) -> str:
    if isinstance(spec.nodes, frozenset):
        return _fold(spec.nodes)
    features = "".join(f" {feature}" for feature in sorted(spec.nodes.features))
    return f"{spec.nodes.node_count} of {spec.nodes.partition}{features}"


@click.command(epilog="\b\nExample:\n  slurm-reserve show physics")
@NAME
@click.pass_context
def show(ctx: click.Context, name: str) -> None:
    """Show one reservation: what is declared, what Slurm has, who uses it, and the owner's longest wait."""
    from slurm_reserve import periods
    from slurm_reserve.bound import bound
    from slurm_reserve.cli.status import _data
    from slurm_reserve.durations import format_duration

    setting: Setting = ctx.obj
    result, remark = look(setting)
    view = result.view
    spec = setting.spec(view.site, name)
    limit = bound(view.site, view.cluster.config, spec)
    seen = _data(result, remark)["reservations"][name]
    if setting.as_json:
        setting.show({"declared": _as_data(spec), "bound": asdict(limit) | {"total": limit.total}, "now": seen})
        return
    click.echo(f"{name}: {_nodes(spec)} for {_owner(spec)}, declared at {spec.origin}")
    if said := periods.describe(spec, view.cluster.at):
        click.echo(f"windows: {said}")
    there = view.cluster.reservations.get(name)
    click.echo(f"in Slurm: {_fold(there.nodes)}, until {there.end:%Y-%m-%d %H:%M %Z}" if there else "not in Slurm")
    for node, each in seen["nodes"].items():
        jobs = ", ".join(f"job {job['id']} of {job['user']}" for job in each["jobs"])
        click.echo(f"  {node}: {each['state']}" + (f", {jobs}" if jobs else ""))
    parts = " + ".join(f"{part} {format_duration(value)}" for part, value in asdict(limit).items())
    click.echo(f"the owner waits at most {format_duration(limit.total)} for lent nodes: {parts}")
