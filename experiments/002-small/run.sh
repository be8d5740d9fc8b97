#!/usr/bin/env bash
# The small network. About 100 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/002-small/run.sh [overrides]
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
$python -m convpose.train experiment=efficientnet study=002-small trainer=cpu trainer.precision=32-true data.num_workers=0 \
  trainer.max_epochs=40 trainer.check_val_every_n_epoch=2 compile=true "$@"
$python -m convpose.evaluate run=runs/002-small data=lspet data.split=paper data.crop=box split=test
$python -m convpose.evaluate run=runs/002-small data=lsp split=test
