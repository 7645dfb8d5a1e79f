"""What admins and owners order at the daemon's door, of a reservation that the daemon has seen."""

from __future__ import annotations

import pwd
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from slurm_reserve.control import OrderError
from slurm_reserve.desk import Desk
from slurm_reserve.rounds import Rounds
from slurm_reserve.site import NodeRequest, Owner

from tests.builders import NOW, nodes, site, spec
from tests.cycle.fake_slurm import FakeSlurm
from tests.cycle.test_cycle import Rig

OWNER = pwd.getpwuid(1)
DAY = timedelta(days=1)


class Log:
    """Nobody reads it."""

    def info(self, event: str, **_: Any) -> None: ...

    def error(self, event: str, **_: Any) -> None: ...


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Two nodes of a kind, chosen by a cycle, for somebody whom this host knows."""
    mine = spec(owner=Owner(users=frozenset({OWNER.pw_name})), nodes=NodeRequest(2, "main"))
    rig = Rig(tmp_path, site(mine), FakeSlurm(nodes("n1", "n2", "n3")))
    rig.go_on(2)
    seen = rig.cycle()
    made = Rounds(rig.site, rig.slurm, rig.ledger, rig.recorder, lambda: NOW, Log())  # type: ignore[arg-type]  # uncounted
    made.told = seen.view.cluster, seen.plan
    return Desk(made)


def reclaim(*names: str, last: timedelta = DAY) -> dict[str, Any]:
    until = (NOW + last).isoformat()
    return {"do": "reclaim", "reservation": "physics", "nodes": list(names), "until": until, "by": "root"}


@pytest.mark.parametrize("uid", [0, OWNER.pw_uid])
def test_nodes_that_were_not_chosen_for_it_cannot_be_ordered_back(desk: Desk, uid: int) -> None:
    with pytest.raises(OrderError, match=r"physics has no node n3; it has n\[1-2\]"):
        desk.decide(uid, reclaim("n1", "n3"))
    assert "n1 of physics come back" in desk.decide(uid, reclaim("n1"))["text"]


def test_an_owner_does_not_end_what_an_admin_ordered(desk: Desk) -> None:
    desk.decide(0, reclaim())
    desk.decide(OWNER.pw_uid, reclaim(last=timedelta(seconds=1)))
    (order,) = desk.rounds.ledger.memory().orders.reclaims("physics", NOW)
    assert (order.until, order.by) == (NOW + DAY, "root")
    desk.decide(0, reclaim(last=timedelta(seconds=1)))
    assert not desk.rounds.ledger.memory().orders.reclaims("physics", NOW + timedelta(seconds=1))


def test_an_order_for_the_past_is_refused(desk: Desk) -> None:
    with pytest.raises(OrderError, match="is over"):
        desk.decide(0, reclaim(last=-DAY))
