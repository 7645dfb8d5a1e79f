"""Slurm's host lists, `n[1-4,7]` <-> a set of names. Pure; the work is ClusterShell's."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ClusterShell.NodeSet import NodeSet, NodeSetException
from ClusterShell.NodeUtils import GroupResolver

from slurm_reserve.errors import ReserveError

MOST_NAMES = 65_536

_MOST_DIGITS = 18  # in a row; Python itself refuses to read very long numbers, and no node has one
_ALLOWED = re.compile(r"[A-Za-z0-9._,\[\]-]*")  # ClusterShell gives @ ! & ^ and blanks a meaning of its own
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_LONG_NUMBER = re.compile(rf"[0-9]{{{_MOST_DIGITS + 1}}}")
_RANGE = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12}))?")
_NO_GROUPS = GroupResolver(default_source=None)  # names are names: no group is ever looked up


class HostlistError(ReserveError):
    """A host list that is malformed or names too many nodes."""


def expand(text: str, most: int = MOST_NAMES) -> frozenset[str]:
    """The names in a host list; raises HostlistError. More than `most` names are refused before they are made."""
    if not text:
        return frozenset()
    if not _ALLOWED.fullmatch(text):
        raise HostlistError(f"{text[:80]!r} is no list of nodes; write names such as n1 or n[1-4,7]")
    if _LONG_NUMBER.search(text):
        raise HostlistError(f"{text[:80]!r} has a number of more than {_MOST_DIGITS} digits; write a node's name")
    if (count := _count(text)) > most:
        raise HostlistError(f"{text[:80]!r} names {count} nodes; at most {most} are taken, so write fewer")
    try:
        return frozenset(NodeSet(text, resolver=_NO_GROUPS))
    except (NodeSetException, ValueError, IndexError) as error:
        raise HostlistError(
            f"{text[:80]!r} is no list of nodes: {error}; write names such as n1 or n[1-4,7]"
        ) from error


def fold(names: Iterable[str]) -> str:
    """The shortest host list for these names, as Slurm would print it; raises HostlistError for what is no name."""
    wanted = sorted(set(names))
    for name in wanted:
        if not _NAME.fullmatch(name) or _LONG_NUMBER.search(name):
            raise HostlistError(f"{name[:80]!r} is no node's name; write letters, digits and . _ -")
    folded = NodeSet.fromlist(wanted, resolver=_NO_GROUPS)
    folded.fold_axis = (-1,)  # Slurm prints one pair of brackets, at the end
    return str(folded)


def _count(text: str) -> int:
    """How many names a list stands for at most, without making them."""
    total = 0
    for item in _items(text):
        product = 1
        for inside in _BRACKETS.findall(item):
            product *= sum(_width(part) for part in inside.split(","))
        total += product
    return total


def _width(part: str) -> int:
    found = _RANGE.fullmatch(part)
    if found is None:
        raise HostlistError(f"{part[:40]!r} is no range of numbers; write 1-4 or 7")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise HostlistError(f"{part[:40]!r} ends before it begins; write {last}-{first}")
    return last - first + 1


def _items(text: str) -> list[str]:
    """Split at commas outside brackets."""
    items, depth, item = [], 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if depth not in (0, 1):
            raise HostlistError(f"{text[:80]!r} has brackets that do not match; write n[1-4,7]")
        if char == "," and depth == 0:
            items.append(item)
            item = ""
        else:
            item += char
    if depth:
        raise HostlistError(f"{text[:80]!r} has brackets that do not match; write n[1-4,7]")
    return [*items, item]


__all__ = ["MOST_NAMES", "HostlistError", "expand", "fold"]
