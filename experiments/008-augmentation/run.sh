#!/usr/bin/env bash
# One change of the images at a time, and all together; by how far people are from upright. About 25 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/008-augmentation/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
turn="augment=none +augment.rotation_probability=0.8 +augment.rotation_deg"
only="augment.scale=0 augment.shift=0 augment.rotation_probability=0 augment.mirror_probability=0"
run none augment=none "$@"
run mirror augment=none +augment.mirror_probability=0.5 "$@"
run scale-shift augment=none +augment.scale=0.25 +augment.shift=0.08 "$@"
for degrees in 30 90 180; do run "rotation-$degrees" $turn=$degrees "$@"; done
run occlusion $only ~augment.transforms.light ~augment.transforms.colour "$@"
run colour $only ~augment.transforms.occluder "$@"
run default augment=default "$@"
run strong augment=strong "$@"
for folder in runs/"$study"/*/; do score "$(basename "$folder")" split=val; done
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py trunk "runs/$study"
