"""Our frozen types as JSON and back: what is written down can be looked at again later as it was. Pure.

Fields that have their default are left out, so that it stays small and an older record can still be read.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints


def encode(value: Any) -> Any:
    """What JSON can hold."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(held) for f in fields(value) if (held := getattr(value, f.name)) != _default(f)}
    if isinstance(value, Mapping):
        return [[encode(key), encode(each)] for key, each in value.items()]
    if isinstance(value, frozenset | set):
        return sorted((encode(each) for each in value), key=str)
    if isinstance(value, tuple | list):
        return [encode(each) for each in value]
    return _atom(value)


def _atom(value: Any) -> Any:
    match value:
        case datetime() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case Decimal() | Path():
            return str(value)
    raise TypeError(f"{type(value).__name__} is not written down")


def decode(kind: Any, data: Any) -> Any:
    """What :func:`encode` made of a value of that type; raises ValueError, TypeError or KeyError for anything else."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(parts, data)
    if origin in (frozenset, list):
        return origin(decode(parts[0], each) for each in data)
    if origin is tuple:
        return tuple(decode(parts[0], each) for each in data)
    if origin is not None and issubclass(origin, Mapping):
        return {decode(parts[0], key): decode(parts[1], each) for key, each in data}
    if is_dataclass(kind):
        return _made(kind, data)
    if hasattr(kind, "_fields"):  # a NamedTuple
        return kind(*(decode(hint, each) for hint, each in zip(_hints(kind).values(), data, strict=True)))
    return _plain(kind, data)


def _made(kind: Any, data: Any) -> Any:
    hints = _hints(kind)
    return kind(**{key: decode(hints[key], each) for key, each in data.items() if key in hints})


def _plain(kind: Any, data: Any) -> Any:
    if kind in (datetime, time):
        return kind.fromisoformat(data)
    if kind is timedelta:
        return timedelta(seconds=data)
    if kind is float:
        return float(data)
    if kind in (str, int, bool):
        if not isinstance(data, kind):
            raise ValueError(f"{data!r} is no {kind.__name__}")
        return data
    return kind(data)  # an enumeration, a path, a decimal number


def _one_of(kinds: tuple[Any, ...], data: Any) -> Any:
    if data is None:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    wanted = [kind for kind in others if is_dataclass(kind) == isinstance(data, dict)]
    return decode(wanted[0], data)


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
