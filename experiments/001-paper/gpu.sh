#!/usr/bin/env bash
# The paper's setting on a GPU: 224 px, 25, 30 and 200 epochs; then the recipes at full size.
# Usage, from the repository's root, with the archive in CONVPOSE_DATA or data/:
#   bash experiments/001-paper/gpu.sh
# The crop cache is written once and may be copied to a machine without the archive.
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
cache="data.cache=runs/cache/lspet_image.safetensors data.cache_format=webp data.cache_quality=75"

$python -m convpose.train -m experiment=paper study=001-paper trainer=gpu $cache \
  callbacks.early_stopping=null trainer.max_epochs=25,30,200
for run in runs/001-paper/*/; do
  $python -m convpose.evaluate run="$run" split=test
done
box="data.cache=runs/cache/lspet_box.safetensors data.cache_format=webp data.cache_quality=75"
$python -m convpose.train study=001-box trainer=gpu data.crop=box augment=strong $box \
  trainer.max_epochs=100
$python -m convpose.evaluate run=runs/001-box split=test
