#!/usr/bin/env bash
# The paper's setting on a GPU: 224 px, one training with reports after 25, 30 and 200 epochs (its rate is constant); then a recipe that learns.
# Usage, from the repository's root, with the archive in CONVPOSE_DATA or data/:
#   bash experiments/001-paper/gpu.sh [OVERRIDE…]
# From the environment: EPOCHS="25 30 200"; TRAINER=gpu; PYTHON.
set -euo pipefail
python="${PYTHON:-.venv/bin/python}" run=runs/001-paper-gpu
common="trainer=${TRAINER:-gpu} callbacks.early_stopping=null"

for epochs in ${EPOCHS:-25 30 200}; do  # each continues the one before
  $python -m convpose.train experiment=paper study=001-paper-gpu $common callbacks.preview=null "$@" \
    trainer.max_epochs="$epochs" ckpt_path=last hydra.run.dir=$run
  $python -m convpose.evaluate run=$run checkpoint=last split=test output=$run/"test_$epochs" gallery=0
done
box="data.cache=runs/cache/lspet_box.safetensors data.cache_format=webp data.cache_quality=75"
$python -m convpose.train study=001-box $common data.crop=box augment=strong $box trainer.max_epochs=100 \
  hydra.run.dir=runs/001-box-gpu "$@"
$python -m convpose.evaluate run=runs/001-box-gpu split=test
