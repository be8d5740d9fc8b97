"""Arrange the words of a command line for Hydra, and refuse what it would not understand.

A key that is unknown is answered with the one that was meant: by its last part, by other
frameworks' words, by its letters.
"""

import difflib
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from convpose.errors import ConfigError
from convpose.files import conf_folder, shown

# options of Hydra that are followed by a value, and those that are not
TAKES_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-name", "-cn"),
    *("--config-path", "-cp", "--config-dir", "-cd", "--experimental-rerun"),
    *("--shell-completion", "-sc"),
)
FLAGS = (
    *("--help", "-h", "--hydra-help", "--version", "-V", "--resolve", "--run", "-r"),
    *("--multirun", "-m"),
)
BARE = re.compile(r"[^-~+=][^=]*")  # no option, ~key, +key=value or key=value
PATH_KEYS = ("run", "study", "source")  # what a path alone may be meant for
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
    "logger=wandb": "wandb use_wandb wandb_project",
    "logger=mlflow": "mlflow use_mlflow",
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


def arranged(words: Sequence[str], config_name: str) -> list[str]:
    """Put the overrides before the options: argparse reads no override behind an option.

    Raises:
        ConfigError: a space beside ``=`` or ``,``, an option that Hydra does not have, loggers
            without brackets, or a word that is the option of a group or a path; the message has
            what to type.
    """
    overrides: list[str] = []
    options: list[str] = []
    before = ""
    for i, word in enumerate(words):
        if before in TAKES_VALUE:
            options.append(word)
        elif word.startswith("-"):
            _check_option(words[i:], config_name)
            options.append(word)
        else:
            overrides.append(word)
        before = word
    for i, word in enumerate(overrides):
        last = overrides[i - 1] if i else ""
        if word[0:1] in ("=", ",") or (last[-1:] in ("=", ",") and BARE.fullmatch(word)):
            together = _together(overrides, i)
            apart = " ".join(together)
            raise ConfigError(f"{apart}: a space too many; type {''.join(together)}")
    for word in overrides:
        if several := re.fullmatch(r"\+?logger=(\w+(?:,\w+)+)", word):  # -m would train for each
            raise ConfigError(f"{word}: several at once are a list; type logger=[{several[1]}]")
        if BARE.fullmatch(word) and (better := _with_key(word, config_name)):
            raise ConfigError(f"{word}: not KEY=VALUE; did you mean {better}?")
    return [*overrides, *options]


def in_quotes(text: str) -> str:
    """Quote a value for Hydra."""
    return QuotedString(text, Quote.single).with_quotes()


def override(key: str, text: str) -> str:
    """Write ``KEY=TEXT`` for Hydra, in quotes where it would hear something else."""
    word = f"{key}={text}"
    try:
        plain = OverridesParser.create().parse_override(word).value() == text
    except HydraException:  # of commas, brackets, letters beyond a-z
        plain = False
    return word if plain else f"{key}={in_quotes(text)}"


def overrides() -> list[str]:
    """List the overrides of the command line, interpolations as they were typed; none in Python."""
    if not HydraConfig.initialized():
        return []
    task: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(task)


def refuse_overwritten(cfg: DictConfig, own: Mapping[str, Any], remedy: str = "") -> None:
    """Refuse what was typed where a trained network brings a value of its own.

    Args:
        cfg: with what was typed.
        own: the network's values by key; of a group a mapping, whose class counts.
        remedy: what else may be typed.

    Raises:
        ConfigError: a key that was typed and differs.
    """
    for word in overrides():
        key = re.split("[@=]", word.lstrip("+~"))[0]
        group, _, rest = key.partition(".")
        if key not in own and group not in own:
            continue
        asked: Any = OmegaConf.select(cfg, key)
        known = own[key] if key in own else own[group].get(rest)
        if isinstance(known, Mapping):
            asked, known = (str(x["_target_"]).rpartition(".")[2] for x in (asked, known))
        if asked != known:
            has = f"no {key}" if known is None else f"{key}={known}"
            raise ConfigError(f"{word}: the network has {has}; leave {key}= out{remedy}")


def typed(key: str, path: Path | str) -> str:
    """Write ``KEY=PATH`` as one would type it in a shell, from the working folder; see `shown`."""
    word = override(key, shown(path))
    legible = "'" in word and not re.search(r'["$`\\!]', word)
    return f'"{word}"' if legible else shlex.quote(word)


def defaults_of(config_name: str) -> DictConfig:
    """Compose an application's configuration as it is without overrides."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose(config_name)


def _check_option(words: Sequence[str], config_name: str) -> None:
    """Refuse ``--lr 0.1`` and its kind with the override that was meant."""
    name, _, value = words[0].partition("=")
    if any(known.startswith(name) for known in (*FLAGS, *TAKES_VALUE)):
        return
    if not value and len(words) > 1 and BARE.fullmatch(words[1]):
        value = words[1]
    key = name.lstrip("-").replace("-", "_")
    keys = all_keys(defaults_of(config_name))
    key = key if key in keys else (meant(key, keys) or ["KEY"])[0]
    better = key if "=" in key else f"{key}={value or 'VALUE'}"
    raise ConfigError(f"{words[0]}: no such option; keys are typed without --, as in {better}")


def _together(words: Sequence[str], i: int) -> list[str]:
    """Collect the words around a space too many, such as ``lr``, ``=`` and ``0.1``."""
    first, last = i, i
    while first > 0 and (words[first][:1] in ("=", ",") or words[first - 1][-1:] in ("=", ",")):
        first -= 1
    while last + 1 < len(words) and (
        words[last + 1][:1] in ("=", ",")
        or (words[last][-1:] in ("=", ",") and BARE.fullmatch(words[last + 1]))
    ):
        last += 1
    return list(words[first : last + 1])


def _with_key(word: str, config_name: str) -> str | None:
    """Write a word alone as KEY=VALUE, if it is the option of a group or a path that exists."""
    cfg = defaults_of(config_name)
    groups = [file.parent.name for file in Path(conf_folder()).glob(f"*/{word}.yaml")]
    if of := [group for group in groups if group in cfg or group == "experiment"]:
        return f"{of[0]}={word}"
    if os.path.exists(word):  # noqa: PTH110, Path.exists raises for what is too long
        return next((f"{key}={word}" for key in PATH_KEYS if key in cfg), None)
    return None


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
