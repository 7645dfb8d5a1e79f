"""The options that describe a reservation, and how they become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from slurm_reserve.config import ConfigError, Problem
from slurm_reserve.schema import ReservationModel, check_name
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
)

Values = dict[str, Any]
Policy = TypeVar("Policy", LendPolicy, ReclaimPolicy)

OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option("--nodes", help="These nodes, such as n[1-2]."),
    click.option("--node-count", type=int, help="So many nodes, chosen for you, with --partition."),
    click.option("--partition", help="Partition that the nodes are chosen from."),
    click.option("--feature", multiple=True, help="Feature that chosen nodes must have; may be repeated."),
    click.option("--user", multiple=True, help="User it is for; may be repeated."),
    click.option("--account", multiple=True, help="Account it is for; may be repeated."),
    click.option("--group", multiple=True, help="Group it is for; may be repeated."),
    click.option("--start", help="When it begins, as Slurm writes times; now by default."),
    click.option("--end", help="When it ends; never by default."),
    click.option("--window", multiple=True, help="Only then, such as 'mon-fri 08:00-18:00'; may be repeated."),
    click.option("--at-end", type=click.Choice([str(e) for e in AtEnd]), help="What owners' running jobs do then."),
    click.option("--find", type=click.Choice([str(f) for f in Find]), help="How the owner's jobs get there."),
    click.option("--lend/--no-lend", "lend", default=None, help="Whether idle nodes are lent."),
    click.option("--after-idle", help="Lent only when idle for so long."),
    click.option("--keep-idle-nodes", type=int, help="So many nodes are kept idle."),
    click.option("--max-time", help="Longest time limit of a borrower."),
    click.option("--notice", help="From the signal to the eviction."),
    click.option("--signal", help="What borrowers are told with."),
    click.option("--evict-by", type=click.Choice([str(e) for e in EvictBy]), help="Who evicts."),
    click.option("--evict", type=click.Choice([str(e) for e in EvictHow]), help="What becomes of the evicted."),
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
    lend = {"enabled": given.get("lend")} | {k: given.get(k) for k in ("after_idle", "keep_idle_nodes", "max_time")}
    reclaim = {k: given.get(k) for k in ("notice", "signal", "evict_by", "evict")}
    body = {"owner": owner, "nodes": _nodes(given, base), "lend": lend, "reclaim": reclaim}
    model = _validated(base.name, body, given)
    asked = model.nodes
    return replace(
        base,
        owner=Owner(model.owner.users, model.owner.accounts, model.owner.groups) if owner else base.owner,
        nodes=asked if isinstance(asked, frozenset) else NodeRequest(asked.node_count, asked.partition, asked.features),
        start=model.start or base.start,
        end=model.end or base.end,
        windows=model.windows or base.windows,
        at_end=model.at_end or base.at_end,
        find=model.find or base.find,
        lend=_changed(base.lend, model.lend),
        reclaim=_changed(base.reclaim, model.reclaim),
    )


def _nodes(given: Values, old: ReservationSpec) -> Any:
    if "nodes" in given and "node_count" in given:
        raise click.UsageError("give --nodes or --node-count, not both")
    if "nodes" in given:
        return given["nodes"]
    if "node_count" in given:
        partition = given.get("partition") or (
            old.nodes.partition if old and isinstance(old.nodes, NodeRequest) else None
        )
        if partition is None:
            raise click.UsageError("--node-count needs --partition")
        request = {"node_count": given["node_count"], "partition": partition}
        return request | ({"features": list(given["feature"])} if "feature" in given else {})
    if not old.nodes:
        raise click.UsageError("say which nodes: --nodes n[1-2], or --node-count 2 --partition main")
    if isinstance(old.nodes, NodeRequest):
        kept = old.nodes
        return {"node_count": kept.node_count, "partition": kept.partition, "features": sorted(kept.features)}
    return sorted(old.nodes)


def _validated(name: str, body: dict[str, Any], given: Values) -> ReservationModel:
    body |= {key: given[key] for key in ("start", "end", "find", "at_end") if key in given}
    body |= {"windows": list(given["window"])} if "window" in given else {}
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
