#!/usr/bin/env bash
# Learning rate × batch size × dropout × epochs: 24 runs. About 35 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/006-sweep/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
$train hydra.sweep.dir="runs/$study" optimizer.lr=5.0e-4,2.0e-3,8.0e-3 data.batch_size=16,64 \
  model.dropout=0.0,0.3 trainer.max_epochs=3,8 "$@" -m
$python -m convpose.compare study="runs/$study"
$python experiments/plot.py heat "runs/$study" optimizer.lr data.batch_size
$python experiments/plot.py heat "runs/$study" model.dropout trainer.max_epochs
