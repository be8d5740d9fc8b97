"""Read what anybody may have written, JSON, YAML and CSV, within bounds of depth, size and numbers.

Every broken or hostile file becomes a `DataError`; nothing in it is evaluated.
"""

import csv
import functools
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from convpose.errors import DataError

MAX_BYTES = 2**30  # of annotations; COCO's largest file has 240 MB
MAX_FACTS = 2**24  # bytes of what convpose writes: configurations, splits, cards
MAX_DEPTH = 64  # brackets in brackets; COCO's files and run folders have fewer than 10
MAX_CELL = 2**17  # characters of a cell of CSV
MAX_DIGITS = 300  # of a number, so that it can be a float
# what a reader raises on values of another kind than it expects, anywhere in a file
UNEXPECTED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_DIGITS = re.compile(rb"\d{%d}" % MAX_DIGITS)
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def read_file(path: Path, most: int = MAX_BYTES) -> bytes:
    """Read a file of bounded size.

    Raises:
        DataError: it is larger.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    _check_size(content, str(path), most)
    return content


def parse_json(
    name: str,
    content: bytes | str,
    remedy: str = "",
    most: int = MAX_BYTES,
    drop: Sequence[str] = (),
) -> Any:
    """Parse a JSON text.

    Args:
        name: of the file, for messages.
        content: of the file.
        remedy: words with which a message ends.
        most: largest size in bytes.
        drop: keys that nobody reads, such as the outlines that fill COCO's files; they are
            forgotten while the rest is parsed.

    Raises:
        DataError: no JSON, not UTF-8, too large, too deep, or a number of too many digits.
    """
    raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
    _check_size(raw, name, most)
    reason = f"a number of {MAX_DIGITS} digits" if _DIGITS.search(raw) else ""
    try:
        hook = functools.partial(_without, drop) if drop else None
        found = None if reason else json.loads(content, object_hook=hook)
        if not reason and _is_deep(raw) and _is_deep(_TEXTS.sub(b"", raw)):
            reason = f"brackets more than {MAX_DEPTH} deep"
    except (ValueError, RecursionError) as error:  # no JSON, or not UTF-8
        reason = str(error)
    if not reason:
        return found
    raise DataError(f"{name}: not a JSON file ({reason}){remedy and f'; {remedy}'}")


def _without(keys: Sequence[str], parsed: dict[str, Any]) -> dict[str, Any]:
    for key in keys:
        parsed.pop(key, None)
    return parsed


def load_json(path: Path, remedy: str = "", most: int = MAX_FACTS) -> Any:
    """Read and parse a JSON file, see `read_file` and `parse_json`."""
    return parse_json(str(path), read_file(path, most), remedy, most)


def parse_yaml(name: str, text: str) -> Any:
    """Parse a YAML text without tags and aliases, of which a few make a text that never ends.

    Raises:
        DataError: no YAML, too large, too deep, a tag or an alias.
    """
    _check_size(text.encode("utf-8", "replace"), name, MAX_FACTS)
    depth = 0
    try:
        for event in yaml.parse(text, yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise DataError(f"{name}: an alias, *{event.anchor}; write the values themselves")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise DataError(f"{name}: more than {MAX_DEPTH} levels deep")
        # OmegaConf's loader is written in Python: 8 ms a file, where libyaml takes half of one
        return yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, LookupError) as error:
        raise DataError(f"{name}: not a YAML file ({' '.join(str(error).split())})") from error


def load_yaml(path: Path) -> Any:
    """Read and parse a YAML file, see `read_file` and `parse_yaml`."""
    try:
        return parse_yaml(str(path), read_file(path, MAX_FACTS).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error})") from error


def parse_csv(name: str, content: bytes, remedy: str = "") -> tuple[list[str], list[Any]]:
    """Parse a CSV text with a header.

    Returns:
        The names of the columns; for each row a mapping of them to texts, with None where a row
        ends early, and under None what it has too many.

    Raises:
        DataError: not UTF-8, no CSV, too large, or a cell of more than `MAX_CELL` characters.
    """
    _check_size(content, name, MAX_BYTES)
    ending = remedy and f"; {remedy}"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not a CSV file in UTF-8 ({error}){ending}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        return list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        where = f"{name}: line {reader.reader.line_num}"
        raise DataError(f"{where} is not CSV ({error}){ending}") from error


def key_values(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """List the leaves of nested mappings and lists with their dotted keys."""
    if isinstance(node, dict | list):
        children = node.items() if isinstance(node, dict) else enumerate(node)
        for name, child in children:
            yield from key_values(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _check_size(content: bytes, name: str, most: int) -> None:
    if len(content) > most:
        raise DataError(f"{name}: larger than {most >> 20} MiB, no such file needs to be")


def _is_deep(text: bytes) -> bool:
    """Tell if brackets, those inside of quotes included, are nested more than `MAX_DEPTH` deep."""
    brackets, before = text.translate(None, _OTHERS), b""
    for _ in range(MAX_DEPTH):
        if len(before) == len(brackets):
            break
        before, brackets = brackets, brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets)
