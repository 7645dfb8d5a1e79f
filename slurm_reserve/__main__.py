"""`python -m slurm_reserve`."""

from slurm_reserve.cli.main import main

main()
