"""Declared reservations beside what the cluster has. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from slurm_reserve import desired, guarantee
from slurm_reserve.check.finding import Finding, Level, nodes_of
from slurm_reserve.site import Find
from slurm_reserve.view import View

HARMFUL = frozenset({"FLEX", "PURGE_COMP", "REPLACE"})


def lendable_down(view: View) -> Iterator[Finding]:
    """A lendable partition is not up."""
    for name in sorted(view.site.lending.partitions):
        partition = view.cluster.partitions.get(name)
        if partition is not None and not partition.is_up:  # one that is not there is an error of the site file
            remedy = f"scontrol update partition={name} state=up"
            yield Finding(Level.WARNING, name, "the lendable partition is not up", remedy)


def never_lent(view: View) -> Iterator[Finding]:
    """Reserved nodes are in no lendable partition."""
    lendable = [p.nodes for name, p in view.cluster.partitions.items() if name in view.site.lending.partitions]
    for spec in view.site.reservations if view.site.lending.partitions else ():
        if beyond := nodes_of(view, spec) - frozenset().union(*lendable):
            text = f"{_few(beyond)} in no lendable partition, so never lent"
            yield Finding(Level.WARNING, spec.name, text, "add the nodes to the lendable partition in slurm.conf")


def only_lendable(view: View) -> Iterator[Finding]:
    """Reserved nodes are in lendable partitions alone, so that the owner's jobs there may be evicted."""
    others = [p.nodes for name, p in view.cluster.partitions.items() if name not in view.site.lending.partitions]
    for spec in view.site.reservations:
        if beyond := (nodes_of(view, spec) & view.cluster.nodes.keys()) - frozenset().union(*others):
            text = f"{_few(beyond)} in lendable partitions only, so the owner's jobs there are borrowers themselves"
            yield Finding(Level.ERROR, spec.name, text, "add the nodes to a partition that is not lendable")


def unmet(view: View) -> Iterator[Finding]:
    """A reservation that is not there yet could not be made."""
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is None and (why := desired.why_unmet(view.site, view.cluster, spec)):
            where = f"change it at {spec.origin or 'the site file'}"
            yield Finding(Level.ERROR, spec.name, f"cannot be met: {why}", where)


def not_ours(view: View) -> Iterator[Finding]:
    """A reservation of that name was made by somebody else."""
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is not None and spec.name not in view.memory.made and not desired.NEEDED_FLAGS <= there.flags:
            text = "a reservation of that name exists that this site did not make, so it is left alone"
            remedy = f"`slurm-reserve adopt {spec.name}`, scontrol delete reservation={spec.name}, or another name"
            yield Finding(Level.ERROR, spec.name, text, remedy)


def wrong_flags(view: View) -> Iterator[Finding]:
    """A reservation of ours has lost a flag that lending needs, or has one that breaks it."""
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is None or spec.name not in view.memory.made:
            continue
        wrong = [f"has {flag}" for flag in sorted(there.flags & HARMFUL)]
        wrong += [f"lacks {flag}" for flag in sorted(desired.NEEDED_FLAGS - there.flags)]
        if wrong:
            remedy = f"`slurm-reserve restore {spec.name}`, unless the daemon is about to put it right"
            yield Finding(Level.ERROR, spec.name, f"in Slurm it {' and '.join(wrong)}", remedy)


def overlaid(view: View) -> Iterator[Finding]:
    """Somebody else's reservation lies over ours."""
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is None:
            continue
        own = (spec.name, spec.lend_name)
        for other in desired.conflicts(view.cluster, there.nodes, there.start, there.end, own):
            text = f"reservation {other} lies over its nodes; the jobs of {other} never start there"
            yield Finding(Level.WARNING, spec.name, text, f"scontrol delete reservation={other}, or move it")


def nodes_lost(view: View) -> Iterator[Finding]:
    """Nodes of a reservation are down, drained or gone."""
    for spec in view.site.reservations:
        there = view.cluster.reservations.get(spec.name)
        if there is not None and (lost := guarantee.lost_nodes(view, there)):
            states = ", ".join(sorted(set(lost.values())))
            text = f"{_few(frozenset(lost))} not to be used ({states}): the owner has so much less, and lends less"
            yield Finding(Level.ERROR, spec.name, text, "scontrol show node, mend it, scontrol update state=resume")


def clocks_differ(view: View) -> Iterator[Finding]:
    """The clock here, by which begin times, ends and windows are taken, lags behind slurmctld's."""
    for text in guarantee.of_clocks(view).values():
        said, _, remedy = text.partition(": ")
        yield Finding(Level.WARNING, "clock", said, remedy)


def magnetic(view: View) -> Iterator[Finding]:
    """find: magnetic: borrowers are evicted in vain."""
    for spec in view.site.reservations:
        if spec.find is Find.MAGNETIC:
            text = "MAGNETIC evicts borrowers although free nodes would serve, and from 25.11 on passes over jobs "
            yield Finding(Level.WARNING, spec.name, text + "without a time limit", "find: attach")


def _few(nodes: frozenset[str]) -> str:
    names = sorted(nodes)
    return ",".join(names[:5]) + (" and more are" if len(names) > 5 else " are" if len(names) > 1 else " is")
