"""Whatever happens to an answer on its way, it is read or found unreadable; nothing else is ever raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from slurm_reserve.slurm import text as texts
from slurm_reserve.slurm.jobs import parse_excluded, parse_jobs
from slurm_reserve.slurm.port import SlurmUnreadableError
from slurm_reserve.slurm.shapes import Terms

from tests.slurm.record import END
from tests.slurm.recordings import named, recorded

PARSERS: dict[str, Callable[[str], Any]] = {
    "jobs": lambda text: parse_jobs([text], END, Terms()),
    "jobs-one-by-one": lambda text: parse_jobs([text], END, Terms()),
    "all-jobs": lambda text: parse_jobs([text], END, Terms()),
    "excluded": parse_excluded,
    "nodes": texts.parse_nodes,
    "reservations": texts.parse_reservations,
    "partitions": texts.parse_partitions,
    "config": texts.parse_config,
    "qos": texts.parse_qos_preempts,
    "groups": lambda text: texts.parse_groups(text, recorded("passwd.empty")),
    "passwd": lambda text: texts.parse_groups(recorded("groups.empty"), text),
}
ANSWERS = [(kind, path.read_bytes().decode()) for kind in PARSERS for path in named(kind)]
# What Slurm's own syntax is made of breaks more than any character would.
PIECES = st.one_of(
    st.sampled_from(
        ["", "\x1f", "\x1d", f"\x1f{END}\n", "\n", " ", "=", ",", "[", "]", "1-", "%", ":", "(null)", "N/A"]
    ),
    st.text(max_size=6),
    st.integers(-1, 10**12).map(str),
)


def reads_or_is_unreadable(kind: str, text: str) -> None:
    try:
        PARSERS[kind](text)
    except SlurmUnreadableError as error:
        said = str(error)
    else:
        return
    assert len(said) < 1000
    assert said.isprintable()


def test_every_recording_is_read() -> None:
    assert {kind for kind, _ in ANSWERS} == set(PARSERS)
    for kind, text in ANSWERS:
        PARSERS[kind](text)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(ANSWERS), st.floats(0, 1))
def test_cut_off(answer: tuple[str, str], where: float) -> None:
    kind, text = answer
    reads_or_is_unreadable(kind, text[: int(len(text) * where)])


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(ANSWERS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), PIECES), min_size=1, max_size=4)
)
def test_changed_in_places(answer: tuple[str, str], changes: list[tuple[float, int, str]]) -> None:
    kind, text = answer
    for where, length, piece in changes:
        start = int(len(text) * where)
        text = text[:start] + piece + text[start + length :]
    reads_or_is_unreadable(kind, text)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(PARSERS)), st.text())
@example("nodes", "NodeName= CPUTot=1\n")
@example("reservations", "ReservationName= StartTime=\n")
def test_something_else_altogether(kind: str, text: str) -> None:
    reads_or_is_unreadable(kind, text)
