#!/usr/bin/env bash
# The models that are to win, on one GPU: small, best, regression type; heads side by side.
# Usage, from the repository's root:
#   bash experiments/003-models/gpu.sh cache            the crops as one file, from the archives in CONVPOSE_DATA or data/
#   bash experiments/003-models/gpu.sh PART [OVERRIDE…] train small, best, regression or heads; the cache is enough
#   bash experiments/003-models/gpu.sh score            score all parts on both tests, with the archives; on any machine
# A part trains its runs at the same time, for three small networks keep a GPU and 16 cores busier than one; three epochs
# tell how many fit. From the environment: OUT, the folder for one archive a run (weights in half precision, curves);
# TRAIN_S=420, seconds of training; END_S=560, when all is stopped and packed; SEEDS="0 1 2"; TRAINER=gpu; PYTHON.
set -euo pipefail
shopt -s nullglob
python="${PYTHON:-.venv/bin/python}"
out="${OUT:-runs/003-out}" train_s="${TRAIN_S:-420}" end_s="${END_S:-560}"
part="${1:?cache, small, best, regression, heads or score}"
runs="runs/003-$part"
# A person of LSP or LSPET is about 150 px across in its crop, 200 at most: more than 192 px has no more to show.
cache="data.cache=runs/cache/lsp_lspet_192.safetensors data.cache_size_px=192 data.cache_format=webp data.cache_quality=60"
common="experiment=small trainer=${TRAINER:-gpu} $cache data.batch_size=128 optimizer.lr=2.5e-3 callbacks.preview=null"
common+=" study=003-$part"
large="model=efficientnet_lite2 head.channels=128 data.input_size_px=192"
each=()
for seed in ${SEEDS:-0 1 2}; do each+=("seed=$seed"); done

train() {  # FOLDER OVERRIDE…: all runs of the part, until END_S at the latest
  local folder=$1 jobs=() one name failed=0 left=$((end_s - SECONDS))
  ((left > 0)) || { echo "END_S=$end_s is over: no time for $folder" >&2; exit 1; }  # 0 would be no limit
  for one in "${each[@]}"; do
    name="${one//[^a-z0-9]/-}"
    mkdir -p "$folder"
    # shellcheck disable=SC2086  # words are overrides
    timeout --signal TERM "$left" $python -m convpose.train $common $one "${@:2}" \
      hydra.run.dir="$folder/$name" >"$folder/$name.log" 2>&1 &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || failed=$?; done
  tail -n 4 "$folder"/*.log
  return "$failed"
}

pack() {  # each run as an archive without what only a continued training needs
  mkdir -p "$out"
  for run in "$runs"/*/; do
    [[ -f ${run}checkpoints/best.ckpt ]] || continue
    $python - "$run" <<'PYTHON'
import sys, torch
file = sys.argv[1] + "checkpoints/best.ckpt"
state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
small = {k: v.half() if v.ndim > 1 else v for k, v in state.items() if k.startswith("model.")}
torch.save({"state_dict": small}, file)
PYTHON
    find "$run"checkpoints -type f ! -name best.ckpt -delete
    tar -czf "$out/$part.$(basename "$run").tar.gz" "$run"
  done
  cat "$runs"/*.log >"$out/$part.log"
  ls -l "$out"
}

case $part in
  cache)  # a training of one batch writes it
    $python -m convpose.train $common debug=fast hydra.run.dir=runs/003-cache/run
    exit ;;
  score)
    for archive in "$out"/*.tar.gz; do tar -xzf "$archive"; done
    for run in runs/003-{small,best,regression,heads}/*/; do
      looks=$([[ $run == *003-small* ]] && echo false || echo true)  # the small one is to be fast; chosen in 002
      for data in "data=lspet data.split=paper data.crop=box" "data=lsp"; do
        $python -m convpose.evaluate run="$run" $data split=test mirror_test="$looks" gallery=0
      done
    done
    exit ;;
  small) common+=" data.input_size_px=160" ;;  # 128 px is what 002 has
  best) common+=" $large" ;;
  regression) common+=" $large head=integral loss.weight=0.0" ;;  # coordinates alone, no heatmap as target
  heads) each=("head=regression loss=l1" "head=integral" "head=simcc" "head=heatmap" "head=rle") ;;
  *) echo "$part: expected cache, small, best, regression, heads or score" >&2; exit 2 ;;
esac
common+=" data.num_workers=$((($(nproc) - ${#each[@]}) / ${#each[@]}))"
rm -rf "$runs-pace"  # of an earlier call
train "$runs-pace" trainer.max_epochs=3 "${@:2}"
epochs=$(tail -qn 1 "$runs-pace"/*/metrics.csv | awk -F, -v s="$train_s" '$NF > slow {slow = $NF} END {n = int(s / slow / 2) * 2; print n < 2 ? 2 : n}')
echo "epochs: $epochs, ${train_s} s in all by the slowest run's pace; ${SECONDS} s are gone"
train "$runs" trainer.max_epochs="$epochs" trainer.check_val_every_n_epoch=2 "${@:2}" || echo "a run has failed or was stopped; what it has saved is packed"
pack
