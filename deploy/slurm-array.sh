#!/bin/bash
#SBATCH --job-name=interalign
#SBATCH --array=1-8
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=24:00:00
#SBATCH --requeue
# One shard of a run in each task of the array:
#     RUNS=/scratch/$USER/run sbatch deploy/slurm-array.sh --config sim.yaml --base-url http://gpu-1:8000/v1
# Whatever follows the script's name goes to `interalign simulate`. A task that was killed or requeued goes on with its
# file. Afterwards, on one node: interalign merge whole.db "$RUNS"/shard-*.db
# --array has to begin at 1. To run one shard again: sbatch --array=3 would change the number of shards, so name it
# with SHARDS=8.
set -eu
: "${RUNS:?the folder for the shards, on a disk with file locks}"
shard=$SLURM_ARRAY_TASK_ID
shards=${SHARDS:-$SLURM_ARRAY_TASK_COUNT}
exec interalign simulate "$RUNS/shard-$shard.db" --shard "$shard/$shards" --log-json "$@"
