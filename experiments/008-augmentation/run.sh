#!/usr/bin/env bash
# One change of the images at a time, and all together, three seeds; PCK by torso angle. About 80 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: [SEEDS="0 1 2"] bash experiments/008-augmentation/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
turn="augment=none +augment.rotation_probability=0.8 +augment.rotation_deg"
only="augment.scale=0 augment.shift=0 augment.rotation_probability=0 augment.mirror_probability=0"
for seed in ${SEEDS:-0 1 2}; do
  run "none-$seed" seed=$seed augment=none "$@"
  run "paper-$seed" seed=$seed augment=paper "$@"
  run "mirror-$seed" seed=$seed augment=none +augment.mirror_probability=0.5 "$@"
  run "scale-shift-$seed" seed=$seed augment=none +augment.scale=0.25 +augment.shift=0.08 "$@"
  for degrees in 30 90 180; do run "rotation-$degrees-$seed" seed=$seed $turn=$degrees "$@"; done
  run "occlusion-$seed" seed=$seed $only ~augment.transforms.light ~augment.transforms.colour "$@"
  run "colour-$seed" seed=$seed $only ~augment.transforms.occluder "$@"
  run "default-$seed" seed=$seed augment=default "$@"
  run "strong-$seed" seed=$seed augment=strong "$@"
done
for folder in runs/"$study"/*/; do score "$(basename "$folder")" split=val; done
$python -m convpose.compare study="runs/$study"
for kind in torso runs; do $python experiments/plot.py $kind "runs/$study"; done
