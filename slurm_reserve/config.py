"""The site file and reservations.d beside it -> :class:`slurm_reserve.site.Site`. Every error is named, all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from slurm_reserve import schema, yamlfile
from slurm_reserve.model import Cluster
from slurm_reserve.schema import DefaultsModel, FolderModel, ReservationModel, SiteModel, check_name
from slurm_reserve.site import (
    DaemonSettings,
    Lending,
    LendPolicy,
    NodeRequest,
    Owner,
    ReclaimPolicy,
    ReservationSpec,
    Site,
    SlurmSettings,
)
from slurm_reserve.yamlfile import ConfigError, Document, Problem, Where

FOLDER = "reservations.d"

__all__ = ["FOLDER", "ConfigError", "Problem", "check_against", "load"]

M = TypeVar("M", bound=BaseModel)
Found = dict[str, tuple[Document, ReservationModel]]


def load(path: Path, now: datetime) -> Site:
    """Read the site file and every file of reservations.d; raises ConfigError with all that is wrong."""
    problems: list[Problem] = []
    main = yamlfile.read(path)
    model = _validate(SiteModel, main, now, problems)
    found: Found = {}
    for file in sorted((path.parent / FOLDER).glob("*.yaml")):
        try:
            _take_folder(yamlfile.read(file), now, found, problems)
        except ConfigError as error:
            problems += error.problems
    if model is None:
        raise ConfigError(problems)
    for name, declared in model.reservations.items():
        _take(main, name, declared, found, problems)
    specs = [_spec(name, document, declared, model.defaults) for name, (document, declared) in found.items()]
    problems += [p for name, (document, _) in found.items() for p in _check_one(document, name, specs)]
    problems += _check_overlaps(found, specs)
    if not model.lending.partitions and not model.lending.qos:
        remedy = "write partitions: [preempt], or qos: [...]"
        problems.append(main.problem(("lending",), "names neither partitions nor qos", remedy))
    if problems:
        raise ConfigError(problems)
    return Site(
        cluster=model.cluster,
        lending=Lending(model.lending.partitions, model.lending.qos),
        reservations=tuple(sorted(specs, key=lambda spec: spec.name)),
        mode=model.mode,
        daemon=DaemonSettings(**_given(model.daemon)),
        slurm=SlurmSettings(**_given(model.slurm)),
        path=path,
    )


def _take_folder(document: Document, now: datetime, found: Found, problems: list[Problem]) -> None:
    model = _validate(FolderModel, document, now, problems)
    for name, declared in (model.reservations if model else {}).items():
        _take(document, name, declared, found, problems)


def _take(document: Document, name: str, declared: ReservationModel, found: Found, problems: list[Problem]) -> None:
    if name in found:
        other = found[name][0]
        text = f"is declared twice, also at {other.file}:{other.lines.get(('reservations', name), 0)}"
        problems.append(document.problem(("reservations", name), text, "keep one of them"))
    else:
        found[name] = (document, declared)


def _validate(kind: type[M], document: Document, now: datetime, problems: list[Problem]) -> M | None:
    try:
        return kind.model_validate(document.data, context={"now": now})
    except ValidationError as error:
        # Of the two forms of `nodes` the one that was not meant complains as well.
        meant = (each for each in error.errors() if not any(str(part).startswith("frozenset") for part in each["loc"]))
        problems += [_as_problem(document, dict(each)) for each in meant]
        return None


def _as_problem(document: Document, error: dict[str, Any]) -> Problem:
    where = _where(document, tuple(error["loc"]))
    value = error["input"] if not isinstance(error["input"], dict | list) else ""
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(where[-1]), _keys(), 1)
        remedy = f"did you mean {close[0]}?" if close else "remove it; configs/site.yaml lists every key"
        return document.problem(where, "is no key that is known", remedy)
    if error["type"] == "missing":
        return document.problem(where, "is missing", "configs/site.yaml shows how it is written")
    text = str(error["msg"]).removeprefix("Value error, ")
    text, _, remedy = text.partition("; ")
    return document.problem(where, text[0].lower() + text[1:], remedy or "see configs/site.yaml", value)


def _where(document: Document, loc: tuple[str | int, ...]) -> Where:
    """The place in the file: pydantic names the members of a union as well."""
    where: Where = ()
    for part in loc:
        if (*where, part) in document.lines or part == loc[-1]:
            where = (*where, part)
    return where if where and not str(where[-1]).startswith(("frozenset", "function")) else where[:-1]


def _keys() -> set[str]:
    """Every key that may stand anywhere."""
    models = (m for m in vars(schema).values() if isinstance(m, type) and issubclass(m, schema.Strict))
    return {key for model in models for key in model.model_fields}


def _given(model: BaseModel, *others: BaseModel) -> dict[str, Any]:
    """What a model, or else the others in their order, say; None says nothing."""
    found: dict[str, Any] = {}
    for each in (model, *others):
        for key in type(each).model_fields:
            value = getattr(each, key)
            if value is not None:
                found.setdefault(key, value)
    return found


def _spec(name: str, document: Document, declared: ReservationModel, defaults: DefaultsModel) -> ReservationSpec:
    owner, nodes = declared.owner, declared.nodes
    return ReservationSpec(
        name=name,
        owner=Owner(owner.users, owner.accounts, owner.groups),
        nodes=nodes if isinstance(nodes, frozenset) else NodeRequest(nodes.node_count, nodes.partition, nodes.features),
        start=declared.start,
        end=declared.end,
        find=declared.find or defaults.find,
        lend=LendPolicy(**_given(declared.lend, defaults.lend)),
        reclaim=ReclaimPolicy(**_given(declared.reclaim, defaults.reclaim)),
        origin=f"{document.file}:{document.lines.get(('reservations', name), 0)}",
    )


def _check_one(document: Document, name: str, specs: list[ReservationSpec]) -> Iterable[Problem]:
    """What cannot be said of one value alone."""
    here: Where = ("reservations", name)
    spec = next(each for each in specs if each.name == name)
    try:
        check_name(name)
    except ValueError as error:
        text, _, remedy = str(error).partition("; ")
        yield document.problem(here, text, remedy)
    owner = spec.owner
    if not (owner.users or owner.accounts or owner.groups):
        yield document.problem((*here, "owner"), "has no user, account or group", "write users: [alice]")
    if owner.users and owner.groups:
        yield document.problem(
            (*here, "owner"), "has users and groups, which Slurm refuses together", "keep one of them"
        )
    if spec.end is not None and spec.start is not None and spec.end <= spec.start:
        yield document.problem((*here, "end"), "is not after its start", "write a later end")
    size = spec.nodes.node_count if isinstance(spec.nodes, NodeRequest) else len(spec.nodes)
    if spec.lend.keep_idle_nodes > size:
        text = f"is more than the {size} nodes of the reservation"
        yield document.problem((*here, "lend", "keep_idle_nodes"), text, "write less", spec.lend.keep_idle_nodes)


def _check_overlaps(found: Found, specs: list[ReservationSpec]) -> Iterable[Problem]:
    explicit = [(spec, spec.nodes) for spec in specs if isinstance(spec.nodes, frozenset)]
    for n, (spec, nodes) in enumerate(explicit):
        for other, others in explicit[:n]:
            shared = nodes & others
            apart = (spec.end and other.start and spec.end <= other.start) or (
                other.end and spec.start and other.end <= spec.start
            )
            if shared and not apart:
                text = f"shares {','.join(sorted(shared)[:5])} with {other.name} ({other.origin}) at the same time"
                where: Where = ("reservations", spec.name, "nodes")
                yield found[spec.name][0].problem(where, text, "give each node to one reservation")


def check_against(site: Site, cluster: Cluster) -> list[Problem]:
    """What the file says that this cluster does not have: nodes, partitions."""
    problems = []
    for spec in site.reservations:
        file, _, line = spec.origin.rpartition(":")
        key = f"reservations.{spec.name}.nodes"
        if isinstance(spec.nodes, NodeRequest):
            if spec.nodes.partition not in cluster.partitions:
                text, remedy = "the cluster has no such partition", f"one of {','.join(sorted(cluster.partitions))}"
                problems.append(Problem(file, int(line or 0), f"{key}.partition", spec.nodes.partition, text, remedy))
        elif unknown := sorted(spec.nodes - cluster.nodes.keys()):
            value = ",".join(unknown[:5])
            problems.append(Problem(file, int(line or 0), key, value, "the cluster has no such node", "see sinfo -N"))
    for name in sorted(site.lending.partitions - cluster.partitions.keys()):
        remedy = f"one of {','.join(sorted(cluster.partitions))}"
        text = "the cluster has no such partition"
        problems.append(Problem(str(site.path), 0, "lending.partitions", name, text, remedy))
    return problems
