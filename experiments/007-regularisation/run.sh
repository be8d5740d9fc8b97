#!/usr/bin/env bash
# Dropout, weight decay, batch norm and the number of images; three seeds. About 80 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: [SEEDS="0 1 2"] bash experiments/007-regularisation/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
for seed in ${SEEDS:-0 1 2}; do
  run "base-$seed" seed=$seed "$@"
  for less in 2 4 10; do  # the same number of steps and of validations for all
    run "share-$((100 / less))-$seed" seed=$seed data.train_share="$($python -c "print(1 / $less)")" \
      trainer.max_epochs=$((10 * less)) trainer.check_val_every_n_epoch=$less "$@"
  done
  run "no-batch-norm-$seed" seed=$seed model.batch_norm=false "$@"
  run "no-batch-norm-slow-$seed" seed=$seed model.batch_norm=false optimizer.lr=5.0e-4 trainer.gradient_clip_val=1.0 "$@"
  run "dropout-0.5-$seed" seed=$seed model.dropout=0.5 "$@"
  for decay in 0.0 0.5; do run "decay-$decay-$seed" seed=$seed optimizer.weight_decay=$decay "$@"; done
done
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py runs "runs/$study"
