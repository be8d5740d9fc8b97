#!/usr/bin/env bash
# Large, then small with three seeds and large as teacher, in eight and a half minutes of one GPU (an H200).
# Usage, from the repository's root, after `kit.py pack KIT` where the archives are:
#   KIT=KIT CANVASES=/dev/shm/canvases OUT=results bash experiments/003-models/gpu.sh
# From the environment: LARGE_S=298 and END_S=498, seconds after which large and all is over; PYTHON.
set -euo pipefail
python="${PYTHON:-.venv/bin/python}" kit="${KIT:-kit}" canvases="${CANVASES:-canvases}" out="${OUT:-results}"
large_s="${LARGE_S:-298}" end_s="${END_S:-498}" since=$(date +%s) gpu="experiments/003-models/gpu.py"
$python experiments/003-models/kit.py unpack "$kit" "$canvases"
$python $gpu "$canvases" "$out" large refresh=0.5 checks=10 until="$large_s" since="$since"
for seed in 0 1 2; do
  $python $gpu "$canvases" "$out" small-$seed network=small seed=$seed lr=7e-4 checks=6 teacher="$out/large.ckpt" until="$end_s" since="$since" &
done
wait
