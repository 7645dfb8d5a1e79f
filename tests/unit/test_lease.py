"""The lease by which daemons on several hosts take turns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from slurm_reserve import lease
from slurm_reserve.actions import CreateReservation, UpdateReservation
from slurm_reserve.ledger import Ledger
from slurm_reserve.model import Cluster, Node, Reservation
from slurm_reserve.slurm.port import Slurm, SlurmRefusedError

from tests.builders import NOW, cluster, nodes, reservation, site, spec

FOUR = nodes("n1", "n2", "n3", "n4")
R = reservation("physics", "n1", "n2")
LENGTH = timedelta(seconds=120)


class Judge:
    """As much of slurmctld as a lease needs: one reservation of a name."""

    def __init__(self) -> None:
        self.held: Reservation | None = None

    def create_reservation(self, what: CreateReservation) -> None:
        if self.held is not None:
            raise SlurmRefusedError("Duplicate reservation name")
        assert what.nodes <= R.nodes
        self.held = Reservation(what.name, what.nodes, NOW, what.end, what.flags)

    def update_reservation(self, what: UpdateReservation) -> None:
        assert self.held is not None
        assert what.end is not None
        self.held = replace(self.held, end=what.end)

    def delete_reservation(self, name: str) -> None:
        self.held = None

    def read_nodes(self, names: list[str]) -> tuple[dict[str, Reservation], dict[str, Node]]:
        return ({} if self.held is None else {self.held.name: self.held}), {}

    def seen(self) -> Cluster:
        made = cluster(FOUR, R)
        return replace(made, reservations={**made.reservations, **self.read_nodes([])[0]})


def daemon(judge: Judge, folder: Path, after: timedelta = timedelta(0)) -> lease.Lease:
    folder.mkdir(exist_ok=True)
    return lease.Lease(judge, site(spec()), Ledger(folder / "ledger.db"), lambda: NOW + after, LENGTH)  # type: ignore[arg-type]


def test_who_asks_first_acts_and_the_other_stands_by(tmp_path: Path) -> None:
    judge = Judge()
    first, second = daemon(judge, tmp_path / "a"), daemon(judge, tmp_path / "b")
    first.keep(judge.seen())
    assert first.is_held
    with pytest.raises(lease.StandingByError, match="another daemon acts"):
        second.keep(judge.seen())
    assert not second.is_held
    first.release()
    second.keep(judge.seen())
    assert second.is_held


def test_what_was_given_up_is_not_taken_for_ours_though_anothers_begins_within_the_same_second(tmp_path: Path) -> None:
    judge = Judge()  # its leases all begin at the same time
    first, second = daemon(judge, tmp_path / "a"), daemon(judge, tmp_path / "b")
    first.keep(judge.seen())
    first.release()
    second.keep(judge.seen())
    with pytest.raises(lease.TakenError, match="another daemon acts"):
        first.keep(judge.seen())
    assert not first.is_held


def test_where_the_ledger_is_lost_it_is_not_said_that_another_acts(tmp_path: Path) -> None:
    judge = Judge()
    daemon(judge, tmp_path / "a").keep(judge.seen())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "ledger.db").write_bytes(b"damaged" * 1000)
    lost = Ledger(tmp_path / "b" / "ledger.db", may_be_lost=True)
    again = lease.Lease(judge, site(spec()), lost, lambda: NOW, LENGTH)  # type: ignore[arg-type]
    with pytest.raises(lease.StandingByError, match="whose lease it is cannot be told") as told:
        again.keep(judge.seen())
    assert not isinstance(told.value, lease.TakenError)


def test_of_two_that_ask_at_once_slurmctld_serves_one(tmp_path: Path) -> None:
    judge = Judge()
    first, second = daemon(judge, tmp_path / "a"), daemon(judge, tmp_path / "b")
    free = judge.seen()
    first.keep(free)
    with pytest.raises(lease.StandingByError, match="no lease"):
        second.keep(free)


def test_a_daemon_that_was_killed_takes_up_its_own_lease(tmp_path: Path) -> None:
    judge = Judge()
    daemon(judge, tmp_path / "a").keep(judge.seen())
    again = daemon(judge, tmp_path / "a")
    again.keep(judge.seen())
    assert again.is_held


def test_it_is_extended_in_time_and_not_in_the_last_quarter(tmp_path: Path) -> None:
    judge = Judge()
    daemon(judge, tmp_path / "a").keep(judge.seen())
    daemon(judge, tmp_path / "a", timedelta(seconds=20)).keep(judge.seen())
    assert judge.seen().reservations[lease.NAME].end == NOW + LENGTH
    daemon(judge, tmp_path / "a", timedelta(seconds=50)).keep(judge.seen())
    assert judge.seen().reservations[lease.NAME].end == NOW + LENGTH + timedelta(seconds=50)
    late = daemon(judge, tmp_path / "a", timedelta(seconds=145))
    with pytest.raises(lease.StandingByError, match="not extended in time"):
        late.keep(judge.seen())
    assert not late.is_held


def test_nothing_is_changed_without_it(tmp_path: Path) -> None:
    judge = Judge()
    held = daemon(judge, tmp_path / "a")
    slurm = lease.LeasedSlurm(judge, held)  # type: ignore[arg-type]
    with pytest.raises(lease.StandingByError, match="run out"):
        slurm.delete_reservation("physics")
    held.keep(judge.seen())
    slurm.delete_reservation("physics")


def test_every_change_that_the_port_knows_needs_it() -> None:
    reading = ("observe", "read_", "is_", "appends_", "spent")
    methods = {name for name in vars(Slurm) if not name.startswith(("_", *reading)) and callable(getattr(Slurm, name))}
    assert methods == lease.CHANGES
