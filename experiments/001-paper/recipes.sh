#!/usr/bin/env bash
# Which setting of the paper's recipe keeps the network at the mean pose? Each run has one change; short trainings.
# Usage, from the repository's root, with the archive in CONVPOSE_DATA or data/:
#   bash experiments/001-paper/recipes.sh [further overrides, e.g. trainer=gpu trainer.max_epochs=25]
set -euo pipefail
train="${PYTHON:-.venv/bin/python} -m convpose.train experiment=paper study=001-recipes model.width=0.25
  data.input_size_px=64 trainer.max_epochs=10 callbacks.early_stopping=null callbacks.preview=null"

$train "$@"                                    # the paper's recipe
$train head.standardize=true "$@"              # targets in units of their mean and deviation
$train optimizer.lr=0.2 "$@"                   # a higher rate
$train data.crop=box "$@"                      # the person's box instead of the whole image
better="data.crop=box head.standardize=true augment=default scheduler=cosine"
$train $better optimizer.nesterov=true "$@"
$train $better optimizer.nesterov=true optimizer.lr=1.0 trainer.max_epochs=4 "$@"
$train $better optimizer=adamw ~optimizer.momentum ~optimizer.nesterov optimizer.lr=0.001 \
  optimizer.weight_decay=0.05 trainer.max_epochs=4 "$@"
