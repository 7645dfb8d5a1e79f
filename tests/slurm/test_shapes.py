"""What jobs ask for, as real Slurm printed it."""

from __future__ import annotations

from typing import Any

import pytest
from slurm_reserve.model import Shape
from slurm_reserve.slurm.shapes import Terms

from tests.slurm.recordings import requested

pytestmark = pytest.mark.usefixtures("release")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("-n1",), {"max_nodes": 1}),
        (("-n8",), {"max_nodes": 1, "may_spread": True, "cpus": 8, "tasks": 8}),
        (("-N2", "-n8"), {"min_nodes": 2, "max_nodes": 2, "cpus": 8, "tasks": 8}),
        (("-N1-3", "-n5"), {"max_nodes": 3, "cpus": 5, "tasks": 5}),
        (("-n300",), {"max_nodes": 38, "may_spread": True, "cpus": 300, "tasks": 300}),
        (("-N2",), {"min_nodes": 2, "max_nodes": 2, "cpus": 2, "tasks": 2}),
        (("-c3",), {"max_nodes": 1, "cpus": 3, "cpus_per_task": 3, "min_cpus_per_node": 3}),
        (
            ("-n4", "--ntasks-per-node=2"),
            {"min_nodes": 2, "max_nodes": 2, "cpus": 4, "tasks": 4, "tasks_per_node": 2, "min_cpus_per_node": 2},
        ),
        (("--mincpus=3",), {"max_nodes": 1, "min_cpus_per_node": 3}),
        (("--exclusive",), {"max_nodes": 1, "exclusive": True}),
        (("--oversubscribe",), {"max_nodes": 1}),
        (("--gres=gpu:a100:1",), {"max_nodes": 1, "gres_per_node": {"gpu": 1, "gpu:a100": 1}}),
        (("--gres=gpu",), {"max_nodes": 1, "gres_per_node": {"gpu": 1}}),
        (("--gpus=2",), {"max_nodes": 1, "may_spread": True, "gres_per_job": {"gpu": 2}}),
        (
            ("-n2", "--gpus-per-task=1"),
            {"max_nodes": 1, "may_spread": True, "cpus": 2, "tasks": 2, "gres_per_task": {"gpu": 1}},
        ),
        (("-C", "big&fast"), {"max_nodes": 1, "features": "big&fast"}),
        (("-C", "fast|slow"), {"max_nodes": 1, "features": "fast|slow"}),
        (
            ("-w", "n[2-3]", "-N2"),
            {"min_nodes": 2, "max_nodes": 2, "cpus": 2, "tasks": 2, "required_nodes": frozenset({"n2", "n3"})},
        ),
    ],
)
def test_a_request_is_understood(options: tuple[str, ...], wanted: dict[str, Any], release: str) -> None:
    if tuple(map(int, release.split("."))) >= (26, 5) and wanted.get("may_spread") and "tasks" in wanted:
        wanted = {**wanted, "may_spread": False, "max_nodes": wanted["tasks"]}  # squeue prints no estimate any more
    assert requested(*options).shape == Shape(**{"memory_per_cpu": 1000, **wanted})


@pytest.mark.parametrize(
    ("options", "per_node", "per_cpu"),
    [
        (("-n4", "--mem=3000"), 3000, 0),
        (("-n4", "--mem-per-cpu=500"), 0, 500),
        (("-N2", "--mem=500"), 0, 500),  # two CPUs on two nodes: squeue leaves it open; this reading needs more
    ],
)
def test_memory_for_a_node_is_told_from_memory_for_a_cpu(options: tuple[str, ...], per_node: int, per_cpu: int) -> None:
    shape = requested(*options).shape
    assert (shape.memory_per_node, shape.memory_per_cpu) == (per_node, per_cpu)


def test_all_of_a_nodes_memory_needs_the_whole_node() -> None:
    assert requested("--mem=0").shape.exclusive
    assert not requested("--mem=0", terms=Terms(memory_counts=False)).shape.exclusive


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--exclusive=user",), ("exclusive by user",)),
        (("--gpus-per-node=1", "--cpus-per-gpu=2"), ("CPUs per GRES",)),
        (("--gpus-per-node=1", "--mem-per-gpu=100"), ("memory per GRES",)),
        (
            ("--gpus-per-node=2", "--gpus-per-socket=1", "--sockets-per-node=2"),
            ("GRES per socket", "sockets per node"),
        ),
        (("--gres=shard:2",), ("shard",)),
        (("-C", "[fast*1&slow*1]", "-N2"), ("counted or grouped features",)),
        (("--contiguous",), ("contiguous nodes",)),
        (("--switches=1@10",), ("switches",)),
        (("--threads-per-core=1",), ("threads per core",)),
        (("--hint=nomultithread",), ("threads per core",)),
        (("--cores-per-socket=2",), ("cores per socket",)),
        (("--sockets-per-node=1",), ("sockets per node",)),
        (("--ntasks-per-core=1", "-n2"), ("tasks per core",)),
        (("--tmp=100",), ("temporary disk",)),
    ],
)
def test_what_cannot_be_proved_is_named(options: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert requested(*options).shape.unproven == words


def test_threads_of_cores_mean_nothing_where_cores_have_one() -> None:
    terms = Terms(single_threaded=True)
    assert requested("--hint=nomultithread", terms=terms).shape.unproven == ()
    assert requested("--ntasks-per-core=1", "-n2", terms=terms).shape.unproven == ()
