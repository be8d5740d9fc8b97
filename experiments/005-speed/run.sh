#!/usr/bin/env bash
# Accuracy and speed of exports of the packaged network, on a quiet machine. Three minutes of exports on one core of an AMD
# EPYC, then four of the benchmark. With MEDIAPIPE_PYTHON also MediaPipe, timed by mediapipe.py.
# Usage, from the repository's root: [MEDIAPIPE_PYTHON=VENV/bin/python] bash experiments/005-speed/run.sh [overrides of the benchmark]
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
runs=runs/005-speed
export="$python -m convpose.export paths.runs=$runs"
for format in onnx openvino torchscript; do $export format=$format report=$runs/${format}_fp32.json; done
for format in onnx openvino; do
  $export format=$format precision=fp16 report=$runs/${format}_fp16.json
  $export format=$format precision=int8 data=lspet data.crop=box report=$runs/${format}_int8.json
done
$python -m convpose.benchmark what=[latency,clip] latency.repetitions=200 \
  latency.files=[$runs/exported/default_int8.onnx,$runs/exported/default_int8.xml] \
  output=$runs/latency.json "$@"
if [ -n "${MEDIAPIPE_PYTHON:-}" ]; then
  $python -c "from pathlib import Path; from convpose.benchmark.prediction import jpeg, picture; Path('$runs/picture.jpg').write_bytes(jpeg(picture()))"
  "$MEDIAPIPE_PYTHON" -I experiments/005-speed/mediapipe.py $runs/picture.jpg 200 1
fi
