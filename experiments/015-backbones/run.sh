#!/usr/bin/env bash
# Backbones under one head: accuracy against milliseconds, three seeds. About two hours on one core of an AMD EPYC.
# Usage, from the repository's root:
# [SEEDS="0 1 2"] [SCRATCH="mobilenetv3_large resnet50 convnext_tiny hrnet_w32"] bash experiments/015-backbones/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
schedule="head=heatmap loss=heatmap data.input_size_px=96 optimizer.lr=1.0e-3 trainer.max_epochs=4 trainer.check_val_every_n_epoch=4 \
  trainer.gradient_clip_val=1.0"
timm="~model.depth ~model.width ~model.dropout"
for seed in ${SEEDS:-0 1 2}; do
  for model in efficientnet_lite0 efficientnet_lite2; do run "$model-imagenet-$seed" seed=$seed $schedule model=$model $timm "$@"; done
  for model in efficientnet_lite0 ${SCRATCH:-mobilenetv3_large}; do
    run "$model-scratch-$seed" seed=$seed $schedule model=$model $timm model.weights=null "$@"
  done
  run "vgg-11-quarter-scratch-$seed" seed=$seed $schedule "$@"
done
for folder in runs/"$study"/*-0/; do speed "$(basename "$folder")"; done  # wants a quiet machine
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py speed "runs/$study"
