"""Runs Slurm's commands: argument lists, a clean environment, a time-out, and what their failures mean."""

from __future__ import annotations

import codecs
import fcntl
import os
import selectors
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import IO, cast

from slurm_reserve.site import SlurmSettings
from slurm_reserve.slurm.port import SlurmRefusedError, SlurmUnavailableError

Wrap = Callable[[list[str]], list[str]]

# Variables that change what Slurm's commands do or print. What says how to reach the cluster is kept.
_SLURM_VARIABLES = (
    "SLURM",
    "SQUEUE_",
    "SINFO_",
    "SCONTROL_",
    "SCANCEL_",
    "SACCT",
    "SPRIO_",
    "SBATCH_",
    "SALLOC_",
    "SRUN_",
)
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURMD_CONF"})
_SYSTEM = frozenset({"getent"})  # commands that are not Slurm's, and not where Slurm's are
_ALWAYS = {
    "TZ": "UTC",  # every time that is printed or given is in UTC
    "LC_ALL": "C",
    "SLURM_BITSTR_LEN": "0",  # a job array's tasks in full, however many they are
    "SLURM_TIME_FORMAT": "standard",
}
# What is said when no answer came, rather than a refusal; in lower case. (To create a reservation without slurmctld
# gives "Unexpected message received".)
_NO_ANSWER = (
    "unable to contact slurm controller", "socket timed out", "zero bytes were transmitted", "standby mode",
    "communication connection failure", "communication shutdown failure", "message send failure",
    "message receive failure", "protocol authentication error", "connection refused", "connection reset",
    "connection timed out", "missing socket error", "received zero length message", "insane message length",
    "header lengths are longer", "failed to send entire message", "incompatible versions of client and server",
    "could not establish a configuration source", "munge", "unexpected message received",
)  # fmt: skip
_COMPLAINTS = ("error", "invalid", "denied", "no longer", "unable", "transitional")
_LOOK = 0.2  # seconds between two looks at what a command has said so far
AHEAD = 1 << 20  # bytes that a command may print before they are taken
_SHOWN = 300


def widen(pipe: IO[bytes]) -> None:
    """Let a process print far ahead of whoever reads it."""
    with suppress(OSError):  # there is a limit to what a user may have of it
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, AHEAD)


def requests_of(argv: Sequence[str]) -> int:
    """How many remote procedure calls one command makes, as sdiag(1) counts them."""
    if argv[0] == "squeue":
        return 3 if {"-u", "-j"} & set(argv) else 2
    if argv[0] == "scontrol" and "show" in argv and {"node", "config"} & set(argv):
        return 2
    return 0 if argv[0] in _SYSTEM else 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The first line in which something is said to be wrong; "" when there is none."""
        return next(iter(self._complaints()), "")[:_SHOWN]

    @property
    def why(self) -> str:
        """The complaint, or whatever else is known of the failure."""
        return self.complaint or self.err.strip()[:_SHOWN] or f"exit status {self.code}"

    @property
    def is_no_answer(self) -> bool:
        """Whether the failure is that slurmctld could not be reached."""
        said = ("\n".join(self._complaints()) or self.err).lower()
        return any(words in said for words in _NO_ANSWER)

    def _complaints(self) -> list[str]:
        lines = [line.strip() for line in self.err.split("\n")]
        return [line for line in lines if any(words in line.lower() for words in _COMPLAINTS)]


@dataclass(slots=True)
class Commands:
    """Runs commands and counts them; `wrap` turns an argument list into one that runs elsewhere (in a lab)."""

    settings: SlurmSettings
    wrap: Wrap | None = None
    clock: Callable[[], float] = monotonic
    calls: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (command, ok, refused or no_answer)
    requests: int = 0  # what slurmctld had to answer for them
    seconds: float = 0.0  # spent waiting for commands

    def read(self, *argv: str, may_end: tuple[int, ...] = (0,)) -> str:
        """Give what a command prints. Raises SlurmUnavailableError when it does not end well: then nothing is known."""
        answer = self.run(*argv)
        if answer.code not in may_end:
            raise _unavailable(argv, answer.why)
        return answer.out

    @contextmanager
    def printing(self, *argv: str) -> Iterator[Iterator[str]]:
        """Give what a command prints part by part, while it goes on: a long answer is understood meanwhile.

        To take them raises SlurmUnavailableError, after the last at the latest, when it does not end well: then nothing
        of what was given is known.
        """
        started = self.clock()
        try:
            with self._running(argv) as process:
                yield self._parts(argv, process)
        finally:
            self.seconds += self.clock() - started

    def change(self, *argv: str, give_up: str = "") -> None:
        """Run a command that changes something. Raises SlurmRefusedError when Slurm says no.

        The exit status of scontrol is not enough: it is 0 after some errors. A command that goes on trying after it
        has said `give_up` is ended there.
        """
        answer = self.run(*argv, give_up=give_up)
        if answer.code == 0 and not (argv[0] == "scontrol" and answer.complaint):
            return
        if answer.is_no_answer:
            raise _unavailable(argv, answer.why)
        raise SlurmRefusedError(f"{_shown(argv)}: {answer.why}", answer.why)

    def read_all(self, *commands: tuple[str, ...]) -> list[str]:
        """Give what several commands print that run at the same time: slurmctld's locks are waited for once."""
        started = self.clock()
        try:
            with ExitStack() as running:
                processes = [running.enter_context(self._running(argv)) for argv in commands]
                answers = [self._heard(argv, process) for argv, process in zip(commands, processes, strict=True)]
        finally:
            self.seconds += self.clock() - started
        for argv, answer in zip(commands, answers, strict=True):
            if answer.code != 0:
                raise _unavailable(argv, answer.why)
        return [answer.out for answer in answers]

    def run(self, *argv: str, give_up: str = "") -> Answer:
        """Run to the end, within the time-out. Raises SlurmUnavailableError when it cannot be run or is killed."""
        started = self.clock()
        try:
            with self._running(argv) as process:
                return self._heard(argv, process, give_up)
        finally:
            self.seconds += self.clock() - started

    def open(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a command that stays, to be talked to through pipes. Raises OSError; whoever asked ends it."""
        return subprocess.Popen(
            self._complete(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment(),
        )

    @contextmanager
    def _running(self, argv: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
        """A process that does not outlive the block."""
        self.calls[argv[0]] += 1
        self.requests += requests_of(argv)
        try:
            process = subprocess.Popen(
                self._complete(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
            )
        except OSError as error:
            self.outcomes[argv[0], "no_answer"] += 1
            raise _unavailable(argv, error) from error
        with process:
            try:
                yield process
            finally:
                process.kill()  # does nothing when it has ended

    def _heard(self, argv: tuple[str, ...], process: subprocess.Popen[bytes], give_up: str = "") -> Answer:
        with self._or_no_answer(argv):
            code, out, err = self._finish(process, give_up)
        return self._answer(argv, code, out, err)

    def _parts(self, argv: tuple[str, ...], process: subprocess.Popen[bytes]) -> Iterator[str]:
        deadline, said = self.clock() + self.settings.timeout.total_seconds(), bytearray()
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        with self._or_no_answer(argv):
            for some in self._taken(process, deadline, said):
                yield decode(some)
            code = process.wait(max(deadline - self.clock(), 0.0))
        answer = self._answer(argv, code, b"", bytes(said))
        if answer.code:
            raise _unavailable(argv, answer.why)
        yield decode(b"", final=True)

    def _taken(self, process: subprocess.Popen[bytes], deadline: float, said: bytearray) -> Iterator[bytes]:
        """What is printed, as it comes; errors go to `said`. Raises TimeoutExpired."""
        with selectors.DefaultSelector() as pipes:
            out, err = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr)
            pipes.register(out, selectors.EVENT_READ)
            pipes.register(err, selectors.EVENT_READ)
            widen(out)
            while pipes.get_map():
                ready = pipes.select(max(deadline - self.clock(), 0.0))
                if not ready or self.clock() > deadline:
                    raise subprocess.TimeoutExpired(process.args, self.settings.timeout.total_seconds())
                for key, _ in ready:
                    some = os.read(key.fd, AHEAD)
                    if not some:
                        pipes.unregister(key.fileobj)
                    elif key.fileobj is out:
                        yield some
                    else:
                        said += some

    @contextmanager
    def _or_no_answer(self, argv: tuple[str, ...]) -> Iterator[None]:
        """What goes wrong inside is that no answer came."""
        try:
            yield
        except (subprocess.TimeoutExpired, OSError) as error:
            self.outcomes[argv[0], "no_answer"] += 1
            late = f"no answer within {self.settings.timeout.total_seconds():g} s"
            raise _unavailable(argv, late if isinstance(error, subprocess.TimeoutExpired) else error) from error

    def _answer(self, argv: tuple[str, ...], code: int, out: bytes, err: bytes) -> Answer:
        if code < 0:
            self.outcomes[argv[0], "no_answer"] += 1
            raise _unavailable(argv, f"killed by signal {-code}")
        # What is not UTF-8 is somebody's free text, which nothing is decided by.
        answer = Answer(code, out.decode(errors="replace"), err.decode(errors="replace"))
        is_ok = answer.code == 0 and not (argv[0] == "scontrol" and answer.complaint)
        said = "ok" if is_ok else "no_answer" if answer.is_no_answer else "refused"
        self.outcomes[argv[0], said] += 1
        return answer

    def _finish(self, process: subprocess.Popen[bytes], give_up: str) -> tuple[int, bytes, bytes]:
        """Wait for the end, or for `give_up` among the errors. Raises TimeoutExpired."""
        limit = self.settings.timeout.total_seconds()
        deadline = self.clock() + limit
        while True:
            try:
                out, err = process.communicate(timeout=min(_LOOK, limit) if give_up else limit)
            except subprocess.TimeoutExpired as error:
                said: bytes = error.stderr or b""
                if give_up and give_up.encode() in said:
                    return 1, b"", said
                if not give_up or self.clock() > deadline:
                    raise subprocess.TimeoutExpired(process.args, limit) from error
            else:
                return process.returncode, out, err

    def _complete(self, argv: tuple[str, ...]) -> list[str]:
        folder = None if argv[0] in _SYSTEM else self.settings.bin_dir
        command = [str(folder / argv[0]) if folder else argv[0], *argv[1:]]
        if self.wrap is None:
            return command
        return self.wrap(["env", *(f"{key}={value}" for key, value in self._ours().items()), *command])

    def _ours(self) -> dict[str, str]:
        return _ALWAYS | ({"SLURM_CONF": str(self.settings.conf)} if self.settings.conf else {})

    def _environment(self) -> dict[str, str]:
        inherited = {
            key: value for key, value in os.environ.items() if key in _KEPT or not key.startswith(_SLURM_VARIABLES)
        }
        return inherited | self._ours()


def _unavailable(argv: tuple[str, ...], why: object) -> SlurmUnavailableError:
    return SlurmUnavailableError(f"{_shown(argv)}: {why}")


def _shown(argv: tuple[str, ...]) -> str:
    text = " ".join(argv[:5])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
