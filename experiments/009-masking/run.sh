#!/usr/bin/env bash
# The cost of taking LSPET's unlabelled coordinates for labels: three seeds each, whole images as in the paper.
# About 20 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/009-masking/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
cache=runs/cache/lspet_image_112
garbage="+data.sources.lspet.mask_unlabelled=false"
for seed in 0 1 2; do
  run "masked-$seed" seed=$seed data.crop=image data.cache=$cache.safetensors "$@"
  run "garbage-$seed" seed=$seed data.crop=image $garbage data.cache=${cache}_garbage.safetensors "$@"
done
for name in masked garbage; do
  for seed in 0 1 2; do  # both on the labels that are labels; then, as the naive reader would, on all coordinates
    score "$name-$seed" data=lspet data.crop=image output="runs/$study/$name-$seed/labels"
    score "$name-$seed" data=lspet data.crop=image $garbage output="runs/$study/$name-$seed/everything"
  done
done
$python -m convpose.compare study="runs/$study"
