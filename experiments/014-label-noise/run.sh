#!/usr/bin/env bash
# Squared and absolute error on LSPET's crowd-sourced labels, three seeds. About 15 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/014-label-noise/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
for seed in 0 1 2; do
  run "l1-$seed" seed=$seed "$@"
  run "mse-$seed" seed=$seed loss=regression "$@"
done
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py runs "runs/$study"
