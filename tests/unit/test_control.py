"""The control socket: whatever is sent to it, the daemon answers, changes nothing by mistake, and goes on."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slurm_reserve import control
from slurm_reserve.control import OrderError
from slurm_reserve.door import MOST_REQUESTS
from slurm_reserve.door import Door as Socket
from slurm_reserve.ledger import Ledger
from slurm_reserve.site import NodeRequest

from tests import builders

NOW = datetime(2030, 5, 6, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
UNTIL = "2030-05-06T12:00:00+00:00"


@dataclass
class Door:
    """A daemon's socket with a ledger behind it."""

    folder: Path
    ledger: Ledger = field(init=False)
    socket: Socket = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.db")
        self.socket = Socket(self.folder / control.SOCKET_NAME)

    def answer(self) -> frozenset[str]:
        return self.socket.answer(lambda _, request: {"text": control.apply(self.ledger, request, NOW)})

    def call(self, *pieces: bytes, every: float = 0.0, hang_up: bool = False) -> dict[str, object]:
        """Send these pieces from beside; gives the answer, {} when there was none."""
        answers: list[bytes] = []

        def send() -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(5)
                client.connect(str(self.folder / control.SOCKET_NAME))
                try:
                    for piece in pieces:
                        client.sendall(piece)
                        time.sleep(every)
                    if hang_up:
                        return
                    answers.append(client.recv(65536))
                except OSError:
                    return

        sender = threading.Thread(target=send)
        sender.start()
        end = time.monotonic() + 10
        while not self.answer() and sender.is_alive() and time.monotonic() < end:
            time.sleep(0.001)
        sender.join(10)
        return json.loads(answers[0]) if answers and answers[0] else {}


class Peer:
    """As if somebody with this uid had come."""

    size = 12

    def unpack(self, _: bytes) -> tuple[int, int, int]:
        return 1, 4711, 4711


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    yield made
    made.socket.close()
    made.ledger.close()


def order(**what: object) -> bytes:
    return json.dumps(what).encode() + b"\n"


HOSTILE = [
    b"\n",
    b"garbage\n",
    b"\x00\xff\xfe\n",
    b"[]\n",
    b"null\n",
    b"NaN\n",
    b"{}\n",
    b'{"do": "pause"',  # and nothing more
    b"[" * 60_000 + b"\n",
    b'{"do": ' + b"[" * 20_000 + b"]" * 20_000 + b"}\n",
    b"x" * 1_048_576,
    order(do="pause", now="x")[:-1] + b" trailing\n",
    order(do=["pause"]),
    order(do="lend", reservation="physics", enabled=True, until="soon"),
    order(do="lend", reservation="physics", enabled=True, until="2030-05-06T12:00:00"),  # in which zone?
    order(do="lend", reservation="physics", enabled=True, until="9999-12-31T23:59:59-23:59"),  # in no zone of ours
    order(do="lend", reservation="physics", enabled="yes", until=None),
    order(do="lend", reservation="a b", enabled=True, until=None),
    b'{"do": "lend", "reservation": "\\ud800", "enabled": true, "until": null}\n',
    order(do="adopt", reservation=""),
    order(do="adopt", reservation="x" * 60_000),
    order(do="restore", reservation="a\nb"),
    order(do="reclaim", reservation="physics", nodes=[{}], until=UNTIL, by="me"),
    order(do="reclaim", reservation="physics", nodes=["n1", 7], until=UNTIL, by="me"),
    order(do="reclaim", reservation="physics", nodes=["n1"], until="never", by="me"),
    order(do="reclaim", reservation="physics", nodes="n1", until=UNTIL, by="me"),
    order(do="reclaim", reservation="physics", nodes=["n" + "1" * 20], until=UNTIL, by="me"),
    order(do="reclaim", reservation="physics", nodes=["n1"], until="2030-05-06T09:00:00+00:00", by="me"),
    order(do="lend", reservation="physics", enabled=True, until="2030-05-06T09:00:00+00:00"),
]


@pytest.mark.parametrize("sent", HOSTILE, ids=lambda sent: repr(sent[:40]))
def test_what_is_no_order_changes_nothing_and_the_next_one_is_taken(door: Door, sent: bytes) -> None:
    before, begun = door.ledger.memory(), time.monotonic()
    answer = door.call(sent)
    assert time.monotonic() - begun < 10
    assert not answer.get("ok")
    assert len(str(answer.get("text", ""))) < 400
    assert door.ledger.memory() == before
    assert door.call(order(do="pause")) == {"ok": True, "text": "lending is paused; reclaim goes on"}
    assert door.ledger.memory().orders.paused


def test_who_sends_slowly_or_reads_nothing_keeps_nobody_waiting(door: Door) -> None:
    with contextlib.ExitStack() as stack:
        for sent in (b"", b'{"do"', b" "):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.connect(str(door.folder / control.SOCKET_NAME))
            client.sendall(sent)
        begun = time.monotonic()
        assert door.answer() == frozenset()
        assert time.monotonic() - begun < 2
        assert door.call(order(do="pause"))["ok"]
        deadline = time.monotonic() + 20
        while len(door.socket.reading()) > 1 and time.monotonic() < deadline:
            door.answer()
        assert len(door.socket.reading()) == 1  # they were shown out
        assert b"cut off" in client.recv(65536)


def test_who_is_late_in_the_very_moment_of_a_look_is_told_so_all_the_same(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(door.folder / control.SOCKET_NAME))
        client.sendall(b" ")
        door.answer()
        begun, looks = time.monotonic(), iter([0.0, 0.0])  # let in, and not late yet; after that it is
        monkeypatch.setattr("slurm_reserve.door.time.monotonic", lambda: begun + next(looks, 1.5))
        door.answer()
        door.answer()
        assert b"cut off" in client.recv(65536)


def test_a_long_answer_is_sent_as_it_is_read(door: Door) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(0.05)
        client.connect(str(door.folder / control.SOCKET_NAME))
        client.sendall(order(do="status"))
        got = b""
        while not got.endswith(b"\n"):
            door.socket.answer(lambda _, __: {"text": "x" * 3_000_000})
            with contextlib.suppress(TimeoutError):
                got += client.recv(100_000)
    assert len(got) > 3_000_000


def test_others_than_admins_may_not_come_too_often(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1)
    monkeypatch.setattr("slurm_reserve.door._PEER", Peer())
    monkeypatch.setattr("slurm_reserve.door.PER_SECONDS", 600.0)  # a disk may be slow
    answers = [door.call(order(do="pause"))["ok"] for _ in range(MOST_REQUESTS)]
    assert all(answers)
    refused = door.call(order(do="pause"))
    assert "too many requests" in str(refused["text"])
    assert str(door.socket.patience) != "None"  # for a moment nobody is let in


def test_who_hangs_up_has_given_the_order_all_the_same(door: Door) -> None:
    door.call(order(do="pause"), hang_up=True)
    assert door.ledger.memory().orders.paused


def test_many_who_hang_up_at_once_leave_the_socket_usable(door: Door) -> None:
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(8)]
    for client in clients:
        client.connect(str(door.folder / control.SOCKET_NAME))
        client.close()
    for _ in clients:
        assert door.answer() == frozenset()
    assert door.call(order(do="pause"))["ok"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(UNTIL) | st.just("n1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
KEYS = st.fixed_dictionaries(
    {"do": st.sampled_from(["pause", "resume", "restore", "adopt", "lend", "reclaim", "wake"])},
    optional=dict.fromkeys(("reservation", "enabled", "until", "nodes", "by"), VALUES),
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS)
def test_whatever_is_ordered_can_be_read_again(door: Door, what: dict[str, object]) -> None:
    with contextlib.suppress(OrderError):
        control.apply(door.ledger, what, NOW)
    door.ledger.memory()
    door.ledger.read_orders()
    orders = door.ledger.memory().orders
    assert all(each.until.tzinfo for each in orders.reclaim.values())
    assert all(each.until is None or each.until.tzinfo for each in orders.lend.values())


def reclaim(ledger: Ledger, *names: str, hours: float, by: str = "root", is_owner: bool = False) -> str:
    until = (NOW + hours * HOUR).isoformat()
    wanted = {"do": "reclaim", "reservation": "physics", "nodes": list(names), "until": until, "by": by}
    return control.apply(ledger, wanted, NOW, is_owner)


def held(ledger: Ledger, hours: float = 0) -> list[tuple[list[str], float, str]]:
    """Nodes, for how many hours yet, and by whom."""
    found = ledger.memory().orders.reclaims("physics", NOW + hours * HOUR)
    return sorted((sorted(order.nodes), (order.until - NOW) / HOUR, order.by) for order in found)


def test_orders_for_different_nodes_hold_each_by_itself(door: Door) -> None:
    reclaim(door.ledger, "n1", hours=2)
    reclaim(door.ledger, "n3", "n2", "n2", hours=1)
    reclaim(door.ledger, hours=0.5)
    assert held(door.ledger) == [([], 0.5, "root"), (["n1"], 2, "root"), (["n2", "n3"], 1, "root")]
    assert held(door.ledger, hours=1) == [(["n1"], 2, "root")]
    assert door.ledger.memory().orders.reclaims("phys", NOW) == ()
    reclaim(door.ledger, "n1", hours=0.1)  # an admin may take it off so
    assert held(door.ledger, hours=1) == []
    control.forget_past(door.ledger, NOW + HOUR)
    assert not door.ledger.memory().orders.reclaim


def test_an_owners_order_ends_none_sooner_that_somebody_else_gave(door: Door) -> None:
    reclaim(door.ledger, hours=24)
    assert "2030-05-07T10:00:00+00:00, as root ordered" in reclaim(door.ledger, hours=1, by="alice", is_owner=True)
    assert held(door.ledger) == [([], 24, "root")]
    reclaim(door.ledger, hours=48, by="alice", is_owner=True)
    reclaim(door.ledger, hours=1, by="alice", is_owner=True)  # her own
    assert held(door.ledger) == [([], 1, "alice")]


def test_nobody_makes_the_daemon_look_at_ever_more_orders(door: Door) -> None:
    for number in range(control.MOST_RECLAIMS):
        reclaim(door.ledger, f"n{number}", hours=1)
    with pytest.raises(OrderError, match="orders for nodes of physics hold already"):
        reclaim(door.ledger, "n1", "n2", hours=1)
    reclaim(door.ledger, "n1", hours=2)


def test_nodes_that_the_reservation_does_not_have_are_refused_by_name() -> None:
    explicit = builders.spec("physics", "n1", "n2")
    counted = replace(explicit, nodes=NodeRequest(2, "main"))
    there = builders.reservation("physics", "n2", "n3")
    assert control.nodes_of(explicit, None) == {"n1", "n2"}
    assert control.nodes_of(explicit, there) == {"n1", "n2", "n3"}
    assert control.nodes_of(counted, there) == {"n2", "n3"}
    assert control.nodes_of(counted, None) is None
    control.refuse_unknown("physics", ["n1"], frozenset({"n1", "n2"}))
    control.refuse_unknown("physics", ["n9"], None)
    with pytest.raises(OrderError, match=r"physics has no node n8,n9; it has n\[1-2\]"):
        control.refuse_unknown("physics", ["n9", "n1", "n8"], frozenset({"n1", "n2"}))
    with pytest.raises(OrderError, match="has no node"):
        control.refuse_unknown("physics", [{}], frozenset({"n1"}))
