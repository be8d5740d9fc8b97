#!/usr/bin/env bash
# Five heads on one backbone, one schedule, three seeds. About two hours on one core of an AMD EPYC.
# Usage, from the repository's root: [SEEDS="0 1 2"] bash experiments/013-heads/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
for seed in ${SEEDS:-0 1 2}; do
  for head in heatmap integral simcc rle regression; do
    run "$head-$seed" seed=$seed model=efficientnet_lite0 head=$head loss=$head ~model.depth ~model.width ~model.dropout \
      data.input_size_px=96 optimizer.lr=1.0e-3 trainer.max_epochs=4 trainer.check_val_every_n_epoch=4 trainer.gradient_clip_val=1.0 "$@"
    score "$head-$seed" split=val
  done
done
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py runs "runs/$study"
