"""The options that describe a reservation, and how they become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, cast

import click
from pydantic import BaseModel, ValidationError

from slurm_reserve.config import ConfigError, Problem
from slurm_reserve.schema import LendModel, ReclaimModel, ReservationModel, check_name
from slurm_reserve.site import (
    AtEnd,
    EvictBy,
    EvictHow,
    Find,
    LendPolicy,
    NodeRequest,
    Owner,
    ReclaimPolicy,
    ReservationSpec,
    Site,
    Victims,
)

Values = dict[str, Any]
Policy = TypeVar("Policy", LendPolicy, ReclaimPolicy)

NO_START, NO_END, NO_WINDOWS = "none", "never", ("always",)  # what takes them off again

OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option("--nodes", help="These nodes, such as n[1-2]."),
    click.option("--node-count", type=int, help="So many nodes, chosen for you, with --partition."),
    click.option("--partition", help="Partition that the nodes are chosen from."),
    click.option("--feature", multiple=True, help="Feature that chosen nodes must have; may be repeated."),
    click.option("--user", multiple=True, help="User it is for; may be repeated."),
    click.option("--account", multiple=True, help="Account it is for; may be repeated."),
    click.option("--group", multiple=True, help="Group it is for; may be repeated."),
    click.option("--start", help="When it begins, as Slurm writes times; none: at once."),
    click.option("--end", help="When it ends, or never."),
    click.option("--window", multiple=True, help="Only then, such as 'mon-fri 08:00-18:00', or always."),
    click.option("--at-end", type=click.Choice([str(e) for e in AtEnd]), help="What owners' running jobs do then."),
    click.option("--owner-may", help="What owners may order by themselves: lend,reclaim, one of them, or none."),
    click.option("--find", type=click.Choice([str(f) for f in Find]), help="How the owner's jobs get there."),
    click.option("--lend/--no-lend", "lend", default=None, help="Whether idle nodes are lent."),
    click.option("--after-idle", help="Lent only when idle for so long."),
    click.option("--keep-idle-nodes", type=int, help="So many nodes are kept idle."),
    click.option("--max-time", help="Longest time limit of a borrower, or unlimited."),
    click.option("--max-nodes", type=int, help="So many nodes are lent at most."),
    click.option("--last/--not-last", "last", default=None, help="Whether lent only when nothing else will do."),
    click.option("--lend-window", multiple=True, help="Lent only then; may be repeated. always: at any time."),
    click.option("--look-ahead", help="How soon an owner's job must be expected to keep long borrowers off."),
    click.option("--notice", help="From the signal to the eviction."),
    click.option("--signal", help="What borrowers are told with."),
    click.option("--own-signal/--no-own-signal", "own_signal", default=None, help="Whether a job's own goes first."),
    click.option("--go-on-signal", help="Tells a borrower that it may stay after all, or none."),
    click.option("--extra-time", help="Beyond the notice, for a job that asks for it."),
    click.option("--min-run-time", help="A borrower is not evicted sooner after its start."),
    click.option("--evict-by", type=click.Choice([str(e) for e in EvictBy]), help="Who evicts."),
    click.option("--evict", type=click.Choice([str(e) for e in EvictHow]), help="What becomes of the evicted."),
    click.option("--victims", type=click.Choice([str(v) for v in Victims]), help="Who goes first."),
    click.option("--back-off", help="How long the evicted stay out of the queue; twice as long each time."),
    click.option("--back-off-max", help="How long they stay out at most."),
)


def blank(name: str, site: Site) -> ReservationSpec:
    """A reservation of which nothing is said yet but the site's defaults."""
    defaults = site.defaults
    return ReservationSpec(
        name,
        Owner(),
        frozenset(),
        at_end=defaults.at_end,
        owner_may=defaults.owner_may,
        find=defaults.find,
        lend=defaults.lend,
        reclaim=defaults.reclaim,
    )


def build(values: Values, base: ReservationSpec) -> ReservationSpec:
    """`base` with what the options change; checked as the site file is.

    Raises ConfigError that names the option, or click.UsageError when something is missing.
    """
    given = {key: value for key, value in values.items() if value not in (None, ())}
    owner = {kind + "s": list(given[kind]) for kind in ("user", "account", "group") if kind in given}
    if base.owner == Owner() and not owner:
        raise click.UsageError("say whom it is for: --user, --account or --group")
    lend = {key: given[key] for key in LendModel.model_fields if key in given and key != "windows"}
    lend |= {"enabled": given["lend"]} if "lend" in given else {}
    lend |= {"windows": _windows(given["lend_window"])} if "lend_window" in given else {}
    reclaim = {key: given[key] for key in ReclaimModel.model_fields if key in given}
    body = {"owner": owner, "nodes": _nodes(given, base), "lend": lend, "reclaim": reclaim}
    model = _validated(base.name, body, given)
    asked = model.nodes
    return replace(
        base,
        owner=Owner(model.owner.users, model.owner.accounts, model.owner.groups) if owner else base.owner,
        nodes=asked if isinstance(asked, frozenset) else NodeRequest(asked.node_count, asked.partition, asked.features),
        start=None if given.get("start") == NO_START else model.start or base.start,
        end=None if given.get("end") == NO_END else model.end or base.end,
        windows=() if given.get("window") == NO_WINDOWS else model.windows or base.windows,
        at_end=model.at_end or base.at_end,
        owner_may=model.owner_may if model.owner_may is not None else base.owner_may,
        find=model.find or base.find,
        lend=_changed(base.lend, model.lend),
        reclaim=_changed(base.reclaim, model.reclaim),
    )


def _nodes(given: Values, old: ReservationSpec) -> Any:
    kind = [key for key in ("node_count", "partition", "feature") if key in given]
    if "nodes" in given:
        if kind:
            raise click.UsageError("give --nodes, or --node-count with --partition and --feature, not both")
        return given["nodes"]
    known = old.nodes if isinstance(old.nodes, NodeRequest) else None
    if kind:
        return _kind_of_nodes(given, known)
    if known is not None:
        return {"node_count": known.node_count, "partition": known.partition, "features": sorted(known.features)}
    if not old.nodes:
        raise click.UsageError("say which nodes: --nodes n[1-2], or --node-count 2 --partition main")
    return sorted(cast("frozenset[str]", old.nodes))


def _kind_of_nodes(given: Values, known: NodeRequest | None) -> Any:
    """So many nodes of a kind; what is not said of it stays as it was."""
    count = given.get("node_count", known and known.node_count)
    partition = given.get("partition", known and known.partition)
    if count is None or partition is None:
        raise click.UsageError("--node-count needs --partition, and --partition and --feature need --node-count")
    features = list(given.get("feature", sorted(known.features) if known else ()))
    return {"node_count": count, "partition": partition} | ({"features": features} if features else {})


def _windows(said: Sequence[str]) -> Any:
    return said[0] if tuple(said) == NO_WINDOWS else list(said)


def _validated(name: str, body: dict[str, Any], given: Values) -> ReservationModel:
    body |= {key: given[key] for key in ("find", "at_end") if key in given}
    period = {"start": (given.get("start"), NO_START), "end": (given.get("end"), NO_END)}
    body |= {key: said for key, (said, nothing) in period.items() if said not in (None, nothing)}
    body |= {"windows": list(given["window"])} if given.get("window", NO_WINDOWS) != NO_WINDOWS else {}
    if "owner_may" in given:
        body["owner_may"] = [] if given["owner_may"] == "none" else given["owner_may"].split(",")
    try:
        check_name(name)
        return ReservationModel.model_validate(body, context={"now": datetime.now().astimezone()})
    except ValidationError as error:
        problems = []
        for each in error.errors():
            key = ".".join(str(part) for part in each["loc"] if not str(part).startswith("frozenset"))
            text, _, remedy = str(each["msg"]).removeprefix("Value error, ").partition("; ")
            problems.append(Problem("command line", 0, key, str(each["input"])[:80], text, remedy))
        raise ConfigError(problems) from error
    except ValueError as error:
        text, _, remedy = str(error).partition("; ")
        raise ConfigError([Problem("command line", 0, "name", name, text, remedy)]) from error


def _changed(policy: Policy, model: BaseModel) -> Policy:
    values = {key: getattr(model, key) for key in type(model).model_fields}
    return replace(policy, **{key: value for key, value in values.items() if value is not None})
