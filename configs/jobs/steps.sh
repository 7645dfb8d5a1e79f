#!/bin/bash
#SBATCH --partition=preempt
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60
# Work in steps, in plain bash: an evicted job goes on with the step at which it was told to go.
# Usage: sbatch steps.sh STEPS FOLDER
set -eu
steps=$1 folder=$2
mkdir -p "$folder"
next=$(cat "$folder/next" 2>/dev/null || echo 1)

# The signal comes when the owner of the node wants it back. bash takes it between two commands, so after the step.
told=
trap 'told=yes' USR1

while [ "$next" -le "$steps" ]; do
  # One step: what is written is complete or not there, so a step that was cut off is simply done again.
  { sleep 0.5; echo "$((next * next))"; } >"$folder/step.$next.new" || true
  [ -s "$folder/step.$next.new" ] || continue
  mv "$folder/step.$next.new" "$folder/step.$next"
  next=$((next + 1))
  echo "$next" >"$folder/next.new" && mv "$folder/next.new" "$folder/next"
  if [ -n "$told" ]; then
    # Saved: back into the queue, which frees the node at once. The words for an array's task address that task alone.
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    sleep 60 # until Slurm ends this run
  fi
done

total=0
for n in $(seq "$steps"); do total=$((total + $(cat "$folder/step.$n"))); done
echo "$total" >"$folder/answer"
