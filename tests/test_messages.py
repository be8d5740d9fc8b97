"""Hold what commands say to values that cannot be: one table of command lines and sentences.

The command's own function is called, so a row also says that a value is refused before any work.
"""

import re
from importlib import import_module
from pathlib import Path

import pytest
from tiny import TINY, composed

from convpose.config.application import USER_ERRORS, explain
from convpose.config.arguments import arranged
from convpose.search.setup import check_settings

OF = {"data": "inspect", "app": "build_page"}  # functions that are not named like their command
GIVEN = {  # what a command wants to hear before it looks at anything else
    "train": TINY,
    "predict": ("source=photo.jpg",),
    "evaluate": ("run=here",),
    "compare": ("study=here",),
    "data": ("data=synthetic",),
}
COUNT, NATURAL = "a whole number above 0", "a whole number from 0 up"
SHARE, POSITIVE = "a number from 0 to 1", "a number above 0"
PEOPLE = "a whole number above 0 and up to 1000000"
MEGAPIXELS = "a number above 0 and up to 178"
NOT_NEGATIVE, BOOL = "a number from 0 up", "true or false"
SUBSET = "one of train, val, test"
FACTOR = "callbacks=[default,freeze] keeps the backbone as it is; type parameters."

# command line → what is expected; the last words of a command line are the key and its value, and
# … stands for anything
EXPECTED = {
    "train seed=abc": "a whole number from 0 to 4294967295, got str",
    "train seed=-1": "a whole number from 0 to 4294967295",
    "train lr_find=2": f"{BOOL}, got int",
    "train monitor_mode=up": "max or min",
    "train ckpt_path=3": "a text or null, got int",
    "train trainer.max_epochs=abc": f"{COUNT}, got str",
    "train trainer.max_epochs=0": COUNT,
    "train trainer.max_epochs=-1": COUNT,
    "train trainer.max_epochs=null": f"{COUNT}, got NoneType",
    "train trainer.check_val_every_n_epoch=0": COUNT,
    "train trainer.accumulate_grad_batches=0": f"{COUNT} or null",
    "train trainer.gradient_clip_val=-1": f"{POSITIVE} or null",
    "train trainer.limit_train_batches=0": f"{POSITIVE} or null",
    "train trainer.limit_val_batches=0": f"{POSITIVE} or null",
    "train trainer.precision=foo": "one of 64, 32, 16, transformer-engine, …",
    "train data.batch_size=ten": f"{COUNT} or auto, got str; type data.batch_size=64",
    "train data.batch_size=0": f"{COUNT} or auto; type data.batch_size=64",
    "train data.input_size_px=31": "a whole number from 32 to 4096; type data.input_size_px=224",
    "train data.num_workers=-1": "a whole number from 0 to 256 or null",
    "train data.num_workers=100000": "a whole number from 0 to 256 or null",
    "train data.train_share=0.0": "a number above 0 and up to 1; type data.train_share=1.0",
    "train data.train_share=1.5": "a number above 0 and up to 1; type data.train_share=1.0",
    "train data.repeat={synthetic:0}": f"a mapping, each value {COUNT} or null",
    "train data.crop=round": "one of image, letterbox, box or a mapping, each value one of image,…",
    "train data.crop={synthetic:round}": "one of image, letterbox, box or a mapping, each value…",
    "train data.box_scale=0.99": "a number from 1 up; a smaller crop would cut joints off; type …",
    "train data.box_scale=nan": "a number from 1 up; a smaller crop would cut joints off; type …",
    "train data.cache_format=png": "jpeg or webp",
    "train data.cache_quality=0": "a whole number from 1 to 100; type data.cache_quality=90",
    "train data.cache_quality=101": "a whole number from 1 to 100; type data.cache_quality=90",
    "train data.cache_size_px=15": "a whole number from 16 to 4096; type data.cache_size_px=224",
    "train data.sources.synthetic.num_images=0": f"{PEOPLE}; type data.sources.…",
    "train data.sources.synthetic.num_images=2.5": f"{PEOPLE}, got float; type data…",
    "train data.sources.synthetic.num_images=1000000000000": f"{PEOPLE}; type data.…",
    "train data.sources.synthetic.image_size_px=31": "a whole number from 32 to 4096; type data…",
    "train data.sources.synthetic.seed=-1": f"{NATURAL}; type data.sources.synthetic.seed=0",
    "train augment.scale=3": "a number from 0 to 2; type augment.scale=0.0",
    "train augment.scale=-0.1": "a number from 0 to 2; type augment.scale=0.0",
    "train augment.rotation_deg=181": "a number from 0 to 180; type augment.rotation_deg=0.0",
    "train augment.rotation_probability=1.5": f"{SHARE}; type augment.rotation_probability=1.0",
    "train augment.shift=2": f"{SHARE}; type augment.shift=0.0",
    "train augment.mirror_probability=nan": f"{SHARE}; type augment.mirror_probability=0.0",
    "train model.depth=12": "one of 11, 13, 16, 19; type model.depth=16",
    "train model.dropout=1": "a number from 0 to below 1; type model.dropout=0.5",
    "train model.dropout=-0.1": "a number from 0 to below 1; type model.dropout=0.5",
    "train model.width=0": "a number from 0.015625 to 4; type model.width=1.0",
    "train model.width=5": "a number from 0.015625 to 4; type model.width=1.0",
    "train model=resnet50 model.dropout=1.0": "a number from 0 to below 1; type model.dropout=0.0",
    "train model=resnet50 model.drop_path=-1": "a number from 0 to below 1; type model.drop_path…",
    "train model=cascade model.side=11": "a number from 0.1 to 10; type model.side=1.0",
    "train model=cascade model.side=nan": "a number from 0.1 to 10; type model.side=1.0",
    "train model=cascade model.starts=guessed": "simulated or real",
    "train model=cascade model.subimage_px=x": f"{COUNT}, got str; type model.subimage_px=64",
    "train head.hidden=0": f"{COUNT}; type head.hidden=512",
    "train head=heatmap head.channels=0": f"{COUNT}; type head.channels=64",
    "train head=heatmap head.window=-1": f"{NATURAL}; type head.window=2",
    "train head=rle head.channels=0": f"{COUNT}; type head.channels=128",
    "train head=simcc head.split=0": f"{POSITIVE}; type head.split=2.0",
    "train head=simcc head.window=0": f"{COUNT}; type head.window=8",
    "train head=heatmap loss.sigma=0": f"{POSITIVE}; type loss.sigma=1.0",
    "train head=heatmap loss.sigma=inf": f"{POSITIVE}; type loss.sigma=1.0",
    "train head=heatmap loss.sigma=nan": f"{POSITIVE}; type loss.sigma=1.0",
    "train head=simcc loss.sigma=-1": f"{POSITIVE}; type loss.sigma=4.0",
    "train head=integral loss.sigma=0": f"{POSITIVE}; type loss.sigma=1.0",
    "train head=integral loss.weight=-0.1": f"{NOT_NEGATIVE}; type loss.weight=0.5",
    "train head=integral loss.weight=inf": f"{NOT_NEGATIVE}; type loss.weight=0.5",
    "train head=rle loss.hidden=0": f"{COUNT}; type loss.hidden=64",
    "train head=rle loss.couplings=0": f"{COUNT}; type loss.couplings=6",
    "train loss=smooth_l1 loss.beta=0": f"{POSITIVE}; type loss.beta=0.02",
    "train loss=wing loss.w=0": f"{POSITIVE}; type loss.w=0.04",
    "train loss=wing loss.epsilon=0": f"{POSITIVE}; type loss.epsilon=0.008",
    "train loss=distill loss.share=1.5": f"{SHARE}; type loss.share=0.5",
    "train loss=distill loss.apart=both": "one of label, mask, teacher, mix",
    "train loss=distill loss.bound=0": f"{POSITIVE}; type loss.bound=0.15",
    "train model=movenet model.width=9": "a number from 0.1 to 4; type model.width=1.0",
    "train model=movenet model.frozen_blocks=18": "a whole number from 0 to 17; type model.froz…",
    "train augment=gentle augment.frame_probability=2": f"{SHARE}; type augment.frame_prob…",
    "train parameters.backbone_lr=0": f"a number above 0 and up to 1; {FACTOR}backbone_lr=1.0",
    "train parameters.first_layer_lr=1.5": f"a number above 0 and up to 1; {FACTOR}first_layer_lr…",
    "train scheduler.warmup=5": f"{SHARE}; type scheduler.warmup=0.05",
    "train scheduler.final=-0.1": f"{SHARE}; type scheduler.final=0.0",
    "train scheduler=step scheduler.gamma=2": f"{SHARE}; type scheduler.gamma=0.1",
    "train scheduler=step scheduler.milestones=[0.5,30]": f"a list, each item {SHARE}",
    "train callbacks=[default,freeze] callbacks.freeze.epochs=0": f"{COUNT} or null",
    "train callbacks.preview.every_epochs=0": f"{COUNT}; type callbacks.preview.every_epochs=1",
    "train callbacks=[default,ema] callbacks.ema.decay=2": f"{SHARE}; type callbacks.ema.decay=0.…",
    "predict batch_size=0": COUNT,
    "predict max_frames=many": f"{COUNT} or null, got str",
    "predict max_megapixels=500": MEGAPIXELS,
    "predict max_file_mb=0": f"{COUNT} or null",
    "predict looks=3": "1 or 2",
    "predict box_scale=-1": f"{POSITIVE} or null",
    "predict format=xml": "one of json, coco, csv, parquet, labelstudio, yolo, cvat or null",
    "predict draw=maybe": f"{BOOL} or null, got str",
    "predict show=2": f"{BOOL}, got int",
    "predict threads=0": f"{COUNT} or null",
    "predict smoothing.cutoff_hz=0": f"{POSITIVE}; type smoothing.cutoff_hz=1.5",
    "predict smoothing.beta=fast": f"{NOT_NEGATIVE}, got str; type smoothing.beta=8.0",
    "predict smoothing.speed_cutoff_hz=0": f"{POSITIVE}; type smoothing.speed_cutoff_hz=1.0",
    "predict smoothing.forget_s=-1": f"{NOT_NEGATIVE}; type smoothing.forget_s=0.5",
    "predict tracker.sure=1.5": f"{SHARE}; type tracker.sure=0.5",
    "predict tracker.overlap=0": "a number above 0 and below 1; type tracker.overlap=0.1",
    "predict tracker.lost_s=-1": f"{NOT_NEGATIVE}; type tracker.lost_s=1.0",
    "predict engine=ray cluster.shard=0": f"{COUNT}; type cluster.shard=250",
    "predict engine=ray cluster.workers=-1": f"{COUNT} or null",
    "predict detector=yolox detector.score_threshold=2.0": f"{SHARE}; type detector.score_thresho…",
    "predict detector=yolox detector.overlap_threshold=-1": f"{SHARE}; type detector.overlap_thre…",
    "predict detector=torchvision detector.score_threshold=2": f"{SHARE}; type detector.score_thr…",
    "export max_pck_drop=-1": NOT_NEGATIVE,
    "export calibration_images=0": COUNT,
    "export batch_size=0.5": f"{COUNT}, got float",
    "export max_difference_px=far": f"{NOT_NEGATIVE} or null, got str",
    "evaluate looks=0": "1 or 2",
    "evaluate gallery=-1": NATURAL,
    "evaluate gallery=few": f"{NATURAL}, got str",
    "evaluate mirror_test=yes": f"{BOOL}, got str",
    "evaluate boxes=3": "a text or null, got int",
    "evaluate batch_size=0": f"{COUNT} or null",
    "evaluate split=dev": SUBSET,
    "compare top=-1": NATURAL,
    "compare top=1.5": f"{NATURAL}, got float",
    "compare top=True": f"{NATURAL}, got bool",
    "compare figure=out.doc": "a name that ends in .pdf, .svg, .png",
    "benchmark rounds=0": COUNT,
    "benchmark rounds=2.5": f"{COUNT}, got float",
    "benchmark seconds=0": "a number from 0.001 up",
    "benchmark threads=0": f"{COUNT} or null",
    "benchmark batch_sizes=[8,0]": f"a list, each item {COUNT}",
    "benchmark latency.threads=[0]": f"a list, each item {COUNT}",
    "benchmark latency.repetitions=many": "a whole number from 2 up, got str",
    "data decode=perhaps": f"{BOOL}, got str",
    "data seed=-1": "a whole number from 0 to 4294967295",
    "data coco_part=dev": f"{SUBSET} or null",
    "data data.gallery_images=0": COUNT,
    "data data.gallery_images=all": f"{COUNT}, got str",
    "app looks=twice": "1 or 2",
    "app open=1": f"{BOOL}, got int",
    "app names=[1]": "a list, each item a text, got list",
    "app port=0": "a whole number from 1 to 65535",
    "app port=70000": "a whole number from 1 to 65535",
    "app max_file_mb=0": COUNT,
    "app max_megapixels=0": MEGAPIXELS,
    "app max_seconds=0": f"{POSITIVE} or null",
    "app max_frames=0": COUNT,
    "app at_once=0": COUNT,
    "search trials=0": f"{COUNT} or null",
    "search trials=True": f"{COUNT} or null, got bool",
    "search timeout_s=-1": f"{NOT_NEGATIVE} or null",
    "search storage=3": "a text or null, got int",
    "search workers=0": COUNT,
    "search worker=one": f"{COUNT} or null, got str; workers=N sets it",
    "search heartbeat_s=0.5": f"{COUNT}, got float",
    "search retries=-1": NATURAL,
}


MEANT = {  # what is typed → the key that was meant: by last part, by meaning, by its letters
    "train": {
        "lr=0.1": "optimizer.lr",
        "train.lr=0.1": "optimizer.lr",
        "optimizer.learning_rate=1": "optimizer.lr",
        "optimiser.lr=1": "optimizer.lr",
        "batch_size=32": "data.batch_size",
        "max_epochs=3": "trainer.max_epochs",
        "epochs=3": "trainer.max_epochs",
        "resume=true": "ckpt_path=last",
        "wandb=true": "logger=wandb",
        "backbone=resnet50": "model",
        "name=a": "study",
        "gpus=1": "trainer.devices",
        "trainer.gpus=1": "trainer.devices",
        "device=cuda": "trainer.accelerator",
        "workers=4": "data.num_workers",
        "imgsz=64": "data.input_size_px",
        "modl.width=1": "model.width",
        "wd=0": "optimizer.w…",
        "patience=3": "callbacks.early_stopping.patience or callbacks.collapse_alarm.patience",
    },
    "predict": {"out=here": "output", "image=photo.jpg": "source", "conf=0.3": "detector"},
    "search": {"n_trials=3": "trials", "lr=0.1": "optimizer.lr"},
}

# command line → the sentence: keys that do not go together, names that do not exist
SAID = {
    **{
        f"{command} {word}": f"unknown key {word.strip('+').split('=')[0]}; did you mean {key}?"
        for command, words in MEANT.items()
        for word, key in words.items()
    },
    "train data.batch_siz=4": "…; did you mean data.batch_size?\nkeys there: batch_size, box_…",
    "train batchsze=4": "…; did you mean data.batch_size?\nkeys there: augment, callbacks, …",
    "train gibberish=0": "unknown key gibberish\nkeys there: augment, callbacks, …",
    "train data.seed.x=3": "unknown key data.seed.x\nkeys there: batch_size, …",
    "train seed.x=3": "unknown key seed.x: seed is a value and has no keys",
    "train vgg_bn": "vgg_bn: not KEY=VALUE; did you mean model=vgg_bn?",
    "train optimizer.lr= 0.1": "optimizer.lr= 0.1: a space too many; type optimizer.lr=0.1",
    "train optimizer.lr = 0.1": "optimizer.lr = 0.1: a space too many; type optimizer.lr=0.1",
    "train -m seed=1, 2 , 3 study=s": "seed=1, 2 , 3: a space too many; type seed=1,2,3",
    "train logger=csv,wandb": "…: several at once are a list; type logger=[csv,wandb]",
    "train -m logger=csv,wandb": "…: several at once are a list; type logger=[csv,wandb]",
    "predict run=photo.onnx": "run=photo.onnx: the folder does not exist; type run=FOLDER, …",
    "train seed=1,2": "seed=1,2: several values; type -m seed=1,2 to run one after the other, or …",
    "train --lr 0.1": "--lr: no such option; keys are typed without --, as in optimizer.lr=0.1",
    "train --data.split=lsp": "…; keys are typed without --, as in data.split=lsp",
    "train --foo seed=1": "--foo: no such option; keys are typed without --, as in KEY=VALUE",
    "predict model=large": "unknown group model; did you mean network?",
    "predict augment=none": "unknown group augment: this application has none; leave augment=… out",
    "compare here": "here: not KEY=VALUE; did you mean study=here?",
    "export here": "here: not KEY=VALUE; did you mean run=here?",
    "train monitor=val/pkc": "monitor=val/pkc: no such metric\nmetrics there are: val/loss, val/p…",
    "train monitor=val/loss": "…: would choose the worst epoch; type monitor_mode=min",
    "train trainer.check_val_every_n_epoch=3": "trainer.max_epochs=2: expected at least trainer.c…",
    "train trainer.devices=0": "trainer: …devices=0…; it was given accelerator=cpu devices=0…",
    "train trainer.accelerator=foo": "…accelerator=foo…",
    "train optimizer.lr=-1": "optimizer: Invalid learning rate: -1; it was given lr=-1 momentum=0…",
    "train optimizer.momentum=0": "optimizer: Nesterov momentum requires …",
    "train ckpt_path=nope.ckpt": "ckpt_path=nope.ckpt: no such file; type ckpt_path=last or a .ck…",
    "train data.skeleton=category": "data.skeleton=category: only files with a category describe a…"
    "; type data=coco, or data.skeleton=lsp14 or FILE.yaml",
    "train data.source=some.zip": "data.source=some.zip: … is not read from a file…",
    "train data.split=lsp": "data.split=lsp: the val and test subset is empty for 40 images of sy…",
    "train data.batch_size=100": "…is larger than the training subset with its 28 images; type da…",
    "train model.weights=nope.pt": "nope.pt: no such file…",
    "train +take_network=true weights=nope.ckpt": "nope.ckpt: no such file…",
    "train model.batch_norm=false model.weights=imagenet": "model.batch_norm=false: weights are f…",
    "train model=timm model.name=resnet51": "model.name=resnet51: timm has no such network; type …",
    "train model=timm model.name=qqq": "…timm has no such network; timm.list_models() lists them",
    "train model=timm model.strides=[4,64]": "model.strides=[4, 64]: resnet18 has no map of strid…",
    "train model=timm model.name=vgg11 model.drop_path=0.1": "model.name=vgg11 model.drop_path=0.1…"
    "; choose another network, or model.drop_path=0",
    "train model=cascade": "model=cascade: refines the poses of a trained network; type model.run…",
    "train head=heatmap loss=distill loss.teacher=nowhere data.input_size_px=64": "loss.teacher=no…"
    ": the folder does not exist; type loss.teacher=FOLDER, …",
    "train head=heatmap loss=distill loss.teacher=photo.jpg data.input_size_px=64": "loss.teacher=…"
    ": a file; type loss.teacher=FOLDER",
    "train model=cascade model.run=photo.jpg": "model.run=photo.jpg: a file; type model.run=FOLDER",
    "train weights=here": "weights=here: the folder holds no config.yaml; type weights=FOLDER, …",
    "train data.split=gone.json": "data.split=gone.json: No such file or directory; expected {…}; "
    "or type data=NAME data.split=…",
    "train model=cascade model.run=nowhere": "model.run=nowhere: the folder does not exist; type …",
    "train model=cascade model.start=7": "model.start=7: is written by the training; type model.r…",
    "train head=heatmap loss=heatmap data.input_size_px=64 head.stride=32": "data.input_size_px=64 "
    "head.stride=32: expected at least three cells a side, an input of 96 px or a smaller stride",
    "train head=heatmap data.input_size_px=100": "data.input_size_px=100: expected a multiple of 3…"
    ", 96 or 128",
    "train head=heatmap data.input_size_px=33": "…a multiple of 32 for this head, 32 or 64",
    "train head=heatmap data.input_size_px=64 head.stride=24": "head.stride=24: expected 32 or a …",
    "train head=simcc data.input_size_px=64 head.split=0.25": "head.split=0.25 head.window=8: … h…",
    "train head=simcc data.input_size_px=64 head.window=64": "head.split=2.0 head.window=64: …, he…"
    " are 128; type head.split=2.0 head.window=8",
    "train head=simcc head.window=3": "head.window=3 loss.sigma=4.0: bins within a sigma … tell wh…"
    "; type head.window=8 or loss.sigma=1.5",
    "train loss=heatmap data.input_size_px=64": "loss: HeatmapCrossEntropy trains heatmap_logits, …"
    " has only keypoints to train; type loss=regression",
    "train head=integral loss=rle data.input_size_px=64": "loss: ResidualLogLikelihood trains sigm…"
    " has only keypoints and heatmap_logits to train; type loss=integral",
    "predict source=null": "what to look at? type source=FILE…",
    "predict source=": "what to look at? type source=FILE…",
    "predict source=none.jpg": "source=none.jpg: no such file; type a file, a folder…",
    **{
        f"{command} network=large weights=a.onnx": "network=large weights=a.onnx: two networks; …"
        for command in ("predict", "export", "evaluate run=null")
    },
    "predict run=here weights=a.safetensors": "…weights=a.safetensors: two networks; type one of …",
    "predict run=nowhere": "run=nowhere: the folder does not exist; type run=FOLDER…",
    "predict boxes=b.csv": "boxes=b.csv: no such file; expected a CSV…",
    "predict boxes=b.csv detector=yolox": "…type detector=none",
    "predict detector=yolox": "detector=yolox needs a file, detector.weights=FILE.onnx; such as…",
    "predict detector=detr": "detector=detr needs a file, detector.weights=FILE.onnx, that …",
    "predict show=true": "show=true: no window can be opened here…",
    "predict output=photo.jpg": "output=photo.jpg: cannot be written (Not a directory); type outp…",
    "predict engine=ray format=csv": "format=csv engine=ray: a cluster writes Parquet and nothing…",
    "predict engine=ray draw=true": "draw=True engine=ray: a cluster writes…",
    "predict engine=ray show=true": "show=True engine=ray: a cluster writes…",
    "predict engine=ray max_frames=3": "max_frames=3 engine=ray: a cluster writes…",
    "predict engine=ray source=0": "source=webcam 0 engine=ray: other machines cannot see it…",
    "predict engine=ray source=-": "source=stdin engine=ray: other machines cannot see it…",
    "train +model._partial_=true": "model._target_=…: no backbone, it has no out_channels; docs/…",
    "train +head._partial_=true": "head._target_=…RegressionHead: builds no module; type head=NAME",
    "train loss._target_=torch.nn.MSELoss": "loss._target_=torch.nn.MSELoss: no loss of poses, w…"
    " type loss=regression, or see docs/extend.md",
    "export format=tensorrt": "…tensorrt: type onnx, openvino, torchscript, litert, coreml",
    "export format=coreml precision=int8": "…measured on a Mac alone; type precision=fp16",
    "export format=litert output=pose.onnx": "…a file of format=litert ends in .tflite",
    "predict weights=a.tfl": "weights=a.tfl: no such file is read here; type small, large, a .s…",
    "predict weights=pose.mlpackage": "…Core ML computes on macOS alone; here, use …",
    "export precision=int4": "precision=int4: type fp32, fp16, int8",
    "export format=torchscript precision=int8": "…there is no engine for it; type format=onnx or …",
    "export output=pose.pt": "output=pose.pt: a file of format=onnx ends in .onnx",
    "export output=photo.jpg/pose.onnx": "…cannot be written (Not a directory); type output=FILE",
    "export report=here": "report=here: cannot be written (Is a directory); type report=FILE",
    "export run=here weights=a.safetensors": "…two networks; type one of them",
    "export network=small data=synthetic precision=int8 data.box_scale=2.0": "data.box_scale=2.0: …"
    " has data.box_scale=1.25; leave data.box_scale= out",
    "export network=small data=coco precision=int8 data.skeleton=coco17": "data.skeleton=coco17: t…"
    " has data.skeleton=lsp14; leave data.skeleton= out",
    "export run=nowhere": "run=nowhere: the folder does not exist…",
    "evaluate run=null": "name what to evaluate: run=RUN_FOLDER, network=large…",
    "evaluate run=null network=large": "weights=large needs the data to score it on;…",
    "evaluate run=null network=small data=synthetic data.input_size_px=96": "data.input_size_px=96…"
    ": the network has data.input_size_px=192; leave data.input_size_px= out",
    "evaluate run=null network=small data=coco data.skeleton=coco17": "data.skeleton=coco17: the n…"
    " has data.skeleton=lsp14; leave data.skeleton= out",
    **{
        f"train experiment=finetune {word}": f"{word}: the network has {own}, or type take_…"
        for word, own in {
            "data.input_size_px=64": "data.input_size_px=192; leave data.input_size_px= out",
            "head=rle": "head=MoveNetHead; leave head= out",
            "model=vgg_bn": "model=MoveNet; leave model= out",
            "head.window=7": "head.window=2; leave head.window= out",
            "model.drop_path=0.2": "no model.drop_path; leave model.drop_path= out",
        }.items()
    },
    "evaluate run=null network=medium": "network=medium: expected small or large…",
    "evaluate run=null network=small checkpoint=last": "checkpoint=last: of which run?…",
    "evaluate predictions=b": "name what to evaluate…",
    "evaluate run=null predictions=some.npz": "…needs the data to score it on; type data=lsp or…",
    "evaluate run=null predictions=some.npz looks=2": "predictions=some.npz looks=2: a file has n…"
    "leave looks= out, or type run=RUN_FOLDER",
    "evaluate run=null predictions=some.npz mirror_test=true": "… mirror_test=True: a file has no…",
    "evaluate boxes=gone.json": "boxes=gone.json: no such file; expected a JSON list of …",
    "evaluate output=photo.jpg": "…cannot be written (Not a directory); type output=FOLDER",
    "evaluate run=nowhere": "run=nowhere: the folder does not exist; type run=FOLDER…",
    "evaluate accelerator=tpu": "accelerator=tpu: type auto, cpu or gpu",
    "evaluate accelerator=gpu": "accelerator=gpu: PyTorch sees no GPU here; type accelerator=…",
    "benchmark what=[date]": "what=[date]: unknown part; type what=[data,…",
    "benchmark what=date": "what=[date]: unknown part; type what=[data,…",
    "benchmark what=[]": "what=[]: nothing to measure; type what=[data,…",
    "benchmark what=[latency] latency.engines=[trt]": "latency.engines: trt: type torch, onnx, …",
    "benchmark output=photo.jpg/b.json": "…cannot be written (Not a directory); type output=FILE",
    "app host=0.0.0.0": "host=0.0.0.0: everybody who reaches this machine could use the page; set …"
    "_PASSWORD, or type open=true for a page without a password",
    "app host=my.machine password=''": "host=my.machine: everybody …",
    "benchmark output=here": "output=here: cannot be written (Is a directory); type output=FILE",
}


def refused(line: str) -> str:
    """Call a command, or of a search its check, in this process; the message of its error."""
    command, *overrides = line.split()
    given = GIVEN.get(command, ())
    if "model=" in line or "experiment=" in line:
        given = tuple(key for key in given if not key.startswith("model."))
    task = getattr(import_module(f"convpose.{command}.command"), OF.get(command, command))
    if command == "search":
        task = check_settings

    def called() -> None:
        cfg = composed(command, *given, *arranged(overrides, command))
        task(cfg, *([Path.cwd()] if command == "train" else []))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convpose.config.arguments.overrides", lambda: overrides)
        with pytest.raises(USER_ERRORS) as error:
            called()
    assert not list(Path.cwd().glob("*/*")), "nothing is written"
    return explain(error.value, command)


@pytest.fixture(autouse=True)
def _a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a picture, on a machine without GPU and without windows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("matplotlib.pyplot.get_backend", lambda: "agg")
    Path("photo.jpg").touch()
    Path("here").mkdir()


def says(message: str, sentence: str) -> bool:
    """Tell if a message is the sentence, in which … is anything."""
    return (
        re.fullmatch(".*".join(map(re.escape, sentence.split("…"))), message, re.DOTALL) is not None
    )


@pytest.mark.parametrize("line", EXPECTED)
def test_a_value_that_cannot_be(line: str) -> None:
    given, _, expected = refused(line).partition(": expected ")
    assert given.replace(" ", "").replace("'", "").replace("None", "null") == line.split()[-1]
    assert says(expected, EXPECTED[line]), expected


@pytest.mark.parametrize("line", SAID)
def test_what_does_not_go_together(line: str) -> None:
    message = refused(line)
    assert says(message, SAID[line]), message
    assert len(message.splitlines()) <= 4, message
