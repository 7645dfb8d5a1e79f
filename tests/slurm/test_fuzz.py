"""Answers that were damaged on their way: every recording, damaged in many ways, the same ones each time.

What a parser gives is then either refused or what Slurm could have printed; a cut that can be told is told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from slurm_reserve.errors import ReserveError
from slurm_reserve.model import Job, Node, Partition, Reservation
from slurm_reserve.slurm import text as texts
from slurm_reserve.slurm import values
from slurm_reserve.slurm.jobs import parse_jobs
from slurm_reserve.slurm.port import SlurmUnreadableError
from slurm_reserve.slurm.shapes import FIELDS, Terms, parse_shape

from tests.slurm.record import END
from tests.slurm.recordings import named, recorded
from tests.slurm.test_hostile_text import ANSWERS, PARSERS

SEPARATORS = [
    "\x1f",
    "\x1d",
    f"\x1f{END}\n",
    "\n",
    "\n\n",
    " ",
    "=",
    ",",
    "|",
    ":",
    "[1-4]",
    "n[1-",
    "(null)",
    "\0",
    "é",
]
TIMES = 150  # how often each answer is damaged in each way


def drop_lines(text: str, dice: random.Random) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if dice.random() > 0.2)


def repeat_lines(text: str, dice: random.Random) -> str:
    return "".join(line * dice.choice([1, 1, 1, 2, 3]) for line in text.splitlines(keepends=True))


def truncate_lines(text: str, dice: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    which = dice.randrange(len(lines))
    lines[which] = lines[which][: dice.randrange(len(lines[which]) + 1)] + dice.choice(["", "\n"])
    return "".join(lines)


def flip_bytes(text: str, dice: random.Random) -> str:
    raw = bytearray(text.encode())
    for _ in range(dice.choice([1, 1, 2, 8])):
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return raw.decode(errors="replace")  # as the adapter reads it


def cut_a_piece_out(text: str, dice: random.Random) -> str:
    start = dice.randrange(len(text))
    return text[:start] + text[start + dice.choice([1, 2, 10, 100, 2000]) :]


def swap_fields(text: str, dice: random.Random) -> str:
    separator = dice.choice([s for s in ("\x1f", " ", "|", ":", "\n") if s in text] or ["\n"])
    parts = text.split(separator)
    one, other = dice.randrange(len(parts)), dice.randrange(len(parts))
    parts[one], parts[other] = parts[other], parts[one]
    return separator.join(parts)


def inject_separators(text: str, dice: random.Random) -> str:
    for _ in range(dice.choice([1, 2, 5])):
        where = dice.randrange(len(text) + 1)
        text = text[:where] + dice.choice(SEPARATORS) + text[where:]
    return text


def swollen(text: str, dice: random.Random) -> str:
    """One number becomes huge: nothing is expanded to it."""
    digits = [i for i, char in enumerate(text) if char.isdigit()]
    where = dice.choice(digits) if digits else 0
    return text[:where] + dice.choice(["9" * 12, "9" * 400, "-1", "1-999999999999"]) + text[where:]


DAMAGE = [
    drop_lines, repeat_lines, truncate_lines, flip_bytes, cut_a_piece_out, swap_fields, inject_separators, swollen,
]  # fmt: skip


def is_sound(found: object) -> bool:
    """As decisions take it: names that are none, sizes below zero or sets without end are not."""
    match found:
        case Job():
            good = (
                bool(found.user and found.partitions) and found.state.isupper() and found.submitted.tzinfo is not None
            )
            return good and found.id.split("_")[0].isdigit() and found.restarts >= 0 and len(found.nodes) <= 65_536
        case Node():
            return bool(found.name and found.states) and min(found.cpus, found.alloc_cpus, found.alloc_memory) >= 0
        case Reservation():
            return bool(found.name) and found.start.tzinfo is not None and len(found.nodes) <= 65_536
        case Partition():
            return bool(found.name) and found.tier >= 0 and len(found.nodes) <= 65_536
    return True


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damaged_answers_are_read_soundly_or_refused(damage: Callable[[str, random.Random], str]) -> None:
    dice = random.Random(damage.__name__)
    said: list[str] = []
    for kind, text in ANSWERS:
        for _ in range(TIMES if text else 0):
            damaged = damage(text, dice)
            try:
                found: Any = PARSERS[kind](damaged)
            except SlurmUnreadableError as error:
                said.append(str(error))
                continue
            each = found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else ()
            assert all(map(is_sound, each)), damaged
    assert said  # the damage did damage
    assert all(len(text) < 1000 and text.isprintable() for text in said)


LINED = [
    (kind, text) for kind, text in ANSWERS if kind not in ("jobs", "jobs-one-by-one", "all-jobs", "config") and text
]


@pytest.mark.parametrize(("kind", "text"), LINED, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(LINED)])
def test_an_answer_cut_within_a_line_is_never_a_shorter_one(kind: str, text: str) -> None:
    for length in range(1, len(text)):
        if text[length - 1] != "\n" and text[:length].strip() != texts.NO_RESERVATIONS:
            with pytest.raises(SlurmUnreadableError):
                PARSERS[kind](text[:length])


def test_a_configuration_that_lacks_its_end_is_refused_wherever_it_is_cut() -> None:
    text = recorded("config.empty")
    last = text.index("\n", text.index("\nSlurmUser ") + 1) + 1
    whole = texts.parse_config(text)
    for length in range(len(text)):
        try:
            found = texts.parse_config(text[:length])
        except SlurmUnreadableError:
            continue
        assert length >= last
        assert found == whole


@pytest.mark.parametrize("path", [*named("jobs"), *named("jobs-one-by-one"), *named("all-jobs")], ids=lambda p: p.stem)
def test_jobs_are_never_fewer_without_its_being_told_unless_the_cut_is_between_two(path: Any) -> None:
    text = path.read_bytes().decode()
    whole = parse_jobs([text], END, Terms())
    ends = [i + len(END) + 1 for i in range(len(text)) if text.startswith(END + "\n", i)]
    for length in range(len(text)):
        if length in ends:  # nothing tells it from a shorter answer: Slurm prints no count
            assert len(parse_jobs([text[:length]], END, Terms())) <= len(whole)
            continue
        with pytest.raises(SlurmUnreadableError):
            parse_jobs([text[:length]], END, Terms())


VALUES = [
    values.word, values.names, values.hosts, values.time, values.duration, values.number, values.count,
    values.megabytes, values.tres, values.gres, values.array_tasks,
]  # fmt: skip
PRINTED = [
    "n[1-4,7]", "r[1-2]n[1-2]", "2030-05-06T12:00:00", "1-02:03:04", "UNLIMITED", "4294967294", "4000M", "1.5G",
    "cpu=4,mem=8G,node=1,billing=4", "gpu:a100:2(S:0-1),shard:4", "gres/gpu:2", "3-100:2,205%4", "(null)", "N/A", "",
]  # fmt: skip


@pytest.mark.parametrize("read", VALUES, ids=lambda read: read.__name__)
def test_damaged_values_are_read_or_refused(read: Callable[[str], Any]) -> None:
    dice = random.Random(read.__name__)
    for _ in range(1500):
        text = dice.choice(DAMAGE)(dice.choice(PRINTED) + " ", dice)[:-1]
        try:
            read(text)
        except (ValueError, ReserveError):
            continue


def test_damaged_shapes_are_read_or_refused() -> None:
    dice = random.Random(1)
    records = recorded("jobs.requests").split(f"\x1f{END}\n")[1:-1]
    for _ in range(4000):
        fields = dict(zip(FIELDS, dice.choice(records).partition("\x1d")[0].split("\x1f"), strict=True))
        name = dice.choice(FIELDS)
        fields[name] = dice.choice(DAMAGE)(fields[name] + " ", dice)[:-1]
        try:
            shape = parse_shape(fields, Terms())
        except (ValueError, ReserveError):
            continue
        assert min(shape.min_nodes, shape.cpus, shape.tasks) >= 1
