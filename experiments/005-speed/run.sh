#!/usr/bin/env bash
# Accuracy and speed of exports of the packaged networks. On a quiet machine: 25 minutes of exports on one core of an AMD
# EPYC, then six of the benchmark. With MEDIAPIPE_PYTHON also MediaPipe, timed by mediapipe.py.
# Usage, from the repository's root: [MEDIAPIPE_PYTHON=VENV/bin/python] bash experiments/005-speed/run.sh [overrides of the benchmark]
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
runs=runs/005-speed
mkdir -p $runs
for network in small large; do
  export="$python -m convpose.export network=$network"
  $export format=openvino output=$runs/$network.xml report=$runs/${network}_openvino.json
  $export precision=fp16 output=$runs/${network}_fp16.onnx report=$runs/${network}_fp16.json
  for data in lsp lspet; do
    crop=$([ $data = lsp ] && echo letterbox || echo box)
    $export precision=int8 data=$data data.crop=$crop output=$runs/${network}_${data}_int8.onnx report=$runs/${network}_${data}_int8.json
  done
  $python -m convpose.benchmark what=[latency] latency.network=$network latency.threads=[1] latency.repetitions=200 \
    latency.files=[$runs/${network}_lspet_int8.onnx] output=$runs/$network.json "$@"
done
if [ -n "${MEDIAPIPE_PYTHON:-}" ]; then
  $python -c "from pathlib import Path; from convpose.benchmark.prediction import jpeg, picture; Path('$runs/picture.jpg').write_bytes(jpeg(picture()))"
  "$MEDIAPIPE_PYTHON" -I experiments/005-speed/mediapipe.py $runs/picture.jpg 200 1
fi
