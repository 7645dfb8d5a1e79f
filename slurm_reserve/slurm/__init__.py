"""Slurm behind one contract (:mod:`slurm_reserve.slurm.port`): the only place that runs Slurm's commands."""
