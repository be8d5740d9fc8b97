#!/usr/bin/env bash
# Dropout, weight decay, batch norm, and how many images there are. About 30 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/007-regularisation/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
run base "$@"
for share in 0.1 0.25 0.5; do  # the same number of steps for all
  run "share-$share" data.train_share=$share trainer.max_epochs="$($python -c "print(round(10 / $share))")" "$@"
done
run no-batch-norm model.batch_norm=false optimizer.lr=5.0e-4 trainer.gradient_clip_val=1.0 "$@"
for dropout in 0.2 0.5; do run "dropout-$dropout" model.dropout=$dropout "$@"; done
for decay in 0.0 0.5; do run "decay-$decay" optimizer.weight_decay=$decay "$@"; done
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py runs "runs/$study"
