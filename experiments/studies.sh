# Functions that the scripts of the studies share. `source` it; "$@" of a script are overrides for all its runs,
# e.g. trainer=gpu data.input_size_px=224 trainer.max_epochs=100.
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
study=$(basename "$(dirname "$0")")
train="$python -m convpose.train experiment=study study=$study"

# run NAME OVERRIDES…: one training in runs/STUDY/NAME; skipped if it is complete, so that an interrupted script goes on
run() {
  local folder="runs/$study/$1"
  shift
  if ! grep -qs '"seconds"' "$folder/run.json"; then
    rm -rf "$folder"
    $train hydra.run.dir="$folder" "$@"
  fi
}

# score NAME OVERRIDES…: evaluate a run of this study on a subset or on other data
score() {
  local folder="runs/$study/$1"
  shift
  $python -m convpose.evaluate run="$folder" gallery=0 "$@"
}

# speed NAME…: milliseconds of one picture for runs of this study, one thread; a quiet machine is needed
speed() {
  local name
  for name in "$@"; do
    $python -m convpose.benchmark what=[latency] latency.run="runs/$study/$name" latency.engines=[onnx] latency.threads=[1] \
      output="runs/$study/$name/latency.json"
  done
}
