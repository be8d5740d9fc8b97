#!/usr/bin/env bash
# A second stage on LSP's photographs, at CPU size, and one network with its pixels instead; three seeds. About 60 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: [SEEDS="0 1 2"] bash experiments/004-cascade/photographs.sh [overrides]
source "$(dirname "$0")/../studies.sh"
lsp="data=lsp data.split=lsp data.crop=box"
for seed in ${SEEDS:-0 1 2}; do
  run "lsp-stage1-$seed" $lsp data.cache=runs/cache/lsp_112.safetensors seed=$seed trainer.max_epochs=60 "$@"
  run "lsp-stage2-$seed" $lsp data.cache=runs/cache/lsp_160.safetensors data.cache_size_px=160 data.input_size_px=128 seed=$seed \
    model=cascade ~model.depth ~model.width ~model.dropout model.run="runs/$study/lsp-stage1-$seed" model.backbone.width=0.125 \
    trainer.max_epochs=40 "$@"
  score "lsp-stage2-$seed"  # has a row for each stage
  # the control: stage 1 gets the time and the pixels of stage 2
  run "lsp-larger-$seed" $lsp data.cache=runs/cache/lsp_160.safetensors data.cache_size_px=160 data.input_size_px=128 seed=$seed \
    trainer.max_epochs=70 "$@"
  score "lsp-larger-$seed"
done
