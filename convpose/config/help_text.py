"""Write the answer to ``--help``: the groups of one command and its keys, each with its comment.

All of it is read from the yaml files, so that a comment there is the only place to say it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

LINE = re.compile(r"( *)([\w.]+):(?:\s.*?)?(?:\s# (.*))?$")
FURTHER = re.compile(r"\s+# (.*)$")  # a comment goes on in the next line
KEY_WIDTH = 38


def help_text(*, _root_: DictConfig) -> str:
    """Write the help of the composed application, as a resolver of ``hydra.help.template``."""
    hydra = _root_.hydra
    plain: Any = OmegaConf.to_container(_root_, resolve=False)
    choices = plain["hydra"]["runtime"]["choices"]
    folders = [Path(s.path) for s in hydra.runtime.config_sources if s.schema == "file"]
    name = hydra.job.config_name
    own = next(path for folder in folders if (path := folder / f"{name}.yaml").is_file())
    comments = comments_of(own, "")
    for group, chosen in choices.items():
        group, _, package = group.partition("@")
        for option in chosen if isinstance(chosen, list) else [chosen]:
            for path in (folder / group / f"{option}.yaml" for folder in folders):
                comments |= comments_of(path, package or group.replace("/", "."))
    groups = groups_of(own)
    lines = [
        f"convpose {name}: {first_comment(own).partition(': ')[2]}",
        "",
        f"usage: convpose {name} {'[GROUP=OPTION …] ' * bool(groups)}[KEY=VALUE …]",
        *["       -m and values with commas: one run for each"] * (name == "train"),
        *["", "Groups, each with its options; * is chosen"] * bool(groups),
    ]
    for group in groups:
        lines.append(f"{group}=")
        chosen = choices.get(group) or ()
        for path in sorted(p for folder in folders for p in (folder / group).glob("*.yaml")):
            if path.stem == "base":  # what the others have in common
                continue
            mark = "*" if path.stem in ([chosen] if isinstance(chosen, str) else chosen) else " "
            lines.append(f"  {mark} {path.stem:<20} {first_comment(path)}")
    lines += ["", "Keys, with their values"]
    del plain["hydra"]
    lines += [
        f"{key:<{KEY_WIDTH}}  {comments.get(key.partition('=')[0], '')}".rstrip()
        for key in _keys(plain, comments)
    ]
    return "\n".join(lines).replace("$", "$$")  # Hydra substitutes $NAME


def first_comment(path: Path) -> str:
    """Read the line with which a yaml opens: what it is, and when to pick it."""
    lines = path.read_text("utf-8").splitlines()
    found = (line[2:] for line in lines if line.startswith("# ") and "@package" not in line)
    return next(found, "")


def groups_of(path: Path) -> list[str]:
    """List the groups in the defaults of an application's yaml, and of those that it extends."""
    found: list[str] = []
    content: Any = OmegaConf.load(path)
    for entry in content.get("defaults", ()):
        if not isinstance(entry, str):
            found += map(str, entry)
        elif entry != "_self_":
            found += groups_of(path.with_name(f"{entry}.yaml"))
    return found


def comments_of(path: Path, package: str) -> dict[str, str]:
    """Read the comments behind the keys of a yaml, and of those beside it that it extends.

    Args:
        path: of the file; one that is not there has none.
        package: dotted place of its keys in the configuration.

    Returns:
        Dotted key → comment.
    """
    if not path.is_file():
        return {}
    text = path.read_text("utf-8")
    if "@package _global_" in text:
        package = ""
    found: dict[str, str] = {}
    content: Any = OmegaConf.load(path)
    for entry in content.get("defaults", ()) if OmegaConf.is_dict(content) else ():
        if isinstance(entry, str) and entry != "_self_":
            found |= comments_of(path.with_name(f"{entry}.yaml"), package)
    place: list[tuple[int, str]] = []
    key = ""
    for line in text.splitlines():
        if match := LINE.match(line):
            depth = len(match[1])
            place = [(d, name) for d, name in place if d < depth] + [(depth, match[2])]
            key = ".".join([*([package] if package else []), *(name for _, name in place)])
            if match[3]:
                found[key] = match[3]
        elif (match := FURTHER.match(line)) and key in found:
            found[key] += f" {match[1]}"
    return found


def _keys(values: Mapping[str, Any], comments: Mapping[str, str], place: str = "") -> Iterator[str]:
    """Yield ``KEY=VALUE`` of each leaf, and the keys of mappings that have a comment."""
    for name, value in values.items():
        key = f"{place}{name}"
        if isinstance(value, dict) and value:
            if key in comments:
                yield key
            yield from _keys(value, comments, f"{key}.")
        elif str(name)[0] != "_" and value != {}:
            shown = value if isinstance(value, str) else json.dumps(value)
            yield f"{key}={shown}"
