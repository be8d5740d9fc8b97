#!/usr/bin/env bash
# The paper's recipe for 200 epochs, at a quarter of the width and 64 px. About 60 minutes on one core of an AMD EPYC.
# Usage, from the repository's root, with the archive in CONVPOSE_DATA or data/: bash experiments/001-paper/long.sh [overrides]
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
$python -m convpose.train experiment=paper study=001-long hydra.run.dir=runs/001-long/quarter model.width=0.25 data.input_size_px=64 \
  trainer.max_epochs=200 callbacks.early_stopping=null callbacks.preview=null \
  data.cache=runs/cache/lspet_image_112.safetensors data.cache_size_px=112 "$@"
for checkpoint in best last; do
  $python -m convpose.evaluate run=runs/001-long/quarter split=test checkpoint=$checkpoint gallery=0
done
