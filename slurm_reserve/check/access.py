"""Who may get on reserved nodes, by which door, and who guards it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from slurm_reserve import guarantee
from slurm_reserve.check.finding import Finding, Inspected, Level, has_none, printed, release
from slurm_reserve.site import WAKE_NAME
from slurm_reserve.view import View

PLUGIN = "plugins/job_submit/job_submit.lua"
BY_PARTITION = (25, 11)  # from here on AllowedPartitions keeps ordinary jobs out of lend reservations


def unguarded(view: Inspected) -> Iterator[Finding]:
    """Before Slurm 25.11 nothing but the plugin keeps ordinary jobs out of lend reservations, and it is not there."""
    has_lua = "lua" in view.cluster.config.job_submit_plugins.split(",")
    guard = view.here.guard
    if release(view) >= BY_PARTITION or (has_lua and (guard is None or guard.is_ours)):
        return
    lacks = "JobSubmitPlugins lacks lua" if not has_lua else "job_submit.lua beside slurm.conf is not the guard"
    text = f"{lacks}: a user who borrows may send an ordinary job to the lend reservation by naming it; it is put out "
    remedy = f"copy {PLUGIN} beside slurm.conf and add JobSubmitPlugins=lua"
    yield Finding(Level.WARNING, "guard", text + "and reported, but the owner may wait", remedy)


def guard_differs(view: Inspected) -> Iterator[Finding]:
    """The plugin's lendable partitions or QOS are not the site file's: it lets in, or keeps out, the wrong jobs."""
    guard = view.here.guard
    if guard is None or not guard.is_ours:
        return
    for key in ("partitions", "qos"):
        named, declared = getattr(guard, key), getattr(view.site.lending, key)
        remedy = f"write {key} = {{ {', '.join(_quoted(declared))} }} at the top of job_submit.lua"
        if more := named - declared:
            text = f"it lets jobs of {', '.join(sorted(more))} into lend reservations, which are no borrowers"
            yield Finding(Level.WARNING, "guard", text, remedy)
        if less := declared - named:
            text = f"it keeps borrowers of {', '.join(sorted(less))} out, so nothing is lent to them"
            yield Finding(Level.WARNING, "guard", text, remedy)


def _quoted(names: frozenset[str]) -> list[str]:
    return [f'"{name}"' for name in sorted(names)]


def not_woken(view: Inspected) -> Iterator[Finding]:
    """The plugin rings elsewhere than where the daemon listens: submissions are noticed by polling only."""
    guard, bell = view.here.guard, str(view.site.daemon.run_dir / WAKE_NAME)
    if guard is not None and guard.is_ours and guard.wake_file != bell:
        text = f"it rings {guard.wake_file or 'nowhere'}, so submissions are noticed by polling only"
        yield Finding(Level.NOTE, "guard", text, f'write wake_file = "{bell}" at the top of job_submit.lua')


def ends_not_heard(view: View) -> Iterator[Finding]:
    """No EpilogSlurmctld: that a job has ended is noticed by polling only."""
    if has_none(view, "EpilogSlurmctld"):
        text = "no EpilogSlurmctld: that nodes fall idle is noticed by polling only"
        remedy = "install plugins/slurmctld/slurm-reserve-wake, to lend sooner"
        yield Finding(Level.NOTE, "slurm.conf", text, remedy)


def signal_hole(view: View) -> Iterator[Finding]:
    """The release lets any job into any reservation by --signal=R:."""
    is_open = release(view) and (
        release(view) < (23, 11, 10) or (24, 5) <= release(view) < (24, 5, 3)
    )  # fmt: skip
    if is_open:
        text = f"on {view.cluster.config.version} `--signal=R:TERM@0` lets any job into any reservation"
        yield Finding(Level.WARNING, "release", text, "update to 23.11.10, 24.05.3 or newer")


def uninvited(view: View) -> Iterator[Finding]:
    """An ordinary job runs on reserved nodes without being in a reservation."""
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        for job in guarantee.uninvited(view, there) if there is not None else ():
            text = f"job {job.id}: {guarantee.why_uninvited(job, there)}" if there else ""
            remedy = f"ask its user to submit without --signal=R:, or scancel {job.id}"
            yield Finding(Level.WARNING, spec.name, text, remedy)


def accounts_unknown(view: View) -> Iterator[Finding]:
    """The owner is an account, or accounts are counted, and the cluster has no accounting: they are anybody's word."""
    if view.site.lending.max_nodes_per_account and not view.cluster.config.accounting:
        text = "lending.max_nodes_per_account holds nobody: without accounting a job may name any account"
        yield Finding(Level.WARNING, "lending", text, "set max_nodes_per_user, or run slurmdbd")
    for spec in view.site.reservations if not view.cluster.config.accounting else ():
        if spec.owner.accounts:
            text = "its owner is an account, but the cluster has no accounting"
            yield Finding(Level.ERROR, spec.name, text, "name users or groups, or run slurmdbd")


def strangers_named(view: Inspected) -> Iterator[Finding]:
    """An owner's user or group is not known on this host."""
    for spec in view.site.reservations:
        for group in sorted(spec.owner.groups - view.cluster.groups.keys()):
            yield Finding(Level.ERROR, spec.name, f"group {group} is not known on this host", "correct owner.groups")
        for user in sorted(spec.owner.users & view.here.unknown_users):
            text = f"user {user} is not known on this host, so Slurm refuses the reservation"
            yield Finding(Level.ERROR, spec.name, text, "correct owner.users")


def no_operator(view: Inspected) -> Iterator[Finding]:
    """The user that runs this may not change reservations and others' jobs, as the daemon must."""
    if view.here.is_operator is False:
        text = f"{view.here.user} is no operator of Slurm's, and may change neither reservations nor others' jobs"
        hides = printed(view, "PrivateData")
        text += f"; PrivateData={hides} hides things from it" if hides not in ("", "none") else ""
        remedy = f"sacctmgr add user {view.here.user} account=root adminlevel=Operator"
        if not view.cluster.config.accounting:
            remedy = f"run the daemon (and check) as {view.cluster.config.slurm_user}: there is no accounting"
        yield Finding(Level.ERROR, "user", text, remedy)


def run_as_root(view: Inspected) -> Iterator[Finding]:
    """Run as root, which nothing here needs."""
    if view.here.is_root:
        text = "run as root, which it does not need"
        yield Finding(Level.NOTE, "user", text, "run the daemon as a Slurm operator: see README.md")


def hook_not_run(view: Inspected) -> Iterator[Finding]:
    """The hook cannot be run: no admin would be called."""
    if view.here.hook_problem:
        text = f"{view.here.hook_problem}, so nobody is called when an owner waits too long"
        yield Finding(Level.WARNING, "daemon.hook", text, "correct daemon.hook, or make it executable for that user")
