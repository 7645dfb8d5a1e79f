#!/usr/bin/env python3
#SBATCH --partition=preempt
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60
"""A training loop as in PyTorch: model, optimiser and random state are one checkpoint, saved each epoch and when told.

What is trained here is a line through points, so that it runs anywhere; where it says so, torch's words go instead.
Usage: sbatch train.py EPOCHS FOLDER
"""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

epochs, folder = int(sys.argv[1]), Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
checkpoint = folder / "checkpoint.pt"
told = False


def on_signal(number, frame):
    """The owner of the node wants it back: finish the batch, save, go."""
    global told
    told = True


def save(state):
    """torch.save(state, new); renamed when it is whole."""
    new = checkpoint.with_suffix(".new")
    with new.open("wb") as file:
        pickle.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, checkpoint)


def load():
    """torch.load(checkpoint), model.load_state_dict(...), optimizer.load_state_dict(...), torch.set_rng_state(...)."""
    if checkpoint.exists():
        return pickle.loads(checkpoint.read_bytes())
    random.seed(1)
    return {"epoch": 0, "batch": 0, "model": [0.0, 0.0], "momentum": [0.0, 0.0], "rng": random.getstate(), "batches": 0}


def train_on(state, points):
    """loss.backward(); optimizer.step()."""
    slope, offset = state["model"]
    errors = [(slope * x + offset - y, x) for x, y in points]
    for n, gradient in enumerate((sum(e * x for e, x in errors), sum(e for e, _ in errors))):
        state["momentum"][n] = 0.9 * state["momentum"][n] + gradient / len(points)
        state["model"][n] -= 0.01 * state["momentum"][n]


def back_to_the_queue():
    """Frees the node at once. The id of an array's task is that of the array and its own."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    subprocess.run(["scontrol", "requeue", f"{job}_{task}" if task else job], check=True)
    time.sleep(60)  # until Slurm ends this run


signal.signal(signal.SIGUSR1, on_signal)
state = load()
random.setstate(state["rng"])
while state["epoch"] < epochs:
    while state["batch"] < 10:
        xs = [random.uniform(-1, 1) for _ in range(32)]
        train_on(state, [(x, 3 * x + 1 + random.gauss(0, 0.01)) for x in xs])
        state["batch"] += 1
        state["batches"] += 1
        time.sleep(0.05)
        if told:
            state["rng"] = random.getstate()
            save(state)
            back_to_the_queue()
    state["epoch"], state["batch"], state["rng"] = state["epoch"] + 1, 0, random.getstate()
    save(state)
slope, offset = state["model"]
(folder / "answer").write_text(f"{slope:.12f} {offset:.12f} {state['batches']}\n")
