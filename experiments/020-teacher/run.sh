#!/usr/bin/env bash
# Labels, a teacher, or both, and who is right where they differ? About 75 minutes a seed on one core of an AMD EPYC, of which the teacher takes 60.
# Usage, from the repository's root, with movenet_lightning.safetensors there or in MOVENET: bash experiments/020-teacher/run.sh [overrides]
# From the environment: SEEDS="0 1 2".
source "$(dirname "$0")/../studies.sh"
few="data=lspet data.split=paper data.crop=box data.cache=null data.train_share=0.3 data.input_size_px=128 augment=gentle \
  model=movenet_lightning model.weights=${MOVENET:-movenet_lightning.safetensors} ~model.depth ~model.width ~model.dropout head=movenet \
  optimizer.lr=2.0e-4 trainer.max_epochs=3 trainer.check_val_every_n_epoch=3 trainer.gradient_clip_val=1.0 trainer.precision=32-true \
  callbacks.early_stopping=null"
for seed in ${SEEDS:-0 1 2}; do
  run "labels-$seed" seed=$seed $few loss=heatmap "$@"
  for far in label mask teacher mix; do
    run "$far-$seed" seed=$seed $few loss=distill loss.teacher=large loss.apart=$far "$@"
  done
  run "alone-$seed" seed=$seed $few loss=distill loss.teacher=large loss.share=1.0 loss.apart=teacher "$@"  # the labels say only where a joint is to be found
  for name in labels label mask teacher mix alone; do
    [ -f "runs/$study/$name-$seed/evaluate_val_last/predictions.npz" ] || score "$name-$seed" checkpoint=last split=val
  done
done
$python -m convpose.compare study="runs/$study"
$python experiments/020-teacher/draw.py "runs/$study"
