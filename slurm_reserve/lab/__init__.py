"""A private real Slurm cluster on this machine, for the tests, the demo and an admin's rehearsal of a policy.

All of it lives in namespaces and in memory: nothing is written on the host, and when the lab's first process ends the
kernel ends the rest. It needs Slurm's own programs, and installs none.
"""

from slurm_reserve.lab.errors import LabError
from slurm_reserve.lab.lab import Lab
from slurm_reserve.lab.requirements import Missing, missing
from slurm_reserve.lab.spec import LabSpec, NodeSpec, UserSpec, nodes

__all__ = ["Lab", "LabError", "LabSpec", "Missing", "NodeSpec", "UserSpec", "missing", "nodes"]
