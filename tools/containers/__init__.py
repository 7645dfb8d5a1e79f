"""A Slurm cluster in containers, one release an image: `python -m tools.containers up 26.05`."""
