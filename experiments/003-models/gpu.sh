#!/usr/bin/env bash
# The models that are to win, on a GPU: small, best, regression type; heads side by side.
# Usage, from the repository's root, with the archives in CONVPOSE_DATA or data/:
#   bash experiments/003-models/gpu.sh small|best|regression|heads|all
# One crop cache serves all and may be copied to a machine without the archives; hub weights are not needed.
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
cache="data.cache=runs/cache/lsp_lspet_224.safetensors data.cache_format=webp data.cache_quality=70"
train="$python -m convpose.train experiment=small trainer=gpu $cache data.batch_size=64"
part="${1:-all}"

if [[ $part == small || $part == all ]]; then  # is 128 px enough once the schedule is long?
  for seed in 0 1 2; do
    $train study=003-small seed=$seed trainer.max_epochs=300 optimizer.lr=2.0e-3
  done
fi
if [[ $part == best || $part == all ]]; then
  for seed in 0 1 2; do
    $train study=003-best seed=$seed model=efficientnet_lite2 data.input_size_px=256 head.channels=128 \
      trainer.max_epochs=250 optimizer.lr=2.0e-3
  done
  $train study=003-best model=hrnet_w32 model.weights=null data.input_size_px=256 trainer.max_epochs=300 optimizer.lr=1.0e-3
fi
if [[ $part == regression || $part == all ]]; then  # no heatmap as target
  for seed in 0 1 2; do
    $train study=003-regression seed=$seed model=efficientnet_lite2 head=integral data.input_size_px=256 \
      trainer.max_epochs=250 optimizer.lr=1.5e-3
  done
fi
if [[ $part == heads || $part == all ]]; then  # one backbone, one schedule
  $train -m study=003-heads head=regression,integral,simcc,heatmap,rle trainer.max_epochs=100
fi
for run in runs/003-*/*/; do
  $python -m convpose.evaluate run="'$run'" data=lspet data.split=paper data.crop=box split=test gallery=0
  $python -m convpose.evaluate run="'$run'" data=lsp split=test gallery=0
done
