"""Plays a plan on a lab with the daemon on it, and brings home what Slurm says of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml
from slurm_reserve.lab import Lab, LabError

from tests.cluster.plugins import hang_bell
from tests.cluster.stage import Stage
from tests.load import plan
from tests.load.plan import Submission

EASY_WAITING, MIXED_WAITING = 8, 6  # so many borrowers of either stream are kept in the queue
FIELDS = "JobID,User,Account,Partition,State,Submit,Eligible,Start,End,NodeList,AllocCPUS,ReqCPUS,NNodes,TimelimitRaw"


@dataclass
class Load:
    """One run of the load on one lab."""

    lab: Lab
    seed: int
    stage: Stage
    began: float = 0.0
    submitted: int = 0
    refused: list[str] = field(default_factory=list)
    interactive: list[subprocess.Popen[str]] = field(default_factory=list)
    cancels: list[tuple[float, str]] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)  # reservation -> nodes, as Slurm says

    @classmethod
    def prepare(cls, lab: Lab, seed: int, **daemon: Any) -> Load:
        """The site file written, the daemon running, every reservation made; `daemon` are settings of the daemon."""
        hang_bell(lab)
        load = cls(lab, seed, Stage(lab, user="reserve"))
        folder = load.stage.folder
        site = {
            "cluster": "lab",
            "lending": {"partitions": ["preempt"]},
            "reservations": plan.RESERVATIONS,
            "daemon": {"state_dir": f"{folder}/state", "run_dir": f"{folder}/run", **daemon},
        }
        lab.put(load.stage.site_file, yaml.safe_dump(site), user="reserve")
        load.stage.restart()
        load.stage.wait(lambda: set(plan.RESERVATIONS) <= set(load.stage.reservations()), 30, "reservations are made")
        for name in plan.RESERVATIONS:
            load.names[name] = load.nodes_of(load.stage.reservations()[name]["Nodes"])
        return load

    def nodes_of(self, text: str) -> list[str]:
        """A host list written out, by Slurm itself."""
        return self.lab.run(["scontrol", "show", "hostnames", text]).stdout.split()

    def play(self, duration: float, sample: Callable[[float], None] = lambda _: None) -> None:
        """Submit for `duration` seconds; `sample` is called about once a second with the time since the start."""
        timed = plan.timed(self.seed, duration)
        streams = {
            "easy": (plan.easy_borrowers(self.seed), EASY_WAITING),
            "mixed": (plan.mixed_borrowers(self.seed), MIXED_WAITING),
        }
        self.began = time.time()
        start = time.monotonic()
        while (now := time.monotonic() - start) < duration:
            while timed and timed[0].at <= now:
                self._submit(timed.pop(0), "timed", now)
            self._top_up(streams, now)
            self._cancel_due(now)
            sample(now)
            pause = 1.0 if not timed else min(1.0, timed[0].at - (time.monotonic() - start))
            time.sleep(max(pause, 0.05))

    def _top_up(self, streams: dict[str, tuple[Iterator[Submission], int]], now: float) -> None:
        """A queue of borrowers waits at any time."""
        waiting = self.lab.run(["squeue", "-h", "-r", "-p", "preempt", "-t", "PD", "-o", "%j"]).stdout.split()
        for name, (stream, wanted) in streams.items():
            for _ in range(max(wanted - waiting.count(name), 0)):
                self._submit(next(stream), name, now)

    def _submit(self, each: Submission, name: str, now: float) -> None:
        options = ("-J", name, *each.options)
        self.submitted += 1
        self.interactive = [process for process in self.interactive if process.poll() is None]
        if each.is_interactive:
            argv = ["salloc", "-Q", *options, "sleep", each.script.rsplit(" ", 1)[1]]
            quiet = subprocess.DEVNULL
            self.interactive.append(self.lab.popen(argv, each.user, stdin=quiet, stdout=quiet, stderr=quiet))
            return
        try:
            job = self.lab.sbatch(each.user, *options, wrap=each.script)
        except LabError as error:
            self.refused.append(str(error))
            return
        if each.cancel_after is not None:
            self.cancels.append((now + each.cancel_after, f"{job} {each.user}"))

    def _cancel_due(self, now: float) -> None:
        for due in [each for each in self.cancels if each[0] <= now]:
            self.cancels.remove(due)
            job, user = due[1].split()
            self.lab.run(["scancel", job], user=user, check=False)

    def evidence(self) -> dict[str, Any]:
        """What the checker reads: what was declared, and what Slurm's own commands say."""
        since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.began - 60))
        sacct = ["sacct", "-a", "-D", "-X", "-n", "-P", "-S", since, "-o", FIELDS]
        printed = self.lab.run(sacct, env={"SLURM_TIME_FORMAT": "%s"}).stdout.splitlines()
        rows = [line.split("|") for line in printed]
        return {
            "began": self.began,
            "ended": time.time(),
            "lendable": ["preempt"],
            "daemon_uid": self.lab.spec.uid("reserve"),
            "nodes": {node.name: node.cpus for node in self.lab.spec.node_specs},
            "reservations": {name: self._declared(name) for name in plan.RESERVATIONS},
            "sacct_fields": FIELDS.split(","),
            "sacct": [[*row[:9], ",".join(self._hosts(row[9])), *row[10:]] for row in rows],
            "squeue": self.lab.run(["squeue", "-h", "-a", "-o", "%i|%u|%P|%T|%r|%Q"]).stdout.splitlines(),
            "sinfo": self.lab.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%N|%T"]).stdout.splitlines(),
            "shown": sorted(self.stage.reservations()),
            "sent": self._sent(),
        }

    def _sent(self) -> list[tuple[float, str, str, str]]:
        """When the daemon sent whom where, by its journal: tells its own delays from Slurm's."""
        names = {"AttachJob": "attach", "DetachJob": "detach", "EvictJob": "detach"}
        found = []
        for entry in self.stage.journal("decision"):
            if what := names.get(json.loads(entry["data"]).get("action", "")):
                at = datetime.fromisoformat(entry["at"]).timestamp()
                found.append((at, what, entry["job"], entry["reservation"]))
        return found

    def _hosts(self, text: str) -> list[str]:
        if "[" not in text:
            return [name for name in text.split(",") if name.startswith("n") and name != "None assigned"]
        self._expanded: dict[str, list[str]] = getattr(self, "_expanded", {})
        if text not in self._expanded:
            self._expanded[text] = self.nodes_of(text)
        return self._expanded[text]

    def _declared(self, name: str) -> dict[str, Any]:
        lend = plan.RESERVATIONS[name].get("lend", {})
        return {
            "owners": [plan.OWNERS[name]],
            "nodes": self.names[name],
            "bound": plan.bound(name),
            "keep_idle_nodes": lend.get("keep_idle_nodes", 0),
            "after_idle": int(lend.get("after_idle", "0s").rstrip("s")),
            "max_minutes": plan.MAX_TIME if "max_time" in lend else None,
        }

    def finish(self, timeout: float = 120) -> None:
        """Everybody goes home; what is left must be just what is declared."""
        self.stage.wait(self._is_empty, timeout, "all jobs end")
        self.stage.wait(
            lambda: set(self.stage.reservations()) == set(plan.RESERVATIONS), timeout, "only what is declared is left"
        )
        for process in self.interactive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)

    def _is_empty(self) -> bool:
        """Cancel what is there, again and again, for some are just being requeued."""
        jobs = self.lab.run(["squeue", "-h", "-a", "-r", "-o", "%i"]).stdout.split()
        if jobs:
            self.lab.run(["scancel", *jobs], check=False)
        return not jobs

    def close(self) -> None:
        """End the daemon."""
        self.stage.close()


def dump(path: str, what: Any) -> None:
    """Write JSON."""
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(what, file, indent=1, sort_keys=True)
