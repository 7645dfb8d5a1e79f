"""A YAML file as plain data, with the line of every key. Duplicate keys, anchors and huge files are refused."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slurm_reserve.errors import ReserveError

MOST_BYTES = 262_144  # more than a thousand reservations; YAML is read slowly, and the daemon waits for it
MOST_DEEP = 32  # brackets within brackets; a site file has three
MOST_DIGITS = 30  # of a number; Python takes its time to print one that is much longer, or refuses to
MOST_SHOWN = 40  # problems; who has more than that made one mistake many times
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")}
Where = tuple[str | int, ...]  # the keys that lead to a value


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration, and what to do about it."""

    file: str
    line: int  # 0: not known
    key: str  # dotted, "" for the file as a whole
    value: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """As a compiler would print it."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        value = f": {self.value!r}" if self.value else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}: {self.key + value + ': ' if self.key else ''}{self.text}{remedy}"


class ConfigError(ReserveError):
    """A configuration that is not taken over; every problem that was found is in `problems`."""

    def __init__(self, problems: list[Problem]) -> None:
        shown = [str(problem) for problem in problems[:MOST_SHOWN]]
        more = len(problems) - len(shown)
        super().__init__("\n".join([*shown, f"and {more} more problems"] if more else shown))
        self.problems = problems


class _Loader(yaml.SafeLoader):
    """Gives up on brackets within brackets early: the deeper they are, the slower PyYAML gets."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Count them."""
        if self.flow_level >= MOST_DEEP:
            raise RecursionError
        super().fetch_flow_collection_start(TokenClass)


@dataclass(slots=True)
class Document:
    """What a file says, and where."""

    file: Path
    data: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, where: Where, text: str, remedy: str = "", value: object = "") -> Problem:
        """A problem with the value at `where`; its line is that of the nearest key known."""
        line = next((self.lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in self.lines), 0)
        key = ".".join(str(part) for part in where)
        return Problem(str(self.file), line, key, str(value)[:80] if value != "" else "", text, remedy)


def read(path: Path) -> Document:
    """Read a file; raises ConfigError when it cannot be read as YAML at all."""
    document = Document(path)
    text = ""
    try:
        raw = _bytes(document)
        if len(raw) > MOST_BYTES:
            raise ConfigError([document.problem((), f"is larger than {MOST_BYTES} bytes", "no site needs that much")])
        text = raw.decode("utf-8")
        node = yaml.compose(text, Loader=_Loader)
    except OSError as error:
        raise ConfigError(
            [document.problem((), f"cannot be read: {error.strerror}", "check path and rights")]
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError([document.problem((), f"is not UTF-8 (byte {error.start})", "save it as UTF-8")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([_syntax(document, text, error)]) from error
    if node is None:
        raise ConfigError([document.problem((), "is empty", "see configs/site.yaml for an example")])
    document.data = _Reader(document).value(node, ())
    if not isinstance(document.data, dict):
        document.problems.append(document.problem((), "is no mapping of keys to values", "write key: value"))
    if document.problems:
        raise ConfigError(document.problems)
    return document


def _bytes(document: Document) -> bytes:
    """The start of a plain file: a pipe or a device would keep the daemon waiting, or never end."""
    handle = os.open(document.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ConfigError([document.problem((), "is no plain file", "give the path of a YAML file")])
        return file.read(MOST_BYTES + 1)


def _syntax(document: Document, text: str, error: Exception) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        line, said = text.count("\n", 0, error.position) + 1, f"holds the character {error.character!r}"
        return Problem(str(document.file), line, "", "", f"is no YAML: {said}", "remove it")
    if isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return Problem(str(document.file), line, "", "", f"is no YAML: {error.problem}", "mend the line")
    return document.problem((), "is no YAML: it is nested too deeply", "configs/site.yaml shows what is needed")


@dataclass(slots=True)
class _Reader:
    """Walks the nodes once; a node that is met twice is an alias."""

    document: Document
    met: set[int] = field(default_factory=set)

    def value(self, node: yaml.Node, where: Where) -> Any:
        self.document.lines.setdefault(where, node.start_mark.line + 1)
        if id(node) in self.met:
            self._complain(where, "is an alias", "write the value out")
            return None
        self.met.add(id(node))
        if node.tag not in _PLAIN:
            self._complain(where, f"has the tag {node.tag[:60]}", "write a plain value, in quotes if need be")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, n)) for n, item in enumerate(node.value)]
        return self._scalar(node, where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                self._complain(where, "has a key that is no plain word", "write key: value")
                continue
            key = str(key_node.value)
            here = (*where, key)
            if key in found:
                first = self.document.lines[here]
                problem = self.document.problem(here, f"is given twice, first at line {first}", "keep one of them")
                line = key_node.start_mark.line + 1
                self.document.problems.append(Problem(problem.file, line, *_rest(problem)))
                continue
            self.document.lines[here] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, here)
        return found

    def _scalar(self, node: yaml.Node, where: Where) -> Any:
        """Plain values as YAML reads them, but for times and bare numbers with colons, which stay as written."""
        if node.tag.endswith((":str", ":timestamp", ":float")):
            return str(node.value)
        if node.tag == "tag:yaml.org,2002:int" and ":" in str(node.value):
            return str(node.value)  # YAML 1.1 would read 10:00 as 600
        if len(str(node.value)) > MOST_DIGITS:
            self._complain(where, "is no number that anything here can have", "write a smaller one")
            return None
        try:
            return yaml.SafeLoader("").construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, LookupError):
            self._complain(where, f"cannot be read as {node.tag.rpartition(':')[2]}", "write a plain value")
            return None

    def _complain(self, where: Where, text: str, remedy: str) -> None:
        self.document.problems.append(self.document.problem(where, text, remedy))


def _rest(problem: Problem) -> tuple[str, str, str, str]:
    return problem.key, problem.value, problem.text, problem.remedy
