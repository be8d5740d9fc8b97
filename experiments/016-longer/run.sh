#!/usr/bin/env bash
# A second cycle of the small network, now with noise and JPEG artefacts. About 85 minutes on one core of an AMD EPYC, after 002.
# Usage, from the repository's root: bash experiments/016-longer/run.sh [overrides]
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
$python -m convpose.train experiment=efficientnet study=016-longer trainer=cpu trainer.precision=32-true data.num_workers=0 \
  weights=runs/002-small optimizer.lr=1.0e-3 trainer.max_epochs=34 trainer.check_val_every_n_epoch=2 compile=true "$@"
lspet="data=lspet data.split=paper data.crop=box"
for mirror in false true; do
  $python -m convpose.evaluate run=runs/016-longer $lspet split=test mirror_test=$mirror
  $python -m convpose.evaluate run=runs/016-longer data=lsp split=test mirror_test=$mirror
done
$python -m convpose.evaluate run=runs/016-longer $lspet split=test robustness=true gallery=0 output=runs/016-longer/robustness
