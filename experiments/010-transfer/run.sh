#!/usr/bin/env bash
# Does it help to start from another data set's network? About 80 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/010-transfer/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
lsp="data=lsp data.split=lsp data.crop=box data.cache=runs/cache/lsp_112.safetensors"
for seed in 0 1 2; do run "lspet-scratch-$seed" seed=$seed "$@"; done  # the first is what the others start from
run synthetic data=synthetic data.crop=box data.cache=runs/cache/synthetic_112.safetensors augment.mirror_probability=0 "$@"
for seed in 0 1 2; do
  run "lsp-scratch-$seed" $lsp seed=$seed trainer.max_epochs=60 "$@"
  run "lsp-from-lspet-$seed" $lsp seed=$seed weights="runs/$study/lspet-scratch-0" optimizer.lr=1.0e-3 trainer.max_epochs=30 "$@"
  run "lspet-from-synthetic-$seed" seed=$seed weights="runs/$study/synthetic" "$@"
done
imagenet="model=efficientnet_lite0 head=heatmap loss=heatmap ~model.depth ~model.width ~model.dropout data.input_size_px=96 \
  optimizer.lr=1.0e-3 trainer.max_epochs=4 trainer.check_val_every_n_epoch=4 trainer.gradient_clip_val=1.0 trainer.precision=32-true"
for seed in 0 1 2; do
  run "lite0-scratch-$seed" seed=$seed $imagenet model.weights=null "$@"
  run "lite0-imagenet-$seed" seed=$seed $imagenet "$@"
done
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py runs "runs/$study"
