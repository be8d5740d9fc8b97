#!/usr/bin/env bash
# Fine-tune on 30, 100, 300 and 800 labelled photographs of ten keypoints that nobody has seen: from the packaged network, from
# ImageNet and from nothing. About 70 minutes on one core of an AMD EPYC.
# Usage, from the repository's root, with LSP in CONVPOSE_DATA or data/: bash experiments/021-finetune/run.sh [overrides]
source "$(dirname "$0")/../studies.sh"
train="$python -m convpose.train experiment=finetune study=$study data=coco"
people="runs/$study/people"
[ -f "$people/labels.json" ] || $python experiments/021-finetune/people.py "$people"
small="take_network=false data.input_size_px=128 callbacks.preview=null trainer.precision=32-true"
for pair in 30:60 100:40 300:25 800:12; do
  number=${pair%:*}
  for seed in 0 1 2; do
    own="seed=$seed data.source=$people/labels.json data.skeleton=$people/ten.yaml data.split=$people/$number.json trainer.max_epochs=${pair#*:} $small"
    run "packaged-$number-$seed" $own weights=small model=movenet_lightning head=movenet "$@"
    run "imagenet-$number-$seed" $own weights=null model.weights=imagenet parameters.backbone_lr=1.0 "$@"
    run "nothing-$number-$seed" $own weights=null callbacks.freeze=null optimizer.lr=1.0e-3 parameters.backbone_lr=1.0 "$@"
    for start in packaged imagenet nothing; do
      [ -f "runs/$study/$start-$number-$seed/evaluate_test/metrics.json" ] || score "$start-$number-$seed" split=test
    done
  done
done
