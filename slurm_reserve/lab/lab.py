"""A private real Slurm cluster on this machine, as its user sees it: :class:`Lab`."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

import psutil

from slurm_reserve.lab import accounting, cluster, conf, daemons, files, namespaces
from slurm_reserve.lab.errors import LabError
from slurm_reserve.lab.inside import Inside
from slurm_reserve.lab.requirements import ensure_possible
from slurm_reserve.lab.spec import LabSpec, from_json

T = TypeVar("T")


def _say_nothing(_: str) -> None:
    """Ignore progress."""


class Lab(Inside):
    """A running lab. Get one with :meth:`boot` or :meth:`find`."""

    def __init__(
        self, name: str, spec: LabSpec, init: psutil.Process, launcher: subprocess.Popen[str] | None = None
    ) -> None:
        super().__init__(name, spec, init)
        self.is_detached = False  # whether it outlives the process that booted it
        self._launcher = launcher
        self._daemons = daemons.known(spec)

    @classmethod
    def boot(
        cls,
        spec: LabSpec | None = None,
        name: str | None = None,
        *,
        detach: bool = False,
        progress: Callable[[str], None] = _say_nothing,
    ) -> Self:
        """Boot a lab and wait until every node is idle; `progress` is told what is being started.

        The lab ends with this process, however that one ends; with `detach`, at :meth:`down` only. Raises LabError
        and leaves nothing behind when something is missing on this machine or a daemon does not start.
        """
        spec = spec or LabSpec()
        ensure_possible(spec.accounting)
        progress("namespaces")
        name = name or f"lab-{secrets.token_hex(3)}"
        init, launcher = namespaces.launch(spec, name, detach=detach)
        try:
            lab = cls(name, spec, init, launcher)
            lab._start_everything(progress)
            if detach:
                namespaces.detach(launcher)
                lab.is_detached = True
        except BaseException:
            namespaces.end(launcher)
            raise
        return lab

    def _start_everything(self, progress: Callable[[str], None]) -> None:
        for name in self._daemons:
            if not name.startswith("slurmd@"):
                progress(name)
                self._prepare(name)
                self.start(name)
                if name == "slurmdbd":
                    progress("accounts")
                    accounting.fill(self)
        progress("slurmd of every node")
        daemons.start(self, *(each for name, each in self._daemons.items() if name.startswith("slurmd@")))

    def _prepare(self, name: str) -> None:
        if name == "mariadbd":
            accounting.make_database(self)

    @classmethod
    def running(cls) -> list[Self]:
        """List the present user's labs, whoever booted them."""
        labs = []
        for found in namespaces.running():
            with contextlib.suppress(LabError):  # it is being booted, or has just ended
                labs.append(cls._enter_found(found))
        return labs

    @classmethod
    def find(cls, name: str) -> Self:
        """Give the running lab of that name; raises LabError when there is none."""
        for found in namespaces.running():
            if found.name == name:
                return cls._enter_found(found)
        raise LabError(f"no lab called {name} is running")

    @classmethod
    def _enter_found(cls, found: namespaces.Found) -> Self:
        # What it was booted with is known inside only.
        spec = from_json(Inside(found.name, LabSpec(), found.init).read(files.SPEC_FILE))
        lab = cls(found.name, spec, found.init)
        lab.is_detached = found.detached
        return lab

    def down(self) -> None:
        """End the lab and wait until nothing of it is left. Does nothing when it has ended."""
        if self._launcher is not None:
            namespaces.end(self._launcher)
            return
        if self.is_up:
            self.init.kill()  # the kernel ends all others in it before this one is gone
            self.init.wait(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def sbatch(self, user: str, *options: str, wrap: str = "sleep 1000", script: str | None = None) -> str:
        """Submit a job as `user` and give its id; output goes nowhere unless `options` say where.

        `script` is a whole batch script and takes the place of `wrap`. Raises LabError with what sbatch said when the
        job is refused.
        """
        has_output = any(option.startswith(("-o", "--output")) for option in options)
        argv = ["sbatch", "--parsable", *([] if has_output else ["--output=/dev/null"]), *options]
        done = self.run(argv if script else [*argv, f"--wrap={wrap}"], user, input=script)
        return done.stdout.strip().split(";")[0]

    def start(self, name: str) -> None:
        """Start a daemon ("slurmctld", "slurmd@n1", ...) and wait until it answers."""
        daemons.start(self, self._daemon(name))

    def stop(self, name: str) -> None:
        """End a daemon the clean way and wait until it is gone."""
        daemons.stop(self, self._daemon(name))

    def kill(self, name: str, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a daemon; raises LabError when it does not run."""
        process = daemons.kill(self, self._daemon(name), sig)
        if sig == signal.SIGKILL:
            process.wait(10)

    def _daemon(self, name: str) -> daemons.Daemon:
        if name not in self._daemons:
            raise LabError(f"lab {self.name} has no {name}; it has {', '.join(self._daemons)}")
        return self._daemons[name]

    def reconfigure(self, lines: Iterable[str] = ()) -> None:
        """Change lines of slurm.conf and bring them to bear, by a restart of the daemons where Slurm needs one.

        A line replaces the one of the same key, or node, or partition; `Key=` removes it.
        """
        lines = list(lines)
        self.put(self.conf, "\n".join(conf.merge(self.read(self.conf).splitlines(), lines)) + "\n")
        if not conf.needs_restart(lines):
            self.run(["scontrol", "reconfigure"])
            return
        restarted = [each for name, each in self._daemons.items() if name.startswith("slurmd@")]
        for daemon in [self._daemon("slurmctld"), *restarted]:
            daemons.stop(self, daemon)
        self.start("slurmctld")
        daemons.start(self, *restarted)

    def wait(self, what: Callable[[], T], timeout: float = 30, says: str = "it did not happen") -> T:
        """Ask again and again until `what` gives something true, and give that.

        Raises LabError that `says` what was waited for and shows the cluster when `timeout` seconds have passed.
        """
        return cluster.wait(self, what, timeout, says)

    def clean(self, timeout: float = 60) -> None:
        """Make it as it was after boot: no job, no reservation, every daemon up, every node idle."""
        cluster.clean(self, timeout)
