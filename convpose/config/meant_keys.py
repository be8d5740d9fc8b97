"""Name the key that was meant: by its last part, by other frameworks' words, by its letters."""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

# keys of convpose, of which a command has at most a few → what others call them
WORDS = {
    "optimizer.lr": "learning_rate learningrate lr0 base_lr init_lr initial_lr rate",
    "optimizer.weight_decay": "wd decay l2",
    "optimizer": "opt optim",
    "scheduler": "sched lr_policy",
    "trainer.max_epochs": "epoch epochs n_epochs nb_epochs num_epochs num_train_epochs max_epoch "
    "total_epochs",
    "trainer.devices": "gpus n_gpus ngpus num_gpus num_devices",
    "trainer.accelerator accelerator": "device gpu cuda use_cuda use_gpu",
    "trainer.precision precision": "amp fp16 bf16 half mixed_precision dtype",
    "trainer.gradient_clip_val": "clip clip_grad grad_clip gradient_clip max_grad_norm",
    "trainer.accumulate_grad_batches": "accumulate gradient_accumulation_steps",
    "data.batch_size batch_size": "batch batchsize bs train_batch_size samples_per_gpu "
    "per_device_train_batch_size",
    "data.num_workers num_workers": "workers n_workers num_worker dataloader_num_workers "
    "workers_per_gpu",
    "data.input_size_px": "imgsz img_size image_size imagesize input_size resolution size",
    "data.source": "data_dir data_path data_root dataset_path root archive",
    "data": "dataset",
    "augment": "aug augmentation augmentations transform transforms",
    "model network": "arch architecture backbone encoder model model_name net network",
    "loss": "criterion objective",
    "ckpt_path=last": "resume resume_from resume_from_checkpoint auto_resume continue restart",
    "weights run": "pretrained finetune fine_tune init init_from load_from model_path checkpoint",
    "seed": "random_seed manual_seed random_state",
    "study": "exp exp_name experiment_name name project run_name",
    "output paths.runs": "default_root_dir log_dir logdir out out_dir outdir output_dir results "
    "save_dir work_dir",
    "source": "camera file files folder image images img input path picture video",
    "detector.score_threshold detector": "conf conf_thres confidence threshold",
    "split": "part subset",
    "trials": "n_trials num_trials",
    "timeout_s": "timeout",
}
SURE = 0.75  # likeness at which a name is taken for another that is misspelt
MOST = 4  # keys of the same last part that are named; more would not help


def all_keys(cfg: Any) -> list[str]:
    """List the dotted keys of a configuration, groups and mappings included, but Hydra's own."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False) if OmegaConf.is_config(cfg) else cfg
    keys = []
    for key, value in plain.items():
        if str(key) != "hydra" and str(key)[0] != "_":
            keys.append(str(key))
            if isinstance(value, dict):
                keys += [f"{key}.{inner}" for inner in all_keys(value)]
    return keys


def meant(typed: str, keys: Collection[str]) -> list[str]:
    """Find the keys that somebody meant who typed another; none if nothing speaks for one.

    Args:
        typed: an unknown key, such as ``lr``, ``trainer.gpus`` or ``train.learning_rate``.
        keys: that there are, see `all_keys`.
    """
    last = typed.rpartition(".")[2].lower().replace("-", "_")
    for candidates, words in WORDS.items():
        for key in candidates.split() if last in words.split() else ():
            if key.partition("=")[0] in keys:
                return [key]
    same = [key for key in keys if key.rpartition(".")[2] == last]
    least = min((key.count(".") for key in same), default=0)
    nearest = [key for key in same if key.count(".") == least]
    return nearest if len(nearest) <= MOST else []


def unknown_key(typed: str, cfg: DictConfig) -> str:
    """Write the message about an unknown key of a composed configuration."""
    keys = [key for key in all_keys(cfg) if key != typed]
    if found := meant(typed, keys):
        return f"unknown key {typed}; did you mean {' or '.join(found)}?"
    parts = typed.split(".")
    known = next(i for i in range(len(parts)) if ".".join(parts[: i + 1]) not in keys)
    place = "".join(f"{part}." for part in parts[:known])
    there = {key[len(place) :] for key in keys if key.startswith(place)}
    there = {name for name in there if "." not in name}
    if not there:
        return f"unknown key {typed}: {place[:-1]} is a value and has no keys"
    lasts = {key.rpartition(".")[2]: key for key in reversed(keys)}
    near = [
        *(place + name for name in difflib.get_close_matches(parts[known], there, 1, SURE)),
        *(lasts[name] for name in difflib.get_close_matches(parts[-1], lasts, 1, SURE)),
        *(place + name for name in difflib.get_close_matches(parts[known], there, 1)),
    ]
    asked = f"; did you mean {near[0]}?" if near else ""
    return f"unknown key {typed}{asked}\nkeys there: {', '.join(sorted(there))}"


def suggest(kind: str, word: str, known: Sequence[str]) -> str:
    """Write the end of a message about an unknown word: the nearest match, and all known words."""
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint}\n{kind} there: {', '.join(known)}"
