#!/usr/bin/env bash
# Depth and width against accuracy and time. About 45 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/011-capacity/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
for depth in 11 13 16 19; do run "vgg-$depth" model.depth=$depth "$@"; done
for width in 0.125 0.5; do run "width-$width" model.width=$width "$@"; done
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py runs "runs/$study"
