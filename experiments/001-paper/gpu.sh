#!/usr/bin/env bash
# The paper's setting on a GPU: 224 px, one training with reports after 25, 30 and 200 epochs (its rate is constant); then a recipe that learns.
# Usage, from the repository's root, with the archive in CONVPOSE_DATA or data/, or KIT of kit.sh:
#   bash experiments/001-paper/gpu.sh [OVERRIDE…]         all of it
#   END_S=300 bash experiments/001-paper/gpu.sh […]       as many epochs of the paper's recipe as fit into this many seconds
# From the environment: EPOCHS="25 30 200"; OUT, the folder for an archive of reports and curves; TRAINER=gpu; PYTHON.
set -euo pipefail
source "$(dirname "$0")/../kit.sh"
end_s="${END_S:-}" run=runs/001-paper-gpu
if [[ ! -f $kit/2/whole.safetensors ]]; then
  whole="data.cache=runs/cache/lspet_image.safetensors data.cache_format=webp data.cache_quality=75"
fi
common="trainer=${TRAINER:-gpu} callbacks.early_stopping=null data.num_workers=$(workers 1)"

for epochs in ${EPOCHS:-25 30 200}; do  # each continues the one before
  left=${end_s:+$((end_s - SECONDS - 30))}  # 30 s for its evaluation
  ((${left:-1} > 0)) || { echo "END_S=$end_s is over" >&2; break; }
  timeout --foreground --kill-after 20 "${left:-0}" $python -m convpose.train experiment=paper study=001-paper-gpu $common $whole \
    callbacks.preview=null "$@" trainer.max_epochs="$epochs" ckpt_path=last hydra.run.dir=$run ||
    echo "stopped; what it has saved is scored"
  $python -m convpose.evaluate run=$run checkpoint=last split=test output=$run/"test_$epochs" gallery=0
done
if [[ -n ${OUT:-} ]]; then  # without the weights, which take 100 MiB
  mkdir -p "$OUT"
  tar -czf "$OUT/paper.tar.gz" --exclude=checkpoints $run
fi
[[ -z $end_s ]] || exit 0
box="data.cache=runs/cache/lspet_box.safetensors data.cache_format=webp data.cache_quality=75"
$python -m convpose.train study=001-box $common data.crop=box augment=strong $box trainer.max_epochs=100 \
  hydra.run.dir=runs/001-box-gpu "$@"
$python -m convpose.evaluate run=runs/001-box-gpu split=test
