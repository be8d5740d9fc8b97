#!/usr/bin/env bash
# ImageNet or MoveNet: from where should a small network start? About 15 minutes on one core of an AMD EPYC.
# Usage, from the repository's root, with movenet_lightning.safetensors there or in MOVENET: bash experiments/018-start/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
lsp="data=lsp data.split=lsp data.crop=letterbox data.input_size_px=128 data.cache=null \
  augment=gentle loss=heatmap ~model.depth ~model.width ~model.dropout trainer.max_epochs=5 trainer.check_val_every_n_epoch=5 \
  trainer.gradient_clip_val=1.0 trainer.precision=32-true callbacks.early_stopping=null"
for seed in 0 1 2; do
  run "scratch-$seed" seed=$seed $lsp model=movenet_lightning head=movenet optimizer.lr=1.0e-3 "$@"
  run "imagenet-$seed" seed=$seed $lsp model=efficientnet_lite0 head=heatmap optimizer.lr=1.0e-3 "$@"
  run "movenet-$seed" seed=$seed $lsp model=movenet_lightning model.weights="${MOVENET:-movenet_lightning.safetensors}" head=movenet optimizer.lr=2.0e-4 "$@"
done
$python -m convpose.compare study="runs/$study"
