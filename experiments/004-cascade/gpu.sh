#!/usr/bin/env bash
# A cascade on LSP and LSPET, on a GPU: the paper's regressor at 128 px, then stages 2 and 3 from
# crops of 256 px; three seeds. Stage 2 once more with real starts, and with a heatmap head.
# Usage, from the repository's root, with the archives in CONVPOSE_DATA or data/:
#   bash experiments/004-cascade/gpu.sh
# The crop cache is written once, serves all stages, and may be copied to a machine without the archives.
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
cache="data.cache=runs/cache/lsp_lspet_256.safetensors data.cache_size_px=256"
common="study=004-cascade-gpu trainer=gpu $cache"
wide="model.backbone.width=1.0"

for seed in 0 1 2; do
  runs=runs/004-cascade-gpu/seed$seed
  $python -m convpose.train $common seed=$seed data=lsp_lspet data.input_size_px=128 augment=strong \
    loss=l1 optimizer=adamw 'callbacks=[default,ema]' callbacks.early_stopping=null \
    trainer.max_epochs=100 trainer.gradient_clip_val=1.0 hydra.run.dir=$runs/stage1
  $python -m convpose.train $common seed=$seed experiment=cascade $wide \
    model.run=$runs/stage1 hydra.run.dir=$runs/stage2
  $python -m convpose.train $common seed=$seed experiment=cascade $wide \
    model.run=$runs/stage2 hydra.run.dir=$runs/stage3
  for run in stage1 stage3; do  # the report of the last stage has a row for each
    $python -m convpose.evaluate run=$runs/$run split=test
  done
done

runs=runs/004-cascade-gpu/seed0
$python -m convpose.train $common experiment=cascade $wide model.starts=real \
  model.run=$runs/stage1 hydra.run.dir=$runs/stage2-real
$python -m convpose.train $common experiment=cascade $wide head=heatmap loss=heatmap \
  model.run=$runs/stage1 hydra.run.dir=$runs/stage2-heatmap
for run in stage2-real stage2-heatmap; do
  $python -m convpose.evaluate run=$runs/$run split=val
done
