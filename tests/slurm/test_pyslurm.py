"""Reading through pyslurm, as far as it shows without one: what is made of its jobs, and of a process that hangs."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from slurm_reserve.site import Backend, SlurmSettings
from slurm_reserve.slurm import backend, pyslurm_text, pyslurm_worker
from slurm_reserve.slurm.cli import CliSlurm
from slurm_reserve.slurm.jobs import FIELD, is_excluded_known, parse_jobs
from slurm_reserve.slurm.port import SlurmUnavailableError
from slurm_reserve.slurm.pyslurm import PyslurmSlurm, Worker
from slurm_reserve.slurm.pyslurm_jobs import render
from slurm_reserve.slurm.shapes import Terms
from slurm_reserve.slurm.text import parse_nodes, parse_partitions

SUBMITTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Raw(SimpleNamespace):
    """Has None for whatever it was not given, as pyslurm does for what is not set, 0 included."""

    def __getattr__(self, name: str) -> None:
        return None


def raw(number: int = 7, **known: Any) -> Any:
    """A job as pyslurm gives it."""
    usual = {
        "id": number, "state": "PENDING", "state_reason": "Resources", "user_id": 0, "partition": "preempt",
        "priority": 5, "submit_time": int(SUBMITTED.timestamp()), "is_batch_job": True, "num_nodes": 1, "cpus": 1,
        "ntasks": 1, "min_cpus_per_node": 1, "resource_sharing": "OK",
    }  # fmt: skip
    return Raw(**{**usual, **known})


def read(*jobs: Any, words: bool = False) -> Any:
    partial: list[str] = []
    text = "".join(render(jobs, "end", words, partial))
    assert is_excluded_known(text)
    return parse_jobs([text], "end", Terms(), words), partial


def test_a_job_is_read() -> None:
    ((job,), partial) = read(raw(time_limit=90, requested_tres=tres(cpu=2, mem=2000, node=1), memory_per_cpu=1000))
    assert (job.id, job.user, job.state, job.partitions) == ("7", "root", "PENDING", ("preempt",))
    assert (job.submitted, job.time_limit, job.reason) == (SUBMITTED, timedelta(minutes=90), "Resources")
    assert (job.shape.memory_per_cpu, job.shape.unproven, partial) == (1000, (), [])


def tres(gres: dict[str, int] | None = None, **counts: int) -> Any:
    held = {name: SimpleNamespace(count=count) for name, count in counts.items()}
    return SimpleNamespace(gres=gres or {}, **held)


def test_no_jobs_are_told_from_no_answer() -> None:
    assert read() == ((), [])


def test_jobs_that_are_over_are_left_out() -> None:
    assert read(raw(state="COMPLETED"), raw(state="CANCELLED")) == ((), [])


def test_the_rest_of_an_array_has_its_tasks_and_its_limit() -> None:
    (rest, task, first), _ = read(
        raw(array_id=7, array_tasks_waiting="3-9:2", array_tasks_parallel=2),
        raw(8, array_id=7, array_task_id=4, state="RUNNING", allocated_nodes="n2"),
        raw(9, array_id=7, state="RUNNING", allocated_nodes="n1"),  # task 0: pyslurm gives None for it
    )
    assert (rest.id, rest.array_tasks, rest.array_limit) == ("7", (3, 5, 7, 9), 2)
    assert (task.id, task.nodes, first.id) == ("7_4", {"n2"}, "7_0")


def test_what_asks_for_gres_is_read_otherwise() -> None:
    (found, partial) = read(raw(), raw(8, gres_per_node={"gpu:a100": 1}))
    assert [job.id for job in found] == ["7"]
    assert partial == ["8"]


class Odd(Raw):
    """Of one thing that is asked, pyslurm makes nothing."""

    def __getattr__(self, name: str) -> None:
        if name == self.odd:
            raise ValueError(name)
        return super().__getattr__(name)


@pytest.mark.parametrize("odd", ["account", "requested_tres", "comment"])
def test_one_job_that_pyslurm_does_not_understand_does_not_hide_the_others(odd: str) -> None:
    strange = Odd(**{**vars(raw(8, num_nodes=2)), "odd": odd})
    (found, partial) = read(raw(), strange, raw(9), words=True)
    assert ([job.id for job in found], partial) == (["7", "9"], ["8"])


def test_a_name_that_could_not_be_looked_up_once_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[int, Any] = {}
    monkeypatch.setattr("pwd.getpwuid", known.__getitem__)
    ((job,), _) = read(raw(user_id=4711))
    assert job.user == "4711"
    known[4711] = SimpleNamespace(pw_name="alice")
    ((job,), _) = read(raw(user_id=4711))
    assert job.user == "alice"


@pytest.mark.parametrize(
    "known", [{"num_nodes": 2}, {"requeue_count": 1}, {"heterogeneous_id": 7}, {"state": "CONFIGURING"}]
)
def test_the_least_number_of_nodes_is_read_where_the_estimate_may_be_less(known: dict[str, Any]) -> None:
    ((job,), _) = read(raw(**known, requested_tres=tres(cpu=3, mem=3000, node=3)))
    assert job.shape.min_nodes == 3


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"memory_per_cpu": 1000}, (1000, 0)),
        ({"memory_per_node": 1000}, (0, 1000)),
    ],
)
def test_memory_is_told_from_that_of_a_cpu_without_the_total(known: dict[str, Any], expected: tuple[int, int]) -> None:
    ((job,), _) = read(raw(cpus=4, **known))
    assert (job.shape.memory_per_cpu, job.shape.memory_per_node, job.shape.min_nodes) == (*expected, 1)


def test_many_jobs_come_in_parts() -> None:
    found = [raw(number, account=f"a{number % 3}") for number in range(1, 1202)]
    parts = list(render(found, "end", False, []))
    assert len(parts) == 3
    read_back = parse_jobs(parts, "end", Terms())
    assert [(job.job_id, job.account) for job in read_back] == [(job.id, job.account) for job in found]


def test_free_text_in_the_qos_is_no_other_field() -> None:
    ran = ("RUNNING", "", "n1", "5", "0", "UNLIMITED", "2026-01-02T03:04:05", "N/A", "N/A", "N/A", "1", "", "", "None")
    forged = FIELD.join(("x", *ran, "root"))
    ((job,), _) = read(raw(qos=forged, state_reason="a\x1fb", account="mine"))
    assert (job.state, job.nodes, job.account, job.reason) == ("PENDING", frozenset(), "mine", "a b")


def test_free_text_changes_nothing_but_itself() -> None:
    ((job,), _) = read(raw(account="strange \x1f\x1dname\nJOBID", comment="bid=3\nJOBID\x1f", nice=-3), words=True)
    assert (job.account, job.nice, job.comment) == ("strange \x1f\x1dname\nJOBID", -3, "bid=3\nJOBID\x1f")


# The process


def worker(script: str, timeout: float = 5) -> Worker:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    return Worker(start, timeout)


def ask(of: Worker, question: str = "x") -> tuple[str, list[str]]:
    with of.asked(question) as (parts, partial):
        return "".join(parts), partial


def test_an_answer_is_read_in_full_and_the_process_is_asked_again() -> None:
    asked = worker("while read it; do printf 't%s\\n%st2\\n..p3\\n8,9' ${#it} $it; done")
    assert ask(asked, "abc") == ("abc..", ["8", "9"])
    assert ask(asked, "de") == ("de..", ["8", "9"])
    asked.close()


def test_a_letter_that_is_cut_in_two_is_one_letter() -> None:
    asked = worker(r"read it; printf 't1\n\303t1\n\251p0\n'")
    assert ask(asked) == ("é", [])
    asked.close()


def test_a_process_that_hangs_is_killed_and_another_one_asked() -> None:
    processes = []

    def start() -> subprocess.Popen[bytes]:
        script = "printf 't1\\nxp0\\n'; cat >/dev/null" if processes else "printf 't1\\n'; cat >/dev/null"
        processes.append(subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return processes[-1]

    asked = Worker(start, 0.5)
    with pytest.raises(SlurmUnavailableError, match=r"no answer within 0\.5 s"):
        ask(asked, "hung")
    assert processes[0].returncode is not None
    assert ask(asked, "again") == ("x", [])
    asked.close()
    assert processes[1].returncode is not None


def test_an_answer_that_is_not_taken_whole_is_not_taken_for_the_next_ones() -> None:
    asked = worker("while read it; do printf 't%s\\n%sp0\\n' ${#it} $it; done")
    with pytest.raises(ZeroDivisionError), asked.asked("abc"):
        raise ZeroDivisionError
    assert ask(asked, "de") == ("de", [])
    asked.close()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 1", "ended|pipe"),
        ("read it; printf 'e4\\ndown'", "down"),
        ("read it; printf 't3\\nhale4\\ndown'", "down"),
        ("read it; printf 't100\\nhalf'", "ended"),
        ("read it; printf 't4\\nhalf'", "ended"),
        ("read it; printf 'rubbish\\n'", "invalid literal"),
    ],
)
def test_half_an_answer_is_none(script: str, said: str) -> None:
    with pytest.raises(SlurmUnavailableError, match=said):
        ask(worker(script))


# Which adapter


def test_pyslurm_is_used_where_it_is_asked_for_and_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "is_installed", lambda: True)
    kinds = {each: type(backend.adapter(SlurmSettings(each))) for each in Backend}
    assert kinds == {Backend.AUTO: CliSlurm, Backend.CLI: CliSlurm, Backend.PYSLURM: PyslurmSlurm}
    monkeypatch.setattr(backend, "is_installed", lambda: False)
    with pytest.raises(SlurmUnavailableError, match="pip install"):
        backend.adapter(SlurmSettings(Backend.PYSLURM))


def raw_node(name: str, **known: Any) -> Any:
    """A node as pyslurm gives it."""
    usual = {
        "name": name, "state": "IDLE+DRAIN", "effective_cpus": 8, "total_cpus": 8, "allocated_cpus": 2,
        "real_memory": 8000, "allocated_memory": 500, "threads_per_core": 2, "partitions": ["main", "preempt"],
    }  # fmt: skip
    return Raw(**{**usual, **known})


def test_a_node_is_read_whatever_somebody_wrote_about_it() -> None:
    said = "looked at\nNodeName=n2 CPUTot=1"
    partial: list[str] = []
    text = pyslurm_text.nodes(
        [raw_node("n1", reason=said, reason_user="root", memory_reserved_for_system=1000)], partial
    )
    (node,) = parse_nodes(text).values()
    assert (node.name, node.states, node.partitions) == ("n1", {"IDLE", "DRAIN"}, {"main", "preempt"})
    assert (node.cpus, node.alloc_cpus, node.memory, node.alloc_memory) == (8, 2, 7000, 500)
    assert node.threads_per_core == 2
    assert node.reason.startswith("looked at NodeName=n2 CPUTot=1 [root@")
    assert partial == []


def test_a_node_with_gres_is_left_to_the_commands() -> None:
    partial: list[str] = []
    text = pyslurm_text.nodes([raw_node("n1", configured_gres={"gpu:a100": 2}), raw_node("n2")], partial)
    assert (list(parse_nodes(text)), partial) == (["n2"], ["n1"])


def test_a_partition_is_read() -> None:
    raw_partition = Raw(
        name="preempt", nodes="n[1-4]", priority_tier=1, preempt_mode="REQUEUE", max_time=1500, state="UP",
        oversubscribe="EXCLUSIVE", default_time=None,
    )  # fmt: skip
    (partition,) = parse_partitions(pyslurm_text.partitions([raw_partition]), "OFF").values()
    assert (partition.nodes, partition.tier, partition.preempt_mode) == ({"n1", "n2", "n3", "n4"}, 1, "REQUEUE")
    assert (partition.max_time, partition.default_time) == (timedelta(minutes=1500), None)
    assert partition.exclusive


# What pyslurm does besides


@pytest.mark.parametrize("known", [{"instance_to_dict": dict}, {}])
def test_pyslurm_makes_no_statistics_while_it_reads_and_is_left_as_it_was(
    known: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = SimpleNamespace(**known)
    monkeypatch.setitem(sys.modules, "pyslurm.db.stats", stats)
    with pyslurm_worker.without_statistics():
        assert [made(object()) for made in vars(stats).values()] == [{}] * len(known)
    assert vars(stats) == known
