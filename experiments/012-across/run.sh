#!/usr/bin/env bash
# LSP → LSPET and back, three seeds each, and the packaged network under damage. About 45 minutes on one core of an AMD EPYC.
# Usage, from the repository's root: bash experiments/012-across/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
lsp="data=lsp data.split=lsp data.crop=box data.cache=runs/cache/lsp_112.safetensors"
for seed in 0 1 2; do
  run "lspet-$seed" seed=$seed "$@"
  run "lsp-$seed" $lsp seed=$seed trainer.max_epochs=60 "$@"
  for name in lspet lsp; do
    score "$name-$seed" data=lspet data.split=paper data.crop=box output="runs/$study/$name-$seed/on_lspet"
    score "$name-$seed" data=lsp data.split=lsp data.crop=box output="runs/$study/$name-$seed/on_lsp"
  done
done
if [ -d runs/002-small ]; then  # of study 002: under damage, then across
  $python -m convpose.evaluate run=runs/002-small data=lspet data.split=paper data.crop=box robustness=true gallery=0 \
    output="runs/$study/robustness"
fi
$python -m convpose.compare study="runs/$study"
