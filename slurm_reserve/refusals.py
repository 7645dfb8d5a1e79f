"""What pydantic refused -> :class:`slurm_reserve.yamlfile.Problem`, in the words of the file, not of the code."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from slurm_reserve.yamlfile import Document, Problem, Where

_EXAMPLE = "configs/site.yaml shows how it is written"
# pydantic's kind of error -> text and remedy, filled in with its own details
_SAID = {
    "missing": ("is missing", _EXAMPLE),
    "model_type": ("is no mapping of keys to values", _EXAMPLE),
    "dict_type": ("is no mapping of keys to values", _EXAMPLE),
    "string_type": ("is no text", "put it in quotes"),
    "string_unicode": ("is no text", "write letters, digits and . _ -"),
    "string_pattern_mismatch": ("is no name", "write letters, digits and . _ -"),
    "string_too_long": ("is too long", "write {max_length} characters at most"),
    "int_type": ("is no whole number", "write one such as 2, without quotes"),
    "greater_than_equal": ("is too small", "write {ge} or more"),
    "bool_type": ("is neither on nor off", "write on or off"),
    "bool_parsing": ("is neither on nor off", "write on or off"),
    "enum": ("is none of its values", "write {expected}"),
    "path_type": ("is no path", "write one such as /var/lib/slurm-reserve"),
}


def problems_of(kind: type[BaseModel], document: Document, error: ValidationError) -> list[Problem]:
    """Everything that was refused in one document."""
    # Of the two forms of `nodes` the one that was not meant complains as well.
    meant = (each for each in error.errors() if not any(str(part).startswith("frozenset") for part in each["loc"]))
    return [_problem(kind, document, dict(each)) for each in meant]


def empty_values(document: Document, kind: type[BaseModel]) -> Iterator[Problem]:
    """Keys without a value: what was meant is not to be guessed. Those that only hold other keys may be empty."""
    yield from _empty(document, kind, document.data, ())


def _empty(document: Document, kind: type[BaseModel], value: Any, where: Where) -> Iterator[Problem]:
    for key, each in value.items() if isinstance(value, dict) else ():
        here = (*where, key)
        if isinstance(each, dict):
            yield from _empty(document, kind, each, here)
        elif each is None and _is_optional_value(kind, here):
            yield document.problem(here, "has no value", "write one, or remove the key")


def _is_optional_value(kind: type[BaseModel], where: Where) -> bool:
    """Whether pydantic would take nothing for the default there, without a word."""
    fields = [
        known.model_fields[key] for known in _kinds_at(kind, where) for key in where[-1:] if key in known.model_fields
    ]
    return any(type(None) in get_args(each.annotation) for each in fields)


def _problem(kind: type[BaseModel], document: Document, error: dict[str, Any]) -> Problem:
    where = _where(document, tuple(error["loc"]))
    value = error["input"] if not isinstance(error["input"], dict | list) else ""
    if error["type"] == "extra_forbidden":
        known = sorted({key for each in _kinds_at(kind, where) for key in each.model_fields})
        close = difflib.get_close_matches(str(where[-1]), known, 1)
        remedy = f"did you mean {close[0]}?" if close else f"remove it; known here are {', '.join(known)}"
        return document.problem(where, "is no key that is known", remedy)
    if (said := _SAID.get(error["type"])) is not None:
        text, remedy = said
        return document.problem(where, text, remedy.format(**error.get("ctx", {})), value if value is not None else "")
    text, _, remedy = str(error["msg"]).removeprefix("Value error, ").partition("; ")
    return document.problem(where, text[0].lower() + text[1:], remedy or _EXAMPLE, value)


def _where(document: Document, loc: Where) -> Where:
    """The place in the file: pydantic names the members of a union as well."""
    where: Where = ()
    for part in loc:
        if (*where, part) in document.lines or part == loc[-1]:
            where = (*where, part)
    return where if where and not str(where[-1]).startswith(("frozenset", "function")) else where[:-1]


def _kinds_at(kind: type[BaseModel], where: Where) -> list[type[BaseModel]]:
    """The models whose keys may stand beside the last key of `where`."""
    kinds = [kind]
    for part in where[:-1]:
        beneath = [each.model_fields[part].annotation for each in kinds if part in each.model_fields]
        kinds = [model for annotation in beneath for model in _models(annotation)] or kinds  # a name changes nothing
    return kinds


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
