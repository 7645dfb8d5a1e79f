"""Lends idle reserved Slurm nodes to preemptible jobs, and gives them back when their owner submits.

Start reading at :mod:`slurm_reserve.cycle`.
"""

__version__ = "0.1.0"
