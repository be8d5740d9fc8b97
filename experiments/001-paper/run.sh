#!/usr/bin/env bash
# The paper's recipe at 64 px, three seeds. About 45 minutes each on two cores of an AMD EPYC, 75 on one; gpu.sh has the full size.
# Usage, from the repository's root: [SEEDS="0 1 2"] bash experiments/001-paper/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
train="$python -m convpose.train experiment=paper study=$study"
for seed in ${SEEDS:-0 1 2}; do
  run "full-$seed" seed=$seed data.input_size_px=64 trainer.max_epochs=25 callbacks.early_stopping.patience=25 \
    callbacks.preview.every_epochs=25 "$@"
  score "full-$seed" split=test
done
$python experiments/001-paper/plot.py "runs/$study"
