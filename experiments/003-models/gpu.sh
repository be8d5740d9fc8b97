#!/usr/bin/env bash
# The strongest models, on one GPU: small, best, regression type; and a comparison of heads.
# Usage, from the repository's root:
#   bash experiments/003-models/gpu.sh PART [OVERRIDE…]  train small, best, regression or heads on the crops of LSP and LSPET
#   bash experiments/003-models/gpu.sh score             score all parts on both tests, with the archives; on any machine
# A part trains its runs at the same time, for three small networks keep a GPU and 16 cores busier than one. Two epochs
# show how many fit. From the environment: END_S=560, seconds after which all is stopped and packed; OUT, the folder for an
# archive of each run (weights in half precision, curves); KIT of kit.sh, which comes first; SEEDS="0 1 2"; TRAINER=gpu; PYTHON.
set -euo pipefail
shopt -s nullglob
source "$(dirname "$0")/../kit.sh"
out="${OUT:-runs/003-out}" end_s="${END_S:-560}" start_s=45  # seconds to start a training, calibrate its scores and pack it
part="${1:?small, best, regression, heads or score}"
runs="runs/003-$part"
# Decay 0.995 averages over about three epochs of 60 batches; 0.999 would still include the start of a short training.
common="experiment=efficientnet trainer=${TRAINER:-gpu} $crops data.batch_size=128 optimizer.lr=2.5e-3 callbacks.ema.decay=0.995"
common+=" callbacks.preview=null study=003-$part"
small="model=efficientnet_lite0 model.weights=$(weights 0)"
large="model=efficientnet_lite2 model.weights=$(weights 2) head.channels=128 data.input_size_px=192"
each=()
for seed in ${SEEDS:-0 1 2}; do each+=("seed=$seed"); done

train() {  # FOLDER OVERRIDE…: all runs of the part, until END_S at the latest
  local folder=$1 jobs=() one name failed=0 left=$((end_s - SECONDS))
  ((left > 0)) || { echo "END_S=$end_s is over: no time for $folder" >&2; exit 1; }  # 0 would be no limit
  for one in "${each[@]}"; do
    name="${one//[^a-z0-9]/-}"
    mkdir -p "$folder"
    # shellcheck disable=SC2086  # words are overrides
    timeout --foreground --kill-after 20 "$left" $python -m convpose.train $common $one "${@:2}" \
      hydra.run.dir="$folder/$name" >"$folder/$name.log" 2>&1 &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || failed=$?; done
  tail -n $((failed ? 30 : 4)) "$folder"/*.log
  return "$failed"
}

pack() {  # each run as an archive without what only a continued training needs
  mkdir -p "$out"
  cat "$runs"/*.log >"$out/$part.log"
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
  ls -l "$out"
}

case $part in
  score)
    for archive in "$out"/{small,best,regression,heads}.*.tar.gz; do tar -xzf "$archive"; done
    for run in runs/003-{small,best,regression,heads}/*/; do
      looks=$([[ $run == *003-small* ]] && echo false || echo true)  # the small one is to be fast; chosen in 002
      for data in "data=lspet data.split=paper data.crop=box" "data=lsp"; do
        $python -m convpose.evaluate run="$run" $data split=test mirror_test="$looks" gallery=0
      done
    done
    exit ;;
  small) common+=" $small data.input_size_px=160" ;;  # 128 px is what 002 has
  best) common+=" $large" ;;
  regression) common+=" $large head=integral loss.weight=0.0" ;;  # coordinates alone, no heatmap as target
  heads)
    common+=" $small"
    each=("head=regression loss=l1" "head=integral" "head=simcc" "head=heatmap" "head=rle") ;;
  *) echo "$part: expected small, best, regression, heads or score" >&2; exit 2 ;;
esac
[[ ! -e $runs ]] || { echo "$runs is there already; move it away" >&2; exit 2; }
common+=" data.num_workers=$(workers ${#each[@]})"
rm -rf "$runs-pace"  # of an earlier call
train "$runs-pace" trainer.max_epochs=2 "${@:2}"
epochs=$(tail -qn 1 "$runs-pace"/*/metrics.csv | awk -F, -v s=$((end_s - SECONDS - start_s)) \
  '$NF > slow {slow = $NF} END {n = int(0.92 * s / slow / 2) * 2; print n < 2 ? 2 : n}')
echo "epochs: $epochs, as many as the slowest run's pace allows; ${SECONDS} s are gone"
train "$runs" trainer.max_epochs="$epochs" trainer.check_val_every_n_epoch=2 "${@:2}" || echo "a run has failed or was stopped; what it has saved is packed"
pack
