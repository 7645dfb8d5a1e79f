"""The site file and reservations.d beside it -> :class:`slurm_reserve.site.Site`. Every error is named, all at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from slurm_reserve import refusals, yamlfile
from slurm_reserve.model import Cluster
from slurm_reserve.schema import (
    UNLIMITED,
    DefaultsModel,
    FolderModel,
    LendingModel,
    ReservationModel,
    SiteModel,
    check_name,
)
from slurm_reserve.site import (
    BidBy,
    DaemonSettings,
    Defaults,
    Lending,
    LendPolicy,
    NodeRequest,
    Owner,
    ReclaimPolicy,
    ReservationSpec,
    Site,
    SlurmSettings,
)
from slurm_reserve.windows import meet
from slurm_reserve.yamlfile import ConfigError, Document, Problem, Where

FOLDER = "reservations.d"

_ONE_EACH = "give each node to one reservation"

__all__ = ["FOLDER", "ConfigError", "Problem", "check_against", "load", "refuse"]

M = TypeVar("M", bound=BaseModel)
Found = dict[str, tuple[Document, ReservationModel]]


def load(path: Path, now: datetime) -> Site:
    """Read the site file and every file of reservations.d; raises ConfigError with all that is wrong."""
    problems: list[Problem] = []
    main = yamlfile.read(path)
    model = _validate(SiteModel, main, now, problems)
    found: Found = {}
    for file in _files(path.parent / FOLDER, problems):
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
    problems += _check_bids(main, model.lending)
    if problems:
        raise ConfigError(problems)
    return Site(
        cluster=model.cluster,
        lending=Lending(**_given(model.lending)),
        reservations=tuple(sorted(specs, key=lambda spec: spec.name)),
        mode=model.mode,
        daemon=DaemonSettings(**_given(model.daemon)),
        slurm=SlurmSettings(**_given(model.slurm)),
        defaults=Defaults(
            find=model.defaults.find,
            lend=_lend_policy(model.defaults.lend),
            reclaim=ReclaimPolicy(**_given(model.defaults.reclaim)),
            at_end=model.defaults.at_end,
            owner_may=model.defaults.owner_may,
        ),
        path=path,
    )


def _files(folder: Path, problems: list[Problem]) -> list[Path]:
    """The files of reservations.d. A folder that cannot be read is not an empty one."""
    try:
        found = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError as error:
        if not isinstance(error, FileNotFoundError) or folder.is_symlink():
            text = f"cannot be read: {error.strerror}"
            problems.append(Problem(str(folder), 0, "", "", text, "let the user that runs this list and read it"))
        return []
    for each in found:
        if each.suffix == ".yml":
            problems.append(Problem(str(each), 0, "", "", "is not read", "rename it to end in .yaml, or move it away"))
        elif each.suffix == ".yaml" and each.exists() and not each.is_file():
            problems.append(Problem(str(each), 0, "", "", "is no file", "move it away"))
    return [each for each in found if each.suffix == ".yaml" and (each.is_file() or not each.exists())]


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
    empty = list(refusals.empty_values(document, kind))
    problems += empty
    try:
        model = kind.model_validate(document.data, context={"now": now, "is_file": True})
    except ValidationError as error:
        problems += refusals.problems_of(kind, document, error)
        return None
    return None if empty else model


def _given(*models: BaseModel) -> dict[str, Any]:
    """What the first model says, or else the next; None says nothing."""
    found: dict[str, Any] = {}
    for each in models:
        for key in type(each).model_fields:
            value = getattr(each, key)
            if value is not None:
                found.setdefault(key, value)
    return found


def _lend_policy(*models: BaseModel) -> LendPolicy:
    found = _given(*models)
    return LendPolicy(**found | ({"max_time": None} if found.get("max_time") == UNLIMITED else {}))


def _spec(name: str, document: Document, declared: ReservationModel, defaults: DefaultsModel) -> ReservationSpec:
    owner, nodes = declared.owner, declared.nodes
    return ReservationSpec(
        name=name,
        owner=Owner(owner.users, owner.accounts, owner.groups),
        nodes=nodes if isinstance(nodes, frozenset) else NodeRequest(nodes.node_count, nodes.partition, nodes.features),
        start=declared.start,
        end=declared.end,
        windows=declared.windows or (),
        at_end=declared.at_end or defaults.at_end,
        owner_may=defaults.owner_may if declared.owner_may is None else declared.owner_may,
        find=declared.find or defaults.find,
        lend=_lend_policy(declared.lend, defaults.lend),
        reclaim=ReclaimPolicy(**_given(declared.reclaim, defaults.reclaim)),
        origin=f"{document.file}:{document.lines.get(('reservations', name), 0)}",
    )


def refuse(spec: ReservationSpec, others: Iterable[ReservationSpec]) -> None:
    """Raise ConfigError for what the file that declares it would be refused for, beside the others."""
    found = [*_contradictions(spec)]
    found += [(("nodes",), text, _ONE_EACH, "") for other in others if (text := _shared(spec, other))]
    if found:
        raise ConfigError(
            [
                Problem("command line", 0, ".".join(where), str(value), text, remedy)
                for where, text, remedy, value in found
            ]
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
    for where, text, remedy, value in _contradictions(spec):
        yield document.problem((*here, *where), text, remedy, value)


def _contradictions(spec: ReservationSpec) -> Iterable[tuple[tuple[str, ...], str, str, object]]:
    """Where in a reservation, what is wrong, what to do about it, and the value."""
    owner = spec.owner
    if not (owner.users or owner.accounts or owner.groups):
        yield ("owner",), "has no user, account or group", "write users: [alice]", ""
    if owner.users and owner.groups:
        yield ("owner",), "has users and groups, which Slurm refuses together", "keep one of them", ""
    if spec.end is not None and spec.start is not None and spec.end <= spec.start:
        yield ("end",), "is not after its start", "write a later end", ""
    size = spec.nodes.node_count if isinstance(spec.nodes, NodeRequest) else len(spec.nodes)
    if spec.lend.keep_idle_nodes > size:
        text = f"is more than the {size} nodes of the reservation"
        yield ("lend", "keep_idle_nodes"), text, "write less", spec.lend.keep_idle_nodes


def _check_bids(document: Document, lending: LendingModel) -> Iterable[Problem]:
    """Bids that nobody could make, or that nobody asks for."""
    if lending.bid is BidBy.QOS and not lending.bids:
        yield document.problem(("lending", "bid"), "is qos, but no QOS has a bid", "write bids: {high: 0.1, low: 0.05}")
    if lending.bids and lending.bid is not BidBy.QOS:
        yield document.problem(("lending", "bids"), "are not asked for", "write bid: qos beside it")
    if lending.displace and lending.bid in (None, BidBy.NONE):
        yield document.problem(("lending", "displace"), "is on, but nobody bids", "write bid: qos, nice or comment")


def _is_apart(one: ReservationSpec, other: ReservationSpec) -> bool:
    """Whether two reservations are never in force at the same time."""
    if (one.end and other.start and one.end <= other.start) or (other.end and one.start and other.end <= one.start):
        return True
    return bool(one.windows and other.windows) and not meet(one.windows, other.windows, datetime.now(UTC))


def _check_overlaps(found: Found, specs: list[ReservationSpec]) -> Iterable[Problem]:
    explicit = [spec for spec in specs if isinstance(spec.nodes, frozenset)]
    for n, spec in enumerate(explicit):
        for other in explicit[:n]:
            if text := _shared(spec, other):
                where: Where = ("reservations", spec.name, "nodes")
                yield found[spec.name][0].problem(where, text, _ONE_EACH)


def _shared(spec: ReservationSpec, other: ReservationSpec) -> str:
    """Which nodes both name for the same time; "" when there are none."""
    if not isinstance(spec.nodes, frozenset) or not isinstance(other.nodes, frozenset):
        return ""
    shared = spec.nodes & other.nodes
    if not shared or _is_apart(spec, other):
        return ""
    return f"shares {','.join(sorted(shared)[:5])} with {other.name} ({other.origin}) at the same time"


def check_against(site: Site, cluster: Cluster) -> list[Problem]:
    """What the file names and this cluster does not have: nodes, partitions, features, QOS as far as they are known."""
    problems = [problem for spec in site.reservations for problem in _check_nodes(spec, cluster)]
    for name in sorted(site.lending.partitions - cluster.partitions.keys()):
        text = "the cluster has no such partition"
        problems.append(Problem(str(site.path), 0, "lending.partitions", name, text, _one_of(cluster.partitions)))
    if cluster.qos_preempts:  # read only where preemption goes by QOS
        for name in sorted(site.lending.qos - cluster.qos_preempts.keys()):
            text = "the cluster has no such QOS"
            problems.append(Problem(str(site.path), 0, "lending.qos", name, text, _one_of(cluster.qos_preempts)))
    return problems


def _check_nodes(spec: ReservationSpec, cluster: Cluster) -> Iterable[Problem]:
    file, _, line = spec.origin.rpartition(":")
    place, key = (file, int(line or 0)), f"reservations.{spec.name}.nodes"
    if not isinstance(spec.nodes, NodeRequest):
        if unknown := sorted(spec.nodes - cluster.nodes.keys()):
            yield Problem(*place, key, ",".join(unknown[:5]), "the cluster has no such node", "see sinfo -N")
        return
    partition = cluster.partitions.get(spec.nodes.partition)
    if partition is None:
        text = "the cluster has no such partition"
        yield Problem(*place, f"{key}.partition", spec.nodes.partition, text, _one_of(cluster.partitions))
        return
    there = [node.features for name, node in cluster.nodes.items() if name in partition.nodes]
    for feature in sorted(spec.nodes.features - frozenset().union(*there)):
        text = f"no node of partition {partition.name} has this feature"
        yield Problem(*place, f"{key}.features", feature, text, "see sinfo -o '%N %f'")


def _one_of(known: Iterable[str]) -> str:
    return f"write one of {', '.join(sorted(known)[:20])}"
