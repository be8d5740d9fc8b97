#!/usr/bin/env bash
# Two more stages over the quick start's network, on synthetic people; no download. The three took 109 minutes on a
# core of an AMD EPYC that ten others shared; the commands after them come on top.
# Usage, from the repository's root:
#   bash experiments/004-cascade/run.sh [further overrides]
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
runs=runs/004-cascade
stage="$python -m convpose.train experiment=cascade_quickstart study=004-cascade"

$python -m convpose.train experiment=quickstart study=004-cascade hydra.run.dir=$runs/stage1 "$@"
$stage model.run=$runs/stage1 hydra.run.dir=$runs/stage2 "$@"
$stage model.run=$runs/stage2 trainer.max_epochs=3 hydra.run.dir=$runs/stage3 "$@"
$python -m convpose.evaluate run=$runs/stage1
$python -m convpose.evaluate run=$runs/stage3  # has a row for each stage

# simulated against real starts: two epochs each
$stage model.run=$runs/stage1 trainer.max_epochs=2 hydra.run.dir=$runs/simulated "$@"
$stage model.run=$runs/stage1 trainer.max_epochs=2 model.starts=real hydra.run.dir=$runs/real "$@"
# not run yet: one network that gets the time of all stages
$python -m convpose.train experiment=quickstart study=004-cascade trainer.max_epochs=40 \
  callbacks.early_stopping=null hydra.run.dir=$runs/longer-stage1 "$@"
