"""Arrange the words of a command line for Hydra, and refuse what it would not understand."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from convpose.config.meant_keys import all_keys, meant
from convpose.errors import ConfigError
from convpose.files import conf_folder

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


def arranged(words: Sequence[str], config_name: str) -> list[str]:
    """Put the overrides before the options: argparse reads no override behind an option.

    Raises:
        ConfigError: a space beside ``=`` or ``,``, an option that Hydra does not have, or a word
            that is the option of a group or a path; the message has the same with its key.
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
        if BARE.fullmatch(word) and (better := _with_key(word, config_name)):
            raise ConfigError(f"{word}: not KEY=VALUE; did you mean {better}?")
    return [*overrides, *options]


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
