#!/usr/bin/env bash
# The paper's recipe for 200 epochs, at a quarter of the width and 64 px, three seeds. About 60 minutes each on one core of an AMD EPYC.
# Usage, from the repository's root, with the archive in CONVPOSE_DATA or data/: [SEEDS="0 1 2"] bash experiments/001-paper/long.sh [overrides]
source "$(dirname "$0")/../studies.sh"
train="$python -m convpose.train experiment=paper study=$study"
for seed in ${SEEDS:-0 1 2}; do
  run "quarter-200-$seed" seed=$seed model.width=0.25 data.input_size_px=64 trainer.max_epochs=200 callbacks.early_stopping=null \
    callbacks.preview=null data.cache=runs/cache/lspet_image_112.safetensors data.cache_size_px=112 "$@"
  for checkpoint in best last; do score "quarter-200-$seed" split=test checkpoint=$checkpoint; done
done
$python experiments/001-paper/plot.py "runs/$study"
