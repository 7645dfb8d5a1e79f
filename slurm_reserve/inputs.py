"""The part of an observation on which a decision rests, small enough to be kept, and the decision made again. Pure.

What a decision depends on is not argued about but tried: the planner is run on the part, and the part is kept only if
that gives the same actions. Otherwise a wider part is tried, up to everything.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from slurm_reserve import codec, plan
from slurm_reserve.actions import Action
from slurm_reserve.errors import ReserveError
from slurm_reserve.memory import Memory
from slurm_reserve.model import Cluster, Job, JobKey, Node
from slurm_reserve.plan import Plan
from slurm_reserve.site import LEND_SUFFIX, Site
from slurm_reserve.view import View

MOST_BYTES = 65_536
MOST_JOBS = 5_000  # of a part that is tried: the owner waits for it
FREE_NODES = 32  # outside of reservations, in the smallest part


class InputsError(ReserveError):
    """What was written down of a decision cannot be read."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the planner was given; `only` names the reservations it was asked about, when not about all."""

    site: Site
    cluster: Cluster
    memory: Memory
    only: frozenset[str] = frozenset()

    def answer(self) -> list[Any]:
        """The actions that follow, as they are written down."""
        return answer(self.plan())

    def plan(self) -> Plan:
        """The decision, made again."""
        made = plan.make(View(self.site, self.cluster, self.memory))
        if not self.only:
            return made
        return replace(made, groups=tuple(group for group in made.groups if group.takes_back_of in self.only))


def answer(made: Plan) -> list[Any]:
    """The actions of a plan as JSON has them."""
    return [[type(action).__name__, codec.encode(action)] for action in made.actions]


def of(view: View, made: Plan, only: frozenset[str] = frozenset()) -> tuple[bytes, bool]:
    """The smallest part from which the same follows, packed; and whether it does: b"" where none is small enough."""
    wanted = answer(made)
    for site, cluster, memory in _parts(view, made):
        if len(cluster.jobs) > MOST_JOBS:
            break
        part = Inputs(site, cluster, memory, only)
        packed = pack(codec.encode(part))
        if len(packed) > MOST_BYTES:
            break
        if _follows(part, wanted):
            return packed, True
    return b"", False


def _follows(part: Inputs, wanted: list[Any]) -> bool:
    """Whether the part is enough. One that the planner cannot do with at all is not, and must not stop a reclaim."""
    try:
        return part.answer() == wanted
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        return False


def pack(data: Any) -> bytes:
    """JSON, compressed."""
    return zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 6)


def unpack(packed: bytes) -> Inputs:
    """The reverse of :func:`of`; raises InputsError."""
    try:
        found: Inputs = codec.decode(Inputs, json.loads(zlib.decompress(packed)))
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error) as error:
        raise InputsError(f"what was written down of the decision cannot be read: {error}") from error
    return found


def _parts(view: View, made: Plan) -> Iterator[tuple[Site, Cluster, Memory]]:
    """Ever wider parts: what is acted on, then where anything was decided, then every reservation of ours, then all."""
    every = frozenset({spec.name for spec in view.site.reservations} | view.memory.made.keys())
    acted = frozenset(_acted_on(made))
    decided = acted | {d.reservation for d in made.decisions} | {loan.reservation for loan in made.loans}
    for names in dict.fromkeys((acted, decided, every)):
        yield _part(view, made, names)
    config = replace(view.cluster.config, printed={})
    yield view.site, replace(view.cluster, config=config), view.memory


def _acted_on(made: Plan) -> Iterator[str]:
    for action in made.actions:
        name = str(getattr(action, "reservation", "") or getattr(action, "name", ""))
        yield name.removesuffix(LEND_SUFFIX)


def _part(view: View, made: Plan, names: frozenset[str]) -> tuple[Site, Cluster, Memory]:
    cluster = view.cluster
    with_lent = names | {name + LEND_SUFFIX for name in names}
    ours = [r for name, r in cluster.reservations.items() if name in with_lent]
    nodes = frozenset().union(*(r.nodes for r in ours), *_wanted_nodes(made.actions))
    jobs = _jobs(view, made, names, with_lent, nodes)
    others = [r for r in cluster.reservations.values() if r.nodes & nodes]
    nodes |= frozenset(node for job in jobs for node in job.nodes) | _free(view)
    kept = {name: node for name, node in cluster.nodes.items() if name in nodes}
    site = replace(view.site, path=None, reservations=tuple(s for s in view.site.reservations if s.name in names))
    partitions = {name: replace(each, nodes=each.nodes & kept.keys()) for name, each in cluster.partitions.items()}
    part = replace(
        cluster,
        nodes={name: _plain(node) for name, node in kept.items()},
        reservations={r.name: r for r in (*ours, *others)},
        jobs=tuple(jobs),
        partitions=partitions,
        config=replace(cluster.config, printed={}),
    )
    return site, part, _memory(view.memory, [*jobs, *cluster.lost], with_lent, frozenset(kept))


def _wanted_nodes(actions: Iterable[Action]) -> Iterator[frozenset[str]]:
    for action in actions:
        found = getattr(action, "nodes", None)
        if isinstance(found, frozenset):
            yield found


def _jobs(view: View, made: Plan, names: frozenset[str], with_lent: frozenset[str], nodes: frozenset[str]) -> list[Job]:
    """Jobs on the nodes, those that carry a name of ours, the owners', and whom an action or a loan is about."""
    about = {key.id for action in made.actions if isinstance(key := getattr(action, "job", None), JobKey)}
    about |= {loan.job.id for loan in made.loans}
    about |= {job_id.split("_")[0] for job_id in about}
    owners = {job.key for spec in view.site.reservations if spec.name in names for job in view.waiting_of(spec)}

    def is_needed(job: Job) -> bool:
        if job.nodes & nodes or job.id in about or job.key in owners:
            return True
        return bool(job.reservation) and not with_lent.isdisjoint(job.reservation.split(","))

    return [job for job in view.cluster.jobs if is_needed(job)]


def _free(view: View) -> frozenset[str]:
    """Some of the nodes on which an owner's job or a borrower could start without us."""
    free = (
        name
        for name, node in view.cluster.nodes.items()
        if name not in view.reserved_nodes and node.is_usable and node.alloc_cpus < node.cpus
    )
    return frozenset(name for name, _ in zip(free, range(FREE_NODES), strict=False))


def _plain(node: Node) -> Node:
    return replace(node, reason="") if node.reason else node


def _memory(memory: Memory, jobs: Iterable[Job], names: frozenset[str], nodes: frozenset[str]) -> Memory:
    """What is remembered of these jobs, reservations and nodes."""
    ids = {job.id.split("_")[0] for job in jobs}
    users = {job.user for job in jobs}

    def of_jobs(facts: Any) -> Any:
        return {key: each for key, each in facts.items() if key.id.split("_")[0] in ids}

    return replace(
        memory,
        made={name: at for name, at in memory.made.items() if name in names},
        attached=of_jobs(memory.attached),
        notices=of_jobs(memory.notices),
        evicted=of_jobs(memory.evicted),
        waiting_since=of_jobs(memory.waiting_since),
        not_before=of_jobs(memory.not_before),
        unfit=of_jobs(memory.unfit),
        forecasts=of_jobs(memory.forecasts),
        scores={name: each for name, each in memory.scores.items() if name in names},
        tallies={name: each for name, each in memory.tallies.items() if name in ids},
        pains={name: each for name, each in memory.pains.items() if name in users},
        spells={name: each for name, each in memory.spells.items() if name in names},
        idle_since={name: at for name, at in memory.idle_since.items() if name in nodes},
    )
