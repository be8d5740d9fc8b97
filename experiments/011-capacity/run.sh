#!/usr/bin/env bash
# Depth and width against accuracy and time, three seeds. About two and a half hours on one core of an AMD EPYC.
# Usage, from the repository's root: [SEEDS="0 1 2"] bash experiments/011-capacity/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
for seed in ${SEEDS:-0 1 2}; do
  for depth in 11 13 16 19; do run "vgg-$depth-$seed" seed=$seed model.depth=$depth "$@"; done
  for width in 0.125 0.5 1.0; do run "width-$width-$seed" seed=$seed model.width=$width "$@"; done
done
$python -m convpose.compare study="runs/$study"
speed vgg-{11,13,16,19}-0 width-{0.125,0.5,1.0}-0  # wants a quiet machine
for kind in runs speed; do $python experiments/plot.py $kind "runs/$study"; done
