"""The net: whether slurmctld's own preemption gives an owner the nodes back, with no daemon alive. Pure."""

from __future__ import annotations

from slurm_reserve.view import View


def net_missing(view: View, nodes: frozenset[str]) -> str:
    """Why Slurm would not take `nodes` back by itself; "" when it would: then the owner is safe without us.

    slurm.conf(5): PreemptType, PreemptMode, PriorityTier; sacctmgr(1): the Preempt list of a QOS.
    """
    config, partitions, lending = view.cluster.config, view.cluster.partitions, view.site.lending
    if config.preempt_type == "preempt/qos":
        return _qos_net_missing(view)
    if config.preempt_type != "preempt/partition_prio":
        return f"PreemptType is {config.preempt_type or 'not set'}: set preempt/partition_prio or preempt/qos"
    lendable = [partitions[name] for name in lending.partitions if name in partitions]
    for partition in lendable:
        if not {"REQUEUE", "CANCEL"} & set(partition.preempt_mode.split(",")):
            return f"PreemptMode of partition {partition.name} is {partition.preempt_mode}: set REQUEUE or CANCEL"
    highest = max((partition.tier for partition in lendable), default=0)
    for name, partition in sorted(partitions.items()):
        if name not in lending.partitions and partition.nodes & nodes and partition.tier <= highest:
            return f"PriorityTier of partition {name} is {partition.tier}: set it above {highest}"
    return "" if lendable else "no lendable partition is on this cluster"


def _qos_net_missing(view: View) -> str:
    lendable = view.site.lending.qos
    if not lendable:
        return "PreemptType is preempt/qos but the site lends by partition: name the lendable QOS"
    for name, preempts in sorted(view.cluster.qos_preempts.items()):
        if name not in lendable and not lendable <= preempts:
            return f"QOS {name} may not preempt {','.join(sorted(lendable - preempts))}: add it to its Preempt list"
    return "" if view.cluster.qos_preempts else "no QOS can be read"
