#!/usr/bin/env bash
# The paper's recipe at 64 px. About 45 minutes on two cores of an AMD EPYC; gpu.sh has the full size.
# Usage, from the repository's root: bash experiments/001-paper/run.sh [overrides]
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
$python -m convpose.train experiment=paper study=001-paper data.input_size_px=64 trainer.max_epochs=25 \
  callbacks.early_stopping.patience=25 callbacks.preview.every_epochs=25 "$@"
$python -m convpose.evaluate run=runs/001-paper split=test
