"""A YAML file as plain data, with the line of every key. Duplicate keys, anchors and huge files are refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slurm_reserve.errors import ReserveError

MOST_BYTES = 1_000_000
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
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


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
    try:
        with path.open("rb") as handle:
            raw = handle.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise ConfigError([document.problem((), f"is larger than {MOST_BYTES} bytes", "no site needs that much")])
        node = yaml.compose(raw.decode("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(
            [document.problem((), f"cannot be read: {error.strerror}", "check path and rights")]
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError([document.problem((), f"is not UTF-8 (byte {error.start})", "save it as UTF-8")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([_syntax(document, error)]) from error
    if node is None:
        raise ConfigError([document.problem((), "is empty", "see configs/site.yaml for an example")])
    document.data = _Reader(document).value(node, ())
    if not isinstance(document.data, dict):
        document.problems.append(document.problem((), "is no mapping of keys to values", "write key: value"))
    if document.problems:
        raise ConfigError(document.problems)
    return document


def _syntax(document: Document, error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or "is nested too deeply"
    return Problem(str(document.file), mark.line + 1 if mark else 0, "", "", f"is no YAML: {said}", "mend the line")


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
        if node.tag in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float"):
            return str(node.value)
        if node.tag == "tag:yaml.org,2002:int" and ":" in str(node.value):
            return str(node.value)  # YAML 1.1 would read 10:00 as 600
        try:
            return yaml.SafeLoader("").construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:
            self._complain(where, f"cannot be read: {str(error).splitlines()[0]}", "write a plain value")
            return None

    def _complain(self, where: Where, text: str, remedy: str) -> None:
        self.document.problems.append(self.document.problem(where, text, remedy))


def _rest(problem: Problem) -> tuple[str, str, str, str]:
    return problem.key, problem.value, problem.text, problem.remedy
