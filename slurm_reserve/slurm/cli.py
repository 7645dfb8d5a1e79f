"""Slurm through its commands: `squeue`, `scontrol`, `scancel`, `sacctmgr`."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic

from slurm_reserve import hostlist
from slurm_reserve.actions import CreateReservation, UpdateReservation
from slurm_reserve.garbage import collected_later
from slurm_reserve.model import Cluster, Job, JobKey, Node, Partition, Reservation, SlurmConfig
from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm import arguments, jobs, text
from slurm_reserve.slurm.command import Commands, Wrap
from slurm_reserve.slurm.kept import Kept
from slurm_reserve.slurm.port import SlurmError, SlurmRefusedError, SlurmUnavailableError
from slurm_reserve.slurm.script import appends, own_signal
from slurm_reserve.slurm.shapes import Terms

KEEP = timedelta(seconds=60)  # for what seldom changes: configuration, groups, QOS
KEEP_PARTITIONS = timedelta(seconds=20)  # for what an admin may change while looking on
NODES = ("scontrol", "-o", "-a", "-d", "show", "node")
_EXCLUDED = ("squeue", "-a", "-h", "-o", "%A|%x")
_GETENT_MISSING = 2  # exit status of getent when it does not know all of the names, or can ask nobody who might


class CliSlurm:
    """Implements :class:`slurm_reserve.slurm.port.Slurm`; not for several threads at once.

    `wrap` turns an argument list into one that runs the command elsewhere. Clocks and randomness are arguments.
    """

    def __init__(
        self,
        settings: SlurmSettings,
        wrap: Wrap | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = monotonic,
        token: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._commands = Commands(settings, wrap, clock)
        self._now = now
        self._token = token
        self._config = Kept[SlurmConfig](clock, KEEP)
        self._partitions = Kept[dict[str, Partition]](clock, KEEP_PARTITIONS)
        self._members = Kept[dict[str, frozenset[str]]](clock, KEEP)
        self._preempts = Kept[dict[str, frozenset[str]]](clock, KEEP)
        self._excluded = Kept[dict[int, frozenset[str]]](clock, KEEP)
        self._asked_groups: frozenset[str] = frozenset()
        self._known_groups: dict[str, frozenset[str]] = {}  # every group that was ever read, as it was then
        self._terms = Terms()
        # What this release's commands know, found out by asking them.
        self._array_option = "--array-unique"
        self._knows_excluded = True
        self._knows_admitted = True
        self._words = False  # whether nice and comment of jobs are read as well

    def close(self) -> None:
        """Let go of what is kept open; nothing, for commands end by themselves."""

    @property
    def calls(self) -> Counter[str]:
        """How often each command was run."""
        return self._commands.calls

    @property
    def requests(self) -> int:
        """How many remote procedure calls slurmctld had to answer."""
        return self._commands.requests

    @property
    def outcomes(self) -> Counter[tuple[str, str]]:
        """The same by what came of it: ok, refused, or no_answer."""
        return self._commands.outcomes

    @property
    def seconds(self) -> float:
        """Time spent waiting for commands."""
        return self._commands.seconds

    # Reading

    def observe(self, groups: Sequence[str] = (), words: bool = False) -> Cluster:
        """Read the cluster; the order makes what changes in between err on the side of "in use".

        Reservations come first, so every job that is seen later is seen after the reservation it may be in. Nodes come
        before jobs: a job that started in between is then on a node that looked idle, and counts; were jobs read first,
        it would be missed and its node be taken for idle. Jobs come last, being what decisions about nodes rest on.
        """
        at, self._words = self._now(), words
        config = self._config.get(self._read_config)
        reservations = text.parse_reservations(self._commands.read("scontrol", "-o", "-a", "show", "reservation"))
        partitions = self._partitions.get(lambda: self._read_partitions(config))
        nodes, found = self._read_nodes_and_jobs(config)
        return Cluster(
            at=at,
            nodes=nodes,
            reservations=reservations,
            jobs=self._with_excluded(found),
            partitions=partitions,
            config=config,
            groups=self._groups(frozenset(groups)),
            qos_preempts=self._qos_preempts(config),
        )

    def _read_nodes_and_jobs(self, config: SlurmConfig) -> tuple[dict[str, Node], tuple[Job, ...]]:
        """One after the other; what was printed of the nodes is understood while slurmctld is at the jobs."""
        printed, nodes = self._commands.read(*NODES), dict[str, Node]()

        def understand() -> None:
            nodes.update(text.parse_nodes(printed))
            self._terms = terms(config, nodes.values())

        return nodes, self._read_jobs(meanwhile=understand)

    def _read_partitions(self, config: SlurmConfig) -> dict[str, Partition]:
        printed = self._commands.read("scontrol", "-o", "-a", "show", "partition")
        return text.parse_partitions(printed, config.preempt_mode or "OFF")

    def read_job(self, job_id: str) -> Job | None:
        """Read one job, fresh; one that is over is given as long as Slurm knows it. None when it knows none."""
        wanted = arguments.job(job_id)
        try:
            found = self._read_jobs("-j", wanted, "-t", "all")
        except SlurmUnavailableError as error:
            if "Invalid job id" in str(error):
                return None
            raise
        job = _find(found, wanted)
        if job is None or not job.is_pending or self._knows_excluded:
            return job
        printed = self._commands.read("squeue", "-a", "-h", "-j", wanted, "-o", "%A|%x", self._array_option)
        return jobs.with_excluded(job, jobs.parse_excluded(printed))

    def read_nodes(self, names: Sequence[str]) -> tuple[dict[str, Reservation], dict[str, Node]]:
        """Read every reservation, and these nodes."""
        printed = self._commands.read_all(*_about(names))
        return text.parse_reservations(printed[0]), text.parse_nodes(printed[1]) if names else {}

    def read_submission(
        self, users: Sequence[str], names: Sequence[str]
    ) -> tuple[tuple[Job, ...], dict[str, Reservation], dict[str, Node]]:
        """The jobs of these users, every reservation and these nodes, by commands that run at the same time."""
        of, end, about = ("-u", ",".join(map(arguments.plain, users))), self._token(), _about(names)
        excluded = [] if self._knows_excluded else [(*_EXCLUDED, self._array_option, *of)]
        printed = self._commands.read_all((*self._jobs_argv(end), *of, self._array_option), *about, *excluded)
        found = jobs.parse_jobs([printed[0]], end, self._terms, self._words)
        if excluded:
            known = jobs.parse_excluded(printed[-1])
            found = tuple(jobs.with_excluded(job, known) for job in found)
        return found, text.parse_reservations(printed[1]), text.parse_nodes(printed[2]) if names else {}

    def read_comments(self, job_ids: Sequence[str]) -> dict[str, str]:
        """The comments of these jobs, by id; anybody's free text."""
        if not job_ids:
            return {}
        end = self._token()
        argv = [
            "squeue",
            "-a",
            "-t",
            "all",
            "-O",
            jobs.comment_format(end),
            "-j",
            ",".join(map(arguments.job, job_ids)),
        ]
        try:
            return jobs.parse_comments(self._commands.read(*argv, self._array_option), end)
        except SlurmUnavailableError as error:
            if "Invalid job id" in str(error):
                return {}
            raise

    def read_own_signal(self, job_id: str) -> tuple[str, bool] | None:
        """What the job's script names as `--signal`; None also where the script cannot be read."""
        script = self._script(job_id)
        return own_signal(script) if script is not None else None

    def appends_output(self, job_id: str) -> bool:
        """Whether the job's script says `--open-mode=append`; an option of sbatch's own is told by no command."""
        script = self._script(job_id)
        return script is None or appends(script)

    def _script(self, job_id: str) -> str | None:
        try:
            return self._commands.read("scontrol", "write", "batch_script", arguments.job(job_id), "-")
        except SlurmError:
            return None

    def is_requeued(self, job_id: str) -> bool:
        """Whether a batch job would be requeued. A user who writes the words into the job's name fools only himself."""
        try:
            printed = self._commands.read("scontrol", "-o", "show", "job", arguments.job(job_id))
        except SlurmError:
            return True
        return " Requeue=0 " not in printed

    def spent(self) -> float | None:
        """Seconds of slurmctld's time, as sdiag counts them for this user; None where it may not be asked."""
        try:
            return text.parse_spent(self._commands.read("sdiag"), os.geteuid())
        except SlurmError:
            return None

    def admin_level(self, user: str) -> str:
        """What Slurm's accounting lets this user do: None, Operator or Administrator; "" for one that it lacks."""
        argv = ("sacctmgr", "-nP", "show", "user", f"name={arguments.plain(user)}", "format=adminlevel")
        return self._commands.read(*argv).strip()

    def account_users(self, accounts: frozenset[str]) -> dict[str, frozenset[str]]:
        """The users of these accounts, of Slurm's accounting."""
        named = ",".join(arguments.plain(account) for account in sorted(accounts))
        printed = self._commands.read("sacctmgr", "-nP", "show", "assoc", f"account={named}", "format=account,user")
        return text.parse_account_users(printed)

    def _read_config(self) -> SlurmConfig:
        return text.parse_config(self._commands.read("scontrol", "show", "config"))

    def _read_jobs(self, *options: str, meanwhile: Callable[[], object] = lambda: None) -> tuple[Job, ...]:
        # Without --array-unique squeue hides a pending task that was changed by itself (attached to a reservation)
        # in the rest of its array. Releases that lack it (23.11 on) show such tasks with -r only.
        try:
            return self._print_jobs(options, meanwhile)
        except SlurmUnavailableError as error:
            if self._array_option not in str(error) or "unrecognized option" not in str(error):
                raise
            self._array_option = "-r"
            return self._print_jobs(options, meanwhile)

    def _print_jobs(self, options: tuple[str, ...], meanwhile: Callable[[], object]) -> tuple[Job, ...]:
        end = self._token()
        with self._commands.printing(*self._jobs_argv(end), *options, self._array_option) as printed:
            meanwhile()
            titles, parts = jobs.with_titles(printed)
            self._knows_excluded = jobs.is_excluded_known(titles)
            with collected_later():
                return jobs.parse_jobs(parts, end, self._terms, self._words)

    def _jobs_argv(self, end: str) -> tuple[str, ...]:
        return ("squeue", "-a", "--noconvert", "-O", jobs.job_format(end, self._words))

    def _with_excluded(self, found: tuple[Job, ...]) -> tuple[Job, ...]:
        """Add what -O cannot print before 24.05; asked for when a job is new, for it seldom changes."""
        waiting = [job.job_id for job in found if job.is_pending]
        if self._knows_excluded or not waiting:
            return found
        known = self._excluded.get(self._read_excluded)
        if any(number not in known for number in waiting):
            known = self._excluded.renew(self._read_excluded)
        return tuple(jobs.with_excluded(job, known) for job in found)

    def _read_excluded(self, *options: str) -> dict[int, frozenset[str]]:
        return jobs.parse_excluded(self._commands.read(*_EXCLUDED, self._array_option, *options))

    def _groups(self, wanted: frozenset[str]) -> dict[str, frozenset[str]]:
        if not wanted:
            return {}
        if wanted != self._asked_groups:
            self._members.forget()
            self._asked_groups = wanted
        return self._members.get(lambda: self._read_groups(sorted(wanted)))

    def _read_groups(self, wanted: list[str]) -> dict[str, frozenset[str]]:
        """The members of these groups; one that is missing now keeps those it had.

        getent says the same of a group that is gone and of one whose directory (LDAP, sssd) is away for a while; an
        owner would be nobody meanwhile.
        """
        printed = self._commands.read(
            "getent", "group", *map(arguments.reservation_name, wanted), may_end=(0, _GETENT_MISSING)
        )
        found = text.parse_groups(printed, self._commands.read("getent", "passwd"))
        self._known_groups |= found
        return {name: self._known_groups[name] for name in wanted if name in self._known_groups}

    def _qos_preempts(self, config: SlurmConfig) -> dict[str, frozenset[str]]:
        if config.preempt_type != "preempt/qos":
            return {}
        return self._preempts.get(self._read_qos_preempts)

    def _read_qos_preempts(self) -> dict[str, frozenset[str]]:
        try:
            printed = self._commands.read("sacctmgr", "-nP", "show", "qos", "format=name,preempt")
            return text.parse_qos_preempts(printed)
        except SlurmError:
            # slurmctld works on without its database, and reclaiming must too; it has the same old list.
            if self._preempts.value is None:
                raise
            return self._preempts.value

    # Changing

    def create_reservation(self, what: CreateReservation) -> None:
        """Create a reservation; what it admits, AllowedPartitions or QOS, is left out on releases that do not know it.

        One that is to draw such jobs in is refused there: it would draw in others.
        """
        argv, wanted = arguments.create(what), arguments.admitted(what)
        admitted = wanted if self._knows_admitted else []
        if "MAGNETIC" in what.flags and wanted and not admitted:
            raise SlurmRefusedError(f"{what.name} would draw in any jobs")
        try:
            self._commands.change("scontrol", *argv, *admitted)
        except SlurmRefusedError as error:
            unknown = (f"Unknown parameter {each.partition('=')[0]}" for each in admitted)
            if not any(words in error.code for words in unknown):
                raise
            self._knows_admitted = False
            if "MAGNETIC" in what.flags:
                raise
            self._commands.change("scontrol", *argv)

    def update_reservation(self, what: UpdateReservation) -> None:
        """Change a reservation."""
        self._commands.change("scontrol", *arguments.update(what))

    def delete_reservation(self, name: str) -> None:
        """Delete a reservation; refused while jobs refer to it."""
        self._commands.change("scontrol", "delete", f"reservation={arguments.reservation_name(name)}")

    def set_job_reservation(self, job: JobKey, reservation: str) -> None:
        """Attach a job to a reservation, or detach it with ""."""
        name = arguments.reservation_name(reservation) if reservation else ""
        self._commands.change("scontrol", "update", f"JobId={arguments.job(job.id)}", f"ReservationName={name}")

    def set_job_start(self, job: JobKey, at: str) -> None:
        """Set a pending job's earliest start."""
        self._commands.change(
            "scontrol", "update", f"JobId={arguments.job(job.id)}", f"StartTime={arguments.start(at)}"
        )

    def set_job_comment(self, job: JobKey, comment: str) -> None:
        """Replace a job's comment."""
        what = f"Comment={arguments.free_text(comment)}"
        self._commands.change("scontrol", "update", f"JobId={arguments.job(job.id)}", what)

    def hold_job(self, job: JobKey) -> None:
        """Hold a pending job so that its own user may release it."""
        self._commands.change("scontrol", "uhold", arguments.job(job.id))

    def signal_job(self, job: JobKey, signal: str, batch_only: bool = False) -> None:
        """Signal the job's steps and its batch shell with its children; refused for a job that has no processes."""
        whom = "--batch" if batch_only else "--full"
        argv = ["scancel", "-v", f"--signal={arguments.signal_name(signal)}", whom, arguments.job(job.id)]
        # scancel tries for minutes to signal a job that waits or is being started.
        self._commands.change(*argv, give_up="transitional state")

    def requeue_job(self, job: JobKey) -> None:
        """`scontrol requeue incomplete`; refused for a job that cannot be requeued."""
        self._commands.change("scontrol", "requeue", "incomplete", arguments.job(job.id))

    def restore_job(self, job: JobKey) -> None:
        """Put a job that is over back into the queue, whatever it ended by."""
        self._commands.change("scontrol", "requeue", arguments.job(job.id))

    def cancel_job(self, job: JobKey) -> None:
        """End a job for good; nothing happens when it is over."""
        self._commands.change("scancel", arguments.job(job.id))


def _about(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The commands that print every reservation, and these nodes, where any are named."""
    show = ("scontrol", "-o", "-a")
    folded = hostlist.fold(map(arguments.plain, names)) if names else ""
    return [(*show, "show", "reservation"), *([(*show, "-d", "show", "node", folded)] if names else [])]


def terms(config: SlurmConfig, nodes: Iterable[Node]) -> Terms:
    return Terms(
        raises_maximum=config.version[:5] > "22.05",  # seen on 24.11 and 26.05; what is not known is not proved
        memory_counts="MEMORY" in config.select_type_parameters.upper(),
        single_threaded=all(node.threads_per_core == 1 for node in nodes),
    )


def _find(found: Iterable[Job], wanted: str) -> Job | None:
    """The job of that id among what squeue gave for it: a task may still be one of its array's rest."""
    array, _, task = wanted.partition("_")
    for job in found:
        if job.id == wanted:
            return job
    for job in found:
        if task and job.id == array and int(task) in job.array_tasks:
            return replace(job, id=wanted, array_tasks=())
        if not task and str(job.job_id) == wanted:
            return job
    return None
