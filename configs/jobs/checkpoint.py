#!/usr/bin/env python3
#SBATCH --partition=preempt
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60
"""A long sum in Python that saves where it is when it is told to go, and goes on from there.

Usage: sbatch checkpoint.py COUNT FOLDER
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

count, folder = int(sys.argv[1]), Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
checkpoint = folder / "checkpoint.json"
told = False


def on_signal(number, frame):
    """The owner of the node wants it back. Only noted here: saving is done where the state is whole."""
    global told
    told = True


def save(state):
    """Written aside and renamed: a checkpoint is whole or the one before."""
    new = checkpoint.with_suffix(".new")
    new.write_text(json.dumps(state))
    os.replace(new, checkpoint)


def back_to_the_queue():
    """Frees the node at once. The id of an array's task is that of the array and its own."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    subprocess.run(["scontrol", "requeue", f"{job}_{task}" if task else job], check=True)
    time.sleep(60)  # until Slurm ends this run


signal.signal(signal.SIGUSR1, on_signal)
state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"next": 1, "total": 0, "done": 0}
while state["next"] <= count:
    state["total"] += state["next"] ** 2
    state["next"] += 1
    state["done"] += 1  # how much was done in all: more than `count` would be work done twice
    time.sleep(0.02)
    if told:
        save(state)
        back_to_the_queue()
(folder / "answer").write_text(f"{state['total']} {state['done']}\n")
