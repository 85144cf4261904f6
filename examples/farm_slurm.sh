#!/bin/sh
# One clip over a Slurm cluster: an array task for each segment, then the join.
#
#   sh farm_slurm.sh INPUT OUTPUT [OPTIONS of vidmatte]
#
# INPUT and OUTPUT lie where all nodes see them under the same path. A task that fails is run
# again with `scontrol requeue`; making a segment twice does no harm. Nodes with other CPUs,
# runtimes or versions than the planning one are refused: choose alike ones with -C, or add
# --mixed to 'vidmatte segment'.
set -eu

input=$1 output=$2
shift 2
plan=$output.plan.json

# Prints the number of segments.
count=$(vidmatte plan "$input" -o "$output" --plan "$plan" --threads 8 "$@")

array=$(sbatch --parsable --array="0-$((count - 1))" --cpus-per-task=8 --mem=8G --requeue \
  --job-name=segments --wrap "vidmatte segment '$plan' \$SLURM_ARRAY_TASK_ID")
sbatch --dependency="afterok:$array" --cpus-per-task=2 --mem=4G \
  --job-name=join --wrap "vidmatte join '$plan'"
