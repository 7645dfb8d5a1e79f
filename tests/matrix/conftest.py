"""A cluster of several hosts, of the release that RELEASE names. `make test-matrix` makes it and runs these tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.cluster.stage import Stage

if "RELEASE" not in os.environ:  # an ordinary run of the tests has no containers
    collect_ignore_glob = ["test_*.py"]
else:
    from tests.matrix.cluster import ContainerCluster

    class HostsStage(Stage):
        """A play on several hosts."""

        def steps(self) -> list[psutil.Process]:
            lab: Any = self.lab
            nodes = (lab.host(name) for name in ("n1", "n2", "n3", "n4"))
            return [process for node in nodes for process in node.init.children(recursive=True)]

    @pytest.fixture(scope="session")
    def booted() -> ContainerCluster:
        return ContainerCluster(os.environ["RELEASE"])

    @pytest.fixture
    def lab(booted: ContainerCluster) -> ContainerCluster:
        """The cluster, as it was when it came up."""
        booted.clean()
        return booted

    @pytest.fixture
    def stage(lab: ContainerCluster) -> Iterator[Stage]:
        """The cluster with a site file and a daemon, run by an operator on a host of its own."""
        made = HostsStage(lab, user="reserve")  # type: ignore[arg-type]  # as good as a lab
        yield made
        made.close()
