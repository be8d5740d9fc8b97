#!/usr/bin/env bash
# What one GPU and 16 cores train in nine minutes: large twice, small with three seeds and four treatments of labels, the paper.
# Usage, from the repository's root, with both archives in CONVPOSE_DATA or data/ and MoveNet's arrays in MOVENET:
#   MOVENET=FOLDER OUT=results bash experiments/003-models/gpu.sh pace   two epochs of each stage: how many epochs fit
#   MOVENET=FOLDER OUT=results bash experiments/003-models/gpu.sh        all of it; what is ready is packed at once
# From the environment: END_S=520, seconds after which all is stopped and packed; OUT, the folder for results; RUNS, for the run
# folders; PACE, the results of `pace` (without: EPOCHS="16 20 12"); TRAINER=gpu; PYTHON; DATA, BATCH and MORE, overrides.
# A machine without a network gets the archives from kit.py.
set -uo pipefail
python="${PYTHON:-.venv/bin/python}" out="${OUT:-results}" runs="${RUNS:-runs/003-gpu}" end_s="${END_S:-520}" pace="${PACE:-}"
kit="$python experiments/003-models/kit.py" movenet="${MOVENET:-.}"
trainer="trainer=${TRAINER:-gpu} trainer.log_every_n_steps=50 callbacks.preview=null study=003-gpu ${MORE:-}"
many="data.batch_size=${BATCH:-128} optimizer.lr=4.0e-4 callbacks.ema.decay=0.99 trainer.check_val_every_n_epoch=2"
large="experiment=large model.weights=$movenet/movenet_thunder.safetensors $many data.num_workers=5 ${DATA:-}"
small="experiment=small model.weights=$movenet/movenet_lightning.safetensors $many data.num_workers=2 ${DATA:-}"
paper="experiment=paper callbacks.early_stopping=null data.num_workers=3"
mkdir -p "$out" "$runs"

train() {  # NAME OVERRIDE…: one run, until END_S at the latest
  local left=$((end_s - SECONDS))
  ((left > 5)) || { echo "END_S=$end_s is over: no time for $1"; return 1; }
  # shellcheck disable=SC2086  # words are overrides
  timeout --foreground --kill-after 10 "$left" $python -m convpose.train ${*:2} $trainer hydra.run.dir="$runs/$1" |&
    tee -a "$out/$1.log" | grep "^COMMAND"
  local code=${PIPESTATUS[0]}
  ((code == 0)) || echo "$1 ended with $code: $(tail -n 2 "$out/$1.log")"
}

start() { train "$@" & jobs+=($!); }

best() {  # RUN…: the folder of the best of those that have an epoch
  local ready=()
  for run in "$@"; do [[ ! -f $runs/$run/metrics.csv ]] || ready+=("$runs/$run"); done
  if ((${#ready[@]})); then $kit best "${ready[@]}"; else echo "$runs/$1"; fi
}

pack() {  # NAME RUN…: an archive of runs that are needed elsewhere
  for run in "${@:2}"; do
    [[ ! -f $runs/$run/checkpoints/best.ckpt ]] || $kit slim "$runs/$run" "$runs/packed/$1/$run"
  done
  [[ ! -d $runs/packed/$1 ]] || tar -cf "$out/$1.tar" -C "$runs/packed/$1" .
}

epochs() {  # RUN SECONDS DEFAULT: epochs of 7,767 images that fit, an even number from 4 to 60
  if [[ -s $pace/$1.pace ]]; then
    awk -v s="$2" '{n = int(s / ($1 * 7767) / 2) * 2; print n < 4 ? 4 : n > 60 ? 60 : n}' "$pace/$1.pace"
  else
    echo "$3"
  fi
}

measure() {  # RUN…: write the pace of runs that have ended
  for run in "$@"; do
    [[ ! -f $runs/$run/metrics.csv ]] || $kit pace "$runs/$run" | tee "$out/$run.pace"
  done
}

together() {  # STAGE OVERRIDE…: networks that are trained at the same time
  jobs=()
  case $1 in
    large)
      start labels "$large" "${@:2}"
      start taught "$large" loss=distill loss.teacher=large "${@:2}" ;;
    small)
      teacher="loss.teacher=$(best "${teachers[@]}")"
      for seed in 0 1 2; do start small-$seed "$small" "$teacher" seed=$seed "${@:2}"; done
      for far in label teacher mix; do start small-$far "$small" "$teacher" loss.apart=$far "${@:2}"; done
      start small-alone "$small" loss=heatmap "~loss.teacher" "${@:2}" ;;
  esac
}

if [[ ${1:-} == pace ]]; then
  once="trainer.max_epochs=2 trainer.check_val_every_n_epoch=1"
  together large "$once"
  start paper "$paper" "$once"
  wait "${jobs[@]}"
  measure labels taught paper
  teachers=(labels)
  together small "$once"
  wait "${jobs[@]}"
  measure small-0 small-mix small-alone
  $python -m convpose.benchmark what=[training] "batch_sizes=${BATCHES:-[256]}" seconds=1 rounds=1 output="$out/benchmark.json"
  exit
fi

read -r first second third <<<"${EPOCHS:-16 20 12}"
train paper "$paper" trainer.max_epochs=25 &
paper_job=$!
stage=$(((end_s - SECONDS) / 3 - 22))  # seconds of training in each of three stages; the rest is starts and ends
first=$(epochs taught $stage "$first")
echo "large, first cycle: $first epochs, after $SECONDS s"
together large trainer.max_epochs="$first"
wait "${jobs[@]}"
teacher=$(best labels taught)
second=$(epochs taught $((stage * 5 / 4)) "$second")  # with one network less beside it
echo "large, second cycle: $second epochs, taught by $teacher, after $SECONDS s"
jobs=()
start second "$large" loss=distill loss.teacher="$teacher" trainer.max_epochs="$second" data.num_workers="${WORKERS:-11}"
pack first "$(basename "$teacher")"
wait "${jobs[@]}"
teachers=(second taught labels)
left=$((end_s - SECONDS - 35))
third=$(epochs small-mix $((left > 20 ? left : 20)) "$third")
echo "small: $third epochs, after $SECONDS s"
together small trainer.max_epochs="$third"
start regression "$large" weights="$(best "${teachers[@]}")" model.weights=null head=integral loss=integral loss.weight=0 \
  optimizer.lr=2.0e-3 parameters.backbone_lr=0.1 trainer.max_epochs=8
wait "$paper_job"
start paper "$paper" trainer.max_epochs=200 ckpt_path=last data.num_workers=2
pack second second
wait "${jobs[@]}"
pack small small-0 small-1 small-2
pack regression regression
$python -m convpose.evaluate run="$runs/paper" checkpoint=last split=test gallery=0
tar -czf "$out/curves.tar.gz" --exclude=checkpoints --exclude=packed -C "$runs" .
echo "all done after $SECONDS s"
